/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qemu-img's opinion of images in memory. Every look costs a process, so tests ask about some of
 * their states only.
 */
#ifndef MINIVMM_TESTS_QEMU_ORACLE_H
#define MINIVMM_TESTS_QEMU_ORACLE_H

#include "tests/lib/block/mem_disk.h"

/*
 * Write the disks under their names into the test's folder (scratch.h) and check the first, a qcow2
 * image: leaked clusters are fine. An image marked dirty is repaired first, as QEMU does when it
 * opens one. With `contents` (as long as the disk) that is what the image must show. Returns NULL,
 * or what is wrong.
 */
const char *qemu_oracle_check(const struct mem_disk *disks, unsigned ndisks,
                              const uint8_t *contents, uint64_t len);

#endif
