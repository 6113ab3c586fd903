/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rng: a source of random bytes, where one is wanted.
 */
#ifndef MINIVMM_ATTACHED_RNG_H
#define MINIVMM_ATTACHED_RNG_H

#include "base/compiler.h"
#include "base/err.h"
#include "vmm/attached/attached.h"

/* A function of the table of kinds. */
int rng_attach(struct attachments *attachments, struct err *err) MUST_CHECK;

#endif
