/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that asks its disk for more than could be done in hours does not keep minivmm from
 * ending, nor its other vCPU from the device's registers.
 */
#include <linux/virtio_blk.h>
#include <linux/virtio_mmio.h>
#include <signal.h>
#include <string.h>

#include "base/bytes.h"
#include "devices/virtio/virtq.h"
#include "tests/lib/guest/guest_disk.h"
#include "tests/lib/guest/guest_test.h"
#include "vmm/config/config.h"

/* One chain: nearly 4 GiB, its buffers one and the same piece of memory. */
#define BUFFER_LEN (8u << 20)
#define BUFFERS 511u
#define DISK_GIB 4u

/* A discard or write-zeroes of the largest size that is taken. */
#define SEGMENT_SECTORS (1 * GIB / 512)

static struct guest guest;
static struct guest_disk disk;
static struct vm vm;

static const struct hog {
    const char *image; /* how it is made: an empty one, of DISK_GIB */
    const char *options;
    uint32_t type;
} hogs[] = {
    {"truncate image -s", "format=raw", VIRTIO_BLK_T_IN},
    {"truncate image -s", "format=raw,aio=threads", VIRTIO_BLK_T_IN},
    {"qemu-img create -q -f qcow2 image", "format=qcow2", VIRTIO_BLK_T_IN},
    {"qemu-img create -q -f qcow2 -o cluster_size=512 image", "format=qcow2",
     VIRTIO_BLK_T_WRITE_ZEROES},
    {"qemu-img create -q -f qcow2 -o cluster_size=512 image", "format=qcow2,discard=on",
     VIRTIO_BLK_T_DISCARD},
};

static void flood(const struct hog *hog)
{
    const uint32_t features = 1u << VIRTIO_BLK_F_FLUSH | 1u << VIRTIO_BLK_F_CONFIG_WCE;

    guest_init(&guest);
    guest_disk_init_with(&disk, &guest, 0, features, VIRTQ_SIZE_MAX);
    if (hog->type == VIRTIO_BLK_T_IN) {
        guest_disk_flood(&disk, hog->type, GUEST_DISK_BUFFER, BUFFER_LEN, BUFFERS);
    } else {
        guest_op(&guest, GUEST_ST64, GUEST_DISK_BUFFER, 0, 0);
        guest_op(&guest, GUEST_ST64, GUEST_DISK_BUFFER + 8, SEGMENT_SECTORS, 0);
        guest_disk_flood(&disk, hog->type, GUEST_DISK_BUFFER, 16, 1);
    }
}

static void start(const struct hog *hog)
{
    const char *kernel = scratch_path("kernel"), *image = scratch_path("image");
    char option[512];
    const char *const args[] = {"--kernel", kernel, "--memory",  GUEST_MEMORY,
                                "--disk",   option, "--no-acpi", NULL};

    scratch_ok("%s %uG", hog->image, DISK_GIB);
    snprintf(option, sizeof(option), "%s,%s", image, hog->options);
    guest_write_kernel(&guest, kernel);
    guest_done(&guest);
    vm_start(&vm, args);
}

/* Without a power button the first signal is the one that ends it at once. */
START_TEST(endless_requests_do_not_delay_the_end)
{
    flood(&hogs[_i]);
    guest_put_text(&guest, "asked");
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
    start(&hogs[_i]);
    ck_assert_msg(vm_wait_output(&vm, "asked"), "stderr: %s", vm_errors(&vm));
    kill(vm.pid, SIGTERM);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
    /* The requests that nobody wants any more are no news. */
    ck_assert_msg(!strstr(vm_errors(&vm), "virtio-blk"), "stderr: %s", vm_errors(&vm));
    vm_done(&vm);
}
END_TEST

/* The vCPU that resets the device waits for the requests; the end does not. */
START_TEST(reset_that_waits_does_not_delay_the_end)
{
    flood(&hogs[_i]);
    guest_put_text(&guest, "asked");
    guest_op(&guest, GUEST_ST32, disk.regs + VIRTIO_MMIO_STATUS, 0, 0);
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
    start(&hogs[_i]);
    ck_assert_msg(vm_wait_output(&vm, "asked"), "stderr: %s", vm_errors(&vm));
    kill(vm.pid, SIGTERM);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
    vm_done(&vm);
}
END_TEST

/* The guest leaves of its own accord, and its requests with it. */
START_TEST(guest_that_resets_leaves_no_requests_behind)
{
    flood(&hogs[_i]);
    guest_reset_i8042(&guest);
    start(&hogs[_i]);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_REBOOT);
    vm_done(&vm);
}
END_TEST

/* Turning the write cache off waits for the disk's thread to come round, not for the requests. */
START_TEST(configuration_is_served_meanwhile)
{
    const uint64_t wce = VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, wce);

    flood(&hogs[_i]);
    for (unsigned i = 0; i < 10; i++) {
        guest_op(&guest, GUEST_ST8, disk.regs + wce, 0, 0);
        guest_op(&guest, GUEST_ST8, disk.regs + wce, 1, 0);
    }
    guest_put_text(&guest, "served");
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
    start(&hogs[_i]);
    ck_assert_msg(vm_wait_output(&vm, "served"), "stderr: %s", vm_errors(&vm));
    kill(vm.pid, SIGTERM);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
    vm_done(&vm);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("hog");
    int n = ARRAY_SIZE(hogs);

    tcase_add_checked_fixture(tcase, scratch_set_up, scratch_tear_down);
    tcase_add_loop_test(tcase, endless_requests_do_not_delay_the_end, 0, n);
    tcase_add_loop_test(tcase, reset_that_waits_does_not_delay_the_end, 0, n);
    tcase_add_loop_test(tcase, guest_that_resets_leaves_no_requests_behind, 0, n);
    tcase_add_loop_test(tcase, configuration_is_served_meanwhile, 0, n);
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    return scratch_has_qemu() ? guest_test_main("guest hog", add_tests) : UNIT_SKIP;
}
