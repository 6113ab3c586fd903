/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folders of the host that guests mount (virtio-fs). Each has a thread of its own, and for each
 * guest a virtiofsd, which ends with it.
 */
#ifndef MINIVMM_ATTACHED_SHARE_H
#define MINIVMM_ATTACHED_SHARE_H

#include "base/compiler.h"
#include "base/err.h"
#include "vmm/attached/attached.h"

/* A function of the table of kinds. */
int share_attach(struct attachments *attachments, struct err *err) MUST_CHECK;

#endif
