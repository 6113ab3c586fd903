/*
 * How fast the disk engine is: the same requests that `qemu-img bench` makes, with its arguments.
 *
 * usage: block_bench [options] IMAGE
 *
 *   -c COUNT  requests (75000)            -d DEPTH  of them in flight (64)
 *   -s SIZE   bytes of each (4096)        -S STEP   from one to the next (SIZE)
 *   -o OFF    of the first (0)            -w        write instead of read
 *   -f FORMAT raw or qcow2; else probed   -t CACHE  none, writeback (default) or unsafe
 *   -i AIO    io_uring or threads; else the best to be had; -n, -i native: the best as well
 *   --pattern BYTE           to be written (0)
 *   --flush-interval N       flush after each N writes, with nothing else in flight
 *   --no-drain               flush while writes go on
 *   --random SEED            offsets in random order: multiples of STEP
 *   --zero-cow=off           the engine without one of its techniques: clusters are filled by
 *   --merge-cow=off          copying zeroes; head, data and tail are written one by one;
 *   --merge-reqs=off         neighbouring requests stay apart
 *   --stats                  what the engine did: its counters
 *   --json                   one object instead of text
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "block/block.h"
#include "vmm/base/bytes.h"
#include "vmm/base/log.h"
#include "vmm/base/loop.h"
#include "vmm/base/parse.h"

#define DEPTH_MAX 1024u
#define LEN_MAX (64u << 20)

struct settings {
    struct block_options image;
    uint64_t count;
    uint64_t depth;
    uint64_t size;
    uint64_t step; /* 0: size */
    uint64_t off;
    uint64_t pattern;
    uint64_t flush_interval; /* 0: never */
    uint64_t seed;           /* 0: one after the other */
    bool write;
    bool no_drain;
    bool stats;
    bool json;
};

struct bench {
    struct settings settings;
    struct loop *loop;
    struct block *block;
    uint64_t len; /* of the image */

    uint8_t *memory;
    struct slot *slots;
    struct slot *free; /* those not in flight */

    uint64_t next_off;
    uint64_t random;
    uint64_t started;
    uint64_t done;
    unsigned in_flight; /* requests of slots */
    unsigned flushes;   /* in flight */
    bool flush_due;
    int result;
};

/* A request that is used again and again. */
struct slot {
    struct bench *bench;
    struct block_req req;
    struct iovec iov;
    struct slot *next; /* in the list of free ones */
};

/* A flush, which is made for each. */
struct flush {
    struct bench *bench;
    struct block_req req;
};

static int die(const char *what, const char *why)
{
    fprintf(stderr, "block_bench: %s: %s\n", what, why);
    exit(2);
}

/* ---- requests ----------------------------------------------------------------------------------- */

static void go_on(struct bench *bench);

static uint64_t pick_off(struct bench *bench)
{
    const struct settings *s = &bench->settings;
    uint64_t off = bench->next_off;

    if (s->seed) {
        /* xorshift64: Marsaglia, "Xorshift RNGs" */
        bench->random ^= bench->random << 13;
        bench->random ^= bench->random >> 7;
        bench->random ^= bench->random << 17;
        return bench->random % ((bench->len - s->size) / s->step + 1) * s->step;
    }
    bench->next_off = (off + s->step) % bench->len;
    return min_u64(off, bench->len - s->size);
}

static void transfer_done(struct block_req *req, int result)
{
    struct slot *slot = container_of(req, struct slot, req);
    struct bench *bench = slot->bench;
    uint64_t interval = bench->settings.flush_interval;

    if (result < 0)
        bench->result = result;
    slot->next = bench->free;
    bench->free = slot;
    bench->in_flight--;
    bench->done++;
    if (interval && bench->done % interval == 0)
        bench->flush_due = true;
    go_on(bench);
}

static void start_transfer(struct bench *bench)
{
    struct slot *slot = bench->free;

    bench->free = slot->next;
    slot->req = (struct block_req){
        .op = bench->settings.write ? BLOCK_WRITE : BLOCK_READ,
        .off = pick_off(bench),
        .len = bench->settings.size,
        .iov = &slot->iov,
        .niov = 1,
        .done = transfer_done,
    };
    bench->started++;
    bench->in_flight++;
    block_submit(bench->block, &slot->req);
}

static void flush_done(struct block_req *req, int result)
{
    struct flush *flush = container_of(req, struct flush, req);
    struct bench *bench = flush->bench;

    if (result < 0)
        bench->result = result;
    free(flush);
    bench->flushes--;
    go_on(bench);
}

static void start_flush(struct bench *bench)
{
    struct flush *flush = calloc(1, sizeof(*flush));

    if (!flush) {
        bench->result = -ENOMEM;
        return;
    }
    flush->bench = bench;
    flush->req = (struct block_req){.op = BLOCK_FLUSH, .done = flush_done};
    bench->flush_due = false;
    bench->flushes++;
    block_submit(bench->block, &flush->req);
}

/* Keep as many requests in flight as there should be. */
static void go_on(struct bench *bench)
{
    const struct settings *s = &bench->settings;

    if (bench->flush_due && (s->no_drain || bench->in_flight == 0))
        start_flush(bench);
    if (bench->in_flight + bench->flushes == 0 && (bench->result < 0 || bench->done == s->count)) {
        loop_stop(bench->loop);
        return;
    }
    if (bench->result < 0 || (!s->no_drain && (bench->flush_due || bench->flushes > 0)))
        return;
    while (bench->free && bench->started < s->count)
        start_transfer(bench);
}

/* ---- a run --------------------------------------------------------------------------------------- */

static void make_slots(struct bench *bench)
{
    const struct settings *s = &bench->settings;

    bench->slots = calloc(s->depth, sizeof(*bench->slots));
    bench->memory = aligned_alloc(4096, align_up(s->depth * s->size, 4096));
    if (!bench->slots || !bench->memory)
        die("buffers", strerror(ENOMEM));
    memset(bench->memory, (int)s->pattern, s->depth * s->size);
    for (uint64_t i = 0; i < s->depth; i++) {
        struct slot *slot = &bench->slots[i];

        slot->bench = bench;
        slot->iov = (struct iovec){bench->memory + i * s->size, s->size};
        slot->next = bench->free;
        bench->free = slot;
    }
}

static void open_image(struct bench *bench)
{
    struct settings *s = &bench->settings;
    struct block_info info;
    struct err err = {0};

    if (loop_new(&bench->loop) < 0)
        die("event loop", strerror(errno));
    s->image.readonly = !s->write;
    if (block_open(&s->image, &bench->block, &err) < 0 ||
        block_attach(bench->block, bench->loop, &err) < 0)
        die("open", err.msg);
    block_get_info(bench->block, &info);
    bench->len = info.len;
    if (s->size > bench->len || s->off >= bench->len)
        die(s->image.path, "smaller than a request");
}

static double cpu_seconds(void)
{
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage); /* cannot fail for oneself */
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

#define STAT(name)                                                                                 \
    {                                                                                              \
#name, offsetof(struct block_stats, name)                                                  \
    }

static const struct {
    const char *name;
    size_t at;
} stats[] = {
    STAT(merged_reqs),      STAT(data_reads),       STAT(data_read_bytes), STAT(data_writes),
    STAT(data_write_bytes), STAT(fallocates),       STAT(meta_reads),      STAT(meta_read_bytes),
    STAT(meta_writes),      STAT(meta_write_bytes), STAT(barriers),        STAT(cow_copied_bytes),
    STAT(cow_zeroed_bytes), STAT(cow_saved_bytes),
};

static void print_stats(const struct bench *bench)
{
    const char *data = (const char *)block_get_stats(bench->block);

    for (size_t i = 0; i < ARRAY_SIZE(stats); i++) {
        uint64_t value;

        memcpy(&value, data + stats[i].at, sizeof(value));
        printf(bench->settings.json ? ", \"%s\": %llu" : "%20s %llu\n", stats[i].name,
               (unsigned long long)value);
    }
}

static void print_result(const struct bench *bench, double seconds, double cpu)
{
    const struct settings *s = &bench->settings;

    if (!s->json) {
        printf("Run completed in %.3f seconds: %.0f/s, %.3f seconds of CPU\n", seconds,
               (double)s->count / seconds, cpu);
    } else {
        printf("{\"requests\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f",
               (unsigned long long)s->count, seconds, cpu);
    }
    if (s->stats)
        print_stats(bench);
    if (s->json)
        printf("}\n");
}

static int run(struct bench *bench)
{
    double cpu = cpu_seconds();
    uint64_t start = monotonic_ns();

    bench->next_off = bench->settings.off;
    bench->random = bench->settings.seed;
    go_on(bench);
    if (loop_run(bench->loop) < 0)
        return -EIO;
    if (bench->result == 0)
        print_result(bench, (double)(monotonic_ns() - start) / 1e9, cpu_seconds() - cpu);
    return bench->result;
}

static int close_image(struct bench *bench)
{
    int r = block_detach(bench->block);
    int r2 = block_close(bench->block);

    loop_free(bench->loop);
    free(bench->slots);
    free(bench->memory);
    return r < 0 ? r : r2;
}

/* ---- arguments ----------------------------------------------------------------------------------- */

/* The index of `value` in a list of names that ends with NULL. */
static int choice(const char *what, const char *value, const char *const names[])
{
    for (int i = 0; names[i]; i++)
        if (strcmp(value, names[i]) == 0)
            return i;
    return die(what, value);
}

static uint64_t number(const char *what, const char *value, uint64_t min, uint64_t max)
{
    uint64_t n;

    if (parse_size(value, &n) < 0 || n < min || n > max)
        die(what, value);
    return n;
}

static void set_aio(struct block_options *image, const char *value)
{
    static const char *const names[] = {"native", "io_uring", "threads", NULL};
    static const enum block_aio kinds[] = {BLOCK_AIO_AUTO, BLOCK_AIO_URING, BLOCK_AIO_THREADS};

    image->aio = kinds[choice("-i", value, names)];
}

static void set_technique(struct block_options *image, unsigned without, const char *value)
{
    bool on;

    if (parse_on_off(value, &on) < 0)
        die("on or off", value);
    image->without = on ? image->without & ~without : image->without | without;
}

enum long_option {
    PATTERN = 256,
    FLUSH_INTERVAL,
    NO_DRAIN,
    RANDOM,
    ZERO_COW,
    MERGE_COW,
    MERGE_REQS,
    STATS,
    JSON
};

static const struct option long_options[] = {
    {"pattern", required_argument, NULL, PATTERN},
    {"flush-interval", required_argument, NULL, FLUSH_INTERVAL},
    {"no-drain", no_argument, NULL, NO_DRAIN},
    {"random", required_argument, NULL, RANDOM},
    {"zero-cow", required_argument, NULL, ZERO_COW},
    {"merge-cow", required_argument, NULL, MERGE_COW},
    {"merge-reqs", required_argument, NULL, MERGE_REQS},
    {"stats", no_argument, NULL, STATS},
    {"json", no_argument, NULL, JSON},
    {NULL, 0, NULL, 0},
};

static void set_long_option(struct settings *s, int option, const char *value)
{
    switch ((enum long_option)option) {
    case PATTERN:
        s->pattern = number("--pattern", value, 0, 255);
        break;
    case FLUSH_INTERVAL:
        s->flush_interval = number("--flush-interval", value, 1, UINT64_MAX);
        break;
    case NO_DRAIN:
        s->no_drain = true;
        break;
    case RANDOM:
        s->seed = number("--random", value, 1, UINT64_MAX);
        break;
    case ZERO_COW:
        set_technique(&s->image, BLOCK_WITHOUT_ZERO_COW, value);
        break;
    case MERGE_COW:
        set_technique(&s->image, BLOCK_WITHOUT_MERGE_COW, value);
        break;
    case MERGE_REQS:
        set_technique(&s->image, BLOCK_WITHOUT_MERGE_REQS, value);
        break;
    case STATS:
        s->stats = true;
        break;
    case JSON:
        s->json = true;
        break;
    default:
        exit(2); /* getopt has said what it does not like */
    }
}

static void set_option(struct settings *s, int option, const char *value)
{
    static const char *const formats[] = {"probe", "raw", "qcow2", NULL};
    static const char *const caches[] = {"writeback", "none", "unsafe", NULL};

    switch (option) {
    case 'c':
        s->count = number("-c", value, 1, UINT64_MAX);
        break;
    case 'd':
        s->depth = number("-d", value, 1, DEPTH_MAX);
        break;
    case 's':
        s->size = number("-s", value, BLOCK_SECTOR_SIZE, LEN_MAX);
        break;
    case 'S':
        s->step = number("-S", value, BLOCK_SECTOR_SIZE, UINT32_MAX);
        break;
    case 'o':
        s->off = number("-o", value, 0, UINT64_MAX);
        break;
    case 'w':
        s->write = true;
        break;
    case 'f':
        s->image.format = (enum block_format)choice("-f", value, formats);
        break;
    case 't':
        s->image.cache = (enum block_cache)choice("-t", value, caches);
        break;
    case 'i':
        set_aio(&s->image, value);
        break;
    case 'n':
        break;
    default:
        set_long_option(s, option, value);
    }
}

int main(int argc, char **argv)
{
    struct bench bench = {
        .settings = {.image.discard = true, .count = 75000, .depth = 64, .size = 4096}};
    struct settings *s = &bench.settings;
    int option;
    int r;
    int r2;

    log_set_level(LOG_WARN);
    while ((option = getopt_long(argc, argv, "c:d:s:S:o:wf:t:i:n", long_options, NULL)) >= 0)
        set_option(s, option, optarg);
    if (optind + 1 != argc)
        die("arguments", "expected one image; the head of block_bench.c says what there is");
    s->image.path = argv[optind];
    s->step = s->step ? s->step : s->size;

    open_image(&bench);
    make_slots(&bench);
    r = run(&bench);
    r2 = close_image(&bench);
    if (r < 0 || r2 < 0)
        fprintf(stderr, "block_bench: %s: %s\n", s->image.path, strerror(r < 0 ? -r : -r2));
    return r < 0 || r2 < 0 ? 1 : 0;
}
