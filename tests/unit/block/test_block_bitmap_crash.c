/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Persistent dirty bitmaps when the power fails, or when the host fails an operation: what is left
 * are the old bitmaps or the new ones, and none that is not in use has missed a write.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "block/image.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/power_cut.h"
#include "tests/lib/block/qcow2/bitmap_image.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/hash.h"
#include "tests/lib/unit.h"

#define SECTOR ((size_t)BLOCK_SECTOR_SIZE)

static unsigned base_seed;

/* ---- power cuts ------------------------------------------------------------------------------ */

/* Hashes of states that were looked at: many cuts leave the same. */
struct looked_at {
    uint64_t hashes[256];
    size_t n;
};

static bool was_looked_at(struct looked_at *looked, const struct mem_disk *disk)
{
    uint64_t hash = hash_bytes(HASH_START, disk->data, disk->len);

    for (size_t i = 0; i < min_u64(looked->n, ARRAY_SIZE(looked->hashes)); i++)
        if (looked->hashes[i] == hash)
            return true;
    looked->hashes[looked->n++ % ARRAY_SIZE(looked->hashes)] = hash;
    return false;
}

/* ---- operations when something fails --------------------------------------------------------- */

static int do_add(struct block *block, struct err *err)
{
    return bitmap_image_edit(block, BLOCK_BITMAP_ADD, "new", NULL, 0, err);
}

static int do_add_copy(struct block *block, struct err *err)
{
    return bitmap_image_edit(block, BLOCK_BITMAP_ADD, "new", "live", 2048, err);
}

static int do_remove(struct block *block, struct err *err)
{
    return bitmap_image_edit(block, BLOCK_BITMAP_REMOVE, "live", NULL, 0, err);
}

static int do_clear(struct block *block, struct err *err)
{
    return bitmap_image_edit(block, BLOCK_BITMAP_CLEAR, "live", NULL, 0, err);
}

static int do_enable(struct block *block, struct err *err)
{
    return bitmap_image_edit(block, BLOCK_BITMAP_ENABLE, "old", NULL, 0, err);
}

static int do_disable(struct block *block, struct err *err)
{
    return bitmap_image_edit(block, BLOCK_BITMAP_DISABLE, "live", NULL, 0, err);
}

static int do_merge(struct block *block, struct err *err)
{
    return bitmap_image_edit(block, BLOCK_BITMAP_MERGE, "live", "old", 0, err);
}

static int resize(struct block *block, uint64_t len, struct err *err)
{
    const struct block_resize_options options = {.len = len, .shrink = true};

    return block_resize(block, &options, err);
}

static int do_grow(struct block *block, struct err *err)
{
    return resize(block, BITMAP_DISK_LONGEST - SECTOR, err);
}

static int do_shrink(struct block *block, struct err *err)
{
    return resize(block, 1 * MIB + 17 * SECTOR, err);
}

static const struct operation {
    const char *name;
    int (*run)(struct block *block, struct err *err);
    enum bitmap_image_start start;
    bool writes; /* bitmaps may be in use, and clusters lost, after a power cut */
} operations[] = {
    {"first", do_add, BITMAPS_NONE, false},    {"add", do_add, BITMAPS_ALL, false},
    {"copy", do_add_copy, BITMAPS_ALL, false}, {"remove", do_remove, BITMAPS_ALL, false},
    {"last", do_remove, BITMAPS_ONE, false},   {"clear", do_clear, BITMAPS_ALL, false},
    {"enable", do_enable, BITMAPS_ALL, false}, {"disable", do_disable, BITMAPS_ALL, false},
    {"merge", do_merge, BITMAPS_ALL, false},   {"grow", do_grow, BITMAPS_ALL, true},
    {"shrink", do_shrink, BITMAPS_ALL, true},
};

struct expected {
    struct seen_bitmaps before;
    struct seen_bitmaps after;
    uint8_t disk[BITMAP_DISK_SIZE];
};

static uint64_t read_disk(struct mem_disk *disk, uint8_t *data)
{
    struct mem_env env;
    struct block *block = bitmap_image_open(disk, false, &env);
    uint64_t len = min_u64(block->len, BITMAP_DISK_SIZE);

    ck_assert_int_eq(mem_block_read(block, 0, data, len), 0);
    ck_assert_int_eq(block_close(block), 0);
    return len;
}

static void check_image(const struct operation *op, const struct mem_disk *disk, bool may_leak,
                        long at)
{
    struct qcow2_image_check check;

    qcow2_image_check(disk, &check);
    ck_assert_msg(check.errors == 0, "%s, %ld: %s", op->name, at, check.first);
    ck_assert_msg(check.leaks == 0 || may_leak, "%s, %ld: %u leaks", op->name, at, check.leaks);
}

static void check_state(const struct operation *op, struct mem_disk *disk,
                        const struct expected *expected, bool may_leak, long at)
{
    static uint8_t data[BITMAP_DISK_SIZE];
    static struct seen_bitmaps all;
    uint64_t len = read_disk(disk, data);

    check_image(op, disk, may_leak, at);
    ck_assert_msg(memcmp(data, expected->disk, len) == 0, "%s, %ld: other data", op->name, at);
    bitmap_image_see(disk, &all);
    ck_assert_msg(seen_bitmaps_same(&all, &expected->before, op->writes) ||
                      seen_bitmaps_same(&all, &expected->after, false),
                  "%s, %ld: neither the old bitmaps nor the new ones", op->name, at);
}

static void find_expected(const struct mem_disk *disk, const struct operation *op,
                          struct expected *expected)
{
    struct mem_disk copy;
    struct err err = {0};
    struct mem_env env;
    struct block *block;

    mem_disk_init(&copy, "top");
    mem_disk_copy(&copy, disk);
    bitmap_image_see(&copy, &expected->before);
    read_disk(&copy, expected->disk);
    block = bitmap_image_open(&copy, true, &env);
    ck_assert_msg(op->run(block, &err) == 0, "%s: %s", op->name, err.msg);
    ck_assert_int_eq(block_close(block), 0);
    bitmap_image_see(&copy, &expected->after);
    check_state(op, &copy, expected, false, -1);
    mem_disk_done(&copy);
}

static void cut_everywhere(struct mem_disk *disk, const struct operation *op, unsigned seed)
{
    static struct expected expected;
    struct mem_record record = {0};
    struct power_cut cut;
    struct err err = {0};
    struct mem_env env;
    struct block *block;
    struct looked_at looked = {.n = 0};
    size_t ended;

    find_expected(disk, op, &expected);
    power_cut_init(&cut, &record, &disk, 1, seed);
    disk->record = &record;
    block = bitmap_image_open(disk, true, &env);
    ck_assert_int_eq(op->run(block, &err), 0);
    ended = record.n;
    ck_assert_int_eq(block_close(block), 0);
    disk->record = NULL;
    for (size_t at = 0; at <= record.n; at++) {
        if (at == ended) {
            expected.before = expected.after;
            looked.n = 0;
        }
        for (int fate = 0; fate < POWER_CUT_FATES; fate++) {
            power_cut_make(&cut, at, fate);
            if (!was_looked_at(&looked, &cut.state[0]))
                check_state(op, &cut.state[0], &expected, op->writes, (long)at);
        }
    }
    power_cut_done(&cut);
    mem_record_done(&record);
}

START_TEST(power_cut_leaves_the_old_bitmaps_or_the_new_ones)
{
    for (size_t i = (size_t)_i % 2; i < ARRAY_SIZE(operations); i += 2) {
        struct mem_disk disk;

        bitmap_image_set_up(&disk, &bitmap_layouts[_i], operations[i].start);
        cut_everywhere(&disk, &operations[i], base_seed + (unsigned)i);
        mem_disk_done(&disk);
    }
}
END_TEST

static const struct mem_fault faults[] = {
    {.result = -EIO},
    {.result = -ENOSPC, .more = 3},
    {.is_short = true, .kinds = 1u << FILE_READ | 1u << FILE_WRITE},
};

static bool run_with_fault(const struct mem_disk *disk, struct mem_disk *copy,
                           const struct operation *op, const struct mem_fault *fault, long after,
                           const struct expected *expected)
{
    static struct seen_bitmaps all;
    struct mem_fault now = *fault;
    struct err err = {0};
    struct mem_env env;
    struct block *block;
    int r;

    mem_disk_restore(copy, disk);
    block = bitmap_image_open(copy, true, &env);
    now.after = after;
    copy->fault = &now;
    r = op->run(block, &err);
    ck_assert_msg(r == 0 || now.happened, "%s: %s", op->name, err.msg);
    (void)!block_close(block); /* may report the fault */
    copy->fault = NULL;
    check_state(op, copy, expected, true, after);
    bitmap_image_see(copy, &all);
    ck_assert_msg(r < 0 || seen_bitmaps_same(&all, &expected->after, false),
                  "%s: succeeded, and is not done (fault %ld)", op->name, after);
    return now.happened;
}

START_TEST(failing_host_leaves_the_old_bitmaps_or_the_new_ones)
{
    static struct expected expected;
    long total = 0;

    for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
        struct mem_disk disk;
        struct mem_disk copy;
        long after = 0;

        bitmap_image_set_up(&disk, &bitmap_layouts[i % BITMAP_LAYOUTS], operations[i].start);
        find_expected(&disk, &operations[i], &expected);
        mem_disk_init(&copy, "top");
        mem_disk_copy(&copy, &disk);
        while (run_with_fault(&disk, &copy, &operations[i], &faults[_i], after, &expected))
            after++;
        total += after;
        mem_disk_done(&copy);
        mem_disk_done(&disk);
    }
    ck_assert_int_gt(total, 50);
}
END_TEST

/* ---- no write is missed ---------------------------------------------------------------------- */

/* What differs from the beginning must be dirty in each bitmap that follows and is not in use. */
static void check_nothing_missed(struct mem_disk *disk, const struct expected *expected, long at)
{
    static uint8_t data[BITMAP_DISK_SIZE];
    static struct seen_bitmaps all;
    uint64_t len = read_disk(disk, data);

    ck_assert_uint_eq(len, BITMAP_DISK_SIZE);
    bitmap_image_see(disk, &all);
    ck_assert_uint_eq(all.n, expected->before.n);
    for (unsigned i = 0; i < all.n; i++) {
        const struct seen_bitmap *seen = &all.list[i];
        const struct seen_bitmap *was = &expected->before.list[i];

        if ((seen->flags & BITMAP_FLAG_IN_USE) || !(seen->flags & BITMAP_FLAG_AUTO))
            continue;
        for (uint64_t s = 0; s < BITMAP_DISK_SECTORS; s++) {
            uint64_t bit = s * SECTOR >> seen->granularity_bits;
            bool differs = memcmp(data + s * SECTOR, expected->disk + s * SECTOR, SECTOR) != 0;

            ck_assert_msg(
                seen_has_bit(seen->bits, bit) || !(differs || seen_has_bit(was->bits, bit)),
                "%ld: %s misses sector %u (SEED=%u)", at, seen->name, (unsigned)s, base_seed);
        }
    }
}

/*
 * With a change of a bitmap between, which saves the others: the writes after it are first ones
 * again.
 */
static void write_session(struct block *block, unsigned seed)
{
    struct err err;

    for (unsigned i = 0; i < 12; i++) {
        uint64_t off = (unsigned)rand_r(&seed) % (BITMAP_DISK_SECTORS - 64) * (uint64_t)SECTOR;
        uint64_t len = (1 + (unsigned)rand_r(&seed) % 64) * (uint64_t)SECTOR;
        uint8_t data[64 * SECTOR];

        memset(data, (int)(16 + i), sizeof(data));
        if (rand_r(&seed) % 4 == 0)
            (void)!mem_block_op(block, BLOCK_WRITE_ZEROES, BLOCK_REQ_UNMAP, off, len);
        else
            (void)!mem_block_write(block, off, data, len);
        if (i == 7)
            (void)!bitmap_image_edit(block, BLOCK_BITMAP_CLEAR, "old", NULL, 0, &err);
        if (rand_r(&seed) % 3 == 0)
            (void)!mem_block_op(block, BLOCK_FLUSH, 0, 0, 0);
    }
}

static void find_start(struct mem_disk *disk, struct expected *expected)
{
    bitmap_image_see(disk, &expected->before);
    read_disk(disk, expected->disk);
}

START_TEST(power_cut_while_writing_leaves_no_bitmap_that_misses_a_write)
{
    static struct expected expected;
    static struct seen_bitmaps all;
    struct mem_record record = {0};
    struct mem_disk disk;
    struct mem_disk *disks[] = {&disk};
    struct looked_at looked = {.n = 0};
    struct power_cut cut;
    struct mem_env env;
    struct block *block;

    bitmap_image_set_up(&disk, &bitmap_layouts[_i], BITMAPS_ALL);
    find_start(&disk, &expected);
    power_cut_init(&cut, &record, disks, 1, base_seed);
    disk.record = &record;
    block = bitmap_image_open(&disk, true, &env);
    write_session(block, base_seed);
    ck_assert_int_eq(block_close(block), 0);
    disk.record = NULL;
    for (size_t at = 0; at <= record.n; at++) {
        for (int fate = 0; fate < POWER_CUT_FATES; fate++) {
            power_cut_make(&cut, at, fate);
            if (!was_looked_at(&looked, &cut.state[0]))
                check_nothing_missed(&cut.state[0], &expected, (long)at);
        }
    }
    bitmap_image_see(&disk, &all);
    for (unsigned i = 0; i < all.n; i++)
        ck_assert_uint_eq(all.list[i].flags & BITMAP_FLAG_IN_USE, 0);
    power_cut_done(&cut);
    mem_record_done(&record);
    mem_disk_done(&disk);
}
END_TEST

START_TEST(failing_host_leaves_no_bitmap_that_misses_a_write)
{
    static struct expected expected;
    struct mem_fault fault = {.after = -1};
    struct mem_disk disk;
    struct mem_disk copy;

    bitmap_image_set_up(&disk, &bitmap_layouts[_i], BITMAPS_ALL);
    find_start(&disk, &expected);
    mem_disk_init(&copy, "top");
    mem_disk_copy(&copy, &disk);
    for (long after = 0; after == 0 || fault.happened; after++) {
        struct mem_env env;
        struct block *block;

        mem_disk_restore(&copy, &disk);
        block = bitmap_image_open(&copy, true, &env);
        fault = (struct mem_fault){.after = after, .result = -EIO, .more = after % 3 ? 0 : 5};
        copy.fault = &fault;
        write_session(block, base_seed);
        (void)!block_close(block); /* may report the fault */
        copy.fault = NULL;
        check_nothing_missed(&copy, &expected, after);
    }
    mem_disk_done(&copy);
    mem_disk_done(&disk);
}
END_TEST

static void add_tests(Suite *suite)
{
    const TTest *const loops[] = {power_cut_leaves_the_old_bitmaps_or_the_new_ones,
                                  power_cut_while_writing_leaves_no_bitmap_that_misses_a_write,
                                  failing_host_leaves_no_bitmap_that_misses_a_write};
    const char *text = getenv("SEED");
    TCase *tcase = tcase_create("failures");

    base_seed = text ? (unsigned)strtoul(text, NULL, 0) : (unsigned)time(NULL);
    printf("SEED=%u\n", base_seed);
    tcase_set_timeout(tcase, 180);
    for (size_t i = 0; i < ARRAY_SIZE(loops); i++)
        tcase_add_loop_test(tcase, loops[i], 0, BITMAP_LAYOUTS);
    tcase_add_loop_test(tcase, failing_host_leaves_the_old_bitmaps_or_the_new_ones, 0,
                        ARRAY_SIZE(faults));
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("block_bitmap_crash", add_tests)
