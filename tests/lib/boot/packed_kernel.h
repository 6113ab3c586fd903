/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packed kernels for tests: a small vmlinux with a table of relocations, packed in each of the
 * kernel's ways, and a bzImage with such a payload.
 */
#ifndef MINIVMM_TESTS_PACKED_KERNEL_H
#define MINIVMM_TESTS_PACKED_KERNEL_H

#include <elf.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/lib/boot/kernel_file.h"

#define TEST_VMLINUX_SEGMENTS 2u
#define TEST_VMLINUX_WORDS 8u

/*
 * Linked for TEST_KERNEL_GPA. The first segment begins there, the second 0x5000 bytes later; their
 * bytes count up, but for what is relocated. The entry point is byte 0x123.
 */
struct test_vmlinux {
    Elf64_Ehdr ehdr;
    Elf64_Phdr load[TEST_VMLINUX_SEGMENTS];
    uint8_t pad[0x1000 - sizeof(Elf64_Ehdr) - TEST_VMLINUX_SEGMENTS * sizeof(Elf64_Phdr)];
    uint8_t text[0x3000];
    uint8_t data[0x1000];
    Elf64_Shdr shdr;
    uint32_t table[TEST_VMLINUX_WORDS];
};

#define TEST_VMLINUX_DATA 0x5000u
#define TEST_VMLINUX_ENTRY 0x123u

/* Where its relocations are, from its start, and what is there before. */
#define TEST_VMLINUX_RELOC64 0x10u
#define TEST_VMLINUX_RELOC64_DATA 0x5008u
#define TEST_VMLINUX_INVERSE32 0x20u
#define TEST_VMLINUX_RELOC32 0x30u
#define TEST_VMLINUX_VALUE64 0xffffffff81000000ull
#define TEST_VMLINUX_VALUE32 0x81000000u

void test_vmlinux_init(struct test_vmlinux *vmlinux);

enum test_packing { TEST_PACKED_GZIP, TEST_PACKED_XZ, TEST_PACKED_LZ4, TEST_PACKED_ZSTD };
#define TEST_PACKINGS 4u

/* With the size after it where the packing has none. Returns memory to free. */
uint8_t *test_pack(enum test_packing packing, const void *data, size_t len, size_t *ret_len);

/* Of the payload, from the start of the protected-mode kernel. */
#define TEST_PAYLOAD_OFF 0x300u

/* A bzImage around a payload, with init_size as in test_bzimage. Returns memory to free. */
uint8_t *test_bzimage_around(const void *payload, size_t len, size_t *ret_len);

/* The two above for one vmlinux. */
uint8_t *test_packed_kernel(enum test_packing packing, const struct test_vmlinux *vmlinux,
                            size_t *ret_len);

#endif
