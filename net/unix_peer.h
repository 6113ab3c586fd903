/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets to a path of somebody else's.
 */
#ifndef MINIVMM_NET_UNIX_PEER_H
#define MINIVMM_NET_UNIX_PEER_H

#include "base/compiler.h"
#include "base/err.h"

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

#endif
