/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/zero_page_x86.h"

#include <asm/bootparam.h>
#include <string.h>

#include "base/bytes.h"
#include "boot/pvh_x86.h"
#include "tests/lib/unit.h"

static const struct guest_info info = {
    .cmdline_gpa = 0x20000,
    .initrd_gpa = 0x1f2345000,
    .initrd_len = 0x187654321,
    .rsdp_gpa = 0xe0000,
    .setup_data_gpa = 0x8000,
    .e820 = {{0, 0x9fc00, E820_RAM}, {0x9fc00, 0x400, E820_RESERVED}, {1 * MIB, GIB, E820_RAM}},
    .ne820 = 3,
};

static union {
    uint8_t bytes[ZERO_PAGE_SIZE];
    struct boot_params params;
} page;

/* A header whose every byte is 0x5a. */
static struct kernel_image image_with_header(size_t len)
{
    struct kernel_image image = {.setup_header_len = len};

    memset(image.setup_header, 0x5a, len);
    return image;
}

static void fill(const struct kernel_image *image)
{
    memset(&page, 0, sizeof(page));
    zero_page_fill(image, &info, page.bytes);
}

START_TEST(the_loader_fills_in_its_fields)
{
    struct kernel_image image = image_with_header(sizeof(struct setup_header));

    fill(&image);
    ck_assert_uint_eq(page.params.hdr.type_of_loader, 0xff);
    ck_assert_uint_eq(page.params.hdr.cmd_line_ptr, 0x20000);
    ck_assert_uint_eq(page.params.ext_cmd_line_ptr, 0);
    ck_assert_uint_eq(page.params.hdr.ramdisk_image, 0xf2345000);
    ck_assert_uint_eq(page.params.ext_ramdisk_image, 1);
    ck_assert_uint_eq(page.params.hdr.ramdisk_size, 0x87654321);
    ck_assert_uint_eq(page.params.ext_ramdisk_size, 1);
    ck_assert_uint_eq(page.params.hdr.setup_data, 0x8000);
    ck_assert_uint_eq(page.params.hdr.loadflags & KASLR_FLAG, 0);
    ck_assert_uint_eq(page.params.acpi_rsdp_addr, 0xe0000);
    ck_assert_uint_eq(page.params.sentinel, 0);
}
END_TEST

START_TEST(a_randomised_kernel_is_told_so)
{
    struct kernel_image image = image_with_header(sizeof(struct setup_header));
    struct guest_info randomised = info;

    randomised.kaslr = true;
    memset(&page, 0, sizeof(page));
    zero_page_fill(&image, &randomised, page.bytes);
    ck_assert_uint_ne(page.params.hdr.loadflags & KASLR_FLAG, 0);
}
END_TEST

START_TEST(other_fields_of_the_header_stay_as_the_kernel_has_them)
{
    struct kernel_image image = image_with_header(sizeof(struct setup_header));

    fill(&image);
    ck_assert_uint_eq(page.params.hdr.setup_sects, 0x5a);
    ck_assert_uint_eq(page.params.hdr.kernel_alignment, 0x5a5a5a5a);
    ck_assert_uint_eq(page.params.hdr.init_size, 0x5a5a5a5a);
    ck_assert_uint_eq(page.params.hdr.kernel_info_offset, 0x5a5a5a5a);
}
END_TEST

START_TEST(bytes_around_the_header_stay_zero)
{
    const size_t lengths[] = {0x77, sizeof(struct setup_header), KERNEL_SETUP_HEADER_MAX};

    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct kernel_image image = image_with_header(lengths[i]);

        fill(&image);
        ck_assert_uint_eq(page.bytes[0x1f0], 0);
        ck_assert_uint_eq(page.bytes[0x1f1 + lengths[i] - 1], 0x5a);
        for (size_t off = 0x1f1 + lengths[i]; off < 0x2d0; off++)
            ck_assert_uint_eq(page.bytes[off], 0);
    }
}
END_TEST

START_TEST(a_kernel_without_header_gets_one)
{
    struct kernel_image image = {0};

    fill(&image);
    ck_assert_uint_eq(page.params.hdr.boot_flag, 0xaa55);
    ck_assert_uint_eq(page.params.hdr.header, 0x53726448);
    ck_assert_uint_eq(page.params.hdr.version, 0x020c);
    ck_assert_uint_eq(page.params.hdr.cmd_line_ptr, 0x20000);
}
END_TEST

START_TEST(the_memory_table_is_copied)
{
    struct kernel_image image = {0};

    fill(&image);
    ck_assert_uint_eq(page.bytes[0x1e8], 3);
    for (size_t i = 0; i < 3; i++) {
        const uint8_t *entry = page.bytes + 0x2d0 + 20 * i;

        ck_assert_uint_eq(load_le64(entry), info.e820[i].gpa);
        ck_assert_uint_eq(load_le64(entry + 8), info.e820[i].len);
        ck_assert_uint_eq(load_le32(entry + 16), info.e820[i].type);
    }
}
END_TEST

START_TEST(pvh_start_info_leads_to_its_lists)
{
    uint8_t area[4096];
    const uint8_t *module, *entry;
    size_t len = pvh_build(&info, 0x6000, area, sizeof(area));

    ck_assert_uint_eq(load_le32(area), 0x336ec578);
    ck_assert_uint_eq(load_le32(area + 4), 1);
    ck_assert_uint_eq(load_le32(area + 12), 1);
    ck_assert_uint_eq(load_le64(area + 24), info.cmdline_gpa);
    ck_assert_uint_eq(load_le64(area + 32), info.rsdp_gpa);
    ck_assert_uint_eq(load_le32(area + 48), 3);

    module = area + (load_le64(area + 16) - 0x6000);
    ck_assert_uint_eq(load_le64(module), info.initrd_gpa);
    ck_assert_uint_eq(load_le64(module + 8), info.initrd_len);
    entry = area + (load_le64(area + 40) - 0x6000);
    ck_assert_uint_eq(load_le64(entry + 24), 0x9fc00);
    ck_assert_uint_eq(load_le64(entry + 32), 0x400);
    ck_assert_uint_eq(load_le32(entry + 40), E820_RESERVED);
    ck_assert_ptr_eq(entry + 72, area + len);
}
END_TEST

START_TEST(pvh_without_an_initrd_has_no_module)
{
    struct guest_info without = info;
    uint8_t area[4096];

    without.initrd_len = 0;
    (void)pvh_build(&without, 0x6000, area, sizeof(area));
    ck_assert_uint_eq(load_le32(area + 12), 0);
    ck_assert_uint_eq(load_le64(area + 16), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "zero page", the_loader_fills_in_its_fields, a_randomised_kernel_is_told_so,
              other_fields_of_the_header_stay_as_the_kernel_has_them,
              bytes_around_the_header_stay_zero, a_kernel_without_header_gets_one,
              the_memory_table_is_copied);
    unit_case(suite, "pvh", pvh_start_info_leads_to_its_lists, pvh_without_an_initrd_has_no_module);
}

UNIT_MAIN("zero_page", add_tests)
