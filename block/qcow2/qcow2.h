/*
 * The qcow2 format; private to block/qcow2/. docs/block.md explains the order of writes. An image
 * changes in place, by a request, or by a switch: new tables beside the old ones, then one write of
 * the header. The rooms:
 *
 *   format/    the header and its extensions; compression; counts; sets of bits
 *     header_read     what the header says; open, close
 *   meta/      metadata in the file and in memory
 *     file            the host I/O of all rooms
 *     table, cache    L1 and refcount table; pieces of L2 tables and refcount blocks
 *     flush           writing them back, in an order that survives a crash
 *     places          where metadata is, so that nothing else is put there
 *     refcount        which host clusters are in use: allocation and release
 *     space           where to look for free ones
 *     bitmap_dir, snaptable   which bitmaps and snapshots there are
 *   request/   reads, writes, zeroes, discards
 *     map             guest offset to host offset: L1 and L2 tables
 *     alloc           changing that: allocating writes, zeroes, discards
 *     write           requests
 *     extents         reads and writes of what is mapped already
 *     copy            writes of what the host copies from another file
 *     ahead           reading ahead for copy-on-write
 *     partial         discards of parts of a cluster
 *     packed_read, packed_write   compressed clusters
 *   switch/    changes of a whole image
 *     ledger          its counts in memory; new tables
 *     switch          switching to them
 *     walk            all its trees; punch: holes where nothing is used
 *     header_write    names of other files and the version in the header
 *   bitmap/    persistent bitmaps: edit, store; save: those that follow the disk
 *   check/     check: what is wrong with the metadata; report; repair, entry: making it right
 *   image/     what the image tool asks for: create, resize, snapshot, amend, expand, holes
 *   details    what the header says, for people
 *
 * Names follow the specification (QEMU, docs/interop/qcow2). A "cluster" argument is an index, an
 * "off" a byte offset. Guest offsets are `off`, offsets in the image file `host`.
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

/* ---- limits and fields of the format --------------------------------------------------------- */

#define QCOW2_MAGIC 0x514649fbu /* "QFI\xfb" */

#define QCOW2_CLUSTER_BITS_MIN 9u
#define QCOW2_CLUSTER_BITS_MAX 21u
#define QCOW2_REFCOUNT_ORDER_MAX 6u

/* QEMU's limits: what it refuses, nobody has. They bound what an image can make us allocate. */
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

/* L1 and L2 entries. */
#define QCOW2_COPIED (1ull << 63) /* the refcount is exactly one: may be written in place */
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO (1ull << 0) /* version 3 */
#define QCOW2_OFF_MASK 0x00fffffffffffe00ull

enum qcow2_compression { QCOW2_ZLIB = 0, QCOW2_ZSTD = 1 };

/* ---- in memory ------------------------------------------------------------------------------- */

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

/* Hints where free clusters are; a "slice" is one of refcounts. */
struct qcow2_space {
    uint64_t *free_slices; /* a bit for each slice with free clusters */
    size_t nwords;
    uint64_t lowest;   /* no cluster below is free in those */
    uint64_t seen;     /* clusters that were looked at since the image was opened */
    uint64_t scan_end; /* the end of those to look at */
    uint64_t behind;   /* from here on nothing was taken */
};

/*
 * Clusters that are counted before anybody needs them. A guest that flushes after every few writes
 * would otherwise have a refcount block written, and waited for, with each flush.
 */
struct qcow2_counted {
    uint64_t first;
    uint64_t n;
    uint64_t taken;        /* clusters since the last flush */
    unsigned short_rounds; /* flushes in a row that came after few of them */
    bool give_back;        /* with the next flush: nobody has needed them for a while */
};

/*
 * A compressed cluster, inflated. It goes by its place on the guest's disk, whose range is held by
 * whoever reads or replaces it: so space of the file that is used again cannot be mistaken for what
 * was there before.
 */
struct qcow2_inflated_slot {
    uint64_t off;
    uint64_t entry; /* L2 entry; 0: nothing */
    uint64_t used;  /* when, in uses */
    bool loading;
    uint8_t *data;
};

struct qcow2_inflated {
    struct qcow2_inflated_slot *slots;
    unsigned n;
    unsigned limit; /* of slots; 0: as many as one image may have */
    uint64_t uses;
    struct co_queue changed; /* a slot was filled */
};

/* Compressed writes find their places in the order in which they came. */
struct qcow2_packing {
    uint64_t begun;
    uint64_t placed;
    struct co_queue turn; /* `placed` changed */
};

/* Which parts of a cluster the guest has discarded since it last wrote to them. */
struct qcow2_partial {
    uint64_t cluster; /* of the guest's disk */
    uint64_t unused;  /* a bit for each part */
};

/* What copy-on-write will need next of the backing file. */
struct qcow2_ahead {
    uint64_t next; /* where the last copy ended */
    uint64_t off;  /* of what is in the buffer */
    uint64_t len;
    bool busy; /* it is being filled */
    uint8_t *buf;
};

/* Space of the image file that the host has found ahead of writes. */
struct qcow2_reserve {
    uint64_t next; /* where the last write of whole clusters ended */
    uint64_t start;
    uint64_t end;
    bool refused; /* the host cannot */
};

/* The header extension for persistent bitmaps (meta/bitmap_dir.h). */
struct qcow2_bitmaps {
    uint32_t n; /* 0: there are none, or they are out of date */
    uint64_t directory_host;
    uint64_t directory_len;
};

enum qcow2_encryption { QCOW2_NOT_ENCRYPTED, QCOW2_AES, QCOW2_LUKS };

struct qcow2 {
    struct block block;
    char *path;        /* for messages */
    bool checking;     /* opened with BLOCK_OPEN_CHECK */
    bool cut_short;    /* tables may lie behind the end of the file: BLOCK_OPEN_CUT_SHORT */
    struct file *data; /* where the guest's clusters are: block.file, or a file of their own */
    bool raw_data;     /* which is a raw image too: what reads as zero must be zero in it */

    /* From the header; constant. */
    unsigned version;
    enum qcow2_encryption encryption;
    bool only_tell;    /* BLOCK_OPEN_ENCRYPTED: no request will be carried out */
    uint64_t luks_off; /* of its header; 0: none */
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
    struct qcow2_inflated inflated;
    struct qcow2_ahead ahead;
    struct qcow2_packing packing;

    /*
     * Ranges of the guest's disk: shared for data I/O in place, exclusive for whatever changes the
     * mapping. So a cluster is never released or filled under the feet of a request that uses it.
     */
    struct range_lock ranges;
    struct qcow2_partial *partial; /* NULL: nothing is remembered */
    struct co_mutex lock;          /* changes of metadata */

    bool settled;     /* what was in the file when it was opened is durable */
    bool write_ready; /* reftable and metadata are loaded, autoclear bits are cleared */
    bool corrupt;     /* found while running: nothing is written any more */
    /* Where metadata is, besides header, L1 and refcount table. */
    struct qcow2_set metadata;        /* active L2 tables and refcount blocks */
    struct qcow2_set snapshot_tables; /* L2 tables of snapshots, some of them active as well */
    struct qcow2_set other_metadata;  /* snapshots' L1 tables, their table, bitmaps */

    /* Owner: q->lock */
    struct qcow2_space space;
    struct qcow2_counted counted;
    uint64_t packed_end;  /* where the next compressed data goes; 0: into a new cluster */
    uint64_t file_end;    /* nothing was ever behind it, so from here on the file reads as zero */
    uint64_t file_len;    /* of the image file, at least; ahead of file_end if we made it longer */
    uint64_t grow_from;   /* making it longer failed: tried again for what ends behind this */
    uint64_t durable_len; /* of file_len, what a power cut leaves: a barrier came after it */
    struct qcow2_reserve reserve;
    bool file_grown; /* it is: to be cut when the image is closed */

    struct qcow2_freed freed;        /* no longer referred to by the tables in memory */
    struct qcow2_freed unreferenced; /* nor by those in the file: to be counted down */

    bool counts_deferred; /* a flush left counts unwritten, and marked the image dirty */
    bool data_first;      /* L2 entries in memory point at what has to be in place before them */

    struct co_mutex writing_back;
    uint64_t flushes_begun;   /* callers of qcow2_flush so far */
    uint64_t flushes_covered; /* those that the last flush was for, and what it returned */
    int flush_result;

    struct qcow2_tracking *tracking; /* of bitmaps that follow; NULL: there are none */

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

/* Bytes of the file that a table takes. */
static inline uint64_t qcow2_table_len(const struct qcow2 *q, const struct qcow2_table *table)
{
    return align_up(table->n * sizeof(uint64_t), q->cluster_size);
}

/* ---- meta/table ------------------------------------------------------------------------------ */

/*
 * Read a table. What it takes of memory is taken off *left, unless that is NULL.
 * 0 or -errno: -EDQUOT if that is not enough.
 */
int qcow2_table_load(struct qcow2 *q, struct qcow2_table *table, uint64_t *left) MUST_CHECK;
void qcow2_table_set(struct qcow2_table *table, uint32_t i, uint64_t entry);
void qcow2_table_done(struct qcow2_table *table);

/* ---- format/header_read ---------------------------------------------------------------------- */

/* Before the first write: load what writing needs, and say in the header that we write. */
int qcow2_prepare_write(struct qcow2 *q) MUST_CHECK;

/* The image contradicts itself: say why, mark it, write no more. Returns -EIO. */
int qcow2_mark_corrupt(struct qcow2 *q, const char *what, uint64_t host);

int qcow2_close(struct block *block);
void qcow2_free(struct block *block);

/* Say in the header, durably, that the refcounts are out of date, or no longer. */
int qcow2_set_dirty(struct qcow2 *q, bool dirty) MUST_CHECK;

/* Point the header at another refcount table. */
int qcow2_write_reftable_pointer(struct qcow2 *q, uint64_t host, uint32_t clusters) MUST_CHECK;

/* ---- meta/file ------------------------------------------------------------------------------- */

int qcow2_meta_read(struct qcow2 *q, uint64_t host, void *buf, size_t len) MUST_CHECK;
int qcow2_meta_write(struct qcow2 *q, uint64_t host, const void *buf, size_t len) MUST_CHECK;
int qcow2_meta_zero(struct qcow2 *q, uint64_t host, uint64_t len) MUST_CHECK;

/* Compressed clusters: always in the image file. */
int qcow2_packed_read(struct qcow2 *q, uint64_t host, void *buf, size_t len) MUST_CHECK;
int qcow2_packed_write(struct qcow2 *q, uint64_t host, const void *buf, size_t len) MUST_CHECK;

int qcow2_data_readv(struct qcow2 *q, uint64_t host, const struct iovec *iov,
                     unsigned niov) MUST_CHECK;
int qcow2_data_writev(struct qcow2 *q, uint64_t host, const struct iovec *iov,
                      unsigned niov) MUST_CHECK;

int qcow2_data_copy(struct qcow2 *q, uint64_t host, uint64_t len, struct file *from,
                    uint64_t from_off) MUST_CHECK;

int qcow2_data_zero(struct qcow2 *q, uint64_t host, uint64_t len, bool unmap) MUST_CHECK;

/* Does the range read as zero because nothing is stored there? False also means: don't know. */
bool qcow2_data_is_hole(struct qcow2 *q, uint64_t host, uint64_t len);

/* -EOPNOTSUPP where the file system has no way but writing a buffer. */
int qcow2_data_zero_fast(struct qcow2 *q, uint64_t host, uint64_t len, bool unmap) MUST_CHECK;

/* Make the image file longer or shorter. 0 or -errno; -ENOTSUP: a block device has one length. */
int qcow2_file_set_len(struct qcow2 *q, uint64_t len) MUST_CHECK;

/*
 * Space up to `end` is about to be used: let the image file be that long, and a good deal longer. A
 * hint: where it fails, writes make the file longer by themselves.
 */
void qcow2_file_grow(struct qcow2 *q, uint64_t end);

/*
 * Find out where the file ends, when it is about to be changed: a hole behind all that is in use is
 * what qcow2_file_grow added before a crash. With q->lock held.
 */
void qcow2_file_find_end(struct qcow2 *q);

/* Take back what qcow2_file_grow added and nobody has used. Nothing is in flight. */
void qcow2_file_shrink(struct qcow2 *q);

/*
 * Whole clusters at `host`, which were a hole, are about to be written. Where such writes go on
 * from front to back, the host finds space for many of them at once: a file system carries out a
 * write into a hole in a thread and a transaction of its own, one into space it has found as any
 * other.
 */
void qcow2_file_reserve(struct qcow2 *q, uint64_t host, uint64_t len);

/* All that was written before, metadata and data, is durable. */
int qcow2_barrier(struct qcow2 *q) MUST_CHECK;

/*
 * Once in an opening, before the first change: what the file says may be the work of a process that
 * was killed, and still be undone by a power cut. What was in use before that must not be used for
 * anything else until then.
 */
int qcow2_barrier_at_first(struct qcow2 *q) MUST_CHECK;

/* ---- meta/cache ------------------------------------------------------------------------------ */

int qcow2_cache_init(struct qcow2 *q) MUST_CHECK;
void qcow2_cache_done(struct qcow2 *q);

/* Drop what need not be written, but for the slices used last. */
void qcow2_cache_trim(struct qcow2 *q);

/* The image is one of `n` on top of each other: they share memory. */
void qcow2_cache_share(struct qcow2 *q, unsigned n);

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

/* ---- meta/flush ------------------------------------------------------------------------------ */

/* Make everything durable that was completed when this was called. */
int qcow2_flush(struct qcow2 *q) MUST_CHECK;

/*
 * Only write back what is dirty now, late counts too, without releasing clusters; q->lock may be
 * held.
 */
int qcow2_write_back(struct qcow2 *q) MUST_CHECK;

/*
 * Write the counts that were left for later, take back those that were made ahead: the file counts
 * what is in use, and is not dirty any more. Nothing is in flight.
 */
int qcow2_settle(struct qcow2 *q) MUST_CHECK;

/* Write metadata back if much of it is dirty. Holding no lock. */
int qcow2_bound_dirty(struct qcow2 *q) MUST_CHECK;

/* ---- meta/refcount --------------------------------------------------------------------------- */

/*
 * Take up to `want` adjacent clusters; all are written or released by the caller. *ret_fresh: they
 * lie past everything that the file ever held, so they read as zero. With q->lock held.
 */
int qcow2_alloc_clusters(struct qcow2 *q, uint64_t want, uint64_t *ret_cluster, uint64_t *ret_n,
                         bool *ret_fresh) MUST_CHECK;

/*
 * Count no clusters ahead any more, until many flushes ask for it again. With q->lock held, or
 * nothing in flight.
 */
void qcow2_uncount_ahead(struct qcow2 *q);

/* Give back clusters that were allocated and never referred to. With q->lock held. */
void qcow2_unalloc_clusters(struct qcow2 *q, uint64_t cluster, uint64_t n);

/*
 * Take space for `len` bytes of compressed data, at most a cluster, behind what was packed last;
 * each cluster that it touches is counted once more. With q->lock held.
 */
int qcow2_alloc_bytes(struct qcow2 *q, uint64_t len, uint64_t *ret_host) MUST_CHECK;

/* Give it back: it was never referred to. With q->lock held. */
void qcow2_unalloc_bytes(struct qcow2 *q, uint64_t host, uint64_t len);

/*
 * Remember clusters that lost a reference. Without memory for it they stay counted, which is lost
 * space that the image checker finds.
 */
void qcow2_freed_add(struct qcow2_freed *freed, uint64_t cluster, uint64_t n, bool punch);
void qcow2_freed_move(struct qcow2_freed *to, struct qcow2_freed *from);

/* Count down what is in q->unreferenced. Takes q->lock. */
void qcow2_release(struct qcow2 *q);

/*
 * Behind which cluster are no others counted, up to q->file_end? -E2BIG if that would take long to
 * find out. With q->lock held.
 */
int qcow2_counted_end(struct qcow2 *q, uint64_t *ret_cluster) MUST_CHECK;

/* Fill refcount blocks of `len` bytes whose first `n` counts are one. */
void qcow2_fill_counts(unsigned refcount_order, uint8_t *data, size_t len, uint64_t n);

/* ---- meta/space ------------------------------------------------------------------------------ */

/* Forget everything. The metadata in memory is that of the file. */
void qcow2_space_reset(struct qcow2 *q);

/* Where to look for a free cluster; it need not be one. With q->lock held. */
int qcow2_space_find(struct qcow2 *q, uint64_t *ret_cluster) MUST_CHECK;

/*
 * The slice was searched from that cluster on: `n` clusters up to `next` were taken, or it has none
 * from there on, and the next slice begins at `next`.
 */
void qcow2_space_taken(struct qcow2 *q, uint64_t from, uint64_t n, uint64_t next);

void qcow2_space_freed(struct qcow2 *q, uint64_t cluster);

/* Clusters that were taken last are free again, and nobody has written to them. */
void qcow2_space_untaken(struct qcow2 *q, uint64_t first, uint64_t n);

/* ---- meta/places ----------------------------------------------------------------------------- */

int qcow2_set_add(struct qcow2_set *set, uint64_t cluster) MUST_CHECK; /* -EEXIST if it is there */
bool qcow2_set_has(const struct qcow2_set *set, uint64_t cluster);
void qcow2_set_remove(struct qcow2_set *set, uint64_t cluster);

/* Collect where the metadata is. -EEXIST or -EINVAL for tables that make no sense; -EIO. */
int qcow2_find_metadata(struct qcow2 *q) MUST_CHECK;
void qcow2_forget_metadata(struct qcow2 *q);

/* Is any byte of [host, host + len) metadata? */
bool qcow2_is_metadata(const struct qcow2 *q, uint64_t host, uint64_t len);

/* Does `host` lie in an active L2 table or refcount block, and in nothing else? */
bool qcow2_may_write_table(const struct qcow2 *q, uint64_t host);

/* ---- request/map ----------------------------------------------------------------------------- */

enum qcow2_kind {
    QCOW2_UNALLOCATED, /* reads from the backing file */
    QCOW2_ZEROES,      /* reads as zero */
    QCOW2_NORMAL,
    QCOW2_PACKED, /* compressed */
};

/* What is at a guest offset, and how far it goes on. */
struct qcow2_extent {
    enum qcow2_kind kind;
    bool has_space; /* there is a `host`: NORMAL always, ZEROES and UNALLOCATED sometimes */
    bool copied;    /* it may be written in place */
    uint64_t len;   /* bytes of the same kind, adjacent in the file */
    uint64_t host;  /* of the byte at the offset asked for */
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

/*
 * Space for clusters of the disk that are about to be written, and the part of them, whole clusters
 * or subclusters, that is to be in it before the L2 entries say so.
 */
struct qcow2_alloc {
    uint64_t start;
    uint64_t end;
    uint64_t n;    /* clusters; 0: nothing to allocate, write in place */
    uint64_t host; /* of the first of them */
    bool fresh;    /* the space reads as zero */
    bool reuse;    /* the guest's clusters had it already */
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

/* The same three steps for `len` bytes of compressed data, [*ret_host, + len), of one cluster. */
int qcow2_begin_packed(struct qcow2 *q, uint64_t off, uint64_t len, uint64_t *ret_host) MUST_CHECK;
int qcow2_commit_packed(struct qcow2 *q, uint64_t off, uint64_t host, uint64_t len) MUST_CHECK;
void qcow2_abort_packed(struct qcow2 *q, uint64_t host, uint64_t len);

enum qcow2_clear {
    QCOW2_CLEAR_ZERO,
    QCOW2_CLEAR_ZERO_OWN, /* whatever is below */
    QCOW2_CLEAR_ZERO_UNMAP,
    QCOW2_CLEAR_DISCARD,
};

static inline bool qcow2_clear_keeps_space(enum qcow2_clear how)
{
    return how <= QCOW2_CLEAR_ZERO_OWN;
}

/*
 * How much of [off, off + len) is cleared together: some subclusters of a cluster, or whole
 * clusters of one slice.
 */
uint64_t qcow2_clear_piece(const struct qcow2 *q, uint64_t off, uint64_t len);

/*
 * Change one such piece to read as zero, or discard whole clusters. The caller holds its clusters
 * exclusively. -ENOTSUP if the image cannot say "zero" of it (version 2 over a backing file, a part
 * of a compressed cluster).
 */
int qcow2_clear(struct qcow2 *q, uint64_t off, uint64_t len, enum qcow2_clear how) MUST_CHECK;

/* No offset of compressed data reaches this. */
uint64_t qcow2_packed_max(const struct qcow2 *q);

/* The entry for compressed data at [host, host + len). */
uint64_t qcow2_packed_entry(const struct qcow2 *q, uint64_t host, uint64_t len);

/* The compressed data that an entry stands for: [*ret_host, + *ret_len). */
void qcow2_packed_range(const struct qcow2 *q, uint64_t entry, uint64_t *ret_host,
                        uint64_t *ret_len);

/* ---- request/write --------------------------------------------------------------------------- */

extern const struct block_driver qcow2_driver;

int qcow2_write(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                unsigned niov) MUST_CHECK;

/* Before each request that writes [off, off + len). Holding no lock. */
int qcow2_begin_write(struct qcow2 *q, uint64_t off, uint64_t len) MUST_CHECK;

/* ---- request/copy ---------------------------------------------------------------------------- */

/* See BLOCK_COPY. */
int qcow2_copy(struct block *block, uint64_t off, uint64_t len, struct file *from,
               uint64_t from_off) MUST_CHECK;

/* ---- request/extents ------------------------------------------------------------------------- */

/* Read [off, off + len) of the disk. The caller holds the range, shared or exclusive. */
int qcow2_read_parts(struct qcow2 *q, uint64_t off, uint64_t len, const struct iovec *iov,
                     unsigned niov) MUST_CHECK;

/* The same of the backing file, as far as it goes; behind its end the disk reads as zero. */
int qcow2_read_backing(struct qcow2 *q, uint64_t off, uint64_t len, const struct iovec *iov,
                       unsigned niov) MUST_CHECK;

/*
 * Write the beginning of [off, off + len) that is mapped and only ours; *ret_done says how much
 * that was. The caller holds the range. `iov_off` is where `off` is in the vector.
 */
int qcow2_write_parts(struct qcow2 *q, uint64_t off, uint64_t len, uint64_t iov_off,
                      const struct iovec *iov, unsigned niov, uint64_t *ret_done) MUST_CHECK;

/* The guest's data is about to be written to [host, host + len): is that no metadata? */
int qcow2_check_data_range(struct qcow2 *q, uint64_t host, uint64_t len) MUST_CHECK;

/* ---- request/packed_read --------------------------------------------------------------------- */

/*
 * `extent` is what is at `off`, a compressed cluster: if all of it is wanted, let it go on over
 * those behind it, as far as they are wanted too and make one read of the file.
 */
void qcow2_packed_lengthen(struct qcow2 *q, uint64_t off, uint64_t len,
                           struct qcow2_extent *extent);

/*
 * Read bytes [off, + len) of the disk from the compressed cluster that `entry` describes, or from
 * several whole ones of which it describes the first.
 */
int qcow2_read_packed(struct qcow2 *q, uint64_t off, uint64_t entry, uint64_t len,
                      const struct iovec *iov, unsigned niov) MUST_CHECK;

/* The cluster at `off` is no longer what it was. */
void qcow2_drop_inflated(struct qcow2 *q, uint64_t off);

/* Forget all, and free the memory. No request is in flight. */
void qcow2_free_inflated(struct qcow2 *q);

/* The image is one of `n` on top of each other: they share memory. */
void qcow2_share_inflated(struct qcow2 *q, unsigned n);

/* ---- request/packed_write -------------------------------------------------------------------- */

/* Write whole clusters, compressed; -EINVAL for parts, -ENOTSUP with an external data file. */
int qcow2_write_compressed(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                           unsigned niov) MUST_CHECK;

/* ---- request/ahead --------------------------------------------------------------------------- */

/*
 * Get what the disk shows at [off, off + len), which the caller holds, if that is in the backing
 * file and was read ahead, or is worth reading ahead for. False: it is to be read in the usual way.
 */
bool qcow2_ahead_read(struct qcow2 *q, uint64_t off, uint64_t len, void *buf);

/* A read of what comes next, beside a write. */
struct qcow2_prefetch {
    struct co_group group;
    struct qcow2 *q;
    uint64_t off;
    uint64_t len;
};

/*
 * Between the two calls, what qcow2_ahead_read will be asked for next is read, if the last of what
 * was read ahead has been fetched. The second waits for it; a failure is forgotten.
 */
void qcow2_ahead_begin(struct qcow2 *q, struct qcow2_prefetch *ret_prefetch);
void qcow2_ahead_end(struct qcow2_prefetch *prefetch);

/* Free the memory. No request is in flight. */
void qcow2_ahead_forget(struct qcow2 *q);

/* ---- request/partial ------------------------------------------------------------------------- */

/*
 * The guest discards [off, off + len), a part of one cluster, which the caller holds exclusively.
 * Returns whether nothing of the cluster is in use now; it is forgotten then.
 */
bool qcow2_partial_discard(struct qcow2 *q, uint64_t off, uint64_t len);

/* The range is about to be written, or has been: holding it. */
void qcow2_partial_write(struct qcow2 *q, uint64_t off, uint64_t len);

/* The disk's contents are others now. */
void qcow2_partial_forget(struct qcow2 *q);

/* ---- check/check ----------------------------------------------------------------------------- */

int qcow2_check(struct block *block, unsigned fix, struct block_check_report *report,
                struct block_check_result *ret_result, struct err *err) MUST_CHECK;

/*
 * An image that was not closed cleanly (lazy refcounts) is to be written: make its counts right.
 * Says in the report, or in the log, what it did. 0, or a negative errno with *err filled: it must
 * not be written.
 */
int qcow2_recover(struct block *block, struct block_check_report *report,
                  struct err *err) MUST_CHECK;

/* ---- details --------------------------------------------------------------------------------- */

void qcow2_get_details(const struct block *block, struct block_details *details);

/* ---- image/holes ----------------------------------------------------------------------------- */

/* Are there more clusters in use than the host has space for? */
int qcow2_has_holes(struct block *block, bool *ret_holes) MUST_CHECK;

/* ---- image/resize ---------------------------------------------------------------------------- */

int qcow2_resize(struct block *block, uint64_t len, enum block_prealloc prealloc,
                 struct err *err) MUST_CHECK;

int qcow2_make_empty(struct block *block) MUST_CHECK;

/* See that the L1 table has at least `n` entries, durably. -EFBIG beyond the format's limit. */
int qcow2_grow_l1(struct qcow2 *q, uint64_t n) MUST_CHECK;

/* ---- switch/header_write --------------------------------------------------------------------- */

int qcow2_change_backing(struct block *block, const char *name, const char *format) MUST_CHECK;

/* All that the two versions do not have in common must be gone, or is default then. */
int qcow2_change_version(struct qcow2 *q, unsigned version) MUST_CHECK;

int qcow2_change_data_file(struct qcow2 *q, const char *name) MUST_CHECK;

/*
 * Write the extension for bitmaps, or leave it out if `bitmaps->n` is 0, together with the header's
 * fields: `hdr` is its first sector with other values. Durable when it returns.
 */
int qcow2_change_bitmaps(struct qcow2 *q, const uint8_t *hdr,
                         const struct qcow2_bitmaps *bitmaps) MUST_CHECK;

/* ---- image/amend ----------------------------------------------------------------------------- */

int qcow2_amend(struct block *block, const struct block_amend_options *options,
                struct err *err) MUST_CHECK;

/* ---- image/expand ---------------------------------------------------------------------------- */

struct qcow2_snaptable;

/*
 * Let nothing, in the image and in its snapshots, be a cluster that reads as zero by itself:
 * version 2 has none. Of an image without extended L2 entries and without a data file. 0 or -errno;
 * nothing changed then. `snapshots` says where their tables are afterwards.
 */
int qcow2_expand_zeroes(struct qcow2 *q, struct qcow2_snaptable *snapshots) MUST_CHECK;

#endif
