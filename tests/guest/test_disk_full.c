/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's file system is full: the guest is paused, and loses nothing. The image is on a tmpfs
 * of a few megabytes that only minivmm sees.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/bytes.h"
#include "memory/layout_x86.h"
#include "tests/lib/guest/guest_disk.h"
#include "tests/lib/guest/guest_test.h"
#include "tests/lib/guest/qmp_client.h"
#include "vmm/config/config.h"

#define SPACE "4m"
#define BALLAST_KIB 3200u /* which leaves less than what the guest writes */
#define WRITES 300u
#define WRITE_LEN 4096u
#define NOT_ALLOWED 77
#define READY "r"

static struct guest guest;
static struct vm vm;
static struct qmp_client client;

/* ---- a small file system --------------------------------------------------------------------- */

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return ok;
}

/* Mounts of its own; as an ordinary user, this takes a user namespace. */
static bool leave_namespaces(void)
{
    char map[64];
    uid_t uid = getuid();
    gid_t gid = getgid();

    if (unshare(CLONE_NEWNS) == 0)
        return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 || !write_text("/proc/self/setgroups", "deny"))
        return false;
    snprintf(map, sizeof(map), "0 %u 1", uid);
    if (!write_text("/proc/self/uid_map", map))
        return false;
    snprintf(map, sizeof(map), "0 %u 1", gid);
    return write_text("/proc/self/gid_map", map);
}

static void mount_small(void)
{
    const char *folder = scratch_path("small");
    char command[1024];

    if (!leave_namespaces() || mount("tmpfs", folder, "tmpfs", 0, "size=" SPACE) < 0)
        _exit(NOT_ALLOWED);
    snprintf(command, sizeof(command),
             "cd %s && qemu-img create -q -f qcow2 image 64M && head -c %uK /dev/zero >ballast",
             folder, BALLAST_KIB);
    if (system(command) != 0)
        _exit(NOT_ALLOWED);
}

/* Its path as the test sees it, through the namespace of the process. */
static const char *inside(const char *name)
{
    static char path[512];

    snprintf(path, sizeof(path), "/proc/%d/root%s/%s", (int)vm.pid, scratch_path("small"), name);
    return path;
}

static void free_space(void)
{
    ck_assert_msg(unlink(inside("ballast")) == 0, "%s", strerror(errno));
}

/* ---- the guest ------------------------------------------------------------------------------- */

/*
 * Each write has its number in all words; its status is printed. It begins when it is told to: then
 * a client is there for what happens.
 */
static void write_numbers(void)
{
    struct guest_disk disk;

    guest_init(&guest);
    guest_disk_init(&disk, &guest, 0);
    guest_put_text(&guest, READY);
    guest_op(&guest, GUEST_WAIT_IN8, X86_PORT_COM1 + 5, 1, 0); /* line status: data ready */
    for (unsigned i = 0; i < WRITES; i++) {
        guest_fill(&guest, GUEST_DISK_BUFFER, i, WRITE_LEN);
        guest_disk_request(&disk, VIRTIO_BLK_T_OUT, i * WRITE_LEN / 512, GUEST_DISK_BUFFER,
                           WRITE_LEN);
        guest_disk_put_status(&disk);
    }
    guest_disk_request(&disk, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    guest_put_text(&guest, "done");
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
}

/* False: no such file system can be had here, and the test is over. */
static bool start(bool with_socket, const char *options)
{
    const char *kernel = scratch_path("kernel"), *socket = scratch_path("qmp");
    const struct vm_setup setup = {.in_child = mount_small};
    char address[512], disk[512];
    /* Without a client, the time limit is what ends a guest. */
    const char *limit_s = with_socket ? "60" : "1";
    const char *args[] = {
        "--kernel",           kernel,  "--memory", GUEST_MEMORY, "--disk", disk,
        "--shutdown-timeout", limit_s, "--qmp",    address,      NULL,
    };

    snprintf(address, sizeof(address), "unix:%s", socket);
    snprintf(disk, sizeof(disk), "%s/image%s", scratch_path("small"), options);
    if (!with_socket)
        args[ARRAY_SIZE(args) - 3] = NULL;
    scratch_ok("mkdir small");
    write_numbers();
    guest_write_kernel(&guest, kernel);
    guest_done(&guest);
    vm_start_with(&vm, args, &setup);
    if (!vm_wait_output_len(&vm, 1)) {
        int code = vm_wait(&vm);

        ck_assert_msg(code == NOT_ALLOWED, "exit code %d; stderr: %s", code, vm_errors(&vm));
        printf("not tested: a full disk: this user may not mount a file system here\n");
        vm_done(&vm);
        return false;
    }
    if (with_socket)
        qmp_client_open(&client, socket);
    vm_send(&vm, "x", 1);
    return true;
}

static void check_written(void)
{
    static uint64_t words[WRITES * WRITE_LEN / 8];
    int fd;

    ck_assert_uint_eq(vm.out.len, strlen(READY) + WRITES + strlen("done"));
    for (unsigned i = 0; i < WRITES; i++)
        ck_assert_uint_eq(vm.out.data[strlen(READY) + i], VIRTIO_BLK_S_OK);
    scratch_ok("cp %s copy", inside("image"));
    scratch_ok("qemu-img check -q copy >check 2>&1; r=$?; [ $r = 0 ] || [ $r = 3 ]");
    scratch_ok("qemu-img convert -O raw copy raw");
    fd = open(scratch_path("raw"), O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(read(fd, words, sizeof(words)), sizeof(words));
    close(fd);
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        ck_assert_uint_eq(words[i], i * 8 / WRITE_LEN);
}

static void expect_status(const char *expected)
{
    char *status = qmp_client_text(&client, "query-status", "status");

    ck_assert_str_eq(status, expected);
    free(status);
}

static void expect_io_error(void)
{
    const char *device, *node, *operation, *action;
    int nospace;
    json_t *data = qmp_client_event(&client, "BLOCK_IO_ERROR");

    ck_assert_int_eq(json_unpack(data, "{s:s,s:s,s:s,s:s,s:b}", "device", &device, "node-name",
                                 &node, "operation", &operation, "action", &action, "nospace",
                                 &nospace),
                     0);
    ck_assert_str_eq(device, "vda");
    ck_assert_str_eq(node, "#vda");
    ck_assert_str_eq(operation, "write");
    ck_assert_str_eq(action, "stop");
    ck_assert(nospace);
    json_decref(data);
    json_decref(qmp_client_event(&client, "STOP"));
    expect_status("io-error");
}

/* NULL: there is none. */
static void expect_io_status(const char *status)
{
    json_t *disks = qmp_client_ask(&client, "query-block", NULL);
    const json_t *now = json_object_get(json_array_get(disks, 0), "io-status");

    ck_assert((now != NULL) == (status != NULL));
    if (status)
        ck_assert_str_eq(json_string_value(now), status);
    json_decref(disks);
}

START_TEST(guest_is_paused_and_loses_nothing)
{
    if (!start(true, ""))
        return;
    expect_io_error();
    ck_assert_msg(vm_wait_error(&vm, "`cont` lets it go on"), "stderr: %s", vm_errors(&vm));
    ck_assert(strstr(vm_errors(&vm), "No space left on device"));
    expect_io_status("nospace");
    qmp_client_do(&client, "cont", NULL); /* in vain */
    expect_io_error();
    free_space();
    qmp_client_do(&client, "cont", NULL);
    ck_assert_msg(vm_wait_output(&vm, "done"), "stderr: %s", vm_errors(&vm));
    expect_status("running");
    expect_io_status("ok");
    qmp_client_do(&client, "stop", NULL);
    check_written();
    qmp_client_do(&client, "quit", NULL);
    qmp_client_close(&client);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
    vm_done(&vm);
}
END_TEST

/* Without clients nobody else would let it go on. */
START_TEST(next_guest_is_not_paused_for_the_one_before)
{
    if (!start(true, ""))
        return;
    for (unsigned i = 0; i < 3; i++) {
        expect_io_error();
        qmp_client_do(&client, "system_reset", NULL);
        json_decref(qmp_client_event(&client, "RESET"));
        json_decref(qmp_client_event(&client, "RESUME"));
        vm_send(&vm, "x", 1); /* to the next guest */
    }
    /* What a client wants holds for the next guest, too. */
    expect_io_error();
    qmp_client_do(&client, "stop", NULL);
    qmp_client_do(&client, "system_reset", NULL);
    json_decref(qmp_client_event(&client, "RESET"));
    expect_status("paused");
    qmp_client_do(&client, "cont", NULL);
    vm_send(&vm, "x", 1);
    expect_io_error();
    qmp_client_do(&client, "quit", NULL);
    qmp_client_close(&client);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
    vm_done(&vm);
}
END_TEST

START_TEST(without_a_client_it_is_tried_again)
{
    if (!start(false, ""))
        return;
    ck_assert_msg(vm_wait_error(&vm, "tried again every"), "stderr: %s", vm_errors(&vm));
    free_space();
    ck_assert_msg(vm_wait_output(&vm, "done"), "stderr: %s", vm_errors(&vm));
    check_written();
    kill(vm.pid, SIGTERM);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
    vm_done(&vm);
}
END_TEST

static bool was_told_of_errors(void)
{
    return memchr(vm.out.data, VIRTIO_BLK_S_IOERR, vm.out.len) != NULL;
}

/* The user wants the end: the guest gets its chance, and its errors. */
START_TEST(guest_that_shall_end_is_told)
{
    if (!start(true, ""))
        return;
    expect_io_error();
    ck_assert(!was_told_of_errors());
    kill(vm.pid, SIGTERM);
    ck_assert_msg(vm_wait_output(&vm, "done"), "stderr: %s", vm_errors(&vm));
    ck_assert(was_told_of_errors());
    qmp_client_do(&client, "quit", NULL);
    qmp_client_close(&client);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
    vm_done(&vm);
}
END_TEST

START_TEST(guest_is_told_where_the_user_wants_that)
{
    if (!start(true, ",werror=report"))
        return;
    ck_assert_msg(vm_wait_output(&vm, "done"), "stderr: %s", vm_errors(&vm));
    ck_assert(was_told_of_errors());
    expect_status("running");
    expect_io_status(NULL);
    qmp_client_do(&client, "quit", NULL);
    qmp_client_close(&client);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
    vm_done(&vm);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "full disk", scratch_set_up, scratch_tear_down,
                   guest_is_paused_and_loses_nothing, next_guest_is_not_paused_for_the_one_before,
                   without_a_client_it_is_tried_again, guest_that_shall_end_is_told,
                   guest_is_told_where_the_user_wants_that);
}

GUEST_TEST_MAIN("guest disk full", add_tests)
