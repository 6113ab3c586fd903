/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/vmlinux_x86.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "memory/guest_mem.h"

#define PROGRAM_HEADERS_MAX 64

/* Page tables of the kernel map it by 2 MiB; its stub refuses segments with less. */
#define SEGMENT_ALIGN (2 * MIB)

static int check_header(const Elf64_Ehdr *hdr, size_t len, struct err *err)
{
    if (memcmp(hdr->e_ident, ELFMAG, SELFMAG) != 0 || hdr->e_ident[EI_CLASS] != ELFCLASS64 ||
        hdr->e_ident[EI_DATA] != ELFDATA2LSB || hdr->e_machine != EM_X86_64 ||
        hdr->e_type != ET_EXEC)
        return err_set(err, -EINVAL, "it is no ELF vmlinux for x86-64 when unpacked");
    if (hdr->e_phentsize != sizeof(Elf64_Phdr) || hdr->e_phnum > PROGRAM_HEADERS_MAX ||
        !range_fits(hdr->e_phoff, (uint64_t)hdr->e_phnum * sizeof(Elf64_Phdr), len))
        return err_set(err, -EINVAL, "bad ELF program headers in what it unpacks to");
    /* The section headers are the last thing in the file. */
    if (!range_fits(hdr->e_shoff, (uint64_t)hdr->e_shnum * hdr->e_shentsize, len))
        return err_set(err, -EINVAL, "what it unpacks to ends before its ELF section headers");
    return 0;
}

/* Ranges that follow one another are moved without a copy, see vmlinux_place. */
static bool follows(const struct vmlinux *vmlinux, const struct vmlinux_segment *segment)
{
    const struct vmlinux_segment *before;

    if (vmlinux->nsegments == 0)
        return true;
    before = &vmlinux->segments[vmlinux->nsegments - 1];
    return segment->file_off >= before->file_off + before->file_len &&
           segment->off >= before->off + before->file_len;
}

static int add_segment(const Elf64_Phdr *phdr, uint64_t link_gpa, uint64_t kernel_len,
                       struct vmlinux *vmlinux, struct err *err)
{
    const struct vmlinux_segment segment = {
        .file_off = phdr->p_offset,
        .file_len = phdr->p_filesz,
        .off = phdr->p_paddr - link_gpa,
    };

    if (phdr->p_filesz > phdr->p_memsz || !is_aligned(phdr->p_align, SEGMENT_ALIGN) ||
        !range_fits(segment.off, phdr->p_memsz, kernel_len) ||
        !range_fits(segment.file_off, segment.file_len, vmlinux->elf_len) ||
        vmlinux->nsegments == KERNEL_SEGMENTS_MAX || !follows(vmlinux, &segment))
        return err_set(err, -EINVAL, "unexpected ELF segment for %#llx in what it unpacks to",
                       (unsigned long long)phdr->p_paddr);
    vmlinux->segments[vmlinux->nsegments++] = segment;
    vmlinux->end_off = segment.off + segment.file_len;
    return 0;
}

static bool has_entry(const struct vmlinux *vmlinux)
{
    for (size_t i = 0; i < vmlinux->nsegments; i++) {
        const struct vmlinux_segment *segment = &vmlinux->segments[i];

        if (vmlinux->entry_off >= segment->off &&
            vmlinux->entry_off - segment->off < segment->file_len)
            return true;
    }
    return false;
}

/*
 * e_entry is a physical address. It is the first byte of the image up to Linux 6.16, and anywhere
 * in it since.
 */
int vmlinux_parse(const uint8_t *image, size_t len, uint64_t link_gpa, uint64_t kernel_len,
                  struct vmlinux *ret_vmlinux, struct err *err)
{
    struct vmlinux vmlinux = {0};
    Elf64_Ehdr hdr = {0};
    int r;

    memcpy(&hdr, image, min_u64(len, sizeof(hdr)));
    r = check_header(&hdr, len, err);
    if (r < 0)
        return r;
    vmlinux.entry_off = hdr.e_entry - link_gpa;
    vmlinux.elf_len = hdr.e_shoff + (uint64_t)hdr.e_shnum * hdr.e_shentsize;
    for (size_t i = 0; r == 0 && i < hdr.e_phnum; i++) {
        Elf64_Phdr phdr;

        memcpy(&phdr, image + hdr.e_phoff + i * sizeof(phdr), sizeof(phdr));
        if (phdr.p_type == PT_LOAD)
            r = add_segment(&phdr, link_gpa, kernel_len, &vmlinux, err);
    }
    if (r == 0 && !has_entry(&vmlinux))
        r = err_set(err, -EINVAL, "its entry point lies outside its ELF segments");
    if (r == 0)
        *ret_vmlinux = vmlinux;
    return r;
}

/* Move segment `i` if that is down, or if that is up. */
static void move(const struct vmlinux *vmlinux, size_t i, bool down, uint8_t *image,
                 uint8_t *kernel)
{
    const struct vmlinux_segment *segment = &vmlinux->segments[i];
    const uint8_t *from = image + segment->file_off;
    uint8_t *to = kernel + segment->off;

    if (down ? to < from : to > from)
        memmove(to, from, segment->file_len);
}

/*
 * Segments that move down go first, from the first to the last, then those that move up, from the
 * last to the first: so none lands on one that has not been moved yet.
 */
void vmlinux_place(const struct vmlinux *vmlinux, uint8_t *image, size_t len, uint8_t *kernel)
{
    uint8_t *rest = image;

    for (size_t i = 0; i < vmlinux->nsegments; i++)
        move(vmlinux, i, true, image, kernel);
    for (size_t i = vmlinux->nsegments; i-- > 0;)
        move(vmlinux, i, false, image, kernel);

    for (size_t i = 0; i < vmlinux->nsegments; i++) {
        uint8_t *start = kernel + vmlinux->segments[i].off;

        guest_mem_clear(rest, (size_t)(start - rest));
        rest = start + vmlinux->segments[i].file_len;
    }
    if (rest < image + len)
        guest_mem_clear(rest, (size_t)(image + len - rest));
}
