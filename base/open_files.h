/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that the VM is made of: kernel, initrds, configuration file, and the disks with all
 * their backing and data files.
 *
 * Files are told apart by what they are, not by name: a hard link, a symbolic link and /dev/fd/3
 * are the same file. Two questions are answered here: may the VM use this file as well (given
 * twice, and one of the two writes), and may it print into that one?
 *
 * Mostly set-up. While the guest runs, outputs that are made then ask as well, and disks get other
 * images. Any thread.
 */
#ifndef MINIVMM_BASE_OPEN_FILES_H
#define MINIVMM_BASE_OPEN_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"

struct open_file;

/* All zero: none yet. */
struct open_files {
    struct open_file *list;
    size_t n;
};

void open_files_done(struct open_files *files);

/* How the VM uses a file. */
struct open_file_use {
    const char *path;
    bool writable;
    char role[64]; /* "the kernel", "disk vda", … */
};

/*
 * Note that the file `id` (file_host_identify) is used, and how. -EBUSY with *err filled if it is
 * used already, unless both uses only read it.
 */
int open_files_add(struct open_files *files, const uint64_t id[2], const struct open_file_use *use,
                   struct err *err) MUST_CHECK;

/* The same for a file behind a descriptor, and for one that was read and closed again. */
int open_files_add_fd(struct open_files *files, int fd, const struct open_file_use *use,
                      struct err *err) MUST_CHECK;
int open_files_add_path(struct open_files *files, const struct open_file_use *use,
                        struct err *err) MUST_CHECK;

/* The file `id`, which was added, is used in another way from now on; or not any more. */
void open_files_change(struct open_files *files, const uint64_t id[2],
                       const struct open_file_use *use);
void open_files_remove(struct open_files *files, const uint64_t id[2]);

/*
 * Refuse a file that is to be written, as output of the VM, if it is one of those. -EBUSY with *err
 * filled. By descriptor: for what was opened, and not yet written or truncated. By path: to tell
 * the user early; the file may become another one meanwhile. A path that names nothing is fine.
 */
int open_files_check_fd(const struct open_files *files, int fd, const char *name,
                        struct err *err) MUST_CHECK;
int open_files_check_path(const struct open_files *files, const char *path,
                          struct err *err) MUST_CHECK;

/*
 * Open a file that the VM prints to, empty: a new one is its owner's alone, an existing one keeps
 * its mode. None of the VM's own files is emptied, even if somebody swaps names meanwhile, and no
 * symbolic link is followed that another user may have left where all may write. Neither opening
 * nor writing waits. 0, or a negative errno with *err filled.
 */
int open_files_open_output(const struct open_files *files, const char *path, int *ret_fd,
                           struct err *err) MUST_CHECK;

#endif
