/*
 * Files in memory behind struct file_ops: they can fail, finish out of order, and write down what
 * reached them.
 */
#ifndef MINIVMM_TESTS_MEM_FILE_H
#define MINIVMM_TESTS_MEM_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "block/block_int.h"

/* Address space for a file's contents; writing past it fails with ENOSPC. */
#define MEM_DISK_MAX (256u << 20)

#define MEM_ENV_DISKS 40u

/* An operation that was carried out. */
struct mem_op {
    enum file_op op;
    uint64_t off;
    uint64_t len;
    uint8_t *data; /* FILE_WRITE */
};

/* What is "on disk": lives on when the files opened on it are closed. */
struct mem_disk {
    const char *name;
    uint8_t *data;
    uint64_t len;

    bool shuffle;  /* while attached, finish operations later and in random order */
    unsigned seed; /* of that order */
    bool no_zero;  /* FILE_ZERO and FILE_PUNCH are not supported */
    uint32_t align;

    /* Fault: the operation after `fail_after` others fails with `fail_with`; -1: none does. */
    long fail_after;
    int fail_with;
    bool fail_short; /* transfer only a part instead */
    bool failed;

    bool record;
    struct mem_op *ops;
    size_t nops;
    size_t max_ops;
    unsigned counts[FILE_PUNCH + 1]; /* operations by kind */
};

struct mem_env {
    struct block_env env;
    struct mem_disk *disks[MEM_ENV_DISKS];
    unsigned ndisks;
};

void mem_disk_init(struct mem_disk *disk, const char *name);
void mem_disk_done(struct mem_disk *disk);

/* Contents from and to a file of the host; abort on failure. */
void mem_disk_load(struct mem_disk *disk, const char *path);
void mem_disk_save(const struct mem_disk *disk, const char *path);

void mem_disk_forget_ops(struct mem_disk *disk);

/* Do again what an operation did. */
void mem_disk_apply(struct mem_disk *disk, const struct mem_op *op);

/* Open files by the last component of their path. */
void mem_env_init(struct mem_env *env);
void mem_env_add(struct mem_env *env, struct mem_disk *disk);

/* Open an image in the environment; aborts with the message if it fails. */
struct block *mem_env_open(struct mem_env *env, const char *path, enum block_format format,
                           bool readonly);

/* A file on `disk`, for tests below images. */
struct file *mem_file_new(struct mem_disk *disk, bool writable);

/* One request on an image that is not attached. */
int mem_block_read(struct block *block, uint64_t off, void *buf, size_t len);
int mem_block_write(struct block *block, uint64_t off, const void *buf, size_t len);
int mem_block_op(struct block *block, enum block_op op, unsigned flags, uint64_t off, uint64_t len);

#endif
