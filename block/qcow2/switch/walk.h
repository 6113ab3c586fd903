/* SPDX-License-Identifier: Apache-2.0 */
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

#endif
