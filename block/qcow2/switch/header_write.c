/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header is written in steps, so that the image has its old backing file or the new one
 * whenever the power fails:
 *
 *     | header | extensions: backing format, others, feature names, end | ... name ... |  cluster 0
 *     |<------------ sector 0 ------------>|
 *
 *   1. the new name, where neither the old name nor any extension is
 *      -- barrier --
 *   2. sector 0: place and length of the name, and extensions with the new format. Feature names
 *      are left out if the extensions would reach past the sector with them
 *      -- barrier --
 *   3. the part of the feature names past sector 0
 *      -- barrier --
 *   4. sector 0 with the feature names
 *      -- barrier --
 *
 * Only if the other extensions alone do not fit into sector 0, several sectors change at once.
 */
#include "block/qcow2/switch/header_write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/format/header.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/qcow2.h"

#define SECTOR BLOCK_SECTOR_SIZE

struct draft {
    struct qcow2 *q;
    const char *name; /* NULL: none */
    const char *format;
    const char *data_file; /* NULL: the extension stays, or there is none */
    unsigned version;
    const struct qcow2_bitmaps *bitmaps; /* NULL: the extension stays, or there is none */
    const uint8_t *fields; /* NULL: the header's fields stay; else sector 0 with new ones */
    uint64_t room;         /* bytes of cluster 0 that header, extensions and name may take */
    uint8_t *old;          /* these bytes as they are */
    uint8_t *next;         /* these bytes as they are to be */
    uint64_t old_exts;     /* where the old extensions begin */
    uint64_t old_ext_end;
    uint64_t exts;      /* where the new extensions begin */
    uint64_t ext_end;   /* where they end */
    uint64_t short_end; /* where they would end without feature names */
    uint64_t name_off;
    uint64_t name_len;
};

/* ---- extensions ------------------------------------------------------------------------------ */

/* Type and length of an extension lie inside the header, or the image could not be opened. */
static uint32_t ext_type(const uint8_t *ext)
{
    return load_be32(ext);
}

static uint64_t ext_len(const uint8_t *ext)
{
    return 8 + align_up(load_be32(ext + 4), 8);
}

/* Append to the new extensions. -ENOSPC if there is no room. */
static int add_bytes(struct draft *c, const uint8_t *ext, uint64_t len)
{
    if (len > c->room - c->ext_end)
        return -ENOSPC;
    memcpy(c->next + c->ext_end, ext, len);
    c->ext_end += len;
    return 0;
}

static int add_text(struct draft *c, uint32_t type, const char *text)
{
    size_t len = text ? strlen(text) : 0;
    uint64_t whole = 8 + align_up(len, 8);
    uint8_t *ext = c->next + c->ext_end;

    if (len == 0)
        return 0;
    if (len >= BLOCK_NAME_MAX)
        return -EINVAL;
    if (whole > c->room - c->ext_end)
        return -ENOSPC;
    memset(ext, 0, whole);
    store_be32(ext, type);
    store_be32(ext + 4, (uint32_t)len);
    memcpy(ext + 8, text, len); /* NOLINT: bytes with a length */
    c->ext_end += whole;
    return 0;
}

static int add_bitmaps(struct draft *c)
{
    uint8_t ext[8 + EXT_BITMAPS_LEN] = {0};

    if (!c->bitmaps || c->bitmaps->n == 0)
        return 0;
    store_be32(ext, EXT_BITMAPS);
    store_be32(ext + 4, EXT_BITMAPS_LEN);
    store_be32(ext + 8, c->bitmaps->n);
    store_be64(ext + 16, c->bitmaps->directory_len);
    store_be64(ext + 24, c->bitmaps->directory_host);
    return add_bytes(c, ext, sizeof(ext));
}

/* Are feature names taken over? Only version 3 has them; a new one gets those that we know. */
static bool names_stay(const struct draft *c)
{
    return c->version == c->q->version;
}

static int add_feature_names(struct draft *c)
{
    uint8_t ext[8 + QCOW2_FEATURE_NAMES_LEN];

    if (c->version < 3)
        return 0;
    store_be32(ext, EXT_FEATURE_NAMES);
    store_be32(ext + 4, QCOW2_FEATURE_NAMES_LEN);
    qcow2_feature_names(ext + 8);
    return add_bytes(c, ext, sizeof(ext));
}

/* Is an extension taken over as it is? */
static bool stays(const struct draft *c, uint32_t type)
{
    return type != EXT_BACKING_FORMAT && (type != EXT_DATA_FILE || !c->data_file) &&
           (type != EXT_BITMAPS || !c->bitmaps) && (type != EXT_FEATURE_NAMES || names_stay(c));
}

/* Append the old extensions that stay, in their order: the feature names, or all others. */
static int add_old(struct draft *c, bool feature_names)
{
    uint64_t at = c->old_exts;
    uint64_t end = c->room;
    uint64_t backing_off = load_be64(c->old + HDR_BACKING_OFF);
    int r = 0;

    if (backing_off)
        end = min_u64(end, backing_off);
    while (r == 0 && range_fits(at, 8, end) && ext_type(c->old + at) != EXT_END) {
        const uint8_t *ext = c->old + at;
        uint64_t len = min_u64(ext_len(ext), end - at); /* the last one's padding may be missing */

        if (stays(c, ext_type(ext)) && (ext_type(ext) == EXT_FEATURE_NAMES) == feature_names)
            r = add_bytes(c, ext, len);
        at += ext_len(ext);
    }
    c->old_ext_end = at + 8;
    return r;
}

static int add_end(struct draft *c)
{
    static const uint8_t end[8];

    return add_bytes(c, end, sizeof(end));
}

static int plan_extensions(struct draft *c, bool feature_names)
{
    int r;

    c->ext_end = c->exts;
    r = add_text(c, EXT_BACKING_FORMAT, c->format);
    if (r == 0)
        r = add_text(c, EXT_DATA_FILE, c->data_file);
    if (r == 0)
        r = add_bitmaps(c);
    if (r == 0)
        r = add_old(c, false);
    c->short_end = c->ext_end + 8;
    if (r == 0 && feature_names)
        r = names_stay(c) ? add_old(c, true) : add_feature_names(c);
    return r < 0 ? r : add_end(c);
}

/* ---- the name -------------------------------------------------------------------------------- */

/*
 * Place the name after the extensions. If it does not fit into sector 0, which is written at once,
 * place it also after the old extensions and where the old name is not: these have to stay until
 * sector 0 is written.
 */
static int plan_name(struct draft *c)
{
    uint64_t old = load_be64(c->old + HDR_BACKING_OFF);
    uint64_t old_end = old + load_be32(c->old + HDR_BACKING_LEN);

    c->name_len = c->name ? strlen(c->name) : 0;
    c->name_off = c->name ? c->ext_end : 0;
    if (c->name_off + c->name_len > SECTOR) {
        c->name_off = max_u64(c->name_off, align_up(c->old_ext_end, 8));
        if (c->name_off < old_end && old < c->name_off + c->name_len)
            c->name_off = align_up(old_end, 8);
    }
    return c->name_off + c->name_len > c->room ? -ENOSPC : 0;
}

/* Plan extensions and name: with feature names if they fit, else without. */
static int plan(struct draft *c)
{
    int r = plan_extensions(c, true);

    if (r == 0)
        r = plan_name(c);
    if (r == -ENOSPC) {
        r = plan_extensions(c, false);
        if (r == 0)
            r = plan_name(c);
    }
    if (r < 0)
        return r;
    if (c->name)
        memcpy(c->next + c->name_off, c->name, c->name_len);
    store_be64(c->next + HDR_BACKING_OFF, c->name_off);
    store_be32(c->next + HDR_BACKING_LEN, (uint32_t)c->name_len);
    return 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int write_durably(struct draft *c, const uint8_t *data, uint64_t off, uint64_t end)
{
    int r;

    if (off >= end)
        return 0;
    r = qcow2_meta_write(c->q, off, data + off, end - off);
    return r < 0 ? r : qcow2_barrier(c->q);
}

/* Write sector 0 as it is to be, but without feature names. */
static int write_without_feature_names(struct draft *c)
{
    uint8_t sector[SECTOR];

    memcpy(sector, c->next, sizeof(sector));
    memset(sector + c->short_end - 8, 0, sizeof(sector) - (c->short_end - 8));
    return write_durably(c, sector, 0, sizeof(sector));
}

static int write_change(struct draft *c)
{
    uint64_t name_end = c->name_off + c->name_len;
    int r = write_durably(c, c->next, max_u64(c->name_off, SECTOR), name_end);

    if (r < 0)
        return r;
    if (c->ext_end <= SECTOR)
        return write_durably(c, c->next, 0, SECTOR);
    if (c->short_end > SECTOR)
        return write_durably(c, c->next, 0, c->ext_end);
    r = write_without_feature_names(c);
    if (r == 0)
        r = write_durably(c, c->next, SECTOR, c->ext_end);
    return r < 0 ? r : write_durably(c, c->next, 0, SECTOR);
}

/* ---- the change ------------------------------------------------------------------------------ */

/* A header of version 2 ends before the feature bits; one of version 3 gets their defaults. */
static void change_version(struct draft *c)
{
    store_be32(c->next + HDR_VERSION, c->version);
    if (c->version < 3) {
        c->exts = HDR_V2_LEN;
        return;
    }
    c->exts = HDR_LEN;
    memset(c->next + HDR_V2_LEN, 0, HDR_LEN - HDR_V2_LEN);
    store_be32(c->next + HDR_REFCOUNT_ORDER, c->q->refcount_order);
    store_be32(c->next + HDR_HEADER_LEN, HDR_LEN);
}

static int change(struct draft *c)
{
    struct qcow2 *q = c->q;
    int r = qcow2_meta_read(q, 0, c->old, c->room);

    if (r < 0)
        return r;
    memcpy(c->next, c->old, c->room);
    c->old_exts = q->version < 3 ? HDR_V2_LEN : load_be32(c->old + HDR_HEADER_LEN);
    c->exts = c->old_exts;
    if (c->fields)
        memcpy(c->next + HDR_SIZE, c->fields + HDR_SIZE, HDR_HEADER_LEN - HDR_SIZE);
    if (c->version != q->version)
        change_version(c);
    r = plan(c);
    return r < 0 ? r : write_change(c);
}

static int change_header(struct draft *c)
{
    int r;

    if (c->q->corrupt)
        return -EIO;
    c->room = min_u64(c->q->cluster_size, QCOW2_HEADER_MAX);
    c->old = malloc(c->room);
    c->next = malloc(c->room);
    r = c->old && c->next ? change(c) : -ENOMEM;
    free(c->old);
    free(c->next);
    return r;
}

static int replace_text(char **text, const char *with)
{
    char *copy = with ? strdup(with) : NULL;

    if (with && !copy)
        return -ENOMEM;
    free(*text);
    *text = copy;
    return 0;
}

/* The guest's data does not change, so autoclear bits and bitmaps stay as they are. */
int qcow2_change_backing(struct block *block, const char *name, const char *format)
{
    struct qcow2 *q = qcow2_of(block);
    struct draft draft = {.q = q, .name = name, .format = format, .version = q->version};
    int r;

    if (name && (strlen(name) >= BLOCK_NAME_MAX || q->raw_data))
        return -EINVAL;
    r = change_header(&draft);
    if (r == 0)
        r = replace_text(&block->backing_name, name);
    return r < 0 ? r : replace_text(&block->backing_format, format);
}

int qcow2_change_version(struct qcow2 *q, unsigned version)
{
    struct draft draft = {
        .q = q,
        .name = q->block.backing_name,
        .format = q->block.backing_format,
        .version = version,
    };
    int r = change_header(&draft);

    if (r < 0)
        return r;
    q->version = version;
    q->incompatible = 0;
    q->autoclear = 0;
    q->lazy = false;
    return 0;
}

int qcow2_change_data_file(struct qcow2 *q, const char *name)
{
    struct draft draft = {
        .q = q,
        .name = q->block.backing_name,
        .format = q->block.backing_format,
        .data_file = name,
        .version = q->version,
    };
    int r = change_header(&draft);

    return r < 0 ? r : replace_text(&q->block.data_name, name);
}

int qcow2_change_bitmaps(struct qcow2 *q, const uint8_t *hdr, const struct qcow2_bitmaps *bitmaps)
{
    struct draft draft = {
        .q = q,
        .name = q->block.backing_name,
        .format = q->block.backing_format,
        .version = q->version,
        .bitmaps = bitmaps,
        .fields = hdr,
    };

    return change_header(&draft);
}
