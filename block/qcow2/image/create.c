/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In a new image all metadata is at the front, and preallocated data after it in the order of the
 * disk:
 *
 *     | header | refcount table | refcount blocks | L1 table | L2 tables ... | data ... |
 *
 * So all L2 tables are written in one sequential go, and reading the disk from end to end reads the
 * file from end to end.
 */
#include "block/qcow2/image/create.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/format/header.h"
#include "block/qcow2/format/refblock.h"
#include "block/qcow2/qcow2.h"
#include "block/space.h"

/* The most that header, extensions and names need, with any options. */
#define HEADER_ROOM 4096u

/*
 * The feature name table is optional, and large for a small cluster. Like QEMU, we write it only
 * where clusters have at least this size.
 */
#define FEATURE_NAMES_CLUSTER_MIN 8192u

/* Tables are written in pieces of this length, which is whole clusters of any size. */
#define PIECE (2u << 20)

#define EXTL2_CLUSTER_MIN (16u << 10)

/* Parameters with their defaults filled in, and where everything goes: clusters in the file. */
struct layout {
    unsigned version;
    unsigned cluster_bits;
    unsigned refcount_order;
    unsigned l2_entry_bits;
    uint64_t reftable;
    uint64_t reftable_n; /* clusters */
    uint64_t refblocks;
    uint64_t refblocks_n;
    uint64_t l1;
    uint64_t l1_n; /* entries */
    uint64_t l2;
    uint64_t l2_n;
    uint64_t data;
    uint64_t data_n; /* data clusters in this file */
    uint64_t mapped; /* clusters of the disk that have a place */
    uint64_t end;
};

/* ---- options --------------------------------------------------------------------------------- */

static int bad(const struct block_create_options *options, struct err *err, const char *what)
{
    return err_set(err, -EINVAL, "%s: %s", options->path, what);
}

static int needs_v3(const struct block_create_options *options, struct err *err, const char *what)
{
    return err_set(err, -EINVAL,
                   "%s: %s with compatibility level 1.1 and above (use version=v3 or greater)",
                   options->path, what);
}

static uint32_t cluster_size(const struct block_create_options *options)
{
    return options->cluster_size ? options->cluster_size : 64u << 10;
}

static enum block_prealloc preallocation(const struct block_create_options *options)
{
    /* A raw data file is the disk as it is, so every cluster has its place from the start. */
    if (options->data_file_raw && options->prealloc == BLOCK_PREALLOC_OFF)
        return BLOCK_PREALLOC_METADATA;
    return options->prealloc;
}

static int check_version(const struct block_create_options *options, struct err *err)
{
    if (options->version != 0 && options->version != 2 && options->version != 3)
        return bad(options, err, "expected version 2 or 3");
    if (options->version != 2)
        return 0;
    if (options->lazy_refcounts)
        return needs_v3(options, err, "Lazy refcounts only supported");
    if (options->refcount_bits != 0 && options->refcount_bits != 16)
        return err_set(err, -EINVAL,
                       "%s: Different refcount widths than 16 bits require compatibility level 1.1 "
                       "or above (use version=v3 or greater)",
                       options->path);
    if (options->zstd)
        return needs_v3(options, err, "Non-zlib compression type is only supported");
    if (options->extended_l2)
        return needs_v3(options, err, "Extended L2 entries are only supported");
    if (options->data_file)
        return needs_v3(options, err, "External data files are only supported");
    return 0;
}

static int check_names(const struct block_create_options *options, struct err *err)
{
    bool backing = options->backing_file != NULL;

    if (backing && options->backing_format == BLOCK_FORMAT_PROBE)
        return bad(options, err, "Backing file specified without backing format");
    if (!backing && options->backing_format != BLOCK_FORMAT_PROBE)
        return bad(options, err, "Backing format cannot be used without backing file");
    if (backing && (!*options->backing_file || strlen(options->backing_file) >= BLOCK_NAME_MAX))
        return bad(options, err, "Backing file name: expected 1 to 1023 bytes");
    if (options->data_file &&
        (!*options->data_file || strlen(options->data_file) >= BLOCK_NAME_MAX))
        return bad(options, err, "Data file name: expected 1 to 1023 bytes");
    if (options->data_file_raw && !options->data_file)
        return bad(options, err, "data-file-raw requires data-file");
    if (options->data_file_raw && backing)
        return bad(options, err, "Backing file and data-file-raw cannot be used at the same time");
    return 0;
}

int qcow2_create_check(const struct block_create_options *options, struct err *err)
{
    uint32_t size = cluster_size(options);
    int r;

    if (!is_pow2(size) || size < 1u << QCOW2_CLUSTER_BITS_MIN ||
        size > 1u << QCOW2_CLUSTER_BITS_MAX)
        return bad(options, err, "Cluster size must be a power of two between 512 and 2048k");
    if (options->refcount_bits != 0 &&
        (!is_pow2(options->refcount_bits) || options->refcount_bits > 64))
        return bad(options, err,
                   "Refcount width must be a power of two and may not exceed 64 bits");
    r = check_version(options, err);
    if (r == 0)
        r = check_names(options, err);
    if (r < 0)
        return r;
    if (options->extended_l2 && size < EXTL2_CLUSTER_MIN)
        return bad(options, err,
                   "Extended L2 entries are only supported with cluster sizes of at least 16384 "
                   "bytes");
    if (options->backing_file && options->prealloc != BLOCK_PREALLOC_OFF && !options->extended_l2)
        return bad(options, err,
                   "Backing file and preallocation can only be used at the same time if "
                   "extended_l2 is on");
    return 0;
}

/* ---- layout ---------------------------------------------------------------------------------- */

static uint64_t table_clusters(const struct layout *l, uint64_t entries)
{
    return div_round_up(entries * sizeof(uint64_t), 1ull << l->cluster_bits);
}

/*
 * Place everything. Refcount blocks are counted as well, so it takes rounds to find their number.
 */
static void place(struct layout *l)
{
    unsigned per_block_bits = l->cluster_bits + 3 - l->refcount_order;
    uint64_t rest = table_clusters(l, l->l1_n) + l->l2_n + l->data_n;
    uint64_t end;

    l->reftable = 1;
    l->reftable_n = 1;
    l->refblocks_n = 1;
    for (;;) {
        end = 1 + l->reftable_n + l->refblocks_n + rest;
        if (end <= l->refblocks_n << per_block_bits &&
            l->refblocks_n <= (l->reftable_n << l->cluster_bits) / sizeof(uint64_t))
            break;
        l->refblocks_n = div_round_up(end, 1ull << per_block_bits);
        l->reftable_n = table_clusters(l, l->refblocks_n);
    }
    l->refblocks = l->reftable + l->reftable_n;
    l->l1 = l->refblocks + l->refblocks_n;
    l->l2 = l->l1 + table_clusters(l, l->l1_n);
    l->data = l->l2 + l->l2_n;
    l->end = end;
}

static int plan(const struct block_create_options *options, struct layout *l, struct err *err)
{
    unsigned l2_bits;
    uint64_t clusters;

    *l = (struct layout){
        .version = options->version ? options->version : 3,
        .cluster_bits = (unsigned)__builtin_ctz(cluster_size(options)),
        .refcount_order =
            options->refcount_bits ? (unsigned)__builtin_ctz(options->refcount_bits) : 4,
        .l2_entry_bits = options->extended_l2 ? 4 : 3,
    };
    l2_bits = l->cluster_bits - l->l2_entry_bits;
    clusters = div_round_up(options->len, 1ull << l->cluster_bits);
    l->l1_n = div_round_up(clusters, 1ull << l2_bits);
    if (l->l1_n > QCOW2_L1_BYTES_MAX / sizeof(uint64_t))
        return block_too_large(options, err);
    if (preallocation(options) != BLOCK_PREALLOC_OFF) {
        l->mapped = clusters;
        l->l2_n = l->l1_n;
        l->data_n = options->data_file ? 0 : clusters;
    }
    place(l);
    if (l->reftable_n << l->cluster_bits > QCOW2_REFTABLE_BYTES_MAX ||
        l->end > QCOW2_HOST_MAX >> l->cluster_bits)
        return block_too_large(options, err);
    return 0;
}

/* ---- header ---------------------------------------------------------------------------------- */

struct header {
    uint8_t data[HEADER_ROOM];
    size_t len;
};

/* Add an extension and return the place of its data; NULL if there is no room left. */
static uint8_t *add_extension(struct header *hdr, uint32_t type, size_t len)
{
    uint8_t *at = hdr->data + hdr->len;
    size_t whole = 8 + align_up(len, 8);

    if (whole > HEADER_ROOM - hdr->len)
        return NULL;
    store_be32(at, type);
    store_be32(at + 4, (uint32_t)len);
    hdr->len += whole;
    return at + 8;
}

static bool add_text(struct header *hdr, uint32_t type, const char *text)
{
    size_t len = strlen(text);
    uint8_t *data = add_extension(hdr, type, len);

    if (!data)
        return false;
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)text[i];
    return true;
}

static bool add_feature_names(struct header *hdr)
{
    uint8_t *data = add_extension(hdr, EXT_FEATURE_NAMES, QCOW2_FEATURE_NAMES_LEN);

    if (data)
        qcow2_feature_names(data);
    return data;
}

static bool add_extensions(const struct block_create_options *options, const struct layout *l,
                           struct header *hdr)
{
    const char *format = options->backing_format == BLOCK_FORMAT_RAW ? "raw" : "qcow2";

    if (options->backing_file && !add_text(hdr, EXT_BACKING_FORMAT, format))
        return false;
    if (options->data_file && !add_text(hdr, EXT_DATA_FILE, options->data_file))
        return false;
    if (l->version >= 3 && 1u << l->cluster_bits >= FEATURE_NAMES_CLUSTER_MIN &&
        !add_feature_names(hdr))
        return false;
    return add_extension(hdr, EXT_END, 0) != NULL;
}

static bool add_backing_name(const struct block_create_options *options, struct header *hdr)
{
    size_t len = options->backing_file ? strlen(options->backing_file) : 0;

    if (len == 0)
        return true;
    if (len > HEADER_ROOM - hdr->len)
        return false;
    memcpy(hdr->data + hdr->len, options->backing_file, len);
    store_be64(hdr->data + HDR_BACKING_OFF, hdr->len);
    store_be32(hdr->data + HDR_BACKING_LEN, (uint32_t)len);
    hdr->len += len;
    return true;
}

static void fill_v3(const struct block_create_options *options, const struct layout *l,
                    struct header *hdr)
{
    uint64_t incompatible = (options->data_file ? QCOW2_INCOMPAT_DATA_FILE : 0) |
                            (options->zstd ? QCOW2_INCOMPAT_COMPRESSION : 0) |
                            (options->extended_l2 ? QCOW2_INCOMPAT_EXTL2 : 0);

    store_be64(hdr->data + HDR_INCOMPATIBLE, incompatible);
    store_be64(hdr->data + HDR_COMPATIBLE, options->lazy_refcounts ? QCOW2_COMPAT_LAZY : 0);
    store_be64(hdr->data + HDR_AUTOCLEAR, options->data_file_raw ? QCOW2_AUTOCLEAR_RAW_DATA : 0);
    store_be32(hdr->data + HDR_REFCOUNT_ORDER, l->refcount_order);
    store_be32(hdr->data + HDR_HEADER_LEN, HDR_LEN);
    hdr->data[HDR_COMPRESSION] = options->zstd ? QCOW2_ZSTD : QCOW2_ZLIB;
}

static void fill_header(const struct block_create_options *options, const struct layout *l,
                        struct header *hdr)
{
    uint8_t *data = hdr->data;

    store_be32(data, QCOW2_MAGIC);
    store_be32(data + HDR_VERSION, l->version);
    store_be32(data + HDR_CLUSTER_BITS, l->cluster_bits);
    store_be64(data + HDR_SIZE, options->len);
    store_be32(data + HDR_L1_SIZE, (uint32_t)l->l1_n);
    store_be64(data + HDR_L1_OFF, l->l1_n ? l->l1 << l->cluster_bits : 0);
    store_be64(data + HDR_REFTABLE_OFF, l->reftable << l->cluster_bits);
    store_be32(data + HDR_REFTABLE_CLUSTERS, (uint32_t)l->reftable_n);
    hdr->len = HDR_V2_LEN;
    if (l->version >= 3) {
        fill_v3(options, l, hdr);
        hdr->len = HDR_LEN;
    }
}

static int make_header(const struct block_create_options *options, const struct layout *l,
                       struct header *hdr, struct err *err)
{
    fill_header(options, l, hdr);
    if (!add_extensions(options, l, hdr) || !add_backing_name(options, hdr) ||
        hdr->len > 1ull << l->cluster_bits)
        return err_set(err, -EINVAL,
                       "%s: the names of backing and data file do not fit into the header's "
                       "cluster of %llu bytes",
                       options->path, 1ull << l->cluster_bits);
    return 0;
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* A table whose first `n` entries point at clusters that follow each other; the others are 0. */
struct ramp {
    uint64_t at; /* cluster */
    uint64_t n;
    unsigned entry_bits;
    uint64_t first; /* entry 0 */
};

static int write_ramp(struct file *file, const struct layout *l, const struct ramp *ramp,
                      uint8_t *buf)
{
    uint64_t len = align_up(ramp->n << ramp->entry_bits, 1ull << l->cluster_bits);
    uint64_t i = 0;
    int r = 0;

    for (uint64_t off = 0; off < len && r == 0; off += PIECE) {
        uint64_t piece = min_u64(len - off, PIECE);

        memset(buf, 0, piece);
        for (uint64_t at = 0; at < piece && i < ramp->n; i++, at += 1ull << ramp->entry_bits)
            store_be64(buf + at, ramp->first + (i << l->cluster_bits));
        r = file_write(file, (ramp->at << l->cluster_bits) + off, buf, piece);
    }
    return r;
}

/* Write refcount blocks in which all clusters up to the file's end have a refcount of one. */
static int write_refblocks(struct file *file, const struct layout *l, uint8_t *buf)
{
    uint64_t len = l->refblocks_n << l->cluster_bits;
    uint64_t left = l->end;
    int r = 0;

    for (uint64_t off = 0; off < len && r == 0; off += PIECE) {
        uint64_t piece = min_u64(len - off, PIECE);
        uint64_t n = min_u64(left, piece << 3 >> l->refcount_order);

        qcow2_refblock_fill(l->refcount_order, buf, piece, n);
        left -= n;
        r = file_write(file, (l->refblocks << l->cluster_bits) + off, buf, piece);
    }
    return r;
}

static int write_tables(struct file *file, const struct layout *l, uint8_t *buf)
{
    const struct ramp ramps[] = {
        {.at = l->reftable,
         .n = l->refblocks_n,
         .entry_bits = 3,
         .first = l->refblocks << l->cluster_bits},
        {.at = l->l1,
         .n = l->l2_n,
         .entry_bits = 3,
         .first = (l->l2 << l->cluster_bits) | QCOW2_COPIED},
        {.at = l->l2,
         .n = l->mapped,
         .entry_bits = l->l2_entry_bits, /* the subclusters of an extended entry stay unallocated */
         .first = (l->data_n ? l->data << l->cluster_bits : 0) | QCOW2_COPIED},
    };
    int r = write_refblocks(file, l, buf);

    for (size_t i = 0; i < ARRAY_SIZE(ramps) && r == 0; i++)
        r = write_ramp(file, l, &ramps[i], buf);
    return r;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* If nothing follows the L1 table, the file ends with it, as QEMU's files do. */
static uint64_t file_len(const struct layout *l)
{
    uint64_t l1_end = (l->l1 << l->cluster_bits) + l->l1_n * sizeof(uint64_t);
    uint64_t end = l->end << l->cluster_bits;

    return align_up(l1_end, 1ull << l->cluster_bits) == end ? l1_end : end;
}

/* Make room for all of it before anything is written, so that a full disk is noticed early. */
static int make_room(const struct block_create_options *options, const struct layout *l,
                     struct file *file, struct file *data_file)
{
    enum block_prealloc prealloc = preallocation(options);
    uint64_t data = l->data << l->cluster_bits;
    uint64_t end = l->end << l->cluster_bits;
    int r = block_make_room(file, file_len(l), end);

    if (r == 0 && data_file)
        r = block_make_room(data_file, options->len, l->mapped ? options->len : 0);
    if (r == 0 && data_file)
        r = block_take_first(data_file, options->len);
    if (r < 0)
        return r;
    if (data_file)
        return block_take_space(data_file, 0, options->len, prealloc);
    return block_take_space(file, data, end - data, prealloc);
}

static int write_image(const struct block_create_options *options, const struct layout *l,
                       const struct header *hdr, uint8_t *buf, struct file *file,
                       struct file *data_file, struct err *err)
{
    int r = make_room(options, l, file, data_file);

    if (r == 0)
        r = write_tables(file, l, buf);
    if (r == 0)
        r = file_write(file, 0, hdr->data, hdr->len);
    if (r == 0 && data_file)
        r = file_sync(data_file);
    if (r == 0)
        r = file_sync(file);
    return r < 0 ? err_set_errno(err, r, "%s: cannot write", options->path) : 0;
}

int qcow2_create(const struct block_create_options *options, struct file *file,
                 struct file *data_file, struct err *err)
{
    struct header *hdr;
    struct layout layout;
    uint8_t *buf;
    int r = plan(options, &layout, err);

    if (r < 0)
        return r;
    hdr = calloc(1, sizeof(*hdr));
    buf = malloc(PIECE);
    if (!hdr || !buf)
        r = err_set(err, -ENOMEM, "%s: out of memory", options->path);
    else
        r = make_header(options, &layout, hdr, err);
    if (r == 0)
        r = write_image(options, &layout, hdr, buf, file, data_file, err);
    free(buf);
    free(hdr);
    return r;
}
