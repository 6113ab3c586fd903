/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A card whose frames are the datagrams of a unix socket, as vfkit and gvproxy have it.
 *
 * The other side made the socket `path`, and learns from the first frame where to answer. Whether
 * it is there turns out when a frame is sent: then the link is down until the socket can be
 * connected to again, which is tried less and less often.
 */
#ifndef MINIVMM_NET_DGRAM_H
#define MINIVMM_NET_DGRAM_H

#include "base/compiler.h"
#include "base/err.h"
#include "net/net.h"

/*
 * That nobody is at `path` yet is no error. `path` is kept until the back end is closed. 0, or a
 * negative errno with *err filled.
 */
int dgram_open(const char *path, struct net **ret_net, struct err *err) MUST_CHECK;

#endif
