/* SPDX-License-Identifier: MIT */

/*
 *   QUEUED --channel has room--> LAUNCHING --launched--> RUNNING --pidfd readable--> EXITED --reaped--> DONE
 *       |                            |                      |                           |
 *       | abandoned                  | failed               | timeout, abandoned:       | a kill was sent and is
 *       v                            v                      v   launch_kill()           v not answered yet
 *     DONE                    (reap, then DONE)        RUNNING, killed            EXITED, kill_pending
 *
 * The command has ended when its own process has: what is in its pipes then is read, and it is reaped. A process it
 * left behind in the background keeps running and keeps the pipe's other end, but nobody
 * reads it any more. A timeout kills the whole process group instead. The process id must not be
 * reused while a kill for it is on its way to the launcher, so reaping waits for KILLED. However it is answered,
 * the job stays until its process has been reaped.
 *
 * Output above the cap is read and thrown away, so that the command never blocks on a full pipe, and counted.
 */

#include "core/job.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/agent.h"
#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/channel.h"
#include "core/child.h"
#include "core/fair.h"
#include "core/request.h"
#include "core/shard.h"
#include "core/stdin_file.h"
#include "core/user.h"
#include "ipc/pack.h"
#include "sandbox/launch.h"

enum {
	KILL_RETRY_MS = 20, /* the launcher could not be told, or could not do it */
};

enum job_state {
	JOB_QUEUED,
	JOB_LAUNCHING,
	JOB_RUNNING,
	JOB_EXITED,
	JOB_DONE, /* only the answer is left */
};

struct job_pipe {
	struct loop_source source;
	struct job *job;
	struct buf kept;
	uint64_t total; /* bytes the command wrote */
	bool cut;       /* the rest is thrown away */
};

struct job {
	struct request request;
	struct list link; /* in shard->jobs */
	struct launch launch;
	struct user *user; /* whom it runs as, a reference */
	uint64_t box_id;   /* of the launch of the agent in whose box it runs; 0: on the host */
	struct exec_options options; /* until the launcher has answered */
	int child_fds[3];            /* until it was asked: stdin, or -1 for none; stdout; stderr */
	uint32_t descriptors;        /* of the kernel's budget */
	enum job_state state;
	bool timed_out, kill_wanted, kill_pending;
	struct child child;
	struct job_pipe out, err;
	uint32_t output_max;
	size_t charged;      /* bytes of output that count as those of a command that runs */
	uint64_t timeout_ms; /* from the launch */
	struct timer timer;  /* the timeout, then retries of the kill */
	uint64_t start_ns, end_ns;
	siginfo_t status;
	struct fault fault; /* code 0: it ran */
};

static struct job *job_of(struct request *request)
{
	return container_of(request, struct job, request);
}

/* ---- the end ---- */

static void pipe_close(struct shard *shard, struct job_pipe *pipe)
{
	int fd = pipe->source.fd;

	if (fd < 0)
		return;
	loop_remove(shard->loop, &pipe->source);
	(void)close(fd);
	pipe->source.fd = -1;
}

/* The command's side of the descriptors: it has them now, or never will. */
static void launch_release(struct job *job)
{
	struct descriptors *descriptors = &job->request.shard->kernel->descriptors;

	for (unsigned i = 0; i < 3; i++)
		job->child_fds[i] = fd_close(job->child_fds[i]);
	descriptors_keep(descriptors, &job->descriptors, LIMIT_JOB_FDS);
}

/* Everything that only a process needs, running or about to. */
static void process_release(struct job *job)
{
	struct shard *shard = job->request.shard;

	channel_remove(&job->launch);
	timer_unset(&shard->timers, &job->timer);
	launch_release(job);
	exec_options_deinit(&job->options);
	pipe_close(shard, &job->out);
	pipe_close(shard, &job->err);
	child_deinit(&job->child);
	descriptors_keep(&shard->kernel->descriptors, &job->descriptors, 0);
}

/* Its output is no longer in the making: it waits to be read, or for nothing. */
static void output_uncharge(struct job *job, struct conn *conn)
{
	job->request.shard->job_bytes -= job->charged;
	conn->job_bytes -= job->charged;
	job->charged = 0;
}

static void output_free(struct job *job)
{
	CHECK(!job->charged);
	buf_deinit(&job->out.kept);
	buf_deinit(&job->err.kept);
}

static void job_free(struct request *request)
{
	struct job *job = job_of(request);
	struct shard *shard = request->shard;

	process_release(job);
	list_unlink(&job->link);
	shard->job_count--;
	output_free(job);
	quota_give(job->user->owner, QUOTA_COMMANDS);
	(void)user_unref(job->user);
	free(job);
}

static size_t job_weight(struct request *request)
{
	const struct job *job = job_of(request);

	return job->out.kept.cap + job->err.kept.cap;
}

/* The answer tells how much there was, and that it is cut. */
static void job_shed(struct request *request)
{
	output_free(job_of(request));
}

static void pack_pipe(msgpack_packer *pk, const char *name, const char *total_name,
		      const struct job_pipe *pipe)
{
	pack_text(pk, name);
	pack_bin(pk, pipe->kept.data, pipe->kept.len);
	pack_key_uint(pk, total_name, pipe->total);
}

static void job_answer(struct request *request)
{
	struct job *job = job_of(request);
	bool exited = job->status.si_code == CLD_EXITED;
	msgpack_packer *pk;

	if (job->fault.code) {
		conn_reply_error(request->conn, request->op, request->id, &job->fault);
		return;
	}
	pk = conn_begin(request->conn);
	pack_map(pk, 9);
	pack_text(pk, "exit_code");
	(void)msgpack_pack_int(pk, exited ? job->status.si_status : -1);
	pack_key_uint(pk, "signal", exited ? 0 : (uint64_t)job->status.si_status);
	pack_key_bool(pk, "timed_out", job->timed_out);
	pack_text(pk, "duration_ms");
	(void)msgpack_pack_double(pk, (double)(job->end_ns - job->start_ns) / 1e6);
	pack_pipe(pk, "stdout", "stdout_bytes", &job->out);
	pack_pipe(pk, "stderr", "stderr_bytes", &job->err);
	pack_key_bool(pk, "truncated",
		      job->out.total > job->out.kept.len || job->err.total > job->err.kept.len);
	conn_end(request->conn, request->op, WIRE_FLAG_REPLY, request->id);
}

/* Everything is over but the answer; the descriptors go now, the reply may have to wait for room. */
static void job_finish(struct job *job)
{
	job->state = JOB_DONE;
	process_release(job);
	if (job->request.conn)
		output_uncharge(job, job->request.conn);
	request_finish(&job->request);
}

static void job_fail(struct job *job, enum wire_error code, const char *text)
{
	(void)fault_set(&job->fault, code, "%s", text);
	job_finish(job);
}

/* ---- killing ---- */

static void on_timer(struct timer *timer);

/* Without the launcher. Not reaped yet, so the id is still the command's. False: it is another user's. */
static bool kill_group(struct job *job)
{
	CHECK(job->child.pid > 1);
	return !kill(-job->child.pid, SIGKILL) || errno != EPERM;
}

static void kill_later(struct job *job)
{
	struct shard *shard = job->request.shard;

	if (timer_set(&shard->timers, &job->timer, shard->now_ns + KILL_RETRY_MS * CLOCK_NS_PER_MS,
		      on_timer) &&
	    job->state != JOB_LAUNCHING)
		(void)kill_group(job);
}

static void job_kill(struct job *job)
{
	struct shard *shard = job->request.shard;
	struct fault fault;
	int r;

	job->kill_wanted = true;
	if (job->state == JOB_QUEUED) {
		job_fail(job, WIRE_CANCELLED, "ended before it was started");
		return;
	}
	/*
	 * Also one that is being launched: it may stand still before it has become the command, in a box that is
	 * paused or by a signal of its user. How it fared is answered all the same.
	 */
	if ((job->state != JOB_RUNNING && job->state != JOB_LAUNCHING) || job->kill_pending)
		return;
	if (!channel_is_open(shard)) {
		if (job->state == JOB_LAUNCHING) /* of which on_lost() tells */
			return;
		/* One that cannot be ended is reaped when it ends by itself; nobody has to wait for that. */
		if (!kill_group(job) && job->request.conn) {
			(void)fault_set(
				&fault, WIRE_UNAVAILABLE,
				"the launcher is gone, and nobody else may end the command; restart the kernel");
			request_abort(&job->request, &fault);
		}
		return;
	}
	r = channel_signal(shard, &job->launch, SIGKILL, true);
	if (!r)
		job->kill_pending = true;
	else if (r != LAUNCH_E_GONE) /* of that on_lost() tells */
		kill_later(job);
}

static void on_timer(struct timer *timer)
{
	struct job *job = container_of(timer, struct job, timer);

	if (!job->kill_wanted)
		job->timed_out = true;
	job_kill(job);
}

static void job_unbound(struct request *request, struct conn *conn)
{
	struct job *job = job_of(request);

	output_uncharge(job, conn);
	job->out.cut = job->err.cut = true;
	output_free(job);
}

static void job_abandon(struct request *request)
{
	job_kill(job_of(request));
}

static const struct request_type job_type = {
	.abandon = job_abandon,
	.answer = job_answer,
	.free = job_free,
	.unbound = job_unbound,
	.weight = job_weight,
	.shed = job_shed,
};

/* ---- output ---- */

static void pipe_keep(struct job_pipe *pipe, const uint8_t *bytes, size_t len)
{
	struct job *job = pipe->job;
	struct shard *shard = job->request.shard;
	struct conn *conn = job->request.conn;
	size_t before = pipe->kept.cap;
	size_t keep = job->output_max - pipe->kept.len;

	pipe->total += len;
	if (pipe->cut)
		return;
	if (keep > len)
		keep = len;
	/* Above its connection's share of the memory the output ends here: cut, not with a gap. */
	if (!fair_share(conn->job_bytes, keep, shard->job_bytes, LIMIT_JOBS_CORE_BYTES) ||
	    buf_append(&pipe->kept, bytes, keep))
		keep = 0;
	pipe->cut = keep < len;
	job->charged += pipe->kept.cap - before;
	conn->job_bytes += pipe->kept.cap - before;
	shard->job_bytes += pipe->kept.cap - before;
}

/* Reads what is there, bounded. True when the pipe is empty or at its end. */
static bool pipe_read(struct job_pipe *pipe)
{
	static _Thread_local uint8_t scratch[LIMIT_JOB_READ_BYTES];
	struct shard *shard = pipe->job->request.shard;
	ssize_t n;

	if (pipe->source.fd < 0)
		return true;
	n = read(pipe->source.fd, scratch, sizeof(scratch));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return errno == EAGAIN;
	if (n <= 0) {
		pipe_close(shard, pipe);
		return true;
	}
	pipe_keep(pipe, scratch, (size_t)n);
	return false;
}

static void on_pipe(struct loop_source *source)
{
	struct job_pipe *pipe = container_of(source, struct job_pipe, source);
	struct job *job = pipe->job;

	(void)pipe_read(pipe);
	if (pipe->source.fd >= 0)
		loop_want_ready(job->request.shard->loop, source);
}

static const struct loop_handler pipe_handler = {.ready = on_pipe};

/* ---- exit ---- */

/*
 * What the command wrote before it ended is in the pipes, at most their capacity. More than that comes from a
 * process it left behind, which may write for ever: it is not waited for.
 */
static void pipe_drain(struct job_pipe *pipe)
{
	int capacity = pipe->source.fd < 0 ? 0 : fcntl(pipe->source.fd, F_GETPIPE_SZ);
	uint64_t until = pipe->total + (uint64_t)(capacity > 0 ? capacity : 0);

	while (pipe->total < until && !pipe_read(pipe))
		;
}

static void job_reap(struct job *job)
{
	if (job->kill_pending)
		return;
	pipe_drain(&job->out);
	pipe_drain(&job->err);
	child_reap(&job->child, &job->status);
	job->end_ns = clock_now_ns();
	if (!job->fault.code && !job->status.si_pid)
		(void)fault_set(&job->fault, WIRE_INTERNAL, "the command's exit status is lost");
	job_finish(job);
}

static void on_process_end(struct child *child)
{
	struct job *job = container_of(child, struct job, child);

	job->state = JOB_EXITED;
	job_reap(job);
}

/* ---- replies of the launcher ---- */

static void job_launched(struct job *job, struct launch_reply *reply)
{
	struct shard *shard = job->request.shard;

	job->state = JOB_RUNNING;
	exec_options_deinit(&job->options);
	child_adopt(&job->child, reply);
	loop_want_ready(shard->loop, &job->out.source);
	loop_want_ready(shard->loop, &job->err.source);
	if (job->kill_wanted)
		job_kill(job);
}

static void launch_fault(struct job *job, const struct launch_reply *reply)
{
	if (reply->step == LAUNCH_STEP_SPEC)
		(void)fault_set(&job->fault, WIRE_INVALID_ARGUMENT, "EXEC: %s", reply->reason);
	else if (reply->step == LAUNCH_STEP_CWD)
		(void)fault_set_os(&job->fault, reply->error,
				   "the command could not be started (cwd \"%.100s\")",
				   job->options.cwd);
	else
		(void)fault_set_os(&job->fault, reply->error,
				   "the command could not be started (%s \"%.100s\")",
				   launch_step_name(reply->step), job->options.argv.items[0]);
	if (reply->step != LAUNCH_STEP_SPEC && reply->step != LAUNCH_STEP_LIMIT)
		job->fault.code = WIRE_EXEC_FAILED;
	if (reply->step == LAUNCH_STEP_BOX)
		(void)fault_set(&job->fault, WIRE_AGENT_NOT_FOUND,
				"the agent whose box it is has ended");
	job->fault.step = launch_step_name(reply->step);
}

static void job_not_launched(struct job *job, struct launch_reply *reply)
{
	/* Ended on its way, it is answered for like one that was ended later. */
	if (!job->kill_wanted || !reply->pid || reply->error != ECANCELED)
		launch_fault(job, reply);
	/* A process that was made ends by itself now, and is answered for when it has been reaped. */
	job->state = JOB_RUNNING;
	if (reply->pid)
		child_adopt(&job->child, reply);
	else
		job_finish(job);
}

/* @error: an errno, when the launcher could not do it. */
static void job_killed(struct job *job, int error)
{
	job->kill_pending = false;
	if (job->state == JOB_EXITED)
		job_reap(job);
	else if (job->kill_wanted && !channel_is_open(job->request.shard))
		job_kill(job);
	else if (job->kill_wanted && error && error != ESRCH)
		kill_later(job);
}

static void on_answered(struct launch *launch, struct launch_reply *reply)
{
	struct job *job = container_of(launch, struct job, launch);

	if (reply->type == LAUNCH_LAUNCHED)
		job_launched(job, reply);
	else
		job_not_launched(job, reply);
}

static void on_signalled(struct launch *launch, int error)
{
	job_killed(container_of(launch, struct job, launch), error);
}

/* The launcher has died. A command that runs goes on, and is reaped as usual, by its pidfd. */
static void on_lost(struct launch *launch)
{
	struct job *job = container_of(launch, struct job, launch);

	if (job->state != JOB_DONE)
		job_killed(job, 0);
}

void job_free_all(struct shard *shard)
{
	while (!list_empty(&shard->jobs)) {
		struct job *job = container_of(shard->jobs.next, struct job, link);

		CHECK(!job->request.conn);
		job_free(&job->request);
	}
}

/* ---- the start ---- */

/* A pipe whose reading end does not block and is the loop's; the writing end is the command's. */
static int pipe_open(struct job *job, struct job_pipe *pipe, int *ret_write_fd)
{
	int fds[2];
	int r;

	pipe->job = job;
	pipe->source.fd = -1;
	if (pipe2(fds, O_CLOEXEC))
		return err_raise(-errno);
	r = fcntl(fds[0], F_SETFL, O_NONBLOCK) ? err_raise(-errno) : 0;
	if (!r)
		r = loop_add(job->request.shard->loop, &pipe->source, fds[0], &pipe_handler);
	if (r) {
		pipe->source.fd = -1;
		(void)close(fds[0]);
		(void)close(fds[1]);
		return err_trace(r);
	}
	*ret_write_fd = fds[1];
	return 0;
}

/* All that it takes to run it and to see it end. 0 or -errno. */
static int job_prepare(struct job *job)
{
	struct shard *shard = job->request.shard;
	int r;

	if (!descriptors_take(&shard->kernel->descriptors, &job->descriptors, LIMIT_JOB_FDS_START))
		return err_raise(-EMFILE);
	r = child_reserve(&job->child, shard, on_process_end);
	if (!r)
		r = pipe_open(job, &job->out, &job->child_fds[1]);
	if (!r)
		r = pipe_open(job, &job->err, &job->child_fds[2]);
	if (!r && job->options.input)
		r = stdin_file_open(job->options.input, job->options.input_len, &job->child_fds[0]);
	return err_trace(r);
}

static int on_send(struct launch *launch, int channel)
{
	struct job *job = container_of(launch, struct job, launch);
	struct shard *shard = job->request.shard;
	const struct user *user = job->user;
	const struct launch_spec spec = {
		.kind = job->box_id ? LAUNCH_ENTER : LAUNCH_PLAIN,
		.argv = (const char *const *)job->options.argv.items,
		.env = (const char *const *)job->options.env.items,
		.cwd = job->options.cwd,
		.uid = job->box_id ? 0 : user->uid,
		.gid = job->box_id ? 0 : user->gid,
		.groups = job->box_id ? NULL : user->groups,
		.n_groups = job->box_id ? 0 : user->group_count,
		.cwd_or_root = job->options.cwd_is_home,
		.umask = 022,
		.box_id = job->box_id,
	};
	const int fds[3] = {
		job->child_fds[0] < 0 ? shard->null_fd : job->child_fds[0],
		job->child_fds[1],
		job->child_fds[2],
	};
	int r = launch_send(channel, launch->id, &spec, fds, 3);

	if (!r) {
		job->state = JOB_LAUNCHING;
		job->start_ns = clock_now_ns();
		launch_release(job);
		if (job->timeout_ms &&
		    timer_set(&shard->timers, &job->timer,
			      job->start_ns + job->timeout_ms * CLOCK_NS_PER_MS, on_timer))
			job_kill(job);
	}
	return r;
}

static void on_unsent(struct launch *launch, int result)
{
	struct job *job = container_of(launch, struct job, launch);

	if (result == LAUNCH_E_TOO_BIG)
		job_fail(job, WIRE_TOO_LARGE, "command, env and cwd together: 64 KiB at most");
	else if (result == LAUNCH_E_GONE)
		job_fail(job, WIRE_UNAVAILABLE, "the launcher is not running; restart the kernel");
	else
		job_fail(job, WIRE_BUSY, "the command cannot be handed to the launcher; try again");
}

static const struct launch_type launch_type = {
	.send = on_send,
	.unsent = on_unsent,
	.answered = on_answered,
	.signalled = on_signalled,
	.lost = on_lost,
};

static struct job *job_new(struct shard *shard, struct user *user, struct exec_options *options)
{
	struct job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->out.source.fd = job->err.source.fd = -1;
	job->child_fds[0] = job->child_fds[1] = job->child_fds[2] = -1;
	channel_add(shard, &job->launch, &launch_type);
	job->user = user_ref(user);
	job->options = *options;
	job->output_max = options->output_max;
	job->timeout_ms = options->timeout_ms;
	return job;
}

enum wire_error job_start(struct call *call, struct exec_options *options, uint64_t box_id)
{
	struct shard *shard = call->conn->shard;
	struct owner *owner = call->conn->user->owner;
	struct job *job;

	if (!channel_is_open(shard))
		return fault_set(&call->fault, WIRE_UNAVAILABLE,
				 "the launcher is not running; restart the kernel");
	if (shard->job_count == LIMIT_JOBS_PER_CORE)
		return fault_set(&call->fault, WIRE_BUSY, "%d commands are running on this core",
				 LIMIT_JOBS_PER_CORE);
	if (quota_take(shard->kernel->config, owner, QUOTA_COMMANDS, &call->fault))
		return call->fault.code;
	if (quota_launch(shard->kernel->config, owner, shard->now_ns, &call->fault)) {
		quota_give(owner, QUOTA_COMMANDS);
		return call->fault.code;
	}
	job = job_new(shard, call->conn->user, options);
	if (!job) {
		quota_give(owner, QUOTA_COMMANDS);
		return fault_set(&call->fault, WIRE_BUSY, "no memory");
	}
	if (request_start(&job->request, call, &job_type)) {
		quota_give(owner, QUOTA_COMMANDS);
		(void)user_unref(job->user);
		channel_remove(&job->launch);
		free(job);
		return call->fault.code;
	}
	job->box_id = box_id;
	*options = (struct exec_options){0};
	list_append(&shard->jobs, &job->link);
	shard->job_count++;
	STAT_ADD(shard->stats.jobs, 1);
	if (job_prepare(job))
		job_fail(job, WIRE_BUSY, "no descriptors or memory for another command; try again");
	else
		channel_launch(shard, &job->launch);
	return WIRE_OK;
}
