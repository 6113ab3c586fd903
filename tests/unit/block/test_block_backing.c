/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another backing file in the header, beside QEMU's tool, and with the power cut at every moment.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/image.h"
#include "block/qcow2/format/header.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/power_cut.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define CHANGES 6u

static unsigned seed;

/* What an image may say of its backing file. */
struct saying {
    char name[1025]; /* empty: it has none */
    const char *format;
};

static unsigned rnd(unsigned below)
{
    return (unsigned)rand_r(&seed) % below;
}

/* Names of all lengths; `longest` of them. */
static void draw_saying(struct saying *saying, unsigned longest)
{
    static const char *const formats[] = {"qcow2", "raw", NULL};
    size_t len = rnd(4) == 0 ? 0 : 1 + rnd(rnd(2) ? 20 : longest);

    memset(saying, 0, sizeof(*saying));
    for (size_t i = 0; i < len; i++)
        saying->name[i] = (char)('a' + rnd(26));
    saying->format = len > 0 ? formats[rnd(3)] : NULL;
}

static struct block *open_alone(struct mem_disk *disk, bool writable)
{
    const struct block_options options = {.path = disk->name,
                                          .format = BLOCK_FORMAT_QCOW2,
                                          .readonly = !writable,
                                          .flags = BLOCK_OPEN_ALONE};
    struct block *block;
    struct mem_env env;
    struct err err = {0};

    mem_env_init(&env);
    mem_env_add(&env, disk);
    if (block_open_in(&env.env, &options, &block, &err) < 0)
        ck_abort_msg("cannot open (SEED=%u): %s", seed, err.msg);
    return block;
}

static int change(struct mem_disk *disk, const struct saying *saying)
{
    struct block *block = open_alone(disk, true);
    struct err err;
    int r =
        block_change_backing(block, saying->name[0] ? saying->name : NULL, saying->format, &err);
    int r2 = block_close(block);

    return r < 0 ? r : r2;
}

static bool says(struct mem_disk *disk, const struct saying *saying)
{
    struct block *block = open_alone(disk, false);
    struct block_details details;
    bool same;

    block_get_details(block, &details);
    same = strcmp(details.backing_name ? details.backing_name : "", saying->name) == 0 &&
           strcmp(details.backing_format ? details.backing_format : "",
                  saying->format ? saying->format : "") == 0;
    ck_assert_int_eq(block_close(block), 0);
    return same;
}

/* ---- images of QEMU's ------------------------------------------------------------------------ */

static const struct layout {
    const char *how; /* to make an image */
    unsigned longest;
    bool feature_names; /* there is always room for them */
} layouts[] = {
    {"qemu-img create -q -f qcow2 image 1M", 1023, true},
    {"qemu-img create -q -f qcow2 -o compat=0.10 image 1M", 1023, false},
    {"qemu-img create -q -f qcow2 -o cluster_size=512 image 1M", 350, false},
    {"qemu-img create -q -f qcow2 -o cluster_size=2k image 1M", 600, false},
    {"qemu-img create -q -f qcow2 -o cluster_size=8k image 1M", 1023, true},
    {"qemu-img create -q -f qcow2 image 1M && qemu-img bitmap --add image b", 1023, true},
    {"qemu-img create -q -f qcow2 -u -b a-backing-file -F raw image 1M", 1023, true},
    {"qemu-img create -q -f qcow2 -o data_file=data image 1M", 1023, true},
    {"qemu-img create -q -f qcow2 -o cluster_size=512,compat=0.10 image 1M", 350, false},
};

static void make(const struct layout *layout, struct mem_disk *disk)
{
    mem_disk_init(disk, "image");
    scratch_ok("%s", layout->how);
    mem_disk_load(disk, scratch_path("image"));
}

static bool has_feature_names(const struct mem_disk *disk)
{
    uint64_t at = load_be32(disk->data + HDR_HEADER_LEN);

    for (;;) {
        uint32_t type = load_be32(disk->data + at);

        if (type == EXT_FEATURE_NAMES || type == EXT_END)
            return type == EXT_FEATURE_NAMES;
        at += 8 + align_up(load_be32(disk->data + at + 4), 8);
    }
}

/* QEMU makes the same changes to a copy; what it says of both has to be the same. */
START_TEST(qemu_reads_the_same_as_from_its_own)
{
    const struct layout *layout = &layouts[_i];
    struct saying saying;
    struct mem_disk disk;

    make(layout, &disk);
    scratch_ok("cp image theirs");
    for (unsigned i = 0; i < CHANGES; i++) {
        draw_saying(&saying, layout->longest);
        if (saying.name[0] && !saying.format)
            saying.format = "raw"; /* QEMU wants one */
        ck_assert_int_eq(change(&disk, &saying), 0);
        mem_disk_save(&disk, scratch_path("image"));
        scratch_ok("qemu-img rebase -u -f qcow2 -b '%s' %s %s theirs", saying.name,
                   saying.format ? "-F" : "", saying.format ? saying.format : "");
        scratch_ok("for i in image theirs; do qemu-img info -f qcow2 $i | "
                   "grep -v '^image:\\|^disk size' > $i.info; done; "
                   "cmp image.info theirs.info");
        if (layout->feature_names)
            ck_assert(has_feature_names(&disk));
    }
    mem_disk_done(&disk);
}
END_TEST

START_TEST(names_without_room_leave_the_image_as_it_is)
{
    struct saying before = {.name = "a", .format = "raw"};
    struct saying saying = {.format = "raw"};
    struct mem_disk disk;
    struct mem_disk copy;

    make(&layouts[2], &disk); /* small clusters */
    mem_disk_init(&copy, "copy");
    ck_assert_int_eq(change(&disk, &before), 0);
    mem_disk_copy(&copy, &disk);
    memset(saying.name, 'x', 500);
    ck_assert_int_eq(change(&disk, &saying), -ENOSPC);
    memset(saying.name, 'x', 1024);
    ck_assert_int_eq(change(&disk, &saying), -EINVAL);
    ck_assert_uint_eq(copy.len, disk.len);
    ck_assert_mem_eq(copy.data, disk.data, disk.len);
    ck_assert(says(&disk, &before));
    mem_disk_done(&disk);
    mem_disk_done(&copy);
}
END_TEST

static struct block *open_raw(struct mem_disk *disk)
{
    struct mem_env env;

    mem_env_init(&env);
    mem_env_add(&env, disk);
    return mem_env_open(&env, disk->name, BLOCK_FORMAT_RAW, false);
}

START_TEST(raw_images_have_none)
{
    struct mem_disk disk;
    struct block *block;
    struct err err;

    mem_disk_init(&disk, "raw");
    disk.len = 4096;
    block = open_raw(&disk);
    ck_assert_int_eq(block_change_backing(block, "a", "raw", &err), -ENOTSUP);
    ck_assert_int_eq(block_close(block), 0);
    mem_disk_done(&disk);
}
END_TEST

/* ---- power cuts ------------------------------------------------------------------------------ */

/*
 * The state after a cut says what one of two neighbours in the sequence says; never less than
 * `done`.
 */
static void check_state(struct mem_disk *disk, const struct saying *sayings, unsigned done)
{
    struct qcow2_image_check check;

    if (!says(disk, &sayings[done]) && (done == CHANGES || !says(disk, &sayings[done + 1])))
        ck_abort_msg("neither the old nor the new backing file (SEED=%u)", seed);
    qcow2_image_check(disk, &check);
    ck_assert_msg(check.errors == 0 && check.leaks == 0, "%s", check.first);
}

START_TEST(power_cut_leaves_the_old_name_or_the_new_one)
{
    static struct saying sayings[CHANGES + 1];
    const struct layout *layout = &layouts[_i];
    struct mem_record record = {.n = 0};
    struct mem_disk disk;
    struct mem_disk *disks[] = {&disk};
    struct power_cut cut;
    size_t ends[CHANGES];
    unsigned done = 0;

    make(layout, &disk);
    draw_saying(&sayings[0], layout->longest);
    ck_assert_int_eq(change(&disk, &sayings[0]), 0);
    power_cut_init(&cut, &record, disks, 1, seed);
    disk.record = &record;
    for (unsigned i = 0; i < CHANGES; i++) {
        draw_saying(&sayings[i + 1], layout->longest);
        ck_assert_int_eq(change(&disk, &sayings[i + 1]), 0);
        ends[i] = record.n;
    }
    for (size_t at = 0; at <= record.n; at++) {
        while (done < CHANGES && at >= ends[done])
            done++;
        for (int fate = 0; fate < POWER_CUT_FATES; fate++) {
            power_cut_make(&cut, at, fate);
            check_state(&cut.state[0], sayings, done);
        }
    }
    power_cut_done(&cut);
    disk.record = NULL;
    mem_disk_done(&disk);
    mem_record_done(&record);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *qemu = tcase_create("qemu");

    unit_case(suite, "memory", raw_images_have_none);
    seed = unit_seed();
    if (!scratch_has_qemu())
        return;
    tcase_set_timeout(qemu, 120);
    tcase_add_checked_fixture(qemu, scratch_set_up, scratch_tear_down);
    tcase_add_loop_test(qemu, qemu_reads_the_same_as_from_its_own, 0, ARRAY_SIZE(layouts));
    tcase_add_loop_test(qemu, power_cut_leaves_the_old_name_or_the_new_one, 0, ARRAY_SIZE(layouts));
    tcase_add_test(qemu, names_without_room_leave_the_image_as_it_is);
    suite_add_tcase(suite, qemu);
}

UNIT_MAIN("block_backing", add_tests)
