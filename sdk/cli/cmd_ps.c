/* SPDX-License-Identifier: MIT */

/*
 * LIST answers in pages: the id of the last agent of one asks for the next, and a page that is not full is
 * the last.
 */

#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>

#include "ipc/frame.h"
#include "ipc/pack.h"
#include "sdk/cli/complain.h"
#include "sdk/cli/output.h"
#include "sdk/cli/put.h"
#include "sdk/cli/session.h"
#include "sdk/cli/status.h"
#include "sdk/cli/table.h"

enum {
	PAGES_MAX = 64, /* twice what a kernel has room for: one that lists without end is none */
};

static struct ps_options {
	bool all, quiet;
	unsigned format;
} options;

static const struct flag flags[] = {
	{"all", 'a', FLAG_SWITCH, offsetof(struct ps_options, all), NULL,
	 "also the clients that are connected"},
	{"quiet", 'q', FLAG_SWITCH, offsetof(struct ps_options, quiet), NULL, "only ids"},
	{"format", 0, FLAG_CHOICE, offsetof(struct ps_options, format), OUTPUT_FORMATS,
	 "for people or for programs (table)"},
	{0},
};

/* ---- one agent ---- */

static void add_number(struct table *table, uint64_t number)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%" PRIu64, number);
	table_add_text(table, text);
}

/* "3d04h", "2h05m", "1m02s", "7s" */
static void add_age(struct table *table, uint64_t age_ms)
{
	static const struct {
		uint64_t seconds, part;
		char unit, part_unit;
	} scales[] = {{86400, 3600, 'd', 'h'}, {3600, 60, 'h', 'm'}, {60, 1, 'm', 's'}};
	uint64_t age_s = age_ms / 1000;
	char text[48];
	size_t i = 0;

	while (i < sizeof(scales) / sizeof(scales[0]) && age_s < scales[i].seconds)
		i++;
	if (i < sizeof(scales) / sizeof(scales[0]))
		(void)snprintf(text, sizeof(text), "%" PRIu64 "%c%02" PRIu64 "%c",
			       age_s / scales[i].seconds, scales[i].unit,
			       age_s % scales[i].seconds / scales[i].part, scales[i].part_unit);
	else
		(void)snprintf(text, sizeof(text), "%" PRIu64 "s", age_s);
	table_add_text(table, text);
}

static void add_owner(struct table *table, uint64_t uid)
{
	static uint64_t known_uid = UINT64_MAX;
	static const struct passwd *known;

	/* Mostly all are one user's. */
	if (uid != known_uid)
		known = uid <= UINT32_MAX ? getpwuid((uid_t)uid) : NULL;
	known_uid = uid;
	if (known)
		table_add_text(table, known->pw_name);
	else
		add_number(table, uid);
}

static int add_word(struct table *table, struct cursor agent, const char *key)
{
	const uint8_t *word;
	uint32_t len;
	int r = clove_map_bytes(agent, key, &word, &len);

	if (!r)
		table_add(table, word, len);
	return r;
}

static const char *const titles[] = {"ID",     "NAME",    "STATE",     "PID",      "OWNER",
				     "UPTIME", "PROFILE", "SANDBOXED", "RESTARTS", "KIND"};

static int add_agent(struct table *table, struct cursor agent)
{
	uint64_t id, pid, uid, uptime_ms, incarnation;
	bool sandboxed;

	if (clove_map_uint(agent, "id", &id) || clove_map_uint(agent, "pid", &pid) ||
	    clove_map_uint(agent, "uid", &uid) || clove_map_uint(agent, "uptime_ms", &uptime_ms) ||
	    clove_map_uint(agent, "incarnation", &incarnation) ||
	    clove_map_bool(agent, "sandboxed", &sandboxed))
		return CLOVE_E_BROKEN;
	add_number(table, id);
	if (add_word(table, agent, "name") || add_word(table, agent, "state"))
		return CLOVE_E_BROKEN;
	if (pid)
		add_number(table, pid);
	else
		table_add_text(table, "");
	add_owner(table, uid);
	add_age(table, uptime_ms);
	if (add_word(table, agent, "profile"))
		return CLOVE_E_BROKEN;
	table_add_text(table, sandboxed ? "yes" : "no");
	add_number(table, incarnation ? incarnation - 1 : 0);
	return options.all ? add_word(table, agent, "kind") : 0;
}

/* ---- pages ---- */

struct listing {
	struct table table;
	struct output_list list;
	struct buf ids;
	uint64_t last_id;
};

static void listing_deinit(struct listing *listing)
{
	table_deinit(&listing->table);
	output_list_deinit(&listing->list);
	buf_deinit(&listing->ids);
}

static void listing_init(struct listing *listing)
{
	size_t count = sizeof(titles) / sizeof(titles[0]);

	*listing = (struct listing){.table.columns = options.all ? count : count - 1};
	for (size_t i = 0; i < listing->table.columns; i++)
		table_add_text(&listing->table, titles[i]);
}

static int listing_add(struct listing *listing, struct cursor agent)
{
	char text[24];

	if (clove_map_uint(agent, "id", &listing->last_id))
		return CLOVE_E_BROKEN;
	if (options.format == OUTPUT_JSON)
		return output_list_add(&listing->list, agent);
	if (!options.quiet)
		return add_agent(&listing->table, agent);
	(void)snprintf(text, sizeof(text), "%" PRIu64 "\n", listing->last_id);
	put_text(&listing->ids, text);
	return 0;
}

static int page_read(struct listing *listing, struct cursor page, uint32_t *ret_count)
{
	uint32_t count;

	if (cursor_read_array(&page, &count))
		return CLOVE_E_BROKEN;
	for (uint32_t i = 0; i < count; i++) {
		struct cursor agent = page;

		if (cursor_skip(&page))
			return CLOVE_E_BROKEN;
		agent.end = page.pos;
		if (listing_add(listing, agent))
			return CLOVE_E_BROKEN;
	}
	*ret_count = count;
	return 0;
}

static int page_ask(const struct settings *settings, struct clove *clove, bool first,
		    uint64_t after, struct clove_frame *ret_frame)
{
	CLEANUP(buf_deinit) struct buf args = {0};
	msgpack_packer pk;

	msgpack_packer_init(&pk, &args, put_packed);
	pack_array(&pk, first ? 1 : 2);
	pack_bool(&pk, options.all);
	if (!first)
		pack_uint(&pk, after);
	return session_call(settings, clove, WIRE_OP_LIST, &args, ret_frame);
}

static int listing_read(const struct settings *settings, struct listing *listing)
{
	CLEANUP(clove_closep) struct clove *clove = NULL;
	struct clove_frame frame;
	uint32_t count = FRAME_LIST_MAX;

	if (session_open(settings, &clove))
		return SESSION_E_FAILED;
	for (unsigned pages = 0; count >= FRAME_LIST_MAX; pages++) {
		if (page_ask(settings, clove, !pages, listing->last_id, &frame))
			return SESSION_E_FAILED;
		if (pages == PAGES_MAX || page_read(listing, clove_body(&frame), &count)) {
			session_not_understood();
			return SESSION_E_FAILED;
		}
	}
	return 0;
}

static int run(const struct settings *settings, char **operands, int count)
{
	CLEANUP(listing_deinit) struct listing listing;

	(void)operands;
	(void)count;
	listing_init(&listing);
	if (options.quiet && options.format == OUTPUT_JSON) {
		complain("--quiet prints ids, --format json all there is: choose one");
		return STATUS_USAGE;
	}
	/* All or nothing: half a list looks like a whole one. */
	if (listing_read(settings, &listing))
		return STATUS_FAILED;
	if (options.format == OUTPUT_JSON)
		output_list_print(&listing.list);
	else if (options.quiet)
		output_print(&listing.ids);
	else
		table_print(&listing.table);
	return STATUS_OK;
}

const struct command command_ps = {
	.name = "ps",
	.summary = "List agents",
	.text = "Those that live, or wait for a restart; with --all also who is connected. RESTARTS are those\n"
		"since clove run.\n",
	.examples = "  clove ps\n"
		    "  clove ps --all --format json\n",
	.flags = flags,
	.options = &options,
	.run = run,
};
