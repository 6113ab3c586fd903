/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel files for tests, made in memory: the smallest that are valid. A test changes what it
 * wants to see refused.
 */
#ifndef MINIVMM_TESTS_KERNEL_FILE_H
#define MINIVMM_TESTS_KERNEL_FILE_H

#include <asm/bootparam.h>
#include <elf.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

#define TEST_KERNEL_GPA 0x1000000u /* 16 MiB */

/* One setup sector, so the kernel proper starts at byte 1024; its bytes count up. */
#define TEST_BZIMAGE_KERNEL_LEN 4096u
#define TEST_BZIMAGE_INIT_SIZE 0x200000u

struct test_bzimage {
    uint8_t boot_sector[0x1f1];
    struct setup_header hdr;
    uint8_t rest[1024 - 0x1f1 - sizeof(struct setup_header)];
    uint8_t kernel[TEST_BZIMAGE_KERNEL_LEN];
} PACKED;

void test_bzimage_init(struct test_bzimage *image);

/* One segment to load at 16 MiB, entered at its start, and a PVH note that says start + 16. */
struct test_elf {
    Elf64_Ehdr ehdr;
    Elf64_Phdr load;
    Elf64_Phdr note;
    Elf64_Nhdr nhdr;
    char nname[4];
    uint8_t ndesc[8];
    uint8_t text[4096];
};

void test_elf_init(struct test_elf *elf);

/* A file without a name in any folder, opened as `path`. */
struct test_file {
    int fd;
    char path[32];
};

/* Errors end the process with a message: they are the test's. */
struct test_file test_file_new(const void *data, size_t len);
void test_file_free(struct test_file *file);

#endif
