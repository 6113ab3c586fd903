#include "tests/lib/hostile_image.h"

#include <stdlib.h>
#include <string.h>

#include "vmm/base/aio.h"
#include "vmm/base/bytes.h"

#define ATTACH 0x80u

/* A request that is waited for in vain would have the fuzzer wait for ever. */
#define ROUNDS_MAX (1u << 24)

#define SECTORS_MAX 256u

struct request {
    struct block_req req;
    struct iovec iov;
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
    image->nsteps = size > 0 ? (data[0] & ~ATTACH) % (HOSTILE_STEPS_MAX + 1) : 0;
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
    hostile_image_share_choices(image, &image->disk);
    hostile_image_share_choices(image, &image->data);
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

void hostile_image_share_choices(struct hostile_image *image, struct mem_disk *disk)
{
    disk->shuffle = image->attach;
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

/* One that is not in flight; waits for that if need be. */
static struct request *take_request(void)
{
    for (unsigned round = 0; round < ROUNDS_MAX; round++) {
        for (unsigned i = 0; i < HOSTILE_IN_FLIGHT; i++)
            if (!requests[i].busy)
                return &requests[i];
        aio_wait(aio);
    }
    abort();
}

static void set_request(struct request *request, const struct block *block, const uint8_t *step)
{
    static const enum block_op ops[] = {BLOCK_READ,         BLOCK_WRITE,   BLOCK_WRITE,
                                        BLOCK_WRITE_ZEROES, BLOCK_DISCARD, BLOCK_FLUSH};
    struct block_req *req = &request->req;
    uint64_t sectors = block->len / BLOCK_SECTOR_SIZE;

    request->iov = (struct iovec){request->buf, (size_t)(step[3] + 1) * BLOCK_SECTOR_SIZE};
    *req = (struct block_req){
        .op = ops[step[0] % ARRAY_SIZE(ops)],
        .flags = step[0] & 0x80 ? BLOCK_REQ_UNMAP : 0,
        .off =
            (uint64_t)((unsigned __int128)sectors * load_be16(step + 1) >> 16) * BLOCK_SECTOR_SIZE,
        .len = request->iov.iov_len,
        .iov = &request->iov,
        .niov = 1,
        .done = request_done,
    };
    if (req->op == BLOCK_WRITE)
        memset(request->buf, step[0], request->iov.iov_len);
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
}
