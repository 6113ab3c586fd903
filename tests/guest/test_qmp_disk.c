/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients change the disk of a guest that uses it.
 */
#include <linux/virtio_blk.h>
#include <linux/virtio_mmio.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/image.h"
#include "memory/layout_x86.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/guest/guest_disk.h"
#include "tests/lib/guest/guest_test.h"
#include "tests/lib/guest/qmp_client.h"
#include "vmm/config/config.h"

#define VECTOR 0x40u
#define BUFFER GUEST_DISK_BUFFER
#define PATTERN 0x5a5a5a5a5a5a5a5aull

static struct guest guest;
static struct guest_disk disk;
static struct vm vm;
static struct qmp_client client;

static void set_up(void)
{
    client.fd = -1;
    guest_init(&guest);
    (void)unlink(scratch_path("o.qcow2")); /* of the test before */
    (void)unlink(scratch_path("p.qcow2"));
}

static void tear_down(void)
{
    qmp_client_close(&client);
    vm_done(&vm);
    guest_done(&guest);
}

/* An image of 1 MiB, and a VM that has it, with more keys. */
static void start(const char *name, enum block_format format, const char *keys)
{
    const struct block_create_options image = {
        .path = scratch_path(name), .format = format, .len = MIB};
    char option[300];
    char address[300];
    const char *const args[] = {"--kernel", scratch_path("kernel"),
                                "--memory", GUEST_MEMORY,
                                "--qmp",    address,
                                "--disk",   option,
                                NULL};
    struct err err;

    ck_assert_int_eq(block_create(&image, &err), 0);
    (void)snprintf(address, sizeof(address), "unix:%s,server", scratch_path("qmp"));
    (void)snprintf(option, sizeof(option), "%s,%s", scratch_path(name), keys);
    guest_write_kernel(&guest, scratch_path("kernel"));
    vm_start(&vm, args);
    qmp_client_open(&client, scratch_path("qmp"));
    ck_assert(vm_wait_output(&vm, "ready"));
}

/* The guest waits for a byte, writes `value` to a sector, flushes, and says so. */
static void write_when_told(uint64_t sector, uint64_t value)
{
    guest_op(&guest, GUEST_WAIT_IN8, X86_PORT_COM1 + 5, 1, 0); /* line status: data ready */
    guest_op(&guest, GUEST_IN8, X86_PORT_COM1, 0, 0);
    guest_fill(&guest, BUFFER, value, 512);
    guest_disk_request(&disk, VIRTIO_BLK_T_OUT, sector, BUFFER, 512);
    guest_disk_request(&disk, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    guest_put_text(&guest, ".");
}

static void tell_and_wait(const char *output)
{
    vm_send(&vm, "x", 1);
    ck_assert(vm_wait_output(&vm, output));
}

static uint64_t first_word(struct block *block, uint64_t sector)
{
    uint64_t data[512 / sizeof(uint64_t)];
    struct iovec iov = {data, sizeof(data)};
    struct block_req req = {
        .op = BLOCK_READ, .off = sector * 512, .len = 512, .iov = &iov, .niov = 1};

    ck_assert_int_eq(block_execute(block, &req), 0);
    return data[0];
}

/* The guest is interrupted, sees the new capacity, and writes where nothing was. */
START_TEST(guest_sees_that_its_disk_is_longer)
{
    struct block *block;

    guest_disk_init(&disk, &guest, 0);
    guest_route_irq(&guest, disk.gsi, VECTOR);
    guest_put_text(&guest, "ready");
    guest_op(&guest, GUEST_WAIT_IRQ, 1, 0, 0);
    guest_op(&guest, GUEST_LD32, disk.regs + VIRTIO_MMIO_INTERRUPT_STATUS, 0, 0);
    guest_op(&guest, GUEST_PUT_ACC, 1, 0, 0);
    guest_op(&guest, GUEST_LD64, disk.regs + VIRTIO_MMIO_CONFIG, 0, 0);
    guest_op(&guest, GUEST_PUT_ACC, 8, 0, 0);
    guest_fill(&guest, BUFFER, PATTERN, 512);
    guest_disk_request(&disk, VIRTIO_BLK_T_OUT, 4095, BUFFER, 512);
    guest_disk_put_status(&disk);
    guest_power_off(&guest);
    start("a.qcow2", BLOCK_FORMAT_QCOW2, "format=qcow2");
    qmp_client_do(&client, "block_resize", "{\"device\":\"vda\",\"size\":2097152}");
    assert_exit_code(&vm, vm_wait(&vm), EXIT_POWER_OFF);
    ck_assert_uint_eq(vm.out.len, 5 + 1 + 8 + 1);
    ck_assert(vm.out.data[5] & VIRTIO_MMIO_INT_CONFIG);
    ck_assert_uint_eq(load_le64(vm.out.data + 6), 4096);
    ck_assert_uint_eq(vm.out.data[14], VIRTIO_BLK_S_OK);
    block = image_open("a.qcow2", BLOCK_FORMAT_QCOW2, true);
    ck_assert_uint_eq(first_word(block, 4095), PATTERN);
    ck_assert_int_eq(block_close(block), 0);
    image_assert_sound("a.qcow2");
}
END_TEST

/* Inside the image on top, as query-block tells. */
static size_t count_snapshots(void)
{
    json_t *disks = qmp_client_ask(&client, "query-block", NULL);
    const json_t *node = json_object_get(json_array_get(disks, 0), "inserted");
    size_t n = json_array_size(json_object_get(json_object_get(node, "image"), "snapshots"));

    json_decref(disks);
    return n;
}

START_TEST(guest_goes_on_in_an_overlay_which_is_streamed)
{
    struct block_details details;
    char arguments[400];
    struct block *block;

    guest_disk_init(&disk, &guest, 0);
    guest_put_text(&guest, "ready");
    for (unsigned i = 0; i < 3; i++)
        write_when_told(i, PATTERN + i);
    guest_power_off(&guest);
    start("a.raw", BLOCK_FORMAT_RAW, "format=raw");
    tell_and_wait("ready.");
    (void)snprintf(arguments, sizeof(arguments), "{\"device\":\"vda\",\"snapshot-file\":\"%s\"}",
                   scratch_path("o.qcow2"));
    qmp_client_do(&client, "blockdev-snapshot-sync", arguments);
    tell_and_wait("ready..");
    ck_assert_uint_eq(count_snapshots(), 0);
    for (unsigned i = 0; i < 2; i++)
        qmp_client_do(&client, "blockdev-snapshot-internal-sync",
                      i == 0 ? "{\"device\":\"vda\",\"name\":\"r\"}"
                             : "{\"device\":\"vda\",\"name\":\"s\"}");
    ck_assert_uint_eq(count_snapshots(), 2);
    qmp_client_do(&client, "blockdev-snapshot-delete-internal-sync",
                  "{\"device\":\"vda\",\"name\":\"r\"}");
    ck_assert_uint_eq(count_snapshots(), 1);
    qmp_client_do(&client, "block-stream", "{\"device\":\"vda\"}");
    json_decref(qmp_client_event(&client, "BLOCK_JOB_COMPLETED"));
    tell_and_wait("ready...");
    assert_exit_code(&vm, vm_wait(&vm), EXIT_POWER_OFF);

    block = image_open("a.raw", BLOCK_FORMAT_RAW, true);
    ck_assert_uint_eq(first_word(block, 0), PATTERN);
    ck_assert_uint_eq(first_word(block, 1), 0);
    ck_assert_int_eq(block_close(block), 0);
    block = image_open("o.qcow2", BLOCK_FORMAT_QCOW2, true);
    block_get_details(block, &details);
    ck_assert_ptr_null(details.backing_name);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_eq(first_word(block, i), PATTERN + i);
    ck_assert_int_eq(block_close(block), 0);
    image_assert_sound("o.qcow2");
}
END_TEST

/* ---- killed while the disk changes ----------------------------------------------------------- */

#define FLUSHED_WRITES 400u

/* Each write goes to a sector of its own, and is said to be done when it was flushed. */
static void write_and_flush_again_and_again(void)
{
    guest_put_text(&guest, "ready");
    for (unsigned i = 0; i < FLUSHED_WRITES; i++) {
        guest_fill(&guest, BUFFER, PATTERN + i, 512);
        guest_disk_request(&disk, VIRTIO_BLK_T_OUT, i, BUFFER, 512);
        guest_disk_request(&disk, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
        guest_put_text(&guest, ".");
    }
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
}

static unsigned count_flushed(void)
{
    unsigned n = 0;

    for (const char *c = vm.out.data; *c; c++)
        n += *c == '.';
    return n;
}

/* A crash may leave clusters that are counted and not used, and nothing else. */
static void check_counts(const char *name)
{
    struct block *block = image_open_with(name, (struct block_options){.format = BLOCK_FORMAT_QCOW2,
                                                                       .readonly = true,
                                                                       .flags = BLOCK_OPEN_CHECK});
    struct block_check_result result;
    struct err err;

    ck_assert_int_eq(block_check(block, 0, NULL, &result, &err), 0);
    ck_assert_uint_eq(result.corruptions, 0);
    ck_assert_int_eq(block_close(block), 0);
}

/* Whoever starts again uses the latest overlay that is there. */
static void check_flushed(unsigned nflushed)
{
    static const char *const names[] = {"p.qcow2", "o.qcow2", "a.qcow2"};
    struct block *block = NULL;
    const char *top = NULL;

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        if (access(scratch_path(names[i]), F_OK) < 0)
            continue;
        if (!top)
            top = names[i];
        check_counts(names[i]);
    }
    block = image_open(top, BLOCK_FORMAT_QCOW2, false);
    for (unsigned i = 0; i < nflushed; i++)
        ck_assert_msg(first_word(block, i) == PATTERN + i, "write %u of %u, in %s", i, nflushed,
                      top);
    ck_assert_int_eq(block_close(block), 0);
}

static const char *overlay_arguments(const char *name)
{
    static char arguments[400];

    (void)snprintf(arguments, sizeof(arguments), "{\"device\":\"vda\",\"snapshot-file\":\"%s\"}",
                   scratch_path(name));
    return arguments;
}

/* What is under way when the process is killed. */
static const struct change {
    const char *command;
    const char *arguments;
    unsigned noverlays; /* that are there before */
    bool completes;     /* it is ready before, and moves the disk */
} changes[] = {
    {"blockdev-snapshot-sync", NULL, 0, false},
    {"block-stream", "{\"device\":\"vda\"}", 1, false},
    {"block-stream", "{\"device\":\"vda\",\"base-node\":\"#vda.2\"}", 2, false},
    {"block-commit", "{\"device\":\"vda\",\"top-node\":\"#vda.1\"}", 2, false},
    {"block-commit", "{\"device\":\"vda\"}", 1, false},
    {"block-commit", "{\"device\":\"vda\"}", 2, true},
};

/* Nothing that was flushed is lost, whenever the process is killed. */
START_TEST(killed_while_its_disk_changes)
{
    const struct change *change = &changes[(unsigned)_i % ARRAY_SIZE(changes)];

    guest_disk_init(&disk, &guest, 0);
    write_and_flush_again_and_again();
    start("a.qcow2", BLOCK_FORMAT_QCOW2, "format=qcow2");
    ck_assert(vm_wait_output(&vm, "ready..."));
    for (unsigned i = 0; i < change->noverlays; i++)
        qmp_client_do(&client, "blockdev-snapshot-sync",
                      overlay_arguments(i == 0 ? "o.qcow2" : "p.qcow2"));
    if (change->completes) {
        qmp_client_do(&client, change->command, change->arguments);
        json_decref(qmp_client_event(&client, "BLOCK_JOB_READY"));
        qmp_client_begin(&client, "block-job-complete", "{\"device\":\"vda\"}");
    } else {
        qmp_client_begin(&client, change->command,
                         change->arguments ? change->arguments : overlay_arguments("o.qcow2"));
    }
    usleep((useconds_t)((unsigned)_i / ARRAY_SIZE(changes)) * 3000);
    kill(vm.pid, SIGKILL);
    assert_exit_code(&vm, vm_wait(&vm), -SIGKILL);
    check_flushed(count_flushed());
}
END_TEST

/* Limits that would hold a request for hours hold no pause, no change of limits, and no end. */
START_TEST(guest_that_waits_for_limits_is_let_go)
{
    const char *const limits = "{\"device\":\"vda\",\"bps\":%u,\"bps_rd\":0,\"bps_wr\":0,"
                               "\"iops\":0,\"iops_rd\":0,\"iops_wr\":0}";
    char arguments[200];

    guest_disk_init(&disk, &guest, 0);
    guest_put_text(&guest, "ready");
    for (unsigned i = 0; i < 4; i++)
        write_when_told(i, PATTERN);
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
    start("a.raw", BLOCK_FORMAT_RAW, "format=raw,bps=1");
    tell_and_wait("ready."); /* the first one comes through */
    vm_send(&vm, "x", 1);
    usleep(100000);
    ck_assert_str_eq(vm.out.data, "ready.");
    qmp_client_do(&client, "stop", NULL);
    qmp_client_do(&client, "cont", NULL);
    ck_assert(vm_wait_output(&vm, "ready.."));
    vm_send(&vm, "x", 1);
    (void)snprintf(arguments, sizeof(arguments), limits, 0u);
    qmp_client_do(&client, "block_set_io_throttle", arguments);
    ck_assert(vm_wait_output(&vm, "ready..."));
    (void)snprintf(arguments, sizeof(arguments), limits, 1u);
    qmp_client_do(&client, "block_set_io_throttle", arguments);
    tell_and_wait("ready....");
    qmp_client_do(&client, "quit", NULL);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("killed");

    unit_case_with(suite, "disk", set_up, tear_down, guest_sees_that_its_disk_is_longer,
                   guest_goes_on_in_an_overlay_which_is_streamed,
                   guest_that_waits_for_limits_is_let_go);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_loop_test(tcase, killed_while_its_disk_changes, 0, 60);
    suite_add_tcase(suite, tcase);
}

GUEST_TEST_MAIN("qmp_disk", add_tests)
