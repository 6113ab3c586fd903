/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on whole images when the power fails, or when the host fails an operation: the image
 * shows what it showed before or the result, its snapshots too, and its counts are right.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/image.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/power_cut.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/dice.h"
#include "tests/lib/hash.h"
#include "tests/lib/unit.h"

#define SECTOR BLOCK_SECTOR_SIZE
#define DISK_SIZE (600u << 10)
#define BASE_SIZE (700u << 10)
#define LONGEST (2u << 20)

static unsigned base_seed;

/* ---- images ---------------------------------------------------------------------------------- */

enum { TOP, BASE, DISKS };

static const struct layout {
    unsigned cluster_bits;
    unsigned refcount_order;
    bool qcow2_base;
    bool extended_l2;
} layouts[] = {
    {.cluster_bits = 9, .refcount_order = 6},
    {.cluster_bits = 9, .refcount_order = 2, .qcow2_base = true},
    {.cluster_bits = 12, .refcount_order = 4},
    {.cluster_bits = 16, .refcount_order = 4, .qcow2_base = true},
    {.cluster_bits = 16, .refcount_order = 3, .extended_l2 = true},
};

struct rig {
    const struct layout *layout;
    struct mem_disk disks[DISKS];
    struct mem_record record;
    struct mem_fault fault;
    unsigned seed;
};

static struct block *open_disks(const struct layout *layout, struct mem_disk disks[DISKS],
                                bool writable, unsigned flags, struct mem_env *env)
{
    struct block_options options = {.path = "top",
                                    .format = BLOCK_FORMAT_QCOW2,
                                    .readonly = !writable,
                                    .discard = true,
                                    .flags = flags,
                                    .write_backing = writable};
    struct block *block;
    struct err err = {0};

    mem_env_init(env);
    for (unsigned i = 0; i < DISKS; i++)
        mem_env_add(env, &disks[i]);
    if (block_open_in(&env->env, &options, &block, &err) < 0)
        ck_abort_msg("cannot open: %s", err.msg);
    return block;
}

static void write_some(struct rig *rig, struct block *block, unsigned n)
{
    static uint8_t data[100 * SECTOR];

    for (unsigned i = 0; i < n; i++) {
        uint64_t off = (unsigned)rand_r(&rig->seed) % (DISK_SIZE / SECTOR) * (uint64_t)SECTOR;
        uint64_t len = (1 + (unsigned)rand_r(&rig->seed) % 100) * (uint64_t)SECTOR;
        unsigned flags = rand_r(&rig->seed) % 2 ? BLOCK_REQ_UNMAP : 0;

        len = min_u64(len, block->len - off);
        for (size_t j = 0; j < len; j += sizeof(int))
            store_le32(data + j, (uint32_t)rand_r(&rig->seed));
        ck_assert_int_eq(rand_r(&rig->seed) % 4
                             ? mem_block_write(block, off, data, len)
                             : mem_block_op(block, BLOCK_WRITE_ZEROES, flags, off, len),
                         0);
    }
}

/* What a longer disk must not show. */
static void write_behind_the_disk(struct block *base)
{
    static uint8_t data[BASE_SIZE - DISK_SIZE];

    memset(data, 0x5a, sizeof(data));
    ck_assert_int_eq(mem_block_write(base, DISK_SIZE, data, sizeof(data)), 0);
}

static int create(struct block *block, const char *name, struct err *err)
{
    const struct block_snapshot snapshot = {
        .name = (char *)(uintptr_t)name, .date_sec = 1, .vm_state_len = 1000};

    return block_snapshot_create(block, &snapshot, err);
}

/* A base with data all over, and an overlay with a snapshot that it has moved on from. */
static void rig_init(struct rig *rig, const struct layout *layout, unsigned seed)
{
    static const char *const names[DISKS] = {"top", "base"};
    struct err err = {0};
    struct mem_env env;
    struct block *block;

    *rig = (struct rig){.layout = layout, .seed = seed, .fault = {.after = -1}};
    for (unsigned i = 0; i < DISKS; i++)
        mem_disk_init(&rig->disks[i], names[i]);
    qcow2_image_make(&rig->disks[TOP], &(struct qcow2_image_options){
                                           .cluster_bits = layout->cluster_bits,
                                           .refcount_order = layout->refcount_order,
                                           .size = DISK_SIZE,
                                           .backing = "base",
                                           .backing_format = layout->qcow2_base ? "qcow2" : "raw",
                                           .extended_l2 = layout->extended_l2});
    if (layout->qcow2_base)
        qcow2_image_make(&rig->disks[BASE], &(struct qcow2_image_options){.cluster_bits = 12,
                                                                          .refcount_order = 4,
                                                                          .size = BASE_SIZE});
    else
        rig->disks[BASE].len = BASE_SIZE;
    block = open_disks(layout, rig->disks, true, 0, &env);
    write_some(rig, block->backing, 30);
    write_behind_the_disk(block->backing);
    write_some(rig, block, 10);
    ck_assert_msg(create(block, "old", &err) == 0, "%s", err.msg);
    write_some(rig, block, 10);
    ck_assert_int_eq(block_close(block), 0);
}

static void copy_disks(struct mem_disk disks[DISKS], const struct rig *rig)
{
    for (unsigned i = 0; i < DISKS; i++) {
        mem_disk_init(&disks[i], rig->disks[i].name);
        mem_disk_copy(&disks[i], &rig->disks[i]);
    }
}

static void free_disks(struct mem_disk disks[DISKS])
{
    for (unsigned i = 0; i < DISKS; i++)
        mem_disk_done(&disks[i]);
}

static void rig_done(struct rig *rig)
{
    free_disks(rig->disks);
    mem_record_done(&rig->record);
}

/* ---- what an image shows --------------------------------------------------------------------- */

static uint64_t hash_disk(struct block *block, uint64_t hash)
{
    static uint8_t data[LONGEST];

    ck_assert_uint_le(block->len, LONGEST);
    ck_assert_int_eq(mem_block_read(block, 0, data, block->len), 0);
    hash = hash_bytes(hash, &block->len, sizeof(block->len));
    return hash_bytes(hash, data, block->len);
}

/* A number that stands for the disk and all snapshots with their contents. */
static uint64_t digest(const struct layout *layout, struct mem_disk disks[DISKS], bool snapshots)
{
    struct mem_env env;
    struct block *block = open_disks(layout, disks, false, 0, &env);
    struct block_snapshot *list;
    struct err err = {0};
    uint64_t hash = hash_disk(block, HASH_START);
    unsigned n;

    ck_assert_msg(block_snapshot_list(block, &list, &n, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_close(block), 0);
    for (unsigned i = 0; i < n && snapshots; i++) {
        block = open_disks(layout, disks, false, 0, &env);
        ck_assert_msg(block_snapshot_show(block, list[i].id, &err) == 0, "%s", err.msg);
        hash = hash_bytes(hash, list[i].name, strlen(list[i].name));
        hash = hash_disk(block, hash);
        ck_assert_int_eq(block_close(block), 0);
    }
    block_snapshot_list_free(list, n);
    return hash;
}

/* ---- operations ------------------------------------------------------------------------------ */

static int do_create(struct block *block, struct err *err)
{
    return create(block, "new", err);
}

static int do_apply(struct block *block, struct err *err)
{
    return block_snapshot_apply(block, "old", err);
}

static int do_delete(struct block *block, struct err *err)
{
    return block_snapshot_delete(block, "old", err);
}

/* Over the end of the backing file. */
static int do_grow(struct block *block, struct err *err)
{
    const struct block_resize_options options = {.len = LONGEST - 512};

    return block_resize(block, &options, err);
}

static int do_grow_preallocated(struct block *block, struct err *err)
{
    const struct block_resize_options options = {.len = LONGEST - 512,
                                                 .prealloc = BLOCK_PREALLOC_METADATA};

    return block_resize(block, &options, err);
}

static int do_shrink(struct block *block, struct err *err)
{
    const struct block_resize_options options = {.len = 200 * KIB + 512, .shrink = true};

    return block_resize(block, &options, err);
}

static int do_commit(struct block *block, struct err *err)
{
    const struct block_commit_options options = {.keep = false};

    return block_commit(block, &options, err);
}

static int do_vmstate(struct block *block, struct err *err)
{
    static uint8_t state[300 * SECTOR];
    int r = block_vmstate_write(block, 0, state, sizeof(state));

    return r < 0 ? r : mem_block_op(block, BLOCK_FLUSH, 0, 0, 0);
}

/* Other counts, all of them, and the header's bits. */
static int do_amend(struct block *block, struct err *err)
{
    struct block_amend_options options = {.set_lazy = true, .lazy_refcounts = false};
    struct block_details details;

    block_get_details(block, &details);
    options.refcount_bits = details.refcount_bits == 32 ? 64 : 32;
    return block_amend(block, &options, err);
}

/* Zero clusters become something else; images of which there is no old version get other counts. */
static int do_old_version(struct block *block, struct err *err)
{
    const struct block_amend_options options = {.version = 2};
    struct block_details details;

    block_get_details(block, &details);
    if (details.refcount_bits != 16 || details.extended_l2)
        return do_amend(block, err);
    return block_amend(block, &options, err);
}

static int do_repair(struct block *block, struct err *err)
{
    struct block_check_result result;

    return block_check(block, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS, NULL, &result, err);
}

static void write_more(struct rig *rig)
{
    struct mem_env env;
    struct block *block = open_disks(rig->layout, rig->disks, true, 0, &env);

    write_some(rig, block, 1);
    ck_assert_int_eq(block_close(block), 0);
}

static void leak_clusters(struct rig *rig)
{
    struct mem_disk *disk = &rig->disks[TOP];
    uint8_t byte;
    uint64_t at;

    for (unsigned i = 0; i < 3; i++) {
        disk->len += 1ull << rig->layout->cluster_bits;
        while (!qcow2_image_find_leak(disk, &at, &byte))
            write_more(rig); /* no block counts what comes next */
        disk->data[at] = byte;
    }
}

static const struct operation {
    const char *name;
    int (*run)(struct block *block, struct err *err);
    void (*damage)(struct rig *rig); /* what it is to repair */
    unsigned open_flags;
    bool may_leak;     /* after a power cut */
    bool no_snapshots; /* what they show of the backing file changes with it */
} operations[] = {
    {.name = "create", .run = do_create},
    {.name = "apply", .run = do_apply},
    {.name = "delete", .run = do_delete},
    {.name = "grow", .run = do_grow, .may_leak = true},
    {.name = "grow preallocated", .run = do_grow_preallocated, .may_leak = true},
    {.name = "shrink", .run = do_shrink},
    {.name = "commit", .run = do_commit, .may_leak = true, .no_snapshots = true},
    {.name = "old version", .run = do_old_version},
    {.name = "VM state", .run = do_vmstate, .may_leak = true},
    {.name = "amend", .run = do_amend},
    {.name = "repair",
     .run = do_repair,
     .damage = leak_clusters,
     .open_flags = BLOCK_OPEN_CHECK,
     .may_leak = true},
};

static void rig_init_for(struct rig *rig, const struct operation *op, const struct layout *layout,
                         unsigned seed)
{
    rig_init(rig, layout, seed);
    if (op->damage)
        op->damage(rig);
}

struct expected {
    uint64_t before;
    uint64_t after;
};

static void check_state(const struct rig *rig, const struct operation *op,
                        struct mem_disk disks[DISKS], const struct expected *expected, long at)
{
    struct qcow2_image_check check;
    uint64_t shown;

    for (unsigned i = 0; i < (rig->layout->qcow2_base ? DISKS : 1u); i++) {
        qcow2_image_check(&disks[i], &check);
        if (check.errors > 0)
            ck_abort_msg("%s, %ld: %s: %s", op->name, at, disks[i].name, check.first);
        if (check.leaks > 0 && !op->may_leak)
            ck_abort_msg("%s, %ld: %s: %u leaks", op->name, at, disks[i].name, check.leaks);
    }
    shown = digest(rig->layout, disks, !op->no_snapshots);
    if (shown != expected->before && shown != expected->after)
        ck_abort_msg("%s, %ld: neither the old image nor the new one (seed %u)", op->name, at,
                     base_seed);
}

/* Do it without disturbance, to know what comes out; that is without leaks. */
static void find_expected(struct rig *rig, const struct operation *op, struct expected *expected)
{
    struct operation strict = *op;
    struct mem_disk disks[DISKS];
    struct err err = {0};
    struct mem_env env;
    struct block *block;

    copy_disks(disks, rig);
    expected->before = digest(rig->layout, disks, !op->no_snapshots);
    block = open_disks(rig->layout, disks, true, op->open_flags, &env);
    ck_assert_msg(op->run(block, &err) == 0, "%s: %s", op->name, err.msg);
    ck_assert_int_eq(block_close(block), 0);
    expected->after = digest(rig->layout, disks, !op->no_snapshots);
    strict.may_leak = false;
    check_state(rig, &strict, disks, expected, -1);
    free_disks(disks);
}

/* ---- power cuts ------------------------------------------------------------------------------ */

/* States that were looked at; many cuts leave the same. */
struct seen {
    uint64_t hashes[512];
    size_t n;
};

static bool was_seen(struct seen *seen, const struct mem_disk disks[DISKS])
{
    uint64_t hash = HASH_START;

    for (unsigned i = 0; i < DISKS; i++) {
        hash = hash_word(hash, disks[i].len);
        hash = hash_bytes(hash, disks[i].data, disks[i].len);
    }
    for (size_t i = 0; i < min_u64(seen->n, ARRAY_SIZE(seen->hashes)); i++)
        if (seen->hashes[i] == hash)
            return true;
    seen->hashes[seen->n++ % ARRAY_SIZE(seen->hashes)] = hash;
    return false;
}

static unsigned cut_everywhere(struct rig *rig, const struct operation *op)
{
    struct mem_disk *disks[DISKS] = {&rig->disks[TOP], &rig->disks[BASE]};
    struct expected expected;
    struct power_cut cut;
    struct err err = {0};
    struct mem_env env;
    struct block *block;
    struct seen seen = {.n = 0};
    unsigned states = 0;
    size_t ended;

    find_expected(rig, op, &expected);
    power_cut_init(&cut, &rig->record, disks, DISKS, rig->seed);
    for (unsigned i = 0; i < DISKS; i++)
        rig->disks[i].record = &rig->record;
    block = open_disks(rig->layout, rig->disks, true, op->open_flags, &env);
    ck_assert_int_eq(op->run(block, &err), 0);
    ended = rig->record.n;
    ck_assert_int_eq(block_close(block), 0);
    for (size_t at = 0; at <= rig->record.n; at++) {
        /* What is done is done, whatever is lost of what came later. */
        if (at == ended) {
            expected.before = expected.after;
            seen.n = 0;
        }
        for (int fate = 0; fate < POWER_CUT_FATES; fate++, states++) {
            power_cut_make(&cut, at, fate);
            if (!was_seen(&seen, cut.state))
                check_state(rig, op, cut.state, &expected, (long)at);
        }
    }
    power_cut_done(&cut);
    return states;
}

START_TEST(power_cut_leaves_the_old_image_or_the_new_one)
{
    unsigned states = 0;

    for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
        struct rig rig;

        rig_init_for(&rig, &operations[i], &layouts[_i], base_seed + (unsigned)i);
        states += cut_everywhere(&rig, &operations[i]);
        rig_done(&rig);
    }
    printf("layout %d, seed %u: %u states\n", _i, base_seed, states);
}
END_TEST

/* ---- failing operations ---------------------------------------------------------------------- */

static const struct mem_fault faults[] = {
    {.result = -EIO},
    {.result = -ENOSPC},
    {.is_short = true, .kinds = 1u << FILE_READ | 1u << FILE_WRITE},
};

/* Use the image after something went wrong, without changing what it shows. */
static void use_further(struct block *block)
{
    uint8_t data[SECTOR];

    if (mem_block_read(block, 0, data, SECTOR) == 0 && mem_block_write(block, 0, data, SECTOR) == 0)
        (void)!mem_block_op(block, BLOCK_FLUSH, 0, 0, 0);
}

/*
 * The power fails at some moment of a run in which an operation failed. `done`: when the whole had
 * succeeded all the same; SIZE_MAX: never.
 */
static void cut_somewhere(const struct rig *rig, struct power_cut *cut, const struct operation *op,
                          const struct expected *expected, size_t done)
{
    size_t at = dice_next(&cut->seed) % (cut->record->n + 1);
    struct expected now = *expected;

    if (at >= done)
        now.before = now.after;
    power_cut_make(cut, at, (enum power_cut_fate)dice_roll(&cut->seed, POWER_CUT_FATES));
    check_state(rig, op, cut->state, &now, (long)at);
}

/* `disks`: copies of the rig's. Returns whether the fault happened. */
static bool run_with_fault(const struct rig *rig, struct mem_disk disks[DISKS],
                           const struct operation *op, const struct mem_fault *fault, long after,
                           const struct expected *expected)
{
    struct mem_disk *all[DISKS] = {&disks[TOP], &disks[BASE]};
    struct mem_record record = {.n = 0};
    struct operation lenient = *op;
    struct mem_fault now = *fault;
    struct power_cut cut;
    struct err err = {0};
    struct mem_env env;
    struct block *block;
    size_t done;
    int r;

    for (unsigned i = 0; i < DISKS; i++)
        mem_disk_restore(&disks[i], &rig->disks[i]);
    power_cut_init(&cut, &record, all, DISKS, rig->seed + (unsigned)after);
    block = open_disks(rig->layout, disks, true, op->open_flags, &env);
    now.after = after;
    for (unsigned i = 0; i < DISKS; i++) {
        disks[i].fault = &now;
        disks[i].record = &record;
    }
    r = op->run(block, &err);
    done = r == 0 ? record.n : SIZE_MAX;
    ck_assert_msg(r == 0 || now.happened, "%s: %s", op->name, err.msg);
    if (!op->open_flags) /* for the check an image is open without its backing file */
        use_further(block);
    (void)!block_close(block); /* may report the fault */
    for (unsigned i = 0; i < DISKS; i++) {
        disks[i].fault = NULL;
        disks[i].record = NULL;
    }

    lenient.may_leak = true;
    check_state(rig, &lenient, disks, expected, after);
    if (r == 0)
        ck_assert_msg(digest(rig->layout, disks, !op->no_snapshots) == expected->after,
                      "%s: succeeded, and is not done (fault %ld)", op->name, after);
    cut_somewhere(rig, &cut, &lenient, expected, done);
    power_cut_done(&cut);
    mem_record_done(&record);
    return now.happened;
}

START_TEST(failing_host_leaves_the_old_image_or_the_new_one)
{
    const struct mem_fault *fault = &faults[_i];
    long total = 0;

    for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
        struct mem_disk disks[DISKS];
        struct expected expected;
        struct rig rig;
        long after = 0;

        rig_init_for(&rig, &operations[i], &layouts[i % ARRAY_SIZE(layouts)],
                     base_seed + (unsigned)i);
        find_expected(&rig, &operations[i], &expected);
        copy_disks(disks, &rig);
        while (run_with_fault(&rig, disks, &operations[i], fault, after, &expected))
            after++;
        ck_assert_int_gt(after, 3);
        total += after;
        free_disks(disks);
        rig_done(&rig);
    }
    printf("seed %u: %ld failing operations\n", base_seed, total);
}
END_TEST

/* Whatever the host answers: what direct I/O does not take is EINVAL, say. */
START_TEST(unreadable_snapshot_table_is_named)
{
    static const int results[] = {-EIO, -EINVAL, -E2BIG};
    struct mem_fault fault = {.result = results[_i], .kinds = 1u << FILE_READ};
    unsigned failed = 0;
    struct rig rig;

    rig_init(&rig, &layouts[2], base_seed);
    do {
        struct block_snapshot *list;
        struct err err = {0};
        struct mem_env env;
        struct block *block = open_disks(rig.layout, rig.disks, false, 0, &env);
        unsigned n;

        fault.happened = false;
        rig.disks[TOP].fault = &fault;
        fault.after = failed;
        if (block_snapshot_list(block, &list, &n, &err) == 0)
            block_snapshot_list_free(list, n);
        else
            ck_assert_msg(strncmp(err.msg, "top: ", 5) == 0, "'%s'", err.msg);
        rig.disks[TOP].fault = NULL;
        ck_assert_int_eq(block_close(block), 0);
    } while (fault.happened && ++failed);
    ck_assert_uint_ge(failed, 2); /* the header and the table */
    rig_done(&rig);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("crash");

    base_seed = unit_seed();
    tcase_set_timeout(tcase, 180);
    tcase_add_loop_test(tcase, power_cut_leaves_the_old_image_or_the_new_one, 0,
                        ARRAY_SIZE(layouts));
    tcase_add_loop_test(tcase, failing_host_leaves_the_old_image_or_the_new_one, 0,
                        ARRAY_SIZE(faults));
    tcase_add_loop_test(tcase, unreadable_snapshot_table_is_named, 0, 3);
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("block_ops_crash", add_tests)
