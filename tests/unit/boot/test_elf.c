/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/elf.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/boot/kernel_file.h"
#include "tests/lib/unit.h"

static struct test_elf elf;
static struct kernel_image image;
static struct err err;

static int parse_bytes(const void *data, size_t len)
{
    struct test_file memfile = test_file_new(data, len);
    struct boot_file file;
    int r;

    memset(&image, 0, sizeof(image));
    memset(&err, 0, sizeof(err));
    ck_assert_int_eq(boot_file_open(memfile.path, &file, &err), 0);
    r = elf_parse(&file, &image, &err);
    boot_file_close(&file);
    test_file_free(&memfile);
    return r;
}

static int parse(void)
{
    return parse_bytes(&elf, sizeof(elf));
}

START_TEST(segments_and_the_pvh_entry_are_found)
{
    test_elf_init(&elf);
    ck_assert(elf_probe((const uint8_t *)&elf, sizeof(elf)));
    ck_assert_int_eq(parse(), 0);
    ck_assert_uint_eq(image.nsegments, 1);
    ck_assert_uint_eq(image.segments[0].file_off, offsetof(struct test_elf, text));
    ck_assert_uint_eq(image.segments[0].file_len, sizeof(elf.text));
    ck_assert_uint_eq(image.segments[0].gpa, TEST_KERNEL_GPA);
    ck_assert_uint_eq(image.segments[0].mem_len, 4 * sizeof(elf.text));
    ck_assert_int_eq(image.entry, BOOT_ENTRY_PVH);
    ck_assert_uint_eq(image.entry_gpa, TEST_KERNEL_GPA + 16);
    ck_assert_uint_eq(image.setup_header_len, 0);
}
END_TEST

START_TEST(a_pvh_entry_of_four_bytes_is_read_as_such)
{
    test_elf_init(&elf);
    elf.nhdr.n_descsz = 4;
    memset(elf.ndesc + 4, 0xff, 4);
    elf.note.p_filesz -= 4;
    ck_assert_int_eq(parse(), 0);
    ck_assert_int_eq(image.entry, BOOT_ENTRY_PVH);
    ck_assert_uint_eq(image.entry_gpa, TEST_KERNEL_GPA + 16);
}
END_TEST

static void another_type(void)
{
    elf.nhdr.n_type = 1;
}
static void another_name(void)
{
    elf.nname[0] = 'G';
}
static void longer_name(void)
{
    elf.nhdr.n_namesz = 5;
}
static void longest_name(void)
{
    elf.nhdr.n_namesz = UINT32_MAX;
}
static void longest_descriptor(void)
{
    elf.nhdr.n_descsz = UINT32_MAX;
}
static void odd_descriptor(void)
{
    elf.nhdr.n_descsz = 2;
}
static void cut_off_note(void)
{
    elf.note.p_filesz--;
}
static void empty_notes(void)
{
    elf.note.p_filesz = 0;
}
static void no_notes(void)
{
    elf.ehdr.e_phnum = 1;
}

static void (*const without_pvh[])(void) = {
    another_type,   another_name, longer_name, longest_name, longest_descriptor,
    odd_descriptor, cut_off_note, empty_notes, no_notes,
};

START_TEST(without_a_sound_pvh_note_the_64_bit_entry_is_used)
{
    test_elf_init(&elf);
    without_pvh[_i]();
    ck_assert_int_eq(parse(), 0);
    ck_assert_int_eq(image.entry, BOOT_ENTRY_LINUX64);
    ck_assert_uint_eq(image.entry_gpa, TEST_KERNEL_GPA);
}
END_TEST

START_TEST(notes_behind_others_are_found)
{
    struct {
        struct test_elf elf;
        Elf64_Nhdr first;
        char name[8];
        char desc[4];
        Elf64_Nhdr nhdr;
        char nname[4];
        uint32_t ndesc;
    } longer;

    test_elf_init(&longer.elf);
    longer.first = (Elf64_Nhdr){.n_namesz = 6, .n_descsz = 1, .n_type = 18};
    memcpy(longer.name, "Linux", 6);
    longer.nhdr = (Elf64_Nhdr){.n_namesz = 4, .n_descsz = 4, .n_type = 18};
    memcpy(longer.nname, "Xen", 4);
    longer.ndesc = TEST_KERNEL_GPA + 32;
    longer.elf.note.p_offset = sizeof(struct test_elf);
    longer.elf.note.p_filesz = sizeof(longer) - sizeof(struct test_elf);
    ck_assert_int_eq(parse_bytes(&longer, sizeof(longer)), 0);
    ck_assert_int_eq(image.entry, BOOT_ENTRY_PVH);
    ck_assert_uint_eq(image.entry_gpa, TEST_KERNEL_GPA + 32);
}
END_TEST

START_TEST(segments_without_memory_are_left_out)
{
    test_elf_init(&elf);
    elf.note = elf.load;
    elf.note.p_memsz = elf.note.p_filesz = 0;
    elf.note.p_paddr = UINT64_MAX;
    ck_assert_int_eq(parse(), 0);
    ck_assert_uint_eq(image.nsegments, 1);
}
END_TEST

static void thirty_two_bits(void)
{
    elf.ehdr.e_ident[EI_CLASS] = ELFCLASS32;
}
static void big_endian(void)
{
    elf.ehdr.e_ident[EI_DATA] = ELFDATA2MSB;
}
static void arm64(void)
{
    elf.ehdr.e_machine = EM_AARCH64;
}
static void shared_object(void)
{
    elf.ehdr.e_type = ET_DYN;
}
static void no_program_headers(void)
{
    elf.ehdr.e_phnum = 0;
}
static void most_program_headers(void)
{
    elf.ehdr.e_phnum = UINT16_MAX;
}
static void odd_program_headers(void)
{
    elf.ehdr.e_phentsize = 55;
}
static void program_headers_behind_the_end(void)
{
    elf.ehdr.e_phoff = sizeof(elf) - 2 * sizeof(Elf64_Phdr) + 1;
}
static void farthest_program_headers(void)
{
    elf.ehdr.e_phoff = UINT64_MAX;
}
static void more_in_the_file_than_in_memory(void)
{
    elf.load.p_memsz = elf.load.p_filesz - 1;
}
static void segment_behind_the_end(void)
{
    elf.load.p_offset++;
}
static void farthest_segment(void)
{
    elf.load.p_offset = UINT64_MAX;
}
static void largest_segment(void)
{
    elf.load.p_filesz = elf.load.p_memsz = UINT64_MAX;
}
static void segment_that_wraps(void)
{
    elf.load.p_paddr = UINT64_MAX - 100;
}
static void nothing_to_load(void)
{
    elf.load.p_type = PT_NULL;
}
static void notes_behind_the_end(void)
{
    elf.note.p_offset = sizeof(elf) - elf.note.p_filesz + 1;
}
static void largest_notes(void)
{
    elf.note.p_filesz = UINT64_MAX;
}
static void entry_below(void)
{
    elf.note.p_type = PT_NULL;
    elf.ehdr.e_entry = TEST_KERNEL_GPA - 1;
}
static void entry_above(void)
{
    elf.note.p_type = PT_NULL;
    elf.ehdr.e_entry = TEST_KERNEL_GPA + elf.load.p_memsz;
}
static void pvh_entry_beyond_32_bits(void)
{
    elf.ndesc[4] = 1;
}

static const struct {
    void (*spoil)(void);
    const char *message;
} bad[] = {
    {thirty_two_bits, "not a little-endian 64-bit ELF file"},
    {big_endian, "an ELF file for another machine"},
    {arm64, "an ELF file for arm64 (machine 183), expected 62"},
    {shared_object, "type 3, expected 2"},
    {no_program_headers, "0 ELF program headers"},
    {most_program_headers, "65535 ELF program headers"},
    {odd_program_headers, "of 55 bytes, expected"},
    {program_headers_behind_the_end, "truncated: the ELF program headers"},
    {farthest_program_headers, "truncated: the ELF program headers"},
    {more_in_the_file_than_in_memory, "4096 bytes in the file, 4095 in memory"},
    {segment_behind_the_end, "truncated: ELF segment"},
    {farthest_segment, "truncated: ELF segment"},
    {largest_segment, "truncated: ELF segment"},
    {segment_that_wraps, "wraps around"},
    {nothing_to_load, "without segments"},
    {notes_behind_the_end, "truncated: ELF notes"},
    {largest_notes, "truncated: ELF notes"},
    {entry_below, "64-bit entry point 0xffffff lies outside"},
    {entry_above, "64-bit entry point 0x1004000 lies outside"},
    {pvh_entry_beyond_32_bits, "PVH entry point 0x101000010 lies outside"},
};

START_TEST(bad_headers_are_refused_with_the_reason)
{
    test_elf_init(&elf);
    bad[_i].spoil();
    ck_assert_int_eq(parse(), -EINVAL);
    ck_assert_msg(strstr(err.msg, bad[_i].message), "%s", err.msg);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    test_elf_init(&elf);
    for (size_t len = 4; len < sizeof(elf); len += 13) {
        ck_assert_int_eq(parse_bytes(&elf, len), -EINVAL);
        ck_assert_msg(strstr(err.msg, "truncated"), "%zu: %s", len, err.msg);
    }
}
END_TEST

START_TEST(too_many_segments_are_refused)
{
    struct {
        struct test_elf elf;
        Elf64_Phdr phdrs[KERNEL_SEGMENTS_MAX + 1];
    } many;

    test_elf_init(&many.elf);
    many.elf.ehdr.e_phoff = sizeof(struct test_elf);
    many.elf.ehdr.e_phnum = ARRAY_SIZE(many.phdrs);
    for (size_t i = 0; i < ARRAY_SIZE(many.phdrs); i++) {
        many.phdrs[i] = many.elf.load;
        many.phdrs[i].p_paddr += i * many.elf.load.p_memsz;
    }
    ck_assert_int_eq(parse_bytes(&many, sizeof(many)), -EINVAL);
    ck_assert_msg(strstr(err.msg, "more than 16 ELF segments"), "%s", err.msg);
    many.elf.ehdr.e_phnum--;
    ck_assert_int_eq(parse_bytes(&many, sizeof(many)), 0);
    ck_assert_uint_eq(image.nsegments, KERNEL_SEGMENTS_MAX);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *table = tcase_create("tables");

    unit_case(suite, "good", segments_and_the_pvh_entry_are_found,
              a_pvh_entry_of_four_bytes_is_read_as_such, notes_behind_others_are_found,
              segments_without_memory_are_left_out);
    tcase_add_loop_test(table, without_a_sound_pvh_note_the_64_bit_entry_is_used, 0,
                        ARRAY_SIZE(without_pvh));
    tcase_add_loop_test(table, bad_headers_are_refused_with_the_reason, 0, ARRAY_SIZE(bad));
    suite_add_tcase(suite, table);
    unit_case(suite, "refused", every_truncation_is_refused, too_many_segments_are_refused);
}

UNIT_MAIN("elf", add_tests)
