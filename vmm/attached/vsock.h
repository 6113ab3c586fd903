/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock: streams between programs of the guest and of the host, where they are wanted.
 */
#ifndef MINIVMM_ATTACHED_VSOCK_H
#define MINIVMM_ATTACHED_VSOCK_H

#include "base/compiler.h"
#include "base/err.h"
#include "devices/virtio/vsock_host.h"
#include "vmm/attached/attached.h"

struct vsock;

/* A function of the table of kinds. */
int vsock_attach(struct attachments *attachments, struct err *err) MUST_CHECK;

/* What has moved so far, of all guests. */
void vsock_get_counters(const struct vsock *vsock, struct vsock_counters *ret_counters);

#endif
