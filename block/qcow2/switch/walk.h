/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads many tables of an image (L2 tables, refcount blocks): each once, in the order in which they
 * lie in the file, adjacent ones with one request.
 */
#ifndef MINIVMM_BLOCK_QCOW2_SWITCH_WALK_H
#define MINIVMM_BLOCK_QCOW2_SWITCH_WALK_H

#include "block/qcow2/qcow2.h"

/* A table of one cluster, and the references to it. */
struct qcow2_tabref {
    uint64_t host;
    uint64_t index;  /* in the table that refers to it; the first one if there are several */
    uint64_t refs;   /* how many references there are */
    uint64_t active; /* how many of them are in the active L1 table */
};

/* The most tables in a list: those of 16 PiB of disk with 64 KiB clusters, 1 GiB of memory. */
#define QCOW2_TABLIST_MAX (1ull << 25)

struct qcow2_tablist {
    struct qcow2_tabref *refs;
    size_t n;
    size_t max;
    bool merged; /* references to one table are counted together */
};

/* Begin a list that keeps references apart, or counts those to one table together (`merged`). */
void qcow2_tablist_init(struct qcow2_tablist *list, bool merged);

/* Free the memory. */
void qcow2_tablist_done(struct qcow2_tablist *list);

/* Add a reference. Returns 0; -EFBIG beyond QCOW2_TABLIST_MAX; -ENOMEM. */
int qcow2_tablist_add(struct qcow2_tablist *list, const struct qcow2_tabref *ref) MUST_CHECK;

struct qcow2_walk {
    /*
     * Called for each reference. `data` is the table, valid until this returns; NULL if it is all
     * zeroes. Any result but 0 ends the walk.
     */
    int (*visit)(struct qcow2_walk *walk, const struct qcow2_tabref *ref, const uint8_t *data);

    /*
     * Called if the table cannot be read, with the -errno. Any result but 0 ends the walk; without
     * this function the -errno does.
     */
    int (*unreadable)(struct qcow2_walk *walk, const struct qcow2_tabref *ref, int error);
};

/* Sort the list and read all its tables. Returns 0; what ended the walk; or -ENOMEM. */
int qcow2_walk_tables(struct qcow2 *q, struct qcow2_tablist *list,
                      struct qcow2_walk *walk) MUST_CHECK;

#endif
