/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A card whose frames go through a unix stream socket, framed as stream_wire.h says: to QEMU
 * (-netdev stream), socket_vmnet, a switch, or another VM of ours.
 *
 * One side listens, the other connects. There is one peer at a time; others wait until it is gone.
 * While there is none, the link is down. Who connects tries again, less and less often.
 */
#ifndef MINIVMM_NET_UNIX_STREAM_H
#define MINIVMM_NET_UNIX_STREAM_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "net/net.h"

/*
 * That nobody listens at `path` yet is no error. `path` is kept until the back end is closed. 0, or
 * a negative errno with *err filled.
 */
int unix_stream_open(const char *path, bool listens, struct net **ret_net,
                     struct err *err) MUST_CHECK;

#endif
