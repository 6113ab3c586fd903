/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A qcow2 image in memory; private to block/qcow2/. docs/block.md explains the order of writes. An
 * image changes in place, by a request, or by a switch: new tables beside the old ones, then one
 * write of the header. The rooms, each of which uses only those before it:
 *
 *   format/    the bytes of the format, without I/O on the image
 *   meta/      metadata in the file and in memory: tables, refcounts, the order of writes
 *   request/   reads, writes, zeroes, discards
 *   switch/    changes of a whole image: the ledger, new tables, the switch to them
 *   bitmap/    persistent bitmaps: edited, and saved when they followed the disk
 *   check/     what is wrong with the metadata, and making it right
 *   image/     what the image tool asks for: create, resize, snapshot, amend
 *   driver     opening and closing; the table of operations
 *
 * Each module has a header of its own beside it. Names follow the specification (QEMU,
 * docs/interop/qcow2). A "cluster" argument is an index, an "off" a byte offset. Guest offsets are
 * `off`, offsets in the image file `host`.
 */
#ifndef MINIVMM_BLOCK_QCOW2_QCOW2_H
#define MINIVMM_BLOCK_QCOW2_QCOW2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/co.h"
#include "base/list.h"
#include "base/range_lock.h"
#include "block/driver.h"
#include "block/qcow2/format/set.h"

/* ---- limits and fields of the format --------------------------------------------------------- */

#define QCOW2_MAGIC 0x514649fbu /* "QFI\xfb" */

#define QCOW2_CLUSTER_BITS_MIN 9u
#define QCOW2_CLUSTER_BITS_MAX 21u
_Static_assert(1u << QCOW2_CLUSTER_BITS_MAX <= BLOCK_ALLOC_UNIT_MAX, "requests cut clusters");

#define QCOW2_REFCOUNT_ORDER_MAX 6u

/* QEMU's limits: no image in use is beyond them. They bound what an image can make us allocate. */
#define QCOW2_L1_BYTES_MAX (32u << 20)
#define QCOW2_REFTABLE_BYTES_MAX (8u << 20)
#define QCOW2_SNAPSHOTS_MAX 65536u

/*
 * Host offsets have 56 bits in L1 and L2 entries; stay below, so that no sum with a length wraps.
 */
#define QCOW2_HOST_MAX (1ull << 55)

#define QCOW2_INCOMPAT_DIRTY (1ull << 0)
#define QCOW2_INCOMPAT_CORRUPT (1ull << 1)
#define QCOW2_INCOMPAT_DATA_FILE (1ull << 2)
#define QCOW2_INCOMPAT_COMPRESSION (1ull << 3)
#define QCOW2_INCOMPAT_EXTL2 (1ull << 4)

enum qcow2_compression { QCOW2_ZLIB = 0, QCOW2_ZSTD = 1 };

enum qcow2_encryption { QCOW2_NOT_ENCRYPTED, QCOW2_AES, QCOW2_LUKS };

/* ---- in memory ------------------------------------------------------------------------------- */

/* The L1 or the refcount table (meta/table). */
struct qcow2_table {
    uint64_t host;
    uint32_t n; /* entries */
    uint64_t *entries;
    uint64_t *dirty; /* a bit for each QCOW2_TABLE_PIECE entries */
    bool any_dirty;
};

#define QCOW2_TABLE_PIECE 64u /* entries in 512 bytes: what is written at a time */

enum qcow2_meta { QCOW2_REFBLOCK, QCOW2_L2, QCOW2_METAS };

#define QCOW2_SLICE_BITS_MAX 12u
_Static_assert(1u << QCOW2_SLICE_BITS_MAX <= FILE_ZEROES_LEN, "a slice is zeroed in one write");

/* Slices of L2 tables and refcount blocks (meta/cache). */
struct qcow2_cache {
    struct qcow2_slice **buckets;
    unsigned nbuckets; /* a power of two */
    unsigned nslices;
    unsigned limit; /* of slices; exceeded only by what is pinned or dirty */
    unsigned ndirty[QCOW2_METAS];
    struct list dirty[QCOW2_METAS];
    struct list lru;
};

/* Clusters that lost a reference (meta/refcount). */
struct qcow2_run {
    uint64_t cluster;
    uint64_t n;
    bool punch; /* the guest gave the space back */
};

struct qcow2_freed {
    struct qcow2_run *runs;
    size_t n;
    size_t max;
};

/* Hints where free clusters are (meta/space); a "slice" is one of refcounts. */
struct qcow2_space {
    uint64_t *free_slices; /* a bit for each slice with free clusters */
    size_t nwords;
    uint64_t lowest;   /* no cluster below is free in these slices */
    uint64_t seen;     /* clusters that were looked at since the image was opened */
    uint64_t scan_end; /* the end of the clusters to look at */
    uint64_t untaken;  /* from here on no cluster was taken */
};

/*
 * The stock: clusters whose refcounts are one before a request needs them (meta/clusters). Without
 * it, a guest that flushes after every few writes would wait with each flush until a refcount block
 * is written.
 */
struct qcow2_stock {
    uint64_t first;
    uint64_t n;
    uint64_t taken;        /* clusters taken since the last flush */
    unsigned short_rounds; /* flushes in a row that came after few taken clusters */
    bool give_back;        /* the disk is idle: the next flush gives the stock back */
};

/* The header extension for persistent bitmaps (meta/bitmap_dir). */
struct qcow2_bitmaps {
    uint32_t n; /* 0: there are none, or they are out of date */
    uint64_t directory_host;
    uint64_t directory_len;
};

struct qcow2 {
    struct block block;
    char *path;        /* for messages */
    bool checking;     /* opened with BLOCK_OPEN_CHECK */
    bool cut_short;    /* tables may lie past the end of the file: BLOCK_OPEN_CUT_SHORT */
    struct file *data; /* where the guest's clusters are: block.file, or an external data file */
    bool raw_data;     /* `data` is a raw image too: what reads as zero must be zero in it */
    unsigned layers;   /* images on top of each other that share memory; 0: not known */

    /* From the header; constant. */
    unsigned version;
    enum qcow2_encryption encryption;
    bool only_tell;    /* BLOCK_OPEN_ENCRYPTED: no request will be carried out */
    uint64_t luks_off; /* of the LUKS header; 0: none */
    unsigned cluster_bits;
    uint64_t cluster_size;
    unsigned refcount_order;
    unsigned refblock_bits; /* log2 of the entries in a refcount block */
    unsigned l2_entry_bits; /* log2 of the bytes of an L2 entry */
    unsigned l2_bits;       /* log2 of the entries in an L2 table */
    unsigned slice_bits;    /* log2 of the bytes in a slice */
    enum qcow2_compression compression;
    uint64_t incompatible;
    uint64_t autoclear;
    bool lazy; /* refcounts may be written late */

    struct qcow2_table l1;
    struct qcow2_table reftable; /* entries are loaded by the first write */
    struct qcow2_cache cache;

    /*
     * Ranges of the guest's disk: shared for data I/O in place, exclusive for whatever changes the
     * mapping. So a cluster is never released or filled while another request uses it.
     */
    struct range_lock ranges;
    struct co_mutex lock; /* changes of metadata */

    bool settled;     /* what was in the file when it was opened is durable */
    bool write_ready; /* reftable and metadata are loaded, autoclear bits are cleared */
    bool corrupt;     /* found while running: nothing is written any more */

    /* Where metadata is, besides header, L1 and refcount table (meta/places). */
    struct qcow2_set metadata;        /* active L2 tables and refcount blocks */
    struct qcow2_set snapshot_tables; /* L2 tables of snapshots, some of them active as well */
    struct qcow2_set other_metadata;  /* snapshots' L1 tables, their table, bitmaps */

    struct block_snapshot *noted; /* see block_note_snapshots */
    unsigned nnoted;

    /* Owner: q->lock */
    struct qcow2_space space;
    struct qcow2_stock stock;
    uint64_t packed_end;  /* where the next compressed data goes; 0: into a new cluster */
    uint64_t file_end;    /* nothing was ever past it, so from here on the file reads as zero */
    uint64_t file_len;    /* of the image file, at least; past file_end if we made it longer */
    uint64_t grow_from;   /* making the file longer has failed: tried again past this */
    uint64_t durable_len; /* the file is at least so long after a power cut */
    bool file_grown;      /* we made the file longer: closing the image cuts it */

    struct qcow2_freed freed;        /* lost a reference in memory */
    struct qcow2_freed unreferenced; /* lost it in the file too: to be counted down */

    bool counts_deferred; /* a flush left refcounts unwritten, and marked the image dirty */
    bool data_first;      /* the data has to be durable before the dirty L2 entries are */

    struct co_mutex writing_back;
    uint64_t flushes_begun;   /* callers of qcow2_flush so far */
    uint64_t flushes_covered; /* callers that the last flush was for */
    int flush_result;         /* what it returned */

    bool no_fast_zero; /* the file system has no cheap way to zero a range */

    /* Each belongs to its module, and is NULL until it is needed. */
    struct qcow2_reserve *reserve;       /* meta/file */
    struct qcow2_inflated *inflated;     /* request/packed_read */
    struct qcow2_inflater *inflaters[2]; /* those not in use; owner: any thread, atomically */
    struct qcow2_packing *packing;       /* request/packed_write */
    struct qcow2_partial *partial;       /* request/partial */
    struct qcow2_ahead *ahead;           /* request/ahead */
    struct qcow2_tracking *tracking;     /* request/bitmap_note */
};

static inline struct qcow2 *qcow2_of(const struct block *block)
{
    return container_of(block, struct qcow2, block);
}

static inline uint64_t qcow2_cluster_of(const struct qcow2 *q, uint64_t host)
{
    return host >> q->cluster_bits;
}

/* Is the guest's data in an external data file, where each cluster has its offset on the disk? */
static inline bool qcow2_has_data_file(const struct qcow2 *q)
{
    return q->incompatible & QCOW2_INCOMPAT_DATA_FILE;
}

#endif
