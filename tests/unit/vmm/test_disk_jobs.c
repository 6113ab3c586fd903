/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs on disks whose guests never rest: streaming and committing, as in test_disk_ops.
 */
#include <errno.h>

#include "base/bytes.h"
#include "block/image.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"
#include "tests/lib/vmm/disk_vm.h"
#include "vmm/disk_ops.h"

#define LEN DISK_VM_LEN

/* ---- streaming ------------------------------------------------------------------------------- */

/* A guest at work on a disk of three images. */
static void start_on_chain(const char *base, bool qcow2)
{
    disk_vm_open(base, qcow2 ? BLOCK_FORMAT_QCOW2 : BLOCK_FORMAT_RAW, false);
    disk_vm_start_load(LEN, false);
    for (unsigned i = 0; i < 2; i++) {
        char name[16];

        disk_vm_overlay_name(i, name);
        disk_load_wait(disk_vm.load, 500);
        disk_vm_put_overlay(name);
    }
}

static void stream_under_load(const char *base, bool qcow2)
{
    struct block_details details;
    struct block *block;

    start_on_chain(base, qcow2);
    ck_assert_int_eq(disk_stream(disk_vm.disk, 0, disk_vm_when_done), 0);
    ck_assert_ptr_nonnull(disk_job(disk_vm.disk));
    disk_vm_assert_done();
    ck_assert_ptr_null(disk_job(disk_vm.disk));
    ck_assert_uint_eq(disk_vm.files.n, 1);
    scratch_ok("rm %s o0.qcow2", base); /* nobody needs them any more */
    disk_load_wait(disk_vm.load, 500);
    ck_assert_int_eq(disk_snapshot_create(disk_vm.disk, "s", disk_vm_when_done), 0);
    disk_vm_assert_done();
    disk_load_wait(disk_vm.load, 100);
    disk_vm_end_and_check("o1.qcow2", true);
    block = image_open("o1.qcow2", BLOCK_FORMAT_QCOW2, true);
    block_get_details(block, &details);
    ck_assert_ptr_null(details.backing_name);
    ck_assert_int_eq(block_close(block), 0);
}

START_TEST(a_chain_is_streamed_under_load)
{
    disk_vm_make("disk.qcow2", disk_vm_layouts[_i]);
    stream_under_load("disk.qcow2", true);
}
END_TEST

START_TEST(a_raw_base_is_streamed_under_load)
{
    disk_vm_make("disk.raw", (struct block_create_options){.format = BLOCK_FORMAT_RAW});
    stream_under_load("disk.raw", false);
}
END_TEST

START_TEST(a_job_keeps_its_speed_and_can_be_cancelled)
{
    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    start_on_chain("disk.qcow2", true);
    ck_assert_int_eq(disk_stream(disk_vm.disk, 1024, disk_vm_when_done), 0);
    disk_load_wait(disk_vm.load, 200);
    ck_assert_int_eq(disk_resize(disk_vm.disk, 2 * LEN, disk_vm_when_done), -EBUSY);
    ck_assert_int_eq(disk_stream(disk_vm.disk, 0, disk_vm_when_done), -EBUSY);
    ck_assert_uint_lt(block_job_get(&disk_job(disk_vm.disk)->offset), LEN / 2);
    block_job_let(&disk_job(disk_vm.disk)->cancelled, true);
    ck_assert_int_eq(disk_vm_wait(), -ECANCELED);
    ck_assert_ptr_null(disk_job(disk_vm.disk));
    ck_assert_uint_eq(disk_vm.files.n, 3);
    disk_load_wait(disk_vm.load, 200);

    /* Paused, it does not move; what was copied need not be copied again. */
    ck_assert_int_eq(disk_stream(disk_vm.disk, 0, disk_vm_when_done), 0);
    block_job_let(&disk_job(disk_vm.disk)->paused, true);
    disk_load_wait(disk_vm.load, 500);
    ck_assert_uint_eq(disk_vm.ndone, 3);
    block_job_let(&disk_job(disk_vm.disk)->paused, false);
    disk_vm_assert_done();
    disk_vm_end_and_check("o1.qcow2", true);
}
END_TEST

START_TEST(a_disk_that_is_closed_ends_its_job)
{
    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    start_on_chain("disk.qcow2", true);
    ck_assert_int_eq(disk_stream(disk_vm.disk, 1024, disk_vm_when_done), 0);
    disk_load_wait(disk_vm.load, 100);
    disk_vm_end_and_check("o1.qcow2", true);
    ck_assert_uint_eq(disk_vm.ndone, 3);
    ck_assert_int_eq(disk_vm.result, -ECANCELED);
}
END_TEST

START_TEST(what_has_no_backing_file_is_not_streamed)
{
    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(disk_stream(disk_vm.disk, 0, disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -ENOTSUP);
    disk_vm_close();
}
END_TEST

/* ---- committing ------------------------------------------------------------------------------ */

/* The overlay is empty afterwards, and so shows the disk as well. */
static void commit_under_load(const char *base, bool qcow2)
{
    disk_vm_open(base, qcow2 ? BLOCK_FORMAT_QCOW2 : BLOCK_FORMAT_RAW, false);
    disk_vm_start_load(LEN, false);
    for (unsigned i = 0; i < 2; i++) {
        disk_load_wait(disk_vm.load, 300);
        scratch_ok("rm -f o.qcow2");
        disk_vm_put_overlay("o.qcow2");
        disk_load_wait(disk_vm.load, 300);
        ck_assert_int_eq(disk_commit(disk_vm.disk, NULL, 0, disk_vm_when_done), 0);
        disk_vm_assert_done();
        ck_assert_uint_eq(disk_vm.files.n, 1);
    }
    disk_load_wait(disk_vm.load, 300);
    disk_load_end(disk_vm.load);
    disk_vm_close();
    image_assert_sound("o.qcow2");
    image_assert_file_shows("o.qcow2", disk_vm.load->model, LEN);
    scratch_ok("rm o.qcow2");
    disk_vm_check(base, qcow2);
    disk_load_free(disk_vm.load);
}

START_TEST(an_overlay_is_committed_under_load)
{
    disk_vm_make("disk.qcow2", disk_vm_layouts[_i]);
    commit_under_load("disk.qcow2", true);
}
END_TEST

START_TEST(an_overlay_is_committed_to_a_raw_base_under_load)
{
    disk_vm_make("disk.raw", (struct block_create_options){.format = BLOCK_FORMAT_RAW});
    commit_under_load("disk.raw", false);
}
END_TEST

/* So long that a mark stands for more than is copied at once. */
START_TEST(an_overlay_of_a_huge_disk_is_committed_under_load)
{
    const struct block_create_options options = {.path = scratch_path("disk.qcow2"),
                                                 .format = BLOCK_FORMAT_QCOW2,
                                                 .len = 17ull << 40,
                                                 .cluster_size = 2 * MIB};
    struct err err = {0};
    struct block *block;

    ck_assert_msg(block_create(&options, &err) == 0, "%s", err.msg);
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    disk_vm_start_load(LEN, false);
    disk_vm_put_overlay("o.qcow2");
    disk_load_wait(disk_vm.load, 300);
    ck_assert_int_eq(disk_commit(disk_vm.disk, NULL, 0, disk_vm_when_done), 0);
    disk_vm_assert_done();
    disk_load_wait(disk_vm.load, 300);
    disk_load_end(disk_vm.load);
    disk_vm_close();
    image_assert_sound("disk.qcow2");
    block = image_open("disk.qcow2", BLOCK_FORMAT_QCOW2, true);
    image_assert_shows(block, disk_vm.load->model, LEN);
    ck_assert_int_eq(block_close(block), 0);
    disk_load_free(disk_vm.load);
}
END_TEST

/* It was opened for reading only, as a backing file is, and is shorter. */
START_TEST(a_base_is_opened_for_writing_and_becomes_longer)
{
    struct block_create_options overlay = disk_vm_layouts[0];

    disk_vm_make("disk.qcow2", disk_vm_layouts[1]);
    overlay.backing_file = "disk.qcow2";
    overlay.backing_format = BLOCK_FORMAT_QCOW2;
    disk_vm_make("o.qcow2", overlay);
    {
        struct block *block = image_open("o.qcow2", BLOCK_FORMAT_QCOW2, false);
        struct block_resize_options options = {.len = LEN + MIB};

        ck_assert_int_eq(block_resize(block, &options, NULL), 0);
        ck_assert_int_eq(block_close(block), 0);
    }
    disk_vm_open("o.qcow2", BLOCK_FORMAT_QCOW2, false);
    disk_vm_start_load(LEN + MIB, false);
    disk_vm.load->len = LEN + MIB;
    disk_load_wait(disk_vm.load, 300);
    ck_assert_int_eq(disk_commit(disk_vm.disk, scratch_path("disk.qcow2"), 0, disk_vm_when_done),
                     0);
    disk_vm_assert_done();
    disk_load_wait(disk_vm.load, 300);
    disk_vm_end_and_check("disk.qcow2", true);
}
END_TEST

START_TEST(a_commit_that_cannot_be_says_so)
{
    struct block *other;

    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    start_on_chain("disk.qcow2", true);
    ck_assert_int_eq(disk_commit(disk_vm.disk, NULL, 0, disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -ENOTSUP); /* which one? */
    ck_assert_int_eq(disk_commit(disk_vm.disk, scratch_path("disk.qcow2"), 0, disk_vm_when_done),
                     0);
    ck_assert_int_eq(disk_vm_wait(), -ENOTSUP);
    other = image_open("o0.qcow2", BLOCK_FORMAT_QCOW2, true);
    ck_assert_int_eq(disk_commit(disk_vm.disk, scratch_path("o0.qcow2"), 0, disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -EAGAIN); /* somebody else has it as a backing file */
    ck_assert_int_eq(block_close(other), 0);

    ck_assert_int_eq(disk_commit(disk_vm.disk, scratch_path("o0.qcow2"), 1024, disk_vm_when_done),
                     0);
    disk_load_wait(disk_vm.load, 300);
    block_job_let(&disk_job(disk_vm.disk)->cancelled, true);
    ck_assert_int_eq(disk_vm_wait(), -ECANCELED);
    disk_load_wait(disk_vm.load, 300);
    other = image_open("o0.qcow2", BLOCK_FORMAT_QCOW2, true); /* it can be read again */
    ck_assert_int_eq(block_close(other), 0);
    ck_assert_int_eq(disk_commit(disk_vm.disk, scratch_path("o0.qcow2"), 0, disk_vm_when_done), 0);
    disk_vm_assert_done();
    ck_assert_int_eq(disk_commit(disk_vm.disk, scratch_path("disk.qcow2"), 0, disk_vm_when_done),
                     0);
    disk_vm_assert_done();
    ck_assert_int_eq(disk_commit(disk_vm.disk, NULL, 0, disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -ENOTSUP);
    disk_load_wait(disk_vm.load, 300);
    disk_vm_end_and_check("disk.qcow2", true);
}
END_TEST

static void add_tests(Suite *suite)
{
    disk_vm_add(suite, "stream", DISK_VM_TESTS(a_chain_is_streamed_under_load),
                DISK_VM_TESTS(
                    a_raw_base_is_streamed_under_load, a_job_keeps_its_speed_and_can_be_cancelled,
                    a_disk_that_is_closed_ends_its_job, what_has_no_backing_file_is_not_streamed));
    disk_vm_add(suite, "commit", DISK_VM_TESTS(an_overlay_is_committed_under_load),
                DISK_VM_TESTS(an_overlay_is_committed_to_a_raw_base_under_load,
                              an_overlay_of_a_huge_disk_is_committed_under_load,
                              a_base_is_opened_for_writing_and_becomes_longer,
                              a_commit_that_cannot_be_says_so));
}

UNIT_USES_THREADS;
UNIT_MAIN("disk_jobs", add_tests)
