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
	MS_MAX = 3600 * 1000,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

static const struct protocol *const protocols[] = {&protocol_clove, &protocol_redis};

static const char help_text[] =
	"perf_load --protocol clove|redis --socket PATH [options]\n"
	"  --clients N    connections (1)\n"
	"  --pipeline N   requests in flight on each (1)\n"
	"  --size N       bytes of payload that every reply echoes (0)\n"
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

static int parse_options(int argc, char **argv, struct drive *drive, bool *ret_crowd)
{
	static const struct option options[] = {
		{"protocol", required_argument, NULL, 'P'},
		{"socket", required_argument, NULL, 's'},
		{"clients", required_argument, NULL, 'c'},
		{"pipeline", required_argument, NULL, 'p'},
		{"size", required_argument, NULL, 'd'},
		{"warmup-ms", required_argument, NULL, 'w'},
		{"window-ms", required_argument, NULL, 't'},
		{"crowd", no_argument, NULL, 'C'},
		{NULL, 0, NULL, 0},
	};
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
			r = parse_number(optarg, 0, PROTOCOL_SIZE_MAX, &drive->size);
		else if (option == 'w')
			r = parse_number(optarg, 0, MS_MAX, &drive->warmup_ms);
		else if (option == 't')
			r = parse_number(optarg, 1, MS_MAX, &drive->window_ms);
		else if (option == 'C')
			*ret_crowd = true;
		else
			r = -EINVAL;
	}
	return r || optind != argc || !drive->protocol || !drive->path ? -EINVAL : 0;
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

	r = drive_connect(drive, &fd);
	if (!r)
		r = drive->protocol->ask_io(fd, drive->io);
	if (r)
		return r;
	if (crowd)
		return drive_crowd(drive, &tally);
	if (drive->clients == 1 && drive->pipeline == 1)
		return drive_lone(drive, &tally);
	return drive_fleet(drive, &tally);
}

int main(int argc, char **argv)
{
	struct drive drive = {.clients = 1, .pipeline = 1, .warmup_ms = 500, .window_ms = 2000};
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
	if (r < 0)
		(void)fprintf(stderr, "perf_load: %s: %s\n", drive.path, strerror(-r));
	return r ? EXIT_FAILED : 0;
}
