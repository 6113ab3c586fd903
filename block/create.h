/*
 * Making images; private to block/.
 */
#ifndef MINIVMM_BLOCK_CREATE_H
#define MINIVMM_BLOCK_CREATE_H

#include "base/file.h"
#include "block/driver.h"
#include "block/image.h"

/* Where files come from: as block_open_in. */
int block_create_in(const struct block_env *env, const struct block_create_options *options,
                    struct err *err) MUST_CHECK;

/* Do the options go together? -errno with *err filled. */
int qcow2_create_check(const struct block_create_options *options, struct err *err) MUST_CHECK;

/*
 * Write an image into an empty file, or a device, and make it durable; `data_file` is empty too, or
 * NULL. The options are checked, and options->len is the size.
 */
int qcow2_create(const struct block_create_options *options, struct file *file,
                 struct file *data_file, struct err *err) MUST_CHECK;

/* -EFBIG and what to say of it. */
int block_create_too_large(const struct block_create_options *options, struct err *err);

/*
 * Give a new file its length, all of it reading as zero. A device must be long enough, and gets its
 * first `clear` bytes zeroed, at least the sector in which the next one who probes it would find
 * the header of an older image.
 */
int block_make_room(struct file *file, uint64_t len, uint64_t clear) MUST_CHECK;

/*
 * Write the beginning of a new file that holds nothing but a disk. Some file systems take any read
 * of a hole, so who finds out by trying how direct I/O has to be aligned would be misled: QEMU does
 * so.
 */
int block_take_first(struct file *file, uint64_t len) MUST_CHECK;

/* Take host space for a range that reads as zero. */
int block_take_space(struct file *file, uint64_t off, uint64_t len,
                     enum block_prealloc prealloc) MUST_CHECK;

#endif
