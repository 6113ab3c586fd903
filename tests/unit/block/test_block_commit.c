/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing overlays into their backing files, beside qemu-img.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/image.h"
#include "tests/lib/block/mem_disk.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

static int commit(const char *name, unsigned depth, bool keep, struct err *err)
{
    const struct block_commit_options options = {.keep = keep};
    struct block_options open = {.path = scratch_path(name),
                                 .format = BLOCK_FORMAT_QCOW2,
                                 .discard = true,
                                 .write_backing = depth};
    struct block *block;
    int r = block_open(&open, &block, err);

    if (r < 0)
        return r;
    r = block_commit(block, &options, err);
    ck_assert_int_eq(block_close(block), 0);
    return r;
}

static void commit_ok(const char *name, unsigned depth, bool keep)
{
    struct err err = {0};

    ck_assert_msg(commit(name, depth, keep, &err) == 0, "%s", err.msg);
    scratch_ok("qemu-img check -q -f qcow2 %s", name);
}

/* ---- the same as qemu-img's ------------------------------------------------------------------ */

static const struct variant {
    const char *base; /* options of qemu-img create */
    const char *format;
    const char *top;
    const char *len; /* of the overlay */
} variants[] = {
    {"-f raw", "raw", "", "3M"},
    {"-f qcow2", "qcow2", "", "3M"},
    {"-f qcow2 -o cluster_size=4k", "qcow2", "-o cluster_size=512", "3M"},
    {"-f qcow2 -o compat=0.10", "qcow2", "-o cluster_size=2M", "3M"},
    {"-f qcow2 -o cluster_size=512,refcount_bits=1", "qcow2", "-o refcount_bits=1", "3M"},
    {"-f raw", "raw", "-o cluster_size=4k", "5000k"},
    {"-f qcow2", "qcow2", "-o cluster_size=4k", "5000k"},
    {"-f qcow2", "qcow2", "-o cluster_size=512", "1001k"},
    {"-f raw", "raw", "-o extended_l2=on", "5000k"},
    {"-f qcow2 -o extended_l2=on", "qcow2", "-o compat=0.10", "3M"},
    {"-f qcow2", "qcow2", "-o data_file=data", "3M"},
};

START_TEST(overlay_ends_up_in_its_backing_file)
{
    const struct variant *v = &variants[_i];

    scratch_ok("qemu-img create -q %s base 3M", v->base);
    scratch_ok("qemu-io -f %s -c 'write -q -P 1 0 3M' base", v->format);
    scratch_ok("qemu-img create -q -f qcow2 -b base -F %s %s top %s 2> /dev/null", v->format,
               v->top, v->len);
    scratch_ok("qemu-io -c 'write -q -P 2 100k 300k' -c 'write -q -P 3 999k 512' "
               "-c 'write -q -z 500k 100k' -c 'write -q -z -u 600k 200k' top");
    scratch_ok("qemu-img convert -O raw top expected");
    if (strcmp(v->len, "1001k") == 0) /* the rest of a longer backing file stays */
        scratch_ok("qemu-img convert -O raw base rest && "
                   "dd if=rest of=expected bs=1k skip=1001 seek=1001 status=none");
    commit_ok("top", 1, false);

    scratch_ok("qemu-img compare -q -f raw -F %s expected base", v->format);
    if (strcmp(v->format, "qcow2") == 0)
        scratch_ok("qemu-img check -q base");
    /* Empty, and as good as new. */
    ck_assert_int_eq(
        scratch_shell(
            "qemu-img map --output=json top > map; grep -q '\"depth\": 0, \"present\": true' map"),
        1);
    scratch_ok("test $(stat -c %%s top) -le $((10 * 2097152))");
    scratch_ok("truncate -s %s expected && qemu-img compare -q -f raw -F qcow2 expected top",
               v->len);
    scratch_ok("qemu-io -c 'write -q -P 9 0 1000k' -c 'read -q -P 9 0 1000k' top && "
               "qemu-img check -q top");
}
END_TEST

START_TEST(zeroes_are_not_written_as_data)
{
    scratch_ok("truncate -s 64M base && qemu-img create -q -f qcow2 -b base -F raw top");
    scratch_ok("qemu-io -c 'write -q -z 0 64M' -c 'write -q -P 5 1M 64k' top");
    commit_ok("top", 1, false);
    scratch_ok("test $(stat -c %%b base) -le 512");
    scratch_ok("qemu-io -r -f raw -c 'read -q -P 5 1M 64k' -c 'read -q -P 0 2M 62M' base");
}
END_TEST

START_TEST(kept_overlay_is_not_touched)
{
    scratch_ok("truncate -s 1M base && qemu-img create -q -f qcow2 -b base -F raw top && "
               "qemu-io -c 'write -q -P 5 0 1M' top && cp top before");
    commit_ok("top", 1, true);
    scratch_ok("cmp top before && qemu-io -r -f raw -c 'read -q -P 5 0 1M' base");
}
END_TEST

/* top -> short -> base: past the end of the short one nothing of the base shows. */
START_TEST(chain_is_committed_into_its_last_image)
{
    struct err err = {0};

    scratch_ok("yes | head -c 3M > base && "
               "qemu-img create -q -f qcow2 -b base -F raw short 1M && "
               "qemu-img create -q -f qcow2 -b short -F qcow2 top 2M && "
               "qemu-io -c 'write -q -P 4 0 200k' short && "
               "qemu-io -c 'write -q -P 5 100k 200k' top && "
               "qemu-img convert -O raw top expected && "
               "dd if=base of=expected bs=1M skip=2 seek=2 status=none");
    ck_assert_int_eq(commit("top", 2, false, &err), -EINVAL);
    commit_ok("top", 2, true);
    scratch_ok("cmp base expected");
}
END_TEST

START_TEST(snapshots_of_the_overlay_stay)
{
    scratch_ok("truncate -s 1M base && qemu-img create -q -f qcow2 -b base -F raw top && "
               "qemu-io -c 'write -q -P 5 0 1M' top && qemu-img snapshot -c one top && "
               "qemu-io -c 'write -q -P 6 0 1M' top");
    commit_ok("top", 1, false);
    scratch_ok("qemu-io -r -c 'read -q -P 6 0 1M' top && qemu-img snapshot -a one top && "
               "qemu-img check -q top && qemu-io -r -c 'read -q -P 5 0 1M' top");
}
END_TEST

static void note_progress(void *opaque, uint64_t done, uint64_t len)
{
    uint64_t *last = opaque;

    ck_assert_uint_ge(done, *last);
    ck_assert_uint_lt(done, len);
    *last = done;
}

START_TEST(progress_is_reported)
{
    uint64_t last = 0;
    const struct block_commit_options options = {.progress = note_progress, .opaque = &last};
    struct block_options open = {.path = scratch_path("top"), .write_backing = 1};
    struct block *block;
    struct err err = {0};

    scratch_ok("truncate -s 8M base && qemu-img create -q -f qcow2 -b base -F raw top && "
               "qemu-io -c 'write -q -P 5 0 8M' top");
    ck_assert_int_eq(block_open(&open, &block, &err), 0);
    ck_assert_int_eq(block_commit(block, &options, &err), 0);
    ck_assert_int_eq(block_close(block), 0);
    ck_assert_uint_eq(last, 7 << 20);
}
END_TEST

/* ---- refused --------------------------------------------------------------------------------- */

START_TEST(backing_file_in_use_is_not_written)
{
    struct block_options other = {
        .path = scratch_path("base"), .format = BLOCK_FORMAT_RAW, .readonly = true};
    struct block *block;
    struct err err = {0};

    scratch_ok("truncate -s 1M base && qemu-img create -q -f qcow2 -b base -F raw top");
    ck_assert_int_eq(block_open(&other, &block, &err), 0);
    ck_assert_int_eq(commit("top", 1, false, &err), -EAGAIN);
    ck_assert_int_eq(block_close(block), 0);
    commit_ok("top", 1, false);
}
END_TEST

START_TEST(image_without_backing_file_is_refused)
{
    struct err err = {0};

    scratch_ok("qemu-img create -q -f qcow2 top 1M");
    ck_assert_int_eq(commit("top", 1, false, &err), -ENOTSUP);
    scratch_ok("truncate -s 1M base && qemu-img create -q -f qcow2 -b base -F raw top");
    ck_assert_int_eq(commit("top", 0, false, &err), -EROFS);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("same");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, scratch_set_up, scratch_tear_down);
    tcase_add_loop_test(tcase, overlay_ends_up_in_its_backing_file, 0, ARRAY_SIZE(variants));
    suite_add_tcase(suite, tcase);
    unit_case_with(suite, "commit", scratch_set_up, scratch_tear_down,
                   zeroes_are_not_written_as_data, kept_overlay_is_not_touched,
                   chain_is_committed_into_its_last_image, snapshots_of_the_overlay_stay,
                   progress_is_reported, backing_file_in_use_is_not_written,
                   image_without_backing_file_is_refused);
}

UNIT_MAIN_BESIDE_QEMU("block_commit", add_tests)
