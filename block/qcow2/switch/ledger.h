/*
 * Changes of a whole qcow2 image: snapshots, repair, rebuilt reference counts.
 *
 * They do not change tables in place. They build complete new ones in space that neither the old
 * nor the new state uses, and then write the header once: it points at the L1 table, the snapshot
 * table and the refcount table with fields that all lie in its first sector, so the power can fail
 * at any moment and the image is either the old one or the new one, each without a leak.
 *
 *     qcow2_refs_new, qcow2_refs_load     counts as the image has them
 *     qcow2_refs_add, …_add_tree          … and as they are to be
 *     qcow2_refs_alloc, …_copy_tables, …  new tables, in clusters that nobody uses
 *     qcow2_refs_commit                   new counts, one header write; the image is reloaded
 *     qcow2_refs_free
 *
 * The image is not attached, no request is in flight, and it is written back before. Clusters that
 * lost their last reference may be taken only after the commit. Without a commit nothing changed.
 */
#ifndef MINIVMM_BLOCK_QCOW2_SWITCH_LEDGER_H
#define MINIVMM_BLOCK_QCOW2_SWITCH_LEDGER_H

#include "block/qcow2/format/counts.h"
#include "block/qcow2/qcow2.h"

struct qcow2_refs {
    struct qcow2 *q;
    uint64_t max;             /* what a count can hold in this image */
    struct qcow2_counts was;  /* what the refcount blocks say */
    struct qcow2_counts now;  /* what they will say */
    struct qcow2_set dropped; /* clusters counted up and down since: not to be used yet either */
    uint64_t next;            /* where to look for free clusters */
    uint64_t move_from;       /* refcount blocks from here on are placed anew; UINT64_MAX: none */
};

/* Empty counts for a writable image, which is written back first. 0 or -errno. */
int qcow2_refs_new(struct qcow2 *q, struct qcow2_refs **ret_refs) MUST_CHECK;
void qcow2_refs_free(struct qcow2_refs *refs);

/*
 * Begin with the counts in the file. -EIO if the refcount table is damaged; -EUCLEAN if the counts
 * are out of date (the image is dirty); -EFBIG beyond the limits in format/counts.h.
 */
int qcow2_refs_load(struct qcow2_refs *refs) MUST_CHECK;

/* How often the cluster that holds `host` will be referred to. */
uint64_t qcow2_refs_get(const struct qcow2_refs *refs, uint64_t host);

/*
 * Change the counts of all clusters that [host, host + len) touches. -ERANGE if one would fall
 * below zero or not fit the image's refcount width: those before it are changed then.
 */
int qcow2_refs_add(struct qcow2_refs *refs, uint64_t host, uint64_t len, int64_t delta) MUST_CHECK;

/* Does an entry of the refcount table point at a block? */
bool qcow2_refblock_ok(const struct qcow2 *q, uint64_t entry);

/* ---- trees ----------------------------------------------------------------------------------- */

/*
 * Read an L1 table in host byte order; *ret_entries is to be freed. -EIO for one outside the file.
 */
int qcow2_l1_read(struct qcow2 *q, uint64_t host, uint32_t n, uint64_t **ret_entries) MUST_CHECK;

struct qcow2_tablist;

/* Add the L2 tables that `n` L1 entries refer to. -EIO for entries that make no sense. */
int qcow2_list_tables(const struct qcow2 *q, const uint64_t *entries, uint32_t n,
                      struct qcow2_tablist *list) MUST_CHECK;

enum {
    QCOW2_TREE_TABLES = 1 << 0, /* the L2 tables */
    QCOW2_TREE_DATA = 1 << 1,   /* what they point at, unless that is in an external data file */
};

/*
 * Change the counts of what `n` L1 entries refer to; not of the L1 table itself. Each L2 table is
 * read once, neighbours together. -EIO for entries that make no sense, -ERANGE as qcow2_refs_add.
 */
int qcow2_refs_add_tree(struct qcow2_refs *refs, const uint64_t *entries, uint32_t n,
                        unsigned parts, int64_t delta) MUST_CHECK;

enum qcow2_copy {
    QCOW2_COPY_ALL,     /* every L2 table */
    QCOW2_COPY_CHANGED, /* those that have wrong COPIED flags; the old ones lose a reference */
};

/*
 * Once all counts are final: write copies of L2 tables whose COPIED flags agree with the counts,
 * and change the L1 entries in memory to match. With COPY_ALL the old tables' counts stay as they
 * are.
 */
int qcow2_refs_copy_tables(struct qcow2_refs *refs, uint64_t *entries, uint32_t n,
                           enum qcow2_copy which) MUST_CHECK;

/* ---- new metadata ---------------------------------------------------------------------------- */

/* Take free clusters for `len` bytes, adjacent; counted once. -EFBIG, -ENOMEM. */
int qcow2_refs_alloc(struct qcow2_refs *refs, uint64_t len, uint64_t *ret_host) MUST_CHECK;

/* Write bytes (a snapshot table, say) to new clusters. No bytes: *ret_host is 0. */
int qcow2_refs_put(struct qcow2_refs *refs, const void *data, size_t len,
                   uint64_t *ret_host) MUST_CHECK;

/* The same for an L1 table in host byte order. */
int qcow2_refs_put_l1(struct qcow2_refs *refs, const uint64_t *entries, uint32_t n,
                      uint64_t *ret_host) MUST_CHECK;

/* What the header is to say. */
struct qcow2_switch {
    uint64_t size; /* of the disk */
    uint64_t l1_host;
    uint32_t l1_n;
    uint64_t snapshots_host;
    uint32_t nsnapshots;
    uint64_t incompatible; /* version 3, like the rest */
    uint64_t compatible;
    uint64_t autoclear;
    unsigned refcount_order; /* q->refcount_order, which the caller changes with the counts */
    bool set_bitmaps;        /* another directory of bitmaps; `autoclear` says so too */
    struct qcow2_bitmaps bitmaps;
};

/* What it says now. */
int qcow2_switch_init(struct qcow2 *q, struct qcow2_switch *ret_next) MUST_CHECK;

/*
 * Write the counts to new refcount blocks and a new refcount table (blocks that do not change stay
 * where they are), switch the header over, and reload the image. The old refcount table's own
 * references are dropped here, those of other tables are the caller's matter.
 *
 * 0 or -errno; after a failure the image in memory is as it was before, and so is the file unless
 * it was the header's own barrier that failed. -EUCLEAN if `next` leaves what it must not.
 */
int qcow2_refs_commit(struct qcow2_refs *refs, const struct qcow2_switch *next) MUST_CHECK;

/* ---- after the commit, before the image is used ---------------------------------------------- */

/*
 * Give the space of clusters that nothing refers to any more back to the host. A hint: where the
 * host cannot do it, the space stays with the file, free for reuse.
 */
void qcow2_refs_punch(struct qcow2_refs *refs);

/* Cut the file behind the last cluster in use, durably; a block device stays as it is. */
int qcow2_refs_cut_file(struct qcow2_refs *refs) MUST_CHECK;

/*
 * Where clusters begin that the old state did not use, at the end of the file, and behind free
 * ones: the file can be shorter. UINT64_MAX: nowhere.
 */
uint64_t qcow2_refs_new_end(const struct qcow2_refs *refs);

#endif
