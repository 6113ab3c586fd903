/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk of the machine: an open image and the I/O thread that owns it.
 *
 * Disks outlive the guest: a restart of the guest in the same process keeps them open. Main
 * thread only, but for what says otherwise.
 *
 * A disk whose guest is gone is cancelled before its device is stopped, which waits for requests:
 * what a guest asked for last could take hours otherwise. A host that hangs can still make this,
 * and disk_close, wait for ever. ending.c ends the process then, and asks here which disk hung.
 */
#ifndef MINIVMM_DISK_H
#define MINIVMM_DISK_H

#include "base/compiler.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/open_files.h"
#include "block/port.h"
#include "block/throttle.h"
#include "vmm/config/config.h"
#include "vmm/disk_questions.h"
#include "vmm/disk_queue.h"

struct disk;

/*
 * Open the image of disk `index`, start the thread "diskN" and hand the image over to it. `vm`
 * and `main`, the main loop, outlive the disk. The image's files are added to `files`, and refused
 * if they are there already.
 * 0, or a negative errno with *err filled and nothing left open.
 */
int disk_open(const struct config *vm, unsigned index, struct open_files *files, struct loop *main,
              struct disk **ret_disk, struct err *err) MUST_CHECK;

/*
 * The guest is gone: requests in flight end early, and with an error, as do those that still come.
 * What was written so far is flushed when the disk is closed. Any thread; returns at once.
 */
void disk_cancel(struct disk *disk);

/* Another guest comes: requests are carried out again. None is in flight. */
void disk_resume(struct disk *disk);

/*
 * How fast the guest may use the disk, from now on; throttle_limits_check has passed them. Returns
 * at once, whatever the disk is at. 0: `done` is called when they hold, as a question is answered;
 * or -ENOMEM.
 */
int disk_set_limits(struct disk *disk, const struct throttle_limits *limits,
                    struct disk_done done) MUST_CHECK;

/* See disk_questions.h. Open questions are answered when the disk is closed, at the latest. */
void disk_ask(struct disk *disk, struct disk_question *question);

/*
 * Flush and close the image, end the thread. No device uses the disk any more.
 * 0, or a negative errno with *err filled if not everything written is safe; closed in any case.
 */
int disk_close(struct disk *disk, struct err *err) MUST_CHECK;

/* After disk_close. NULL is fine. */
void disk_free(struct disk *disk);

/*
 * What the disk is at, for messages; on any thread, until disk_free. Requests in flight: of the
 * guest, and that which flushes an idle disk.
 */
unsigned disk_in_flight(struct disk *disk);
bool disk_is_closing(struct disk *disk); /* in disk_close: it waits, flushes and unlocks */

/* For its device. */
struct block_port *disk_port(struct disk *disk);

/*
 * A request of the guest waits because of this failure, -errno; 0: none does any more. The first of
 * several is the one to tell.
 */
void disk_set_io_error(struct disk *disk, int error);
int disk_io_error(const struct disk *disk);

const struct config_disk *disk_config(const struct disk *disk);

/* What the guest and clients call it: "vda". */
const char *disk_name(const struct disk *disk);

/*
 * What messages call it: "disk vda (root.qcow2)", after the image that it writes to at present; any
 * thread. The text is valid until disk_free. For its device, where that is found (atomic).
 */
const char *disk_label(const struct disk *disk);
const char *const *disk_label_place(const struct disk *disk);

#endif
