/*
 * blockio: do I/O on a disk image from the command line, through the disk engine of the VMM.
 *
 *   blockio IMAGE[,key=value]... COMMAND...
 *
 *   write:OFF:LEN:BYTE      write LEN bytes of value BYTE
 *   verify:OFF:LEN:BYTE     read, and fail unless every byte is BYTE
 *   zero:OFF:LEN            write zeroes; unmap:OFF:LEN lets the space go, discard:OFF:LEN
 *   flush
 *   idle:SECONDS            do nothing, as an idle guest does
 *   bench:read|write:LEN:STEP:COUNT:DEPTH[:FLUSH]   requests of LEN bytes every STEP bytes; FLUSH:
 *                           a flush after each so many; prints requests per second
 *
 * keys: format=raw|qcow2 cache=writeback|none|unsafe aio=auto|io_uring|threads readonly=on|off
 *       discard=on|off
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "vmm/base/bytes.h"
#include "vmm/base/log.h"
#include "vmm/base/loop.h"
#include "vmm/base/parse.h"

#define DEPTH_MAX 256u

static struct loop *loop;
static struct block *block;

static int die(const char *what)
{
    fprintf(stderr, "blockio: %s\n", what);
    exit(2);
}

static int choice(const char *value, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(value, names[i]) == 0)
            return i;
    return die(value);
}

static void set_option(struct block_options *options, const char *key, const char *value)
{
    static const char *const formats[] = {"probe", "raw", "qcow2"};
    static const char *const caches[] = {"writeback", "none", "unsafe"};
    static const char *const aios[] = {"auto", "io_uring", "threads"};

    bool bad_switch = false;

    if (strcmp(key, "format") == 0)
        options->format = (enum block_format)choice(value, formats, 3);
    else if (strcmp(key, "cache") == 0)
        options->cache = (enum block_cache)choice(value, caches, 3);
    else if (strcmp(key, "aio") == 0)
        options->aio = (enum block_aio)choice(value, aios, 3);
    else if (strcmp(key, "readonly") == 0)
        bad_switch = parse_on_off(value, &options->readonly) < 0;
    else if (strcmp(key, "discard") == 0)
        bad_switch = parse_on_off(value, &options->discard) < 0;
    else
        die(key);
    if (bad_switch)
        die(value);
}

/* ---- one request ----------------------------------------------------------------------------------- */

static int result_of_one;

static void one_done(struct block_req *req, int result)
{
    result_of_one = result;
    loop_stop(loop);
}

static int run_one(struct block_req *req)
{
    req->done = one_done;
    block_submit(block, req);
    return loop_run(loop) < 0 ? -EIO : result_of_one;
}

static int transfer(bool write, uint64_t off, uint64_t len, int byte)
{
    uint8_t *buf = malloc(len + 1);
    struct iovec iov = {buf, len};
    struct block_req req = {
        .op = write ? BLOCK_WRITE : BLOCK_READ, .off = off, .len = len, .iov = &iov, .niov = 1};
    int r;

    if (!buf)
        return -ENOMEM;
    memset(buf, write ? byte : ~byte, len);
    r = run_one(&req);
    for (uint64_t i = 0; i < len && r == 0 && !write; i++) {
        if (buf[i] != (uint8_t)byte) {
            fprintf(stderr, "blockio: offset %llu: read %u, expected %d\n",
                    (unsigned long long)off + i, buf[i], byte);
            r = -EILSEQ;
        }
    }
    free(buf);
    return r;
}

static int without_data(enum block_op op, unsigned flags, uint64_t off, uint64_t len)
{
    struct block_req req = {.op = op, .flags = flags, .off = off, .len = len};

    return run_one(&req);
}

static void idle_over(struct loop_timer *timer)
{
    loop_stop(loop);
}

static int idle(uint64_t seconds)
{
    struct loop_timer timer = {.expired = idle_over};

    loop_arm(loop, &timer, seconds * 1000000000ull);
    return loop_run(loop);
}

/* ---- many requests --------------------------------------------------------------------------------- */

static struct bench {
    enum block_op op;
    uint64_t len;
    uint64_t step;
    uint64_t count;
    uint64_t flush_every; /* 0: never */
    uint64_t started;
    unsigned in_flight;
    int result;
    struct bench_slot {
        struct block_req req;
        struct iovec iov;
    } slots[DEPTH_MAX];
} bench;

static void bench_done(struct block_req *req, int result);

static void bench_start(struct block_req *req)
{
    struct bench_slot *slot = container_of(req, struct bench_slot, req);
    struct block_info info;

    if (bench.started == bench.count || bench.result < 0) {
        if (bench.in_flight == 0)
            loop_stop(loop);
        return;
    }
    block_get_info(block, &info);
    *req = (struct block_req){.op = bench.op,
                              .off = bench.started * bench.step % (info.len - bench.len + 1),
                              .len = bench.len,
                              .iov = &slot->iov,
                              .niov = 1,
                              .done = bench_done};
    req->off = align_down(req->off, BLOCK_SECTOR_SIZE);
    bench.started++;
    bench.in_flight++;
    block_submit(block, req);
}

static void bench_done(struct block_req *req, int result)
{
    bench.in_flight--;
    if (result < 0)
        bench.result = result;
    if (result == 0 && req->op == BLOCK_WRITE && bench.flush_every &&
        bench.started % bench.flush_every == 0) {
        *req = (struct block_req){.op = BLOCK_FLUSH, .done = bench_done};
        bench.in_flight++;
        block_submit(block, req);
        return;
    }
    bench_start(req);
}

static int run_bench(enum block_op op, const uint64_t args[], int nargs)
{
    uint64_t depth = args[3];
    uint64_t start = monotonic_ns();
    uint8_t *buf;
    double seconds;

    if (depth == 0 || depth > DEPTH_MAX || args[0] == 0)
        die("bench: bad length or depth");
    bench = (struct bench){.op = op, .len = args[0], .step = args[1], .count = args[2]};
    bench.flush_every = nargs > 4 ? args[4] : 0;
    buf = aligned_alloc(4096, align_up(bench.len, 4096));
    if (!buf)
        return -ENOMEM;
    memset(buf, 0xa5, bench.len);
    for (uint64_t i = 0; i < depth; i++) {
        bench.slots[i].iov = (struct iovec){buf, bench.len};
        bench_start(&bench.slots[i].req);
    }
    if (bench.in_flight > 0 && loop_run(loop) < 0)
        bench.result = -EIO;
    free(buf);
    seconds = (double)(monotonic_ns() - start) / 1e9;
    printf("%llu requests in %.3f s: %.0f/s\n", (unsigned long long)bench.count, seconds,
           (double)bench.count / seconds);
    return bench.result;
}

/* ---- commands ---------------------------------------------------------------------------------------- */

/* Split the rest of "name:1:2k" into numbers. */
static int numbers(char *text, uint64_t args[], int max)
{
    int n = 0;

    for (char *word = strtok(text, ":"); word; word = strtok(NULL, ":"))
        if (n == max || parse_size(word, &args[n++]) < 0)
            die(word);
    return n;
}

static int run_command(char *text)
{
    uint64_t args[5] = {0};
    char *rest = strchr(text, ':');
    int n;

    if (strncmp(text, "bench:", 6) == 0) {
        bool write = strncmp(text + 6, "write:", 6) == 0;

        rest = text + (write ? 12 : 11);
        n = numbers(rest, args, 5);
        return n >= 4 ? run_bench(write ? BLOCK_WRITE : BLOCK_READ, args, n) : die("bench: ?");
    }
    if (rest)
        *rest++ = '\0';
    n = rest ? numbers(rest, args, 3) : 0;
    if (strcmp(text, "flush") == 0 && n == 0)
        return without_data(BLOCK_FLUSH, 0, 0, 0);
    if (strcmp(text, "idle") == 0 && n == 1)
        return idle(args[0]);
    if (strcmp(text, "write") == 0 && n == 3)
        return transfer(true, args[0], args[1], (int)args[2]);
    if (strcmp(text, "verify") == 0 && n == 3)
        return transfer(false, args[0], args[1], (int)args[2]);
    if (strcmp(text, "zero") == 0 && n == 2)
        return without_data(BLOCK_WRITE_ZEROES, 0, args[0], args[1]);
    if (strcmp(text, "unmap") == 0 && n == 2)
        return without_data(BLOCK_WRITE_ZEROES, BLOCK_REQ_UNMAP, args[0], args[1]);
    if (strcmp(text, "discard") == 0 && n == 2)
        return without_data(BLOCK_DISCARD, 0, args[0], args[1]);
    return die(text);
}

int main(int argc, char **argv)
{
    struct block_options options = {.discard = true};
    struct err err = {0};
    int r = 0;
    int r2;

    if (argc < 2)
        die("usage: blockio IMAGE[,key=value]... COMMAND...");
    log_set_level(LOG_INFO);
    options.path = strtok(argv[1], ",");
    for (char *key = strtok(NULL, ","); key; key = strtok(NULL, ",")) {
        char *value = strchr(key, '=');

        if (!value)
            die(key);
        *value++ = '\0';
        set_option(&options, key, value);
    }
    if (loop_new(&loop) < 0)
        die("no event loop");
    if (block_open(&options, &block, &err) < 0 || block_attach(block, loop, &err) < 0)
        die(err.msg);

    for (int i = 2; i < argc && r == 0; i++) {
        r = run_command(argv[i]);
        if (r < 0)
            fprintf(stderr, "blockio: %s: %s\n", argv[i], strerror(-r));
    }
    r2 = block_detach(block);
    r = r < 0 ? r : r2;
    r2 = block_close(block);
    r = r < 0 ? r : r2;
    loop_free(loop);
    if (r2 < 0)
        fprintf(stderr, "blockio: close: %s\n", strerror(-r2));
    return r < 0 ? 1 : 0;
}
