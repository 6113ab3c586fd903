/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes clients that connect to a control socket; see address.h for where that may be. The loop's
 * thread only.
 */
#ifndef MINIVMM_CONTROL_LISTENER_H
#define MINIVMM_CONTROL_LISTENER_H

#include "base/compiler.h"
#include "base/err.h"
#include "base/loop.h"

struct listener;

/* Takes over `fd`, a client's connected socket. 0 or -errno: the client could not be served. */
typedef int (*listener_client)(int fd, void *opaque);

/*
 * Listen. `address` outlives the listener. 0, or a negative errno with *err filled: the address is
 * wrong, in use, or cannot be had.
 */
int listener_new(struct loop *loop, const char *address, listener_client client, void *opaque,
                 struct listener **ret_listener, struct err *err) MUST_CHECK;

/* The same at a unix socket, of whose path every byte counts; messages call it `label`. */
int listener_new_unix(struct loop *loop, const char *path, const char *label,
                      listener_client client, void *opaque, struct listener **ret_listener,
                      struct err *err) MUST_CHECK;

/* Listen no more, and remove the socket. NULL is fine. */
void listener_free(struct listener *listener);

#endif
