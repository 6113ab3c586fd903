/*
 * Giving an image another backing file: changing the name and the format in the header.
 *
 *     | header | extensions: backing format, others, feature names, end | ... name ... |   cluster 0
 *     |<------------ sector 0 ------------>|
 *
 *   1. the new name goes where neither the old one nor any extension is
 *      -- barrier --
 *   2. sector 0: place and length of the name, and extensions with the new format. The feature names are
 *      left out if they would reach beyond the sector: then nothing else does
 *      -- barrier --
 *   3. what of them lies behind sector 0
 *      -- barrier --
 *   4. sector 0 with them
 *      -- barrier --
 *
 * So the image has its old backing file or the new one, whenever the power fails. Only where other
 * extensions are so long that they do not fit into sector 0 several sectors change at once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2.h"
#include "block/qcow2_header.h"
#include "vmm/base/bytes.h"

#define SECTOR BLOCK_SECTOR_SIZE

/* More of a header nobody has; qcow2_format.c reads as much. */
#define HEADER_MAX (64u << 10)

struct backing_change {
    struct qcow2 *q;
    const char *name; /* NULL: none */
    const char *format;
    uint64_t room;       /* bytes of cluster 0 that we look at */
    uint8_t *old;        /* they, as they are */
    uint8_t *next;       /* and are to be */
    uint64_t header_len; /* where extensions begin */
    uint64_t ext_end;    /* of the new ones */
    uint64_t short_end;  /* of those without feature names */
    uint64_t name_off;
    uint64_t name_len;
};

/* ---- extensions ------------------------------------------------------------------------------------- */

/* At least its type and length lie inside; the image would not have been opened otherwise. */
static uint32_t ext_type(const uint8_t *ext)
{
    return load_be32(ext);
}

static uint64_t ext_len(const uint8_t *ext)
{
    return 8 + align_up(load_be32(ext + 4), 8);
}

/* Append to the new extensions; -ENOSPC if there is no room, the end's own included. */
static int add_bytes(struct backing_change *c, const uint8_t *ext, uint64_t len)
{
    if (len > c->room - c->ext_end)
        return -ENOSPC;
    memcpy(c->next + c->ext_end, ext, len);
    c->ext_end += len;
    return 0;
}

static int add_format(struct backing_change *c)
{
    uint8_t ext[8 + 16] = {0};
    size_t len = c->format ? strlen(c->format) : 0;

    if (len == 0)
        return 0;
    if (len > sizeof(ext) - 8)
        return -EINVAL;
    store_be32(ext, EXT_BACKING_FORMAT);
    store_be32(ext + 4, (uint32_t)len);
    memcpy(ext + 8, c->format, len);
    return add_bytes(c, ext, 8 + align_up(len, 8));
}

/* Those of the old extensions that are feature names, or those that are none, in their order. */
static int add_old(struct backing_change *c, bool feature_names)
{
    uint64_t at = c->header_len;
    uint64_t end = c->room;
    uint64_t backing_off = load_be64(c->old + HDR_BACKING_OFF);
    int r = 0;

    if (backing_off)
        end = min_u64(end, backing_off);
    while (r == 0 && range_fits(at, 8, end) && ext_type(c->old + at) != EXT_END) {
        const uint8_t *ext = c->old + at;
        uint64_t len = min_u64(ext_len(ext), end - at); /* the last one's padding may be missing */

        if (ext_type(ext) != EXT_BACKING_FORMAT &&
            (ext_type(ext) == EXT_FEATURE_NAMES) == feature_names)
            r = add_bytes(c, ext, len);
        at += ext_len(ext);
    }
    return r;
}

static int add_end(struct backing_change *c)
{
    static const uint8_t end[8];

    return add_bytes(c, end, sizeof(end));
}

static int plan_extensions(struct backing_change *c, bool feature_names)
{
    int r;

    c->ext_end = c->header_len;
    r = add_format(c);
    if (r == 0)
        r = add_old(c, false);
    c->short_end = c->ext_end + 8;
    if (r == 0 && feature_names)
        r = add_old(c, true);
    return r < 0 ? r : add_end(c);
}

/* ---- the name --------------------------------------------------------------------------------------- */

/* Behind the extensions; not over the old name, unless all changes in one sector. */
static int plan_name(struct backing_change *c)
{
    uint64_t old = load_be64(c->old + HDR_BACKING_OFF);
    uint64_t old_end = old + load_be32(c->old + HDR_BACKING_LEN);

    c->name_len = c->name ? strlen(c->name) : 0;
    c->name_off = c->name ? c->ext_end : 0;
    if (c->name_off + c->name_len > SECTOR && c->name_off < old_end &&
        old < c->name_off + c->name_len)
        c->name_off = align_up(old_end, 8);
    return c->name_off + c->name_len > c->room ? -ENOSPC : 0;
}

/* With feature names, if they fit. */
static int plan(struct backing_change *c)
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

/* ---- writing ---------------------------------------------------------------------------------------- */

static int write_durably(struct backing_change *c, const uint8_t *data, uint64_t off, uint64_t end)
{
    int r;

    if (off >= end)
        return 0;
    r = qcow2_meta_write(c->q, off, data + off, end - off);
    return r < 0 ? r : qcow2_barrier(c->q);
}

/* Sector 0 as it is to be, but for the feature names. */
static int write_without_feature_names(struct backing_change *c)
{
    uint8_t sector[SECTOR];

    memcpy(sector, c->next, sizeof(sector));
    memset(sector + c->short_end - 8, 0, sizeof(sector) - (c->short_end - 8));
    return write_durably(c, sector, 0, sizeof(sector));
}

static int write_change(struct backing_change *c)
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

/* ---- the change ------------------------------------------------------------------------------------- */

static int change(struct backing_change *c)
{
    struct qcow2 *q = c->q;
    int r = qcow2_meta_read(q, 0, c->old, c->room);

    if (r < 0)
        return r;
    memcpy(c->next, c->old, c->room);
    c->header_len = q->version < 3 ? HDR_V2_LEN : load_be32(c->old + HDR_HEADER_LEN);
    r = plan(c);
    return r < 0 ? r : write_change(c);
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

int qcow2_change_backing(struct block *block, const char *name, const char *format)
{
    struct qcow2 *q = qcow2_of(block);
    struct backing_change c = {
        .q = q, .name = name, .format = format, .room = min_u64(q->cluster_size, HEADER_MAX)};
    int r;

    /* The data stays as it is, so nothing that is said of it is touched (autoclear bits, bitmaps). */
    if (q->corrupt)
        return -EIO;
    if (name && (strlen(name) >= BLOCK_NAME_MAX || q->raw_data))
        return -EINVAL;
    c.old = malloc(c.room);
    c.next = malloc(c.room);
    r = c.old && c.next ? change(&c) : -ENOMEM;
    free(c.old);
    free(c.next);
    if (r == 0)
        r = replace_text(&block->backing_name, name);
    return r < 0 ? r : replace_text(&block->backing_format, format);
}
