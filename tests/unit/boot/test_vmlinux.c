/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "boot/vmlinux_x86.h"
#include "tests/lib/boot/packed_kernel.h"
#include "tests/lib/unit.h"

#define KERNEL_LEN (64 * KIB)

static struct test_vmlinux file;
static struct vmlinux vmlinux;
static struct err err;

static int parse_part(size_t len)
{
    return vmlinux_parse((const uint8_t *)&file, len, TEST_KERNEL_GPA, KERNEL_LEN, &vmlinux, &err);
}

static int parse(void)
{
    return parse_part(sizeof(file));
}

static void set_up(void)
{
    test_vmlinux_init(&file);
    vmlinux = (struct vmlinux){0};
}

START_TEST(a_good_one_gives_segments_entry_and_table)
{
    ck_assert_int_eq(parse(), 0);
    ck_assert_uint_eq(vmlinux.nsegments, 2);
    ck_assert_uint_eq(vmlinux.segments[0].file_off, offsetof(struct test_vmlinux, text));
    ck_assert_uint_eq(vmlinux.segments[0].file_len, sizeof(file.text));
    ck_assert_uint_eq(vmlinux.segments[0].off, 0);
    ck_assert_uint_eq(vmlinux.segments[1].off, TEST_VMLINUX_DATA);
    ck_assert_uint_eq(vmlinux.entry_off, TEST_VMLINUX_ENTRY);
    ck_assert_uint_eq(vmlinux.elf_len, offsetof(struct test_vmlinux, table));
    ck_assert_int_eq(parse_part(vmlinux.elf_len), 0);
}
END_TEST

START_TEST(truncated_images_are_refused)
{
    size_t elf_len = offsetof(struct test_vmlinux, table);

    for (size_t len = 0; len < elf_len; len++)
        ck_assert_int_eq(parse_part(len), -EINVAL);
}
END_TEST

static void expect_refused(const char *what)
{
    ck_assert_msg(parse() == -EINVAL, "%s", what);
    set_up();
}

START_TEST(bad_headers_are_refused)
{
    file.ehdr.e_ident[EI_MAG0] = 0;
    expect_refused("magic");
    file.ehdr.e_ident[EI_CLASS] = ELFCLASS32;
    expect_refused("class");
    file.ehdr.e_ident[EI_DATA] = ELFDATA2MSB;
    expect_refused("byte order");
    file.ehdr.e_machine = EM_386;
    expect_refused("machine");
    file.ehdr.e_type = ET_DYN;
    expect_refused("type");
    file.ehdr.e_phentsize = 8;
    expect_refused("size of program headers");
    file.ehdr.e_phnum = 0;
    expect_refused("no program headers");
    file.ehdr.e_phnum = UINT16_MAX;
    expect_refused("many program headers");
    file.ehdr.e_phoff = UINT64_MAX - 8;
    expect_refused("program headers outside");
    file.ehdr.e_shoff = UINT64_MAX - 8;
    expect_refused("section headers outside");
    file.ehdr.e_shnum = UINT16_MAX;
    expect_refused("many section headers");
}
END_TEST

START_TEST(bad_segments_are_refused)
{
    file.load[0].p_paddr--;
    expect_refused("below the link address");
    file.load[1].p_paddr = TEST_KERNEL_GPA + KERNEL_LEN - 1;
    expect_refused("over the end of the kernel");
    file.load[1].p_memsz = UINT64_MAX;
    expect_refused("endless");
    file.load[1].p_filesz = file.load[1].p_memsz + 1;
    expect_refused("more in the file than in memory");
    file.load[1].p_offset = UINT64_MAX;
    expect_refused("outside the file");
    file.load[1].p_filesz = sizeof(file.data) + sizeof(file.shdr) + 1;
    expect_refused("over the end of the file");
    file.load[1].p_align = MIB;
    expect_refused("alignment");
    file.load[1].p_paddr = TEST_KERNEL_GPA + sizeof(file.text) - 1;
    expect_refused("overlap in memory");
    file.load[1].p_offset = file.load[0].p_offset;
    expect_refused("overlap in the file");
    file.load[0].p_type = file.load[1].p_type = PT_NULL;
    expect_refused("none");
}
END_TEST

START_TEST(an_entry_outside_the_segments_is_refused)
{
    static const uint64_t entries[] = {0, TEST_KERNEL_GPA - 1, TEST_KERNEL_GPA + 0x3000,
                                       TEST_KERNEL_GPA + TEST_VMLINUX_DATA + 0x1000, UINT64_MAX};

    for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
        file.ehdr.e_entry = entries[i];
        ck_assert_int_eq(parse(), -EINVAL);
    }
    file.ehdr.e_entry = TEST_KERNEL_GPA + TEST_VMLINUX_DATA + 0xfff;
    ck_assert_int_eq(parse(), 0);
}
END_TEST

/* Unpacked `head` bytes in front of its place: everything else there is zero afterwards. */
static void check_placed(size_t head)
{
    size_t len = head + KERNEL_LEN;
    uint8_t *area = calloc(1, len), *expected = calloc(1, len);

    ck_assert_int_eq(parse(), 0);
    memcpy(area, &file, sizeof(file));
    memcpy(expected + head + vmlinux.segments[0].off, file.text, sizeof(file.text));
    memcpy(expected + head + vmlinux.segments[1].off, file.data, sizeof(file.data));
    vmlinux_place(&vmlinux, area, sizeof(file), area + head);
    ck_assert_mem_eq(area, expected, len);
    free(expected);
    free(area);
}

START_TEST(segments_are_moved_to_their_places_and_the_rest_is_zero)
{
    static const size_t heads[] = {0, 0x10, 0x1000, 0x1800, 0x3000, 0x4000, 0x8000};

    for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
        check_placed(heads[i]);
}
END_TEST

/* The first moves down and the second up, and the other way round. */
START_TEST(segments_that_overlap_each_others_old_places_are_moved_whole)
{
    for (uint64_t gap = 0; gap < 0x4000; gap += 0x800) {
        file.load[1].p_paddr = TEST_KERNEL_GPA + sizeof(file.text) + gap;
        check_placed(0);
        check_placed(0x400);
        check_placed(0x1400);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "parse", set_up, NULL, a_good_one_gives_segments_entry_and_table,
                   truncated_images_are_refused, bad_headers_are_refused, bad_segments_are_refused,
                   an_entry_outside_the_segments_is_refused);
    unit_case_with(suite, "place", set_up, NULL,
                   segments_are_moved_to_their_places_and_the_rest_is_zero,
                   segments_that_overlap_each_others_old_places_are_moved_whole);
}

UNIT_MAIN("vmlinux", add_tests)
