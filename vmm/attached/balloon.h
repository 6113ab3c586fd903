/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The balloon of a VM, where one is wanted: how much memory its guests shall have, and what they
 * say of it. What was asked for holds for the guests that come later, too.
 */
#ifndef MINIVMM_ATTACHED_BALLOON_H
#define MINIVMM_ATTACHED_BALLOON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "devices/virtio/virtio_balloon.h"
#include "vmm/attached/attached.h"

struct balloon;

/* A function of the table of kinds. It shows the balloon in attachments->balloon. */
int balloon_attach(struct attachments *attachments, struct err *err) MUST_CHECK;

/* ---- the main thread ------------------------------------------------------------------------- */

/* Tell of changes, at most once in a second; the last one is always told of. */
void balloon_watch(struct balloon *balloon, void (*changed)(void *opaque), void *opaque);

/* Bytes of RAM that the guest shall have, and has; all of it while there is none. */
void balloon_set_memory(struct balloon *balloon, uint64_t memory);
uint64_t balloon_get_memory(const struct balloon *balloon);

/*
 * What the guest told of its memory last; one that is as old as a second or older is asked for
 * newer figures. False: it has told nothing.
 */
bool balloon_get_stats(struct balloon *balloon, struct virtio_balloon_stats *ret_stats);

/* QEMU's name of a figure: "stat-free-memory". */
const char *balloon_stat_name(unsigned tag);

#endif
