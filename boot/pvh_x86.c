/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/pvh_x86.h"

#include "boot/bytebuf.h"

#define PVH_MAGIC 0x336ec578u
#define PVH_VERSION 1 /* with a memory map */
#define PVH_START_INFO_SIZE 56
#define PVH_MODULE_SIZE 32ull

size_t pvh_build(const struct guest_info *info, uint64_t gpa, uint8_t *area, size_t size)
{
    struct bytebuf buf = {.data = area, .size = size};
    uint32_t nmodules = info->initrd_len > 0 ? 1 : 0;
    uint64_t modules_gpa = gpa + PVH_START_INFO_SIZE;
    uint64_t memmap_gpa = modules_gpa + nmodules * PVH_MODULE_SIZE;

    bytebuf_put_u32(&buf, PVH_MAGIC);
    bytebuf_put_u32(&buf, PVH_VERSION);
    bytebuf_put_u32(&buf, 0); /* flags */
    bytebuf_put_u32(&buf, nmodules);
    bytebuf_put_u64(&buf, nmodules ? modules_gpa : 0);
    bytebuf_put_u64(&buf, info->cmdline_gpa);
    bytebuf_put_u64(&buf, info->rsdp_gpa);
    bytebuf_put_u64(&buf, memmap_gpa);
    bytebuf_put_u32(&buf, (uint32_t)info->ne820);
    bytebuf_put_u32(&buf, 0);
    assert(buf.len == PVH_START_INFO_SIZE);

    if (nmodules) {
        bytebuf_put_u64(&buf, info->initrd_gpa);
        bytebuf_put_u64(&buf, info->initrd_len);
        bytebuf_put_zeroes(&buf, 16); /* no command line of its own */
    }
    for (size_t i = 0; i < info->ne820; i++) {
        bytebuf_put_u64(&buf, info->e820[i].gpa);
        bytebuf_put_u64(&buf, info->e820[i].len);
        bytebuf_put_u32(&buf, info->e820[i].type);
        bytebuf_put_u32(&buf, 0);
    }
    return buf.len;
}
