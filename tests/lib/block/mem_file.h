/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files in memory behind struct file_ops: they can fail, finish out of order, and write down what
 * reached them.
 */
#ifndef MINIVMM_TESTS_MEM_FILE_H
#define MINIVMM_TESTS_MEM_FILE_H

#include "tests/lib/block/mem_disk.h"

struct file *mem_file_new(struct mem_disk *disk, bool writable);
struct mem_disk *mem_file_disk(struct file *file);

/* Carry out what is no operation of a struct file, from MEM_TRUNCATE on; `off` as in mem_op. */
int mem_file_do(struct file *file, unsigned what, uint64_t off);

#endif
