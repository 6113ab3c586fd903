/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/kernel_blocks.h"

#include "base/bytes.h"
#include "base/trace.h"
#include "boot/loader.h"
#include "boot/plain_kernel.h"
#include "boot/workers.h"
#include "memory/guest_mem.h"

#define BLOCK (2 * MIB)

/* Of its pages; see docs/boot.md for what was measured. */
#define DENSE (BLOCK / PLAIN_KERNEL_PAGE / 32)

_Static_assert(BLOCK <= RELOCS_PIECE_MAX, "pages are counted by blocks");

static uint64_t block_len(const struct kernel_blocks *blocks, size_t i)
{
    return min_u64(BLOCK, blocks->len - i * BLOCK);
}

static bool is_dense(const struct kernel_blocks *blocks, size_t i)
{
    return blocks->relocs && block_len(blocks, i) == BLOCK &&
           relocs_count_pages(blocks->relocs, i * BLOCK, BLOCK) >= DENSE;
}

struct filling {
    const struct kernel_blocks *blocks;
    const struct boot_file *file;
    uint64_t off;
};

/* The last block of the mapping is the one before `end`. */
static int map_run(const struct filling *filling, size_t first, size_t end, struct err *err)
{
    uint64_t start = first * BLOCK;
    uint64_t len = min_u64(end * BLOCK, filling->blocks->len) - start;
    int r;

    if (len == 0)
        return 0;
    r = guest_mem_map_file(filling->blocks->kernel + start, len, filling->file->fd,
                           filling->off + start);
    return r < 0 ? err_set_errno(err, r, "cannot map it") : 0;
}

/* What is not dense, in as few mappings as possible. */
static int map_runs(const struct filling *filling, struct err *err)
{
    const struct kernel_blocks *blocks = filling->blocks;
    size_t n = div_round_up(blocks->len, BLOCK), first = 0;
    int r = 0;

    for (size_t i = 0; r == 0 && i < n; i++) {
        if (!is_dense(blocks, i))
            continue;
        r = map_run(filling, first, i, err);
        first = i + 1;
    }
    return r == 0 ? map_run(filling, first, n, err) : r;
}

static int read_block(void *opaque, size_t i, struct err *err)
{
    const struct filling *filling = opaque;
    uint8_t *dst = filling->blocks->kernel + i * BLOCK;

    if (!is_dense(filling->blocks, i))
        return 0;
    guest_mem_prefer_huge(dst, BLOCK);
    loader_populate(dst, BLOCK);
    return boot_file_read(filling->file, filling->off + i * BLOCK, dst, BLOCK, err);
}

int kernel_blocks_fill(const struct kernel_blocks *blocks, const struct boot_file *file,
                       uint64_t off, struct err *err)
{
    struct filling filling = {.blocks = blocks, .file = file, .off = off};
    const uint64_t begin_ns = trace_begin();
    int r = map_runs(&filling, err);

    if (r == 0 && blocks->relocs)
        r = workers_run(div_round_up(blocks->len, BLOCK), read_block, &filling, err);
    trace_span("map and read the kernel", begin_ns);
    return r;
}

static int relocate_block(void *opaque, size_t i, struct err *err)
{
    const struct kernel_blocks *blocks = opaque;

    relocs_apply(blocks->relocs, blocks->kernel, i * BLOCK, block_len(blocks, i), blocks->delta);
    return 0;
}

int kernel_blocks_relocate(const struct kernel_blocks *blocks, struct err *err)
{
    struct kernel_blocks copy = *blocks; /* it is only read, but workers get no const */
    const uint64_t begin_ns = trace_begin();
    int r;

    if (!blocks->relocs)
        return 0;
    r = workers_run(div_round_up(blocks->len, BLOCK), relocate_block, &copy, err);
    trace_span("relocate the kernel", begin_ns);
    return r;
}
