/*
 * Requests on hostile qcow2 images.
 *
 * Input: the number of requests, four bytes for each (kind, offset as a fraction of the disk in 16
 * bits, length in sectors), and the image. Files live in memory, so whatever an image names, no file
 * of the host is opened.
 */
#include <string.h>

#include "tests/lib/mem_file.h"
#include "vmm/base/bytes.h"

#define REQUEST_LEN 4u
#define REQUESTS_MAX 48u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_request(struct block *block, const uint8_t *request)
{
    static const enum block_op ops[] = {BLOCK_READ,         BLOCK_WRITE,   BLOCK_WRITE,
                                        BLOCK_WRITE_ZEROES, BLOCK_DISCARD, BLOCK_FLUSH};
    static uint8_t buf[256 * BLOCK_SECTOR_SIZE];
    struct iovec iov = {buf, (size_t)(request[3] + 1) * BLOCK_SECTOR_SIZE};
    struct block_req req = {.op = ops[request[0] % ARRAY_SIZE(ops)], .iov = &iov, .niov = 1};
    struct block_info info;
    uint64_t sectors;

    block_get_info(block, &info);
    sectors = info.len / BLOCK_SECTOR_SIZE;
    req.off =
        (uint64_t)((unsigned __int128)sectors * load_be16(request + 1) >> 16) * BLOCK_SECTOR_SIZE;
    req.len = iov.iov_len;
    if (request[0] & 0x80)
        req.flags = BLOCK_REQ_UNMAP;
    if (req.op == BLOCK_WRITE)
        memset(buf, request[0], iov.iov_len);
    /* Any result will do; what counts is how it gets there. */
    if (block_execute(block, &req) < 0)
        return;
}

static void run_image(struct mem_disk *disk, const uint8_t *requests, unsigned n, bool readonly)
{
    struct block_options options = {.path = "image", .readonly = readonly, .discard = true};
    struct mem_env env;
    struct block *block;
    struct err err;

    mem_env_init(&env);
    mem_env_add(&env, disk);
    if (block_open_in(&env.env, &options, &block, &err) < 0)
        return;
    for (unsigned i = 0; i < n; i++)
        run_request(block, requests + (size_t)i * REQUEST_LEN);
    (void)block_close(block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned n = size > 0 ? data[0] % (REQUESTS_MAX + 1) : 0;
    size_t head = 1 + n * REQUEST_LEN;
    struct mem_disk disk;

    if (size < head)
        return 0;
    mem_disk_init(&disk, "image");
    disk.len = min_u64(size - head, MEM_DISK_MAX);
    memcpy(disk.data, data + head, disk.len);
    run_image(&disk, data + 1, n, true);
    run_image(&disk, data + 1, n, false);
    run_image(&disk, data + 1, n, true); /* what the writes have made of it */
    mem_disk_done(&disk);
    return 0;
}
