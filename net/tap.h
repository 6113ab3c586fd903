/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A card whose frames go to a tap interface of the host, or a macvtap: the kernel takes and gives
 * them one by one, with what is left to do about checksums and segments in their headers.
 */
#ifndef MINIVMM_NET_TAP_H
#define MINIVMM_NET_TAP_H

#include "base/compiler.h"
#include "base/err.h"
#include "net/net.h"

/* Use the interface `name`; who may, makes it by that. 0, or a negative errno with *err filled. */
int tap_open(const char *name, struct net **ret_net, struct err *err) MUST_CHECK;

/*
 * Use an interface that somebody has opened for us, with IFF_TAP and IFF_NO_PI, and IFF_VNET_HDR if
 * there are to be offloads. Takes the descriptor, on success only. 0, or a negative errno with *err
 * filled.
 */
int tap_open_fd(int fd, struct net **ret_net, struct err *err) MUST_CHECK;

#endif
