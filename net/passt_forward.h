/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports of the host that lead to the guest: [tcp|udp:][ADDR:]HOST:GUEST, as people write them.
 *
 * Without an address only the host itself can connect, by 127.0.0.1; with `*` everybody can. IPv6
 * addresses are in brackets.
 */
#ifndef MINIVMM_NET_PASST_FORWARD_H
#define MINIVMM_NET_PASST_FORWARD_H

#include <netinet/in.h>
#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"

#define PASST_FORWARD_EXPECTED "[tcp:|udp:][ADDRESS:]HOST-PORT:GUEST-PORT, such as 2222:22"

/* Room for an address, two port numbers, what is between them, and the end. */
#define PASST_FORWARD_ARG_MAX (INET6_ADDRSTRLEN + 16)

struct passt_forward {
    bool is_udp;
    char arg[PASST_FORWARD_ARG_MAX]; /* what passt's options -t and -u take */
};

/* 0, or -EINVAL with *err filled. */
int passt_forward_parse(const char *text, struct passt_forward *ret_forward,
                        struct err *err) MUST_CHECK;

#endif
