/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/block/qcow2/qcow2_rig.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "tests/lib/dice.h"

#define SECTOR BLOCK_SECTOR_SIZE

/* ---- layouts --------------------------------------------------------------------------------- */

void qcow2_layout_pick(struct qcow2_layout *layout, unsigned seed)
{
    static const unsigned cluster_bits[] = {9, 9, 10, 12, 14, 16, 16, 18};
    uint64_t s = seed;

    *layout = (struct qcow2_layout){.version = 3, .align = 1};
    layout->cluster_bits = cluster_bits[dice_roll(&s, ARRAY_SIZE(cluster_bits))];
    layout->backing = (enum qcow2_backing)(dice_roll(&s, QCOW2_BACKINGS));
    layout->no_zero = dice_roll(&s, 6) == 0;
    layout->device = dice_roll(&s, 5) == 0;
    if (dice_roll(&s, 8) == 0)
        layout->align = 512;
    if (dice_roll(&s, 6) == 0) {
        layout->version = 2;
        layout->refcount_order = 4;
        return;
    }
    layout->lazy = dice_roll(&s, 4) == 0;
    layout->zstd = dice_roll(&s, 2);
    layout->refcount_order = dice_roll(&s, 2) ? 4 : dice_roll(&s, 7);
    layout->extended_l2 = layout->cluster_bits >= 14 && dice_roll(&s, 2);
    if (dice_roll(&s, 4) == 0)
        layout->data = layout->backing == QCOW2_ALONE ? QCOW2_DATA_FILE_RAW : QCOW2_DATA_FILE;
}

void qcow2_layout_print(const struct qcow2_layout *layout, char *buf, size_t len)
{
    static const char *const backings[] = {"", ", on raw", ", on qcow2"};
    static const char *const datas[] = {"", ", data file", ", raw data file"};

    snprintf(buf, len, "v%u, clusters of %u, %u-bit counts%s%s%s%s%s%s%s, align %u",
             layout->version, 1u << layout->cluster_bits, 1u << layout->refcount_order,
             backings[layout->backing], datas[layout->data],
             layout->extended_l2 ? ", extended L2" : "", layout->zstd ? ", zstd" : "",
             layout->lazy ? ", lazy counts" : "", layout->no_zero ? ", no fallocate" : "",
             layout->device ? ", on a device" : "", layout->align);
}

/* ---- life ------------------------------------------------------------------------------------ */

unsigned qcow2_rig_random(struct qcow2_rig *rig, unsigned below)
{
    return dice_roll(&rig->seed, below);
}

size_t qcow2_rig_now(struct qcow2_rig *rig)
{
    return mem_record_mark(&rig->record);
}

void qcow2_rig_flushed(struct qcow2_rig *rig, size_t begin)
{
    if (rig->nflushes == QCOW2_RIG_FLUSHES_MAX)
        abort();
    rig->flushes[rig->nflushes].begin = begin;
    rig->flushes[rig->nflushes++].end = qcow2_rig_now(rig);
}

size_t qcow2_rig_settled(const struct qcow2_rig *rig, size_t at)
{
    size_t settled = 0;

    for (unsigned i = 0; i < rig->nflushes; i++)
        if (rig->flushes[i].end <= at)
            settled = max_u64(settled, rig->flushes[i].begin);
    return settled;
}

/* The backing file covers the first half, with a gap in it. */
static void make_base(struct qcow2_rig *rig)
{
    struct mem_disk *base = &rig->disks[QCOW2_RIG_BASE];
    uint64_t n = rig->nsectors / 2;
    uint8_t *data = calloc(n, SECTOR);
    struct mem_env env;
    struct block *block;

    if (!data)
        abort();
    for (uint64_t i = 0; i < n; i++) {
        if (i % 300 > 200)
            continue;
        history_set_initial(&rig->history, i, ++rig->stamp);
        history_fill(data + i * SECTOR, rig->stamp);
    }
    if (rig->layout.backing == QCOW2_ON_RAW) {
        memcpy(base->data, data, n * SECTOR);
        base->len = n * SECTOR;
    } else {
        qcow2_image_make(base, &(struct qcow2_image_options){
                                   .cluster_bits = 12, .refcount_order = 4, .size = n * SECTOR});
        mem_env_init(&env);
        mem_env_add(&env, base);
        block = mem_env_open(&env, base->name, BLOCK_FORMAT_QCOW2, false);
        for (uint64_t i = 0; i < n; i += 300)
            if (mem_block_write(block, i * SECTOR, data + i * SECTOR,
                                min_u64(201, n - i) * SECTOR) < 0)
                abort();
        if (block_close(block) < 0)
            abort();
    }
    free(data);
}

/* Room for snapshots that have not much in common, and for what crashes leak. */
static uint64_t device_len(const struct qcow2_rig *rig)
{
    return 6 * rig->max_sectors * SECTOR + (64ull << rig->layout.cluster_bits) + (4u << 20);
}

static void make_top(struct qcow2_rig *rig)
{
    const struct qcow2_layout *layout = &rig->layout;
    struct qcow2_image_options options = {
        .version = layout->version,
        .cluster_bits = layout->cluster_bits,
        .refcount_order = layout->refcount_order,
        .size = rig->nsectors * SECTOR,
        .extended_l2 = layout->extended_l2,
        .lazy_refcounts = layout->lazy,
        .zstd = layout->zstd,
        .data_file_raw = layout->data == QCOW2_DATA_FILE_RAW,
    };

    if (layout->backing != QCOW2_ALONE) {
        options.backing = rig->disks[QCOW2_RIG_BASE].name;
        options.backing_format = layout->backing == QCOW2_ON_RAW ? "raw" : "qcow2";
    }
    if (layout->data != QCOW2_DATA_INSIDE)
        options.data_file = rig->disks[QCOW2_RIG_DATA].name;
    if (layout->device)
        mem_disk_make_device(&rig->disks[QCOW2_RIG_TOP], device_len(rig), (unsigned)rig->seed);
    qcow2_image_make(&rig->disks[QCOW2_RIG_TOP], &options);
}

struct block *qcow2_rig_open(struct mem_env *env, struct mem_disk *disks, bool readonly)
{
    mem_env_init(env);
    for (unsigned i = 0; i < QCOW2_RIG_DISKS; i++)
        mem_env_add(env, &disks[i]);
    return mem_env_open(env, disks[QCOW2_RIG_TOP].name, BLOCK_FORMAT_QCOW2, readonly);
}

void qcow2_rig_reopen(struct qcow2_rig *rig)
{
    struct block_options options = {
        .path = rig->disks[QCOW2_RIG_TOP].name, .format = BLOCK_FORMAT_QCOW2, .discard = true};
    struct err err = {0};

    while (block_open_in(&rig->env.env, &options, &rig->block, &err) < 0) {
        rig->failures++;
        if (rig->fault.happened && rig->failures < 1000)
            continue;
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    rig->nsectors = rig->block->len / SECTOR; /* a change that failed may be in the file */
}

/* Everything but the images. */
static void rig_begin(struct qcow2_rig *rig, const struct qcow2_layout *layout, uint64_t nsectors,
                      uint64_t max_sectors, unsigned seed)
{
    static const char *const names[] = {"top", "base", "data"};

    memset(rig, 0, sizeof(*rig));
    rig->layout = *layout;
    rig->seed = seed;
    rig->nsectors = nsectors;
    rig->max_sectors = max_sectors;
    rig->fault.after = -1;
    history_init(&rig->history, rig->max_sectors);
    history_init(&rig->lengths, 1);
    history_set_initial(&rig->lengths, 0, rig->nsectors);
    for (unsigned i = 0; i < QCOW2_RIG_DISKS; i++) {
        mem_disk_init(&rig->disks[i], names[i]);
        rig->disks[i].align = layout->align;
    }
    if (loop_new(&rig->loop) < 0)
        abort();
}

/* The images are there; from now on everything is recorded, and takes its time. */
static void rig_go(struct qcow2_rig *rig, unsigned seed)
{
    for (unsigned i = 0; i < QCOW2_RIG_DISKS; i++) {
        rig->disks[i].no_zero = rig->layout.no_zero;
        rig->disks[i].record = &rig->record;
        rig->disks[i].fault = &rig->fault;
        rig->disks[i].shuffle = true;
        rig->disks[i].late = 8;
        rig->disks[i].seed = seed + i;
    }
    mem_env_init(&rig->env);
    for (unsigned i = 0; i < QCOW2_RIG_DISKS; i++)
        mem_env_add(&rig->env, &rig->disks[i]);
}

void qcow2_rig_init(struct qcow2_rig *rig, const struct qcow2_layout *layout, unsigned seed)
{
    uint64_t nsectors = layout->nsectors;

    if (nsectors == 0)
        nsectors = layout->cluster_bits > 16 ? 6144 : 1536;
    rig_begin(rig, layout, nsectors, nsectors + 1000, seed);
    if (layout->backing != QCOW2_ALONE)
        make_base(rig);
    make_top(rig);
    rig_go(rig, seed);
    qcow2_rig_reopen(rig);
}

static uint64_t *read_raw_stamps(const struct mem_disk *data, uint64_t n)
{
    uint64_t *stamps = calloc(n, sizeof(*stamps));

    if (!stamps)
        abort();
    for (uint64_t i = 0; i < n; i++)
        if (!history_read_stamp(data->data + i * SECTOR, &stamps[i]))
            abort();
    return stamps;
}

void qcow2_rig_init_next(struct qcow2_rig *rig, const struct qcow2_rig *first,
                         struct mem_disk *disks, unsigned seed)
{
    struct mem_env env;
    struct block *block = qcow2_rig_open(&env, disks, true);
    uint64_t *stamps = qcow2_rig_read_stamps(block);

    if (!stamps)
        abort();
    rig_begin(rig, &first->layout, block->len / SECTOR, first->max_sectors, seed);
    rig->stamp = first->stamp;
    for (uint64_t i = 0; i < rig->nsectors; i++)
        history_set_initial(&rig->history, i, stamps[i]);
    free(stamps);
    if (rig->layout.data == QCOW2_DATA_FILE_RAW)
        rig->raw_stamps = read_raw_stamps(&disks[QCOW2_RIG_DATA], rig->max_sectors);
    rig->first_name = first->first_name + first->nsnapshots;
    qcow2_rig_find_snapshots(rig, block, disks);
    if (block_close(block) < 0)
        abort();
    for (unsigned i = 0; i < QCOW2_RIG_DISKS; i++)
        mem_disk_copy(&rig->disks[i], &disks[i]);
    rig_go(rig, seed);
}

void qcow2_rig_done(struct qcow2_rig *rig)
{
    for (unsigned i = 0; i < QCOW2_RIG_DISKS; i++)
        mem_disk_done(&rig->disks[i]);
    mem_record_done(&rig->record);
    free(rig->raw_stamps);
    history_done(&rig->history);
    history_done(&rig->lengths);
    for (unsigned i = 0; i < rig->nsnapshots; i++)
        free(rig->snapshots[i].stamps);
    loop_free(rig->loop);
}

int qcow2_rig_close(struct qcow2_rig *rig)
{
    size_t begin = qcow2_rig_now(rig);
    int r = block_close(rig->block);

    rig->block = NULL;
    if (r == 0) {
        qcow2_rig_flushed(rig, begin);
    } else {
        history_lose(&rig->history, begin, qcow2_rig_settled(rig, begin));
        rig->failures++;
    }
    return r;
}

/* ---- changes of the whole disk --------------------------------------------------------------- */

struct qcow2_rig_change qcow2_rig_change_begin(struct qcow2_rig *rig, uint64_t nsectors)
{
    struct qcow2_rig_change change = {.begin = qcow2_rig_now(rig)};

    change.event = history_begin(&rig->history, HISTORY_DURABLE, change.begin);
    change.length = history_begin(&rig->lengths, HISTORY_DURABLE, change.begin);
    history_put(&rig->lengths, change.length, 0, nsectors);
    for (uint64_t i = nsectors; i < rig->nsectors; i++)
        history_put(&rig->history, change.event, i, 0);
    return change;
}

void qcow2_rig_change_end(struct qcow2_rig *rig, const struct qcow2_rig_change *change, bool done)
{
    rig->nsectors = rig->block->len / SECTOR;
    if (!done) {
        rig->failures++;
        return;
    }
    history_end(&rig->lengths, change->length, qcow2_rig_now(rig));
    history_end(&rig->history, change->event, qcow2_rig_now(rig));
    qcow2_rig_flushed(rig, change->begin);
}

/* ---- verification ---------------------------------------------------------------------------- */

static char wrong_text[160];

static const char *PRINTF_LIKE(1, 2) wrong(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(wrong_text, sizeof(wrong_text), fmt, args);
    va_end(args);
    return wrong_text;
}

static const char *mixture(uint64_t sector, const char *of)
{
    return wrong("sector %llu of the %s is a mixture", (unsigned long long)sector, of);
}

static const char *unexpected(const struct qcow2_rig *rig, uint64_t sector, const char *of,
                              uint64_t stamp)
{
    return wrong("sector %llu of the %s shows version %#llx, latest is %#llx",
                 (unsigned long long)sector, of, (unsigned long long)stamp,
                 (unsigned long long)history_latest(&rig->history, sector));
}

static const char *verify_sectors(const struct qcow2_rig *rig, const uint8_t *data, uint64_t n,
                                  size_t now, size_t settled)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t stamp;

        if (!history_read_stamp(data + i * SECTOR, &stamp))
            return mixture(i, "disk");
        if (!history_allows(&rig->history, i, stamp, now, settled))
            return unexpected(rig, i, "disk", stamp);
    }
    return NULL;
}

const char *qcow2_rig_verify(struct qcow2_rig *rig, struct block *block, size_t now, size_t settled)
{
    uint64_t n = block->len / SECTOR;
    const char *result;
    uint8_t *data;
    int r;

    if (!history_allows(&rig->lengths, 0, n, now, settled))
        return wrong("the disk has %llu sectors", (unsigned long long)n);
    data = malloc(n * SECTOR);
    if (!data)
        abort();
    r = mem_block_read(block, 0, data, n * SECTOR);
    result = r < 0 ? wrong("cannot be read: %s", strerror(-r))
                   : verify_sectors(rig, data, n, now, settled);
    free(data);
    return result;
}

const char *qcow2_rig_verify_raw(struct qcow2_rig *rig, const struct mem_disk *data, uint64_t len,
                                 size_t now, size_t settled)
{
    for (uint64_t i = 0; i < len / SECTOR; i++) {
        uint64_t stamp;

        if (!history_read_stamp(data->data + i * SECTOR, &stamp))
            return mixture(i, "raw data file");
        /* What it began with is as good as what the disk began with. */
        if (rig->raw_stamps && stamp == rig->raw_stamps[i])
            stamp = history_initial(&rig->history, i);
        if (!history_allows(&rig->history, i, stamp, now, settled))
            return unexpected(rig, i, "raw data file", stamp);
    }
    return NULL;
}
