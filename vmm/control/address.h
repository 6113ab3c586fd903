/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where clients connect to a control socket: `unix:PATH[,server]` or `tcp:127.0.0.1:PORT`.
 *
 * Only the owner of the process can connect to a unix socket (mode 0600). TCP has no such check, so
 * it is for this machine alone: an address that others could reach is refused.
 */
#ifndef MINIVMM_CONTROL_ADDRESS_H
#define MINIVMM_CONTROL_ADDRESS_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"

struct address {
    const char *path; /* of a unix socket, in the text that was parsed; NULL: TCP */
    size_t path_len;
    uint16_t port; /* TCP on the loopback address */
};

/* 0, or -EINVAL with *err filled: the text and what was expected. */
int address_parse(const char *text, struct address *ret_address, struct err *err) MUST_CHECK;

#endif
