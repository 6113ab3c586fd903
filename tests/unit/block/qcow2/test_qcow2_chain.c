/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chains whose images differ in length, format and cluster size, beside QEMU: what they show, to
 * the byte, and what remains of it after writing across the ends.
 */
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/dice.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define LEN_MAX (512u << 10)
#define LAYERS 3u
#define TOP "layer2"
#define CHAINS 8

static unsigned seed;
static uint64_t dice;
static uint64_t lens[LAYERS];
static uint8_t theirs[LEN_MAX];

/* A number of sectors below the limit that is no whole number of clusters, mostly. */
static uint64_t some_len(void)
{
    return (1 + dice_roll(&dice, LEN_MAX / BLOCK_SECTOR_SIZE)) * (uint64_t)BLOCK_SECTOR_SIZE;
}

static void fill_by_qemu(unsigned layer, const char *format)
{
    char commands[1024] = "";
    int at = 0;

    for (unsigned i = 0; i < 6; i++) {
        uint64_t off = dice_next(&dice) % (lens[layer] / BLOCK_SECTOR_SIZE + 1) * BLOCK_SECTOR_SIZE;
        uint64_t len = min_u64((1 + dice_roll(&dice, 100)) * 512ull, lens[layer] - off);

        char how[32] = "-z -u";

        if (len == 0)
            continue;
        if (dice_roll(&dice, 4))
            snprintf(how, sizeof(how), "-P %u", 16 * (layer + 1) + i);
        at += snprintf(commands + at, sizeof(commands) - (size_t)at, " -c 'write %s %llu %llu'",
                       how, (unsigned long long)off, (unsigned long long)len);
    }
    scratch_ok("qemu-io -t unsafe -f %s %s layer%u >> log", format, commands, layer);
}

/* layer0: a raw file, layer1 and layer2 on top of it. */
static void make_chain(void)
{
    static const char *const layouts[] = {"cluster_size=512", "cluster_size=4k", "cluster_size=64k",
                                          "extended_l2=on", "extended_l2=on,cluster_size=16k"};

    lens[0] = some_len();
    scratch_ok("truncate -s %llu layer0", (unsigned long long)lens[0]);
    fill_by_qemu(0, "raw");
    if (dice_roll(&dice, 2)) /* an end that is inside a sector */
        scratch_ok("truncate -s -%u layer0", 1 + dice_roll(&dice, 511));
    for (unsigned i = 1; i < LAYERS; i++) {
        lens[i] = some_len();
        scratch_ok("qemu-img create -q -f qcow2 -b layer%u -F %s "
                   "-o %s layer%u %llu",
                   i - 1, i == 1 ? "raw" : "qcow2", layouts[dice_roll(&dice, ARRAY_SIZE(layouts))],
                   i, (unsigned long long)lens[i]);
        fill_by_qemu(i, "qcow2");
    }
}

static struct block *open_top(bool readonly)
{
    return image_open_with(TOP, (struct block_options){.readonly = readonly, .discard = true});
}

static void assert_shows_the_same(void)
{
    uint64_t len = lens[LAYERS - 1];
    struct block *block = open_top(true);

    scratch_ok("qemu-img convert -f qcow2 -O raw " TOP " flat");
    ck_assert_uint_eq(scratch_load("flat", theirs, sizeof(theirs)), len);
    image_assert_shows(block, theirs, len);
    ck_assert_int_eq(block_close(block), 0);
}

/* The writes copy: the rest of their clusters lies on both sides of the ends of the layers. */
START_TEST(shows_the_same_as_qemu_before_and_after_writing)
{
    static uint8_t data[32 * BLOCK_SECTOR_SIZE];
    static uint8_t model[LEN_MAX];
    uint64_t len;
    struct block *block;

    dice = seed + (unsigned)_i;
    make_chain();
    len = lens[LAYERS - 1];
    assert_shows_the_same();
    memcpy(model, theirs, len);
    block = open_top(false);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t near = min_u64(lens[dice_roll(&dice, LAYERS)], len - BLOCK_SECTOR_SIZE);
        uint64_t off = near - min_u64(near, (uint64_t)dice_roll(&dice, 8) * BLOCK_SECTOR_SIZE);
        uint64_t n = min_u64((1ull + dice_roll(&dice, 32)) * BLOCK_SECTOR_SIZE, len - off);

        memset(data, 0xa0 + (int)i, n);
        memset(model + off, 0xa0 + (int)i, n);
        ck_assert_int_eq(mem_block_write(block, off, data, n), 0);
    }
    ck_assert_int_eq(block_close(block), 0);
    scratch_ok("qemu-img check -q " TOP);
    assert_shows_the_same();
    ck_assert_mem_eq(theirs, model, len);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("chain");

    seed = unit_seed();
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, scratch_set_up, scratch_tear_down);
    tcase_add_loop_test(tcase, shows_the_same_as_qemu_before_and_after_writing, 0, CHAINS);
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN_BESIDE_QEMU("qcow2_chain", add_tests)
