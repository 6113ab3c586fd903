/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets to a path of somebody else's, who may not be there yet, or go and come back.
 */
#ifndef MINIVMM_NET_UNIX_PEER_H
#define MINIVMM_NET_UNIX_PEER_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/loop.h"
#include "net/backoff.h"

/* 0, or -ENAMETOOLONG with *err filled. */
int unix_peer_check_path(const char *path, struct err *err) MUST_CHECK;

/*
 * A socket of `type` (SOCK_STREAM, SOCK_DGRAM) that is connected to `path`, which was checked. It
 * does not block, and so does this not. Returns it, or -errno. A datagram socket has a name of its
 * own, in the abstract namespace, so that it can be answered.
 */
int unix_peer_connect(const char *path, int type) MUST_CHECK;

/* Let as much be under way from this socket as a burst of large frames needs. */
void unix_peer_widen(int fd);

/* The search for a peer. `path` and `retry.expired` are the owner's to set. */
struct unix_search {
    const char *path;
    struct loop_timer retry;
    struct backoff backoff;
    bool told; /* that it fails; once for each time that the peer was lost */
};

void unix_search_succeeds(struct unix_search *search);
void unix_search_fails(struct unix_search *search, int r); /* -errno, for the log */

/* Have `retry` expire, the later the more often that came before. */
void unix_search_later(struct unix_search *search, struct loop *loop);

#endif
