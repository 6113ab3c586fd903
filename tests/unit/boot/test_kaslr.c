/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "boot/kaslr_x86.h"
#include "tests/lib/unit.h"

START_TEST(the_command_line_is_read_as_the_stub_reads_it)
{
    static const struct {
        const char *cmdline;
        enum kaslr kaslr;
    } cases[] = {
        {"", KASLR_ON},
        {"   ", KASLR_ON},
        {"console=ttyS0 quiet", KASLR_ON},
        {"nokaslr", KASLR_OFF},
        {"quiet nokaslr", KASLR_OFF},
        {"nokaslr quiet", KASLR_OFF},
        {"quiet\tnokaslr\n", KASLR_OFF},
        {"-- nokaslr", KASLR_OFF},
        {"nokaslr=1 nokaslrs xnokaslr \"nokaslr\" kaslr", KASLR_ON},
        {"mem=1G", KASLR_STUB},
        {"nokaslr memmap=1M$2M", KASLR_STUB},
        {"quiet hugepages=2", KASLR_STUB},
        {"mem_encrypt=on nokaslr", KASLR_STUB},
        {"mem memtest=1 crashmem=2", KASLR_ON},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        ck_assert_msg(kaslr_of_cmdline(cases[i].cmdline) == cases[i].kaslr, "%s", cases[i].cmdline);
}
END_TEST

START_TEST(the_kernel_stays_in_its_gib)
{
    const uint64_t link = 16 * MIB, len = 60 * MIB, align = 2 * MIB;
    uint64_t slots = (GIB - link - len) / align + 1;

    for (uint64_t random = 0; random < slots; random++)
        ck_assert_uint_eq(kaslr_choose_delta(link, len, align, random), random * align);
    ck_assert_uint_eq(kaslr_choose_delta(link, len, align, slots), 0);
    ck_assert_uint_le(kaslr_choose_delta(link, len, align, UINT64_MAX), GIB - link - len);

    ck_assert_uint_eq(kaslr_choose_delta(link, GIB - link, align, 12345), 0);
    ck_assert_uint_eq(kaslr_choose_delta(link, GIB, align, 12345), 0);
    ck_assert_uint_eq(kaslr_choose_delta(2 * GIB, len, align, 12345), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "kaslr", the_command_line_is_read_as_the_stub_reads_it,
              the_kernel_stays_in_its_gib);
}

UNIT_MAIN("kaslr", add_tests)
