/* SPDX-License-Identifier: MIT */

#include "ipc/wire.h"

#include <stddef.h>

#define OPTIONAL true
#define REQUIRED false

const struct wire_call wire_calls[] = {
#define CALL(call, number, needs, handler, doc) \
	[WIRE_CALL_##call] = {.name = #call, .op = number, .right = WIRE_RIGHT_##needs, .args = {
#define ARG(arg, kind, presence, doc) \
	{.name = #arg, .type = WIRE_TYPE_##kind, .optional = presence},
#define END_CALL             \
	{                    \
		.name = NULL \
	}                    \
	}                    \
	}                    \
	,
#include "ipc/wire.def"
};

_Static_assert(sizeof(wire_calls) / sizeof(wire_calls[0]) == WIRE_CALL_COUNT, "one entry a call");

/* 1 + index into wire_calls[]; 0 for a number without a call. One cache line covers 64 numbers. */
static const uint8_t index_of[WIRE_OP_LIMIT] = {
#define CALL(call, number, needs, handler, doc) [number] = WIRE_CALL_##call + 1,
#include "ipc/wire.def"
};

_Static_assert(WIRE_CALL_COUNT < UINT8_MAX, "an index and the empty mark fit a byte");

int wire_find(uint16_t op)
{
	return op < WIRE_OP_LIMIT ? index_of[op] - 1 : -1;
}

const char *wire_error_name(enum wire_error code)
{
	switch (code) {
	case WIRE_OK:
		return "OK";
#define ERROR(error, code, retryable, doc) \
	case WIRE_##error:                 \
		return #error;
#include "ipc/wire.def"
	}
	return "UNKNOWN";
}

bool wire_error_retryable(enum wire_error code)
{
	switch (code) {
	case WIRE_OK:
		return false;
#define ERROR(error, code, retryable, doc) \
	case WIRE_##error:                 \
		return retryable;
#include "ipc/wire.def"
	}
	return false;
}

const char *wire_type_name(enum wire_type type)
{
	static const char *const names[] = {
		[WIRE_TYPE_ANY] = "any value",
		[WIRE_TYPE_BOOL] = "a boolean",
		[WIRE_TYPE_INT] = "an integer",
		[WIRE_TYPE_UINT] = "an integer of 0 or more",
		[WIRE_TYPE_FLOAT] = "a float",
		[WIRE_TYPE_NUMBER] = "a number",
		[WIRE_TYPE_STR] = "a string",
		[WIRE_TYPE_BYTES] = "a string or bytes",
		[WIRE_TYPE_MAP] = "a map",
		[WIRE_TYPE_ARRAY] = "an array",
		[WIRE_TYPE_COMMAND] = "a string or an array of strings",
	};

	return names[type];
}
