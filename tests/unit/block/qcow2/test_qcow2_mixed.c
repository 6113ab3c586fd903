/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 32 random requests at a time, for a long time: reads, writes, compressed ones, zeroes, discards
 * and flushes, wherever they overlap, a third of them in a few clusters.
 *
 * Requests that overlap are not ordered, so where several wrote a sector at the same time it may
 * show any of them; but one of them, as a whole, and nothing older. Images in memory finish
 * operations late and in random order, those in files through io_uring and threads.
 *
 * SEED=n repeats a run, SCALE=n makes it n times as long.
 */
#include <stdlib.h>
#include <string.h>

#include "block/image.h"
#include "block/qcow2/qcow2.h"
#include "tests/lib/block/qcow2/qcow2_rig.h"
#include "tests/lib/block/qcow2/qemu_oracle.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define DEPTH 32u

static unsigned base_seed;
static unsigned scale;
static bool have_qemu;
static char running[200]; /* what fails, if it does */

static void fail_with(const char *what)
{
    ck_abort_msg("SEED=%u: %s: %s", base_seed, running, what);
}

static void rig_start(struct qcow2_rig *rig, unsigned seed)
{
    struct qcow2_layout layout;

    qcow2_layout_pick(&layout, seed);
    layout.nsectors = 8192;
    qcow2_layout_print(&layout, running, sizeof(running));
    printf("SEED=%u: %s\n", seed, running);
    fflush(stdout); /* before what may end the program */
    qcow2_rig_init(rig, &layout, seed);
    for (unsigned i = 0; i < QCOW2_RIG_DISKS; i++)
        rig->disks[i].record = NULL; /* nobody cuts the power */
    rig->hot = 400;
}

static void run(struct qcow2_rig *rig, unsigned n)
{
    for (unsigned done = 0; done < n; done += 1000) {
        const char *wrong;
        size_t now;

        rig->nflushes = 0; /* of interest to power cuts only */
        qcow2_rig_requests(rig, 1000, DEPTH);
        ck_assert_uint_eq(rig->failures, 0);
        now = qcow2_rig_now(rig);
        wrong = qcow2_rig_verify(rig, rig->block, now, now);
        if (wrong)
            fail_with(wrong);
    }
}

/* Closed, opened again, and looked at by three checkers. */
static void rig_end(struct qcow2_rig *rig)
{
    struct mem_disk *top = &rig->disks[QCOW2_RIG_TOP];
    uint64_t len = rig->nsectors * BLOCK_SECTOR_SIZE;
    uint8_t *data = malloc(len);
    struct qcow2_image_check check;
    const char *wrong;

    ck_assert_ptr_nonnull(data);
    qcow2_image_check(top, &check);
    if (check.errors > 0 || check.leaks > 0)
        fail_with(check.errors ? check.first : "leaked clusters");
    rig->block = qcow2_rig_open(&rig->env, rig->disks, true);
    wrong = qcow2_rig_verify(rig, rig->block, qcow2_rig_now(rig), qcow2_rig_now(rig));
    ck_assert_int_eq(mem_block_read(rig->block, 0, data, len), 0);
    ck_assert_int_eq(block_close(rig->block), 0);
    if (!wrong && have_qemu)
        wrong = qemu_oracle_check(rig->disks, QCOW2_RIG_DISKS, data, len);
    if (wrong)
        fail_with(wrong);
    free(data);
    qcow2_rig_done(rig);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LAYOUTS 8
#else
#define LAYOUTS 12
#endif

START_TEST(overlapping_requests_leave_what_one_of_them_wrote)
{
    struct qcow2_rig rig;

    rig_start(&rig, base_seed + (unsigned)_i);
    run(&rig, 3000 * scale);
    ck_assert_int_eq(qcow2_rig_close(&rig), 0);
    rig_end(&rig);
}
END_TEST

/* Tables are thrown out of memory and read again while others wait for them. */
START_TEST(requests_share_a_cache_that_is_too_small)
{
    struct qcow2_rig rig;

    rig_start(&rig, base_seed + 100 + (unsigned)_i);
    qcow2_of(rig.block)->cache.limit = 1 + (unsigned)_i % 4;
    run(&rig, 1000 * scale);
    ck_assert_int_eq(qcow2_rig_close(&rig), 0);
    rig_end(&rig);
}
END_TEST

START_TEST(overlapping_requests_on_files_leave_what_one_of_them_wrote)
{
    static const enum block_cache caches[] = {BLOCK_CACHE_UNSAFE, BLOCK_CACHE_NONE,
                                              BLOCK_CACHE_WRITEBACK};
    struct block_options options = {.format = BLOCK_FORMAT_QCOW2,
                                    .discard = true,
                                    .aio = _i % 2 ? BLOCK_AIO_THREADS : BLOCK_AIO_AUTO,
                                    .cache = caches[_i / 2]};
    struct qcow2_rig rig;

    rig_start(&rig, base_seed + 200 + (unsigned)_i);
    qcow2_rig_move_to_files(&rig, &options);
    run(&rig, 1000 * scale);
    qcow2_rig_move_back(&rig);
    rig_end(&rig);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *memory = tcase_create("memory");
    TCase *files = tcase_create("files");

    base_seed = unit_seed();
    scale = unit_number("SCALE", 1);
    have_qemu = scratch_has_qemu();
    tcase_set_timeout(memory, 60 * scale);
    tcase_add_checked_fixture(memory, scratch_set_up, scratch_tear_down);
    tcase_add_loop_test(memory, overlapping_requests_leave_what_one_of_them_wrote, 0, LAYOUTS);
    tcase_add_loop_test(memory, requests_share_a_cache_that_is_too_small, 0, LAYOUTS / 2);
    suite_add_tcase(suite, memory);
    tcase_set_timeout(files, 60 * scale);
    tcase_add_checked_fixture(files, scratch_set_up, scratch_tear_down);
    tcase_add_loop_test(files, overlapping_requests_on_files_leave_what_one_of_them_wrote, 0, 6);
    suite_add_tcase(suite, files);
}

UNIT_USES_THREADS;
UNIT_MAIN("qcow2_mixed", add_tests)
