/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Back ends by what the user asks for.
 */
#ifndef MINIVMM_NET_OPEN_H
#define MINIVMM_NET_OPEN_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "net/net.h"
#include "net/passt_args.h"

enum net_kind {
    NET_NONE,
    NET_USER,
    NET_TAP,
    NET_TAP_FD,
    NET_BRIDGE,
    NET_UNIX,
    NET_UNIX_DGRAM,
};

/* Texts are kept until the back end is closed. */
struct net_options {
    enum net_kind kind;
    const char *place;         /* of NET_TAP and NET_BRIDGE, an interface; of NET_UNIX*, a path */
    int fd;                    /* of NET_TAP_FD */
    bool listens;              /* of NET_UNIX: the other side connects */
    bool vhost;                /* of NET_TAP*, NET_BRIDGE: it shall have a tap_fd (net.h) */
    const char *bridge_helper; /* of NET_BRIDGE; NULL: where distributions have it */
    struct passt_options user; /* of NET_USER; its `mtu` is that of all kinds, 0: their own */
};

#define NET_KIND_EXPECTED                                                                          \
    "none, user, tap:NAME, fd:NUMBER, bridge:NAME, unix:PATH or unix-dgram:PATH"

/*
 * Set kind, place and fd as a text tells, which is in the form above, or has '=' for ':'; `place`
 * is a part of it. 0, or -EINVAL with *err filled.
 */
int net_options_set_kind(struct net_options *options, const char *text, struct err *err) MUST_CHECK;

/* Are they right, and do they go together? 0, or -EINVAL with *err filled. */
int net_options_check(const struct net_options *options, struct err *err) MUST_CHECK;

/*
 * Open one, of options that were checked and are not NET_NONE. Its wait_ready tells whether it
 * works. 0, or a negative errno with *err filled.
 */
int net_open(const struct net_options *options, struct net **ret_net, struct err *err) MUST_CHECK;

#endif
