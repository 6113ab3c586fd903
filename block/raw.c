/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw images: the file's bytes are the disk's.
 */
#include "block/raw.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "base/log.h"
#include "block/probe.h"
#include "block/space.h"
#include "block/status.h"

struct raw {
    struct block block;
    bool guarded; /* the first sector */

    /*
     * The hole or extent of data that was asked for last; none if extent_end is 0. It is not kept
     * while the image is writable.
     */
    uint64_t extent_off;
    uint64_t extent_end;
    bool extent_hole;
    uint32_t extent_beyond;
};

static struct raw *of_block(struct block *block)
{
    return container_of(block, struct raw, block);
}

/* ---- guests that would turn their disk into another format ----------------------------------- */

/*
 * A guest could write the header of another format into its first sector. When the image is probed
 * again, here or by another tool, that header would make the disk useless, or let the guest read
 * and write the files that it names. Requests are whole sectors, so one that touches the first
 * sector brings all of it.
 */
static int check_first_sector(const struct iovec *iov, unsigned niov, uint8_t *sector)
{
    const char *format;

    iov_to_buf(iov, niov, 0, sector, BLOCK_SECTOR_SIZE);
    format = probe_sector(sector);
    if (!format)
        return 0;
    log_guest(
        LOG_WARN,
        "a write that makes the first sector of a disk look like a %s image was refused: give "
        "format=raw if the guest may do that",
        format);
    return -EPERM;
}

/*
 * The first sector is copied, checked, and written from the copy: the guest can change its memory
 * while the request is in flight.
 */
static int write_first_sector(struct raw *raw, uint64_t len, const struct iovec *iov, unsigned niov)
{
    uint8_t sector[BLOCK_SECTOR_SIZE];
    struct iov_part rest;
    int r;

    r = check_first_sector(iov, niov, sector);
    if (r < 0)
        return r;
    r = file_write(raw->block.file, 0, sector, sizeof(sector));
    if (r < 0 || len == sizeof(sector))
        return r;
    r = iov_part_take(&rest, iov, niov, sizeof(sector), len - sizeof(sector));
    if (r < 0)
        return r;
    r = file_writev(raw->block.file, sizeof(sector), rest.iov, rest.niov);
    iov_part_done(&rest);
    return r;
}

/* ---- holes ----------------------------------------------------------------------------------- */

/* An image that is written may be one that is only read later, or have been one. */
static void forget_extent(struct raw *raw)
{
    raw->extent_off = UINT64_MAX;
}

/* Is there a hole at `off`? *ret_end: where the hole, or the data, ends. */
static bool hole_at(struct raw *raw, uint64_t off, uint64_t *ret_end)
{
    if (off < raw->extent_off || off >= raw->extent_end) {
        raw->extent_hole =
            block_hole_at(raw->block.file, off, &raw->extent_end, &raw->extent_beyond);
        raw->extent_off = off;
        if (raw->block.writable)
            forget_extent(raw);
    }
    *ret_end = raw->extent_end;
    return raw->extent_hole;
}

/*
 * A file may end inside a sector. The rest of that sector reads as zeroes, and the file grows to
 * the sector's end when the sector is written, but no further, even if direct I/O writes more.
 */
static void set_len(struct block *block, uint64_t len)
{
    block->len = align_up(len, BLOCK_SECTOR_SIZE);
    file_limit_len(block->file, block->len);
}

/* ---- operations ------------------------------------------------------------------------------ */

static int raw_read(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                    unsigned niov)
{
    return file_readv(block->file, off, iov, niov);
}

static int raw_write(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                     unsigned niov)
{
    forget_extent(of_block(block));
    if (off == 0 && of_block(block)->guarded)
        return write_first_sector(of_block(block), len, iov, niov);
    return file_writev(block->file, off, iov, niov);
}

static int raw_copy(struct block *block, uint64_t off, uint64_t len, struct file *from,
                    uint64_t from_off)
{
    if (off == 0 && of_block(block)->guarded)
        return -EOPNOTSUPP; /* the first sector has to be checked */
    forget_extent(of_block(block));
    return file_copy(block->file, off, len, from, from_off);
}

static int raw_write_zeroes(struct block *block, uint64_t off, uint64_t len, unsigned flags)
{
    return file_zero(block->file, off, len, (flags & BLOCK_REQ_UNMAP) && block->discard);
}

static int raw_discard(struct block *block, uint64_t off, uint64_t len)
{
    int r = file_zero_fast(block->file, off, len, true);

    return r == -EOPNOTSUPP ? 0 : r; /* a discard is a hint */
}

static int raw_flush(struct block *block)
{
    return file_sync(block->file);
}

static bool raw_is_zero(struct block *block, uint64_t off, uint64_t len)
{
    uint64_t end;

    return hole_at(of_block(block), off, &end) && end - off >= len;
}

static int raw_get_status(struct block *block, uint64_t off, uint64_t len,
                          struct block_status *ret_status)
{
    struct raw *raw = of_block(block);
    uint64_t end;
    bool hole = hole_at(raw, off, &end);

    ret_status->flags = BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_OFFSET |
                        (hole ? BLOCK_STATUS_ZERO : BLOCK_STATUS_DATA);
    ret_status->len = min_u64(len, end - off);
    ret_status->host = off;
    ret_status->beyond = ret_status->len == end - off ? raw->extent_beyond : 0;
    return 0;
}

/* Change the length of a file from `old` to `len`, with preallocation, and make it durable. */
static int change_len(struct file *file, uint64_t old, uint64_t len, enum block_prealloc prealloc)
{
    int r = file_truncate(file, len);

    if (r == 0 && old == 0 && prealloc == BLOCK_PREALLOC_OFF)
        r = block_take_first(file, len);
    if (r == 0 && len > old)
        r = block_take_space(file, old, len - old, prealloc);
    return r < 0 ? r : file_sync(file);
}

/* The file has exactly `len` bytes, as with QEMU; the disk ends with a whole sector. */
static int raw_resize(struct block *block, uint64_t len, enum block_prealloc prealloc,
                      struct err *err)
{
    uint64_t old;
    int r;

    if (prealloc == BLOCK_PREALLOC_METADATA)
        return err_set(err, -EINVAL, "Unsupported preallocation mode: metadata");
    r = file_get_len(block->file, &old);
    if (r < 0)
        return err_set_errno(err, r, "cannot tell the size");
    if (len == old)
        return 0;
    r = change_len(block->file, old, len, prealloc);
    if (r == -ENOTSUP)
        return err_set(err, r, "%s",
                       block->file->part.len != FILE_PART_REST
                           ? "Cannot resize fixed-size raw disks"
                           : "a block device cannot be resized here");
    if (r < 0) {
        if (len > old && file_truncate(block->file, old) < 0)
            err_set_errno(err, r, "cannot resize, and the file may be longer than before");
        else
            err_set_errno(err, r, "cannot resize");
        return r;
    }
    set_len(block, len);
    return 0;
}

static void raw_free(struct block *block)
{
    free(of_block(block));
}

const struct block_driver raw_driver = {
    .name = "raw",
    .read = raw_read,
    .write = raw_write,
    .copy = raw_copy,
    .write_zeroes = raw_write_zeroes,
    .discard = raw_discard,
    .flush = raw_flush,
    .is_zero = raw_is_zero,
    .get_status = raw_get_status,
    .resize = raw_resize,
    .free = raw_free,
};

/* ---- opening --------------------------------------------------------------------------------- */

/* Any file can be a raw image. If the user did not call it raw, it has to look like one. */
static int check_probed(const struct block_source *source, uint64_t len, struct err *err)
{
    if ((source->flags & BLOCK_OPEN_ANY_RAW) || (len > 0 && is_aligned(len, BLOCK_SECTOR_SIZE)))
        return 0;
    return err_set(err, -EINVAL,
                   "%s: not a disk image: %llu bytes, expected a qcow2 image or whole sectors of "
                   "%u bytes (format=raw takes any file)",
                   source->path, (unsigned long long)len, BLOCK_SECTOR_SIZE);
}

int raw_open(const struct block_source *source, struct block **ret_block, struct err *err)
{
    struct raw *raw = calloc(1, sizeof(*raw));
    uint64_t len;
    int r;

    if (!raw)
        return err_set(err, -ENOMEM, "%s: out of memory", source->path);
    r = file_get_len(source->file, &len);
    if (r < 0)
        err_set_errno(err, r, "%s: cannot tell the size", source->path);
    else if (source->guarded)
        r = check_probed(source, len, err);
    if (r < 0) {
        free(raw);
        return r;
    }
    block_init(&raw->block, &raw_driver, source);
    raw->guarded = source->guarded;
    set_len(&raw->block, len);
    *ret_block = &raw->block;
    return 0;
}

/* ---- making ---------------------------------------------------------------------------------- */

int raw_create_check(const struct block_create_options *options, struct err *err)
{
    if (options->backing_file)
        return err_set(err, -ENOTSUP, "%s: Backing file not supported for file format 'raw'",
                       options->path);
    if (options->prealloc == BLOCK_PREALLOC_METADATA)
        return err_set(err, -EINVAL, "%s: Unsupported preallocation mode: metadata", options->path);
    return 0;
}

int raw_create(const struct block_create_options *options, struct file *file, struct err *err)
{
    int r = block_make_room(file, options->len, 0);

    if (r == 0 && options->prealloc == BLOCK_PREALLOC_OFF)
        r = block_take_first(file, options->len);
    if (r == 0)
        r = block_take_space(file, 0, options->len, options->prealloc);
    if (r == 0)
        r = file_sync(file);
    if (r == -EFBIG)
        return block_too_large(options, err);
    return r < 0 ? err_set_errno(err, r, "%s: cannot write", options->path) : 0;
}
