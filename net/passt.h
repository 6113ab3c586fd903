/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A card on the network of the user who started the VM, without any rights: passt translates its
 * frames into sockets of an ordinary process.
 *
 * passt is started for the card, on a socket pair, and ends with it, for it ends when our side is
 * closed. If it ends earlier, the link is down, and it is started again, less and less often.
 */
#ifndef MINIVMM_NET_PASST_H
#define MINIVMM_NET_PASST_H

#include "base/compiler.h"
#include "base/err.h"
#include "net/net.h"
#include "net/passt_args.h"

/*
 * Start passt, with options whose texts are kept until the back end is closed; `wait_ready` tells
 * whether it works. 0, or a negative errno with *err filled.
 */
int passt_open(const struct passt_options *options, struct net **ret_net,
               struct err *err) MUST_CHECK;

#endif
