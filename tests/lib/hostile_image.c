#include "tests/lib/hostile_image.h"

#include <string.h>

#include "vmm/base/bytes.h"

bool hostile_image_init(struct hostile_image *image, const uint8_t *data, size_t size)
{
    unsigned n = size > 0 ? data[0] % (HOSTILE_STEPS_MAX + 1) : 0;
    size_t head = 1 + (size_t)n * HOSTILE_STEP_LEN;

    if (size < head)
        return false;
    image->steps = data + 1;
    image->nsteps = n;
    mem_disk_init(&image->disk, "image");
    mem_disk_init(&image->data, "data");
    image->disk.len = min_u64(size - head, MEM_DISK_MAX);
    memcpy(image->disk.data, data + head, image->disk.len);
    mem_env_init(&image->env);
    mem_env_add(&image->env, &image->disk);
    mem_env_add(&image->env, &image->data);
    return true;
}

void hostile_image_done(struct hostile_image *image)
{
    mem_disk_done(&image->disk);
    mem_disk_done(&image->data);
}

struct block *hostile_image_open(struct hostile_image *image, bool readonly)
{
    struct block_options options = {.path = "image", .readonly = readonly, .discard = true};
    struct block *block;
    struct err err;

    return block_open_in(&image->env.env, &options, &block, &err) < 0 ? NULL : block;
}

void hostile_image_request(struct block *block, const uint8_t *step)
{
    static const enum block_op ops[] = {BLOCK_READ,         BLOCK_WRITE,   BLOCK_WRITE,
                                        BLOCK_WRITE_ZEROES, BLOCK_DISCARD, BLOCK_FLUSH};
    static uint8_t buf[256 * BLOCK_SECTOR_SIZE];
    struct iovec iov = {buf, (size_t)(step[3] + 1) * BLOCK_SECTOR_SIZE};
    struct block_req req = {.op = ops[step[0] % ARRAY_SIZE(ops)], .iov = &iov, .niov = 1};
    uint64_t sectors = block->len / BLOCK_SECTOR_SIZE;

    req.off =
        (uint64_t)((unsigned __int128)sectors * load_be16(step + 1) >> 16) * BLOCK_SECTOR_SIZE;
    req.len = iov.iov_len;
    if (step[0] & 0x80)
        req.flags = BLOCK_REQ_UNMAP;
    if (req.op == BLOCK_WRITE)
        memset(buf, step[0], iov.iov_len);
    if (block_execute(block, &req) < 0)
        return;
}
