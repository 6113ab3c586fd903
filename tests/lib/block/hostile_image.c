/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/block/hostile_image.h"

#include <stdlib.h>
#include <string.h>

#include "base/aio.h"
#include "base/bytes.h"

#define ATTACH 0x80u

/* A request that is waited for in vain would have the fuzzer wait for ever. */
#define ROUNDS_MAX (1u << 24)

#define SECTORS_MAX 256u

/* Pieces of a buffer that lies in several, a sector each but for the last. */
#define PIECES_MAX 16u

struct request {
    struct block_req req;
    struct iovec iov[PIECES_MAX];
    bool busy;
    uint8_t buf[SECTORS_MAX * BLOCK_SECTOR_SIZE];
};

/* Made once. */
static struct loop *loop;
static struct aio *aio;
static struct request requests[HOSTILE_IN_FLIGHT];

static void make_loop(void)
{
    if (loop_new(&loop) < 0 || aio_get(loop, AIO_THREADS, &aio, NULL) < 0)
        abort();
}

/* ---- the input ------------------------------------------------------------------------------- */

/* How long what comes before the steps is; 0 if it is cut off. */
static size_t read_head(struct hostile_image *image, const uint8_t *data, size_t size)
{
    static const uint32_t aligns[] = {1, BLOCK_SECTOR_SIZE, 4096};
    unsigned first = size > 0 ? data[0] & ~ATTACH : 0;

    image->nsteps = first % (HOSTILE_STEPS_MAX + 1);
    image->align = aligns[first / (HOSTILE_STEPS_MAX + 1)];
    image->attach = size > 0 && data[0] & ATTACH;
    image->choices = (struct mem_choices){0};
    if (!image->attach)
        return min_u64(size, 1);
    if (size < 2 || !range_fits(2, data[1], size))
        return 0;
    image->choices = (struct mem_choices){.bytes = data + 2, .n = data[1]};
    return 2 + (size_t)data[1];
}

bool hostile_image_init(struct hostile_image *image, const uint8_t *data, size_t size)
{
    size_t head = read_head(image, data, size);
    size_t steps = (size_t)image->nsteps * HOSTILE_STEP_LEN;

    if (head == 0 || !range_fits(head, steps, size))
        return false;
    if (!loop)
        make_loop();
    image->steps = data + head;
    image->block = NULL;
    mem_disk_init(&image->disk, "image");
    mem_disk_init(&image->data, "data");
    image->disk.len = min_u64(size - head - steps, MEM_DISK_MAX);
    memcpy(image->disk.data, data + head + steps, image->disk.len);
    hostile_image_share_host(image, &image->disk);
    hostile_image_share_host(image, &image->data);
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

void hostile_image_share_host(struct hostile_image *image, struct mem_disk *disk)
{
    disk->shuffle = image->attach;
    disk->align = image->align;
    disk->choices = image->choices.n > 0 ? &image->choices : NULL;
}

/* ---- the image ------------------------------------------------------------------------------- */

bool hostile_image_open_with(struct hostile_image *image, const struct block_options *options)
{
    struct err err;

    if (block_open_in(&image->env.env, options, &image->block, &err) < 0)
        image->block = NULL;
    return image->block != NULL;
}

bool hostile_image_open(struct hostile_image *image, bool readonly)
{
    const struct block_options options = {
        .path = "image", .readonly = readonly, .discard = true, .aio = BLOCK_AIO_THREADS};

    return hostile_image_open_with(image, &options);
}

struct block *hostile_image_alone(struct hostile_image *image)
{
    if (image->block && image->block->loop)
        (void)block_detach(image->block); /* what the image makes of it is its own business */
    return image->block;
}

void hostile_image_close(struct hostile_image *image)
{
    (void)block_close(hostile_image_alone(image)); /* likewise */
    image->block = NULL;
}

/* ---- requests -------------------------------------------------------------------------------- */

static void request_done(struct block_req *req, int result)
{
    container_of(req, struct request, req)->busy = false;
}

/* Let things go on until this one is done. */
static void wait_for(const struct request *request)
{
    for (unsigned round = 0; request->busy; round++) {
        if (round == ROUNDS_MAX)
            abort();
        aio_wait(aio);
    }
}

/* One that is not in flight; waits for that if need be. */
static struct request *take_request(void)
{
    for (unsigned i = 0; i < HOSTILE_IN_FLIGHT; i++)
        if (!requests[i].busy)
            return &requests[i];
    wait_for(&requests[0]);
    return &requests[0];
}

/* What a step's first byte says beside the kind of request. */
static unsigned request_flags(enum block_op op, unsigned byte)
{
    unsigned flags = 0;

    if (op == BLOCK_WRITE) {
        flags |= byte & 0x80 ? BLOCK_REQ_FUA : 0;
        flags |= byte & 0x40 ? BLOCK_REQ_COMPRESSED : 0;
    } else if (op == BLOCK_WRITE_ZEROES) {
        flags |= byte & 0x80 ? BLOCK_REQ_UNMAP : 0;
        flags |= byte & 0x40 ? BLOCK_REQ_OWN : 0;
    }
    return flags;
}

/* Only whole clusters can be compressed; the last one ends with the disk. */
static void make_whole(struct request *request, struct block *block)
{
    struct block_req *req = &request->req;
    struct block_info info;
    uint64_t unit, end;

    block_get_info(block, &info);
    unit = max_u64(info.opt_io, BLOCK_SECTOR_SIZE);
    end = min_u64(align_up(req->off + req->len, unit), block->len);
    req->off = align_down(req->off, unit);
    if (end - req->off > sizeof(request->buf) || end < req->off)
        return;
    req->len = end - req->off;
}

/* The buffer as one, or as a guest's that lies in many places. */
static void set_vector(struct request *request, bool pieces)
{
    struct block_req *req = &request->req;
    uint64_t at = 0;

    req->niov = 0;
    while (at < req->len) {
        bool last = !pieces || req->niov == PIECES_MAX - 1;
        uint64_t len = last ? req->len - at : min_u64(req->len - at, BLOCK_SECTOR_SIZE);

        request->iov[req->niov++] = (struct iovec){request->buf + at, len};
        at += len;
    }
    req->iov = request->iov;
}

static void set_request(struct request *request, struct block *block, const uint8_t *step)
{
    static const enum block_op ops[] = {BLOCK_READ,         BLOCK_WRITE,   BLOCK_WRITE,
                                        BLOCK_WRITE_ZEROES, BLOCK_DISCARD, BLOCK_FLUSH};
    struct block_req *req = &request->req;
    enum block_op op = ops[step[0] % ARRAY_SIZE(ops)];
    uint64_t sectors = block->len / BLOCK_SECTOR_SIZE;

    *req = (struct block_req){
        .op = op,
        .flags = request_flags(op, step[0]),
        .off =
            (uint64_t)((unsigned __int128)sectors * load_be16(step + 1) >> 16) * BLOCK_SECTOR_SIZE,
        .len = (uint64_t)(step[3] + 1) * BLOCK_SECTOR_SIZE,
        .done = request_done,
    };
    if (req->flags & BLOCK_REQ_COMPRESSED && op == BLOCK_WRITE)
        make_whole(request, block);
    if (op == BLOCK_WRITE)
        memset(request->buf, step[0], req->len);
    set_vector(request, step[2] & 1);
}

void hostile_image_request(struct hostile_image *image, const uint8_t *step)
{
    struct request *request = take_request();
    int r;

    set_request(request, image->block, step);
    if (!image->attach) {
        r = block_execute(image->block, &request->req);
        (void)r; /* any result will do */
        return;
    }
    if (!image->block->loop && block_attach(image->block, loop, NULL) < 0)
        abort();
    request->busy = true;
    block_submit(image->block, &request->req);
    if (step[0] & HOSTILE_WAIT)
        wait_for(request);
}
