/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/zero_page_x86.h"

#include <asm/bootparam.h>
#include <assert.h>
#include <string.h>

#define BOOT_FLAG 0xaa55
#define HEADER_MAGIC 0x53726448 /* "HdrS" */
#define PROTOCOL_2_12 0x020c
#define LOADER_UNDEFINED 0xff /* no assigned ID */
#define VID_MODE_NORMAL 0xffff

static_assert(sizeof(struct boot_params) == ZERO_PAGE_SIZE, "boot_params is one page");
static_assert(offsetof(struct boot_params, hdr) + KERNEL_SETUP_HEADER_MAX ==
                  offsetof(struct boot_params, edd_mbr_sig_buffer),
              "room for the setup header");

/* An ELF file brings no header; Linux looks at little of it when entered at the 64-bit entry. */
static void make_header(struct setup_header *hdr)
{
    hdr->boot_flag = BOOT_FLAG;
    hdr->header = HEADER_MAGIC;
    hdr->version = PROTOCOL_2_12;
    hdr->loadflags = LOADED_HIGH;
}

/* The fields that the protocol marks "write" or "modify" for the boot loader. */
static void fill_header(struct setup_header *hdr, const struct guest_info *info)
{
    hdr->vid_mode = VID_MODE_NORMAL;
    hdr->type_of_loader = LOADER_UNDEFINED;
    hdr->loadflags &= (uint8_t)~KASLR_FLAG; /* set by who randomises: the kernel's stub or boot/ */
    if (info->kaslr)
        hdr->loadflags |= KASLR_FLAG;
    hdr->ramdisk_image = (uint32_t)info->initrd_gpa;
    hdr->ramdisk_size = (uint32_t)info->initrd_len;
    hdr->cmd_line_ptr = (uint32_t)info->cmdline_gpa;
    hdr->setup_data = info->setup_data_gpa;
}

void zero_page_fill(const struct kernel_image *image, const struct guest_info *info,
                    uint8_t page[ZERO_PAGE_SIZE])
{
    struct boot_params params = {0};

    assert(info->ne820 <= E820_MAX_ENTRIES_ZEROPAGE);
    if (image->setup_header_len > 0)
        memcpy((uint8_t *)&params + offsetof(struct boot_params, hdr), image->setup_header,
               image->setup_header_len);
    else
        make_header(&params.hdr);
    fill_header(&params.hdr, info);

    params.ext_ramdisk_image = (uint32_t)(info->initrd_gpa >> 32);
    params.ext_ramdisk_size = (uint32_t)(info->initrd_len >> 32);
    params.ext_cmd_line_ptr = (uint32_t)(info->cmdline_gpa >> 32);
    params.acpi_rsdp_addr = info->rsdp_gpa;
    params.e820_entries = (uint8_t)info->ne820;
    for (size_t i = 0; i < info->ne820; i++)
        params.e820_table[i] = (struct boot_e820_entry){
            .addr = info->e820[i].gpa,
            .size = info->e820[i].len,
            .type = info->e820[i].type,
        };
    memcpy(page, &params, sizeof(params));
}
