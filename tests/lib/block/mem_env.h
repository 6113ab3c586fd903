/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images on disks in memory: where block_open_in finds files, and requests on what it opened.
 */
#ifndef MINIVMM_TESTS_MEM_ENV_H
#define MINIVMM_TESTS_MEM_ENV_H

#include "block/driver.h"
#include "block/env.h"
#include "block/open.h"
#include "tests/lib/block/mem_disk.h"

#define MEM_ENV_DISKS 70u

struct mem_env {
    struct block_env env;
    struct mem_disk *disks[MEM_ENV_DISKS];
    unsigned ndisks;
};

/* Open files by the last component of their path. */
void mem_env_init(struct mem_env *env);
void mem_env_add(struct mem_env *env, struct mem_disk *disk);

/* Open an image in the environment; aborts with the message if it fails. */
struct block *mem_env_open(struct mem_env *env, const char *path, enum block_format format,
                           bool readonly);

/* One request on an image that is not attached. */
int mem_block_read(struct block *block, uint64_t off, void *buf, size_t len);
int mem_block_write(struct block *block, uint64_t off, const void *buf, size_t len);
int mem_block_op(struct block *block, enum block_op op, unsigned flags, uint64_t off, uint64_t len);

#endif
