/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names are looked at before they are opened: what is refused does not notice.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file_host.h"
#include "base/host_path.h"
#include "boot/file.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"
#include "vmm/config/config_json.h"

/* ---- who opens a name ------------------------------------------------------------------------ */

static int open_disk(const char *name, struct err *err)
{
    const struct file_host_options options = {.writable = false};
    struct file *file;
    int r = file_host_open(name, &options, &file, err);

    if (r == 0)
        file_free(file);
    return r;
}

static int open_written_disk(const char *name, struct err *err)
{
    const struct file_host_options options = {.writable = true};
    struct file *file;
    int r = file_host_open(name, &options, &file, err);

    if (r == 0)
        file_free(file);
    return r;
}

static int make_disk(const char *name, struct err *err)
{
    const struct file_host_options options = {.writable = true};
    struct file *file;
    int r = file_host_create(name, &options, &file, err);

    if (r == 0)
        file_free(file);
    return r;
}

static int open_boot_file(const char *name, struct err *err)
{
    struct boot_file file;
    int r = boot_file_open(name, &file, err);

    if (r == 0)
        boot_file_close(&file);
    return r;
}

static int load_config(const char *name, struct err *err)
{
    struct config config;
    int r;

    config_init(&config);
    r = config_load_json(&config, name, err);
    config_done(&config);
    return r;
}

static int (*const openers[])(const char *name, struct err *err) = {
    open_disk, open_written_disk, make_disk, open_boot_file, load_config};

/* ---- what is no file ------------------------------------------------------------------------- */

static int bind_socket(const char *name)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strncpy(addr.sun_path, name, sizeof(addr.sun_path) - 1);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

enum { FIFO, SOCKET, FOLDER, DEVICE, KINDS };

/*
 * A file of that kind in the test's folder. NULL: not without root. The device is a node of its
 * own, which nobody else opens meanwhile.
 */
static const char *make_special(int kind)
{
    const char *name = scratch_path("special");

    switch (kind) {
    case FIFO:
        ck_assert_int_eq(mkfifo(name, 0600), 0);
        return name;
    case SOCKET:
        close(bind_socket(name));
        return name;
    case FOLDER:
        ck_assert_int_eq(mkdir(name, 0700), 0);
        return name;
    default:
        if (mknod(name, S_IFCHR | 0600, makedev(1, 5)) == 0) /* /dev/zero */
            return name;
        printf("not run: no device node: %s\n", strerror(errno));
        return NULL;
    }
}

START_TEST(what_is_no_file_is_refused_without_being_opened)
{
    const char *name = make_special(_i / (int)ARRAY_SIZE(openers));
    int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    struct inotify_event event;
    struct err err = {0};

    if (!name)
        return;
    ck_assert_int_ge(inotify_add_watch(watch, name, IN_OPEN), 0);
    ck_assert_int_lt(openers[_i % ARRAY_SIZE(openers)](name, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.msg, name));
    ck_assert_int_eq(read(watch, &event, sizeof(event)), -1);
    ck_assert_int_eq(errno, EAGAIN);
    close(watch);
}
END_TEST

START_TEST(messages_say_what_it_is)
{
    static const char *const words[KINDS] = {"a FIFO or pipe", "a socket", "a directory",
                                             "a character device"};
    const char *name = make_special(_i);
    struct err err;

    if (!name)
        return;
    ck_assert_int_eq(open_disk(name, &err), -EINVAL);
    ck_assert_msg(strstr(err.msg, words[_i]), "%s", err.msg);
    ck_assert_int_eq(open_boot_file(name, &err), -EINVAL);
    ck_assert_msg(strstr(err.msg, words[_i]), "%s", err.msg);
}
END_TEST

/* ---- files ----------------------------------------------------------------------------------- */

START_TEST(descriptors_have_names)
{
    char name[64];
    struct err err;
    int fd;

    scratch_save("file", "{}", 2);
    fd = open(scratch_path("file"), O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    snprintf(name, sizeof(name), _i ? "/dev/fd/%d" : "/proc/self/fd/%d", fd);
    ck_assert_int_eq(unlink(scratch_path("file")), 0);
    ck_assert_int_eq(open_written_disk(name, &err), 0);
    ck_assert_int_eq(open_boot_file(name, &err), 0);
    ck_assert_int_eq(load_config(name, &err), 0);
    close(fd);
}
END_TEST

/* The second step opens what the first one saw. */
START_TEST(name_that_changes_meanwhile_changes_nothing)
{
    struct host_path path;
    char text[8] = "";
    int fd;

    scratch_save("file", "before", 6);
    ck_assert_int_eq(host_path_find(scratch_path("file"), &path), 0);
    scratch_ok("mv file old; echo behind > file");
    fd = host_path_open(&path, O_RDONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(read(fd, text, 6), 6);
    ck_assert_str_eq(text, "before");
    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE), O_RDONLY);
    close(fd);
    host_path_done(&path);
}
END_TEST

/* A file whose name is gone, or leads elsewhere, is not opened by the name. */
static int use_without_proc(void)
{
    struct host_path path;
    struct err err;
    int fd;

    if (chroot(".") < 0)
        return UNIT_SKIP;
    if (host_path_find("file", &path) < 0)
        return 1;
    fd = host_path_open(&path, O_RDWR);
    if (fd < 0 || host_path_real(&path))
        return 2;
    if (rename("other", "file") < 0 || host_path_open(&path, O_RDONLY) != -ESTALE)
        return 3;
    return open_written_disk("file", &err) < 0 ? 4 : 0;
}

START_TEST(without_proc_the_name_is_used_again_if_it_is_the_same_file)
{
    int status;
    pid_t pid;

    scratch_save("file", "x", 1);
    scratch_save("other", "x", 1);
    ck_assert_int_eq(chdir(scratch_path(".")), 0);
    pid = fork();
    if (pid == 0)
        _exit(use_without_proc());
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    if (WEXITSTATUS(status) == UNIT_SKIP)
        printf("not run: needs root\n");
    else
        ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

/* ---- what cannot be written ------------------------------------------------------------------ */

static void assert_not_written(const char *name)
{
    struct err err = {0};

    ck_assert_int_lt(open_written_disk(name, &err), 0);
    ck_assert_msg(strstr(err.msg, "cannot be written: give readonly=on to only read it"), "%s",
                  err.msg);
    ck_assert_msg(open_disk(name, &err) == 0, "%s", err.msg);
}

START_TEST(file_without_permission_needs_readonly)
{
    bool is_root = geteuid() == 0;

    scratch_save("file", "x", 1);
    ck_assert_int_eq(chmod(scratch_path("file"), 0444), 0);
    scratch_ok("chmod 755 . ..");
    if (is_root)
        ck_assert_int_eq(seteuid(65534), 0); /* root may write it */
    assert_not_written(scratch_path("file"));
    if (is_root)
        ck_assert_int_eq(seteuid(0), 0);
}
END_TEST

/* A folder of its own for the test, mounted read-only where nobody else sees it. */
START_TEST(file_on_a_readonly_mount_needs_readonly)
{
    const char *folder = scratch_path("mount");

    scratch_ok("mkdir mount; echo x > mount/file");
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount(folder, folder, NULL, MS_BIND, NULL) < 0 ||
        mount(NULL, folder, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0) {
        printf("not run: a mount is needed: %s\n", strerror(errno));
        return;
    }
    assert_not_written(scratch_path("mount/file"));
    ck_assert_int_eq(umount(folder), 0);
}
END_TEST

START_TEST(readonly_device_needs_readonly)
{
    char device[64] = "";
    int fd;

    if (scratch_shell("truncate -s 1M disk; losetup -f -r --show disk > device 2> why") != 0) {
        printf("not run: no loop device\n");
        return;
    }
    (void)scratch_load("device", device, sizeof(device) - 1);
    device[strcspn(device, "\n")] = '\0';
    fd = open(device, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    scratch_ok("losetup -d %s", device); /* when it is not open any more, however the test ends */
    assert_not_written(device);
    close(fd);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *kinds = tcase_create("kinds");

    tcase_add_checked_fixture(kinds, scratch_set_up, scratch_tear_down);
    tcase_add_loop_test(kinds, what_is_no_file_is_refused_without_being_opened, 0,
                        KINDS * (int)ARRAY_SIZE(openers));
    tcase_add_loop_test(kinds, messages_say_what_it_is, 0, KINDS);
    tcase_add_loop_test(kinds, descriptors_have_names, 0, 2);
    suite_add_tcase(suite, kinds);
    unit_case_with(suite, "files", scratch_set_up, scratch_tear_down,
                   name_that_changes_meanwhile_changes_nothing,
                   without_proc_the_name_is_used_again_if_it_is_the_same_file,
                   file_without_permission_needs_readonly, file_on_a_readonly_mount_needs_readonly,
                   readonly_device_needs_readonly);
}

UNIT_MAIN("host_path", add_tests)
