/* SPDX-License-Identifier: MIT */

/*
 * perf_load: puts one kind of load on one server and prints what came of it
 *
 * It knows nothing of scenarios, rounds or peers: perf/run starts it once per measurement, observes
 * the server from the line "start" on, and reads the line of JSON that follows.
 */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/base/log.h"
#include "perf/drive.h"

enum {
	CLIENTS_MAX = 1000000,
	KEYS_MAX = 1000000000,
	MS_MAX = 3600 * 1000,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

static const struct protocol *const protocols[] = {&protocol_clove, &protocol_redis};

static const char help_text[] =
	"perf_load --protocol clove|redis --socket PATH [options]\n"
	"  --clients N    connections (1)\n"
	"  --pipeline N   requests in flight on each (1)\n"
	"  --work KIND    what is asked (echo):\n"
	"                 echo   nothing but to repeat a payload\n"
	"                 fill   store each key once, in order, then end: there is no window\n"
	"                 store  store keys at random\n"
	"                 fetch  fetch keys at random, which fill has stored\n"
	"                 mixed  nine fetches to a store, few keys often and many rarely\n"
	"  --keys N       how many there are (1)\n"
	"  --size N       bytes of an echo's payload (0), or of a value: at least 16\n"
	"  --durable      stores are answered when they are on the disk; the server must be\n"
	"                 set to it where a request cannot ask for it\n"
	"  --warmup-ms N  not counted (500)\n"
	"  --window-ms N  counted (2000)\n"
	"  --crowd        open the connections, one request on each, and keep them until\n"
	"                 standard input ends\n"
	"Example: perf_load --protocol redis --socket /tmp/redis.sock --clients 50 --pipeline 16\n";

static int parse_number(const char *text, uint32_t min, uint32_t max, uint32_t *ret_value)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || *end || end == text || *text == '-' || value < min || value > max)
		return -EINVAL;
	*ret_value = (uint32_t)value;
	return 0;
}

static int parse_protocol(const char *name, const struct protocol **ret_protocol)
{
	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
		if (strcmp(name, protocols[i]->name))
			continue;
		*ret_protocol = protocols[i];
		return 0;
	}
	return -EINVAL;
}

static int parse_work(const char *name, enum work_kind *ret_kind)
{
	static const char *const names[] = {
		[WORK_ECHO] = "echo",   [WORK_FILL] = "fill",   [WORK_STORE] = "store",
		[WORK_FETCH] = "fetch", [WORK_MIXED] = "mixed",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]))
			continue;
		*ret_kind = (enum work_kind)i;
		return 0;
	}
	return -EINVAL;
}

static bool options_fit(const struct drive *drive, bool crowd)
{
	const struct work *work = drive->work;

	if (!drive->protocol || !drive->path)
		return false;
	if (work->kind == WORK_ECHO)
		return true;
	return work->size >= WORK_SIZE_MIN && !crowd;
}

static int parse_options(int argc, char **argv, struct drive *drive, bool *ret_crowd)
{
	static const struct option options[] = {
		{"protocol", required_argument, NULL, 'P'},
		{"socket", required_argument, NULL, 's'},
		{"clients", required_argument, NULL, 'c'},
		{"pipeline", required_argument, NULL, 'p'},
		{"work", required_argument, NULL, 'W'},
		{"keys", required_argument, NULL, 'k'},
		{"size", required_argument, NULL, 'd'},
		{"durable", no_argument, NULL, 'D'},
		{"warmup-ms", required_argument, NULL, 'w'},
		{"window-ms", required_argument, NULL, 't'},
		{"crowd", no_argument, NULL, 'C'},
		{NULL, 0, NULL, 0},
	};
	struct work *work = drive->work;
	uint32_t keys = 1;
	int option, r = 0;

	while (!r && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'P')
			r = parse_protocol(optarg, &drive->protocol);
		else if (option == 's')
			drive->path = optarg;
		else if (option == 'c')
			r = parse_number(optarg, 1, CLIENTS_MAX, &drive->clients);
		else if (option == 'p')
			r = parse_number(optarg, 1, PROTOCOL_PIPELINE_MAX, &drive->pipeline);
		else if (option == 'd')
			r = parse_number(optarg, 0, WORK_SIZE_MAX, &work->size);
		else if (option == 'W')
			r = parse_work(optarg, &work->kind);
		else if (option == 'k')
			r = parse_number(optarg, 1, KEYS_MAX, &keys);
		else if (option == 'D')
			work->durable = true;
		else if (option == 'w')
			r = parse_number(optarg, 0, MS_MAX, &drive->warmup_ms);
		else if (option == 't')
			r = parse_number(optarg, 1, MS_MAX, &drive->window_ms);
		else if (option == 'C')
			*ret_crowd = true;
		else
			r = -EINVAL;
	}
	work->keys = keys;
	if (work->kind == WORK_FILL)
		drive->warmup_ms = drive->window_ms = 0;
	return r || optind != argc || !options_fit(drive, *ret_crowd) ? -EINVAL : 0;
}

/* One descriptor per client: as many as the hard limit allows. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int run_drive(struct drive *drive, bool crowd)
{
	static struct tally tally;
	int r, fd;

	r = work_init(drive->work);
	if (!r)
		r = drive_connect(drive, &fd);
	if (!r)
		r = drive->protocol->ask_io(fd, drive->io);
	if (r)
		return r;
	if (crowd)
		return drive_crowd(drive, &tally);
	if (drive->clients == 1 && drive->pipeline == 1 && drive->work->kind != WORK_FILL)
		return drive_lone(drive, &tally);
	return drive_fleet(drive, &tally);
}

int main(int argc, char **argv)
{
	struct work work = {0};
	struct drive drive = {
		.work = &work, .clients = 1, .pipeline = 1, .warmup_ms = 500, .window_ms = 2000};
	bool crowd = false;
	int r;

	log_init("perf_load", LOG_INFO);
	if (argc > 1 && !strcmp(argv[1], "--help")) {
		(void)fputs(help_text, stdout);
		return 0;
	}
	if (parse_options(argc, argv, &drive, &crowd)) {
		(void)fputs(help_text, stderr);
		return EXIT_USAGE;
	}
	raise_descriptor_limit();
	r = run_drive(&drive, crowd);
	work_deinit(&work);
	if (r < 0)
		(void)fprintf(stderr, "perf_load: %s: %s\n", drive.path, strerror(-r));
	return r ? EXIT_FAILED : 0;
}
