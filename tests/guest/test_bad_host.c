/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host that does not give what is needed: no /dev/kvm, no permissions, no memory, no descriptors,
 * no io_uring, images that somebody else has open.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/virtio_blk.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/guest/guest_disk.h"
#include "tests/lib/guest/guest_test.h"
#include "tests/lib/guest/refusal.h"
#include "vmm/config/config.h"

/* Sanitizers need much more address space than a guest. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CAN_LIMIT_MEMORY false
#else
#define CAN_LIMIT_MEMORY true
#endif

#define NOBODY 65534
#define KERNEL "--kernel", "kernel"
#define DISK_LEN (1u << 20)
#define PATTERN 0x1122334455667788ull

/* ---- files ----------------------------------------------------------------------------------- */

/* Writes a sector, reads it back and prints it, with the status of each request. */
static void make_disk_guest(void)
{
    struct guest_disk disk;
    struct guest guest;

    guest_init(&guest);
    guest_disk_init(&disk, &guest, 0);
    guest_fill(&guest, GUEST_DISK_BUFFER, PATTERN, BLOCK_SECTOR_SIZE);
    guest_disk_request(&disk, VIRTIO_BLK_T_OUT, 3, GUEST_DISK_BUFFER, BLOCK_SECTOR_SIZE);
    guest_disk_put_status(&disk);
    guest_disk_request(&disk, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    guest_disk_put_status(&disk);
    guest_disk_request(&disk, VIRTIO_BLK_T_IN, 3, GUEST_DISK_BUFFER + 4096, BLOCK_SECTOR_SIZE);
    guest_disk_put_status(&disk);
    guest_op(&guest, GUEST_PUT, GUEST_DISK_BUFFER + 4096, 8, 0);
    guest_power_off(&guest);
    guest_write_kernel(&guest, "disk-kernel");
    guest_done(&guest);
}

static void make_files(void)
{
    const struct qcow2_image_options plain = {.refcount_order = 4, .size = DISK_LEN};
    static const uint8_t raw[DISK_LEN];
    struct mem_disk disk;
    struct guest guest;

    refusal_enter_folder();
    refusal_write_kernel();

    guest_init(&guest);
    guest_put_text(&guest, "running");
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
    guest_write_kernel(&guest, "halt");
    guest_done(&guest);
    make_disk_guest();

    refusal_write_file("disk.raw", raw, sizeof(raw));
    mem_disk_init(&disk, "disk");
    qcow2_image_make(&disk, &plain);
    mem_disk_save(&disk, "disk.qcow2");
    mem_disk_done(&disk);

    refusal_write_file("secret", raw, sizeof(raw));
    ck_assert_int_eq(chmod("secret", 0), 0);
    refusal_write_file("read-only", raw, sizeof(raw));
    ck_assert_int_eq(chmod("read-only", 0444), 0);
    refusal_write_file("config.json", "{}", 2);
}

/* ---- /dev/kvm and permissions ---------------------------------------------------------------- */

/* In the child: stop here where the test machine does not let us. */
static void need(bool done)
{
    if (!done)
        _exit(REFUSAL_SKIPPED);
}

static void become_nobody_of(gid_t group)
{
    if (geteuid() != 0)
        return; /* we are somebody without rights as it is */
    need(setgroups(0, NULL) == 0 && setgid(group) == 0 && setuid(NOBODY) == 0);
}

/* No rights but those of everybody. */
static void become_nobody(void)
{
    need(geteuid() == 0);
    become_nobody_of(NOBODY);
    need(access("/dev/kvm", R_OK | W_OK) < 0); /* some hosts let everybody use it */
}

/* No rights but to use KVM. */
static void become_kvm_user(void)
{
    struct stat st;

    need(stat("/dev/kvm", &st) == 0);
    become_nobody_of(st.st_gid);
    need(access("/dev/kvm", R_OK | W_OK) == 0);
}

static void own_mounts(void)
{
    need(unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
}

static void hide_dev(void)
{
    own_mounts();
    need(mount("none", "/dev", "tmpfs", 0, NULL) == 0);
}

static void put_null_on_kvm(void)
{
    own_mounts();
    need(mount("/dev/null", "/dev/kvm", NULL, MS_BIND, NULL) == 0);
}

static void put_file_on_kvm(void)
{
    own_mounts();
    need(mount("kernel", "/dev/kvm", NULL, MS_BIND, NULL) == 0);
}

static void limit_memory_to(rlim_t len)
{
    const struct rlimit limit = {.rlim_cur = len, .rlim_max = len};

    need(CAN_LIMIT_MEMORY && setrlimit(RLIMIT_AS, &limit) == 0);
}

static void have_no_room_for_a_guest(void)
{
    limit_memory_to(48 << 20);
}

static const struct refusal refusals[] = {
    {.args = {KERNEL},
     .code = EXIT_SETUP,
     .says = {"/dev/kvm", "no KVM on this machine"},
     .in_child = hide_dev},
    {.args = {KERNEL}, .code = EXIT_SETUP, .says = {"/dev/kvm"}, .in_child = put_null_on_kvm},
    {.args = {KERNEL}, .code = EXIT_SETUP, .says = {"/dev/kvm"}, .in_child = put_file_on_kvm},
    {.args = {KERNEL},
     .code = EXIT_SETUP,
     .says = {"/dev/kvm", "permission denied", "join the group"},
     .in_child = become_nobody},
    {.args = {"--kernel", "secret"},
     .code = EXIT_SETUP,
     .says = {"kernel: secret", "Permission denied"},
     .in_child = become_kvm_user},
    {.args = {KERNEL, "--initrd", "secret"},
     .code = EXIT_SETUP,
     .says = {"initrd: secret", "Permission denied"},
     .in_child = become_kvm_user},
    {.args = {"--config", "secret"},
     .code = EXIT_USAGE,
     .says = {"secret", "Permission denied"},
     .in_child = become_kvm_user},
    {.args = {KERNEL, "--disk", "secret,readonly=on"},
     .code = EXIT_SETUP,
     .says = {"disk vda: secret", "Permission denied"},
     .in_child = become_kvm_user},
    {.args = {KERNEL, "--disk", "read-only"},
     .code = EXIT_SETUP,
     .says = {"disk vda: read-only", "readonly=on"},
     .in_child = become_kvm_user},
    {.args = {KERNEL, "--serial", "file:secret"},
     .code = EXIT_SETUP,
     .says = {"secret", "Permission denied"},
     .in_child = become_kvm_user},
    {.args = {KERNEL, "--serial", "unix:/serial.sock"},
     .code = EXIT_SETUP,
     .says = {"/serial.sock", "Permission denied"},
     .in_child = become_kvm_user},
    {.args = {KERNEL, "--memory", "64M"},
     .code = EXIT_SETUP,
     .says = {"guest memory", "64 MiB", "Cannot allocate memory"},
     .in_child = have_no_room_for_a_guest},
};

START_TEST(what_the_host_refuses_is_named)
{
    refusal_check(&refusals[_i]);
}
END_TEST

START_TEST(file_that_cannot_be_written_is_taken_read_only)
{
    static const char *const args[] = {KERNEL, "--disk", "read-only,readonly=on", NULL};
    bool touched;
    struct vm vm;
    int code = refusal_run(&vm, args, become_kvm_user, &touched);

    if (code != REFUSAL_SKIPPED)
        assert_exit_code(&vm, code, EXIT_POWER_OFF);
    vm_done(&vm);
}
END_TEST

/* ---- limits ---------------------------------------------------------------------------------- */

/* It either works, or ends as any set-up that fails; in_child looks at limit_value. */
static rlim_t limit_value;

static void check_with_limit(void (*in_child)(void))
{
    static const char *const args[] = {
        "--kernel", "disk-kernel", "--memory", GUEST_MEMORY,           "--cpus", "2",
        "--disk",   "disk.qcow2",  "--disk",   "disk.raw,aio=threads", NULL};
    static const char *const says[REFUSAL_TEXTS_MAX] = {NULL};
    bool touched;
    struct vm vm;
    int code = refusal_run(&vm, args, in_child, &touched);

    ck_assert_msg(code == EXIT_POWER_OFF || code == EXIT_SETUP || code == REFUSAL_SKIPPED,
                  "limit %llu: %d; stderr: %s", (unsigned long long)limit_value, code,
                  vm.err.data ? vm.err.data : "");
    if (code == EXIT_SETUP)
        refusal_check_line(&vm, says);
    vm_done(&vm);
}

static void limit_descriptors(void)
{
    const struct rlimit limit = {.rlim_cur = limit_value, .rlim_max = limit_value};

    need(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

START_TEST(too_few_descriptors_are_reported)
{
    /* The dynamic linker needs some, too. */
    for (limit_value = 8; limit_value < 48; limit_value++)
        check_with_limit(limit_descriptors);
}
END_TEST

static void limit_memory(void)
{
    limit_memory_to(limit_value);
}

START_TEST(too_little_memory_is_reported)
{
    for (limit_value = 8 << 20; limit_value < 96 << 20; limit_value += 704 << 10)
        check_with_limit(limit_memory);
}
END_TEST

/* ---- io_uring -------------------------------------------------------------------------------- */

static int uring_error;

static void forbid_uring(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)uring_error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = ARRAY_SIZE(filter), .filter = filter};

    need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

/* As containers and sysctls refuse it, and kernels without it. */
static const int uring_errors[] = {EPERM, ENOSYS};

START_TEST(io_uring_that_was_asked_for_and_is_forbidden_is_reported)
{
    const struct refusal refusal = {
        .args = {KERNEL, "--disk", "disk.raw,aio=io_uring"},
        .code = EXIT_SETUP,
        .says = {"disk vda: ", "aio=io_uring", "expected", "threads"},
        .in_child = forbid_uring,
    };

    uring_error = uring_errors[_i];
    refusal_check(&refusal);
}
END_TEST

START_TEST(without_io_uring_threads_do_the_work)
{
    static const char *const disks[] = {"disk.raw", "disk.qcow2"};
    const char *const args[] = {"--kernel", "disk-kernel", "--disk", disks[_i % 2], NULL};
    uint8_t expected[3 + 8] = {VIRTIO_BLK_S_OK, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_OK};
    bool touched;
    struct vm vm;
    int code;

    uring_error = uring_errors[_i / 2];
    code = refusal_run(&vm, args, forbid_uring, &touched);
    if (code != REFUSAL_SKIPPED) {
        assert_exit_code(&vm, code, EXIT_POWER_OFF);
        store_le64(expected + 3, PATTERN);
        ck_assert_uint_eq(vm.out.len, sizeof(expected));
        ck_assert_mem_eq(vm.out.data, expected, sizeof(expected));
        ck_assert_uint_eq(vm.err.len, 0);
    }
    vm_done(&vm);
}
END_TEST

/* ---- locks ----------------------------------------------------------------------------------- */

static const struct lock_case {
    const char *held;  /* argument of --disk */
    const char *asked; /* another one */
    bool refused;
} lock_cases[] = {
    {"disk.qcow2", "disk.qcow2", true},
    {"disk.qcow2", "disk.qcow2,readonly=on", true},
    {"disk.qcow2,readonly=on", "disk.qcow2", true},
    {"disk.qcow2,readonly=on", "disk.qcow2,readonly=on", false},
    {"disk.raw", "disk.raw,format=raw", true},
    {"disk.raw,cache=none", "disk.raw,cache=unsafe", true},
    {"disk.raw,readonly=on", "disk.raw,readonly=on", false},
};

static void hold(struct vm *vm, const char *disk)
{
    const char *const args[] = {"--kernel", "halt", "--disk", disk, NULL};

    vm_start(vm, args);
    ck_assert_msg(vm_wait_output(vm, "running"), "%s", vm->err.data ? vm->err.data : "");
}

START_TEST(image_in_use_is_refused)
{
    const struct lock_case *c = &lock_cases[_i];
    const struct refusal refusal = {.args = {KERNEL, "--disk", c->asked},
                                    .code = EXIT_SETUP,
                                    .says = {"disk vda: disk.", "in use by process"}};
    struct vm holder, vm;

    if (strstr(c->held, "cache=none") && !vm_has_direct_io())
        return;
    hold(&holder, c->held);
    if (c->refused)
        refusal_check(&refusal);
    else
        ck_assert_int_eq(vm_run(&vm, refusal.args), EXIT_POWER_OFF);
    vm_done(&holder);
    if (!c->refused)
        vm_done(&vm);
}
END_TEST

/* Run a program quietly; its exit status, 127 if there is none. */
static int run_quietly(const char *const argv[])
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);

        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool have(const char *program)
{
    const char *const argv[] = {program, "--version", NULL};

    if (run_quietly(argv) == 0)
        return true;
    printf("%s: not found (Debian package qemu-utils): locks against it are not tested\n", program);
    return false;
}

START_TEST(qemu_img_refuses_an_image_in_use)
{
    static const char *const check[] = {"qemu-img", "check", "-f", "qcow2", "disk.qcow2", NULL};
    struct vm holder;

    if (!have("qemu-img"))
        return;
    hold(&holder, "disk.qcow2");
    ck_assert_int_ne(run_quietly(check), 0);
    vm_done(&holder);
    for (int i = 0; i < 100 && run_quietly(check) != 0; i++)
        usleep(50000); /* the kernel drops the locks of a killed process in the background */
    ck_assert_int_eq(run_quietly(check), 0);
}
END_TEST

START_TEST(image_that_qemu_has_open_is_refused)
{
    static const char *const argv[] = {"qemu-io", "-f", "qcow2", "disk.qcow2", NULL};
    const struct refusal refusal = {.args = {KERNEL, "--disk", "disk.qcow2"},
                                    .code = EXIT_SETUP,
                                    .says = {"disk vda: disk.qcow2", "in use by process"}};
    int in[2], out[2];
    char prompt[64];
    pid_t pid;

    if (!have("qemu-io"))
        return;
    ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    ck_assert_int_gt(read(out[0], prompt, sizeof(prompt)), 0); /* it has the image open now */
    refusal_check(&refusal);
    close(in[1]);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("bad host");

    tcase_add_unchecked_fixture(tcase, make_files, NULL);
    tcase_add_loop_test(tcase, what_the_host_refuses_is_named, 0, ARRAY_SIZE(refusals));
    tcase_add_test(tcase, file_that_cannot_be_written_is_taken_read_only);
    tcase_add_test(tcase, too_few_descriptors_are_reported);
    tcase_add_test(tcase, too_little_memory_is_reported);
    tcase_add_loop_test(tcase, io_uring_that_was_asked_for_and_is_forbidden_is_reported, 0,
                        ARRAY_SIZE(uring_errors));
    tcase_add_loop_test(tcase, without_io_uring_threads_do_the_work, 0,
                        2 * ARRAY_SIZE(uring_errors));
    tcase_add_loop_test(tcase, image_in_use_is_refused, 0, ARRAY_SIZE(lock_cases));
    tcase_add_test(tcase, qemu_img_refuses_an_image_in_use);
    tcase_add_test(tcase, image_that_qemu_has_open_is_refused);
    suite_add_tcase(suite, tcase);
}

GUEST_TEST_MAIN("guest bad host", add_tests)
