/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/elf.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define ELF_PROGRAM_HEADERS_MAX 64

/* A Linux vmlinux with all of Xen's notes has about 600 bytes of them. */
#define ELF_NOTES_MAX (64 * KIB)

/* Xen's public headers, elfnote.h: a 32-bit entry point with paging off. */
#define XEN_ELFNOTE_PHYS32_ENTRY 18

/*
 * An ELF file does not say how long a command line its kernel takes. This is Linux'
 * COMMAND_LINE_SIZE without the NUL.
 */
#define CMDLINE_MAX 2047

bool elf_probe(const uint8_t *head, size_t len)
{
    return len >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0;
}

/* Machines that Linux runs on, for those who took the wrong file. */
static const char *machine_name(uint16_t machine)
{
    static const struct {
        uint16_t machine;
        const char *name;
    } names[] = {
        {EM_386, "32-bit x86"}, {EM_ARM, "32-bit ARM"}, {EM_AARCH64, "arm64"},
        {EM_RISCV, "RISC-V"},   {EM_PPC64, "POWER"},    {EM_S390, "s390"},
        {EM_MIPS, "MIPS"},      {258, "LoongArch"}, /* younger than elf.h may be */
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (names[i].machine == machine)
            return names[i].name;
    return "another machine";
}

static int check_machine(const Elf64_Ehdr *hdr, struct err *err)
{
    /* At the same place in files of 32 bits, but in the file's own byte order. */
    const uint8_t *at = (const uint8_t *)&hdr->e_machine;
    uint16_t machine = hdr->e_ident[EI_DATA] == ELFDATA2MSB ? load_be16(at) : load_le16(at);

    if (machine != EM_X86_64)
        return err_set(err, -EINVAL, "an ELF file for %s (machine %u), expected %u (x86-64)",
                       machine_name(machine), machine, EM_X86_64);
    if (hdr->e_ident[EI_CLASS] != ELFCLASS64 || hdr->e_ident[EI_DATA] != ELFDATA2LSB)
        return err_set(err, -EINVAL, "not a little-endian 64-bit ELF file");
    return 0;
}

static int check_header(const Elf64_Ehdr *hdr, uint64_t file_size, struct err *err)
{
    int r = check_machine(hdr, err);

    if (r < 0)
        return r;
    if (hdr->e_type == ET_REL)
        return err_set(err, -EINVAL,
                       "an ELF file of type %u, a kernel module or object file, expected %u "
                       "(executable)",
                       hdr->e_type, ET_EXEC);
    if (hdr->e_type != ET_EXEC)
        return err_set(err, -EINVAL, "an ELF file of type %u, expected %u (executable)",
                       hdr->e_type, ET_EXEC);
    if (hdr->e_phentsize != sizeof(Elf64_Phdr) || hdr->e_phnum == 0 ||
        hdr->e_phnum > ELF_PROGRAM_HEADERS_MAX)
        return err_set(err, -EINVAL,
                       "%u ELF program headers of %u bytes, expected 1 to %u of %zu bytes",
                       hdr->e_phnum, hdr->e_phentsize, ELF_PROGRAM_HEADERS_MAX, sizeof(Elf64_Phdr));
    if (!range_fits(hdr->e_phoff, (uint64_t)hdr->e_phnum * sizeof(Elf64_Phdr), file_size))
        return err_set(err, -EINVAL,
                       "truncated: the ELF program headers at %llu lie behind its end",
                       (unsigned long long)hdr->e_phoff);
    return 0;
}

static int add_segment(const Elf64_Phdr *phdr, uint64_t file_size, struct kernel_image *image,
                       struct err *err)
{
    uint64_t end;

    if (phdr->p_memsz == 0)
        return 0;
    if (phdr->p_filesz > phdr->p_memsz)
        return err_set(err, -EINVAL, "ELF segment with %llu bytes in the file, %llu in memory",
                       (unsigned long long)phdr->p_filesz, (unsigned long long)phdr->p_memsz);
    if (!range_fits(phdr->p_offset, phdr->p_filesz, file_size))
        return err_set(err, -EINVAL,
                       "truncated: ELF segment of %llu bytes at %llu, the file has %llu",
                       (unsigned long long)phdr->p_filesz, (unsigned long long)phdr->p_offset,
                       (unsigned long long)file_size);
    if (!add_u64(phdr->p_paddr, phdr->p_memsz, &end))
        return err_set(err, -EINVAL, "ELF segment at %#llx wraps around the address space",
                       (unsigned long long)phdr->p_paddr);
    if (image->nsegments == KERNEL_SEGMENTS_MAX)
        return err_set(err, -EINVAL, "more than %u ELF segments to load", KERNEL_SEGMENTS_MAX);

    image->segments[image->nsegments++] = (struct kernel_segment){
        .file_off = phdr->p_offset,
        .file_len = phdr->p_filesz,
        .gpa = phdr->p_paddr,
        .mem_len = phdr->p_memsz,
    };
    return 0;
}

/*
 * Notes are a header, a name and a descriptor, each filled up to 4 bytes. Stops at the first one
 * that makes no sense: what else is in there is none of our business.
 */
static bool find_pvh_entry(const uint8_t *notes, size_t len, uint64_t *ret_entry)
{
    while (len >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr note;
        uint64_t desc_off, size;
        const uint8_t *name = notes + sizeof(note);

        memcpy(&note, notes, sizeof(note));
        desc_off = sizeof(note) + align_up(note.n_namesz, 4);
        size = desc_off + align_up(note.n_descsz, 4);
        if (size > len)
            return false;
        if (note.n_type == XEN_ELFNOTE_PHYS32_ENTRY && note.n_namesz == 4 &&
            memcmp(name, "Xen", 4) == 0 && (note.n_descsz == 4 || note.n_descsz == 8)) {
            *ret_entry =
                note.n_descsz == 4 ? load_le32(notes + desc_off) : load_le64(notes + desc_off);
            return true;
        }
        notes += size;
        len -= size;
    }
    return false;
}

static int read_notes(const struct boot_file *file, const Elf64_Phdr *phdr,
                      struct kernel_image *image, struct err *err)
{
    uint64_t entry;
    uint8_t *notes;
    int r;

    if (!range_fits(phdr->p_offset, phdr->p_filesz, file->size))
        return err_set(err, -EINVAL,
                       "truncated: ELF notes of %llu bytes at %llu, the file has %llu",
                       (unsigned long long)phdr->p_filesz, (unsigned long long)phdr->p_offset,
                       (unsigned long long)file->size);
    if (phdr->p_filesz > ELF_NOTES_MAX)
        return err_set(err, -EINVAL, "ELF notes of %llu bytes, expected at most %llu",
                       (unsigned long long)phdr->p_filesz, ELF_NOTES_MAX);
    if (phdr->p_filesz == 0)
        return 0;

    notes = malloc(phdr->p_filesz);
    if (!notes)
        return err_set(err, -ENOMEM, "out of memory");
    r = boot_file_read(file, phdr->p_offset, notes, phdr->p_filesz, err);
    if (r == 0 && find_pvh_entry(notes, phdr->p_filesz, &entry)) {
        image->entry = BOOT_ENTRY_PVH;
        image->entry_gpa = entry;
    }
    free(notes);
    return r;
}

static int check_entry(const struct kernel_image *image, struct err *err)
{
    if (image->nsegments == 0)
        return err_set(err, -EINVAL, "an ELF file without segments to load");
    for (size_t i = 0; i < image->nsegments; i++) {
        const struct kernel_segment *segment = &image->segments[i];

        if (image->entry_gpa >= segment->gpa && image->entry_gpa - segment->gpa < segment->mem_len)
            return 0;
    }
    return err_set(err, -EINVAL, "%s entry point %#llx lies outside all ELF segments",
                   image->entry == BOOT_ENTRY_PVH ? "PVH" : "64-bit",
                   (unsigned long long)image->entry_gpa);
}

int elf_parse(const struct boot_file *file, struct kernel_image *image, struct err *err)
{
    Elf64_Phdr phdrs[ELF_PROGRAM_HEADERS_MAX];
    Elf64_Ehdr hdr;
    int r;

    if (file->size < sizeof(hdr))
        return err_set(err, -EINVAL, "truncated: %llu bytes, an ELF header has %zu",
                       (unsigned long long)file->size, sizeof(hdr));
    r = boot_file_read(file, 0, &hdr, sizeof(hdr), err);
    if (r == 0)
        r = check_header(&hdr, file->size, err);
    if (r == 0)
        r = boot_file_read(file, hdr.e_phoff, phdrs, hdr.e_phnum * sizeof(phdrs[0]), err);
    if (r < 0)
        return r;

    image->entry = BOOT_ENTRY_LINUX64;
    image->entry_gpa = hdr.e_entry;
    image->initrd_limit = 4 * GIB; /* both entries know 32-bit places at least */
    image->cmdline_max = CMDLINE_MAX;
    for (size_t i = 0; r == 0 && i < hdr.e_phnum; i++) {
        if (phdrs[i].p_type == PT_LOAD)
            r = add_segment(&phdrs[i], file->size, image, err);
        else if (phdrs[i].p_type == PT_NOTE)
            r = read_notes(file, &phdrs[i], image, err);
    }
    return r < 0 ? r : check_entry(image, err);
}
