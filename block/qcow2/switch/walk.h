/*
 * Reading many tables of a qcow2 image (L2 tables, refcount blocks): each once, in the order in
 * which they lie in the file, neighbours with one request.
 */
#ifndef MINIVMM_BLOCK_QCOW2_SWITCH_WALK_H
#define MINIVMM_BLOCK_QCOW2_SWITCH_WALK_H

#include "block/qcow2/qcow2.h"

/* A table of one cluster, and who refers to it. */
struct qcow2_tabref {
    uint64_t host;
    uint64_t index;  /* in the table that refers to it; the first one if there are several */
    uint64_t refs;   /* how many refer to it */
    uint64_t active; /* of those, from the active L1 table */
};

/* Tables in a list: 8 PiB of disk with 64 KiB clusters, 1 GiB of memory. More is -EFBIG. */
#define QCOW2_TABLIST_MAX (1ull << 25)

struct qcow2_tablist {
    struct qcow2_tabref *refs;
    size_t n;
    size_t max;
    bool merged; /* may be merged whenever it grows */
};

/* A list that keeps references apart, or counts those to one table together (`merged`). */
void qcow2_tablist_init(struct qcow2_tablist *list, bool merged);
void qcow2_tablist_done(struct qcow2_tablist *list);
int qcow2_tablist_add(struct qcow2_tablist *list, const struct qcow2_tabref *ref) MUST_CHECK;

struct qcow2_walk {
    /*
     * `data` is valid until it returns; NULL if the table is all zeroes. Not 0: the walk ends so.
     */
    int (*visit)(struct qcow2_walk *walk, const struct qcow2_tabref *ref, const uint8_t *data);

    /* The table cannot be read: -errno. NULL: the walk ends. */
    int (*unreadable)(struct qcow2_walk *walk, const struct qcow2_tabref *ref, int error);
};

/* Sort the list and read all its tables. 0, or what ended the walk. */
int qcow2_walk_tables(struct qcow2 *q, struct qcow2_tablist *list,
                      struct qcow2_walk *walk) MUST_CHECK;

/* ---- L2 entries as they are in the file ------------------------------------------------------ */

enum qcow2_l2_kind {
    QCOW2_L2_UNALLOCATED,
    QCOW2_L2_ZERO,       /* reads as zero, without space */
    QCOW2_L2_ZERO_SPACE, /* reads as zero, `host` is kept for it */
    QCOW2_L2_NORMAL,
    QCOW2_L2_PACKED,
};

struct qcow2_l2_entry {
    uint64_t entry;
    uint64_t bitmap; /* of subclusters; 0 without extended L2 entries */
    enum qcow2_l2_kind kind;
    uint64_t host; /* ZERO_SPACE, NORMAL, PACKED: the space it stands for */
    uint64_t len;
};

/* Of an L2 table's entry. */
#define QCOW2_L2_RESERVED 0x3f000000000001feull /* not for compressed clusters */
#define QCOW2_L1_RESERVED 0x7f000000000001ffull
#define QCOW2_REFTABLE_RESERVED 0x1ffull

static inline bool qcow2_has_data_file(const struct qcow2 *q)
{
    return q->incompatible & QCOW2_INCOMPAT_DATA_FILE;
}

static inline unsigned qcow2_l2_entries(const struct qcow2 *q)
{
    return 1u << q->l2_bits;
}

/* Nothing is checked: `host` may be anything. */
void qcow2_l2_decode(const struct qcow2 *q, const uint8_t *table, unsigned i,
                     struct qcow2_l2_entry *ret_entry);

#endif
