/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on whole images (block/image.h): what is common to the formats. A format that does not
 * have an operation is refused here, and so is a change of an image that is open for reading only.
 */
#include "block/image_ops.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/driver.h"

/* ---- what an image says about itself --------------------------------------------------------- */

void block_get_details(const struct block *block, struct block_details *ret_details)
{
    *ret_details = (struct block_details){
        .path = block->path,
        .file_id = block->file->id,
        .data_id = block->data_file ? block->data_file->id : NULL,
        .backing_name = block->backing_name,
        .backing_format = block->backing_format,
        .data_name = block->data_name,
        .data_path = block->data_path,
        .part = block->file->part,
        .backing = block->backing,
    };
    if (block->driver->get_details)
        block->driver->get_details(block, ret_details);
}

int block_get_luks(struct block *block, struct luks *ret_luks, struct err *err)
{
    uint8_t header[LUKS_HEADER_LEN] = {0};
    struct block_details details;
    int r;

    block_get_details(block, &details);
    r = file_read(block->file, details.luks_off, header, sizeof(header));
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot read the LUKS header", block->path);
    if (details.luks_off == 0 || luks_parse(header, ret_luks) < 0)
        return err_set(err, -EINVAL, "%s: no LUKS header (version 1) at offset %llu", block->path,
                       (unsigned long long)details.luks_off);
    return 0;
}

static bool is_file(const struct file *file, const uint64_t id[2])
{
    return file && memcmp(file->id, id, sizeof(file->id)) == 0;
}

bool block_uses_file(const struct block *block, const uint64_t id[2])
{
    for (; block; block = block->backing)
        if (is_file(block->file, id) || is_file(block->data_file, id))
            return true;
    return false;
}

/* ---- beginning a change ---------------------------------------------------------------------- */

static int check_writable(const struct block *block, struct err *err)
{
    assert(block_is_quiet(block));
    return block->writable ? 0 : err_set(err, -EROFS, "the image is open for reading only");
}

/* Flush what was written before: the drivers' operations rely on it. */
static int begin_change(struct block *block, struct err *err)
{
    struct block_req flush = {.op = BLOCK_FLUSH};
    int r = check_writable(block, err);

    if (r < 0)
        return r;
    r = block_execute(block, &flush);
    return r < 0 ? err_set_errno(err, r, "cannot write back the image") : 0;
}

/* ---- bitmaps --------------------------------------------------------------------------------- */

int block_bitmap_list(struct block *block, struct block_bitmap **ret_list, unsigned *ret_n,
                      struct err *err)
{
    int r;

    *ret_list = NULL;
    *ret_n = 0;
    if (!block->driver->list_bitmaps)
        return 0;
    r = block->driver->list_bitmaps(block, ret_list, ret_n);
    return r < 0 ? err_set_errno(err, r, "%s: cannot read the bitmaps", block->path) : 0;
}

void block_bitmap_list_free(struct block_bitmap *list, unsigned n)
{
    for (unsigned i = 0; list && i < n; i++)
        free(list[i].name);
    free(list);
}

int block_bitmap_edit(struct block *block, const struct block_bitmap_edit *edit, struct err *err)
{
    int r;

    if (!block->driver->edit_bitmap && edit->op == BLOCK_BITMAP_ADD)
        return err_set(err, -ENOTSUP, "Cannot store dirty bitmaps in file '%s'", block->path);
    if (!block->driver->edit_bitmap)
        return err_set(err, -ENOENT, "Dirty bitmap '%s' not found", edit->name);
    r = begin_change(block, err);
    return r < 0 ? r : block->driver->edit_bitmap(block, edit, err);
}

/* ---- backing file, length, options ----------------------------------------------------------- */

int block_change_backing(struct block *block, const char *name, const char *format, struct err *err)
{
    int r;

    if (!block->driver->change_backing)
        return err_set(err, -ENOTSUP, "format %s has no backing files", block->driver->name);
    r = block->written ? begin_change(block, err) : check_writable(block, err);
    if (r < 0)
        return r;
    r = block->driver->change_backing(block, name, format);
    return r < 0 ? err_set_errno(err, r, "cannot change the backing file") : 0;
}

static int check_len(const struct block *block, const struct block_resize_options *options,
                     struct err *err)
{
    if (options->len > INT64_MAX - BLOCK_SECTOR_SIZE)
        return err_set(err, -EFBIG, "%llu bytes: the image size is too large",
                       (unsigned long long)options->len);
    if (options->len > block->len)
        return 0;
    if (options->prealloc != BLOCK_PREALLOC_OFF)
        return err_set(err, -EINVAL, "Preallocation can only be used for growing images");
    if (align_up(options->len, BLOCK_SECTOR_SIZE) < block->len && !options->shrink)
        return err_set(err, -EINVAL, "Use the --shrink option to perform a shrink operation.");
    return 0;
}

int block_resize(struct block *block, const struct block_resize_options *options, struct err *err)
{
    int r = check_len(block, options, err);

    if (r == 0)
        r = begin_change(block, err);
    return r < 0 ? r : block->driver->resize(block, options->len, options->prealloc, err);
}

int block_amend(struct block *block, const struct block_amend_options *options, struct err *err)
{
    int r;

    if (!block->driver->amend)
        return err_set(err, -ENOTSUP, "Format driver '%s' does not support option amendment",
                       block->driver->name);
    r = begin_change(block, err);
    return r < 0 ? r : block->driver->amend(block, options, err);
}

/* ---- snapshots ------------------------------------------------------------------------------- */

static int no_snapshots(const struct block *block, struct err *err)
{
    return err_set(err, -ENOTSUP, "%s images have no snapshots", block->driver->name);
}

int block_snapshot_list(struct block *block, struct block_snapshot **ret_list, unsigned *ret_n,
                        struct err *err)
{
    if (!block->driver->list_snapshots)
        return no_snapshots(block, err);
    return block->driver->list_snapshots(block, ret_list, ret_n, err);
}

void block_snapshot_list_free(struct block_snapshot *list, unsigned n)
{
    for (unsigned i = 0; list && i < n; i++) {
        free(list[i].id);
        free(list[i].name);
    }
    free(list);
}

void block_note_snapshots(struct block *block)
{
    if (block->driver->note_snapshots)
        block->driver->note_snapshots(block);
}

int block_snapshot_create(struct block *block, const struct block_snapshot *snapshot,
                          struct err *err)
{
    if (strlen(snapshot->name) > BLOCK_SNAPSHOT_NAME_MAX)
        return err_set(err, -EINVAL, "snapshot name: expected at most %u bytes",
                       BLOCK_SNAPSHOT_NAME_MAX);
    if (!block->driver->create_snapshot)
        return no_snapshots(block, err);
    return block->driver->create_snapshot(block, snapshot, err);
}

int block_snapshot_apply(struct block *block, const char *which, struct err *err)
{
    if (!block->driver->apply_snapshot)
        return no_snapshots(block, err);
    return block->driver->apply_snapshot(block, which, err);
}

int block_snapshot_delete(struct block *block, const char *which, struct err *err)
{
    if (!block->driver->delete_snapshot)
        return no_snapshots(block, err);
    return block->driver->delete_snapshot(block, which, err);
}

int block_snapshot_show(struct block *block, const char *which, struct err *err)
{
    if (!block->driver->show_snapshot)
        return no_snapshots(block, err);
    return block->driver->show_snapshot(block, which, err);
}

int block_vmstate_write(struct block *block, uint64_t off, const void *buf, size_t len)
{
    return block->driver->write_vmstate ? block->driver->write_vmstate(block, off, buf, len)
                                        : -ENOTSUP;
}

int block_vmstate_read(struct block *block, uint64_t off, void *buf, size_t len)
{
    return block->driver->read_vmstate ? block->driver->read_vmstate(block, off, buf, len)
                                       : -ENOTSUP;
}

/* ---- check ----------------------------------------------------------------------------------- */

int block_check(struct block *block, unsigned fix, struct block_check_report *report,
                struct block_check_result *ret_result, struct err *err)
{
    int r;

    assert(block_is_quiet(block));
    if (!block->driver->check)
        return err_set(err, -ENOTSUP, "format %s: there is nothing to check", block->driver->name);
    r = fix ? check_writable(block, err) : 0;
    return r < 0 ? r : block->driver->check(block, fix, report, ret_result, err);
}
