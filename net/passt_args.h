/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of passt.
 */
#ifndef MINIVMM_NET_PASST_ARGS_H
#define MINIVMM_NET_PASST_ARGS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/err.h"
#include "net/passt_forward.h"
#include "net/resolvers.h"

/* The largest MTU that passt knows, and its default. */
#define PASST_MTU_MAX 65520u
/* IPv6 needs so much. */
#define PASST_MTU_MIN 1280u

/* How a user describes a network of kind `user`. */
struct passt_options {
    const char *card;            /* whose network it is, in the log: "eth0" */
    const char *const *forwards; /* as passt_forward.h parses them */
    size_t nforwards;
    const char *const *dns; /* addresses of name servers; none: the host's */
    size_t ndns;
    const char *hostname; /* for the guest, by DHCP; NULL: none */
    unsigned mtu;         /* 0: PASST_MTU_MAX */
    bool isolate;         /* the guest does not reach services on the host's loopback addresses */
};

/* Is it right? 0, or -EINVAL with *err filled. */
int passt_options_check(const struct passt_options *options, struct err *err) MUST_CHECK;

/* The descriptor by which passt gets its socket: the first that a helper is given. */
#define PASST_FD "3"

struct passt_args {
    const char **argv; /* NULL at the end */
    struct passt_forward *forwards;
    struct resolvers resolvers;
    char mtu[12];
};

/* Of options that were checked. 0, or -ENOMEM with *err filled. */
int passt_args_make(struct passt_args *args, const struct passt_options *options,
                    struct err *err) MUST_CHECK;
void passt_args_free(struct passt_args *args);

#endif
