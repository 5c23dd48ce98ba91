/* SPDX-License-Identifier: MIT */

#include "core/agent_home.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "core/directory.h"
#include "core/kernel.h"
#include "core/shard.h"
#include "core/user.h"

enum {
	COPY_BYTES = 64 << 10,
	VENV_BYTES = 16 << 10, /* of a pyvenv.cfg, which has a handful of lines */
	/* Outside what distributions give to users, containers and systemd's dynamic users. */
	UID_FIRST = 2000000,
	UID_COUNT = LIMIT_AGENTS,
};

void agent_home_init(struct agent_home *home)
{
	*home = (struct agent_home){.workspace = -1, .logs = -1, .script = -1, .sdk = -1};
}

void agent_home_deinit(struct agent_home *home)
{
	home->workspace = fd_close(home->workspace);
	home->logs = fd_close(home->logs);
	home->script = fd_close(home->script);
	home->sdk = fd_close(home->sdk);
	for (unsigned i = 0; i < home->bind_count; i++)
		home->binds[i] = fd_close(home->binds[i]);
	home->bind_count = 0;
	strv_deinit(&home->prefixes);
	free(home->script_name);
	home->script_name = NULL;
}

/* A directory below @parent, made when missing. A descriptor for paths only, or -errno. */
static int dir_open(int parent, const char *name, mode_t mode)
{
	int fd;

	if (mkdirat(parent, name, mode) && errno != EEXIST)
		return err_raise(-errno);
	fd = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? err_raise(-errno) : fd;
}

/* ---- uids, all under the lock of homes ---- */

/* Whose a uid is: of one home, also while the launcher has not handed that over yet, or could not. */
struct agent_uid {
	uint32_t owner;
	char *home; /* owned; NULL: free */
};

bool agent_home_is_uid(uid_t uid)
{
	return uid >= UID_FIRST && uid < UID_FIRST + UID_COUNT;
}

/* 0 or -ENOMEM. */
static int uid_note(struct kernel *kernel, uid_t uid, uint32_t owner, const char *home)
{
	struct agent_uid *taken = &kernel->uids[uid - UID_FIRST];

	if (taken->home)
		return 0;
	taken->home = strdup(home);
	taken->owner = owner;
	if (uid - UID_FIRST >= kernel->uids_end)
		kernel->uids_end = uid - UID_FIRST + 1;
	return taken->home ? 0 : -ENOMEM;
}

static struct agent_uid *uid_find(struct kernel *kernel, uint32_t owner, const char *home)
{
	for (uint32_t i = 0; i < kernel->uids_end; i++)
		if (kernel->uids[i].home && kernel->uids[i].owner == owner &&
		    !strcmp(kernel->uids[i].home, home))
			return &kernel->uids[i];
	return NULL;
}

/* 0; -EDQUOT when @owner has all that it may, -ENOSPC when all are taken; or -ENOMEM. */
static int uid_take(struct kernel *kernel, const struct owner *owner, const char *home,
		    uid_t *ret_uid)
{
	const struct agent_uid *own = uid_find(kernel, owner->uid, home);
	uint32_t free_one = kernel->uids_end, count = 0;

	if (own) {
		*ret_uid = UID_FIRST + (uid_t)(own - kernel->uids);
		return 0;
	}
	for (uint32_t i = kernel->uids_end; i-- > 0;) {
		if (!kernel->uids[i].home)
			free_one = i;
		else
			count += kernel->uids[i].owner == owner->uid;
	}
	if (count >= LIMIT_OWNER_HOMES && !owner->is_operator)
		return -EDQUOT;
	if (free_one == UID_COUNT)
		return -ENOSPC;
	*ret_uid = UID_FIRST + free_one;
	return uid_note(kernel, *ret_uid, owner->uid, home);
}

static void uid_free(struct kernel *kernel, uint32_t owner, const char *home)
{
	struct agent_uid *taken = uid_find(kernel, owner, home);

	if (!taken)
		return;
	free(taken->home);
	taken->home = NULL;
}

static int homes_of_owner_scan(struct kernel *kernel, uint32_t owner, int owner_fd)
{
	DIR *dir = fdopendir(owner_fd);
	struct dirent *entry;
	int r = 0;

	if (!dir) {
		(void)close(owner_fd);
		return 0;
	}
	while (!r && (entry = readdir(dir))) {
		char path[sizeof(entry->d_name) + 16];
		struct stat st;

		(void)snprintf(path, sizeof(path), "%s/logs", entry->d_name);
		if (*entry->d_name != '.' && !fstatat(dirfd(dir), path, &st, AT_SYMLINK_NOFOLLOW) &&
		    agent_home_is_uid(st.st_uid))
			r = uid_note(kernel, st.st_uid, owner, entry->d_name);
	}
	(void)closedir(dir);
	return r;
}

int agent_homes_scan(struct kernel *kernel)
{
	struct dirent *entry;
	int fd, r = 0;
	DIR *dir;

	kernel->uids = calloc(UID_COUNT, sizeof(*kernel->uids));
	if (!kernel->uids)
		return err_raise(-ENOMEM);
	if (mkdirat(kernel->data_fd, "agents", 0700) && errno != EEXIST)
		return err_raise(-errno);
	kernel->agents_fd =
		openat(kernel->data_fd, "agents", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (kernel->agents_fd < 0)
		return err_raise(-errno);
	fd = fcntl(kernel->agents_fd, F_DUPFD_CLOEXEC, 3);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		(void)fd_close(fd);
		return err_raise(-errno);
	}
	while (!r && (entry = readdir(dir))) {
		int owner_fd;

		if (*entry->d_name == '.')
			continue;
		owner_fd = openat(dirfd(dir), entry->d_name,
				  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (owner_fd >= 0)
			r = homes_of_owner_scan(kernel, (uint32_t)strtoul(entry->d_name, NULL, 10),
						owner_fd);
	}
	(void)closedir(dir);
	return err_trace(r);
}

void agent_homes_forget(struct kernel *kernel)
{
	for (uint32_t i = 0; kernel->uids && i < kernel->uids_end; i++)
		free(kernel->uids[i].home);
	free(kernel->uids);
	kernel->uids = NULL;
}

/* ---- the script ---- */

static int copy(int from, int to)
{
	static _Thread_local char bytes[COPY_BYTES];
	ssize_t n;

	while ((n = read(from, bytes, sizeof(bytes))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		for (ssize_t done = 0; done < n;) {
			ssize_t w = write(to, bytes + done, (size_t)(n - done));

			if (w < 0 && errno != EINTR)
				return -errno;
			done += w < 0 ? 0 : w;
		}
	}
	return 0;
}

/* From memory, where the user's opener put it, to the place that the box shows. */
static enum wire_error script_store(int from, const char *name, int dir, struct fault *fault)
{
	CLEANUP(fd_closep) int to = -1;
	int r;

	/* Never through what is there: a copy that runs must stay as it is. */
	(void)unlinkat(dir, name, 0);
	to = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0755);
	if (to < 0)
		return fault_set_os(fault, errno, "the copy of the script");
	r = lseek(from, 0, SEEK_SET) ? -errno : copy(from, to);
	return r ? fault_set_os(fault, -r, "the copy of the script") : WIRE_OK;
}

/* ---- directories ---- */

static enum wire_error uid_fault(struct fault *fault, int r, const struct owner *owner)
{
	if (r == -EDQUOT)
		return fault_set(
			fault, WIRE_BUSY,
			"user %u has directories of %d agents, which is all it may: remove agents (REMOVE)",
			owner->uid, LIMIT_OWNER_HOMES);
	if (r == -ENOSPC)
		return fault_set(fault, WIRE_BUSY,
				 "no uid is left for another agent: remove agents (REMOVE)");
	return fault_set(fault, WIRE_BUSY, "no memory");
}

/* Under the lock: its agent is in the directory of agents by now, so nobody removes it behind this. */
static enum wire_error dirs_open(struct kernel *kernel, const struct owner *owner,
				 const struct spawn_options *options, struct agent_home *home,
				 struct fault *fault)
{
	CLEANUP(fd_closep) int owner_fd = -1;
	CLEANUP(fd_closep) int fd = -1;
	char number[16];
	struct stat st;
	int r;

	(void)snprintf(number, sizeof(number), "%u", owner->uid);
	owner_fd = dir_open(kernel->agents_fd, number, 0700);
	fd = owner_fd < 0 ? owner_fd : dir_open(owner_fd, options->home, 0700);
	home->workspace = fd < 0 ? fd : dir_open(fd, "workspace", 0700);
	home->logs = fd < 0 ? fd : dir_open(fd, "logs", 0755);
	home->script = fd < 0 ? fd : dir_open(fd, "script", 0755);
	r = home->workspace < 0 ? home->workspace : home->logs < 0 ? home->logs : home->script;
	if (r < 0)
		return fault_set_os(fault, -r, "the directory of agent %s", options->name);
	home->uid = owner->uid;
	if (!options->sandboxed || kernel->user->uid != 0)
		return WIRE_OK;
	/* Not the workspace, which is no agent's as long as all of that name had theirs in memory. */
	if (fstat(home->logs, &st))
		return fault_set_os(fault, errno, "the logs of agent %s", options->name);
	home->uid = st.st_uid;
	if (!agent_home_is_uid(st.st_uid))
		r = uid_take(kernel, owner, options->home, &home->uid);
	return r < 0 ? uid_fault(fault, r, owner) : WIRE_OK;
}

/* ---- what the user's opener is asked ---- */

static struct home_task *task_of(struct file_task *task)
{
	return container_of(task, struct home_task, task);
}

static size_t bind_total(const struct home_task *t)
{
	return t->search.prefixes.count + t->options->ro.count + t->options->rw.count;
}

const char *agent_home_bind(const struct strv *prefixes, const struct spawn_options *options,
			    size_t i, bool *ret_rw)
{
	const struct strv *const groups[] = {prefixes, &options->ro, &options->rw};
	size_t group = 0;

	while (i >= groups[group]->count)
		i -= groups[group++]->count;
	*ret_rw = group == 2;
	return groups[group]->items[i];
}

static bool wants_interpreter(const struct home_task *t)
{
	return t->options->script && t->options->interpreter && t->options->sandboxed;
}

/* Asked once more: what an opener that was lost has copied must not come before what the next one does. */
static bool script_again(struct home_task *t)
{
	if (t->script_asked) {
		(void)fd_close(t->script);
		t->script = memfd_create("script", MFD_CLOEXEC);
		if (t->script < 0)
			(void)fault_set_os(t->fault, errno, "memory for the script");
	}
	t->script_asked = true;
	return t->script >= 0;
}

static bool home_ask(struct file_task *task, struct open_request *ret_request)
{
	struct home_task *t = task_of(task);
	struct open_request *q = ret_request;
	bool rw;

	*q = (struct open_request){.base = t->user->owner->home, .into = -1};
	if (!t->fault->code && wants_interpreter(t) && !t->interpreter_begun) {
		t->interpreter_begun = true;
		(void)interpreter_begin(&t->search, t->fault);
	}
	if (t->fault->code)
		return false;
	if (t->script >= 0 && !t->script_read) {
		if (!script_again(t))
			return false;
		q->kind = OPEN_COPY;
		q->path = t->options->script;
		q->length = LIMIT_SCRIPT_BYTES;
		q->into = t->script;
	} else if (*t->search.config) {
		q->kind = OPEN_READ;
		q->path = t->search.config;
		q->length = VENV_BYTES;
	} else if (*t->search.path) {
		q->kind = OPEN_LINK;
		q->path = t->search.path;
	} else if (t->home->bind_count < bind_total(t)) {
		q->path =
			agent_home_bind(&t->search.prefixes, t->options, t->home->bind_count, &rw);
		q->flags = O_PATH | (rw ? O_RDWR : O_RDONLY);
	} else {
		return false;
	}
	q->path_len = strlen(q->path);
	return true;
}

static void script_told(struct home_task *t, const struct open_reply *reply)
{
	t->script_read = true;
	if (reply->result == -EFBIG)
		(void)fault_set(t->fault, WIRE_TOO_LARGE, "script %.100s: %d bytes at most",
				t->options->script, LIMIT_SCRIPT_BYTES);
	else if (reply->result)
		(void)files_fault(t->fault, reply->result, "script ", t->options->script);
	else if (!files_charge(t->task.shard->kernel, t->user, reply->done))
		(void)fault_set(t->fault, WIRE_BUSY,
				"too much file content is in memory; try again");
	else
		t->charged = reply->done;
	/* The file threads may take a while. */
	if (t->fault->code)
		t->script = fd_close(t->script);
}

static void link_told(struct home_task *t, const struct open_reply *reply, const uint8_t *window)
{
	bool is_link = reply->result != -EINVAL;

	if (reply->result && is_link)
		(void)files_fault(t->fault, reply->result, "interpreter ", t->search.path);
	else
		(void)interpreter_linked(&t->search, is_link ? (const char *)window : NULL,
					 reply->done, t->fault);
	if (!t->fault->code && t->search.prefixes.count > LIMIT_AGENT_PREFIXES)
		(void)fault_set(t->fault, WIRE_INVALID_ARGUMENT,
				"interpreter %.100s: its links lead through too many places",
				t->options->interpreter);
}

static void bind_told(struct home_task *t, struct open_reply *reply)
{
	bool rw;
	const char *path =
		agent_home_bind(&t->search.prefixes, t->options, t->home->bind_count, &rw);

	if (reply->result == OPEN_E_NOT_REGULAR)
		(void)fault_set(t->fault, WIRE_NOT_A_FILE, "%.100s: neither a file nor a directory",
				path);
	else if (reply->result)
		(void)files_fault(t->fault, reply->result, "", path);
	else
		t->home->binds[t->home->bind_count++] = TAKE_FD(reply->fd);
}

static void home_told(struct file_task *task, struct open_reply *reply, const uint8_t *window)
{
	struct home_task *t = task_of(task);
	bool lost = reply->result > 0 && reply->result != OPEN_E_NOT_REGULAR;

	if (t->script >= 0 && !t->script_read)
		script_told(t, reply);
	else if (*t->search.config && !lost)
		(void)interpreter_configured(&t->search,
					     reply->result ? NULL : (const char *)window,
					     reply->done, t->fault);
	else if (*t->search.config || *t->search.path)
		link_told(t, reply, window);
	else
		bind_told(t, reply);
}

/* ---- the whole ---- */

/* The user's part is done; what is left is in the data directory. */
static void home_run(struct file_task *task)
{
	struct home_task *t = task_of(task);
	struct kernel *kernel = task->shard->kernel;
	struct agent_home *home = t->home;

	(void)pthread_mutex_lock(&kernel->homes_lock);
	if (!t->fault->code)
		(void)dirs_open(kernel, t->user->owner, t->options, home, t->fault);
	(void)pthread_mutex_unlock(&kernel->homes_lock);
	if (!t->fault->code && t->script >= 0)
		(void)script_store(t->script, home->script_name, home->script, t->fault);
	if (!t->fault->code && *kernel->config->sdk_dir) {
		home->sdk = open(kernel->config->sdk_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (home->sdk < 0)
			(void)fault_set_os(t->fault, errno, "the SDK directory %.100s (--sdk-dir)",
					   kernel->config->sdk_dir);
	}
	home->prefixes = t->search.prefixes;
	t->search.prefixes = (struct strv){0};
	t->script = fd_close(t->script);
	files_uncharge(kernel, t->user, t->charged);
	if (t->fault->code)
		agent_home_deinit(home);
}

static enum wire_error script_prepare(struct home_task *t, struct fault *fault)
{
	const char *slash = strrchr(t->options->script, '/');

	t->home->script_name = strdup(slash ? slash + 1 : t->options->script);
	if (!t->home->script_name)
		return bag_no_memory(fault);
	if (!*t->home->script_name)
		return fault_set(fault, WIRE_NOT_A_FILE, "script %.100s: a directory",
				 t->options->script);
	if (!t->copy_script)
		return WIRE_OK;
	t->script = memfd_create("script", MFD_CLOEXEC);
	return t->script < 0 ? fault_set_os(fault, errno, "memory for the script") : WIRE_OK;
}

enum wire_error agent_home_open(struct shard *shard, struct user *user, struct home_task *task,
				struct fault *fault)
{
	const struct spawn_options *o = task->options;
	enum wire_error code = WIRE_OK;

	task->task.ask = home_ask;
	task->task.told = home_told;
	task->task.run = home_run;
	task->user = user;
	task->script = -1;
	task->charged = 0;
	task->script_asked = task->script_read = task->interpreter_begun = false;
	task->search = (struct interpreter_search){
		.name = o->interpreter,
		.home = user->owner->home,
		.covered = {&o->ro, &o->rw},
	};
	if (o->script)
		code = script_prepare(task, fault);
	if (!code)
		code = files_submit(shard, user, &task->task, fault);
	if (!code)
		return WIRE_OK;
	task->script = fd_close(task->script);
	agent_home_deinit(task->home);
	return code;
}

int agent_home_log(struct kernel *kernel, uint32_t owner, const char *home, const char *file)
{
	char path[16 + LIMIT_AGENT_HOME_BYTES + 32];

	(void)snprintf(path, sizeof(path), "%u/%s/logs/%s", owner, home, file);
	return openat(kernel->agents_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

/* ---- the end ---- */

static void trash_empty(struct kernel *kernel)
{
	int done;

	/* Nobody waits for it. Where it cannot be had, the next one takes this along. */
	if (!launcher_remove(kernel->launcher, kernel->trash_fd, &done))
		(void)close(done);
}

int agent_trash_open(struct kernel *kernel)
{
	if (mkdirat(kernel->agents_fd, ".trash", 0700) && errno != EEXIST)
		return err_raise(-errno);
	kernel->trash_fd = openat(kernel->agents_fd, ".trash",
				  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (kernel->trash_fd < 0)
		return err_raise(-errno);
	trash_empty(kernel);
	return 0;
}

/* Under the lock: not from under one that is about to start. 0 or -errno. */
static int trash(struct kernel *kernel, uint32_t owner, int owner_fd, const char *name)
{
	char to[32];

	if (directory_has_home(kernel->directory, owner, name))
		return -EBUSY;
	/* With the epoch: a predecessor's may still be there. */
	(void)snprintf(to, sizeof(to), "%llx-%llu", (unsigned long long)kernel->start_ns,
		       (unsigned long long)atomic_fetch_add(&kernel->trashed, 1));
	if (renameat(owner_fd, name, kernel->trash_fd, to))
		return -errno;
	uid_free(kernel, owner, name);
	return 0;
}

/* The owner's directory of homes; NULL with errno. */
static DIR *owner_open(const struct kernel *kernel, uint32_t owner)
{
	char number[16];
	DIR *dir;
	int fd;

	(void)snprintf(number, sizeof(number), "%u", owner);
	fd = openat(kernel->agents_fd, number, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		(void)fd_close(fd);
	return dir;
}

int agent_home_family(struct kernel *kernel, uint32_t owner, const char *home,
		      struct strv *ret_homes, bool *ret_busy)
{
	size_t len = strlen(home);
	struct dirent *entry;
	DIR *dir = owner_open(kernel, owner);
	int r = 0;

	*ret_busy = false;
	if (!dir)
		return errno == ENOENT ? 0 : err_raise(-errno);
	while (!r && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, home, len) != 0 || !strchr(":", entry->d_name[len]))
			continue;
		if (directory_has_home(kernel->directory, owner, entry->d_name))
			*ret_busy = true;
		else if (!strv_push(ret_homes, strdup(entry->d_name)))
			r = err_raise(-ENOMEM);
	}
	(void)closedir(dir);
	return r;
}

int agent_home_remove(struct kernel *kernel, uint32_t owner, const struct strv *homes)
{
	DIR *dir = owner_open(kernel, owner);
	bool busy = false;
	int r = 0;

	if (!dir)
		return errno == ENOENT ? 0 : err_raise(-errno);
	for (size_t i = 0; i < homes->count && !r; i++) {
		(void)pthread_mutex_lock(&kernel->homes_lock);
		r = trash(kernel, owner, dirfd(dir), homes->items[i]);
		(void)pthread_mutex_unlock(&kernel->homes_lock);
		busy |= r == -EBUSY;
		r = r == -EBUSY || r == -ENOENT ? 0 : r; /* ENOENT: another removes it as well */
	}
	(void)closedir(dir);
	trash_empty(kernel);
	return r ? err_raise(r) : busy ? -EBUSY : 0;
}
