/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_memory.h"
#include "tests/lib/unit.h"

static const size_t lens[] = {1, 4096, 5000, MIB - 1, MIB, 2 * MIB, 2 * MIB + 1, 9 * MIB + 77};

/* All of it is there, and the pages around it are not given back twice. */
START_TEST(memory_is_zero_and_aligned)
{
    uint8_t *memory[ARRAY_SIZE(lens)];

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        memory[i] = io_memory_new(lens[i]);
        ck_assert_ptr_nonnull(memory[i]);
        ck_assert(is_aligned((uintptr_t)memory[i], 4096));
        ck_assert_uint_eq(memory[i][0] | memory[i][lens[i] - 1], 0);
        memset(memory[i], (int)i + 1, lens[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        ck_assert_uint_eq(memory[i][0], i + 1);
        ck_assert_uint_eq(memory[i][lens[i] - 1], i + 1);
        io_memory_free(memory[i], lens[i]);
    }
}
END_TEST

/* Transfers that a disk's queue has room for begin where huge pages do. */
START_TEST(long_memory_begins_at_a_huge_page)
{
    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        void *memory = io_memory_new(lens[i]);

        if (lens[i] >= MIB)
            ck_assert(is_aligned((uintptr_t)memory, 2 * MIB));
        io_memory_free(memory, lens[i]);
    }
}
END_TEST

START_TEST(absurd_length_is_no_memory)
{
    ck_assert_ptr_null(io_memory_new(SIZE_MAX));
    ck_assert_ptr_null(io_memory_new(SIZE_MAX / 2));
    io_memory_free(NULL, SIZE_MAX);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("memory");

    tcase_add_test(tcase, memory_is_zero_and_aligned);
    tcase_add_test(tcase, long_memory_begins_at_a_huge_page);
    tcase_add_test(tcase, absurd_length_is_no_memory);
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("io_memory", add_tests)
