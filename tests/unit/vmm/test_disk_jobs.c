/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs on disks whose guests never rest: streaming and committing, as in test_disk_ops.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "block/image.h"
#include "block/stack.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"
#include "tests/lib/vmm/disk_vm.h"
#include "vmm/disk_jobs.h"
#include "vmm/disk_ops.h"

#define LEN DISK_VM_LEN

static void set_flag(bool *flag, bool value)
{
    block_job_let(disk_job(disk_vm.disk), flag, value);
}

/* ---- streaming ------------------------------------------------------------------------------- */

static const struct disk_job_wish slow = {.speed = 1024};

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
    ck_assert_int_eq(disk_vm_stream(0), 0);
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
    ck_assert_int_eq(disk_stream(disk_vm.disk, &slow, &disk_vm_job_events), 0);
    disk_load_wait(disk_vm.load, 200);
    ck_assert_int_eq(disk_resize(disk_vm.disk, 2 * LEN, disk_vm_when_done), -EBUSY);
    ck_assert_int_eq(disk_vm_stream(0), -EBUSY);
    ck_assert_uint_lt(block_job_get(&disk_job(disk_vm.disk)->offset), LEN / 2);
    set_flag(&disk_job(disk_vm.disk)->cancelled, true);
    ck_assert_int_eq(disk_vm_wait(), -ECANCELED);
    ck_assert_ptr_null(disk_job(disk_vm.disk));
    ck_assert_uint_eq(disk_vm.files.n, 3);
    disk_load_wait(disk_vm.load, 200);

    /* Paused, it does not move; what was copied need not be copied again. */
    ck_assert_int_eq(disk_vm_stream(0), 0);
    set_flag(&disk_job(disk_vm.disk)->paused, true);
    disk_load_wait(disk_vm.load, 500);
    ck_assert_uint_eq(disk_vm.ndone, 3);
    set_flag(&disk_job(disk_vm.disk)->paused, false);
    disk_vm_assert_done();
    disk_vm_end_and_check("o1.qcow2", true);
}
END_TEST

START_TEST(a_disk_that_is_closed_ends_its_job)
{
    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    start_on_chain("disk.qcow2", true);
    ck_assert_int_eq(disk_stream(disk_vm.disk, &slow, &disk_vm_job_events), 0);
    disk_load_wait(disk_vm.load, 100);
    disk_vm_end_and_check("o1.qcow2", true);
    ck_assert_uint_eq(disk_vm.ndone, 3);
    ck_assert_int_eq(disk_vm.result, -ECANCELED);
}
END_TEST

/* As with QEMU: there is nothing to do. */
START_TEST(what_has_no_backing_file_is_streamed_at_once)
{
    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, true);
    ck_assert_int_eq(disk_vm_stream(0), 0);
    disk_vm_assert_done();
    ck_assert_uint_eq(disk_vm.nbegun, 1);
    disk_vm_close();
}
END_TEST

static unsigned chain_len(void)
{
    unsigned n = 0;

    while (block_stack_at(disk_port(disk_vm.disk)->block, n))
        n++;
    return n;
}

/* Four images, of other formats but for the lowest. */
static void start_on_long_chain(unsigned layout)
{
    disk_vm_make("disk.qcow2", disk_vm_layouts[layout]);
    start_on_chain("disk.qcow2", true);
    disk_load_wait(disk_vm.load, 300);
    disk_vm_put_overlay("o2.qcow2");
    disk_load_wait(disk_vm.load, 300);
    ck_assert_uint_eq(chain_len(), 4);
}

/* The disk is open again as the next start has it, and goes on. */
static void check_after(unsigned left, const char *top)
{
    disk_vm_assert_done();
    ck_assert_uint_eq(chain_len(), left);
    ck_assert_uint_eq(disk_vm.files.n, left);
    disk_load_wait(disk_vm.load, 300);
    disk_vm_end_and_check(top, true);
}

START_TEST(what_is_above_a_base_is_streamed_under_load)
{
    start_on_long_chain(_i);
    ck_assert_int_eq(disk_vm_stream(2), 0);
    disk_vm_assert_done();
    ck_assert_uint_eq(chain_len(), 3);
    scratch_ok("rm o1.qcow2");
    disk_load_wait(disk_vm.load, 300);
    ck_assert_int_eq(disk_vm_stream(2), 0);
    disk_vm_assert_done();
    scratch_ok("rm o0.qcow2");
    ck_assert_int_eq(disk_vm_stream(1), 0); /* there is nothing between */
    check_after(2, "o2.qcow2");
}
END_TEST

/* ---- committing ------------------------------------------------------------------------------ */

/* The top, to an image of the scratch folder. */
static int commit_to(const char *name)
{
    const struct disk_job_wish wish = {.base.path = scratch_path(name)};
    int r = disk_commit(disk_vm.disk, &wish, &disk_vm_job_events);

    if (r == 0)
        set_flag(&disk_job(disk_vm.disk)->complete, true);
    return r;
}

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
        ck_assert_int_eq(disk_vm_commit(), 0);
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
    ck_assert_int_eq(disk_vm_commit(), 0);
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
    uint64_t len = LEN + MIB;

    disk_vm_make("disk.qcow2", disk_vm_layouts[1]);
    overlay.backing_file = "disk.qcow2";
    overlay.backing_format = BLOCK_FORMAT_QCOW2;
    disk_vm_make("o.qcow2", overlay);
    {
        struct block *block = image_open("o.qcow2", BLOCK_FORMAT_QCOW2, false);
        struct block_resize_options options = {.len = len};

        ck_assert_int_eq(block_resize(block, &options, NULL), 0);
        ck_assert_int_eq(block_close(block), 0);
    }
    disk_vm_open("o.qcow2", BLOCK_FORMAT_QCOW2, false);
    disk_vm_start_load(len, false);
    loop_call(disk_port(disk_vm.disk)->loop, disk_vm_grow_load, &len);
    disk_load_wait(disk_vm.load, 300);
    ck_assert_int_eq(commit_to("disk.qcow2"), 0);
    disk_vm_assert_done();
    disk_load_wait(disk_vm.load, 300);
    disk_vm_end_and_check("disk.qcow2", true);
}
END_TEST

/* It fails before it has begun. */
static void assert_refused(int asked, int error, const char *text)
{
    const unsigned nbegun = disk_vm.nbegun;

    ck_assert_int_eq(asked, 0);
    ck_assert_int_eq(disk_vm_wait(), error);
    ck_assert_uint_eq(disk_vm.nbegun, nbegun);
    ck_assert_msg(strstr(disk_vm.err.msg, text), "%s", disk_vm.err.msg);
}

START_TEST(what_cannot_be_is_refused_at_once)
{
    struct block *other;

    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    start_on_chain("disk.qcow2", true);
    assert_refused(commit_to("nowhere"), -ENOENT, "in the backing chain");
    assert_refused(commit_to("o1.qcow2"), -ENOENT, "in the backing chain"); /* it is the top */
    assert_refused(disk_vm_commit_range(7, 8), -ENOENT, "node-name='#vda.7'");
    assert_refused(disk_vm_commit_range(0, 3), -ENOENT, "node-name='#vda.3'");
    assert_refused(disk_vm_commit_range(1, 1), -EINVAL, "cannot commit an image into itself");
    assert_refused(disk_vm_commit_range(2, 1), -EINVAL, "cannot commit an image into itself");
    assert_refused(disk_vm_commit_range(1, 0), -EINVAL, "'#vda' is not in this backing file");
    assert_refused(disk_vm_stream(3), -ENOENT, "node-name='#vda.3'");
    other = image_open("o0.qcow2", BLOCK_FORMAT_QCOW2, true);
    assert_refused(disk_vm_commit_range(0, 1), -EAGAIN, "o0.qcow2"); /* somebody else reads it */
    assert_refused(disk_vm_commit_range(1, 2), -EAGAIN, "disk.qcow2");
    ck_assert_int_eq(block_close(other), 0);

    scratch_ok("mv disk.qcow2 elsewhere"); /* o1 could not name it */
    assert_refused(disk_vm_commit_range(1, 2), -ENOENT, "has no such name any more");
    assert_refused(disk_vm_stream(2), -ENOENT, "has no such name any more");
    scratch_ok("mv elsewhere disk.qcow2");
    ck_assert_int_eq(disk_vm_commit(), 0);
    disk_vm_assert_done();
    assert_refused(disk_vm_commit(), -EINVAL, "cannot commit an image into itself");
    disk_load_wait(disk_vm.load, 300);
    disk_vm_end_and_check("disk.qcow2", true);
}
END_TEST

START_TEST(a_commit_that_is_cancelled_can_be_done_again)
{
    struct block *other;

    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    start_on_chain("disk.qcow2", true);
    ck_assert_int_eq(disk_commit(disk_vm.disk, &slow, &disk_vm_job_events), 0);
    disk_load_wait(disk_vm.load, 300);
    set_flag(&disk_job(disk_vm.disk)->cancelled, true);
    ck_assert_int_eq(disk_vm_wait(), -ECANCELED);
    disk_load_wait(disk_vm.load, 300);
    other = image_open("disk.qcow2", BLOCK_FORMAT_QCOW2, true); /* it can be read again */
    ck_assert_int_eq(block_close(other), 0);
    ck_assert_int_eq(commit_to("o0.qcow2"), 0);
    disk_vm_assert_done();
    ck_assert_int_eq(commit_to("disk.qcow2"), 0);
    check_after(1, "disk.qcow2");
}
END_TEST

/* ---- any range of a chain -------------------------------------------------------------------- */

/* The top, the base, how many images are left, and the one that has the requests then. */
static const struct range {
    unsigned top;
    unsigned base;
    unsigned left;
    const char *last;
} ranges[] = {
    {0, 1, 3, "o1.qcow2"}, {0, 2, 2, "o0.qcow2"}, {0, 3, 1, "disk.qcow2"},
    {1, 2, 3, "o2.qcow2"}, {1, 3, 2, "o2.qcow2"}, {2, 3, 3, "o2.qcow2"},
};

START_TEST(any_range_is_committed_under_load)
{
    const struct range *range = &ranges[(unsigned)_i % ARRAY_SIZE(ranges)];

    start_on_long_chain((unsigned)_i / ARRAY_SIZE(ranges));
    ck_assert_int_eq(disk_vm_commit_range(range->top, range->base), 0);
    check_after(range->left, range->last);
}
END_TEST

static void assert_calls(const char *overlay, const char *name, const char *format)
{
    const struct block_options options = {.readonly = true, .flags = BLOCK_OPEN_SHARE};
    struct block *block = image_open_with(overlay, options);
    struct block_details details;

    block_get_details(block, &details);
    ck_assert_str_eq(details.backing_name, name);
    ck_assert_str_eq(details.backing_format, format);
    ck_assert_int_eq(block_close(block), 0);
}

/* All images lie in one folder that is given another name: names in them lead on. */
START_TEST(names_of_images_stay_as_they_are)
{
    struct block_create_options overlay = disk_vm_layouts[0];

    disk_vm_make("disk.qcow2", disk_vm_layouts[1]);
    overlay.backing_format = BLOCK_FORMAT_QCOW2;
    overlay.backing_file = "disk.qcow2";
    disk_vm_make("a.qcow2", overlay);
    overlay.backing_file = "a.qcow2";
    disk_vm_make("b.qcow2", overlay);
    overlay.backing_file = "b.qcow2";
    disk_vm_make("c.qcow2", overlay);
    disk_vm_open("c.qcow2", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(disk_vm_commit_range(2, 3), 0);
    disk_vm_assert_done();
    ck_assert_int_eq(disk_vm_stream(2), 0);
    disk_vm_assert_done();
    disk_vm_close();
    assert_calls("b.qcow2", "disk.qcow2", "qcow2");
    assert_calls("c.qcow2", "disk.qcow2", "qcow2");
}
END_TEST

START_TEST(a_name_that_is_wished_for_has_to_lead_to_the_base)
{
    struct disk_job_wish wish = {.base = {.by_depth = true, .depth = 2}};

    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    start_on_chain("disk.qcow2", true);
    wish.backing_file = "o0.qcow2";
    assert_refused(disk_stream(disk_vm.disk, &wish, &disk_vm_job_events), -EINVAL,
                   "backing-file 'o0.qcow2': expected a name of");
    wish.backing_file = "nbd://x";
    assert_refused(disk_stream(disk_vm.disk, &wish, &disk_vm_job_events), -EINVAL, "expected");
    assert_refused(disk_commit(disk_vm.disk, &wish, &disk_vm_job_events), -EINVAL,
                   "'top' is the active layer");
    wish.base.by_depth = false;
    assert_refused(disk_stream(disk_vm.disk, &wish, &disk_vm_job_events), -EINVAL,
                   "streaming the entire chain");
    wish.base.by_depth = true;
    wish.backing_file = "./disk.qcow2";
    ck_assert_int_eq(disk_stream(disk_vm.disk, &wish, &disk_vm_job_events), 0);
    disk_vm_assert_done();
    assert_calls("o1.qcow2", "./disk.qcow2", "qcow2");

    /* With nothing between, the name is all that changes. */
    wish.base.depth = 1;
    wish.backing_file = "././disk.qcow2";
    ck_assert_int_eq(disk_stream(disk_vm.disk, &wish, &disk_vm_job_events), 0);
    check_after(2, "o1.qcow2");
    assert_calls("o1.qcow2", "././disk.qcow2", "qcow2");
}
END_TEST

/* What shows the part of a file that begins at 1 MiB, with more keys. */
static void describe_part(char name[500], const char *file, const char *more)
{
    (void)snprintf(name, 500,
                   "json:{\"driver\":\"raw\",\"offset\":1048576,%s\"file\":{\"filename\":\"%s\"}}",
                   more, file);
}

static void assert_name_refused(const char *name)
{
    const struct disk_job_wish wish = {.base = {.by_depth = true, .depth = 2},
                                       .backing_file = name};

    assert_refused(disk_stream(disk_vm.disk, &wish, &disk_vm_job_events), -EINVAL, "expected");
}

/* No path leads to it. */
START_TEST(an_image_that_is_a_part_of_a_file_keeps_its_name)
{
    struct block_create_options options = disk_vm_layouts[0];
    char file[300];
    char name[500];
    char other[500];

    (void)snprintf(file, sizeof(file), "%s", scratch_path("file"));
    scratch_ok("truncate -s 17M file");
    describe_part(name, file, "");
    options.backing_file = name;
    options.backing_format = BLOCK_FORMAT_RAW;
    disk_vm_make("a.qcow2", options);
    options.backing_file = "a.qcow2";
    options.backing_format = BLOCK_FORMAT_QCOW2;
    disk_vm_make("b.qcow2", options);
    disk_vm_open("b.qcow2", BLOCK_FORMAT_QCOW2, false);
    disk_vm_start_load(LEN, false);
    assert_name_refused("file");
    describe_part(other, file, "\"size\":512,");
    assert_name_refused(other);
    describe_part(other, file, "\"backing\":null,");
    assert_name_refused(other);
    ck_assert_int_eq(disk_vm_stream(2), 0);
    disk_vm_assert_done();
    assert_calls("b.qcow2", name, "raw");
    disk_load_wait(disk_vm.load, 300);
    ck_assert_int_eq(disk_vm_commit(), 0);
    disk_vm_assert_done();
    ck_assert_int_eq(
        disk_snapshot_overlay(disk_vm.disk, scratch_path("c.qcow2"), disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -ENOENT);
    disk_load_wait(disk_vm.load, 300);
    disk_vm_end_and_check("b.qcow2", true);
}
END_TEST

/* ---- a commit that is ready ------------------------------------------------------------------ */

START_TEST(a_commit_waits_until_it_is_to_be_completed)
{
    const struct disk_job_wish all = {0};

    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    start_on_chain("disk.qcow2", true);
    ck_assert_int_eq(disk_commit(disk_vm.disk, &all, &disk_vm_job_events), 0);
    disk_vm_wait_begun();
    ck_assert_int_ge(block_job_get_state(disk_job(disk_vm.disk)), BLOCK_JOB_RUNNING);
    disk_vm_wait_ready();
    ck_assert_int_eq(block_job_get_state(disk_job(disk_vm.disk)), BLOCK_JOB_READY);
    disk_load_wait(disk_vm.load, 2000);
    ck_assert_uint_eq(disk_vm.ndone, 2);
    ck_assert_uint_eq(chain_len(), 3);
    set_flag(&disk_job(disk_vm.disk)->complete, true);
    check_after(1, "disk.qcow2");
    ck_assert_uint_eq(disk_vm.nready, 1);
}
END_TEST

START_TEST(a_commit_that_is_ready_is_cancelled)
{
    const struct disk_job_wish all = {0};

    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    start_on_chain("disk.qcow2", true);
    ck_assert_int_eq(disk_commit(disk_vm.disk, &all, &disk_vm_job_events), 0);
    disk_vm_wait_ready();
    set_flag(&disk_job(disk_vm.disk)->paused, true);
    set_flag(&disk_job(disk_vm.disk)->cancelled, true);
    ck_assert_int_eq(disk_vm_wait(), -ECANCELED);
    ck_assert_uint_eq(chain_len(), 3);

    /* Or it ends, and the disk stays. */
    ck_assert_int_eq(disk_commit(disk_vm.disk, &all, &disk_vm_job_events), 0);
    disk_vm_wait_ready();
    set_flag(&disk_job(disk_vm.disk)->stay, true);
    set_flag(&disk_job(disk_vm.disk)->complete, true);
    check_after(3, "o1.qcow2");
}
END_TEST

START_TEST(a_disk_that_is_closed_ends_a_job_that_is_ready)
{
    const struct disk_job_wish all = {0};

    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    start_on_chain("disk.qcow2", true);
    ck_assert_int_eq(disk_commit(disk_vm.disk, &all, &disk_vm_job_events), 0);
    disk_vm_wait_ready();
    disk_vm_end_and_check("o1.qcow2", true);
    ck_assert_int_eq(disk_vm.result, -ECANCELED);
}
END_TEST

/* ---- images of different lengths ------------------------------------------------------------- */

static void change(struct block *block, enum block_op op, uint64_t off, uint64_t len, uint8_t value)
{
    static uint8_t data[DISK_VM_LEN];
    struct iovec iov = {data, len};
    struct block_req req = {.op = op, .off = off, .len = len, .iov = &iov, .niov = 1};

    if (op == BLOCK_WRITE_ZEROES)
        req.flags = BLOCK_REQ_UNMAP;
    memset(data, value, sizeof(data));
    ck_assert_int_eq(block_execute(block, &req), 0);
}

/* A chain whose middle is shorter: past its end the disk has zeroes, and the lowest has data. */
static void make_uneven_chain(bool raw)
{
    struct block_create_options options = {.len = DISK_VM_LEN,
                                           .format = raw ? BLOCK_FORMAT_RAW : BLOCK_FORMAT_QCOW2};
    const uint64_t lens[] = {6 * MIB + 512, DISK_VM_LEN};
    struct err err = {0};
    struct block *block;
    char below[300];

    (void)snprintf(below, sizeof(below), "%s", scratch_path("disk"));
    options.path = below;
    ck_assert_msg(block_create(&options, &err) == 0, "%s", err.msg);
    block = image_open("disk", options.format, false);
    change(block, BLOCK_WRITE, 0, DISK_VM_LEN, 0x5a);
    ck_assert_int_eq(block_close(block), 0);
    for (unsigned i = 0; i < 2; i++) {
        char name[16];

        disk_vm_overlay_name(i, name);
        options.backing_file = i == 0 ? "disk" : "o0.qcow2";
        options.backing_format = i == 0 ? options.format : BLOCK_FORMAT_QCOW2;
        options.format = BLOCK_FORMAT_QCOW2;
        options.path = scratch_path(name);
        options.len = lens[i];
        ck_assert_msg(block_create(&options, &err) == 0, "%s", err.msg);
    }
}

static void check_uneven(const char *name)
{
    static uint8_t data[DISK_VM_LEN];

    disk_vm_close();
    memset(data, 0x5a, 6 * MIB + 512);
    image_assert_sound(name);
    image_assert_file_shows(name, data, DISK_VM_LEN);
}

START_TEST(zeroes_past_a_shorter_image_stay_zeroes_when_streamed)
{
    make_uneven_chain(_i);
    disk_vm_open("o1.qcow2", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(disk_vm_stream(2), 0);
    disk_vm_assert_done();
    check_uneven("o1.qcow2");
}
END_TEST

/* So a job that drops that image need not look again at what a guest does behind it. */
START_TEST(what_is_zeroed_past_a_shorter_image_is_zero_without_it)
{
    static uint8_t data[DISK_VM_LEN];
    struct err err = {0};
    struct block *block;

    make_uneven_chain(_i);
    block = image_open("o1.qcow2", BLOCK_FORMAT_QCOW2, false);
    change(block, BLOCK_WRITE_ZEROES, DISK_VM_LEN / 2, DISK_VM_LEN / 2, 0);
    change(block, BLOCK_WRITE, 0, DISK_VM_LEN / 2, 0xc3);
    change(block, BLOCK_WRITE_ZEROES, 7 * MIB, MIB, 0);
    change(block, BLOCK_WRITE, 10 * MIB, MIB, 0xc3);
    change(block, BLOCK_DISCARD, 10 * MIB, MIB, 0);
    ck_assert_int_eq(block_change_backing(block, "disk", _i ? "raw" : "qcow2", &err), 0);
    ck_assert_int_eq(block_close(block), 0);
    memset(data, 0xc3, 7 * MIB);
    image_assert_sound("o1.qcow2");
    image_assert_file_shows("o1.qcow2", data, DISK_VM_LEN);
}
END_TEST

START_TEST(zeroes_past_a_shorter_image_stay_zeroes_when_committed)
{
    make_uneven_chain(0);
    disk_vm_open("o1.qcow2", BLOCK_FORMAT_QCOW2, false);
    assert_refused(disk_vm_commit_range(1, 2), -ENOTSUP, "is longer than");
    ck_assert_int_eq(disk_vm_commit_range(0, 2), 0);
    disk_vm_assert_done();
    check_uneven("disk");
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *ranges_case = tcase_create("ranges");

    disk_vm_add(
        suite, "stream",
        DISK_VM_TESTS(a_chain_is_streamed_under_load, what_is_above_a_base_is_streamed_under_load),
        DISK_VM_TESTS(a_raw_base_is_streamed_under_load, a_job_keeps_its_speed_and_can_be_cancelled,
                      a_disk_that_is_closed_ends_its_job,
                      what_has_no_backing_file_is_streamed_at_once));
    disk_vm_add(suite, "commit", DISK_VM_TESTS(an_overlay_is_committed_under_load),
                DISK_VM_TESTS(an_overlay_is_committed_to_a_raw_base_under_load,
                              an_overlay_of_a_huge_disk_is_committed_under_load,
                              a_base_is_opened_for_writing_and_becomes_longer,
                              what_cannot_be_is_refused_at_once,
                              a_commit_that_is_cancelled_can_be_done_again,
                              names_of_images_stay_as_they_are,
                              a_name_that_is_wished_for_has_to_lead_to_the_base,
                              an_image_that_is_a_part_of_a_file_keeps_its_name));
    disk_vm_add(suite, "ready", DISK_VM_TESTS(NULL),
                DISK_VM_TESTS(a_commit_waits_until_it_is_to_be_completed,
                              a_commit_that_is_ready_is_cancelled,
                              a_disk_that_is_closed_ends_a_job_that_is_ready,
                              zeroes_past_a_shorter_image_stay_zeroes_when_committed));
    tcase_add_checked_fixture(ranges_case, scratch_set_up, scratch_tear_down);
    tcase_set_timeout(ranges_case, 300);
    tcase_add_loop_test(ranges_case, any_range_is_committed_under_load, 0,
                        (int)(ARRAY_SIZE(ranges) * DISK_VM_LAYOUTS));
    tcase_add_loop_test(ranges_case, zeroes_past_a_shorter_image_stay_zeroes_when_streamed, 0, 2);
    tcase_add_loop_test(ranges_case, what_is_zeroed_past_a_shorter_image_is_zero_without_it, 0, 2);
    suite_add_tcase(suite, ranges_case);
}

UNIT_USES_THREADS;
UNIT_MAIN("disk_jobs", add_tests)
