/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extensions and compatible feature bits that are unknown here are skipped. They stay in the image:
 * its header is never written anew without what it had (switch/header_write).
 */
#include "block/qcow2/format/header_read.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "block/qcow2/format/header.h"
#include "block/qcow2/qcow2.h"

/* A subcluster is a 32nd of a cluster and has at least a sector of 512 bytes. */
#define EXTL2_CLUSTER_BITS_MIN 14u

/* The beginning of the file while it is being parsed. */
struct header {
    const char *path;
    uint8_t *data;
    size_t len; /* bytes in `data` */
    uint32_t header_len;
    uint64_t backing_off;
    uint32_t backing_len;
    uint64_t file_len;
    const uint8_t *feature_names; /* entries of FEATURE_ENTRY_LEN, the last one may be shorter */
    size_t feature_names_len;
};

/* ---- fields ---------------------------------------------------------------------------------- */

static int bad(const struct header *hdr, struct err *err, const char *what, uint64_t value)
{
    return err_set(err, -EINVAL, "%s: damaged qcow2 header: %s (%#" PRIx64 ")", hdr->path, what,
                   value);
}

static int parse_version(struct qcow2 *q, struct header *hdr, struct err *err)
{
    uint32_t cluster_bits;

    if (hdr->len < HDR_V2_LEN || load_be32(hdr->data) != QCOW2_MAGIC)
        return err_set(err, -EINVAL, "%s: Image is not in qcow2 format", hdr->path);
    q->version = load_be32(hdr->data + HDR_VERSION);
    if (q->version != 2 && q->version != 3)
        return err_set(err, -ENOTSUP, "%s: qcow2 version %u: expected 2 or 3", hdr->path,
                       q->version);
    if (q->version == 3 && hdr->len < HDR_V3_LEN)
        return err_set(err, -EINVAL, "%s: truncated qcow2 header", hdr->path);

    cluster_bits = load_be32(hdr->data + HDR_CLUSTER_BITS);
    if (cluster_bits < QCOW2_CLUSTER_BITS_MIN || cluster_bits > QCOW2_CLUSTER_BITS_MAX)
        return bad(hdr, err, "cluster bits outside 9 to 21", cluster_bits);
    q->cluster_bits = cluster_bits; /* only now: qcow2_free shifts by it */
    q->cluster_size = 1ull << q->cluster_bits;
    return 0;
}

static int parse_v3(struct qcow2 *q, struct header *hdr, struct err *err)
{
    hdr->header_len = HDR_V2_LEN;
    q->refcount_order = 4;
    if (q->version < 3)
        return 0;

    q->incompatible = load_be64(hdr->data + HDR_INCOMPATIBLE);
    q->lazy = load_be64(hdr->data + HDR_COMPATIBLE) & QCOW2_COMPAT_LAZY;
    q->autoclear = load_be64(hdr->data + HDR_AUTOCLEAR);
    q->refcount_order = load_be32(hdr->data + HDR_REFCOUNT_ORDER);
    hdr->header_len = load_be32(hdr->data + HDR_HEADER_LEN);
    if (q->refcount_order > QCOW2_REFCOUNT_ORDER_MAX)
        return bad(hdr, err, "refcount order above 6", q->refcount_order);
    if (hdr->header_len < HDR_V3_LEN || hdr->header_len > q->cluster_size ||
        hdr->header_len > hdr->len || !is_aligned(hdr->header_len, 8))
        return bad(hdr, err, "header length", hdr->header_len);
    return 0;
}

static int parse_compression(struct qcow2 *q, const struct header *hdr, struct err *err)
{
    uint8_t type = hdr->header_len > HDR_COMPRESSION ? hdr->data[HDR_COMPRESSION] : QCOW2_ZLIB;

    if (type != QCOW2_ZLIB && type != QCOW2_ZSTD)
        return err_set(err, -ENOTSUP, "%s: compression type %u: expected 0 (zlib) or 1 (zstd)",
                       hdr->path, type);
    if ((type != QCOW2_ZLIB) != !!(q->incompatible & QCOW2_INCOMPAT_COMPRESSION))
        return bad(hdr, err, "compression type and its feature bit disagree", type);
    q->compression = type;
    return 0;
}

static int take_encryption(struct qcow2 *q, const struct header *hdr,
                           enum qcow2_encryption encryption, const char *method, struct err *err)
{
    q->encryption = encryption;
    if (q->only_tell)
        return 0;
    return err_set(err, -ENOTSUP,
                   "%s: encrypted with %s, which is not supported: qemu-img convert makes a copy "
                   "that is not encrypted",
                   hdr->path, method);
}

static int check_encryption(struct qcow2 *q, const struct header *hdr, struct err *err)
{
    uint32_t method = load_be32(hdr->data + HDR_CRYPT);

    switch (method) {
    case 0:
        return 0;
    case 1:
        return take_encryption(q, hdr, QCOW2_AES, "AES", err);
    case 2:
        return take_encryption(q, hdr, QCOW2_LUKS, "LUKS", err);
    default:
        return bad(hdr, err, "unknown encryption method", method);
    }
}

/* ---- extensions ------------------------------------------------------------------------------ */

static int copy_text(const struct header *hdr, const uint8_t *text, size_t len, char **ret_text,
                     struct err *err)
{
    if (memchr(text, 0, len))
        return bad(hdr, err, "a name with a zero byte, length", len);
    *ret_text = strndup((const char *)text, len);
    return *ret_text ? 0 : err_set(err, -ENOMEM, "%s: out of memory", hdr->path);
}

static int parse_extension(struct qcow2 *q, struct header *hdr, uint32_t type, const uint8_t *data,
                           uint32_t len, struct err *err)
{
    switch (type) {
    case EXT_BACKING_FORMAT:
        free(q->block.backing_format); /* QEMU takes the last of several names, too */
        q->block.backing_format = NULL;
        return len ? copy_text(hdr, data, len, &q->block.backing_format, err) : 0;
    case EXT_DATA_FILE:
        if (!(q->incompatible & QCOW2_INCOMPAT_DATA_FILE))
            return 0; /* a leftover: the feature bit says where the data is */
        if (len == 0 || len >= BLOCK_NAME_MAX || q->block.data_name)
            return bad(hdr, err, "name of an external data file of length", len);
        return copy_text(hdr, data, len, &q->block.data_name, err);
    case EXT_FEATURE_NAMES:
        hdr->feature_names = data;
        hdr->feature_names_len = len;
        return 0;
    case EXT_CRYPTO:
        if (len < 2 * sizeof(uint64_t))
            return bad(hdr, err, "place of an encryption header, of length", len);
        q->luks_off = load_be64(data);
        return take_encryption(q, hdr, QCOW2_LUKS, "LUKS", err);
    default:
        return 0;
    }
}

static int parse_extensions(struct qcow2 *q, struct header *hdr, struct err *err)
{
    uint64_t end = min_u64(hdr->len, q->cluster_size);
    uint64_t at = hdr->header_len;
    int r = 0;

    if (hdr->backing_off)
        end = min_u64(end, hdr->backing_off);
    while (r == 0 && range_fits(at, 8, end)) {
        uint32_t type = load_be32(hdr->data + at);
        uint32_t len = load_be32(hdr->data + at + 4);

        if (type == EXT_END)
            break;
        if (!range_fits(at + 8, len, end))
            return bad(hdr, err, "header extension of length", len);
        r = parse_extension(q, hdr, type, hdr->data + at + 8, len, err);
        at += 8 + align_up(len, 8);
    }
    return r;
}

static int parse_backing_name(struct qcow2 *q, struct header *hdr, struct err *err)
{
    if (hdr->backing_off == 0 || hdr->backing_len == 0)
        return 0;
    if (hdr->backing_len >= BLOCK_NAME_MAX || hdr->backing_off < hdr->header_len ||
        !range_fits(hdr->backing_off, hdr->backing_len, min_u64(hdr->len, q->cluster_size)))
        return bad(hdr, err, "backing file name of length", hdr->backing_len);
    return copy_text(hdr, hdr->data + hdr->backing_off, hdr->backing_len, &q->block.backing_name,
                     err);
}

/* ---- features -------------------------------------------------------------------------------- */

/* The image's own names for incompatible features, where it has some: "this, that, …". */
static void name_features(const struct header *hdr, uint64_t features, char *names, size_t size)
{
    size_t len = 0;

    names[0] = '\0';
    for (size_t at = 0; at + 2 < hdr->feature_names_len && len < size; at += FEATURE_ENTRY_LEN) {
        const uint8_t *entry = hdr->feature_names + at;
        uint64_t name_len = min_u64(FEATURE_NAME_LEN, hdr->feature_names_len - at - 2);

        if (entry[0] != 0 || entry[1] > 63 || !(features >> entry[1] & 1))
            continue;
        features &= ~(1ull << entry[1]);
        len += (size_t)snprintf(names + len, size - len, "%s%.*s", len ? ", " : "", (int)name_len,
                                (const char *)entry + 2);
    }
    if (features && len < size)
        (void)snprintf(names + len, size - len, "%sUnknown incompatible feature: %" PRIx64,
                       len ? ", " : "", features);
}

static int check_features(const struct qcow2 *q, const struct header *hdr, struct err *err)
{
    uint64_t known = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_DATA_FILE |
                     QCOW2_INCOMPAT_COMPRESSION | QCOW2_INCOMPAT_EXTL2;
    uint64_t unknown = q->incompatible & ~known;
    char names[5 * FEATURE_NAME_LEN];

    if (unknown) {
        name_features(hdr, unknown, names, sizeof(names));
        return err_set(err, -ENOTSUP, "%s: Unsupported qcow2 feature(s): %s", hdr->path, names);
    }
    if ((q->incompatible & QCOW2_INCOMPAT_EXTL2) && q->cluster_bits < EXTL2_CLUSTER_BITS_MIN)
        return bad(hdr, err, "extended L2 entries with cluster bits below 14", q->cluster_bits);
    if ((q->incompatible & QCOW2_INCOMPAT_DATA_FILE) && !q->block.data_name)
        return bad(hdr, err, "external data file without a name, features", q->incompatible);
    if (!q->block.writable || q->checking)
        return 0;
    if (q->incompatible & QCOW2_INCOMPAT_CORRUPT)
        return err_set(err, -EROFS,
                       "%s: the image is marked corrupt: open it read-only, or repair it with "
                       "minivmm-img check -r all",
                       hdr->path);
    return 0;
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* Tables must end below this offset. The checker reports itself what lies outside the file. */
static uint64_t tables_end(const struct qcow2 *q)
{
    return q->checking || q->cut_short ? QCOW2_HOST_MAX : q->file_end;
}

static int check_table(const struct qcow2 *q, const struct header *hdr,
                       const struct qcow2_table *table, const char *what, struct err *err)
{
    uint64_t len = (uint64_t)table->n * sizeof(uint64_t);

    if (table->n > 0 && (table->host == 0 || !is_aligned(table->host, q->cluster_size) ||
                         !range_fits(table->host, len, tables_end(q))))
        return bad(hdr, err, what, table->host);
    return 0;
}

static int parse_reftable(struct qcow2 *q, const struct header *hdr, struct err *err)
{
    uint32_t clusters = load_be32(hdr->data + HDR_REFTABLE_CLUSTERS);
    int r = 0;

    q->reftable.host = load_be64(hdr->data + HDR_REFTABLE_OFF);
    if (clusters == 0 || clusters > QCOW2_REFTABLE_BYTES_MAX >> q->cluster_bits)
        r = bad(hdr, err, "refcount table of clusters", clusters);
    else
        q->reftable.n = (uint32_t)((clusters << q->cluster_bits) / sizeof(uint64_t));
    if (r == 0)
        r = check_table(q, hdr, &q->reftable, "refcount table at", err);
    if (r < 0 && (q->checking || q->cut_short)) {
        q->reftable.n = 0; /* a repair builds a new one, and reading needs no refcounts */
        r = 0;
    }
    return r;
}

static int parse_tables(struct qcow2 *q, const struct header *hdr, struct err *err)
{
    uint64_t size = load_be64(hdr->data + HDR_SIZE);
    uint64_t l2_covers = 1ull << (q->cluster_bits + q->l2_bits);
    int r;

    q->l1.n = load_be32(hdr->data + HDR_L1_SIZE);
    q->l1.host = load_be64(hdr->data + HDR_L1_OFF);

    if (size > INT64_MAX - BLOCK_SECTOR_SIZE)
        return bad(hdr, err, "disk size", size);
    q->block.len = align_up(size, BLOCK_SECTOR_SIZE);
    if (q->l1.n > QCOW2_L1_BYTES_MAX / sizeof(uint64_t))
        return bad(hdr, err, "L1 table of entries", q->l1.n);
    if (div_round_up(q->block.len, l2_covers) > INT32_MAX)
        return err_set(err, -EFBIG, "%s: Image is too big", hdr->path);
    if (div_round_up(q->block.len, l2_covers) > q->l1.n)
        return bad(hdr, err, "L1 table too small for the disk, entries", q->l1.n);
    r = check_table(q, hdr, &q->l1, "L1 table at", err);
    return r < 0 ? r : parse_reftable(q, hdr, err);
}

static int check_snapshots(const struct qcow2 *q, const struct header *hdr, struct err *err)
{
    uint32_t n = load_be32(hdr->data + HDR_NB_SNAPSHOTS);
    uint64_t host = load_be64(hdr->data + HDR_SNAPSHOTS_OFF);

    if (q->checking)
        return 0;
    if (n > QCOW2_SNAPSHOTS_MAX)
        return bad(hdr, err, "number of snapshots", n);
    if (n > 0 && (!is_aligned(host, q->cluster_size) || host >= tables_end(q)))
        return bad(hdr, err, "snapshot table at", host);
    return 0;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int read_header(struct qcow2 *q, struct header *hdr, struct err *err)
{
    int r = file_get_len(q->block.file, &hdr->file_len);
    void *data;

    if (r < 0)
        return err_set_errno(err, r, "%s: cannot tell the size", hdr->path);
    hdr->len = (size_t)min_u64(hdr->file_len, QCOW2_HEADER_MAX);
    /* The buffer is mapped: 64 KiB of freed heap would stay with the process for ever. */
    data = mmap(NULL, QCOW2_HEADER_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return err_set(err, -ENOMEM, "%s: out of memory", hdr->path);
    hdr->data = data;
    r = file_read(q->block.file, 0, hdr->data, hdr->len);
    return r < 0 ? err_set_errno(err, r, "%s: cannot read", hdr->path) : 0;
}

static int parse_header(struct qcow2 *q, struct header *hdr, struct err *err)
{
    int r = parse_version(q, hdr, err);

    if (r == 0)
        r = parse_v3(q, hdr, err);
    if (r < 0)
        return r;
    q->l2_entry_bits = q->incompatible & QCOW2_INCOMPAT_EXTL2 ? 4 : 3;
    q->l2_bits = q->cluster_bits - q->l2_entry_bits;
    q->refblock_bits = q->cluster_bits + 3 - q->refcount_order;
    q->slice_bits = (unsigned)min_u64(q->cluster_bits, QCOW2_SLICE_BITS_MAX);
    q->file_end = align_up(hdr->file_len, q->cluster_size);
    q->file_len = hdr->file_len;
    q->durable_len = hdr->file_len; /* the barrier before the first change makes it so */
    hdr->backing_off = load_be64(hdr->data + HDR_BACKING_OFF);
    hdr->backing_len = load_be32(hdr->data + HDR_BACKING_LEN);
    r = check_encryption(q, hdr, err);
    if (r < 0)
        return r;

    r = parse_extensions(q, hdr, err);
    if (r == 0)
        r = check_features(q, hdr, err);
    if (r == 0)
        r = parse_compression(q, hdr, err);
    if (r == 0)
        r = parse_backing_name(q, hdr, err);
    if (r == 0)
        r = parse_tables(q, hdr, err);
    if (r == 0)
        r = check_snapshots(q, hdr, err);
    return r;
}

int qcow2_header_read(struct qcow2 *q, struct err *err)
{
    struct header hdr = {.path = q->path};
    int r = read_header(q, &hdr, err);

    if (r == 0)
        r = parse_header(q, &hdr, err);
    if (hdr.data)
        (void)munmap(hdr.data, QCOW2_HEADER_MAX); /* cannot fail for a mapping of our own */
    return r;
}
