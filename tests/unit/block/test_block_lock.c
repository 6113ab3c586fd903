/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images in files of the host: what is refused as one, and who else has it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "block/create.h"
#include "block/driver.h"
#include "block/stack.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

/* An image in a file; its path. */
static const char *make_image(void)
{
    const char *path = scratch_path("image");
    struct mem_disk disk;

    mem_disk_init(&disk, "image");
    qcow2_image_make(&disk, &(struct qcow2_image_options){.refcount_order = 4, .size = 1u << 20});
    mem_disk_save(&disk, path);
    mem_disk_done(&disk);
    return path;
}

static int open_host(const char *path, bool readonly, struct block **ret_block, struct err *err)
{
    struct block_options options = {.path = path, .readonly = readonly};

    *err = (struct err){0};
    return block_open(&options, ret_block, err);
}

START_TEST(directories_devices_and_fifos_are_refused)
{
    const char *fifo = scratch_path("fifo");
    struct block *block;
    struct err err;

    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    ck_assert_int_lt(open_host(fifo, true, &block, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.msg, fifo));
    ck_assert_int_lt(open_host(fifo, false, &block, &err), 0);
    ck_assert_int_lt(open_host(scratch_path("."), true, &block, &err), 0);
    ck_assert_int_lt(open_host("/dev/null", false, &block, &err), 0);
    ck_assert_int_eq(open_host("/nonexistent/disk", false, &block, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.msg, "/nonexistent/disk"));
}
END_TEST

START_TEST(image_open_for_writing_is_locked_and_readers_share)
{
    const char *path = make_image();
    struct block *one;
    struct block *two;
    struct err err;

    ck_assert_int_eq(open_host(path, false, &one, &err), 0);
    ck_assert_int_eq(open_host(path, false, &two, &err), -EAGAIN);
    ck_assert_ptr_nonnull(strstr(err.msg, path));
    ck_assert_ptr_nonnull(strstr(err.msg, "in use"));
    ck_assert_int_eq(open_host(path, true, &two, &err), -EAGAIN);
    ck_assert_int_eq(block_close(one), 0);

    ck_assert_int_eq(open_host(path, true, &one, &err), 0);
    ck_assert_int_eq(open_host(path, true, &two, &err), 0);
    ck_assert_int_eq(block_close(two), 0);
    ck_assert_int_eq(open_host(path, false, &two, &err), -EAGAIN);
    ck_assert_int_eq(block_close(one), 0);
}
END_TEST

static int lock_for_writing(const char *path)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 201, .l_len = 1};
    int fd = open(path, O_RDWR | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &lock), 0);
    return fd;
}

START_TEST(image_of_a_process_in_sight_is_refused_at_once)
{
    const char *path = make_image();
    uint64_t begun;
    struct block *block;
    char who[64];
    struct err err;
    pid_t child;

    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        (void)raise(lock_for_writing(path) < 0 ? SIGABRT : SIGSTOP);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, NULL, WUNTRACED), child);
    begun = monotonic_ns();
    ck_assert_int_eq(open_host(path, false, &block, &err), -EAGAIN);
    ck_assert_uint_lt(monotonic_ns() - begun, 400000000);
    (void)snprintf(who, sizeof(who), "in use by process %d (test_block_lock)", (int)child);
    ck_assert_msg(strstr(err.msg, who) != NULL, "%s", err.msg);
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
}
END_TEST

/* Put a descriptor where no process has it: under way between two sockets. */
static void send_away(int fd, int sockets[2])
{
    char control[CMSG_SPACE(sizeof(int))] = "";
    char byte = 0;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

    *cmsg = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    ck_assert_int_eq(sendmsg(sockets[0], &msg, 0), 1);
    close(fd);
}

/* As the locks of a process that was killed, which its io_uring keeps for a moment. */
START_TEST(locks_that_no_process_has_are_waited_for)
{
    const char *path = make_image();
    struct block *block;
    const struct timespec pause = {.tv_nsec = 50000000};
    int sockets[2];
    struct err err;
    pid_t child;

    send_away(lock_for_writing(path), sockets);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) { /* it has the sockets for a while, not what is between them */
        (void)nanosleep(&pause, NULL);
        _exit(0);
    }
    close(sockets[0]);
    close(sockets[1]);
    ck_assert_msg(open_host(path, false, &block, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_close(block), 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
}
END_TEST

START_TEST(image_in_use_can_be_looked_at_without_locks)
{
    const char *path = make_image();
    struct block_options options = {.path = path, .flags = BLOCK_OPEN_SHARE};
    uint8_t data[512];
    struct block *one;
    struct block *two;
    struct err err = {0};

    ck_assert_int_eq(open_host(path, false, &one, &err), 0);
    ck_assert_int_eq(block_open(&options, &two, &err), -EINVAL);
    options.readonly = true;
    ck_assert_msg(block_open(&options, &two, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(mem_block_read(two, 0, data, sizeof(data)), 0);
    ck_assert_int_eq(block_close(two), 0);
    /* The writer's lock is still there. */
    ck_assert_int_eq(open_host(path, true, &two, &err), -EAGAIN);
    ck_assert_int_eq(block_close(one), 0);
}
END_TEST

/* Others may have written to it since: what is known of its tables is not true any more. */
START_TEST(image_that_was_read_without_locks_is_not_written)
{
    const struct block_create_options overlay = {
        .path = scratch_path("overlay"),
        .format = BLOCK_FORMAT_QCOW2,
        .backing_file = "json:{\"driver\":\"qcow2\",\"force-share\":true,"
                        "\"file\":{\"filename\":\"image\"}}",
        .backing_format = BLOCK_FORMAT_QCOW2,
    };
    struct block *block;
    struct err err = {0};

    (void)make_image();
    ck_assert_int_eq(chdir(scratch_path(".")), 0); /* a description is about this folder */
    ck_assert_msg(block_create(&overlay, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(open_host(overlay.path, false, &block, &err), 0);
    ck_assert_int_eq(block_begin_writing(block_stack_at(block, 1), &err), -EAGAIN);
    ck_assert_msg(strstr(err.msg, "image: the image is open without a lock"), "%s", err.msg);
    ck_assert(!block_stack_at(block, 1)->writable);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(
        suite, "lock", scratch_set_up, scratch_tear_down, directories_devices_and_fifos_are_refused,
        image_open_for_writing_is_locked_and_readers_share,
        image_of_a_process_in_sight_is_refused_at_once, locks_that_no_process_has_are_waited_for,
        image_in_use_can_be_looked_at_without_locks,
        image_that_was_read_without_locks_is_not_written);
}

UNIT_MAIN("block_lock", add_tests)
