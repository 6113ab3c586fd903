/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/stranger.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"

#define UNPACK(command)                                                                            \
    "unpack it first (" command " FILE > vmlinux), or give it as --initrd if it is one"
#define AS_DISK "give it as --disk, and the kernel as a file"
#define FOREIGN "give the kernel for x86-64"

/* By a few bytes near the beginning; the first one that fits. Without pointers, as settings are. */
static const struct {
    uint16_t off;
    uint16_t len;
    char magic[8];
    char what[36];
    char advice[92];
} marks[] = {
    {0, 2, "\x1f\x8b", "a gzip-compressed file", UNPACK("gzip -dc")},
    {0, 4, "\x28\xb5\x2f\xfd", "a zstd-compressed file", UNPACK("zstd -dc")},
    {0, 6, "\xfd\x37zXZ\0", "an xz-compressed file", UNPACK("xz -dc")},
    {0, 4, "\x02\x21\x4c\x18", "an LZ4-compressed file", UNPACK("lz4 -dc")},
    {0, 4, "\x04\x22\x4d\x18", "an LZ4-compressed file", UNPACK("lz4 -dc")},
    {0, 3, "BZh", "a bzip2-compressed file", UNPACK("bzip2 -dc")},
    {0, 4, "\x89LZO", "an LZO-compressed file", UNPACK("lzop -dc")},
    /* No magic number proper: properties 0x5d and a dictionary of a power of two, as is usual. */
    {0, 3, "\x5d\0\0", "an LZMA-compressed file", UNPACK("xz -F lzma -dc")},
    {0, 6, "070701", "an initial ramdisk (cpio)", "give it as --initrd"},
    {0, 6, "070702", "an initial ramdisk (cpio)", "give it as --initrd"},
    {0, 6, "070707", "an initial ramdisk (cpio)", "give it as --initrd"},
    {0, 4, "QFI\xfb", "a qcow2 disk image", AS_DISK},
    {512, 8, "EFI PART", "a disk image with a GPT", AS_DISK},
    {4, 4, "zimg", "an EFI zboot image, which is packed", FOREIGN},
    {56, 4, "ARM\x64", "an Image for arm64", FOREIGN},
    {56, 4, "RSC\x05", "an Image for RISC-V", FOREIGN},
    {0, 4, "\x27\x05\x19\x56", "a U-Boot image", "give the kernel that is in it"},
    {0, 8, "!<arch>\n", "an archive, or a Debian package", "give the kernel that is in it"},
};

static int refuse(const char *what, const char *advice, struct err *err)
{
    return err_set(err, -EINVAL, "%s, expected an x86-64 bzImage or ELF kernel: %s", what, advice);
}

/* ---- EFI programs ---------------------------------------------------------------------------- */

/* Portable executables: offsets from their "PE\0\0", which the number at 0x3c leads to. */
#define PE_POINTER 0x3c
#define PE_NSECTIONS 6
#define PE_OPTIONAL_LEN 20
#define PE_HEADER_LEN 24
#define PE_SECTION_LEN 40u
#define PE_SECTIONS_MAX 64u

static bool is_pe(const uint8_t *head, size_t len, const uint8_t **ret_header)
{
    uint64_t at;

    if (len < PE_POINTER + 4 || memcmp(head, "MZ", 2) != 0)
        return false;
    at = load_le32(head + PE_POINTER);
    if (!range_fits(at, PE_HEADER_LEN, len) || memcmp(head + at, "PE\0\0", 4) != 0)
        return false;
    *ret_header = head + at;
    return true;
}

/* Does the program whose header is at `at` have a section ".linux"? 0 or a negative errno. */
static int find_linux(const struct boot_file *file, const uint8_t *header, uint64_t at,
                      bool *ret_found, struct err *err)
{
    uint8_t sections[PE_SECTIONS_MAX * PE_SECTION_LEN];
    size_t n = min_u64(load_le16(header + PE_NSECTIONS), PE_SECTIONS_MAX);
    uint64_t off = at + PE_HEADER_LEN + load_le16(header + PE_OPTIONAL_LEN);
    int r;

    *ret_found = false;
    if (!range_fits(off, n * PE_SECTION_LEN, file->size))
        return 0;
    r = boot_file_read(file, off, sections, n * PE_SECTION_LEN, err);
    for (size_t i = 0; r == 0 && i < n; i++)
        if (memcmp(sections + i * PE_SECTION_LEN, ".linux\0", 8) == 0)
            *ret_found = true;
    return r;
}

static int refuse_pe(const struct boot_file *file, const uint8_t *head, const uint8_t *header,
                     struct err *err)
{
    bool is_uki;
    int r = find_linux(file, header, (uint64_t)(header - head), &is_uki, err);

    if (r < 0)
        return r;
    if (is_uki)
        return refuse("a unified kernel image (UKI)",
                      "take the kernel out (objcopy -O binary -j .linux FILE vmlinuz; its initrd "
                      "is in .initrd)",
                      err);
    return refuse("an EFI program", "give the kernel that it starts", err);
}

/* ---- what its beginning does not tell -------------------------------------------------------- */

/* ISO 9660, 8.1: the first volume descriptor is in sector 16. */
#define ISO_MARK 0x8001u

#define BOOT_SECTOR_LEN 512u

static int is_iso(const struct boot_file *file, bool *ret_is_iso, struct err *err)
{
    char mark[5];
    int r = 0;

    *ret_is_iso = false;
    if (range_fits(ISO_MARK, sizeof(mark), file->size)) {
        r = boot_file_read(file, ISO_MARK, mark, sizeof(mark), err);
        *ret_is_iso = r == 0 && memcmp(mark, "CD001", sizeof(mark)) == 0;
    }
    return r;
}

int stranger_refuse(const struct boot_file *file, const uint8_t *head, size_t len, struct err *err)
{
    const uint8_t *pe;
    bool iso;
    int r = is_iso(file, &iso, err);

    if (r < 0)
        return r;
    if (iso) /* checked first, because a CD image may begin like a disk */
        return refuse("a CD image (ISO 9660)", "give the kernel that is in it", err);
    for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
        if (range_fits(marks[i].off, marks[i].len, len) &&
            memcmp(head + marks[i].off, marks[i].magic, marks[i].len) == 0)
            return refuse(marks[i].what, marks[i].advice, err);
    if (is_pe(head, len, &pe))
        return refuse_pe(file, head, pe, err);
    if (len >= BOOT_SECTOR_LEN && load_le16(head + BOOT_SECTOR_LEN - 2) == 0xaa55)
        return refuse("a disk image with a boot sector", AS_DISK, err);
    return err_set(err, -EINVAL, "not a kernel: expected an x86-64 bzImage or ELF kernel");
}
