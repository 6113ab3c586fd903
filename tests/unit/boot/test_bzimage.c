/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "boot/bzimage_x86.h"
#include "tests/lib/boot/kernel_file.h"
#include "tests/lib/unit.h"

#define SECTOR 512ull

static struct test_bzimage file;
static struct kernel_image image;
static struct err err;

static int parse_part(size_t head_len, uint64_t file_size)
{
    memset(&image, 0, sizeof(image));
    memset(&err, 0, sizeof(err));
    return bzimage_parse((const uint8_t *)&file, head_len, file_size, &image, &err);
}

static int parse(void)
{
    return parse_part(1024, sizeof(file));
}

START_TEST(a_good_header_gives_place_and_limits)
{
    test_bzimage_init(&file);
    ck_assert(bzimage_probe((const uint8_t *)&file, 1024));
    ck_assert_int_eq(parse(), 0);
    ck_assert_uint_eq(image.nsegments, 1);
    ck_assert_uint_eq(image.segments[0].file_off, 1024);
    ck_assert_uint_eq(image.segments[0].file_len, TEST_BZIMAGE_KERNEL_LEN);
    ck_assert_uint_eq(image.segments[0].gpa, TEST_KERNEL_GPA);
    ck_assert_uint_eq(image.segments[0].mem_len, TEST_BZIMAGE_INIT_SIZE);
    ck_assert_int_eq(image.entry, BOOT_ENTRY_LINUX64);
    ck_assert_uint_eq(image.entry_gpa, TEST_KERNEL_GPA + 0x200);
    ck_assert_uint_eq(image.initrd_limit, 0x80000000);
    ck_assert_uint_eq(image.cmdline_max, 2047);
}
END_TEST

START_TEST(the_header_is_copied_up_to_where_the_jump_leads)
{
    struct setup_header *copy = (struct setup_header *)image.setup_header;

    test_bzimage_init(&file);
    ck_assert_int_eq(parse(), 0);
    ck_assert_uint_eq(image.setup_header_len, sizeof(struct setup_header));
    ck_assert_mem_eq(image.setup_header, &file.hdr, sizeof(file.hdr));

    /* Protocol 2.12 ends in front of kernel_info_offset: what is there is not header. */
    file.hdr.version = 0x020c;
    file.hdr.jump = 0xeb | 0x66 << 8;
    file.hdr.kernel_info_offset = 0x12345678;
    ck_assert_int_eq(parse(), 0);
    ck_assert_uint_eq(image.setup_header_len, 0x268 - 0x1f1);
    ck_assert_uint_eq(copy->kernel_info_offset, 0);
}
END_TEST

START_TEST(a_longer_header_of_the_future_is_cut_to_its_room)
{
    test_bzimage_init(&file);
    file.hdr.jump = 0xeb | 0xff << 8;
    memset(file.rest, 0x5a, sizeof(file.rest));
    ck_assert_int_eq(parse(), 0);
    ck_assert_uint_eq(image.setup_header_len, KERNEL_SETUP_HEADER_MAX);
}
END_TEST

START_TEST(no_setup_sectors_stand_for_four)
{
    test_bzimage_init(&file);
    file.hdr.setup_sects = 0;
    ck_assert_int_eq(parse_part(1024, 5 * SECTOR + TEST_BZIMAGE_KERNEL_LEN), 0);
    ck_assert_uint_eq(image.segments[0].file_off, 5 * SECTOR);
}
END_TEST

START_TEST(the_place_follows_the_header)
{
    static const struct {
        uint64_t pref_address;
        uint32_t alignment;
        uint32_t init_size;
        uint8_t relocatable;
        uint64_t gpa;
        uint64_t mem_len;
    } cases[] = {
        {0x1000000, 0x200000, 0x300000, 1, 0x1000000, 0x300000},
        {0x1000000, 0x200000, 0, 1, 0x1000000, TEST_BZIMAGE_KERNEL_LEN},
        {0x1100000, 0x200000, 0x300000, 1, 0x1200000, 0x300000},
        {0x1100000, 0x200000, 0x300000, 0, 0x1100000, 0x300000},
        {0x1100000, 3, 0x300000, 0, 0x1100000, 0x300000},
        {0, 0x1000, 0x300000, 1, 0x100000, 0x300000},
        {0, 0x1000000, 0x300000, 1, 0x1000000, 0x300000},
        {0xffffffff, 0x80000000, 0xffffffff, 1, 0x100000000, 0xffffffff},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        test_bzimage_init(&file);
        file.hdr.pref_address = cases[i].pref_address;
        file.hdr.kernel_alignment = cases[i].alignment;
        file.hdr.init_size = cases[i].init_size;
        file.hdr.relocatable_kernel = cases[i].relocatable;
        ck_assert_int_eq(parse(), 0);
        ck_assert_uint_eq(image.segments[0].gpa, cases[i].gpa);
        ck_assert_uint_eq(image.segments[0].mem_len, cases[i].mem_len);
    }
}
END_TEST

static void old_protocol(void)
{
    file.hdr.version = 0x020b;
}
static void ancient_protocol(void)
{
    file.hdr.version = 0x0000;
}
static void thirty_two_bits(void)
{
    file.hdr.xloadflags = XLF_CAN_BE_LOADED_ABOVE_4G;
}
static void loaded_low(void)
{
    file.hdr.loadflags = 0;
}
static void no_jump(void)
{
    file.hdr.jump = 0x9090;
}
static void short_header(void)
{
    file.hdr.jump = 0xeb | 0x60 << 8;
}
static void no_header(void)
{
    file.hdr.jump = 0xeb;
}
static void one_paragraph_missing(void)
{
    file.hdr.syssize++;
}
static void largest_size(void)
{
    file.hdr.syssize = UINT32_MAX;
}
static void no_size(void)
{
    file.hdr.syssize = 0;
}
static void too_small_for_entry(void)
{
    file.hdr.syssize = 0x200 / 16;
}
static void many_setup_sectors(void)
{
    file.hdr.setup_sects = 255;
}
static void odd_alignment(void)
{
    file.hdr.kernel_alignment = 0x300000;
}
static void no_alignment(void)
{
    file.hdr.kernel_alignment = 0;
}
static void pref_address_above_4g(void)
{
    file.hdr.pref_address = 0x100000000;
}
static void largest_pref_address(void)
{
    file.hdr.pref_address = UINT64_MAX;
}

static const struct {
    void (*spoil)(void);
    const char *message;
} bad[] = {
    {old_protocol, "kernel too old: boot protocol 2.11, expected 2.12"},
    {ancient_protocol, "kernel too old: boot protocol 0.00"},
    {thirty_two_bits, "a 32-bit kernel"},
    {loaded_low, "a zImage"},
    {no_jump, "expected a short jump"},
    {short_header, "too short"},
    {no_header, "too old"}, /* nothing of it: not even the version */
    {one_paragraph_missing, "truncated: the kernel ends at byte 5136, the file at 5120"},
    {largest_size, "truncated"},
    {no_size, "a kernel of 0 bytes only"},
    {too_small_for_entry, "a kernel of 512 bytes only"},
    {many_setup_sectors, "truncated"},
    {odd_alignment, "kernel alignment 0x300000, expected a power of two"},
    {no_alignment, "expected a power of two"},
    {pref_address_above_4g, "preferred address 0x100000000"},
    {largest_pref_address, "preferred address 0xffffffffffffffff"},
};

START_TEST(bad_headers_are_refused_with_the_reason)
{
    test_bzimage_init(&file);
    bad[_i].spoil();
    ck_assert_int_eq(parse(), -EINVAL);
    ck_assert_msg(strstr(err.msg, bad[_i].message), "%s", err.msg);
}
END_TEST

static void with_payload(void)
{
    test_bzimage_init(&file);
    file.hdr.payload_offset = 0x300;
    file.hdr.payload_length = 0x400;
}

START_TEST(a_payload_is_found)
{
    with_payload();
    ck_assert_int_eq(parse(), 0);
    ck_assert_uint_eq(image.payload.file_off, 1024 + 0x300);
    ck_assert_uint_eq(image.payload.len, 0x400);
    ck_assert_uint_eq(image.payload.link_gpa, TEST_KERNEL_GPA);
    ck_assert_uint_eq(image.payload.align, 0x200000);
    file.hdr.payload_length = TEST_BZIMAGE_KERNEL_LEN - 0x300;
    ck_assert_int_eq(parse(), 0);
    ck_assert_uint_eq(image.payload.len, TEST_BZIMAGE_KERNEL_LEN - 0x300);
}
END_TEST

static void expect_no_payload(const char *why)
{
    ck_assert_msg(parse() == 0, "%s: %s", why, err.msg);
    ck_assert_msg(image.payload.len == 0, "%s", why);
    with_payload();
}

START_TEST(an_unexpected_payload_is_left_to_the_stub)
{
    with_payload();
    file.hdr.version = 0x020e;
    expect_no_payload("older than 2.15");
    file.hdr.relocatable_kernel = 0;
    expect_no_payload("not relocatable");
    file.hdr.kernel_alignment = 0x100000;
    expect_no_payload("alignment");
    file.hdr.init_size = 0x40000001;
    expect_no_payload("larger than 1 GiB");
    file.hdr.pref_address += 0x1000;
    expect_no_payload("its place is not aligned");
    file.hdr.payload_length = TEST_BZIMAGE_KERNEL_LEN - 0x300 + 1;
    expect_no_payload("over the end");
    file.hdr.payload_offset = UINT32_MAX;
    expect_no_payload("outside");
    file.hdr.payload_length = 0;
    expect_no_payload("empty");
}
END_TEST

START_TEST(a_file_that_ends_in_the_header_is_truncated)
{
    test_bzimage_init(&file);
    for (size_t len = 0x206; len < 0x1f1 + sizeof(file.hdr); len++) {
        ck_assert(bzimage_probe((const uint8_t *)&file, len));
        ck_assert_int_eq(parse_part(len, len), -EINVAL);
        ck_assert_msg(strstr(err.msg, "truncated: the setup header ends at byte"), "%s", err.msg);
    }
}
END_TEST

START_TEST(other_files_are_not_taken_for_a_kernel)
{
    const uint8_t *head = (const uint8_t *)&file;

    test_bzimage_init(&file);
    ck_assert(!bzimage_probe(head, 0));
    ck_assert(!bzimage_probe(head, 0x205));
    file.hdr.header ^= 1;
    ck_assert(!bzimage_probe(head, 1024));
    file.hdr.header ^= 1;
    file.hdr.boot_flag = 0;
    ck_assert(!bzimage_probe(head, 1024));
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *table = tcase_create("bad");

    unit_case(suite, "good", a_good_header_gives_place_and_limits,
              the_header_is_copied_up_to_where_the_jump_leads,
              a_longer_header_of_the_future_is_cut_to_its_room, no_setup_sectors_stand_for_four,
              the_place_follows_the_header);
    unit_case(suite, "payload", a_payload_is_found, an_unexpected_payload_is_left_to_the_stub);
    tcase_add_loop_test(table, bad_headers_are_refused_with_the_reason, 0, ARRAY_SIZE(bad));
    suite_add_tcase(suite, table);
    unit_case(suite, "not a kernel", a_file_that_ends_in_the_header_is_truncated,
              other_files_are_not_taken_for_a_kernel);
}

UNIT_MAIN("bzimage", add_tests)
