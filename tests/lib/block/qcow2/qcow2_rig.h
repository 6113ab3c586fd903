/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A qcow2 image in memory, random things done to it, and the history of what it may show.
 *
 * An operation is an entry in the table of qcow2_rig_ops.c, an image layout a field of struct
 * qcow2_layout: tests of power cuts, failing hosts and concurrency pick up what is added there.
 */
#ifndef MINIVMM_TESTS_QCOW2_RIG_H
#define MINIVMM_TESTS_QCOW2_RIG_H

#include "tests/lib/block/history.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/qcow2_image.h"

enum qcow2_backing { QCOW2_ALONE, QCOW2_ON_RAW, QCOW2_ON_QCOW2, QCOW2_BACKINGS };
enum qcow2_data { QCOW2_DATA_INSIDE, QCOW2_DATA_FILE, QCOW2_DATA_FILE_RAW, QCOW2_DATAS };

struct qcow2_layout {
    unsigned version;
    unsigned cluster_bits;
    unsigned refcount_order;
    enum qcow2_backing backing;
    enum qcow2_data data;
    bool extended_l2;
    bool zstd;
    bool lazy;
    bool no_zero; /* the host's file system cannot zero */
    bool device;  /* the image is on a block device with something old on it */
    uint32_t align;
    uint64_t nsectors; /* of the disk; 0: a few clusters */
};

/* Any layout that the format allows; the seed decides. */
void qcow2_layout_pick(struct qcow2_layout *layout, unsigned seed);
void qcow2_layout_print(const struct qcow2_layout *layout, char *buf, size_t len);

enum { QCOW2_RIG_TOP, QCOW2_RIG_BASE, QCOW2_RIG_DATA, QCOW2_RIG_DISKS };

#define QCOW2_RIG_FLUSHES_MAX 4096u
#define QCOW2_RIG_SNAPSHOTS_MAX 16u

/* A snapshot that was taken, and when it was certain to be there. */
struct qcow2_rig_snapshot {
    char name[16];
    uint64_t nsectors;
    uint64_t *stamps;
    size_t created; /* SIZE_MAX: never, or perhaps */
    size_t deleted; /* when that began; SIZE_MAX: never */
};

struct qcow2_rig {
    struct qcow2_layout layout;
    uint64_t nsectors; /* of the disk, now */
    uint64_t max_sectors;
    struct mem_disk disks[QCOW2_RIG_DISKS];
    struct mem_env env;
    struct block *block;
    struct loop *loop;
    struct mem_fault fault;
    struct mem_record record;
    struct history history;
    uint64_t *raw_stamps;   /* of a raw data file, when a next life began; NULL: the disk's */
    struct history lengths; /* of the disk in sectors, as if it were the stamp of one sector */
    uint64_t seed;
    uint64_t stamp;
    unsigned failures; /* of operations; a test that lets none fail expects 0 */
    uint64_t hot;      /* every third request goes to so many first sectors; 0: anywhere */
    bool in_files; /* of the host: who reads while another request writes may see half a sector */

    /* When flushes that succeeded began and ended: what ended before the beginning is durable. */
    struct {
        size_t begin;
        size_t end;
    } flushes[QCOW2_RIG_FLUSHES_MAX];
    unsigned nflushes;

    struct qcow2_rig_snapshot snapshots[QCOW2_RIG_SNAPSHOTS_MAX];
    unsigned nsnapshots;
    unsigned first_name; /* number in the name of the next snapshot, less nsnapshots */
};

/* Make the images and open them. Aborts on failure. */
void qcow2_rig_init(struct qcow2_rig *rig, const struct qcow2_layout *layout, unsigned seed);

/*
 * A rig whose images are copies of these disks of another one, as it goes on after a power cut: it
 * may show what they show now. The image is not open yet: qcow2_rig_reopen, which may write.
 */
void qcow2_rig_init_next(struct qcow2_rig *rig, const struct qcow2_rig *first,
                         struct mem_disk *disks, unsigned seed);

/* Does not close the image. */
void qcow2_rig_done(struct qcow2_rig *rig);

unsigned qcow2_rig_random(struct qcow2_rig *rig, unsigned below);

/* The time, in the history and in the record. */
size_t qcow2_rig_now(struct qcow2_rig *rig);

/* A flush that began at `begin` has ended well. */
void qcow2_rig_flushed(struct qcow2_rig *rig, size_t begin);

/* The moment up to which everything is durable after a power cut at `at`. */
size_t qcow2_rig_settled(const struct qcow2_rig *rig, size_t at);

/* Open the rig's image again after it was closed, however often a fault gets in the way. */
void qcow2_rig_reopen(struct qcow2_rig *rig);

/* Open the image on these disks, each under its name. */
struct block *qcow2_rig_open(struct mem_env *env, struct mem_disk *disks, bool readonly);

/*
 * Do one random operation, of those that the layout allows. Returns its name. An operation that
 * fails counts in rig->failures, and the history takes account of it.
 */
const char *qcow2_rig_step(struct qcow2_rig *rig);

/* Changes of the whole image for the table, and whether they are possible. */
bool qcow2_rig_can_grow(const struct qcow2_rig *rig);
bool qcow2_rig_can_shrink(const struct qcow2_rig *rig);
bool qcow2_rig_can_commit(const struct qcow2_rig *rig);
void qcow2_rig_grow(struct qcow2_rig *rig);
void qcow2_rig_shrink(struct qcow2_rig *rig);
void qcow2_rig_commit(struct qcow2_rig *rig); /* into the backing file */
void qcow2_rig_repair(struct qcow2_rig *rig); /* of a cluster that is leaked first */

/* Operations on snapshots for the table, whether there is one to operate on, and their like. */
bool qcow2_rig_can_take_snapshot(const struct qcow2_rig *rig);
bool qcow2_rig_has_snapshot(const struct qcow2_rig *rig);
void qcow2_rig_take_snapshot(struct qcow2_rig *rig);
void qcow2_rig_apply_snapshot(struct qcow2_rig *rig);
void qcow2_rig_delete_snapshot(struct qcow2_rig *rig);

/* The stamps of all sectors of an open image, to be freed; NULL if it cannot be read (a fault). */
uint64_t *qcow2_rig_read_stamps(struct block *block);

/* Take the snapshots that an open image on these disks has for those of a new rig. */
void qcow2_rig_find_snapshots(struct qcow2_rig *rig, struct block *block, struct mem_disk *disks);

/*
 * Look for the snapshots that must be on these disks after a power cut at `at`, and compare their
 * contents. NULL, or what is wrong, in a static buffer.
 */
const char *qcow2_rig_verify_snapshots(struct qcow2_rig *rig, struct mem_disk *disks, size_t at);

/* The length of the disk changes: what is to be put into the history before and after. */
struct qcow2_rig_change {
    size_t begin;
    unsigned event;
    unsigned length;
};

struct qcow2_rig_change qcow2_rig_change_begin(struct qcow2_rig *rig, uint64_t nsectors);

/* It succeeded, or not; then the disk may be what it was or what it was to be. */
void qcow2_rig_change_end(struct qcow2_rig *rig, const struct qcow2_rig_change *change, bool done);

/*
 * `n` random requests, `depth` of them at a time, wherever they overlap. A read that shows what no
 * request can have left there ends the program.
 */
void qcow2_rig_requests(struct qcow2_rig *rig, unsigned n, unsigned depth);

/*
 * Close the image and go on with copies of its disks in files of the scratch folder, opened with
 * `options` (whose path is set here); and back: close them and load what is in the files. The
 * record ends with the first. Abort on failure.
 */
void qcow2_rig_move_to_files(struct qcow2_rig *rig, struct block_options *options);
void qcow2_rig_move_back(struct qcow2_rig *rig);

/* Flush and close. 0 or -errno, which counts in rig->failures. */
int qcow2_rig_close(struct qcow2_rig *rig);

/*
 * Read all of an open image and compare with what it may show. NULL, or what is wrong, in a static
 * buffer.
 */
const char *qcow2_rig_verify(struct qcow2_rig *rig, struct block *block, size_t now,
                             size_t settled);

/*
 * The same for a raw data file, read as the raw image that it is as well. Data is there before the
 * tables say so: a sector may be newer than what the disk shows, and stay so after a power cut, but
 * never older.
 */
const char *qcow2_rig_verify_raw(struct qcow2_rig *rig, const struct mem_disk *data, uint64_t len,
                                 size_t now, size_t settled);

#endif
