/* SPDX-License-Identifier: MIT */

/*
 * The directory of an interpreter DIR/bin/python is DIR: its library lies there. That is not so when DIR is
 * the home of the user, or holds it, or is as general as /opt: then it is only what the
 * interpreter lies in, and when that is too much as well, the user must say what to show.
 *
 * Paths are taken as they are written: inside, every directory shown is a real one at that very path.
 */

#include "core/interpreter.h"

#include <stdlib.h>
#include <string.h>

enum {
	HOPS_MAX = 16,
	DEPTH_MIN = 2, /* of a directory that is shown: /opt/python, not /opt */
};

static bool lies_in(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && (path[n] == '\0' || path[n] == '/');
}

/* What every box has, or has of its own. */
static bool is_in_box(const char *path)
{
	static const char *const dirs[] = {"/usr",   "/bin",    "/sbin",      "/lib",   "/lib32",
					   "/lib64", "/libx32", "/workspace", "/agent", "/clove"};

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (lies_in(path, dirs[i]))
			return true;
	return false;
}

static bool is_shown(const struct interpreter_search *search, const char *path)
{
	for (size_t v = 0; v < 2; v++)
		for (size_t i = 0; search->covered[v] && i < search->covered[v]->count; i++)
			if (lies_in(path, search->covered[v]->items[i]))
				return true;
	for (size_t i = 0; i < search->prefixes.count; i++)
		if (lies_in(path, search->prefixes.items[i]))
			return true;
	return is_in_box(path);
}

static bool may_be_shown(const struct interpreter_search *search, const char *dir)
{
	unsigned depth = 0;

	for (const char *p = dir; *p; p++)
		depth += *p == '/' && p[1];
	return depth >= DEPTH_MIN && !lies_in(search->home, dir);
}

/* Cuts the last part off @path. */
static void cut(char *path)
{
	char *slash = strrchr(path, '/');

	slash[slash == path] = '\0';
}

/* Without ".", ".." and double slashes. False when it is too long or not absolute. */
static bool normalise(const char *path, char ret_path[LIMIT_PATH_BYTES + 1])
{
	size_t len = 0;

	if (*path != '/')
		return false;
	while (*path) {
		size_t n;

		path += strspn(path, "/");
		n = strcspn(path, "/");
		if (n == 2 && path[0] == '.' && path[1] == '.') {
			while (len && ret_path[--len] != '/')
				;
		} else if (n && !(n == 1 && *path == '.')) {
			if (len + n + 1 > LIMIT_PATH_BYTES)
				return false;
			ret_path[len++] = '/';
			memcpy(ret_path + len, path, n);
			len += n;
		}
		path += n;
	}
	if (!len)
		ret_path[len++] = '/';
	ret_path[len] = '\0';
	return true;
}

static enum wire_error too_long(const struct interpreter_search *search, struct fault *fault)
{
	return fault_set(fault, WIRE_INVALID_ARGUMENT,
			 "interpreter %.80s: its links lead too far or nowhere", search->name);
}

/* Adds the directory of the interpreter @path. @ret_prefix is it, or "" when it is not that of a bin/. */
static enum wire_error show(struct interpreter_search *search, const char *path,
			    char ret_prefix[LIMIT_PATH_BYTES + 1], struct fault *fault)
{
	char dir[LIMIT_PATH_BYTES + 1];
	const char *last;

	*ret_prefix = '\0';
	(void)strcpy(dir, path);
	cut(dir);
	last = strrchr(dir, '/') + 1;
	if (!strcmp(last, "bin")) {
		(void)strcpy(ret_prefix, dir);
		cut(ret_prefix);
		if (may_be_shown(search, ret_prefix))
			(void)strcpy(dir, ret_prefix);
	}
	if (is_shown(search, path))
		return WIRE_OK;
	if (!may_be_shown(search, dir))
		return fault_set(
			fault, WIRE_INVALID_ARGUMENT,
			"interpreter %.80s: its directory %.40s is too much to show to an agent; name what it needs in ro",
			search->name, dir);
	return strv_push(&search->prefixes, strdup(dir)) ? WIRE_OK : bag_no_memory(fault);
}

/* The search has come to search->path. */
static enum wire_error arrive(struct interpreter_search *search, struct fault *fault)
{
	char prefix[LIMIT_PATH_BYTES + 1];
	enum wire_error code;

	*search->config = '\0';
	if (is_in_box(search->path)) {
		*search->path = '\0';
		return WIRE_OK;
	}
	code = show(search, search->path, prefix, fault);
	if (!code && *prefix && strlen(prefix) + sizeof("/pyvenv.cfg") <= sizeof(search->config))
		(void)stpcpy(stpcpy(search->config, prefix), "/pyvenv.cfg");
	return code;
}

enum wire_error interpreter_begin(struct interpreter_search *search, struct fault *fault)
{
	if (!normalise(search->name, search->path))
		return too_long(search, fault);
	return arrive(search, fault);
}

enum wire_error interpreter_configured(struct interpreter_search *search, const char *text,
				       size_t len, struct fault *fault)
{
	const char *end = text + len;
	char named[LIMIT_PATH_BYTES + 1], base[LIMIT_PATH_BYTES + 1], prefix[LIMIT_PATH_BYTES + 1];

	*search->config = '\0';
	for (const char *line = text; text && line < end;) {
		const char *next = memchr(line, '\n', (size_t)(end - line));
		const char *stop = next ? next : end;
		const char *equals = memchr(line, '=', (size_t)(stop - line));

		if (equals && equals - line >= 4 && !memcmp(line, "home", 4) &&
		    strspn(line + 4, " \t") == (size_t)(equals - line - 4)) {
			for (equals++; equals < stop && (*equals == ' ' || *equals == '\t');)
				equals++;
			while (stop > equals && (stop[-1] == ' ' || stop[-1] == '\r'))
				stop--;
			if (stop - equals > LIMIT_PATH_BYTES - 8)
				return too_long(search, fault);
			memcpy(named, equals, (size_t)(stop - equals));
			(void)strcpy(named + (stop - equals), "/python");
			if (!normalise(named, base))
				return too_long(search, fault);
			return is_in_box(base) ? WIRE_OK : show(search, base, prefix, fault);
		}
		line = next ? next + 1 : end;
	}
	return WIRE_OK;
}

enum wire_error interpreter_linked(struct interpreter_search *search, const char *target,
				   size_t len, struct fault *fault)
{
	char joined[2 * (LIMIT_PATH_BYTES + 1)];
	size_t at = 0;

	if (!target) {
		*search->path = '\0';
		return WIRE_OK;
	}
	if (++search->hops > HOPS_MAX || !len || len > LIMIT_PATH_BYTES || memchr(target, 0, len))
		return too_long(search, fault);
	if (*target != '/') {
		cut(search->path);
		at = strlen(search->path);
		memcpy(joined, search->path, at);
		joined[at++] = '/';
	}
	memcpy(joined + at, target, len);
	joined[at + len] = '\0';
	if (!normalise(joined, search->path))
		return too_long(search, fault);
	return arrive(search, fault);
}

void interpreter_deinit(struct interpreter_search *search)
{
	strv_deinit(&search->prefixes);
}
