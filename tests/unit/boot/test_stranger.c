/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that are no kernels: what they are is named, and what to do about it.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "boot/boot.h"
#include "tests/lib/boot/kernel_file.h"
#include "tests/lib/unit.h"

/* Files by mistake: a few bytes in the middle of nothing. */
#define STRANGER_LEN 40000u

static const struct {
    size_t off;
    const char *bytes;
    size_t len;
    size_t file_len;
    const char *message;
    const char *advice;
} strangers[] = {
    {0, "", 0, 0, "the file is empty", ""},
    {0, "x", 1, 1, "not a kernel", ""},
    {0, "#!/bin/sh\n", 10, 10, "not a kernel", ""},
    {0, "\x1f\x8b", 2, 3, "a gzip-compressed file", "gzip -dc FILE > vmlinux"},
    {0, "\x28\xb5\x2f\xfd", 4, 4, "a zstd-compressed file", "zstd -dc"},
    {0, "\xfd\x37zXZ\0", 6, 6, "an xz-compressed file", "xz -dc"},
    {0, "\x02\x21\x4c\x18", 4, 40, "an LZ4-compressed file", "lz4 -dc"},
    {0, "\x04\x22\x4d\x18", 4, 40, "an LZ4-compressed file", "lz4 -dc"},
    {0, "BZh9", 4, 40, "a bzip2-compressed file", "bzip2 -dc"},
    {0, "\x89LZO", 4, 40, "an LZO-compressed file", "lzop -dc"},
    {0, "\x5d\0\0\x80", 4, 40, "an LZMA-compressed file", "xz -F lzma -dc"},
    {0, "070701", 6, 512, "an initial ramdisk (cpio)", "--initrd"},
    {0, "QFI\xfb\0\0\0\3", 8, 8, "a qcow2 disk image", "--disk"},
    {512, "EFI PART", 8, 1024, "a disk image with a GPT", "--disk"},
    {510, "\x55\xaa", 2, 512, "a disk image with a boot sector", "--disk"},
    {0x8001, "CD001", 5, STRANGER_LEN, "a CD image (ISO 9660)", "the kernel that is in it"},
    {0, "MZ\0\0zimg", 8, 4096, "an EFI zboot image, which is packed", "for x86-64"},
    {56, "ARM\x64", 4, 4096, "an Image for arm64", "for x86-64"},
    {56, "RSC\x05", 4, 4096, "an Image for RISC-V", "for x86-64"},
    {0, "\x27\x05\x19\x56", 4, 64, "a U-Boot image", ""},
    {0, "!<arch>\ndebian-binary", 21, 64, "a Debian package", ""},
    {0,
     "\x7f"
     "ELF",
     4, 4, "truncated: 4 bytes, an ELF header has 64", ""},
};

static void assert_refused(const void *data, size_t len, const char *message, const char *advice)
{
    struct test_file file = test_file_new(data, len);
    struct boot_options options = {.kernel = file.path};
    struct boot *boot;
    struct err err;

    ck_assert_int_eq(boot_open(&options, &boot, &err), -EINVAL);
    ck_assert_msg(strstr(err.msg, file.path) != NULL, "%s", err.msg);
    ck_assert_msg(strstr(err.msg, message) != NULL, "%s", err.msg);
    ck_assert_msg(strstr(err.msg, advice) != NULL, "%s", err.msg);
    test_file_free(&file);
}

START_TEST(files_that_are_no_kernels_are_named_and_told_apart)
{
    static uint8_t bytes[STRANGER_LEN];

    memcpy(bytes + strangers[_i].off, strangers[_i].bytes, strangers[_i].len);
    assert_refused(bytes, strangers[_i].file_len, strangers[_i].message, strangers[_i].advice);
}
END_TEST

/* A program for EFI with `n` sections, of which the last is ".linux". */
static void make_pe(uint8_t bytes[4096], uint32_t header, uint16_t n, uint16_t optional_len)
{
    static const char name[8] = ".linux";
    size_t last = header + 24 + optional_len + 40 * ((size_t)n - 1);

    memset(bytes, 0, 4096);
    store_le16(bytes, 'M' | 'Z' << 8);
    store_le32(bytes + 0x3c, header);
    if (header > 1000)
        return;
    store_le32(bytes + header, 'P' | 'E' << 8);
    store_le16(bytes + header + 6, n);
    store_le16(bytes + header + 20, optional_len);
    if (n > 0 && last + 40 <= 4096)
        memcpy(bytes + last, name, sizeof(name));
}

START_TEST(a_unified_kernel_image_is_named)
{
    uint8_t bytes[4096];

    make_pe(bytes, 128, 6, 240);
    assert_refused(bytes, sizeof(bytes), "a unified kernel image (UKI)", "objcopy -O binary");
    make_pe(bytes, 128, 1, 0);
    assert_refused(bytes, sizeof(bytes), "a unified kernel image (UKI)", "objcopy -O binary");
}
END_TEST

START_TEST(other_efi_programs_are_named_and_looked_at_with_care)
{
    uint8_t bytes[4096];

    make_pe(bytes, 128, 0, 240);
    assert_refused(bytes, sizeof(bytes), "an EFI program", "");
    make_pe(bytes, 128, 6, 240);
    bytes[128 + 24 + 240 + 5 * 40 + 1] = 'L';
    assert_refused(bytes, sizeof(bytes), "an EFI program", "");
    make_pe(bytes, 128, 6, 65535); /* the sections are past the end */
    assert_refused(bytes, sizeof(bytes), "an EFI program", "");
    make_pe(bytes, 128, 65535, 240);
    assert_refused(bytes, sizeof(bytes), "an EFI program", "");
    make_pe(bytes, 0xfffffff0, 6, 240);
    assert_refused(bytes, sizeof(bytes), "not a kernel", "");
    make_pe(bytes, 4090, 6, 240);
    assert_refused(bytes, sizeof(bytes), "not a kernel", "");
}
END_TEST

START_TEST(elf_files_of_other_machines_are_named)
{
    static const struct {
        uint16_t machine;
        bool big_endian;
        const char *message;
    } cases[] = {
        {EM_AARCH64, false, "an ELF file for arm64 (machine 183), expected 62 (x86-64)"},
        {EM_386, false, "an ELF file for 32-bit x86 (machine 3)"},
        {EM_RISCV, false, "an ELF file for RISC-V (machine 243)"},
        {EM_S390, true, "an ELF file for s390 (machine 22)"},
        {EM_PPC64, true, "an ELF file for POWER (machine 21)"},
        {258, false, "an ELF file for LoongArch (machine 258)"},
        {EM_SPARCV9, true, "an ELF file for another machine (machine 43)"},
        {EM_X86_64, true, "not a little-endian 64-bit ELF file"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct test_elf elf;

        test_elf_init(&elf);
        elf.ehdr.e_machine = cases[i].machine;
        if (cases[i].big_endian) {
            elf.ehdr.e_ident[EI_DATA] = ELFDATA2MSB;
            elf.ehdr.e_machine = (uint16_t)(cases[i].machine << 8 | cases[i].machine >> 8);
        }
        assert_refused(&elf, sizeof(elf), cases[i].message, "");
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *table = tcase_create("strangers");

    tcase_add_loop_test(table, files_that_are_no_kernels_are_named_and_told_apart, 0,
                        ARRAY_SIZE(strangers));
    suite_add_tcase(suite, table);
    unit_case(suite, "formats", a_unified_kernel_image_is_named,
              other_efi_programs_are_named_and_looked_at_with_care,
              elf_files_of_other_machines_are_named);
}

UNIT_MAIN("stranger", add_tests)
