/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks through a tiny virtio-blk driver in the guest, down to the file on the host.
 */
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_mmio.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/bytes.h"
#include "memory/layout_x86.h"
#include "tests/lib/guest/guest_disk.h"
#include "tests/lib/guest/guest_test.h"
#include "vmm/config/config.h"

#define SECTORS 2048u
#define VECTOR 0x40u
#define PATTERN 0x1122334455667788ull
#define BUFFER GUEST_DISK_BUFFER

static struct guest guest;
static struct vm vm;

/* A raw file; sector i is filled with 64-bit numbers of value i. */
static const char *make_disk(const char *name)
{
    const char *path = scratch_path(name);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    uint64_t sector[BLOCK_SECTOR_SIZE / 8];

    ck_assert_int_ge(fd, 0);
    for (uint64_t i = 0; i < SECTORS; i++) {
        for (size_t k = 0; k < ARRAY_SIZE(sector); k++)
            sector[k] = htole64(i);
        ck_assert_int_eq(write(fd, sector, sizeof(sector)), sizeof(sector));
    }
    close(fd);
    return path;
}

/* The value that fills `sector` of a file. */
static uint64_t sector_of(const char *path, uint64_t sector)
{
    int fd = open(path, O_RDONLY);
    uint8_t data[BLOCK_SECTOR_SIZE];

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, data, sizeof(data), (off_t)(sector * sizeof(data))), sizeof(data));
    close(fd);
    ck_assert_mem_eq(data, data + 8, sizeof(data) - 8); /* all the same */
    return load_le64(data);
}

/* The first disk, and the guest's driver of it: up and running. */
static const char *path;
static struct guest_disk disk;

static void set_up(void)
{
    guest_init(&guest);
    path = make_disk("disk");
    guest_disk_init(&disk, &guest, 0);
}

static void tear_down(void)
{
    vm_done(&vm);
    guest_done(&guest);
}

static void run_with(const char *const args[])
{
    guest_power_off(&guest);
    guest_write_kernel(&guest, scratch_path("kernel"));
    assert_exit_code(&vm, vm_run(&vm, args), EXIT_POWER_OFF);
}

/* The first disk as an argument of --disk. */
static const char *with_options(const char *options)
{
    static char text[512];

    snprintf(text, sizeof(text), "%s,%s", path, options);
    return text;
}

/* Run the guest, which ends by powering off, with the first disk. */
static void run(const char *options)
{
    const char *const args[] = {"--kernel", scratch_path("kernel"), "--memory", GUEST_MEMORY,
                                "--disk",   with_options(options),  NULL};

    run_with(args);
}

START_TEST(written_sectors_reach_the_file_and_are_read_back)
{
    static const char *const options[] = {
        "format=raw",
        "format=raw,cache=none",
        "format=raw,cache=unsafe",
        "format=raw,aio=threads",
        "format=raw,queues=4",
        "format=raw,cache=none,aio=threads",
    };

    if (strstr(options[_i], "cache=none") && !vm_has_direct_io())
        return;
    guest_fill(&guest, BUFFER, PATTERN, 8192);
    guest_disk_request(&disk, VIRTIO_BLK_T_OUT, 100, BUFFER, 8192);
    guest_disk_put_status(&disk);
    guest_disk_request(&disk, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    guest_disk_put_status(&disk);
    guest_disk_request(&disk, VIRTIO_BLK_T_IN, 99, BUFFER + 0x10000, 1024);
    guest_disk_put_status(&disk);
    guest_op(&guest, GUEST_PUT, BUFFER + 0x10000 + 504, 16, 0);
    run(options[_i]);

    ck_assert_uint_eq(vm.out.len, 3 + 16);
    ck_assert_mem_eq(vm.out.data, "\0\0\0", 3);
    ck_assert_uint_eq(load_le64(vm.out.data + 3), 99);
    ck_assert_uint_eq(load_le64(vm.out.data + 11), PATTERN);
    ck_assert_uint_eq(sector_of(path, 99), 99);
    for (unsigned i = 100; i < 116; i++)
        ck_assert_uint_eq(sector_of(path, i), PATTERN);
    ck_assert_uint_eq(sector_of(path, 116), 116);
}
END_TEST

/*
 * Where KVM can do it, registers are memory, which can be read in any width, and an acknowledgement
 * ends in KVM, so that InterruptStatus does not change. What came to minivmm would read as zero.
 */
START_TEST(interrupts_are_served_inside_the_guest)
{
    guest_disk_request(&disk, VIRTIO_BLK_T_IN, 0, BUFFER, 512);
    guest_op(&guest, GUEST_LD8, disk.regs + VIRTIO_MMIO_MAGIC_VALUE, 0, 0);
    guest_op(&guest, GUEST_PUT_ACC, 1, 0, 0);
    guest_op(&guest, GUEST_ST32, disk.regs + VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING, 0);
    guest_op(&guest, GUEST_LD32, disk.regs + VIRTIO_MMIO_INTERRUPT_STATUS, 0, 0);
    guest_op(&guest, GUEST_PUT_ACC, 1, 0, 0);
    /* Other acknowledgements arrive, and a reset clears all. */
    guest_op(&guest, GUEST_ST32, disk.regs + VIRTIO_MMIO_INTERRUPT_ACK, 3, 0);
    guest_op(&guest, GUEST_LD32, disk.regs + VIRTIO_MMIO_INTERRUPT_STATUS, 0, 0);
    guest_op(&guest, GUEST_PUT_ACC, 1, 0, 0);
    guest_op(&guest, GUEST_ST32, disk.regs + VIRTIO_MMIO_STATUS, 0, 0);
    guest_op(&guest, GUEST_LD32, disk.regs + VIRTIO_MMIO_STATUS, 0, 0);
    guest_op(&guest, GUEST_PUT_ACC, 1, 0, 0);
    run("format=raw");
    ck_assert_uint_eq(vm.out.len, 4);
    ck_assert_mem_eq(vm.out.data, "v\1\0\0", 4);
}
END_TEST

/* In the child, or else the test is not made: exit status of minivmm that no run has. */
#define NOT_POSSIBLE 77

/* A file may not be written past sector 1000: as on a file system with a limit. */
static void limit_file_size(void)
{
    const rlim_t len = (rlim_t)1000 * BLOCK_SECTOR_SIZE;
    const struct rlimit limit = {len, len};

    if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
        _exit(NOT_POSSIBLE);
}

/* A sparse disk of 1 MiB on a file system with room for 64 KiB. */
static void make_small_file_system(void)
{
    int fd;

    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", scratch_path("small"), "tmpfs", 0, "size=64k") < 0)
        _exit(NOT_POSSIBLE);
    fd = open(scratch_path("small/disk"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)SECTORS * BLOCK_SECTOR_SIZE) < 0)
        _exit(NOT_POSSIBLE);
}

/*
 * Write 128 KiB where the host has no room, and 4 KiB before and after where it has: guest and user
 * are told of the first one, and the others succeed.
 */
static void run_out_of(const char *file, void (*in_child)(void), const char *reason,
                       const char *advice)
{
    char text[256];
    const char *const args[] = {
        "--kernel", scratch_path("kernel"), "--memory", GUEST_MEMORY, "--disk", text, NULL};
    const struct vm_setup setup = {.in_child = in_child};
    int code;

    snprintf(text, sizeof(text), "%s,format=raw,werror=report", scratch_path(file));
    guest_disk_request(&disk, VIRTIO_BLK_T_OUT, 0, BUFFER, 4096);
    guest_disk_put_status(&disk);
    guest_disk_request(&disk, VIRTIO_BLK_T_OUT, 1024, BUFFER, 128 << 10);
    guest_disk_put_status(&disk);
    guest_disk_request(&disk, VIRTIO_BLK_T_OUT, 0, BUFFER, 4096);
    guest_disk_put_status(&disk);
    guest_power_off(&guest);
    guest_write_kernel(&guest, scratch_path("kernel"));
    vm_start_with(&vm, args, &setup);
    code = vm_wait(&vm);
    if (code == NOT_POSSIBLE) {
        printf("not root: a file system without space is not tested\n");
        return;
    }
    assert_exit_code(&vm, code, EXIT_POWER_OFF);
    ck_assert_uint_eq(vm.out.len, 3);
    ck_assert_mem_eq(vm.out.data, "\0\1\0", 3);
    snprintf(text, sizeof(text), "disk vda (%s): write of 131072 bytes at 524288 failed: %s",
             scratch_path(file), reason);
    ck_assert_msg(strstr(vm_errors(&vm), text) != NULL, "%s", vm_errors(&vm));
    ck_assert_msg(strstr(vm_errors(&vm), advice) != NULL, "%s", vm_errors(&vm));
}

START_TEST(file_that_may_not_grow_is_told_with_the_disks_name)
{
    run_out_of("disk", limit_file_size, "File too large", "ulimit -f");
}
END_TEST

START_TEST(host_without_space_is_told_with_the_disks_name)
{
    scratch_ok("mkdir small");
    run_out_of("small/disk", make_small_file_system, "No space left on device",
               "free space on the host's file system");
}
END_TEST

START_TEST(read_only_disk_refuses_writes)
{
    guest_fill(&guest, BUFFER, PATTERN, 512);
    guest_disk_request(&disk, VIRTIO_BLK_T_OUT, 5, BUFFER, 512);
    guest_disk_put_status(&disk);
    guest_disk_request(&disk, VIRTIO_BLK_T_IN, 5, BUFFER, 512);
    guest_disk_put_status(&disk);
    run("format=raw,readonly=on");
    ck_assert_uint_eq(vm.out.len, 2);
    ck_assert_int_eq(vm.out.data[0], VIRTIO_BLK_S_IOERR);
    ck_assert_int_eq(vm.out.data[1], VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(sector_of(path, 5), 5);
}
END_TEST

START_TEST(requests_outside_the_disk_fail)
{
    static const uint64_t sectors[] = {SECTORS, SECTORS - 1, UINT64_MAX, UINT64_MAX >> 9};
    for (size_t i = 0; i < ARRAY_SIZE(sectors); i++) {
        guest_disk_request(&disk, VIRTIO_BLK_T_OUT, sectors[i], BUFFER, 1024);
        guest_disk_put_status(&disk);
    }
    run("format=raw");
    ck_assert_uint_eq(vm.out.len, ARRAY_SIZE(sectors));
    for (size_t i = 0; i < ARRAY_SIZE(sectors); i++)
        ck_assert_int_eq(vm.out.data[i], VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(sector_of(path, SECTORS - 1), SECTORS - 1);
}
END_TEST

START_TEST(disks_come_in_order_with_their_serial_numbers)
{
    const char *second_path = make_disk("second");
    struct guest_disk second;
    char second_disk[512];
    const char *const args[] = {"--kernel", scratch_path("kernel"),
                                "--memory", GUEST_MEMORY,
                                "--disk",   with_options("format=raw,serial=alpha"),
                                "--disk",   second_disk,
                                NULL};

    snprintf(second_disk, sizeof(second_disk), "%s,format=raw,serial=gamma", second_path);
    guest_disk_init(&second, &guest, 1);
    guest_disk_request(&disk, VIRTIO_BLK_T_GET_ID, 0, BUFFER, VIRTIO_BLK_ID_BYTES);
    guest_op(&guest, GUEST_PUT, BUFFER, 5, 0);
    /* A buffer for each: the sanitizer does not see the order that the guest makes. */
    guest_disk_request(&second, VIRTIO_BLK_T_GET_ID, 0, BUFFER + 512, VIRTIO_BLK_ID_BYTES);
    guest_op(&guest, GUEST_PUT, BUFFER + 512, 5, 0);
    guest_fill(&guest, BUFFER + 512, PATTERN, 512);
    guest_disk_request(&second, VIRTIO_BLK_T_OUT, 7, BUFFER + 512, 512);
    run_with(args);
    ck_assert_str_eq(vm.out.data, "alphagamma");
    ck_assert_uint_eq(sector_of(path, 7), 7);
    ck_assert_uint_eq(sector_of(second_path, 7), PATTERN);
}
END_TEST

START_TEST(completion_raises_the_disks_interrupt)
{
    guest_route_irq(&guest, disk.gsi, VECTOR);
    guest_disk_request(&disk, VIRTIO_BLK_T_IN, 0, BUFFER, 512);
    guest_op(&guest, GUEST_WAIT_IRQ, 1, 0, 0);
    guest_put_text(&guest, "interrupted");
    run("format=raw");
    ck_assert_str_eq(vm.out.data, "interrupted");
}
END_TEST

/* As many as there can be. Those that share a line are each heard, in turns. */
START_TEST(disks_that_share_a_line_are_both_heard)
{
    struct guest_disk second;
    const char *args[VM_ARGS_MAX] = {"--kernel", scratch_path("kernel"), "--memory", GUEST_MEMORY};
    size_t n = 4;

    for (unsigned i = 0; i < X86_VIRTIO_DEVICES_MAX; i++) {
        args[n++] = "--disk";
        args[n++] = with_options("format=raw,readonly=on");
    }
    guest_disk_init(&second, &guest, 3 * X86_VIRTIO_LINES);
    ck_assert_uint_eq(second.gsi, disk.gsi);
    guest_route_irq(&guest, disk.gsi, VECTOR);
    for (unsigned i = 0; i < 20; i++) {
        guest_disk_request(i % 2 == 0 ? &disk : &second, VIRTIO_BLK_T_IN, i, BUFFER, 512);
        guest_op(&guest, GUEST_WAIT_IRQ, i + 1, 0, 0);
        guest_op(&guest, GUEST_PUT, BUFFER, 1, 0);
    }
    run_with(args);
    ck_assert_uint_eq(vm.out.len, 20);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(vm.out.data[i], (char)i);
}
END_TEST

/* The first life writes and resets; the second finds the mark on the disk and powers off. */
START_TEST(disk_stays_open_across_a_restart)
{
    const char *const args[] = {"--kernel", scratch_path("kernel"),     "--memory",    GUEST_MEMORY,
                                "--disk",   with_options("format=raw"), "--on-reboot", "restart",
                                NULL};
    size_t decide;

    guest_disk_request(&disk, VIRTIO_BLK_T_IN, 3, BUFFER, 512);
    guest_op(&guest, GUEST_PUT, BUFFER, 1, 0);
    decide = guest_op(&guest, GUEST_GOTO_UNLESS, BUFFER, 3, 0);
    guest_fill(&guest, BUFFER, 'W', 512);
    guest_disk_request(&disk, VIRTIO_BLK_T_OUT, 3, BUFFER, 512);
    guest_reset_acpi(&guest);
    guest.ops[decide].c = guest.nops;

    run_with(args);
    ck_assert_uint_eq(vm.out.len, 2);
    ck_assert_int_eq(vm.out.data[0], 3);
    ck_assert_int_eq(vm.out.data[1], 'W');
    ck_assert_uint_eq(sector_of(path, 3), 'W');
}
END_TEST

/* What the guest wrote without a flush is safe all the same when it is ended from outside. */
START_TEST(unflushed_write_survives_power_off)
{
    guest_fill(&guest, BUFFER, PATTERN, 512);
    guest_disk_request(&disk, VIRTIO_BLK_T_OUT, 9, BUFFER, 512);
    run("format=raw");
    ck_assert_uint_eq(sector_of(path, 9), PATTERN);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("disk");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_loop_test(tcase, written_sectors_reach_the_file_and_are_read_back, 0, 6);
    tcase_add_test(tcase, file_that_may_not_grow_is_told_with_the_disks_name);
    tcase_add_test(tcase, host_without_space_is_told_with_the_disks_name);
    tcase_add_test(tcase, read_only_disk_refuses_writes);
    tcase_add_test(tcase, requests_outside_the_disk_fail);
    tcase_add_test(tcase, disks_come_in_order_with_their_serial_numbers);
    tcase_add_test(tcase, completion_raises_the_disks_interrupt);
    tcase_add_test(tcase, disks_that_share_a_line_are_both_heard);
    tcase_add_test(tcase, interrupts_are_served_inside_the_guest);
    tcase_add_test(tcase, disk_stays_open_across_a_restart);
    tcase_add_test(tcase, unflushed_write_survives_power_off);
    suite_add_tcase(suite, tcase);
}

GUEST_TEST_MAIN("guest disk", add_tests)
