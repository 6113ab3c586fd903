/*
 * The qcow2 format; private to block/qcow2*.c. docs/block.md explains the order of writes.
 *
 *   qcow2_format    header and extensions; open, close
 *   qcow2_cache     pieces of L2 tables and refcount blocks in memory
 *   qcow2_flush     writing metadata back, in an order that survives a crash
 *   qcow2_refcount  which host clusters are in use: allocation and release
 *   qcow2_map       guest offset to host offset: L1 and L2 tables
 *   qcow2_io        requests
 *   qcow2_zip       compressed clusters
 *
 * Names follow the specification (QEMU, docs/interop/qcow2). A "cluster" argument is an index, an
 * "off" a byte offset. Guest offsets are `off`, offsets in the image file `host`.
 */
#ifndef MINIVMM_BLOCK_QCOW2_H
#define MINIVMM_BLOCK_QCOW2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/block_int.h"
#include "vmm/base/co.h"
#include "vmm/base/list.h"
#include "vmm/base/range_lock.h"

/* ---- limits and fields of the format --------------------------------------------------------- */

#define QCOW2_MAGIC 0x514649fbu /* "QFI\xfb" */

#define QCOW2_CLUSTER_BITS_MIN 9u
#define QCOW2_CLUSTER_BITS_MAX 21u
#define QCOW2_REFCOUNT_ORDER_MAX 6u

/* QEMU's limits: what it refuses, nobody has. They bound what an image can make us allocate. */
#define QCOW2_L1_BYTES_MAX (32u << 20)
#define QCOW2_REFTABLE_BYTES_MAX (8u << 20)
#define QCOW2_SNAPSHOTS_MAX 65536u

/* Host offsets have 56 bits in L1 and L2 entries; stay below, so that no sum with a length wraps. */
#define QCOW2_HOST_MAX (1ull << 55)

#define QCOW2_INCOMPAT_DIRTY (1ull << 0)
#define QCOW2_INCOMPAT_CORRUPT (1ull << 1)
#define QCOW2_INCOMPAT_DATA_FILE (1ull << 2)
#define QCOW2_INCOMPAT_COMPRESSION (1ull << 3)
#define QCOW2_INCOMPAT_EXTL2 (1ull << 4)

/* L1 and L2 entries. */
#define QCOW2_COPIED (1ull << 63) /* the refcount is exactly one: may be written in place */
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO (1ull << 0) /* version 3 */
#define QCOW2_OFF_MASK 0x00fffffffffffe00ull

enum qcow2_compression { QCOW2_ZLIB = 0, QCOW2_ZSTD = 1 };

/* ---- in memory --------------------------------------------------------------------------------- */

/* The L1 or the refcount table: all of it, in host byte order, with what has to be written back. */
struct qcow2_table {
    uint64_t host;
    uint32_t n; /* entries */
    uint64_t *entries;
    uint64_t *dirty; /* a bit for each QCOW2_TABLE_PART entries */
    bool any_dirty;
};

#define QCOW2_TABLE_PART 64u /* entries in 512 bytes: what is written at a time */

enum qcow2_meta { QCOW2_REFBLOCK, QCOW2_L2, QCOW2_METAS };

/*
 * A piece of an L2 table or refcount block as it is in the file: at most 4 KiB of it, so that big
 * clusters cost neither memory nor bandwidth for the parts nobody uses.
 */
struct qcow2_slice {
    uint64_t host;
    enum qcow2_meta kind;
    bool loading;
    bool dirty;
    bool stale; /* could not be read: not in the hash any more */
    unsigned pins;
    struct co_queue loaded;
    struct qcow2_slice *hash_next;
    struct list lru;  /* least recently used first */
    struct list mark; /* in the list of dirty slices of its kind */
    uint8_t data[];
};

#define QCOW2_SLICE_BITS_MAX 12u

struct qcow2_cache {
    struct qcow2_slice **buckets;
    unsigned nbuckets; /* a power of two */
    unsigned nslices;
    unsigned limit; /* of slices; exceeded only by what is pinned or dirty */
    unsigned ndirty[QCOW2_METAS];
    struct list dirty[QCOW2_METAS];
    struct list lru;
};

/* A set of clusters: open addressing, 0 is free (cluster 0 is the header and never in a set). */
struct qcow2_set {
    uint64_t *slots;
    size_t nslots; /* a power of two */
    size_t n;
};

/* Clusters that lost a reference. */
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

/* The cluster inflated last: sequential reads of compressed images find it here. */
struct qcow2_inflated {
    struct co_mutex lock;
    uint64_t entry; /* L2 entry; 0: nothing */
    uint8_t *data;
};

struct qcow2 {
    struct block block;
    char *path; /* for messages */

    /* From the header; constant. */
    unsigned version;
    unsigned cluster_bits;
    uint64_t cluster_size;
    unsigned refcount_order;
    unsigned refblock_bits; /* log2 of the entries in a refcount block */
    unsigned l2_bits;       /* log2 of the entries in an L2 table */
    unsigned slice_bits;    /* log2 of the bytes in a slice */
    enum qcow2_compression compression;
    uint64_t incompatible;
    uint64_t autoclear;

    struct qcow2_table l1;
    struct qcow2_table reftable; /* entries are loaded by the first write */
    struct qcow2_cache cache;
    struct qcow2_inflated inflated;

    /*
     * Ranges of the guest's disk: shared for data I/O in place, exclusive for whatever changes the
     * mapping. So a cluster is never released or filled under the feet of a request that uses it.
     */
    struct range_lock ranges;
    struct co_mutex lock; /* changes of metadata */

    bool write_ready;          /* reftable and metadata are loaded, autoclear bits are cleared */
    bool corrupt;              /* found while running: nothing is written any more */
    struct qcow2_set metadata; /* active L2 tables and refcount blocks */

    /* Owner: q->lock */
    uint64_t next_cluster; /* where to look for a free one */
    uint64_t file_end;     /* the file was never longer, so from here on it reads as zero */

    struct qcow2_freed freed;        /* no longer referred to by the tables in memory */
    struct qcow2_freed unreferenced; /* nor by those in the file: to be counted down */

    struct co_mutex writing_back;
    uint64_t flushes_begun;   /* callers of qcow2_flush so far */
    uint64_t flushes_covered; /* those that the last flush was for, and what it returned */
    int flush_result;

    bool no_fast_zero; /* the file system has no cheap way to zero a range */
};

static inline struct qcow2 *qcow2_of(const struct block *block)
{
    return container_of(block, struct qcow2, block);
}

static inline uint64_t qcow2_slice_size(const struct qcow2 *q)
{
    return 1ull << q->slice_bits;
}

static inline uint64_t qcow2_cluster_of(const struct qcow2 *q, uint64_t host)
{
    return host >> q->cluster_bits;
}

/* ---- qcow2_format ------------------------------------------------------------------------------- */

/* Before the first write: load what writing needs, and say in the header that we write. */
int qcow2_prepare_write(struct qcow2 *q) MUST_CHECK;

/* The image contradicts itself: say why, mark it, write no more. Returns -EIO. */
int qcow2_mark_corrupt(struct qcow2 *q, const char *what, uint64_t host);

int qcow2_table_load(struct qcow2 *q, struct qcow2_table *table) MUST_CHECK;
void qcow2_table_set(struct qcow2_table *table, uint32_t i, uint64_t entry);
void qcow2_table_done(struct qcow2_table *table);

int qcow2_close(struct block *block);
void qcow2_free(struct block *block);

/* Point the header at another refcount table. */
int qcow2_write_reftable_pointer(struct qcow2 *q, uint64_t host, uint32_t clusters) MUST_CHECK;

/* ---- qcow2_cache -------------------------------------------------------------------------------- */

int qcow2_cache_init(struct qcow2 *q) MUST_CHECK;
void qcow2_cache_done(struct qcow2 *q);

/* Drop what need not be written, but for the slices used last. */
void qcow2_cache_trim(struct qcow2 *q);

/*
 * Get and pin the slice at `host` (slice-aligned), reading it if need be. -EIO if it lies outside
 * the file or is in use as another kind of metadata.
 */
int qcow2_slice_get(struct qcow2 *q, enum qcow2_meta kind, uint64_t host,
                    struct qcow2_slice **ret_slice) MUST_CHECK;
void qcow2_slice_put(struct qcow2 *q, struct qcow2_slice *slice);

/* The slice if it is in memory, else NULL. Not pinned: valid until the next wait. */
const struct qcow2_slice *qcow2_slice_peek(struct qcow2 *q, uint64_t host);

void qcow2_slice_dirty(struct qcow2 *q, struct qcow2_slice *slice);

/* The dirty slices of a kind, sorted, pinned and no longer dirty; array to be freed. */
int qcow2_cache_take_dirty(struct qcow2 *q, enum qcow2_meta kind, struct qcow2_slice ***ret_slices,
                           unsigned *ret_n) MUST_CHECK;

/* ---- qcow2_flush -------------------------------------------------------------------------------- */

/* Make everything durable that was completed when this was called. */
int qcow2_flush(struct qcow2 *q) MUST_CHECK;

/* Only write back what is dirty now, without releasing clusters; q->lock may be held. */
int qcow2_write_back(struct qcow2 *q) MUST_CHECK;

/* Write metadata back if much of it is dirty. Holding no lock. */
int qcow2_bound_dirty(struct qcow2 *q) MUST_CHECK;

/* ---- qcow2_refcount ----------------------------------------------------------------------------- */

/*
 * Take up to `want` adjacent clusters; all are written or released by the caller. *ret_fresh: they
 * lie past everything that the file ever held, so they read as zero. With q->lock held.
 */
int qcow2_alloc_clusters(struct qcow2 *q, uint64_t want, uint64_t *ret_cluster, uint64_t *ret_n,
                         bool *ret_fresh) MUST_CHECK;

/* Give back clusters that were allocated and never referred to. With q->lock held. */
void qcow2_unalloc_clusters(struct qcow2 *q, uint64_t cluster, uint64_t n);

/*
 * Remember clusters that lost a reference. Without memory for it they stay counted, which is lost
 * space that the image checker finds.
 */
void qcow2_freed_add(struct qcow2_freed *freed, uint64_t cluster, uint64_t n, bool punch);
void qcow2_freed_move(struct qcow2_freed *to, struct qcow2_freed *from);

/* Count down what is in q->unreferenced. Takes q->lock. */
void qcow2_release(struct qcow2 *q);

int qcow2_set_add(struct qcow2_set *set, uint64_t cluster) MUST_CHECK; /* -EEXIST if it is there */
bool qcow2_set_has(const struct qcow2_set *set, uint64_t cluster);
void qcow2_set_remove(struct qcow2_set *set, uint64_t cluster);

/* Collect where the metadata is. -EIO if a cluster is used twice. */
int qcow2_find_metadata(struct qcow2 *q) MUST_CHECK;

/* Is any byte of [host, host + len) metadata? */
bool qcow2_is_metadata(const struct qcow2 *q, uint64_t host, uint64_t len);

/* ---- qcow2_map ----------------------------------------------------------------------------------- */

enum qcow2_kind {
    QCOW2_UNALLOCATED, /* reads from the backing file */
    QCOW2_ZEROES,      /* reads as zero; `host` is space kept for it, or 0 */
    QCOW2_NORMAL,
    QCOW2_PACKED, /* compressed */
};

/* What is at a guest offset, and how far it goes on. */
struct qcow2_extent {
    enum qcow2_kind kind;
    bool copied;    /* `host` may be written in place */
    uint64_t len;   /* bytes of the same kind, adjacent in the file */
    uint64_t host;  /* of the byte at the offset asked for; NORMAL and ZEROES */
    uint64_t entry; /* the raw entry: PACKED */
};

/*
 * Look up at most `len` bytes at `off`. With `cached_only` nothing is read: -EAGAIN if the answer
 * is not in memory. -EIO for entries that make no sense.
 */
int qcow2_map(struct qcow2 *q, uint64_t off, uint64_t len, bool cached_only,
              struct qcow2_extent *ret_extent) MUST_CHECK;

/* Does the range read as zero through the whole chain, as far as is known without I/O? */
bool qcow2_reads_zero(struct qcow2 *q, uint64_t off, uint64_t len);

/* Space for clusters that are about to be written, and where in the L2 table it will go. */
struct qcow2_alloc {
    uint64_t off; /* of the first cluster */
    uint64_t n;   /* clusters; 0: nothing to allocate, write in place */
    uint64_t host;
    bool fresh; /* the space reads as zero */
    bool reuse; /* it belonged to the guest's zero clusters already */
};

/*
 * Find space for a write of [off, off + len), or for the beginning of it. The caller holds the
 * clusters' range exclusively; the tables still show the old mapping.
 */
int qcow2_alloc_begin(struct qcow2 *q, uint64_t off, uint64_t len,
                      struct qcow2_alloc *ret_alloc) MUST_CHECK;

/* The data is written: make the tables show it, and release what was there. */
int qcow2_alloc_commit(struct qcow2 *q, const struct qcow2_alloc *alloc) MUST_CHECK;

/* The data could not be written: give the space back. */
void qcow2_alloc_abort(struct qcow2 *q, const struct qcow2_alloc *alloc);

enum qcow2_clear { QCOW2_CLEAR_ZERO, QCOW2_CLEAR_ZERO_UNMAP, QCOW2_CLEAR_DISCARD };

/*
 * Change whole clusters from `off` on to read as zero, or discard them; as many of `n` as one slice
 * holds. -ENOTSUP if the image cannot say "zero" (version 2 over a backing file).
 */
int qcow2_clear(struct qcow2 *q, uint64_t off, uint64_t n, enum qcow2_clear how,
                uint64_t *ret_n) MUST_CHECK;

/* The compressed data that an entry stands for: [*ret_host, + *ret_len). */
void qcow2_packed_range(const struct qcow2 *q, uint64_t entry, uint64_t *ret_host,
                        uint64_t *ret_len);

/* ---- qcow2_io ------------------------------------------------------------------------------------ */

extern const struct block_driver qcow2_driver;

/* ---- qcow2_zip ----------------------------------------------------------------------------------- */

/* Read bytes [in_cluster, + len) of the compressed cluster that `entry` describes. */
int qcow2_read_packed(struct qcow2 *q, uint64_t entry, uint64_t in_cluster, uint64_t len,
                      const struct iovec *iov, unsigned niov) MUST_CHECK;

/* Forget what was inflated: its clusters were released. */
void qcow2_drop_inflated(struct qcow2 *q);

/* Free the memory for it as well. No request is in flight. */
void qcow2_free_inflated(struct qcow2 *q);

#endif
