/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The qcow2 engine, QEMU and a plain array, over the whole matrix of layouts: random requests of
 * ours and of qemu-io take turns on an image in a file, the array says what it must show, and
 * `qemu-img check` and `compare`, our own check and the raw data file agree.
 *
 * Each round has a layout of its own; 13 rounds in a row have all cluster sizes. SEED=n begins with
 * the round that printed it, SCALE=n does n times as many.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/driver.h"
#include "block/image.h"
#include "tests/lib/block/history.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/block/mem_disk.h"
#include "tests/lib/dice.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define SECTOR BLOCK_SECTOR_SIZE
#define CLUSTER_SIZES 13 /* 512 bytes to 2 MiB */

static unsigned base_seed;

/* ---- layouts --------------------------------------------------------------------------------- */

enum base { BASE_NONE, BASE_RAW, BASE_QCOW2, BASES };
enum data { DATA_INSIDE, DATA_FILE, DATA_FILE_RAW };

struct layout {
    unsigned version;
    unsigned cluster_bits;
    unsigned refcount_order;
    enum base base;
    bool base_longer;
    enum data data;
    bool extended_l2;
    bool zstd;
    bool lazy;
    enum block_prealloc prealloc;
    bool ours; /* made by block_create, not by qemu-img */
};

/* Cluster sizes, refcount widths and bases take turns, with periods that have no common divisor. */
static void layout_pick(struct layout *layout, unsigned seed)
{
    uint64_t s = seed;

    *layout = (struct layout){
        .version = 3,
        .cluster_bits = 9 + seed % CLUSTER_SIZES,
        .refcount_order = seed % 7,
        .base = (enum base)(seed % 5 % BASES),
        .base_longer = dice_roll(&s, 2),
        .ours = dice_roll(&s, 2),
    };
    if (dice_roll(&s, 6) == 0) {
        layout->version = 2;
        layout->refcount_order = 4;
    } else {
        layout->extended_l2 = layout->cluster_bits >= 14 && dice_roll(&s, 2);
        layout->zstd = dice_roll(&s, 2);
        layout->lazy = dice_roll(&s, 6) == 0;
        if (dice_roll(&s, 4) == 0)
            layout->data =
                layout->base == BASE_NONE && dice_roll(&s, 4) ? DATA_FILE_RAW : DATA_FILE;
    }
    /* What is preallocated hides the base, except where subclusters can stay unallocated. */
    if ((layout->base == BASE_NONE || layout->extended_l2) && dice_roll(&s, 4) == 0)
        layout->prealloc = (enum block_prealloc)(1 + dice_roll(&s, 3));
    /* QEMU implies it. */
    if (layout->data == DATA_FILE_RAW)
        layout->prealloc = BLOCK_PREALLOC_METADATA;
}

static const char *const prealloc_names[] = {"off", "metadata", "falloc", "full"};

static void layout_print(const struct layout *layout, char *buf, size_t len)
{
    static const char *const bases[] = {"", ", on raw", ", on qcow2"};
    static const char *const datas[] = {"", ", data file", ", raw data file"};

    snprintf(buf, len, "v%u, clusters of %u, %u-bit counts%s%s%s%s%s%s, preallocation %s, by %s",
             layout->version, 1u << layout->cluster_bits, 1u << layout->refcount_order,
             bases[layout->base], layout->base && layout->base_longer ? " (longer)" : "",
             datas[layout->data], layout->extended_l2 ? ", extended L2" : "",
             layout->zstd ? ", zstd" : "", layout->lazy ? ", lazy counts" : "",
             prealloc_names[layout->prealloc], layout->ours ? "us" : "qemu-img");
}

/* ---- an image and its model ------------------------------------------------------------------ */

/* What else a sector may show after a discard: zeroes, what the base has there, anything. */
enum { LOOSE_ZERO = 1, LOOSE_BASE = 2, LOOSE_ANY = 4 };

struct rig {
    struct layout layout;
    char text[200]; /* layout and seed */
    uint64_t seed;
    uint64_t stamp;
    uint64_t cluster; /* in sectors */
    uint64_t nsectors;
    uint64_t max_sectors;
    uint8_t *model;
    uint8_t *base;
    uint8_t *buf;
    uint8_t *loose; /* of each sector */
    bool *touched;  /* of each cluster: it has been written, so QEMU does not compress there */
    struct block *block;
};

static unsigned roll(struct rig *rig, unsigned below)
{
    return dice_roll(&rig->seed, below);
}

static void fail_at(const struct rig *rig, const char *what, uint64_t sector)
{
    ck_abort_msg("%s: %s, sector %llu", rig->text, what, (unsigned long long)sector);
}

static void stamp_sectors(struct rig *rig, uint8_t *data, uint64_t n)
{
    uint64_t noise = roll(rig, 3) == 0 ? HISTORY_NOISE : 0;

    for (uint64_t i = 0; i < n; i++)
        history_fill(data + i * SECTOR, ++rig->stamp | noise);
}

static void *memory(uint64_t n, size_t size)
{
    void *p = calloc(n, size);

    ck_assert_ptr_nonnull(p);
    return p;
}

/* Data with gaps. */
static void make_base(struct rig *rig)
{
    uint64_t n = rig->nsectors / 2 + 1;
    const char *compress = roll(rig, 2) ? "-c" : "";

    if (rig->layout.base_longer)
        n = rig->max_sectors - roll(rig, (unsigned)(rig->max_sectors - rig->nsectors));
    for (uint64_t at = 0, piece = 0; at < n; at += piece) {
        piece = min_u64(n - at, 1 + roll(rig, 300));
        if (roll(rig, 3))
            stamp_sectors(rig, rig->base + at * SECTOR, piece);
    }
    if (rig->layout.base == BASE_RAW) {
        scratch_save("base", rig->base, n * SECTOR);
    } else {
        scratch_save("raw-base", rig->base, n * SECTOR);
        scratch_ok("qemu-img convert %s -f raw -O qcow2 -o cluster_size=%u "
                   "raw-base base",
                   compress, 512u << roll(rig, 8));
    }
    memcpy(rig->model, rig->base, min_u64(n, rig->nsectors) * SECTOR);
}

static void make_top_by_qemu(const struct rig *rig)
{
    const struct layout *layout = &rig->layout;
    char options[300];
    int n = snprintf(options, sizeof(options), "compat=%s,cluster_size=%u,preallocation=%s",
                     layout->version == 2 ? "0.10" : "1.1", 1u << layout->cluster_bits,
                     prealloc_names[layout->prealloc]);

    if (layout->version == 3)
        n += snprintf(options + n, sizeof(options) - (size_t)n,
                      ",refcount_bits=%u,extended_l2=%s,compression_type=%s,lazy_refcounts=%s",
                      1u << layout->refcount_order, layout->extended_l2 ? "on" : "off",
                      layout->zstd ? "zstd" : "zlib", layout->lazy ? "on" : "off");
    if (layout->data != DATA_INSIDE)
        snprintf(options + n, sizeof(options) - (size_t)n, ",data_file=data,data_file_raw=%s",
                 layout->data == DATA_FILE_RAW ? "on" : "off");
    scratch_ok("qemu-img create -q -f qcow2 -o %s %s image %llu", options,
               layout->base == BASE_NONE  ? ""
               : layout->base == BASE_RAW ? "-b base -F raw"
                                          : "-b base -F qcow2",
               (unsigned long long)rig->nsectors * SECTOR);
}

static void make_top_by_us(const struct rig *rig)
{
    const struct layout *layout = &rig->layout;
    struct block_create_options options = {
        .path = scratch_path("image"),
        .format = BLOCK_FORMAT_QCOW2,
        .len = rig->nsectors * SECTOR,
        .prealloc = layout->prealloc,
        .version = layout->version,
        .cluster_size = 1u << layout->cluster_bits,
        .refcount_bits = 1u << layout->refcount_order,
        .lazy_refcounts = layout->lazy,
        .extended_l2 = layout->extended_l2,
        .zstd = layout->zstd,
        .backing_file = layout->base == BASE_NONE ? NULL : "base",
        .data_file = layout->data == DATA_INSIDE ? NULL : "data",
        .data_file_raw = layout->data == DATA_FILE_RAW,
    };
    struct err err = {0};

    if (layout->base != BASE_NONE)
        options.backing_format = layout->base == BASE_RAW ? BLOCK_FORMAT_RAW : BLOCK_FORMAT_QCOW2;
    ck_assert_msg(block_create(&options, &err) == 0, "%s: %s", rig->text, err.msg);
}

static void rig_init(struct rig *rig, unsigned seed)
{
    char layout[160];

    memset(rig, 0, sizeof(*rig));
    layout_pick(&rig->layout, seed);
    layout_print(&rig->layout, layout, sizeof(layout));
    snprintf(rig->text, sizeof(rig->text), "SEED=%u: %s", seed, layout);
    printf("%s\n", rig->text);
    rig->seed = seed;
    rig->cluster = (1ull << rig->layout.cluster_bits) / SECTOR;
    rig->nsectors = max_u64(1500, 4 * rig->cluster) + roll(rig, 1000);
    rig->max_sectors = rig->nsectors * 3 / 2;
    rig->model = memory(rig->max_sectors, SECTOR);
    rig->base = memory(rig->max_sectors, SECTOR);
    rig->buf = memory(rig->max_sectors, SECTOR);
    rig->loose = memory(rig->max_sectors, 1);
    rig->touched = memory(rig->max_sectors / rig->cluster + 2, sizeof(*rig->touched));
    memset(rig->touched, rig->layout.prealloc != BLOCK_PREALLOC_OFF,
           rig->max_sectors / rig->cluster + 2);
    if (rig->layout.base != BASE_NONE)
        make_base(rig);
    if (rig->layout.ours)
        make_top_by_us(rig);
    else
        make_top_by_qemu(rig);
}

static void rig_done(struct rig *rig)
{
    free(rig->model);
    free(rig->base);
    free(rig->buf);
    free(rig->loose);
    free(rig->touched);
}

/* ---- the model's part of each request -------------------------------------------------------- */

struct sectors {
    uint64_t first; /* sectors */
    uint64_t n;
};

static struct sectors pick_range(struct rig *rig)
{
    struct sectors range = {.first = roll(rig, (unsigned)rig->nsectors)};
    uint64_t most = roll(rig, 4) ? 16 : max_u64(200, roll(rig, 4) ? 0 : rig->cluster * 5 / 2);

    range.n = 1 + roll(rig, (unsigned)most);
    if (roll(rig, 3) == 0)
        range.first = align_down(range.first, rig->cluster);
    if (roll(rig, 4) == 0)
        range.n = align_up(range.n, rig->cluster);
    range.n = min_u64(range.n, rig->nsectors - range.first);
    return range;
}

/* Compressed writes are of whole clusters; the disk's end completes the last one. */
static struct sectors whole_clusters(const struct rig *rig, struct sectors range)
{
    uint64_t end = min_u64(align_up(range.first + range.n, rig->cluster), rig->nsectors);
    uint64_t first = align_down(range.first, rig->cluster);

    return (struct sectors){.first = first, .n = end - first};
}

static void touch(struct rig *rig, struct sectors range)
{
    for (uint64_t i = range.first; i < range.first + range.n; i++)
        rig->touched[i / rig->cluster] = true;
}

/* The disk gets another length; `stale`: what is there past its end may come back (QEMU). */
static void model_resize(struct rig *rig, uint64_t nsectors, bool stale)
{
    uint64_t last = min_u64(align_up(rig->nsectors, rig->cluster), nsectors);

    for (uint64_t i = rig->nsectors; i < nsectors; i++) {
        memset(rig->model + i * SECTOR, 0, SECTOR);
        rig->loose[i] = stale && i < last ? LOOSE_ANY : 0;
    }
    rig->nsectors = nsectors;
}

static void model_discard(struct rig *rig, struct sectors range)
{
    /* In version 2 an entry cannot say zero, so QEMU lets the base show. */
    uint8_t loose = LOOSE_ZERO | (rig->layout.version == 2 ? LOOSE_BASE : 0);

    for (uint64_t i = range.first; i < range.first + range.n; i++)
        rig->loose[i] |= loose;
}

static void model_set(struct rig *rig, struct sectors range, const uint8_t *data)
{
    if (data)
        memcpy(rig->model + range.first * SECTOR, data, range.n * SECTOR);
    else
        memset(rig->model + range.first * SECTOR, 0, range.n * SECTOR);
    memset(rig->loose + range.first, 0, range.n);
}

static bool is_zero(const uint8_t *sector)
{
    return sector[0] == 0 && memcmp(sector, sector + 1, SECTOR - 1) == 0;
}

/*
 * What was read must be what the model has; where that leaves a choice, this makes it. Only a
 * discard may come true later: when the rest of the cluster is discarded too.
 */
static void model_compare(struct rig *rig, struct sectors range, const uint8_t *data)
{
    for (uint64_t i = 0; i < range.n; i++) {
        uint64_t at = range.first + i;
        uint8_t loose = rig->loose[at];
        const uint8_t *sector = data + i * SECTOR;

        if (memcmp(sector, rig->model + at * SECTOR, SECTOR) != 0 && !(loose & LOOSE_ANY) &&
            !(loose & LOOSE_ZERO && is_zero(sector)) &&
            !(loose & LOOSE_BASE && memcmp(sector, rig->base + at * SECTOR, SECTOR) == 0))
            fail_at(rig, "other contents than expected", at);
        memcpy(rig->model + at * SECTOR, sector, SECTOR);
        rig->loose[at] = loose & LOOSE_ZERO;
    }
}

/* ---- our turn -------------------------------------------------------------------------------- */

static void open_image(struct rig *rig)
{
    static const enum block_cache caches[] = {BLOCK_CACHE_UNSAFE, BLOCK_CACHE_UNSAFE,
                                              BLOCK_CACHE_UNSAFE, BLOCK_CACHE_WRITEBACK,
                                              BLOCK_CACHE_NONE};
    struct block_options options = {.path = scratch_path("image"),
                                    .format = BLOCK_FORMAT_QCOW2,
                                    .cache = caches[roll(rig, ARRAY_SIZE(caches))],
                                    .discard = roll(rig, 4) != 0};
    struct err err = {0};

    ck_assert_msg(block_open(&options, &rig->block, &err) == 0, "%s: %s", rig->text, err.msg);
    ck_assert_uint_eq(rig->block->len, rig->nsectors * SECTOR);
}

static void execute(struct rig *rig, enum block_op op, unsigned flags, struct sectors range,
                    uint8_t *data)
{
    struct iovec iov = {data, range.n * SECTOR};
    struct block_req req = {.op = op,
                            .flags = flags,
                            .off = range.first * SECTOR,
                            .len = range.n * SECTOR,
                            .iov = &iov,
                            .niov = 1};

    if (block_execute(rig->block, &req) < 0)
        fail_at(rig, "a request fails", range.first);
}

static void our_read(struct rig *rig, struct sectors range)
{
    execute(rig, BLOCK_READ, 0, range, rig->buf);
    model_compare(rig, range, rig->buf);
}

static void our_write(struct rig *rig, unsigned flags)
{
    struct sectors range = pick_range(rig);

    if (flags & BLOCK_REQ_COMPRESSED)
        range = whole_clusters(rig, range);
    stamp_sectors(rig, rig->buf, range.n);
    execute(rig, BLOCK_WRITE, flags, range, rig->buf);
    model_set(rig, range, rig->buf);
    touch(rig, range);
}

static void our_zeroes(struct rig *rig)
{
    struct sectors range = pick_range(rig);

    execute(rig, BLOCK_WRITE_ZEROES, roll(rig, 2) ? BLOCK_REQ_UNMAP : 0, range, NULL);
    model_set(rig, range, NULL);
    touch(rig, range);
}

/* No way to let the base show: what is read is what was there, or zero. */
static void our_discard(struct rig *rig)
{
    struct sectors range = pick_range(rig);

    execute(rig, BLOCK_DISCARD, 0, range, NULL);
    memset(rig->loose + range.first, LOOSE_ZERO, range.n);
    our_read(rig, range);
    touch(rig, range);
}

static void our_resize(struct rig *rig)
{
    uint64_t nsectors = 1 + roll(rig, (unsigned)rig->max_sectors);
    struct block_resize_options options = {.len = nsectors * SECTOR, .shrink = true};
    struct err err = {0};

    if (nsectors > rig->nsectors)
        options.prealloc = (enum block_prealloc)(roll(rig, 3) ? 0 : roll(rig, 4));
    ck_assert_msg(block_resize(rig->block, &options, &err) == 0, "%s: %s", rig->text, err.msg);
    /* Clusters may have been put there, so that a longer base does not show. */
    if (nsectors > rig->nsectors)
        touch(rig, (struct sectors){.first = rig->nsectors, .n = nsectors - rig->nsectors});
    model_resize(rig, nsectors, false);
}

static void our_step(struct rig *rig)
{
    unsigned pick = roll(rig, 32);

    if (pick < 12)
        our_write(rig, pick == 0 ? BLOCK_REQ_FUA : 0);
    else if (pick < 16 && rig->layout.data == DATA_INSIDE)
        our_write(rig, BLOCK_REQ_COMPRESSED);
    else if (pick < 22)
        our_zeroes(rig);
    else if (pick < 25)
        our_discard(rig);
    else if (pick < 27)
        execute(rig, BLOCK_FLUSH, 0, (struct sectors){0}, NULL);
    else if (pick < 28)
        our_resize(rig);
    else
        our_read(rig, pick_range(rig));
}

static void our_turn(struct rig *rig)
{
    unsigned n = 1 + roll(rig, 50);

    open_image(rig);
    our_read(rig, (struct sectors){.n = rig->nsectors});
    while (n-- > 0)
        our_step(rig);
    our_read(rig, (struct sectors){.n = rig->nsectors});
    ck_assert_int_eq(block_close(rig->block), 0);
}

/* ---- what there is now ----------------------------------------------------------------------- */

/* The data file is the disk: who knows nothing of qcow2 sees the same. */
static void compare_data_file(const struct rig *rig)
{
    ck_assert_uint_eq(scratch_load("data", rig->buf, rig->nsectors * SECTOR),
                      rig->nsectors * SECTOR);
    for (uint64_t i = 0; i < rig->nsectors; i++)
        if (memcmp(rig->buf + i * SECTOR, rig->model + i * SECTOR, SECTOR) != 0)
            fail_at(rig, "the raw data file has other contents", i);
}

static void judge(const struct rig *rig)
{
    image_assert_sound("image");
    if (rig->layout.data == DATA_FILE_RAW)
        compare_data_file(rig);
    if (scratch_shell("qemu-img check -f qcow2 image > log 2>&1 || { cat log; false; }") != 0)
        fail_at(rig, "qemu-img check finds errors", 0);
    scratch_save("model", rig->model, rig->nsectors * SECTOR);
    if (scratch_shell("qemu-img compare -q -f raw -F qcow2 model image") != 0)
        fail_at(rig, "qemu-img compare finds other contents", 0);
}

/* ---- QEMU's turn ----------------------------------------------------------------------------- */

struct commands {
    char text[3000];
    size_t len;
    bool others; /* than compressed writes */
};

static void PRINTF_LIKE(2, 3) command(struct commands *commands, const char *fmt, ...)
{
    size_t left = sizeof(commands->text) - commands->len;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(commands->text + commands->len, left, fmt, args);
    va_end(args);
    ck_assert_int_lt(n, (int)left);
    commands->len += (size_t)n;
}

static void command_on(struct commands *commands, const char *what, struct sectors range)
{
    command(commands, " -c '%s %llu %llu'", what, (unsigned long long)range.first * SECTOR,
            (unsigned long long)range.n * SECTOR);
}

/*
 * QEMU compresses only into clusters that have nothing yet. And it may not have freed any: it goes
 * on packing after the last compressed cluster even when that cluster was freed and is now data.
 */
static bool can_compress(const struct rig *rig, const struct commands *commands,
                         struct sectors range)
{
    if (rig->layout.data != DATA_INSIDE || commands->others)
        return false;
    for (uint64_t i = range.first; i < range.first + range.n; i++)
        if (rig->touched[i / rig->cluster])
            return false;
    return true;
}

static void qemu_write(struct rig *rig, struct commands *commands)
{
    struct sectors range = pick_range(rig);
    struct sectors wide = whole_clusters(rig, range);
    bool compress = can_compress(rig, commands, wide);
    unsigned byte = 1 + roll(rig, 255);
    char what[40];

    if (compress)
        range = wide;
    else
        commands->others = true;
    snprintf(what, sizeof(what), "write%s -P %u", compress ? " -c" : "", byte);
    command_on(commands, what, range);
    memset(rig->buf, (int)byte, range.n * SECTOR);
    model_set(rig, range, rig->buf);
    touch(rig, range);
}

static void qemu_zeroes(struct rig *rig, struct commands *commands)
{
    struct sectors range = pick_range(rig);

    command_on(commands, roll(rig, 2) ? "write -z" : "write -z -u", range);
    model_set(rig, range, NULL);
    touch(rig, range);
}

static void qemu_discard(struct rig *rig, struct commands *commands)
{
    struct sectors range = pick_range(rig);

    command_on(commands, "discard", range);
    model_discard(rig, range);
    touch(rig, range);
}

/* QEMU does not hide a base that is longer than the disk was, with version 2 or subclusters. */
static void qemu_resize(struct rig *rig, struct commands *commands)
{
    uint64_t nsectors = 1 + roll(rig, (unsigned)rig->max_sectors);

    if (rig->layout.base != BASE_NONE && nsectors > rig->nsectors &&
        (rig->layout.version == 2 || rig->layout.extended_l2))
        return;
    command(commands, " -c 'truncate %llu'", (unsigned long long)nsectors * SECTOR);
    model_resize(rig, nsectors, true);
}

static void qemu_turn(struct rig *rig)
{
    static struct commands commands;
    unsigned n = 1 + roll(rig, 16);

    commands = (struct commands){.len = 0};
    for (unsigned compressed = roll(rig, 4); compressed > 0; compressed--)
        qemu_write(rig, &commands);
    commands.others = true;
    while (n-- > 0) {
        unsigned pick = roll(rig, 16);

        if (pick < 8)
            qemu_write(rig, &commands);
        else if (pick < 11)
            qemu_zeroes(rig, &commands);
        else if (pick < 13)
            qemu_discard(rig, &commands);
        else if (pick < 14)
            qemu_resize(rig, &commands);
        else
            command(&commands, " -c flush");
    }
    if (scratch_shell("qemu-io -t unsafe -d unmap -f qcow2%s image > log 2>&1", commands.text) != 0)
        ck_abort_msg("%s: qemu-io fails:%s: %d", rig->text, commands.text,
                     scratch_shell("cat log"));
}

/* ---- rounds ---------------------------------------------------------------------------------- */

START_TEST(images_go_back_and_forth_in_any_layout)
{
    struct rig rig;

    rig_init(&rig, base_seed + (unsigned)_i);
    if (roll(&rig, 2))
        qemu_turn(&rig);
    for (unsigned turns = 1 + roll(&rig, 3); turns > 0; turns--) {
        our_turn(&rig);
        judge(&rig);
        qemu_turn(&rig);
    }
    our_turn(&rig);
    judge(&rig);
    rig_done(&rig);
}
END_TEST

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ROUNDS CLUSTER_SIZES
#else
#define ROUNDS (2 * CLUSTER_SIZES)
#endif

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("matrix");

    base_seed = unit_seed();
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, scratch_set_up, scratch_tear_down);
    tcase_add_loop_test(tcase, images_go_back_and_forth_in_any_layout, 0,
                        (int)(ROUNDS * unit_number("SCALE", 1)));
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN_BESIDE_QEMU("qcow2_matrix", add_tests)
