/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tap interface on a bridge of the host, made by QEMU's helper: a program that has the rights for
 * it, and gives them to those that its configuration (/etc/qemu/bridge.conf) names.
 */
#ifndef MINIVMM_NET_BRIDGE_H
#define MINIVMM_NET_BRIDGE_H

#include "base/compiler.h"
#include "base/err.h"
#include "net/net.h"

/*
 * `helper` is the program; NULL: where distributions have it. 0, or a negative errno with *err
 * filled.
 */
int bridge_open(const char *bridge, const char *helper, struct net **ret_net,
                struct err *err) MUST_CHECK;

#endif
