/* SPDX-License-Identifier: MIT */

/*
 * Each setting is one row of a table: its option, its environment variable, its place in the file, and its
 * reader. The sources are read from the weakest to the strongest, each over the one before.
 */

#include "core/config.h"

#include <errno.h>
#include <getopt.h>
#include <ini.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/limits.h"

#define SOCKET_DEFAULT "/tmp/clove.sock"

static const char usage[] =
	"Usage: clove_kernel [OPTIONS]\n"
	"\n"
	"The Clove kernel: runs agents, carries their messages, keeps their state.\n"
	"\n"
	"Options:\n"
	"  --socket PATH       Socket path (default: " SOCKET_DEFAULT ")\n"
	"  --socket-mode MODE  Who may connect: 0600, 0660 or 0666 (default: 0666 as root,\n"
	"                      who serves every local user as that user; otherwise 0600)\n"
	"  --no-sandbox        Disable Linux namespace isolation\n"
	"  --log-level LEVEL   Log level: debug, info, warn, error (default: info)\n"
	"  --cores N           Event loops, 1 to 16 (default: the CPUs allowed less one, at least 1)\n"
	"  --io BACKEND        auto, uring or epoll (default: auto)\n"
	"  --data-dir DIR      State and logs (default: /var/lib/clove as root,\n"
	"                      otherwise $XDG_STATE_HOME/clove or ~/.local/state/clove)\n"
	"  --sdk-dir DIR       The SDK for Python, importable in every agent; \"\" for none\n"
	"                      (default: " CLOVE_SDK_DIR ")\n"
	"  --ephemeral         Use a new data directory below $TMPDIR, and delete it in the end\n"
	"  --salvage           If the log of the state store is damaged, keep what precedes the damage\n"
	"  --require-limits    Start no agent whose limits no cgroup enforces\n"
	"  --box-commands      Let clients run commands and open files in agents' boxes only, not on\n"
	"                      the host\n"
	"  --cgroup GROUP      Keep agents below this cgroup, from the top of the hierarchy\n"
	"                      (default: the one the kernel is started in)\n"
	"  --config FILE       Settings in INI form. [core]: socket, socket_mode, log_level, cores,\n"
	"                      io, data_dir, sdk_dir, and what a user may take: owner_connections,\n"
	"                      owner_agents, owner_commands, owner_files, owner_requests,\n"
	"                      owner_launch_rate. [sandbox]: enabled, require_limits, box_commands\n"
	"                      (yes or no), cgroup. [store]: cache, owner_bytes, owner_keys,\n"
	"                      agent_bytes, agent_keys\n"
	"  --version           Print the version and end\n"
	"  --help, -h          Print this and end\n"
	"\n"
	"Every setting can also come from the environment: CLOVE_SOCKET, CLOVE_SOCKET_MODE, CLOVE_SANDBOX\n"
	"(yes or no), CLOVE_LOG_LEVEL, CLOVE_CORES, CLOVE_IO, CLOVE_DATA_DIR, CLOVE_SDK_DIR,\n"
	"CLOVE_OWNER_AGENTS and so on, CLOVE_REQUIRE_LIMITS and CLOVE_BOX_COMMANDS (yes or no),\n"
	"CLOVE_CGROUP, CLOVE_CONFIG. The command line wins over the\n"
	"environment, and that over the file.\n"
	"\n"
	"Example:\n"
	"  clove_kernel --socket /tmp/my.sock --data-dir /tmp/my-clove --cores 2\n"
	"  CLOVE_SOCKET=/tmp/my.sock python3 my_agent.py\n";

/* ---- readers: 0, or -1 with a complaint printed by the caller ---- */

static int text_read(char **place, const char *value)
{
	char *copy = *value ? strdup(value) : NULL;

	if (!copy)
		return -1;
	free(*place);
	*place = copy;
	return 0;
}

static int socket_read(struct config *c, const char *value)
{
	return text_read(&c->socket_path, value);
}

static int socket_mode_read(struct config *c, const char *value)
{
	static const struct {
		const char *text;
		unsigned mode;
	} modes[] = {{"0600", 0600}, {"0660", 0660}, {"0666", 0666}};

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(value, modes[i].text))
			continue;
		c->socket_mode = modes[i].mode;
		return 0;
	}
	return -1;
}

static int data_dir_read(struct config *c, const char *value)
{
	return text_read(&c->data_dir, value);
}

static int sdk_dir_read(struct config *c, const char *value)
{
	char *copy = *value == '/' || !*value ? strdup(value) : NULL;

	if (!copy)
		return -1;
	free(c->sdk_dir);
	c->sdk_dir = copy;
	return 0;
}

static int log_level_read(struct config *c, const char *value)
{
	return log_level_parse(value, &c->log_level);
}

static int switch_read(bool *place, const char *value)
{
	if (strcmp(value, "yes") && strcmp(value, "no"))
		return -1;
	*place = !strcmp(value, "yes");
	return 0;
}

static int sandbox_read(struct config *c, const char *value)
{
	return switch_read(&c->sandbox, value);
}

static int require_limits_read(struct config *c, const char *value)
{
	return switch_read(&c->require_limits, value);
}

static int box_commands_read(struct config *c, const char *value)
{
	return switch_read(&c->box_commands, value);
}

static int cgroup_read(struct config *c, const char *value)
{
	return *value == '/' ? text_read(&c->cgroup, value) : -1;
}

static int cores_read(struct config *c, const char *value)
{
	char *end;
	unsigned long cores = strtoul(value, &end, 10);

	if (*end || end == value || cores < 1 || cores > LIMIT_CORES)
		return -1;
	c->cores = (unsigned)cores;
	return 0;
}

static int io_read(struct config *c, const char *value)
{
	for (enum loop_backend io = LOOP_AUTO; io <= LOOP_EPOLL; io++) {
		if (strcmp(value, loop_backend_name(io)))
			continue;
		c->io = io;
		return 0;
	}
	return -1;
}

/* 1 to a million, the number that any limit may have. */
static int number_read(uint32_t *place, const char *value)
{
	char *end;
	unsigned long number = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || number < 1 || number > 1000000)
		return -1;
	*place = (uint32_t)number;
	return 0;
}

#define OWNER_LIMIT(name, place)                                    \
	static int name##_read(struct config *c, const char *value) \
	{                                                           \
		return number_read(&c->place, value);               \
	}
OWNER_LIMIT(owner_connections, quota[QUOTA_CONNECTIONS])
OWNER_LIMIT(owner_agents, quota[QUOTA_AGENTS])
OWNER_LIMIT(owner_commands, quota[QUOTA_COMMANDS])
OWNER_LIMIT(owner_files, quota[QUOTA_FILES])
OWNER_LIMIT(owner_requests, quota[QUOTA_REQUESTS])
OWNER_LIMIT(owner_launch_rate, launch_rate)
#undef OWNER_LIMIT

/* Bytes or keys, with K, M, G or T of 1024. */
static int size_read(uint64_t *place, uint64_t min, const char *value)
{
	static const char units[] = "KMGT";
	char *end;
	const char *unit;
	unsigned long long number;
	unsigned shift = 0;

	errno = 0;
	number = strtoull(value, &end, 10);
	if (*value < '0' || *value > '9' || errno)
		return -1;
	if (*end) {
		unit = strchr(units, *end);
		if (!unit || end[1])
			return -1;
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (number > UINT64_MAX >> (shift + 1) || number << shift < min)
		return -1;
	*place = (uint64_t)number << shift;
	return 0;
}

#define SIZE(name, min)                                             \
	static int name##_read(struct config *c, const char *value) \
	{                                                           \
		return size_read(&c->name, min, value);             \
	}
SIZE(store_cache, 8 << 20)
SIZE(owner_state_bytes, 1)
SIZE(owner_state_keys, 1)
SIZE(agent_state_bytes, 1)
SIZE(agent_state_keys, 1)
#undef SIZE

static int ephemeral_read(struct config *c, const char *value)
{
	return switch_read(&c->ephemeral, value);
}

static int salvage_read(struct config *c, const char *value)
{
	return switch_read(&c->salvage, value);
}

#define A_SIZE   "a number, or one with K, M, G or T, as in 64M"
#define A_NUMBER "a number from 1 to 1000000"

static const struct setting {
	const char *option; /* with its dashes; NULL: none */
	const char *flag;   /* the value it stands for, when it takes none */
	const char *variable, *section, *key;
	int (*read)(struct config *config, const char *value);
	const char *wanted;
} settings[] = {
	{"--socket", NULL, "CLOVE_SOCKET", "core", "socket", socket_read, "a path"},
	{"--socket-mode", NULL, "CLOVE_SOCKET_MODE", "core", "socket_mode", socket_mode_read,
	 "0600, 0660 or 0666"},
	{"--data-dir", NULL, "CLOVE_DATA_DIR", "core", "data_dir", data_dir_read, "a path"},
	{"--sdk-dir", NULL, "CLOVE_SDK_DIR", "core", "sdk_dir", sdk_dir_read,
	 "an absolute path, or nothing"},
	{"--log-level", NULL, "CLOVE_LOG_LEVEL", "core", "log_level", log_level_read,
	 "debug, info, warn or error"},
	{"--cores", NULL, "CLOVE_CORES", "core", "cores", cores_read, "a number from 1 to 16"},
	{"--io", NULL, "CLOVE_IO", "core", "io", io_read, "auto, uring or epoll"},
	{NULL, NULL, "CLOVE_OWNER_CONNECTIONS", "core", "owner_connections", owner_connections_read,
	 A_NUMBER},
	{NULL, NULL, "CLOVE_OWNER_AGENTS", "core", "owner_agents", owner_agents_read, A_NUMBER},
	{NULL, NULL, "CLOVE_OWNER_COMMANDS", "core", "owner_commands", owner_commands_read,
	 A_NUMBER},
	{NULL, NULL, "CLOVE_OWNER_FILES", "core", "owner_files", owner_files_read, A_NUMBER},
	{NULL, NULL, "CLOVE_OWNER_REQUESTS", "core", "owner_requests", owner_requests_read,
	 A_NUMBER},
	{NULL, NULL, "CLOVE_OWNER_LAUNCH_RATE", "core", "owner_launch_rate", owner_launch_rate_read,
	 A_NUMBER},
	{"--ephemeral", "yes", "CLOVE_EPHEMERAL", "core", "ephemeral", ephemeral_read, "yes or no"},
	{"--salvage", "yes", "CLOVE_SALVAGE", "store", "salvage", salvage_read, "yes or no"},
	{NULL, NULL, "CLOVE_STORE_CACHE", "store", "cache", store_cache_read,
	 A_SIZE ", at least 8M"},
	{NULL, NULL, "CLOVE_STATE_OWNER_BYTES", "store", "owner_bytes", owner_state_bytes_read,
	 A_SIZE},
	{NULL, NULL, "CLOVE_STATE_OWNER_KEYS", "store", "owner_keys", owner_state_keys_read,
	 A_SIZE},
	{NULL, NULL, "CLOVE_STATE_AGENT_BYTES", "store", "agent_bytes", agent_state_bytes_read,
	 A_SIZE},
	{NULL, NULL, "CLOVE_STATE_AGENT_KEYS", "store", "agent_keys", agent_state_keys_read,
	 A_SIZE},
	{"--no-sandbox", "no", "CLOVE_SANDBOX", "sandbox", "enabled", sandbox_read, "yes or no"},
	{"--require-limits", "yes", "CLOVE_REQUIRE_LIMITS", "sandbox", "require_limits",
	 require_limits_read, "yes or no"},
	{"--box-commands", "yes", "CLOVE_BOX_COMMANDS", "sandbox", "box_commands",
	 box_commands_read, "yes or no"},
	{"--cgroup", NULL, "CLOVE_CGROUP", "sandbox", "cgroup", cgroup_read,
	 "a path that begins with /"},
};

#define SETTING_COUNT (sizeof(settings) / sizeof(settings[0]))

static int complain(const char *where, const char *value, const char *wanted)
{
	(void)fprintf(stderr, "clove_kernel: %s: \"%s\" is not %s; see clove_kernel --help\n",
		      where, value, wanted);
	return CONFIG_E_BAD;
}

/* ---- sources ---- */

static int defaults_read(struct config *config)
{
	const char *state = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	char *data_dir;
	cpu_set_t cpus;
	int count;
	int n;

	if (geteuid() == 0)
		n = asprintf(&data_dir, "/var/lib/clove");
	else if (state && *state == '/')
		n = asprintf(&data_dir, "%s/clove", state);
	else
		n = asprintf(&data_dir, "%s/.local/state/clove", home && *home ? home : "/tmp");
	if (n < 0)
		return CONFIG_E_BAD;
	count = sched_getaffinity(0, sizeof(cpus), &cpus) ? 1 : CPU_COUNT(&cpus);
	*config = (struct config){
		.socket_path = strdup(SOCKET_DEFAULT),
		.data_dir = data_dir,
		.sdk_dir = strdup(CLOVE_SDK_DIR),
		.log_level = LOG_INFO,
		.io = LOOP_AUTO,
		.cores = count <= 2            ? 1
			 : count > LIMIT_CORES ? LIMIT_CORES
					       : (unsigned)count - 1,
		.socket_mode = geteuid() == 0 ? 0666 : 0600,
		.quota =
			{
				[QUOTA_CONNECTIONS] = LIMIT_OWNER_CONNECTIONS,
				[QUOTA_AGENTS] = LIMIT_OWNER_AGENTS,
				[QUOTA_COMMANDS] = LIMIT_OWNER_COMMANDS,
				[QUOTA_FILES] = LIMIT_OWNER_FILES,
				[QUOTA_REQUESTS] = LIMIT_OWNER_REQUESTS,
			},
		.launch_rate = LIMIT_OWNER_LAUNCH_RATE,
		.store_cache = LIMIT_STATE_CACHE_BYTES,
		.owner_state_bytes = LIMIT_OWNER_STATE_BYTES,
		.owner_state_keys = LIMIT_OWNER_STATE_KEYS,
		.agent_state_bytes = LIMIT_AGENT_STATE_BYTES,
		.agent_state_keys = LIMIT_AGENT_STATE_KEYS,
		.sandbox = true,
	};
	return config->socket_path && config->sdk_dir ? 0 : CONFIG_E_BAD;
}

struct file_reader {
	struct config *config;
	FILE *file;
	int line; /* the last one read */
	int complaint_line;
	char complaint[256];
};

/* inih's source of lines: counts them, because its callback is not told. */
static char *on_file_line(char *line, int size, void *user)
{
	struct file_reader *reader = user;

	reader->line++;
	return fgets(line, size, reader->file);
}

static int object_to(struct file_reader *reader, const char *section, const char *name,
		     const char *text)
{
	if (*reader->complaint)
		return 0;
	reader->complaint_line = reader->line;
	(void)snprintf(reader->complaint, sizeof(reader->complaint), "[%s] %s: %s", section, name,
		       text);
	return 0;
}

/* inih's callback: 0 stops, and inih knows the line. */
static int on_file_entry(void *user, const char *section, const char *name, const char *value)
{
	struct file_reader *reader = user;
	bool known = false;
	char text[160];

	for (size_t i = 0; i < SETTING_COUNT; i++) {
		known |= !strcmp(section, settings[i].section);
		if (strcmp(section, settings[i].section) || strcmp(name, settings[i].key))
			continue;
		if (settings[i].read(reader->config, value) == 0)
			return 1;
		(void)snprintf(text, sizeof(text), "\"%s\" is not %s", value, settings[i].wanted);
		return object_to(reader, section, name, text);
	}
	return object_to(reader, section, name,
			 known ? "there is no such setting, see clove_kernel --help"
			       : "there is no such section, see clove_kernel --help");
}

static int file_read(struct config *config)
{
	struct file_reader reader = {.config = config};
	int line;

	if (!config->file)
		return 0;
	reader.file = fopen(config->file, "re");
	if (!reader.file) {
		(void)fprintf(
			stderr,
			"clove_kernel: %s: cannot be read: %s; name another with --config or CLOVE_CONFIG\n",
			config->file, strerror(errno));
		return CONFIG_E_BAD;
	}
	line = ini_parse_stream(on_file_line, &reader, on_file_entry, &reader);
	(void)fclose(reader.file);
	if (line) {
		(void)fprintf(stderr, "clove_kernel: %s:%d: %s\n", config->file, line,
			      line == reader.complaint_line ? reader.complaint
							    : "neither [section] nor key = value");
		return CONFIG_E_BAD;
	}
	return 0;
}

static int environment_read(struct config *config)
{
	for (size_t i = 0; i < SETTING_COUNT; i++) {
		const char *value = getenv(settings[i].variable);

		if (value && settings[i].read(config, value))
			return complain(settings[i].variable, value, settings[i].wanted);
	}
	return 0;
}

enum {
	OPTION_SETTING = 0x100, /* + index into settings[] */
	OPTION_CONFIG = 0x200,
	OPTION_VERSION,
	OPTION_HELP,
};

static void options_make(struct option *ret_options)
{
	struct option *o = ret_options;

	for (size_t i = 0; i < SETTING_COUNT; i++)
		if (settings[i].option)
			*o++ = (struct option){settings[i].option + 2,
					       settings[i].flag ? no_argument : required_argument,
					       NULL, OPTION_SETTING + (int)i};
	*o++ = (struct option){"config", required_argument, NULL, OPTION_CONFIG};
	*o++ = (struct option){"version", no_argument, NULL, OPTION_VERSION};
	*o++ = (struct option){"help", no_argument, NULL, OPTION_HELP};
	*o = (struct option){0};
}

static int option_apply(struct config *config, int option, bool only_file)
{
	const struct setting *setting;

	switch (option) {
	case OPTION_HELP:
	case 'h':
		(void)fputs(usage, stdout);
		return CONFIG_E_EXIT;
	case OPTION_VERSION:
		(void)puts("clove_kernel " CLOVE_VERSION);
		return CONFIG_E_EXIT;
	case OPTION_CONFIG:
		return only_file && text_read(&config->file, optarg)
			       ? complain("--config", optarg, "a path")
			       : 0;
	case '?':
		(void)fputs("clove_kernel: see clove_kernel --help\n", stderr);
		return CONFIG_E_BAD;
	default:
		setting = &settings[option - OPTION_SETTING];
		if (!only_file && setting->read(config, setting->flag ? setting->flag : optarg))
			return complain(setting->option, optarg, setting->wanted);
		return 0;
	}
}

/* @only_file looks for --config, --help and --version, before the weaker sources are read. */
static int command_line_read(struct config *config, int argc, char **argv, bool only_file)
{
	static char program[] = "clove_kernel";
	struct option options[SETTING_COUNT + 4];
	int option;
	int r;

	argv[0] = program; /* for getopt's complaints to begin as ours do */
	options_make(options);
	optind = 1;
	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		r = option_apply(config, option, only_file);
		if (r)
			return r;
	}
	if (optind < argc) {
		(void)fprintf(stderr, "clove_kernel: \"%s\": takes options only, see --help\n",
			      argv[optind]);
		return CONFIG_E_BAD;
	}
	return 0;
}

int config_read(struct config *config, int argc, char **argv)
{
	const char *file = getenv("CLOVE_CONFIG");
	int r;

	r = defaults_read(config);
	if (!r && file && text_read(&config->file, file))
		r = complain("CLOVE_CONFIG", file, "a path");
	if (!r)
		r = command_line_read(config, argc, argv, true);
	if (!r)
		r = file_read(config);
	if (!r)
		r = environment_read(config);
	if (!r)
		r = command_line_read(config, argc, argv, false);
	if (!r && config->socket_mode != 0600 && geteuid() != 0) {
		(void)fputs(
			"clove_kernel: --socket-mode: only a kernel run by root serves other users; leave it at 0600\n",
			stderr);
		r = CONFIG_E_BAD;
	}
	return r;
}

void config_deinit(struct config *config)
{
	free(config->socket_path);
	free(config->data_dir);
	free(config->sdk_dir);
	free(config->cgroup);
	free(config->file);
	*config = (struct config){0};
}
