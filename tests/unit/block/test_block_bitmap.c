/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of persistent dirty bitmaps, and what is noted in those that follow the disk, beside a
 * model; what is refused.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "block/image.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/bitmap_image.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/unit.h"

#define SECTOR ((size_t)BLOCK_SECTOR_SIZE)

static unsigned base_seed;

/* ---- changes, beside a model ----------------------------------------------------------------- */

#define NAMES 5u

struct model {
    bool there[NAMES];
    bool enabled[NAMES];
    unsigned granularity_bits[NAMES];
    uint8_t dirty[NAMES][BITMAP_DISK_SECTORS]; /* by sectors, rounded to the granularity */
};

static const char *name_of(unsigned i)
{
    static const char *const names[NAMES] = {"a", "b", "c", "d", "e"};

    return names[i];
}

static void model_set(struct model *model, unsigned i, uint64_t first, uint64_t end)
{
    uint64_t unit = (1ull << model->granularity_bits[i]) / SECTOR;

    end = min_u64(align_up(end, unit), BITMAP_DISK_SECTORS);
    for (uint64_t s = align_down(first, unit); s < end; s++)
        model->dirty[i][s] = 1;
}

static void model_merge(struct model *model, unsigned to, unsigned from)
{
    for (unsigned s = 0; s < BITMAP_DISK_SECTORS; s++)
        if (model->dirty[from][s])
            model_set(model, to, s, s + 1);
}

static void random_write(struct block *block, struct model *model, unsigned *seed)
{
    static const enum block_op ops[] = {BLOCK_WRITE, BLOCK_WRITE_ZEROES, BLOCK_DISCARD};
    uint64_t first = (unsigned)rand_r(seed) % BITMAP_DISK_SECTORS;
    uint64_t n = 1 + (unsigned)rand_r(seed) % (rand_r(seed) % 8 ? 40 : 3000);
    enum block_op op = ops[(unsigned)rand_r(seed) % ARRAY_SIZE(ops)];

    n = min_u64(n, BITMAP_DISK_SECTORS - first);
    if (op == BLOCK_WRITE && n <= 64)
        bitmap_image_write(block, first * SECTOR, n * SECTOR, (uint8_t)rand_r(seed));
    else
        ck_assert_int_eq(mem_block_op(block, op == BLOCK_WRITE ? BLOCK_WRITE_ZEROES : op, 0,
                                      first * SECTOR, n * SECTOR),
                         0);
    for (unsigned i = 0; i < NAMES; i++)
        if (model->there[i] && model->enabled[i])
            model_set(model, i, first, first + n);
}

static void random_edit(struct block *block, struct model *model, unsigned *seed)
{
    enum block_bitmap_op op = (enum block_bitmap_op)((unsigned)rand_r(seed) % 6);
    unsigned i = (unsigned)rand_r(seed) % NAMES;
    unsigned j = (unsigned)rand_r(seed) % NAMES;
    unsigned bits = 9 + (unsigned)rand_r(seed) % 16;
    struct err err = {0};
    int r = bitmap_image_edit(block, op, name_of(i), op == BLOCK_BITMAP_MERGE ? name_of(j) : NULL,
                              1u << bits, &err);

    if (op == BLOCK_BITMAP_ADD
            ? model->there[i]
            : !model->there[i] || (op == BLOCK_BITMAP_MERGE && !model->there[j])) {
        ck_assert_int_eq(r, op == BLOCK_BITMAP_ADD ? -EEXIST : -ENOENT);
        return;
    }
    ck_assert_msg(r == 0, "%s", err.msg);
    if (op == BLOCK_BITMAP_ADD)
        model->granularity_bits[i] = bits;
    if (op == BLOCK_BITMAP_ADD || op == BLOCK_BITMAP_REMOVE)
        model->there[i] = op == BLOCK_BITMAP_ADD;
    if (op == BLOCK_BITMAP_ADD || op == BLOCK_BITMAP_CLEAR)
        memset(model->dirty[i], 0, sizeof(model->dirty[i]));
    if (op == BLOCK_BITMAP_ADD || op == BLOCK_BITMAP_ENABLE)
        model->enabled[i] = true;
    if (op == BLOCK_BITMAP_DISABLE)
        model->enabled[i] = false;
    if (op == BLOCK_BITMAP_MERGE)
        model_merge(model, i, j);
}

static void compare(const struct mem_disk *disk, const struct model *model)
{
    static struct seen_bitmaps all;
    struct qcow2_image_check check;
    unsigned n = 0;

    qcow2_image_check(disk, &check);
    ck_assert_msg(check.errors == 0 && check.leaks == 0, "%s, %u leaks", check.first, check.leaks);
    bitmap_image_see(disk, &all);
    for (unsigned i = 0; i < NAMES; i++) {
        const struct seen_bitmap *seen =
            model->there[i] ? seen_bitmaps_find(&all, name_of(i)) : NULL;

        n += model->there[i];
        if (!seen)
            continue;
        ck_assert_uint_eq(seen->flags, model->enabled[i] ? BITMAP_FLAG_AUTO : 0);
        ck_assert_uint_eq(seen->granularity_bits, model->granularity_bits[i]);
        for (unsigned s = 0; s < BITMAP_DISK_SECTORS; s++)
            ck_assert_msg(
                seen_has_bit(seen->bits, (uint64_t)s * SECTOR >> seen->granularity_bits) ==
                    model->dirty[i][s],
                "bitmap %s of granularity 1 << %u, sector %u: %u expected (SEED=%u)", name_of(i),
                seen->granularity_bits, s, model->dirty[i][s], base_seed);
    }
    ck_assert_uint_eq(all.n, n);
}

START_TEST(bitmaps_say_what_was_written_and_merged)
{
    static struct model model;
    unsigned seed = base_seed + (unsigned)_i;
    struct mem_disk disk;

    memset(&model, 0, sizeof(model));
    bitmap_image_make(&disk, &bitmap_layouts[_i]);
    for (unsigned round = 0; round < 40; round++) {
        struct mem_env env;
        struct block *block = bitmap_image_open(&disk, true, &env);

        for (unsigned i = 0; i < 6; i++) {
            if (rand_r(&seed) % 2)
                random_edit(block, &model, &seed);
            else
                random_write(block, &model, &seed);
        }
        ck_assert_int_eq(block_close(block), 0);
        compare(&disk, &model);
    }
    mem_disk_done(&disk);
}
END_TEST

/* ---- what is refused ------------------------------------------------------------------------- */

static int resize(struct block *block, uint64_t len, struct err *err)
{
    const struct block_resize_options options = {.len = len, .shrink = true};

    return block_resize(block, &options, err);
}

static int code_of(struct block *block, enum block_bitmap_op op, const char *name,
                   const char *source, uint32_t granularity, const char *text)
{
    struct err err = {0};
    int r = bitmap_image_edit(block, op, name, source, granularity, &err);

    ck_assert_msg(r == 0 || strstr(err.msg, text), "%s", err.msg);
    return r;
}

START_TEST(bitmap_in_use_can_only_be_removed)
{
    static struct seen_bitmaps all;
    struct mem_disk disk;
    struct mem_disk cut;
    struct mem_env env;
    struct block *block;
    struct err err = {0};

    bitmap_image_set_up(&disk, &bitmap_layouts[3], BITMAPS_ALL);
    block = bitmap_image_open(&disk, true, &env);
    bitmap_image_write(block, 0, SECTOR, 9);
    mem_disk_init(&cut, "top");
    mem_disk_copy(&cut, &disk);
    ck_assert_int_eq(block_close(block), 0);

    block = bitmap_image_open(&cut, true, &env);
    bitmap_image_write(block, MIB, SECTOR, 9);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_CLEAR, "live", NULL, 0, "'live' is inconsistent"),
                     -ESTALE);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_MERGE, "old", "live", 0, "'live' is inconsistent"),
                     -ESTALE);
    ck_assert_int_eq(resize(block, BITMAP_DISK_LONGEST, &err), -ESTALE);
    ck_assert_int_eq(resize(block, MIB, &err), -ESTALE);
    bitmap_image_must_edit(block, BLOCK_BITMAP_REMOVE, "live", NULL, 0);
    bitmap_image_must_edit(block, BLOCK_BITMAP_REMOVE, "other", NULL, 0);
    ck_assert_msg(resize(block, BITMAP_DISK_LONGEST, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_close(block), 0);
    bitmap_image_see(&cut, &all);
    ck_assert_uint_eq(all.n, 1);
    ck_assert_uint_eq(seen_bitmaps_find(&all, "old")->flags, 0);
    mem_disk_done(&cut);
    mem_disk_done(&disk);
}
END_TEST

START_TEST(what_cannot_be_is_refused_and_changes_nothing)
{
    static struct seen_bitmaps before;
    static struct seen_bitmaps after;
    char name[1100] = "";
    struct mem_disk disk;
    struct mem_env env;
    struct block *block;

    memset(name, 'x', 1024);
    bitmap_image_set_up(&disk, &bitmap_layouts[2], BITMAPS_ALL);
    bitmap_image_see(&disk, &before);
    block = bitmap_image_open(&disk, true, &env);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_ADD, "live", NULL, 0, "already exists"), -EEXIST);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_ADD, "", NULL, 0, "empty"), -EINVAL);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_ADD, name, NULL, 0, "persistent"), -EINVAL);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_ADD, "n", NULL, 256, "power of 2"), -EINVAL);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_ADD, "n", NULL, 1000, "power of 2"), -EINVAL);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_ADD, "n", "none", 0, "not found"), -ENOENT);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_MERGE, "live", "none", 0, "not found"), -ENOENT);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_REMOVE, "none", NULL, 0, "not found"), -ENOENT);
    ck_assert_int_eq(block_close(block), 0);
    block = bitmap_image_open(&disk, false, &env);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_CLEAR, "live", NULL, 0, "reading only"), -EROFS);
    ck_assert_int_eq(block_close(block), 0);
    bitmap_image_see(&disk, &after);
    ck_assert(seen_bitmaps_same(&after, &before, false));
    mem_disk_done(&disk);
}
END_TEST

START_TEST(snapshot_is_not_applied_where_bitmaps_would_miss_it)
{
    const struct block_snapshot snapshot = {.name = (char *)(uintptr_t) "s", .date_sec = 1};
    struct mem_disk disk;
    struct mem_env env;
    struct block *block;
    struct err err = {0};

    bitmap_image_set_up(&disk, &bitmap_layouts[3], BITMAPS_ALL);
    block = bitmap_image_open(&disk, true, &env);
    ck_assert_msg(block_snapshot_create(block, &snapshot, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_snapshot_apply(block, "s", &err), -EBUSY);
    bitmap_image_must_edit(block, BLOCK_BITMAP_REMOVE, "live", NULL, 0);
    bitmap_image_must_edit(block, BLOCK_BITMAP_REMOVE, "old", NULL, 0);
    bitmap_image_must_edit(block, BLOCK_BITMAP_REMOVE, "other", NULL, 0);
    ck_assert_msg(block_snapshot_apply(block, "s", &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_close(block), 0);
    mem_disk_done(&disk);
}
END_TEST

static void add_tests(Suite *suite)
{
    const char *text = getenv("SEED");
    TCase *tcase = tcase_create("model");

    base_seed = text ? (unsigned)strtoul(text, NULL, 0) : (unsigned)time(NULL);
    printf("SEED=%u\n", base_seed);
    unit_case(suite, "refused", bitmap_in_use_can_only_be_removed,
              what_cannot_be_is_refused_and_changes_nothing,
              snapshot_is_not_applied_where_bitmaps_would_miss_it);
    tcase_set_timeout(tcase, 180);
    tcase_add_loop_test(tcase, bitmaps_say_what_was_written_and_merged, 0, BITMAP_LAYOUTS);
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("block_bitmap", add_tests)
