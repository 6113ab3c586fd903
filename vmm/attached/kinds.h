/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kinds of things that can be attached to a VM.
 */
#ifndef MINIVMM_ATTACHED_KINDS_H
#define MINIVMM_ATTACHED_KINDS_H

#include "base/compiler.h"
#include "base/err.h"
#include "vmm/attached/attached.h"

/*
 * Attach what the configuration wants. 0, or a negative errno with *err filled: attachments_close
 * frees what was attached before.
 */
int kinds_attach(struct attachments *attachments, struct err *err) MUST_CHECK;

#endif
