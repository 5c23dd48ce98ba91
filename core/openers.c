/* SPDX-License-Identifier: MIT */

/*
 *             a user's queue                     its openers
 *   tasks --> [ ][ ][ ][ ]  --> seat --> busy: one question each, until the answer or the deadline
 *                                    --> idle: ended after a while, or when others need its place
 *
 * A seat is a user who has tasks or openers. One whose tasks wait without any opener, since there
 * are as many as may be, is hungry: then an idle opener of another is ended for it, and one that
 * gets done is ended rather than given the next task of its own user. So a place is had at the latest
 * when some deadline has passed.
 *
 * A task for a box brings its opener, which is closed behind it; it waits for nobody.
 */

#include "core/openers.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/files.h"
#include "core/kernel.h"
#include "sandbox/opener.h"

enum {
	EVENTS = 64,
	TRIM_BYTES = 64 << 10, /* a larger window is given back when its opener rests */
};

struct helper {
	struct list link; /* in openers->busy or ->idle, the longest there first; or ->ended */
	struct list in_seat;
	struct seat *seat;      /* NULL: in a box */
	struct opener *opener;  /* NULL once ended */
	struct file_task *task; /* NULL while idle */
	enum open_kind kind;    /* of its question */
	bool large;             /* its window was used */
	uint64_t until_ns;
};

struct seat {
	struct list link;   /* in openers->seats */
	struct list hungry; /* in openers->hungry */
	struct user *user;  /* a reference */
	struct list tasks;
	struct list helpers;
	unsigned helper_count;
	uint64_t retry_ns;   /* before that it gets no further opener: the launcher refused one */
	uint64_t refused_ns; /* since when all were refused; 0: none, or one has worked since */
};

struct openers {
	struct kernel *kernel;
	pthread_t thread;
	int epoll, wake_fd;
	unsigned lane;

	pthread_mutex_t mutex;
	struct list arrived; /* tasks */
	bool stopping;

	/* The thread's own. */
	uint64_t now_ns;
	struct list seats, hungry, busy, idle, ended;
	unsigned count; /* helpers of users */
};

unsigned openers_lane(const struct kernel *kernel)
{
	return kernel->core_count + LIMIT_FILE_THREADS + 1;
}

/* ---- helpers ---- */

static struct helper *helper_new(struct openers *openers, struct opener *opener, struct seat *seat)
{
	struct helper *helper = calloc(1, sizeof(*helper));
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = helper};

	if (!helper || epoll_ctl(openers->epoll, EPOLL_CTL_ADD, opener->sock, &event)) {
		free(helper);
		return NULL;
	}
	list_init(&helper->link);
	list_init(&helper->in_seat);
	helper->opener = opener;
	helper->seat = seat;
	if (seat) {
		list_append(&seat->helpers, &helper->in_seat);
		seat->helper_count++;
		openers->count++;
	}
	return helper;
}

/* Its memory stays until the events in hand are through: one may be its own. */
static void helper_end(struct openers *openers, struct helper *helper)
{
	CHECK(!helper->task);
	(void)epoll_ctl(openers->epoll, EPOLL_CTL_DEL, helper->opener->sock, NULL);
	helper->opener = opener_close(helper->opener);
	if (helper->seat) {
		helper->seat->helper_count--;
		openers->count--;
	}
	list_unlink(&helper->in_seat);
	list_unlink(&helper->link);
	list_append(&openers->ended, &helper->link);
}

static void helper_rest(struct openers *openers, struct helper *helper)
{
	if (helper->large)
		opener_trim(helper->opener);
	helper->large = false;
	helper->until_ns = openers->now_ns + LIMIT_OPENER_IDLE_MS * CLOCK_NS_PER_MS;
	list_unlink(&helper->link);
	list_append(&openers->idle, &helper->link);
}

/* ---- tasks ---- */

static void fail_question(struct file_task *task, int result)
{
	struct open_reply reply = {.result = result, .fd = -1};

	task->told(task, &reply, NULL);
}

/* Every question of it ends with @result. */
static void task_fail(struct openers *openers, struct file_task *task, int result)
{
	struct open_request request;

	while (task->ask(task, &request))
		fail_question(task, result);
	files_pass_on(openers->kernel, task);
}

static void tasks_fail(struct openers *openers, struct list *tasks, int result)
{
	struct list *next;

	while ((next = list_shift(tasks)))
		task_fail(openers, container_of(next, struct file_task, link), result);
}

/* False when @task had no question left and was passed on; otherwise @helper works at one, or has ended. */
static bool helper_ask(struct openers *openers, struct helper *helper, struct file_task *task)
{
	struct open_request request = {.into = -1};

	while (task->ask(task, &request)) {
		int r = opener_send(helper->opener, &request);

		if (!r) {
			helper->task = task;
			helper->kind = request.kind;
			helper->large |= request.length > TRIM_BYTES;
			helper->until_ns =
				openers->now_ns + LIMIT_OPENER_ANSWER_MS * CLOCK_NS_PER_MS;
			list_unlink(&helper->link);
			list_append(&openers->busy, &helper->link);
			return true;
		}
		fail_question(task, r);
		request = (struct open_request){.into = -1};
	}
	files_pass_on(openers->kernel, task);
	return false;
}

/* ---- seats ---- */

static struct seat *seat_of(struct openers *openers, struct user *user)
{
	struct seat *seat;

	list_for_each (it, &openers->seats) {
		seat = container_of(it, struct seat, link);
		if (seat->user == user)
			return seat;
	}
	seat = calloc(1, sizeof(*seat));
	if (!seat)
		return NULL;
	seat->user = user_ref(user);
	list_init(&seat->hungry);
	list_init(&seat->tasks);
	list_init(&seat->helpers);
	list_append(&openers->seats, &seat->link);
	return seat;
}

static void seat_free(struct seat *seat)
{
	list_unlink(&seat->link);
	list_unlink(&seat->hungry);
	(void)user_unref(seat->user);
	free(seat);
}

/* Those that nobody needs: not sooner, as any of them may be in somebody's hands. */
static void seats_sweep(struct openers *openers)
{
	list_for_each_safe (it, &openers->seats) {
		struct seat *seat = container_of(it, struct seat, link);

		if (list_empty(&seat->tasks) && !seat->helper_count)
			seat_free(seat);
	}
}

static bool is_starved(const struct seat *seat)
{
	return !list_empty(&seat->tasks) && !seat->helper_count;
}

static struct helper *idle_of(const struct seat *seat)
{
	list_for_each (it, &seat->helpers) {
		struct helper *helper = container_of(it, struct helper, in_seat);

		if (!helper->task)
			return helper;
	}
	return NULL;
}

/* Openers of one owner, who may come with many sets of groups. */
static unsigned owner_count(const struct openers *openers, const struct owner *owner)
{
	unsigned count = 0;

	list_for_each (it, &openers->seats) {
		const struct seat *seat = container_of(it, struct seat, link);

		count += seat->user->owner == owner ? seat->helper_count : 0;
	}
	return count;
}

/* Ends the idle opener that was used least recently, of @owner if it is not NULL. False: there is none. */
static bool evict(struct openers *openers, const struct owner *owner)
{
	list_for_each (it, &openers->idle) {
		struct helper *helper = container_of(it, struct helper, link);

		if (owner && helper->seat->user->owner != owner)
			continue;
		helper_end(openers, helper);
		return true;
	}
	return false;
}

/* NULL: no more now; or it cannot be had, and all that waited has been failed. */
static struct helper *helper_start(struct openers *openers, struct seat *seat)
{
	const struct user *user = seat->user;
	struct opener *opener = NULL;
	struct helper *helper = NULL;
	int r;

	if (seat->helper_count == LIMIT_OPENERS_PER_USER || openers->now_ns < seat->retry_ns)
		return NULL;
	if (owner_count(openers, user->owner) >= LIMIT_OPENERS_PER_OWNER &&
	    !evict(openers, user->owner))
		return NULL;
	if (openers->count >= LIMIT_OPENERS && !evict(openers, NULL))
		return NULL;
	r = opener_start(openers->kernel->launcher, user->uid, user->gid, user->groups,
			 user->group_count, &opener);
	if (!r) {
		helper = helper_new(openers, opener, seat);
		if (!helper) {
			(void)opener_close(opener);
			r = OPEN_E_MANY;
		}
	}
	if (helper || seat->helper_count)
		return helper;
	tasks_fail(openers, &seat->tasks, r);
	return NULL;
}

/* Gives its tasks to openers as far as there are any. */
static void seat_serve(struct openers *openers, struct seat *seat)
{
	while (!list_empty(&seat->tasks)) {
		struct helper *helper = idle_of(seat);
		struct list *next;

		if (!helper)
			helper = helper_start(openers, seat);
		next = helper ? list_shift(&seat->tasks) : NULL;
		if (!next)
			break;
		if (!helper_ask(openers, helper, container_of(next, struct file_task, link)))
			helper_rest(openers, helper);
	}
	list_unlink(&seat->hungry);
	if (is_starved(seat) && openers->now_ns >= seat->retry_ns)
		list_append(&openers->hungry, &seat->hungry);
}

/* There may be a place for those who have none. */
static void hungry_serve(struct openers *openers)
{
	struct list now;
	struct list *it;

	list_init(&now);
	list_move(&now, &openers->hungry);
	while ((it = list_shift(&now)))
		seat_serve(openers, container_of(it, struct seat, hungry));
}

/* Whether the end of an opener of @seat would let somebody hungry have one. */
static bool is_wanted(const struct openers *openers, const struct seat *seat)
{
	if (openers->count >= LIMIT_OPENERS)
		return !list_empty(&openers->hungry);
	list_for_each (it, &openers->hungry)
		if (container_of(it, struct seat, hungry)->user->owner == seat->user->owner)
			return true;
	return false;
}

/* An opener of a user has got done, or has ended. */
static void seat_go_on(struct openers *openers, struct seat *seat)
{
	struct helper *helper = idle_of(seat);

	if (helper && is_wanted(openers, seat))
		helper_end(openers, helper);
	hungry_serve(openers);
	/* One that lost its last opener to the hungry stands behind them. */
	seat_serve(openers, seat);
}

/* ---- events ---- */

static void box_task_start(struct openers *openers, struct file_task *task)
{
	struct helper *helper = helper_new(openers, task->box, NULL);

	if (!helper) {
		task_fail(openers, task, OPEN_E_MANY);
		return;
	}
	task->box = NULL;
	if (!helper_ask(openers, helper, task))
		helper_end(openers, helper);
}

static void task_start(struct openers *openers, struct file_task *task)
{
	struct seat *seat;

	if (task->box) {
		box_task_start(openers, task);
		return;
	}
	seat = seat_of(openers, task->user);
	if (!seat) {
		task_fail(openers, task, OPEN_E_MANY);
		return;
	}
	list_append(&seat->tasks, &task->link);
	seat_serve(openers, seat);
}

/*
 * The launcher has as many of this user, or of all, as may be: those that have been ended count until they
 * are gone, which is soon unless a file system holds them.
 */
static void seat_refused(struct openers *openers, struct seat *seat, struct file_task *task)
{
	const uint64_t now_ns = openers->now_ns;

	/* What it was started for may have been answered for otherwise, or called off. */
	if (task)
		list_prepend(&seat->tasks, &task->link);
	if (!seat->refused_ns)
		seat->refused_ns = now_ns;
	if (seat->helper_count)
		seat->retry_ns = now_ns + LIMIT_OPENER_RETRY_MS * CLOCK_NS_PER_MS;
	else if (now_ns - seat->refused_ns < LIMIT_OPENER_REFUSED_MS * CLOCK_NS_PER_MS)
		seat->retry_ns = now_ns + LIMIT_OPENER_RETRY_NONE_MS * CLOCK_NS_PER_MS;
	else
		tasks_fail(openers, &seat->tasks, OPEN_E_MANY);
	seat_go_on(openers, seat);
}

/* Without an answer, for @result: the opener is thrown away. What changed nothing is asked once more. */
static void helper_lost(struct openers *openers, struct helper *helper, int result)
{
	struct file_task *task = helper->task;
	struct seat *seat = helper->seat;
	bool again =
		seat && task && result == OPEN_E_GONE && helper->kind != OPEN_WRITE && !task->lost;

	helper->task = NULL;
	helper_end(openers, helper);
	if (result == OPEN_E_MANY && seat) {
		seat_refused(openers, seat, task);
		return;
	}
	if (task && !again)
		fail_question(task, result);
	if (task && !seat) {
		task_fail(openers, task, result);
		return;
	}
	if (task) {
		task->lost += again;
		list_prepend(&seat->tasks, &task->link);
	}
	seat_go_on(openers, seat);
}

static void helper_read(struct openers *openers, struct helper *helper)
{
	struct file_task *task = helper->task;
	struct seat *seat = helper->seat;
	struct open_reply reply;
	int r = opener_recv(helper->opener, &reply);

	if (r == OPEN_E_WAIT)
		return;
	if (r || !task) {
		/* An idle one has nothing to say but its end. */
		if (!r && reply.fd >= 0)
			(void)close(reply.fd);
		if (r == -EBADMSG || !r)
			log_warn("opener-confused", "uid=%u", seat ? seat->user->uid : 0);
		helper_lost(openers, helper, r == -EBADMSG || !r ? OPEN_E_GONE : r);
		return;
	}
	if (seat)
		seat->refused_ns = 0;
	task->told(task, &reply, helper->opener->window);
	if (reply.fd >= 0)
		(void)close(reply.fd);
	helper->task = NULL;
	if (helper_ask(openers, helper, task))
		return;
	if (!seat) {
		helper_end(openers, helper);
		return;
	}
	helper_rest(openers, helper);
	seat_go_on(openers, seat);
}

static void expire(struct openers *openers)
{
	/* Each list is ordered by time. */
	while (!list_empty(&openers->busy)) {
		struct helper *helper = container_of(openers->busy.next, struct helper, link);

		if (helper->until_ns > openers->now_ns)
			break;
		log_warn("opener-slow", "uid=%u after_ms=%d",
			 helper->seat ? helper->seat->user->uid : 0, LIMIT_OPENER_ANSWER_MS);
		helper_lost(openers, helper, OPEN_E_SLOW);
	}
	while (!list_empty(&openers->idle)) {
		struct helper *helper = container_of(openers->idle.next, struct helper, link);
		struct seat *seat = helper->seat;

		if (helper->until_ns > openers->now_ns)
			break;
		helper_end(openers, helper);
		seat_go_on(openers, seat);
	}
	list_for_each (it, &openers->seats) {
		struct seat *seat = container_of(it, struct seat, link);

		if (is_starved(seat) && seat->retry_ns && openers->now_ns >= seat->retry_ns) {
			seat->retry_ns = 0;
			seat_serve(openers, seat);
		}
	}
}

static int wait_ms(const struct openers *openers)
{
	const struct list *const lists[] = {&openers->busy, &openers->idle};
	uint64_t until_ns = UINT64_MAX;

	for (unsigned i = 0; i < 2; i++) {
		const struct helper *first =
			container_of(lists[i]->next, const struct helper, link);

		if (!list_empty(lists[i]) && first->until_ns < until_ns)
			until_ns = first->until_ns;
	}
	list_for_each (it, &openers->seats) {
		const struct seat *seat = container_of(it, const struct seat, link);

		if (is_starved(seat) && seat->retry_ns && seat->retry_ns < until_ns)
			until_ns = seat->retry_ns;
	}
	if (until_ns == UINT64_MAX)
		return -1;
	return until_ns <= openers->now_ns
		       ? 0
		       : (int)((until_ns - openers->now_ns) / CLOCK_NS_PER_MS) + 1;
}

/* False when it is time to stop. */
static bool take_arrived(struct openers *openers)
{
	struct list now;
	struct list *it;
	uint64_t count;
	bool stopping;

	list_init(&now);
	(void)!read(openers->wake_fd, &count, sizeof(count));
	(void)pthread_mutex_lock(&openers->mutex);
	stopping = openers->stopping;
	if (!stopping)
		list_move(&now, &openers->arrived);
	(void)pthread_mutex_unlock(&openers->mutex);
	while ((it = list_shift(&now)))
		task_start(openers, container_of(it, struct file_task, link));
	return !stopping;
}

static void *openers_main(void *arg)
{
	struct openers *openers = arg;
	struct epoll_event events[EVENTS];
	bool running = true;

	(void)prctl(PR_SET_NAME, "openers");
	while (running) {
		int n = epoll_wait(openers->epoll, events, EVENTS, wait_ms(openers));
		struct list *it;

		CHECK(n >= 0 || errno == EINTR);
		openers->now_ns = clock_now_ns();
		for (int i = 0; i < n && running; i++) {
			struct helper *helper = events[i].data.ptr;

			if (!helper)
				running = take_arrived(openers);
			else if (helper->opener)
				helper_read(openers, helper);
		}
		expire(openers);
		while ((it = list_shift(&openers->ended)))
			free(container_of(it, struct helper, link));
		seats_sweep(openers);
	}
	return NULL;
}

void openers_add(struct openers *openers, struct file_task *task)
{
	const uint64_t one = 1;
	bool first;

	(void)pthread_mutex_lock(&openers->mutex);
	first = list_empty(&openers->arrived);
	list_append(&openers->arrived, &task->link);
	(void)pthread_mutex_unlock(&openers->mutex);
	if (first)
		(void)!write(openers->wake_fd, &one, sizeof(one));
}

/* ---- life ---- */

static void openers_free(struct openers *openers)
{
	(void)fd_close(openers->epoll);
	(void)fd_close(openers->wake_fd);
	free(openers);
}

int openers_start(struct kernel *kernel, struct openers **ret_openers)
{
	struct openers *openers = calloc(1, sizeof(*openers));
	struct epoll_event event = {.events = EPOLLIN};
	int r;

	if (!openers)
		return err_raise(-ENOMEM);
	openers->kernel = kernel;
	openers->lane = openers_lane(kernel);
	openers->now_ns = clock_now_ns();
	(void)pthread_mutex_init(&openers->mutex, NULL);
	list_init(&openers->arrived);
	list_init(&openers->seats);
	list_init(&openers->hungry);
	list_init(&openers->busy);
	list_init(&openers->idle);
	list_init(&openers->ended);
	openers->epoll = epoll_create1(EPOLL_CLOEXEC);
	openers->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = openers->epoll < 0 || openers->wake_fd < 0 ||
			    epoll_ctl(openers->epoll, EPOLL_CTL_ADD, openers->wake_fd, &event)
		    ? -errno
		    : 0;
	if (!r)
		r = -pthread_create(&openers->thread, NULL, openers_main, openers);
	if (r) {
		openers_free(openers);
		return err_raise(r);
	}
	*ret_openers = openers;
	return 0;
}

static void helpers_drop(struct list *helpers)
{
	struct list *it;

	while ((it = list_shift(helpers))) {
		struct helper *helper = container_of(it, struct helper, link);

		(void)opener_close(helper->opener);
		if (helper->task)
			files_drop(helper->task);
		free(helper);
	}
}

void openers_stop(struct openers *openers)
{
	const uint64_t one = 1;
	struct list *it;

	(void)pthread_mutex_lock(&openers->mutex);
	openers->stopping = true;
	(void)pthread_mutex_unlock(&openers->mutex);
	(void)!write(openers->wake_fd, &one, sizeof(one));
	(void)pthread_join(openers->thread, NULL);
	files_drop_lanes(openers->kernel, openers->lane);
	helpers_drop(&openers->busy);
	helpers_drop(&openers->idle);
	helpers_drop(&openers->ended);
	while ((it = list_shift(&openers->arrived)))
		files_drop(container_of(it, struct file_task, link));
	while (!list_empty(&openers->seats)) {
		struct seat *seat = container_of(openers->seats.next, struct seat, link);

		while ((it = list_shift(&seat->tasks)))
			files_drop(container_of(it, struct file_task, link));
		seat_free(seat);
	}
	openers_free(openers);
}
