/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Names and tables made from wire.def
 */

#include <stdbool.h>
#include <stdint.h>

enum {
#define FLAG(name, bit, doc) WIRE_FLAG_##name = bit,
#include "ipc/wire.def"
};

enum {
#define RIGHT(name, bit, doc) WIRE_RIGHT_##name = bit,
#include "ipc/wire.def"
};

/* Codes of an error reply. Not results of C functions. */
enum wire_error {
	WIRE_OK = 0,
#define ERROR(name, code, retryable, doc) WIRE_##name = code,
#include "ipc/wire.def"
};

enum wire_op {
#define CALL(name, number, right, handler, doc) WIRE_OP_##name = number,
#include "ipc/wire.def"
};

enum {
	WIRE_OP_LIMIT = 0x700, /* every op is below it */
	WIRE_ARGS_MAX = 8,
};

/* Position in the table of calls, dense from 0. */
enum {
#define CALL(name, number, right, handler, doc) WIRE_CALL_##name,
#include "ipc/wire.def"
	WIRE_CALL_COUNT
};

enum wire_type {
	WIRE_TYPE_ANY,
	WIRE_TYPE_BOOL,
	WIRE_TYPE_INT,  /* any integer */
	WIRE_TYPE_UINT, /* an integer >= 0 */
	WIRE_TYPE_FLOAT,
	WIRE_TYPE_NUMBER, /* integer or float */
	WIRE_TYPE_STR,
	WIRE_TYPE_BYTES, /* str or bin */
	WIRE_TYPE_MAP,
	WIRE_TYPE_ARRAY,
	WIRE_TYPE_COMMAND, /* str, bin or array */
};

struct wire_arg {
	const char *name;
	uint8_t type; /* enum wire_type */
	bool optional;
};

struct wire_call {
	const char *name;
	uint16_t op;
	uint32_t right;                          /* WIRE_RIGHT_x */
	struct wire_arg args[WIRE_ARGS_MAX + 1]; /* ends with a NULL name; optional ones last */
};

/* WIRE_CALL_COUNT entries, in order of number. */
extern const struct wire_call wire_calls[];

/* Index into wire_calls[], or -1 when no call has this number. */
int wire_find(uint16_t op);

const char *wire_error_name(enum wire_error code); /* "UNKNOWN" for a code not in the table */
bool wire_error_retryable(enum wire_error code);
const char *wire_type_name(enum wire_type type);
