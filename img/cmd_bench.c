/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-img bench: how fast an image is read or written, request by request.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "img/args.h"
#include "img/bench.h"
#include "img/command.h"
#include "img/message.h"
#include "img/open.h"
#include "img/size.h"

/* Memory for all requests in flight. */
#define MEMORY_MAX (4ull << 30)

enum {
    PATTERN = ARGS_OWN,
    FLUSH_INTERVAL,
    NO_DRAIN,
    RANDOM,
    ZERO_COW,
    MERGE_COW,
    MERGE_REQS,
    STATS,
    JSON,
};

struct run_options {
    const struct args *args;
    struct bench_options bench;
    enum block_aio aio;
    unsigned without; /* BLOCK_WITHOUT_… */
    bool stats;
    bool json;
};

/* ---- the command line ------------------------------------------------------------------------ */

/* A whole number; EXIT_FAILURE and "Invalid … specified". */
static int set_number(const char *what, const char *text, uint64_t max, uint64_t *ret_number)
{
    char *end;
    unsigned long long n;

    errno = 0;
    n = strtoull(text, &end, 0);
    if (errno || end == text || *end || strchr(text, '-') || n > max) {
        img_error("Invalid %s specified", what);
        return EXIT_FAILURE;
    }
    *ret_number = n;
    return EXIT_SUCCESS;
}

static int set_unsigned(const char *what, const char *text, unsigned max, unsigned *ret_number)
{
    uint64_t n = 0;
    int status = set_number(what, text, max, &n);

    if (status == EXIT_SUCCESS)
        *ret_number = (unsigned)n;
    return status;
}

static int set_size(const char *what, const char *text, uint64_t max, uint64_t *ret_size)
{
    return size_arg(what, text, 0, max, ret_size) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int set_aio(struct run_options *o, const char *text)
{
    static const struct {
        const char *name;
        enum block_aio aio;
    } kinds[] = {
        {"native", BLOCK_AIO_AUTO}, {"io_uring", BLOCK_AIO_URING}, {"threads", BLOCK_AIO_THREADS}};

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (strcmp(kinds[i].name, text) == 0) {
            o->aio = kinds[i].aio;
            return EXIT_SUCCESS;
        }
    }
    img_error("Invalid aio option: %s", text);
    return EXIT_FAILURE;
}

static int set_technique(struct run_options *o, unsigned without, const char *text)
{
    bool on;

    if (parse_on_off(text, &on) < 0) {
        img_error("'%s': expected on or off", text);
        return EXIT_FAILURE;
    }
    o->without = on ? o->without & ~without : o->without | without;
    return EXIT_SUCCESS;
}

static int set_pattern(struct run_options *o, const char *text)
{
    unsigned byte = 0;
    int status = set_unsigned("pattern byte", text, UINT8_MAX, &byte);

    o->bench.pattern = (uint8_t)byte;
    return status;
}

/* `text` NULL: in the order that is drawn by default. */
static int set_random(struct run_options *o, const char *text)
{
    o->bench.seed = 1;
    if (!text)
        return EXIT_SUCCESS;
    if (set_number("seed", text, UINT64_MAX, &o->bench.seed) != EXIT_SUCCESS)
        return EXIT_FAILURE;
    o->bench.seed = max_u64(o->bench.seed, 1);
    return EXIT_SUCCESS;
}

static int set_long_option(struct run_options *o, int opt, const char *value)
{
    switch (opt) {
    case PATTERN:
        return set_pattern(o, value);
    case FLUSH_INTERVAL:
        return set_number("flush interval", value, INT_MAX, &o->bench.flush_interval);
    case NO_DRAIN:
        o->bench.no_drain = true;
        break;
    case RANDOM:
        return set_random(o, value);
    case ZERO_COW:
        return set_technique(o, BLOCK_WITHOUT_ZERO_COW, value);
    case MERGE_COW:
        return set_technique(o, BLOCK_WITHOUT_MERGE_COW, value);
    case MERGE_REQS:
        return set_technique(o, BLOCK_WITHOUT_MERGE_REQS, value);
    case STATS:
        o->stats = true;
        break;
    case JSON:
        o->json = true;
        break;
    }
    return EXIT_SUCCESS;
}

static int set_option(struct run_options *o, int opt, const char *value)
{
    switch (opt) {
    case 'c':
        return set_number("request count", value, INT_MAX, &o->bench.count);
    case 'd':
        return set_unsigned("queue depth", value, INT_MAX, &o->bench.depth);
    case 'i':
        return set_aio(o, value);
    case 'n': /* the best there is, which is what we take anyway */
        break;
    case 'o':
        return set_size("offset", value, INT64_MAX, &o->bench.off);
    case 's':
        return set_size("buffer size", value, INT_MAX, &o->bench.size);
    case 'S':
        return set_size("step_size", value, INT_MAX, &o->bench.step);
    case 'w':
        o->bench.write = true;
        break;
    default:
        return set_long_option(o, opt, value);
    }
    return EXIT_SUCCESS;
}

static const char *contradiction(const struct run_options *o)
{
    if (o->bench.flush_interval && !o->bench.write)
        return "--flush-interval is only available in write tests";
    if (o->bench.flush_interval && o->bench.flush_interval < o->bench.depth)
        return "Flush interval can't be smaller than depth";
    if (o->bench.depth == 0)
        return "Invalid queue depth specified";
    if (!is_aligned(o->bench.size | o->bench.step | o->bench.off, BLOCK_SECTOR_SIZE) ||
        o->bench.size == 0)
        return "Offset, buffer size and step size have to be multiples of 512 bytes";
    if (o->bench.size > MEMORY_MAX / o->bench.depth)
        return "The requests in flight take more than 4 GiB of memory";
    return NULL;
}

/* ---- the result ------------------------------------------------------------------------------ */

static void print_begin(const struct run_options *o)
{
    const struct bench_options *b = &o->bench;

    if (o->json)
        return;
    printf("Sending %" PRIu64 " %s requests, %" PRIu64 " bytes each, %u in parallel (starting at "
           "offset %" PRIu64 ", step size %" PRIu64 ")\n",
           b->count, b->write ? "write" : "read", b->size, b->depth, b->off, b->step);
    if (b->flush_interval)
        printf("Sending flush every %" PRIu64 " requests\n", b->flush_interval);
    (void)fflush(stdout); /* main looks after stdout at the end */
}

static void print_stats(const struct block_stats *stats, bool json)
{
#define STAT(name)                                                                                 \
    {                                                                                              \
#name, stats->name                                                                         \
    }
    const struct {
        const char *name;
        uint64_t value;
    } list[] = {
        STAT(merged_reqs),      STAT(data_reads),       STAT(data_read_bytes),
        STAT(data_writes),      STAT(data_write_bytes), STAT(fallocates),
        STAT(meta_reads),       STAT(meta_read_bytes),  STAT(meta_writes),
        STAT(meta_write_bytes), STAT(barriers),         STAT(cow_copied_bytes),
        STAT(cow_zeroed_bytes), STAT(cow_saved_bytes),
    };
#undef STAT

    for (size_t i = 0; i < ARRAY_SIZE(list); i++)
        printf(json ? ", \"%s\": %" PRIu64 : "%20s %" PRIu64 "\n", list[i].name, list[i].value);
}

static void print_result(const struct run_options *o, const struct bench_result *result)
{
    if (!o->json) {
        printf("Run completed in %3.3f seconds.\n", result->seconds);
        if (o->stats) {
            printf("%20s %.3f\n", "cpu_seconds", result->cpu_seconds);
            print_stats(&result->stats, false);
        }
        return;
    }
    printf("{\"requests\": %" PRIu64 ", \"seconds\": %.6f, \"cpu_seconds\": %.6f", o->bench.count,
           result->seconds, result->cpu_seconds);
    if (o->stats)
        print_stats(&result->stats, true);
    printf("}\n");
}

/* ---- a run ----------------------------------------------------------------------------------- */

static int check_disk(const struct run_options *o)
{
    struct block_info info;

    block_get_info(o->bench.block, &info);
    if (o->bench.count == 0 || (o->bench.size <= info.len && o->bench.off < info.len))
        return EXIT_SUCCESS;
    img_error("Requests of %" PRIu64 " bytes from offset %" PRIu64 " on do not fit a disk of "
              "%" PRIu64 " bytes",
              o->bench.size, o->bench.off, info.len);
    return EXIT_FAILURE;
}

static int send(const struct run_options *o)
{
    struct bench_result result = {.seconds = 0};
    struct err err;

    if (check_disk(o) != EXIT_SUCCESS)
        return EXIT_FAILURE;
    print_begin(o);
    if (o->bench.count > 0 && bench_run(&o->bench, &result, &err) < 0) {
        img_error("%s", err.msg);
        return EXIT_FAILURE;
    }
    print_result(o, &result);
    return EXIT_SUCCESS;
}

static int bench(struct run_options *o)
{
    const struct args *args = o->args;
    struct img_open_options options = args_open_options(
        args, args->operands[0], IMG_OPEN_ONE_THREAD | (o->bench.write ? IMG_OPEN_WRITABLE : 0));

    options.cache = args->cache;
    options.aio = o->aio;
    options.without = o->without;
    o->bench.block = img_open(&options);
    if (!o->bench.block)
        return EXIT_FAILURE;
    return img_close(o->bench.block, options.name, send(o));
}

static int run(struct args *args)
{
    struct run_options o = {.args = args, .bench = {.count = 75000, .depth = 64, .size = 4096}};
    enum block_cache cache;
    bool writethrough;
    const char *what;
    int opt;

    while ((opt = args_next(args)) > 0)
        if (set_option(&o, opt, args->value) != EXIT_SUCCESS)
            return EXIT_FAILURE;
    if (opt < 0)
        return args->status;
    if (args->cache && img_cache_parse(args->cache, &cache, &writethrough) < 0)
        what = "Invalid cache mode";
    else
        what = contradiction(&o);
    if (what) {
        img_error("%s", what);
        return EXIT_FAILURE;
    }
    o.bench.step = o.bench.step ? o.bench.step : o.bench.size;
    return bench(&o);
}

static const struct option longs[] = {
    ARGS_LONG_HELP,
    ARGS_LONG_IMAGE_OPTS,
    ARGS_LONG_SHARE,
    {"pattern", required_argument, NULL, PATTERN},
    {"flush-interval", required_argument, NULL, FLUSH_INTERVAL},
    {"no-drain", no_argument, NULL, NO_DRAIN},
    {"random", optional_argument, NULL, RANDOM},
    {"zero-cow", required_argument, NULL, ZERO_COW},
    {"merge-cow", required_argument, NULL, MERGE_COW},
    {"merge-reqs", required_argument, NULL, MERGE_REQS},
    {"stats", no_argument, NULL, STATS},
    {"json", no_argument, NULL, JSON},
    ARGS_LONG_END,
};

const struct img_command img_bench = {
    .name = "bench",
    .run = run,
    .shorts = "hc:d:f:ni:o:qs:S:t:wU",
    .one_image = true,
    .own_o = true,
    .longs = longs,
    .synopsis = "[-c count] [-d depth] [-f fmt] [--flush-interval=flush_interval] [-i aio] [-n] "
                "[--no-drain] [-o offset] [--pattern=pattern] [-q] [-s buffer_size] [-S step_size] "
                "[-t cache] [-w] [-U] [--random[=seed]] [--stats] [--json] filename",
    .help = "Send requests to an image and tell how long they took.\n"
            "\n"
            "  -c count             requests (75000)\n"
            "  -d depth             of them in flight (64)\n"
            "  -s buffer_size       bytes of each (4k)\n"
            "  -S step_size         bytes from one to the next (buffer_size)\n"
            "  -o offset            of the first (0)\n"
            "  -w                   write instead of read\n"
            "  --pattern=byte       to be written (0)\n"
            "  --flush-interval=n   flush after each n writes, with nothing else in flight\n"
            "  --no-drain           flush while writes go on\n"
            "  --random[=seed]      offsets in random order: multiples of step_size\n"
            "  -f fmt               qcow2 or raw; probed if it is not given\n"
            "  -t cache             none, writeback (default), writethrough, directsync, unsafe\n"
            "  -i aio               io_uring or threads; native, like -n, is the best there is\n"
            "  -U                   the image may be in use\n"
            "  --stats              what the engine did: its counters\n"
            "  --json               one object instead of text\n"
            "\n"
            "To measure what a technique of the engine gains: --zero-cow=off fills clusters by\n"
            "copying zeroes, --merge-cow=off writes head, data and tail of a cluster one by one,\n"
            "--merge-reqs=off keeps neighbouring requests apart.\n",
};
