/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the host as struct file: regular files and block devices, buffered or direct, locked the
 * way QEMU locks its images.
 */
#ifndef MINIVMM_BASE_FILE_HOST_H
#define MINIVMM_BASE_FILE_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/aio.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/file.h"
#include "base/host_places.h"

/* What a new file asks of its file system, if that knows about it. */
struct file_host_hints {
    bool nocow;           /* no copy-on-write (btrfs) */
    uint32_t extent_size; /* bytes; space is found by multiples of it (XFS); 0: as usual */
};

struct file_host_options {
    bool writable;
    bool direct;    /* O_DIRECT: past the host's page cache */
    bool no_sync;   /* FILE_SYNC does nothing */
    bool threads;   /* let other threads copy what is long, where there are processors for them */
    bool exclusive; /* of file_host_create: nothing has that name yet */
    enum aio_kind aio;
    struct file_host_hints hints;     /* of file_host_create */
    const struct host_places *places; /* where it has to lie, for file_host_open; NULL: anywhere */
};

/*
 * Open the file called `name`. Anything but a regular file or a block device is refused untouched,
 * and so is what lies elsewhere than it may. It is locked by file_lock. 0, or -errno with *err
 * filled.
 */
int file_host_open(const char *name, const struct file_host_options *options,
                   struct file **ret_file, struct err *err) MUST_CHECK;

/*
 * Make an empty file to be filled and then kept or dropped.
 *
 * Where `path` names nothing yet, nor the link that it may be, the file has no name until it is
 * kept (as far as the file system can do that), so nothing is left of it however the process ends.
 * A file that exists is locked and loses its contents; -EAGAIN if it is in use. If it is to be
 * exclusive, whatever has the name already is left alone, also a link that leads nowhere, and of
 * several that make it at the same time one succeeds: -EEXIST here or when it is kept. 0, or -errno
 * with *err filled.
 */
int file_host_create(const char *path, const struct file_host_options *options,
                     struct file **ret_file, struct err *err) MUST_CHECK;

struct stat;

/*
 * What a file is, under whatever name: device and inode, the number of a block device. The same
 * as the id of the struct file.
 */
void file_host_identify(const struct stat *st, uint64_t ret_id[2]);

/*
 * Give the file its name, to which `path` leads, and make that durable; it stays open. What is in
 * it was synced before. 0, or -errno with *err filled.
 */
int file_host_keep(struct file *file, const char *path, struct err *err) MUST_CHECK;

/*
 * Remove a file that could not be completed, also one that existed before, and close it. Links that
 * lead to it stay.
 */
void file_host_drop(struct file *file);

#endif
