/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network card of a VM: its back end, its thread, and what guests and the user make of it. The
 * guest finds a device of it, eth0, eth1, … in order.
 */
#ifndef MINIVMM_ATTACHED_NIC_H
#define MINIVMM_ATTACHED_NIC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "devices/virtio/virtio_net.h"
#include "net/mac.h"
#include "vmm/attached/attached.h"

struct nic;

/* A function of the table of kinds. It shows the cards in attachments->nics. */
int nic_attach(struct attachments *attachments, struct err *err) MUST_CHECK;

/* ---- the main thread ------------------------------------------------------------------------- */

/* How it stands now. */
struct nic_info {
    const char *name;  /* "eth0" */
    const char *kind;  /* of its back end, as in net.h */
    const char *label; /* which one */
    struct mac mac;    /* with which a guest finds it */
    uint16_t mtu;      /* what guests are told; 0: nothing */
    bool link_wanted;  /* nic_set_link */
    struct virtio_net_counters counters;
    struct virtio_net_state guest; /* as for a driver that comes, while there is none */
};

void nic_get_info(struct nic *nic, struct nic_info *ret_info);

/* With false the link is down, for this guest and those that come later. */
void nic_set_link(struct nic *nic, bool up);

/* Have the guest tell the network where it is, if it can. */
void nic_announce(struct nic *nic);

#endif
