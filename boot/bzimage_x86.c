/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/bzimage_x86.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "memory/layout_x86.h"

/* Offsets in the file. */
#define HEADER_START 0x1f1u
#define BOOT_FLAG 0x1feu
#define JUMP 0x200u
#define JUMP_TARGET_BASE 0x202u
#define MAGIC 0x202u

#define SECTOR 512u
#define SETUP_SECTS_DEFAULT 4u /* "for backwards compatibility, if setup_sects is 0" */
#define PARAGRAPH 16ull
#define ENTRY_64 0x200u

/* 2.12 brought xloadflags, and with it a way to know that there is a 64-bit entry. */
#define PROTOCOL_MIN 0x020cu

/*
 * Linux 5.5. What older kernels' stubs leave to the kernel was not tried. What follows is for its
 * page tables, which map it by 2 MiB, and for the 1 GiB of virtual addresses that it may fill.
 */
#define PROTOCOL_PAYLOAD 0x020fu
#define PAYLOAD_ALIGN_MIN (2 * MIB)
#define PAYLOAD_MEMORY_MAX GIB

#define JMP_SHORT 0xebu

bool bzimage_probe(const uint8_t *head, size_t len)
{
    return len >= MAGIC + 4 && load_le16(head + BOOT_FLAG) == 0xaa55 &&
           memcmp(head + MAGIC, "HdrS", 4) == 0;
}

/*
 * The header ends where the jump in front of its magic leads to: later protocols make it longer.
 * Copy as much as the zero page has room for.
 */
static int copy_header(const uint8_t *head, size_t len, struct kernel_image *image,
                       struct setup_header *hdr, struct err *err)
{
    size_t end;

    if (head[JUMP] != JMP_SHORT)
        return err_set(err, -EINVAL, "setup header starts with byte %#x, expected a short jump",
                       head[JUMP]);
    end = JUMP_TARGET_BASE + head[JUMP + 1];
    if (end > len)
        return err_set(err, -EINVAL,
                       "truncated: the setup header ends at byte %zu, the file at %zu", end, len);

    image->setup_header_len = min_u64(end - HEADER_START, KERNEL_SETUP_HEADER_MAX);
    memcpy(image->setup_header, head + HEADER_START, image->setup_header_len);

    memcpy(hdr, image->setup_header, min_u64(image->setup_header_len, sizeof(*hdr)));
    return 0;
}

static int check_protocol(const struct setup_header *hdr, size_t hdr_len, struct err *err)
{
    if (hdr->version < PROTOCOL_MIN)
        return err_set(err, -EINVAL,
                       "kernel too old: boot protocol %u.%02u, expected 2.12 (Linux 3.8) or later",
                       hdr->version >> 8, hdr->version & 0xff);
    if (hdr_len < offsetof(struct setup_header, init_size) + sizeof(hdr->init_size))
        return err_set(err, -EINVAL, "setup header of %zu bytes is too short for protocol 2.12",
                       hdr_len);
    if (!(hdr->loadflags & LOADED_HIGH))
        return err_set(err, -EINVAL, "a zImage, which loads below 1 MiB: expected a bzImage");
    if (!(hdr->xloadflags & XLF_KERNEL_64))
        return err_set(err, -EINVAL, "a 32-bit kernel: expected one with a 64-bit entry point");
    return 0;
}

static int find_kernel(const struct setup_header *hdr, uint64_t file_size,
                       struct kernel_segment *kernel, struct err *err)
{
    uint64_t sects = hdr->setup_sects ? hdr->setup_sects : SETUP_SECTS_DEFAULT;

    kernel->file_off = (sects + 1) * SECTOR;
    kernel->file_len = hdr->syssize * PARAGRAPH;
    if (!range_fits(kernel->file_off, kernel->file_len, file_size))
        return err_set(err, -EINVAL,
                       "truncated: the kernel ends at byte %" PRIu64 ", the file at %" PRIu64,
                       kernel->file_off + kernel->file_len, file_size);
    if (kernel->file_len <= ENTRY_64)
        return err_set(err, -EINVAL, "the header announces a kernel of %llu bytes only",
                       (unsigned long long)kernel->file_len);
    return 0;
}

/*
 * The kernel needs init_size bytes from where it is loaded, or from pref_address if that is
 * higher. So a place below pref_address saves nothing, and a relocatable kernel moves up from
 * there only as far as its alignment and low memory ask for.
 */
static int choose_place(const struct setup_header *hdr, struct kernel_segment *kernel,
                        struct err *err)
{
    kernel->gpa = hdr->pref_address;
    kernel->mem_len = max_u64(hdr->init_size, kernel->file_len);

    if (hdr->pref_address >= X86_HIGH_RAM_START)
        return err_set(err, -EINVAL, "preferred address %#llx, expected one below 4 GiB",
                       (unsigned long long)hdr->pref_address);
    if (!hdr->relocatable_kernel)
        return 0;
    if (!is_pow2(hdr->kernel_alignment))
        return err_set(err, -EINVAL, "kernel alignment %#x, expected a power of two",
                       hdr->kernel_alignment);
    kernel->gpa = align_up(max_u64(kernel->gpa, X86_KERNEL_START), hdr->kernel_alignment);
    return 0;
}

/* Nothing here is an error: without a payload that is as expected, the kernel unpacks itself. */
static void find_payload(const struct setup_header *hdr, const struct kernel_segment *kernel,
                         struct kernel_payload *payload)
{
    if (hdr->version < PROTOCOL_PAYLOAD || !hdr->relocatable_kernel ||
        hdr->kernel_alignment < PAYLOAD_ALIGN_MIN || kernel->mem_len > PAYLOAD_MEMORY_MAX ||
        kernel->gpa != hdr->pref_address ||
        !range_fits(hdr->payload_offset, hdr->payload_length, kernel->file_len))
        return;
    *payload = (struct kernel_payload){
        .file_off = kernel->file_off + hdr->payload_offset,
        .len = hdr->payload_length,
        .link_gpa = hdr->pref_address,
        .align = hdr->kernel_alignment,
    };
}

int bzimage_parse(const uint8_t *head, size_t len, uint64_t file_size, struct kernel_image *image,
                  struct err *err)
{
    struct kernel_segment *kernel = &image->segments[0];
    struct setup_header hdr = {0}; /* what an older one does not have reads as zero */
    int r;

    r = copy_header(head, len, image, &hdr, err);
    if (r == 0)
        r = check_protocol(&hdr, image->setup_header_len, err);
    if (r == 0)
        r = find_kernel(&hdr, file_size, kernel, err);
    if (r == 0)
        r = choose_place(&hdr, kernel, err);
    if (r < 0)
        return r;

    find_payload(&hdr, kernel, &image->payload);
    image->nsegments = 1;
    image->entry = BOOT_ENTRY_LINUX64;
    image->entry_gpa = kernel->gpa + ENTRY_64;
    image->initrd_limit = (uint64_t)hdr.initrd_addr_max + 1;
    image->cmdline_max = hdr.cmdline_size;
    return 0;
}
