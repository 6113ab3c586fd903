/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/vmm/disk_vm.h"

#include <stdlib.h>
#include <string.h>

#include "block/image.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/scratch.h"
#include "vmm/disk_ops.h"

struct disk_vm disk_vm;

const struct block_create_options disk_vm_layouts[DISK_VM_LAYOUTS] = {
    {.format = BLOCK_FORMAT_QCOW2},
    {.format = BLOCK_FORMAT_QCOW2, .cluster_size = 4096}, /* the L1 table grows, too */
    {.format = BLOCK_FORMAT_QCOW2, .cluster_size = 16384, .extended_l2 = true},
    {.format = BLOCK_FORMAT_QCOW2, .cluster_size = 512, .lazy_refcounts = true},
};

void disk_vm_make(const char *name, struct block_create_options options)
{
    struct err err = {0};

    options.path = scratch_path(name);
    options.len = DISK_VM_LEN;
    ck_assert_msg(block_create(&options, &err) == 0, "%s", err.msg);
}

void disk_vm_open(const char *name, enum block_format format, bool readonly)
{
    struct err err = {0};

    memset(&disk_vm, 0, sizeof(disk_vm));
    ck_assert_int_eq(loop_new(&disk_vm.main), 0);
    config_init(&disk_vm.config);
    config_disk_init(&disk_vm.disk_config);
    disk_vm.disk_config.path = strdup(scratch_path(name));
    disk_vm.disk_config.format = format;
    disk_vm.disk_config.readonly = readonly;
    disk_vm.disk_config.cache = BLOCK_CACHE_UNSAFE;
    disk_vm.config.disks = &disk_vm.disk_config;
    disk_vm.config.ndisks = 1;
    ck_assert_msg(
        disk_open(&disk_vm.config, 0, &disk_vm.files, disk_vm.main, &disk_vm.disk, &err) == 0, "%s",
        err.msg);
}

void disk_vm_close(void)
{
    struct err err = {0};

    ck_assert_msg(disk_close(disk_vm.disk, &err) == 0, "%s", err.msg);
    disk_free(disk_vm.disk);
    open_files_done(&disk_vm.files);
    config_disk_done(&disk_vm.disk_config);
    loop_free(disk_vm.main);
}

/* ---- the guest ------------------------------------------------------------------------------- */

void disk_vm_start_load(uint64_t max, bool reads_only)
{
    struct block_port *port = disk_port(disk_vm.disk);

    disk_vm.load = disk_load_new(port, DISK_VM_LEN, max, NULL, unit_seed());
    disk_vm.load->reads_only = reads_only;
    loop_call(port->loop, disk_load_start, disk_vm.load);
}

void disk_vm_grow_load(void *len)
{
    disk_vm.load->len = *(uint64_t *)len;
}

void disk_vm_check(const char *name, bool qcow2)
{
    const struct disk_load *load = disk_vm.load;

    if (qcow2) {
        image_assert_sound(name);
        image_assert_file_shows(name, load->model, load->len);
    } else {
        struct block *block = image_open(name, BLOCK_FORMAT_RAW, true);

        image_assert_shows(block, load->model, load->len);
        ck_assert_int_eq(block_close(block), 0);
    }
    if (qcow2 && scratch_has_qemu())
        image_assert_qemu_agrees(name, load->model, load->len);
}

void disk_vm_end_and_check(const char *name, bool qcow2)
{
    disk_load_end(disk_vm.load);
    disk_vm_close();
    disk_vm_check(name, qcow2);
    disk_load_free(disk_vm.load);
}

/* ---- operations ------------------------------------------------------------------------------ */

static void op_done(void *opaque, int result, const struct err *err)
{
    disk_vm.ndone++;
    disk_vm.result = result;
    disk_vm.err = *err;
    loop_stop(disk_vm.main);
}

const struct disk_done disk_vm_when_done = {.fn = op_done};

static void job_begun(void *opaque)
{
    disk_vm.nbegun++;
    loop_stop(disk_vm.main);
}

static void job_ready(void *opaque)
{
    ck_assert_uint_gt(disk_vm.nbegun, disk_vm.nready);
    disk_vm.nready++;
    loop_stop(disk_vm.main);
}

const struct disk_job_events disk_vm_job_events = {job_begun, job_ready, op_done, NULL};

static int commit(const struct disk_job_wish *wish)
{
    int r = disk_commit(disk_vm.disk, wish, &disk_vm_job_events);
    struct block_job *job = disk_job(disk_vm.disk);

    if (r == 0)
        block_job_let(job, &job->complete, true);
    return r;
}

int disk_vm_commit(void)
{
    return commit(&(struct disk_job_wish){0});
}

int disk_vm_commit_range(unsigned top, unsigned base)
{
    return commit(&(struct disk_job_wish){.top = {.by_depth = true, .depth = top},
                                          .base = {.by_depth = true, .depth = base}});
}

int disk_vm_stream(unsigned base)
{
    const struct disk_job_wish wish = {.base = {.by_depth = base > 0, .depth = base}};

    return disk_stream(disk_vm.disk, &wish, &disk_vm_job_events);
}

static void wait_for(const unsigned *n)
{
    const unsigned before = disk_vm.ndone;
    const unsigned old = *n;

    while (*n == old && disk_vm.ndone == before)
        ck_assert_int_eq(loop_run(disk_vm.main), 0);
    ck_assert_msg(disk_vm.ndone == before, "%s", disk_vm.err.msg);
}

void disk_vm_wait_begun(void)
{
    wait_for(&disk_vm.nbegun);
}

void disk_vm_wait_ready(void)
{
    wait_for(&disk_vm.nready);
}

int disk_vm_wait(void)
{
    const unsigned before = disk_vm.ndone;

    while (disk_vm.ndone == before)
        ck_assert_int_eq(loop_run(disk_vm.main), 0);
    ck_assert_uint_eq(disk_vm.ndone, before + 1);
    ck_assert_int_eq(disk_vm.result, disk_vm.err.code);
    return disk_vm.result;
}

void disk_vm_assert_done(void)
{
    ck_assert_msg(disk_vm_wait() == 0, "%s", disk_vm.err.msg);
}

void disk_vm_put_overlay(const char *name)
{
    ck_assert_int_eq(disk_snapshot_overlay(disk_vm.disk, scratch_path(name), disk_vm_when_done), 0);
    disk_vm_assert_done();
}

void disk_vm_overlay_name(unsigned i, char name[16])
{
    (void)snprintf(name, 16, "o%u.qcow2", i);
}

/* ---- tests ----------------------------------------------------------------------------------- */

void disk_vm_add(Suite *suite, const char *name, const TTest *const *each,
                 const TTest *const *alone)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, scratch_set_up, scratch_tear_down);
    tcase_set_timeout(tcase, 300);
    for (; *each; each++)
        tcase_add_loop_test(tcase, *each, 0, DISK_VM_LAYOUTS);
    for (; *alone; alone++)
        tcase_add_test(tcase, *alone);
    suite_add_tcase(suite, tcase);
}
