/* SPDX-License-Identifier: MIT */
#pragma once

/* Shared by the rules of a spec (spec.c) and its form on the wire (spec_wire.c). */

#include "sandbox/spec.h"

/* SPEC_E_REFUSED, with the words. */
int spec_refuse(struct spec_reason *reterr_reason, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
