/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is "on disk" of files in memory: contents, a record of what changed them, and which
 * operation fails. Several disks may share one record and one fault, so that the order of
 * operations across an overlay, its backing file and its data file is known.
 */
#ifndef MINIVMM_TESTS_MEM_DISK_H
#define MINIVMM_TESTS_MEM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/file.h"

/* Address space for a file's contents; writing past it fails with ENOSPC. */
#define MEM_DISK_MAX (256u << 20)

struct mem_disk;

/*
 * What a file can be asked to do: enum file_op, and what is not an operation of its own there.
 * Names of files are entries of one folder: that a file has got its name, or lost it, is durable
 * when the folder has been synced.
 */
enum {
    MEM_TRUNCATE = FILE_COPY + 1,
    MEM_LINK,
    MEM_UNLINK,
    MEM_SYNC_FOLDER,
    MEM_MARK,
    MEM_OPS,
};

/* An operation that was carried out, or a mark: a moment that somebody wants to find again. */
struct mem_op {
    struct mem_disk *disk;
    unsigned op;
    size_t begin; /* operations in the record when it was submitted */
    uint64_t off; /* MEM_TRUNCATE: the new length */
    uint64_t len;
    uint8_t *data; /* FILE_WRITE, which stands for FILE_COPY too */
};

/* Changes of all disks that point here, in the order in which they took effect. */
struct mem_record {
    struct mem_op *ops;
    size_t n;
    size_t max;
};

/* The operation after `after` others of the kinds in question fails with `result`. */
struct mem_fault {
    long after;     /* -1: none fails */
    unsigned more;  /* fail as well after that one */
    unsigned kinds; /* bit for each enum file_op or MEM_TRUNCATE …; 0: any */
    int result;
    bool is_short; /* transfer only a part instead */
    bool happened;
};

/*
 * Decisions that a fuzzer's input takes, a byte for each: which operation finishes next (over and
 * over), and what becomes of it (once; when the bytes are used up none fails any more).
 */
struct mem_choices {
    const uint8_t *bytes;
    unsigned n;
    unsigned at;
};

/* A byte from here on makes the operation fail, interrupted ones included, or be short. */
#define MEM_CHOICE_FAULTS 0xf0u

/* What is "on disk": lives on when the files opened on it are closed. */
struct mem_disk {
    const char *name;
    uint8_t *data;
    uint64_t len;       /* what lies past it is zero */
    uint64_t *versions; /* of each unit of the data, see mem_disk_restore */
    bool named;         /* it can be opened by its name; at first it can */
    bool fixed_len;     /* a block device */

    bool shuffle;  /* while attached, finish operations later and in random order */
    unsigned seed; /* of that order */
    unsigned late; /* one in so many of them finishes long after the others; 0: none */
    bool no_zero;  /* FILE_ZERO and FILE_PUNCH are not supported */
    uint32_t align;

    /* Called before a write takes its data: a guest that changes its memory; may be NULL. */
    void (*before_write)(void);

    struct mem_choices *choices; /* in place of `seed` and `fault`; NULL: there are none */

    struct mem_fault *fault;   /* NULL: nothing fails */
    struct mem_record *record; /* NULL: nobody wants to know */
    unsigned counts[MEM_OPS];  /* operations by kind */
    unsigned max_pending;      /* with `shuffle`: that were in flight together, at most */
};

void mem_disk_init(struct mem_disk *disk, const char *name);
void mem_disk_done(struct mem_disk *disk);

/*
 * Make it a block device of a length, full of what looks like metadata and guest data of another
 * image: what shows where a write was lost.
 */
void mem_disk_make_device(struct mem_disk *disk, uint64_t len, unsigned seed);

/* Contents from and to a file of the host; abort on failure. */
void mem_disk_load(struct mem_disk *disk, const char *path);
void mem_disk_save(const struct mem_disk *disk, const char *path);

/* Make `to` what `from` is. */
void mem_disk_copy(struct mem_disk *to, const struct mem_disk *from);

/*
 * The same for a disk that was copied from that one before, by copying only what operations changed
 * since, on the one or the other. What a test put into `data` itself goes unnoticed.
 */
void mem_disk_restore(struct mem_disk *to, const struct mem_disk *from);

/* Do again what an operation did, on this disk. */
void mem_disk_apply(struct mem_disk *disk, const struct mem_op *op);

/* Note a moment: how long the record is with it. Never the same twice. */
size_t mem_record_mark(struct mem_record *record);
void mem_record_done(struct mem_record *record);
void mem_record_add(struct mem_record *record, const struct mem_op *op);

/* For what goes wrong with the test itself: print it and abort. */
NORETURN void mem_die(const char *what);

#endif
