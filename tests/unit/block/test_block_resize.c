/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Longer and shorter disks, beside qemu-img.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "block/image.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

/* What the disk is to show, where a test says so byte by byte. */
static uint8_t model[20 * MIB];
static uint64_t model_len;

static int resize(const char *name, enum block_format format,
                  const struct block_resize_options *options, struct err *err)
{
    struct block *block = image_open(name, format, false);
    int r = block_resize(block, options, err);

    ck_assert_int_eq(block_close(block), 0);
    return r;
}

static void resize_image(uint64_t len, enum block_prealloc prealloc)
{
    struct err err = {0};
    struct block_resize_options options = {.len = len, .prealloc = prealloc, .shrink = true};

    ck_assert_msg(resize("image", BLOCK_FORMAT_QCOW2, &options, &err) == 0, "%s", err.msg);
}

static void assert_qemu_sees_length(uint64_t len)
{
    scratch_ok("qemu-img info --output=json image | grep -q '\"virtual-size\": %llu,'",
               (unsigned long long)len);
}

static void resize_ok(uint64_t len, enum block_prealloc prealloc)
{
    resize_image(len, prealloc);
    image_assert_qemu_agrees("image", NULL, 0);
    assert_qemu_sees_length(len);
}

/* The model begins as a disk of this length, filled with a byte. */
static void model_set(int byte, uint64_t len)
{
    memset(model, byte, len);
    model_len = len;
}

/* The disk gets another length and shows what it did, as far as that goes, and zeroes past it. */
static void resize_with_model(uint64_t len)
{
    if (len > model_len)
        memset(model + model_len, 0, len - model_len);
    model_len = len;
    resize_image(len, BLOCK_PREALLOC_OFF);
    image_assert_sound("image");
    image_assert_file_shows("image", model, len);
}

/* QEMU looks at what came of many steps. */
static void assert_qemu_sees_model(void)
{
    assert_qemu_sees_length(model_len);
    image_assert_qemu_agrees("image", model, model_len);
}

static uint64_t blocks_of(const char *name)
{
    struct stat st;

    ck_assert_int_eq(stat(scratch_path(name), &st), 0);
    return (uint64_t)st.st_blocks;
}

/* ---- growing --------------------------------------------------------------------------------- */

static const char *const images[] = {
    "-o cluster_size=64k",
    "-o cluster_size=512",
    "-o cluster_size=4k,refcount_bits=1",
    "-o cluster_size=2M",
    "-o compat=0.10",
    "-o compat=0.10,cluster_size=512",
    "-o cluster_size=512,refcount_bits=64",
    "-o extended_l2=on",
    "-o extended_l2=on,cluster_size=16k",
};

START_TEST(grown_disk_keeps_what_it_had_and_goes_on_with_zeroes)
{
    scratch_ok("qemu-img create -q -f qcow2 %s image 300k", images[_i]);
    scratch_ok("qemu-io -c 'write -q -P 5 0 300k' image");
    model_set(5, 300 * KIB);
    for (uint64_t len = 300 * KIB + 512; len < sizeof(model); len = len * 7 / 3 & ~511ull)
        resize_with_model(len);
    assert_qemu_sees_model();
}
END_TEST

START_TEST(longer_backing_file_does_not_show)
{
    scratch_ok("yes data | head -c 3M > base");
    scratch_ok("qemu-img create -q -f qcow2 -b base -F raw %s image 700k 2> /dev/null", images[_i]);
    scratch_ok("qemu-io -c 'write -q -P 5 698k 1k' image");
    model_len = 700 * KIB;
    ck_assert_uint_ge(scratch_load("base", model, sizeof(model)), model_len);
    memset(model + 698 * KIB, 5, KIB);
    for (uint64_t len = 701 * KIB; len < 8 * MIB; len = len * 2 & ~511ull)
        resize_with_model(len);
    assert_qemu_sees_model();
}
END_TEST

/* QEMU leaves the end of a cluster as it was when the disk ends inside of it. */
START_TEST(what_was_cut_off_does_not_come_back)
{
    scratch_ok("qemu-img create -q -f qcow2 image 1M");
    scratch_ok("qemu-io -c 'write -q -P 5 0 1M' image");
    scratch_ok("qemu-img resize -q --shrink image 1k");
    resize_ok(1 << 20, BLOCK_PREALLOC_OFF);
    scratch_ok("qemu-io -c 'read -q -P 5 0 1k' -c 'read -q -P 0 1k 1023k' image");
}
END_TEST

START_TEST(empty_disk_grows)
{
    scratch_ok("qemu-img create -q -f qcow2 image 0");
    resize_ok(1 << 20, BLOCK_PREALLOC_OFF);
    scratch_ok("qemu-io -c 'write -q -P 5 0 1M' image");
    scratch_ok("qemu-img check -q image");
}
END_TEST

/* More adjacent clusters than one refcount block counts. */
START_TEST(table_of_many_small_clusters_grows)
{
    scratch_ok("qemu-img create -q -f qcow2 -o cluster_size=512,refcount_bits=64 image 1M");
    scratch_ok("qemu-io -c 'write -q -P 5 0 1M' image");
    resize_ok(3 * GIB, BLOCK_PREALLOC_OFF);
    scratch_ok("qemu-io -r -c 'read -q -P 5 0 1M' -c 'read -q -P 0 1M 1M' image");
}
END_TEST

START_TEST(growing_an_empty_tail_takes_no_space)
{
    uint64_t before;

    scratch_ok("qemu-img create -q -f qcow2 image 1000k");
    scratch_ok("qemu-io -c 'write -q -P 5 0 4k' image");
    before = blocks_of("image");
    resize_ok(64 << 20, BLOCK_PREALLOC_OFF);
    ck_assert_uint_eq(blocks_of("image"), before);
}
END_TEST

START_TEST(added_part_is_preallocated)
{
    static const enum block_prealloc preallocs[] = {BLOCK_PREALLOC_METADATA, BLOCK_PREALLOC_FALLOC,
                                                    BLOCK_PREALLOC_FULL};

    scratch_ok("qemu-img create -q -f qcow2 %s image 300k", images[_i]);
    scratch_ok("qemu-io -c 'write -q -P 5 0 300k' image");
    for (size_t i = 0; i < ARRAY_SIZE(preallocs); i++) {
        uint64_t old = i ? i * 4 * MIB : 300 * KIB;
        uint64_t before = blocks_of("image");

        resize_ok((i + 1) * 4 * MIB, preallocs[i]);
        scratch_ok("qemu-io -r -c 'read -q -P 5 0 300k' -c 'read -q -P 0 %llu 3M' image",
                   (unsigned long long)old);
        /* All mapped: nothing is without an offset but what the last cluster of before has. */
        ck_assert_int_eq(
            scratch_shell("qemu-img map --output=json image | grep -q '\"present\": false'"), 1);
        ck_assert_int_eq(blocks_of("image") - before >= 4 * MIB / 512,
                         preallocs[i] != BLOCK_PREALLOC_METADATA);
    }
}
END_TEST

START_TEST(preallocation_hides_a_longer_backing_file)
{
    scratch_ok("yes data | head -c 2M > base");
    scratch_ok("qemu-img create -q -f qcow2 -b base -F raw image 1000k");
    resize_ok(3 << 20, BLOCK_PREALLOC_METADATA);
    scratch_ok("qemu-io -r -c 'read -q -P 0 1000k 2072k' image");
    scratch_ok("cp base expected && truncate -s 1000k expected && truncate -s 3M expected "
               "&& qemu-img compare -q -f raw -F qcow2 expected image");
}
END_TEST

/* ---- shrinking ------------------------------------------------------------------------------- */

START_TEST(shrunk_disk_keeps_its_beginning_and_gives_space_back)
{
    scratch_ok("qemu-img create -q -f qcow2 %s image 5M", images[_i]);
    scratch_ok("qemu-io -c 'write -q -P 5 0 3M' -c 'write -q -P 6 3M 2M' "
               "-c 'write -q -z 1M 64k' image");
    model_set(5, 5 * MIB);
    memset(model + MIB, 0, 64 * KIB);
    memset(model + 3 * MIB, 6, 2 * MIB);
    for (uint64_t len = 5 * MIB - 512; len > 512; len = len * 2 / 5 & ~511ull)
        resize_with_model(len);
    assert_qemu_sees_model();
    scratch_ok("test $(stat -c %%s image) -le $((6 * 2097152))");
    resize_with_model(5 * MIB);
    assert_qemu_sees_model();
    scratch_ok("qemu-io -c 'write -q -P 7 0 5M' -c 'read -q -P 7 0 5M' image && "
               "qemu-img check -q image");
}
END_TEST

START_TEST(file_ends_where_its_last_cluster_does)
{
    scratch_ok("qemu-img create -q -f qcow2 image 100M");
    scratch_ok("qemu-io -c 'write -q -P 5 0 100M' image");
    resize_ok(1 << 20, BLOCK_PREALLOC_OFF);
    ck_assert_uint_le(blocks_of("image"), 3 * MIB / 512);
    scratch_ok("test $(stat -c %%s image) -le 2000000");
}
END_TEST

/* Tiny clusters: a table of several clusters before, of one afterwards. */
START_TEST(refcount_table_shrinks_as_well)
{
    scratch_ok("qemu-img create -q -f qcow2 -o cluster_size=512,refcount_bits=64 image 3M");
    scratch_ok("qemu-io -c 'write -q -P 5 0 1M' -c 'write -q -P 5 1M 1M' -c 'write -q -P 5 2M 1M' "
               "image");
    scratch_ok("test $(od -An -j56 -N4 -tu4 --endian=big image) -gt 1");
    resize_ok(1 << 20, BLOCK_PREALLOC_OFF);
    scratch_ok("test $(od -An -j56 -N4 -tu4 --endian=big image) -eq 1");
    scratch_ok("qemu-img check -q image && qemu-io -r -c 'read -q -P 5 0 1M' image");
}
END_TEST

START_TEST(snapshot_outlives_shrinking)
{
    scratch_ok("qemu-img create -q -f qcow2 -o cluster_size=%s image 3M", _i ? "64k" : "512");
    scratch_ok("qemu-io -c 'write -q -P 5 0 3M' image && qemu-img snapshot -c one image && "
               "qemu-io -c 'write -q -P 6 1M 1M' image");
    resize_ok((3 << 19) + 1024, BLOCK_PREALLOC_OFF);
    scratch_ok("qemu-io -r -c 'read -q -P 5 0 1M' -c 'read -q -P 6 1M 513k' image");
    resize_ok(4 << 20, BLOCK_PREALLOC_OFF);
    scratch_ok("qemu-io -r -c 'read -q -P 6 1M 513k' -c 'read -q -P 0 1537k 2559k' image");
    scratch_ok("qemu-img snapshot -a one image && qemu-img check -q image && "
               "qemu-io -r -c 'read -q -P 5 0 3M' image");
}
END_TEST

START_TEST(disk_shrinks_to_nothing_and_comes_back)
{
    scratch_ok("qemu-img create -q -f qcow2 %s image 5M", images[_i]);
    scratch_ok("qemu-io -c 'write -q -P 5 0 5M' image");
    resize_ok(0, BLOCK_PREALLOC_OFF);
    resize_ok(5 << 20, BLOCK_PREALLOC_OFF);
    scratch_ok("qemu-io -r -c 'read -q -P 0 0 5M' image");
}
END_TEST

/* ---- data files ------------------------------------------------------------------------------ */

START_TEST(data_file_follows_the_disk)
{
    scratch_ok("qemu-img create -q -f qcow2 -o data_file=data,data_file_raw=%s image 1000k",
               _i ? "on" : "off");
    scratch_ok("qemu-io -c 'write -q -P 5 0 1000k' image");
    resize_ok(3 << 20, BLOCK_PREALLOC_OFF);
    scratch_ok("qemu-io -c 'read -q -P 5 0 1000k' -c 'read -q -P 0 1000k 2072k' "
               "-c 'write -q -P 6 2M 1M' image");
    scratch_ok("test $(stat -c %%s data) = 3145728");
    if (_i)
        scratch_ok("qemu-img compare -q -f raw -F qcow2 data image");
    resize_ok(500 << 10, BLOCK_PREALLOC_OFF);
    scratch_ok("qemu-io -r -c 'read -q -P 5 0 500k' image");
    scratch_ok("test $(stat -c %%s data) = 512000");
    if (_i)
        scratch_ok("qemu-img compare -q -f raw -F qcow2 data image");
    resize_ok(3 << 20, BLOCK_PREALLOC_FALLOC);
    scratch_ok("qemu-io -r -c 'read -q -P 5 0 500k' -c 'read -q -P 0 500k 2572k' image");
}
END_TEST

/* A file says how long it is for nothing: a hole costs no time. */
START_TEST(long_hole_at_the_end_is_cut_at_once)
{
    scratch_ok("qemu-img create -q -f qcow2 -o cluster_size=512 image 3M");
    scratch_ok("qemu-io -c 'write -q -P 5 0 3M' image && truncate -s 4T image");
    resize_ok(1 << 20, BLOCK_PREALLOC_OFF);
    scratch_ok("qemu-io -r -c 'read -q -P 5 0 1M' image");
    scratch_ok("test $(stat -c %%s image) -lt 1200000");
}
END_TEST

/* ---- snapshots ------------------------------------------------------------------------------- */

START_TEST(snapshot_keeps_its_length)
{
    scratch_ok("qemu-img create -q -f qcow2 -o cluster_size=512 image 300k");
    scratch_ok("qemu-io -c 'write -q -P 5 0 300k' image");
    scratch_ok("qemu-img snapshot -c one image");
    resize_ok(1 << 20, BLOCK_PREALLOC_OFF);
    scratch_ok("qemu-io -c 'write -q -P 6 0 1M' image");
    scratch_ok("qemu-img snapshot -a one image && qemu-img check -q image");
    scratch_ok("qemu-io -r -c 'read -q -P 5 0 300k' image");
    scratch_ok("qemu-img info --output=json image | grep -q 'virtual-size\": 307200'");
}
END_TEST

/* ---- raw ------------------------------------------------------------------------------------- */

START_TEST(raw_disk_grows_and_shrinks)
{
    struct block_resize_options options = {.len = 3 << 20, .prealloc = BLOCK_PREALLOC_FULL};
    struct err err = {0};

    scratch_ok("yes | head -c 1000 > image && cp image expected");
    ck_assert_int_eq(resize("image", BLOCK_FORMAT_RAW, &options, &err), 0);
    scratch_ok("truncate -s 3M expected && cmp image expected");
    ck_assert_uint_ge(blocks_of("image") + 8, 3 * MIB / 512);
    options = (struct block_resize_options){.len = 600, .shrink = true};
    ck_assert_int_eq(resize("image", BLOCK_FORMAT_RAW, &options, &err), 0);
    scratch_ok("qemu-img resize -q -f raw --shrink expected 600 && cmp image expected");
}
END_TEST

/* ---- refused --------------------------------------------------------------------------------- */

START_TEST(what_qemu_refuses_is_refused)
{
    static const struct {
        struct block_resize_options options;
        int code;
        const char *qemu;
        const char *text;
    } cases[] = {
        {{.len = 512},
         -EINVAL,
         "image 512",
         "Use the --shrink option to perform a shrink operation."},
        {{.len = 512, .shrink = true, .prealloc = BLOCK_PREALLOC_FULL},
         -EINVAL,
         "--shrink --preallocation=full image 512",
         "Preallocation can only be used for growing images"},
        {{.len = INT64_MAX}, -EFBIG, NULL, "too large"},
        {{.len = 1ull << 50}, -EFBIG, NULL, "too large"},
    };
    struct err err = {0};

    scratch_ok("qemu-img create -q -f qcow2 -o cluster_size=4k image 1M");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        ck_assert_int_eq(resize("image", BLOCK_FORMAT_QCOW2, &cases[i].options, &err),
                         cases[i].code);
        ck_assert_msg(strstr(err.msg, cases[i].text), "%s", err.msg);
        if (cases[i].qemu)
            scratch_ok("qemu-img resize %s 2>&1 | grep -q -F -e '%s'", cases[i].qemu,
                       cases[i].text);
        scratch_ok("qemu-img check -q image && qemu-img info image | grep -q '1 MiB'");
    }
}
END_TEST

START_TEST(version_2_with_snapshots_keeps_its_length)
{
    struct block_resize_options options = {.len = 2 << 20};
    struct err err = {0};

    scratch_ok("qemu-img create -q -f qcow2 -o compat=0.10 image 1M");
    scratch_ok("qemu-img snapshot -c one image");
    ck_assert_int_eq(resize("image", BLOCK_FORMAT_QCOW2, &options, &err), -ENOTSUP);
    ck_assert_str_eq(err.msg, "Can't resize a v2 image which has snapshots");
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("grow");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, scratch_set_up, scratch_tear_down);
    tcase_add_loop_test(tcase, grown_disk_keeps_what_it_had_and_goes_on_with_zeroes, 0,
                        ARRAY_SIZE(images));
    tcase_add_loop_test(tcase, longer_backing_file_does_not_show, 0, ARRAY_SIZE(images));
    tcase_add_loop_test(tcase, added_part_is_preallocated, 0, ARRAY_SIZE(images));
    tcase_add_loop_test(tcase, shrunk_disk_keeps_its_beginning_and_gives_space_back, 0,
                        ARRAY_SIZE(images));
    tcase_add_loop_test(tcase, disk_shrinks_to_nothing_and_comes_back, 0, ARRAY_SIZE(images));
    tcase_add_loop_test(tcase, snapshot_outlives_shrinking, 0, 2);
    tcase_add_loop_test(tcase, data_file_follows_the_disk, 0, 2);
    tcase_add_test(tcase, long_hole_at_the_end_is_cut_at_once);
    tcase_add_test(tcase, file_ends_where_its_last_cluster_does);
    tcase_add_test(tcase, refcount_table_shrinks_as_well);
    suite_add_tcase(suite, tcase);
    unit_case_with(suite, "resize", scratch_set_up, scratch_tear_down,
                   what_was_cut_off_does_not_come_back, empty_disk_grows,
                   table_of_many_small_clusters_grows, growing_an_empty_tail_takes_no_space,
                   preallocation_hides_a_longer_backing_file, snapshot_keeps_its_length,
                   raw_disk_grows_and_shrinks, what_qemu_refuses_is_refused,
                   version_2_with_snapshots_keeps_its_length);
}

UNIT_MAIN_BESIDE_QEMU("block_resize", add_tests)
