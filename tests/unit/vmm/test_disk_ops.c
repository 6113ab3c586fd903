/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on disks whose guests never rest, but for jobs (test_disk_jobs). Afterwards a disk
 * shows what was written, here and in QEMU's eyes, and its image is sound.
 */
#include "vmm/disk_ops.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/image.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"
#include "tests/lib/vmm/disk_vm.h"
#include "vmm/disk_image.h"

#define LEN DISK_VM_LEN
#define LEN_MAX (64u * MIB)

/* ---- resize ---------------------------------------------------------------------------------- */

#define NEXT_ONES 20u

static const struct disk_done when_one_is_done;

/* Ask for the next one, and leave its thread the time to begin. */
static void one_done(void *opaque, int result, const struct err *err)
{
    ck_assert_int_eq(result, 0);
    if (++disk_vm.ndone == NEXT_ONES) {
        loop_stop(disk_vm.main);
        return;
    }
    ck_assert_int_eq(disk_resize(disk_vm.disk, LEN + disk_vm.ndone * MIB, when_one_is_done), 0);
    usleep(2000);
}

static const struct disk_done when_one_is_done = {.fn = one_done};

START_TEST(each_operation_begins_once)
{
    disk_vm_make("disk.qcow2", (struct block_create_options){.format = BLOCK_FORMAT_QCOW2});
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(disk_resize(disk_vm.disk, LEN, when_one_is_done), 0);
    ck_assert_int_eq(loop_run(disk_vm.main), 0);
    ck_assert_uint_eq(disk_vm.ndone, NEXT_ONES);
    disk_vm_close();
}
END_TEST

static void grow_under_load(const char *name, bool qcow2)
{
    disk_vm_open(name, qcow2 ? BLOCK_FORMAT_QCOW2 : BLOCK_FORMAT_RAW, false);
    disk_vm_start_load(LEN_MAX, false);
    for (uint64_t len = LEN; len <= LEN_MAX; len += 4 * MIB) {
        disk_load_wait(disk_vm.load, 300);
        ck_assert_int_eq(disk_resize(disk_vm.disk, len, disk_vm_when_done), 0);
        disk_vm_assert_done();
        loop_call(disk_port(disk_vm.disk)->loop, disk_vm_grow_load, &len);
    }
    disk_load_wait(disk_vm.load, 300);
    disk_vm_end_and_check(name, qcow2);
}

START_TEST(a_raw_disk_grows_under_load)
{
    disk_vm_make("disk.raw", (struct block_create_options){.format = BLOCK_FORMAT_RAW});
    grow_under_load("disk.raw", false);
}
END_TEST

START_TEST(a_qcow2_disk_grows_under_load)
{
    disk_vm_make("disk.qcow2", disk_vm_layouts[_i]);
    grow_under_load("disk.qcow2", true);
}
END_TEST

START_TEST(a_disk_does_not_become_shorter)
{
    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    disk_vm_start_load(LEN, false);
    ck_assert_int_eq(disk_resize(disk_vm.disk, LEN - 512, disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -ENOTSUP);
    ck_assert_ptr_nonnull(
        strstr(disk_vm.err.msg, "has 16777216 bytes: 16776704: it only gets longer"));
    disk_vm_end_and_check("disk.qcow2", true);
}
END_TEST

START_TEST(what_cannot_grow_says_so_and_goes_on)
{
    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, true);
    disk_vm_start_load(LEN, true);
    ck_assert_int_eq(disk_resize(disk_vm.disk, 2 * LEN, disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -EROFS);
    ck_assert_ptr_nonnull(strstr(disk_vm.err.msg, "disk vda ("));
    ck_assert_ptr_nonnull(strstr(disk_vm.err.msg, ") is read-only"));
    disk_vm_end_and_check("disk.qcow2", true);

    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    disk_vm_start_load(LEN, false);
    ck_assert_int_eq(disk_resize(disk_vm.disk, UINT64_MAX, disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -EFBIG);
    disk_vm_end_and_check("disk.qcow2", true);
}
END_TEST

/* ---- what the disk may have shown ------------------------------------------------------------ */

#define UNITS (LEN / DISK_LOAD_UNIT)

/* The disk at a moment, but for what requests were changing. */
struct moment {
    uint8_t *model;
    unsigned versions[UNITS];
    bool busy[UNITS];
};

static void take_on_loop(void *opaque)
{
    struct moment *moment = opaque;

    memcpy(moment->model, disk_vm.load->model, LEN);
    memcpy(moment->versions, disk_vm.load->versions, sizeof(moment->versions));
    memcpy(moment->busy, disk_vm.load->busy, sizeof(moment->busy));
}

static void take_moment(struct moment *moment)
{
    moment->model = malloc(LEN);
    ck_assert_ptr_nonnull(moment->model);
    loop_call(disk_port(disk_vm.disk)->loop, take_on_loop, moment);
}

/*
 * The image shows the disk as it was between two moments: units that nothing changed meanwhile are
 * what they were.
 */
static void assert_between(struct block *block, struct moment *a, struct moment *b)
{
    uint8_t *data = malloc(LEN);

    ck_assert_ptr_nonnull(data);
    ck_assert_int_eq(mem_block_read(block, 0, data, LEN), 0);
    for (size_t i = 0; i < UNITS; i++) {
        const size_t at = i * DISK_LOAD_UNIT;

        if (a->busy[i] || b->busy[i] || a->versions[i] != b->versions[i])
            continue;
        ck_assert_msg(memcmp(a->model + at, data + at, DISK_LOAD_UNIT) == 0, "at %zu", at);
    }
    free(data);
    free(a->model);
    free(b->model);
}

/* ---- snapshots inside the image -------------------------------------------------------------- */

#define SNAPSHOTS 4u

static void assert_snapshot_between(const char *name, struct moment *a, struct moment *b)
{
    struct block *block = image_open("disk.qcow2", BLOCK_FORMAT_QCOW2, true);
    struct err err = {0};

    ck_assert_msg(block_snapshot_show(block, name, &err) == 0, "%s", err.msg);
    assert_between(block, a, b);
    ck_assert_int_eq(block_close(block), 0);
}

START_TEST(snapshots_are_taken_and_deleted_under_load)
{
    static struct moment before[SNAPSHOTS];
    static struct moment after[SNAPSHOTS];
    struct block_snapshot deleted;
    char name[8];

    disk_vm_make("disk.qcow2", disk_vm_layouts[_i]);
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    disk_vm_start_load(LEN, false);
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        disk_load_wait(disk_vm.load, 400);
        (void)snprintf(name, sizeof(name), "s%u", i);
        take_moment(&before[i]);
        ck_assert_int_eq(disk_snapshot_create(disk_vm.disk, name, disk_vm_when_done), 0);
        disk_vm_assert_done();
        take_moment(&after[i]);
    }
    disk_load_wait(disk_vm.load, 400);
    ck_assert_int_eq(disk_snapshot_delete(disk_vm.disk, "2", NULL, &deleted, disk_vm_when_done), 0);
    disk_vm_assert_done();
    ck_assert_str_eq(deleted.name, "s1");
    ck_assert_uint_eq(deleted.len, LEN);
    free(deleted.id);
    free(deleted.name);
    disk_load_wait(disk_vm.load, 400);
    disk_vm_end_and_check("disk.qcow2", true);
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        (void)snprintf(name, sizeof(name), "s%u", i);
        if (i == 1)
            continue;
        assert_snapshot_between(name, &before[i], &after[i]);
    }
}
END_TEST

START_TEST(snapshots_that_cannot_be_say_so)
{
    struct block_snapshot deleted;

    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    disk_vm_start_load(LEN, false);
    ck_assert_int_eq(disk_snapshot_create(disk_vm.disk, "2", disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), 0);
    ck_assert_int_eq(disk_snapshot_create(disk_vm.disk, "2", disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -EEXIST);
    ck_assert_int_eq(disk_snapshot_delete(disk_vm.disk, "1", "3", &deleted, disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -ENOENT);
    ck_assert_int_eq(disk_snapshot_create(disk_vm.disk, "b", disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), 0);
    ck_assert_int_eq(disk_snapshot_delete(disk_vm.disk, "2", NULL, &deleted, disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -EINVAL); /* the first one is called that */
    ck_assert_int_eq(disk_snapshot_delete(disk_vm.disk, "1", "2", &deleted, disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), 0);
    ck_assert_str_eq(deleted.id, "1");
    free(deleted.id);
    free(deleted.name);
    disk_vm_end_and_check("disk.qcow2", true);

    disk_vm_make("disk.raw", (struct block_create_options){.format = BLOCK_FORMAT_RAW});
    disk_vm_open("disk.raw", BLOCK_FORMAT_RAW, false);
    disk_vm_start_load(LEN, false);
    ck_assert_int_eq(disk_snapshot_create(disk_vm.disk, "a", disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -ENOTSUP);
    disk_vm_end_and_check("disk.raw", false);
}
END_TEST

/* ---- limits ---------------------------------------------------------------------------------- */

static sem_t host_answers;

static void wait_for_host(struct loop_work *work)
{
    while (sem_wait(&host_answers) < 0)
        ; /* EINTR */
}

/* The main thread serves all clients, and a host that hangs is no reason to keep it waiting. */
START_TEST(limits_do_not_wait_for_a_disk_that_hangs)
{
    struct loop_work work = {.run = wait_for_host};
    struct throttle_limits limits;

    ck_assert_int_eq(sem_init(&host_answers, 0, 0), 0);
    throttle_limits_init(&limits);
    limits.kinds[THROTTLE_IOPS].avg = 7;
    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    loop_post(disk_port(disk_vm.disk)->loop, &work);
    ck_assert_int_eq(disk_set_limits(disk_vm.disk, &limits, disk_vm_when_done), 0);
    limits.kinds[THROTTLE_IOPS].avg = 8;
    ck_assert_int_eq(disk_set_limits(disk_vm.disk, &limits, disk_vm_when_done), 0);
    ck_assert_uint_eq(disk_vm.ndone, 0);
    sem_post(&host_answers);
    while (disk_vm.ndone < 2)
        ck_assert_int_eq(loop_run(disk_vm.main), 0);
    ck_assert_int_eq(disk_vm.result, 0);
    ck_assert_uint_eq(disk_port(disk_vm.disk)->throttle.limits.kinds[THROTTLE_IOPS].avg, 8);
    disk_vm_close();
}
END_TEST

/* ---- overlays -------------------------------------------------------------------------------- */

#define OVERLAYS 4u

static void put_overlays(const char *base, bool qcow2)
{
    static struct moment before[OVERLAYS];
    static struct moment after[OVERLAYS];
    char name[16];

    disk_vm_open(base, qcow2 ? BLOCK_FORMAT_QCOW2 : BLOCK_FORMAT_RAW, false);
    disk_vm_start_load(LEN, false);
    for (unsigned i = 0; i < OVERLAYS; i++) {
        disk_load_wait(disk_vm.load, 400);
        disk_vm_overlay_name(i, name);
        take_moment(&before[i]);
        disk_vm_put_overlay(name);
        take_moment(&after[i]);
    }
    disk_load_wait(disk_vm.load, 400);
    disk_vm_end_and_check(name, true);
    for (unsigned i = 0; i < OVERLAYS; i++) {
        struct block *block;

        if (i > 0)
            disk_vm_overlay_name(i - 1, name);
        block = image_open(i > 0 ? name : base,
                           i > 0 || qcow2 ? BLOCK_FORMAT_QCOW2 : BLOCK_FORMAT_RAW, true);
        assert_between(block, &before[i], &after[i]);
        ck_assert_int_eq(block_close(block), 0);
        if (i > 0 || qcow2)
            image_assert_sound(i > 0 ? name : base);
    }
}

START_TEST(a_qcow2_disk_goes_on_in_overlays_under_load)
{
    disk_vm_make("disk.qcow2", disk_vm_layouts[_i]);
    put_overlays("disk.qcow2", true);
}
END_TEST

START_TEST(a_raw_disk_goes_on_in_overlays_under_load)
{
    disk_vm_make("disk.raw", (struct block_create_options){.format = BLOCK_FORMAT_RAW});
    put_overlays("disk.raw", false);
}
END_TEST

START_TEST(an_overlay_can_have_snapshots_and_become_longer)
{
    uint64_t len = LEN + 5 * MIB;

    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    disk_vm_start_load(LEN_MAX, false);
    disk_load_wait(disk_vm.load, 300);
    ck_assert_int_eq(
        disk_snapshot_overlay(disk_vm.disk, scratch_path("o.qcow2"), disk_vm_when_done), 0);
    ck_assert_int_eq(disk_snapshot_create(disk_vm.disk, "s", disk_vm_when_done), 0);
    ck_assert_int_eq(disk_resize(disk_vm.disk, len, disk_vm_when_done), 0);
    for (unsigned i = 0; i < 3; i++)
        disk_vm_assert_done();
    loop_call(disk_port(disk_vm.disk)->loop, disk_vm_grow_load, &len);
    disk_load_wait(disk_vm.load, 300);
    disk_vm_end_and_check("o.qcow2", true);
}
END_TEST

/* To QEMU they are none. */
static const char *const no_paths[] = {"json:{\"driver\":\"qcow2\"}", "nbd:localhost:10809",
                                       "file:o.qcow2", "nbd+unix:///disk?socket=s"};

/* Whatever is in the way, the guest goes on in the present image. */
START_TEST(an_overlay_that_cannot_be_says_so)
{
    char name[16];

    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    scratch_save("there", "x", 1);
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    disk_vm_start_load(LEN, false);
    ck_assert_int_eq(disk_snapshot_overlay(disk_vm.disk, scratch_path("there"), disk_vm_when_done),
                     0);
    ck_assert_int_eq(disk_vm_wait(), -EEXIST);
    ck_assert_int_eq(
        disk_snapshot_overlay(disk_vm.disk, scratch_path("disk.qcow2"), disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -EINVAL); /* its own backing file */
    ck_assert_int_eq(disk_snapshot_overlay(disk_vm.disk, "/nowhere/o.qcow2", disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -ENOENT);
    ck_assert_int_eq(access(scratch_path("there"), F_OK), 0);
    scratch_ok("ln -s target link");
    ck_assert_int_eq(disk_snapshot_overlay(disk_vm.disk, scratch_path("link"), disk_vm_when_done),
                     0);
    ck_assert_int_eq(disk_vm_wait(), -EEXIST);
    ck_assert_int_ne(access(scratch_path("target"), F_OK), 0);
    for (size_t i = 0; i < ARRAY_SIZE(no_paths); i++) {
        ck_assert_int_eq(disk_snapshot_overlay(disk_vm.disk, no_paths[i], disk_vm_when_done), 0);
        ck_assert_int_eq(disk_vm_wait(), -ENOTSUP);
        ck_assert_ptr_nonnull(strstr(disk_vm.err.msg, "a path is expected"));
        ck_assert_int_ne(access(no_paths[i], F_OK), 0);
    }
    ck_assert_uint_eq(disk_vm.files.n, 1);
    scratch_ok("mv disk.qcow2 moved.qcow2");
    ck_assert_int_eq(
        disk_snapshot_overlay(disk_vm.disk, scratch_path("o.qcow2"), disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -ENOENT);
    ck_assert_int_ne(access(scratch_path("o.qcow2"), F_OK), 0);
    scratch_ok("mv moved.qcow2 disk.qcow2");
    disk_vm_end_and_check("disk.qcow2", true);

    /* As many images as there may be on top of each other. */
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, true);
    ck_assert_int_eq(
        disk_snapshot_overlay(disk_vm.disk, scratch_path("o.qcow2"), disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -EROFS);
    disk_vm_close();
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    for (unsigned i = 1; i < BLOCK_CHAIN_MAX; i++) {
        disk_vm_overlay_name(i, name);
        disk_vm_put_overlay(name);
    }
    ck_assert_int_eq(
        disk_snapshot_overlay(disk_vm.disk, scratch_path("o.qcow2"), disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), -ELOOP);
    ck_assert_int_ne(access(scratch_path("o.qcow2"), F_OK), 0);
    disk_vm_close();
}
END_TEST

static void assert_named_after(const char *name)
{
    char label[512];

    (void)snprintf(label, sizeof(label), "disk vda (%s)", scratch_path(name));
    ck_assert_str_eq(disk_label(disk_vm.disk), label);
}

START_TEST(messages_name_the_image_that_is_written)
{
    const char *before;

    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    assert_named_after("disk.qcow2");
    before = disk_label(disk_vm.disk);
    disk_vm_put_overlay("o.qcow2");
    assert_named_after("o.qcow2");
    ck_assert_str_ne(before, disk_label(disk_vm.disk)); /* somebody may be about to print it */
    ck_assert_int_eq(disk_vm_commit(), 0);
    disk_vm_assert_done();
    assert_named_after("disk.qcow2");
    ck_assert_ptr_eq(disk_label(disk_vm.disk), before);
    disk_vm_close();
}
END_TEST

/* The present image is a backing file then: others may read it, and nobody may write it. */
START_TEST(the_image_below_an_overlay_can_be_read_by_others)
{
    struct open_file_use use = {.path = "x"};
    struct err err = {0};
    struct block *block;

    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    use.path = scratch_path("disk.qcow2");
    ck_assert_int_eq(open_files_add_path(&disk_vm.files, &use, &err), -EBUSY);
    ck_assert_int_eq(
        disk_snapshot_overlay(disk_vm.disk, scratch_path("o.qcow2"), disk_vm_when_done), 0);
    ck_assert_int_eq(disk_vm_wait(), 0);
    block = image_open("disk.qcow2", BLOCK_FORMAT_QCOW2, true);
    ck_assert_int_eq(block_close(block), 0);
    ck_assert_int_eq(open_files_add_path(&disk_vm.files, &use, &err), 0);
    use.path = scratch_path("o.qcow2");
    ck_assert_int_eq(open_files_check_path(&disk_vm.files, use.path, &err), -EBUSY);
    ck_assert_int_eq(open_files_add_path(&disk_vm.files, &use, &err), -EBUSY);
    ck_assert_int_lt(
        block_open(&(struct block_options){.path = scratch_path("disk.qcow2")}, &block, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.msg, "in use already, by this process"));
    disk_vm_close();
}
END_TEST

/* ---- which files are in use ------------------------------------------------------------------ */

/* May something that only reads the file use it as well? */
static int ask_to_read(const char *name)
{
    struct open_files files = disk_vm.files;
    const struct open_file_use use = {.path = scratch_path(name)};
    struct err err = {0};
    int r = open_files_add_path(&files, &use, &err);

    if (r == 0)
        files.n--;
    disk_vm.files = files;
    return r;
}

START_TEST(external_data_files_are_listed_as_their_images_are)
{
    disk_vm_make("disk.qcow2",
                 (struct block_create_options){.format = BLOCK_FORMAT_QCOW2, .data_file = "data"});
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    ck_assert_uint_eq(disk_vm.files.n, 2);
    ck_assert_int_eq(ask_to_read("data"), -EBUSY);
    for (unsigned i = 0; i < 2; i++) {
        disk_vm_put_overlay("o.qcow2");
        ck_assert_uint_eq(disk_vm.files.n, 3);
        ck_assert_int_eq(ask_to_read("data"), 0);
        ck_assert_int_eq(ask_to_read("disk.qcow2"), 0);
        ck_assert_int_eq(ask_to_read("o.qcow2"), -EBUSY);
        if (i > 0)
            continue;
        ck_assert_int_eq(disk_vm_commit(), 0);
        disk_vm_assert_done();
        ck_assert_uint_eq(disk_vm.files.n, 2);
        ck_assert_int_eq(ask_to_read("data"), -EBUSY);
        ck_assert_int_eq(ask_to_read("disk.qcow2"), -EBUSY);
        ck_assert_int_eq(ask_to_read("o.qcow2"), 0);
        scratch_ok("rm o.qcow2");
    }
    ck_assert_int_eq(disk_vm_stream(0), 0);
    disk_vm_assert_done();
    ck_assert_uint_eq(disk_vm.files.n, 1);
    ck_assert_int_eq(ask_to_read("o.qcow2"), -EBUSY);
    disk_vm_close();
}
END_TEST

/* What belongs to others stays theirs. */
START_TEST(an_image_that_is_refused_leaves_the_list_as_it_was)
{
    struct block_create_options overlay = disk_vm_layouts[0];
    const struct open_file_use kernel = {.path = scratch_path("disk.qcow2"), .writable = true};
    struct disk_image image = {.vm = &disk_vm.config, .files = &disk_vm.files};
    struct block *block;
    struct err err = {0};

    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    overlay.backing_file = "disk.qcow2";
    overlay.backing_format = BLOCK_FORMAT_QCOW2;
    disk_vm_make("o.qcow2", overlay);
    disk_vm_make("other.qcow2", disk_vm_layouts[0]);
    disk_vm_open("other.qcow2", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(open_files_add_path(&disk_vm.files, &kernel, &err), 0);
    image.overlay = scratch_path("disk.qcow2");
    ck_assert_int_eq(disk_image_open(&image, &block, &err), -EBUSY);
    free(disk_vm.disk_config.path);
    image.overlay = NULL;
    disk_vm.disk_config.path = strdup(scratch_path("o.qcow2"));
    ck_assert_int_eq(disk_image_open(&image, &block, &err), -EBUSY);
    ck_assert_uint_eq(disk_vm.files.n, 2);
    ck_assert_int_eq(ask_to_read("o.qcow2"), 0);
    ck_assert_int_eq(ask_to_read("disk.qcow2"), -EBUSY);
    disk_vm_close();
}
END_TEST

/* ---- asking ---------------------------------------------------------------------------------- */

START_TEST(operations_come_one_after_the_other)
{
    uint64_t len = LEN + 3 * MIB;

    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    disk_vm_start_load(LEN_MAX, false);
    for (uint64_t i = 1; i <= 3; i++)
        ck_assert_int_eq(disk_resize(disk_vm.disk, LEN + i * MIB, disk_vm_when_done), 0);
    ck_assert_int_eq(disk_resize(disk_vm.disk, LEN, disk_vm_when_done), 0); /* shorter by then */
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(disk_vm_wait(), 0);
    ck_assert_int_eq(disk_vm_wait(), -ENOTSUP);
    loop_call(disk_port(disk_vm.disk)->loop, disk_vm_grow_load, &len);
    disk_vm_end_and_check("disk.qcow2", true);
}
END_TEST

/* Whatever an operation has come to when the VM ends, it reports once. */
START_TEST(a_disk_is_closed_while_its_image_changes)
{
    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(
        disk_snapshot_overlay(disk_vm.disk, scratch_path("o.qcow2"), disk_vm_when_done), 0);
    (void)usleep((useconds_t)_i * 100);
    disk_vm_close();
    ck_assert_uint_eq(disk_vm.ndone, 1);
    ck_assert(disk_vm.result == 0 || disk_vm.result == -ECANCELED);
    ck_assert_int_eq(access(scratch_path("o.qcow2"), F_OK) == 0, disk_vm.result == 0);
    image_assert_sound("disk.qcow2");
    if (disk_vm.result == 0)
        image_assert_sound("o.qcow2");
}
END_TEST

START_TEST(operations_report_when_the_disk_is_closed)
{
    disk_vm_make("disk.qcow2", disk_vm_layouts[0]);
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    for (uint64_t i = 1; i <= 3; i++)
        ck_assert_int_eq(disk_resize(disk_vm.disk, LEN + i * MIB, disk_vm_when_done), 0);
    disk_vm_close();
    ck_assert_uint_eq(disk_vm.ndone, 3);
    ck_assert_int_eq(disk_vm.result, -ECANCELED);
    image_assert_sound("disk.qcow2");
}
END_TEST

/* A cancelled disk finishes the operation all the same: the image is sound, and closes. */
START_TEST(the_end_of_a_guest_waits_for_the_operation)
{
    disk_vm_make("disk.qcow2", disk_vm_layouts[1]);
    disk_vm_open("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(disk_resize(disk_vm.disk, LEN_MAX, disk_vm_when_done), 0);
    disk_cancel(disk_vm.disk);
    (void)disk_vm_wait();
    ck_assert_int_eq(disk_vm.result, 0);
    disk_vm_close();
    image_assert_sound("disk.qcow2");
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("closing");

    disk_vm_add(suite, "resize", DISK_VM_TESTS(a_qcow2_disk_grows_under_load),
                DISK_VM_TESTS(a_raw_disk_grows_under_load));
    disk_vm_add(suite, "snapshots",
                DISK_VM_TESTS(snapshots_are_taken_and_deleted_under_load,
                              a_qcow2_disk_goes_on_in_overlays_under_load),
                DISK_VM_TESTS(a_raw_disk_goes_on_in_overlays_under_load,
                              an_overlay_can_have_snapshots_and_become_longer));
    disk_vm_add(suite, "refused", DISK_VM_TESTS(NULL),
                DISK_VM_TESTS(a_disk_does_not_become_shorter, what_cannot_grow_says_so_and_goes_on,
                              snapshots_that_cannot_be_say_so, an_overlay_that_cannot_be_says_so));
    disk_vm_add(suite, "files", DISK_VM_TESTS(NULL),
                DISK_VM_TESTS(the_image_below_an_overlay_can_be_read_by_others,
                              messages_name_the_image_that_is_written,
                              external_data_files_are_listed_as_their_images_are,
                              an_image_that_is_refused_leaves_the_list_as_it_was));
    disk_vm_add(suite, "asking", DISK_VM_TESTS(NULL),
                DISK_VM_TESTS(limits_do_not_wait_for_a_disk_that_hangs,
                              operations_come_one_after_the_other, each_operation_begins_once,
                              operations_report_when_the_disk_is_closed,
                              the_end_of_a_guest_waits_for_the_operation));
    tcase_add_checked_fixture(tcase, scratch_set_up, scratch_tear_down);
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, a_disk_is_closed_while_its_image_changes, 0, 8);
    suite_add_tcase(suite, tcase);
}

UNIT_USES_THREADS;
UNIT_MAIN("disk_ops", add_tests)
