/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folders of the host with the host's own virtiofsd, where it is installed, and a driver that
 * speaks to it as Linux does.
 */
#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "devices/virtio/virtio_mmio.h"
#include "tests/lib/devices/virtio/virtio_driver.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"
#include "vmm/attached/share.h"
#include "vmm/attached/virtiofsd.h"

#define MEM_LEN (4 * MIB)
#define RING_GPA(queue) (0x10000ull * (1 + (queue)))
#define REQUEST_GPA (1 * MIB)
#define ANSWER_GPA (2 * MIB)
#define ANSWER_MAX 4096u
#define REQUESTS 1
#define TIMEOUT_MS 10000
#define VERSION_1 VIRTIO_FEATURE(VIRTIO_F_VERSION_1)

static struct config config;
static struct config_share shares[2];
static struct loop *loop;
static struct attachments attachments;
static struct guest_mem *mem;
static struct irq irq;
static struct virtio_mmio *mmio;
static struct driver_ring ring;
static struct err err;

static void set_up(void)
{
    const struct mem_range range = {.gpa = 0, .len = MEM_LEN};

    scratch_set_up();
    scratch_ok("mkdir -p folder && echo text >folder/file && chown 12:34 folder/file");
    config_init(&config);
    shares[0] = (struct config_share){.path = strdup(scratch_path("folder")), .tag = strdup("x")};
    config.shares = shares;
    config.nshares = 1;
    err = (struct err){0};
    ck_assert_int_eq(loop_new(&loop), 0);
    ck_assert_int_eq(guest_mem_new_shared(&range, 1, &mem, NULL), 0);
    ck_assert_int_eq(irq_init(&irq, 5), 0);
    attachments_init(&attachments, &config, NULL, loop);
}

static void tear_down(void)
{
    virtio_mmio_free(mmio);
    mmio = NULL;
    attachments_close(&attachments);
    irq_done(&irq);
    guest_mem_free(mem);
    loop_free(loop);
    for (size_t i = 0; i < config.nshares; i++)
        config_share_done(&shares[i]);
    config.nshares = 0;
    config.shares = NULL;
    config_done(&config);
    scratch_tear_down();
}

/* Attach the folder, and begin a guest. */
static void begin(void)
{
    struct attached *attached;
    struct virtio_dev *dev;

    ck_assert_msg(share_attach(&attachments, &err) == 0, "%s", err.msg);
    attached = attachments.list[0];
    ck_assert_msg(attached->ops->make_device(attached, mem, &dev, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(virtio_mmio_new(dev, &irq, &mmio), 0);
    ck_assert(driver_negotiate(mmio, VERSION_1));
    driver_ring_init(&ring, mem, RING_GPA(REQUESTS), 16, false);
    ck_assert(driver_setup_queue(mmio, REQUESTS, &ring));
    driver_set_driver_ok(mmio);
}

/* ---- requests -------------------------------------------------------------------------------- */

/* Send one with a body; the answer's error, with *ret_answer behind its header. */
static int ask(uint32_t opcode, uint64_t node, const void *body, size_t len,
               const void **ret_answer)
{
    static uint64_t unique;
    const struct fuse_in_header in = {
        .len = (uint32_t)(sizeof(in) + len),
        .opcode = opcode,
        .unique = ++unique,
        .nodeid = node,
    };
    const struct driver_buf bufs[] = {{REQUEST_GPA, in.len, false}, {ANSWER_GPA, ANSWER_MAX, true}};
    const struct fuse_out_header *out = driver_at(mem, ANSWER_GPA, ANSWER_MAX);
    struct vring_used_elem elem;

    memcpy(driver_at(mem, REQUEST_GPA, in.len), &in, sizeof(in));
    memcpy(driver_at(mem, REQUEST_GPA + sizeof(in), len), body, len);
    (void)driver_add(&ring, bufs, 2);
    (void)driver_show(&ring);
    driver_kick(mmio, REQUESTS);
    while (!driver_take(&ring, &elem))
        ck_assert_msg(driver_wait_irq(&irq, TIMEOUT_MS), "no interrupt");
    ck_assert_uint_ge(elem.len, sizeof(*out));
    ck_assert_uint_eq(out->unique, unique);
    *ret_answer = out + 1;
    return out->error;
}

static void init_session(void)
{
    const struct fuse_init_in in = {.major = FUSE_KERNEL_VERSION, .minor = 31};
    const void *answer;

    ck_assert_int_eq(ask(FUSE_INIT, 0, &in, sizeof(in), &answer), 0);
}

static int look_up(const char *name, struct fuse_entry_out *ret_entry)
{
    const void *answer;
    int r = ask(FUSE_LOOKUP, FUSE_ROOT_ID, name, strlen(name) + 1, &answer);

    if (r == 0)
        memcpy(ret_entry, answer, sizeof(*ret_entry));
    return r;
}

static int make_folder(const char *name)
{
    struct {
        struct fuse_mkdir_in in;
        char name[16];
    } body = {.in = {.mode = 0700}};
    const void *answer;

    (void)snprintf(body.name, sizeof(body.name), "%s", name);
    return ask(FUSE_MKDIR, FUSE_ROOT_ID, &body, sizeof(body.in) + strlen(name) + 1, &answer);
}

/* ---- tests ----------------------------------------------------------------------------------- */

START_TEST(a_folder_is_served_with_its_owners)
{
    struct fuse_entry_out entry;
    struct stat st;

    begin();
    init_session();
    ck_assert_int_eq(look_up("missing", &entry), -ENOENT);
    ck_assert_int_eq(look_up("file", &entry), 0);
    ck_assert_uint_eq(entry.attr.size, 5);
    ck_assert_uint_eq(entry.attr.uid, 12);
    ck_assert_uint_eq(entry.attr.gid, 34);
    ck_assert_int_eq(make_folder("new"), 0);
    ck_assert_int_eq(stat(scratch_path("folder/new"), &st), 0);
    ck_assert(S_ISDIR(st.st_mode));
}
END_TEST

START_TEST(a_readonly_folder_does_not_change)
{
    struct fuse_entry_out entry;

    shares[0].readonly = true;
    begin();
    init_session();
    ck_assert_int_eq(look_up("file", &entry), 0);
    ck_assert_int_eq(make_folder("new"), -EROFS);
}
END_TEST

START_TEST(commas_in_the_name_are_part_of_it)
{
    struct fuse_entry_out entry;

    scratch_ok("mkdir 'a,b\\c' && echo longer text >'a,b\\c/file'");
    free(shares[0].path);
    shares[0].path = strdup(scratch_path("a,b\\c"));
    begin();
    init_session();
    ck_assert_int_eq(look_up("file", &entry), 0);
    ck_assert_uint_eq(entry.attr.size, 12);
}
END_TEST

/* Which can do less. */
static bool has_only_the_old_program(void)
{
    return access("/usr/lib/qemu/virtiofsd", X_OK) == 0 &&
           access("/usr/libexec/virtiofsd", X_OK) < 0;
}

START_TEST(all_of_the_host_is_refused_where_the_program_cannot_do_it)
{
    if (!has_only_the_old_program())
        return;
    free(shares[0].path);
    shares[0].path = strdup("/../");
    ck_assert_int_eq(share_attach(&attachments, &err), -ENOTSUP);
    ck_assert_ptr_nonnull(strstr(err.msg, "root folder"));
}
END_TEST

START_TEST(what_is_no_folder_is_refused)
{
    ck_assert_int_eq(rename(scratch_path("folder/file"), scratch_path("file")), 0);
    free(shares[0].path);
    shares[0].path = strdup(scratch_path("file"));
    ck_assert_int_eq(share_attach(&attachments, &err), -ENOTDIR);
    ck_assert_ptr_nonnull(strstr(err.msg, "share x: "));
    ck_assert_ptr_nonnull(strstr(err.msg, "expected a folder"));
    free(shares[0].path);
    shares[0].path = strdup("/nowhere/at/all");
    ck_assert_int_eq(share_attach(&attachments, &err), -ENOENT);
    ck_assert_uint_eq(attachments.n, 0);
}
END_TEST

/* Where the program cannot refuse them by itself. */
START_TEST(mounts_below_a_readonly_folder_are_seen)
{
    const struct virtiofsd_options readonly = {.folder = scratch_path("folder"), .readonly = true};

    if (!has_only_the_old_program())
        return;
    ck_assert_int_eq(unshare(CLONE_NEWNS), 0); /* which ends with the test, and the mounts, too */
    scratch_ok("mkdir folder-2 'folder/a b' && mount --make-rprivate / && "
               "mount -t tmpfs none folder-2");
    ck_assert_int_eq(virtiofsd_check(&readonly, &err), 0);
    scratch_ok("mount -t tmpfs none 'folder/a b'");
    ck_assert_int_eq(virtiofsd_check(&readonly, &err), -ENOTSUP);
    ck_assert_ptr_nonnull(strstr(err.msg, "mounted below"));
    scratch_ok("umount 'folder/a b' folder-2");
}
END_TEST

/* Everything fails, nobody waits, and the next guest has the folder again. */
START_TEST(a_daemon_that_is_killed_is_noticed)
{
    struct fuse_entry_out entry;
    unsigned tries = 0;

    begin();
    init_session();
    scratch_ok("for pid in $(cat /proc/%d/task/*/children); do [ $pid = $$ ] || kill -9 $pid; done",
               getpid());
    while (look_up("file", &entry) != -EIO) {
        ck_assert_uint_lt(tries++, 1000);
        (void)poll(NULL, 0, 10);
    }
    ck_assert_int_eq(make_folder("new"), -EIO);
    virtio_mmio_free(mmio);
    mmio = NULL;
    while (attachments.n > 0)
        attachments.list[0]->ops->close(attachments.list[--attachments.n]);
    begin();
    init_session();
    ck_assert_int_eq(look_up("file", &entry), 0);
}
END_TEST

/* Stopped, it notices nothing by itself. Orphans become our children, so we learn of its end. */
START_TEST(a_daemon_that_hangs_ends_with_a_process_that_is_killed)
{
    pid_t vmm, daemon, ended = 0;
    char text[16];
    size_t len;

    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    vmm = fork();
    if (vmm == 0) {
        begin();
        init_session();
        scratch_ok("for pid in $(cat /proc/%d/task/*/children); do [ $pid = $$ ] || "
                   "{ kill -STOP $pid && echo $pid >daemon; }; done",
                   getpid());
        kill(getpid(), SIGKILL);
    }
    ck_assert_int_eq(waitpid(vmm, NULL, 0), vmm);
    len = scratch_load("daemon", text, sizeof(text) - 1);
    text[len] = '\0';
    daemon = atoi(text);
    ck_assert_int_gt(daemon, 0);
    for (unsigned i = 0; ended == 0 && i < 3000; i++) {
        (void)poll(NULL, 0, 10);
        ended = waitpid(daemon, NULL, WNOHANG);
    }
    if (ended == 0)
        (void)kill(daemon, SIGKILL); /* not to stay for ever */
    ck_assert_int_eq(ended, daemon);
}
END_TEST

START_TEST(what_helps_is_told)
{
    ck_assert_ptr_nonnull(strstr(virtiofsd_hint("setgroups() failed with error=1"), "uidmap"));
    ck_assert_ptr_nonnull(strstr(virtiofsd_hint("unshare: unshare failed: Operation not permitted"),
                                 "user namespaces"));
    ck_assert_ptr_nonnull(
        strstr(virtiofsd_hint("Try 'unshare --help' for more information."), "util-linux 2.38"));
    ck_assert_str_eq(virtiofsd_hint("anything else"), "");
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "share", set_up, tear_down, a_folder_is_served_with_its_owners,
                   a_readonly_folder_does_not_change, commas_in_the_name_are_part_of_it,
                   all_of_the_host_is_refused_where_the_program_cannot_do_it,
                   what_is_no_folder_is_refused, mounts_below_a_readonly_folder_are_seen,
                   a_daemon_that_is_killed_is_noticed,
                   a_daemon_that_hangs_ends_with_a_process_that_is_killed, what_helps_is_told);
}

UNIT_USES_THREADS;

/* It needs the rights that root has: namespaces, and files with other owners. */
int main(void)
{
    const struct virtiofsd_options any = {.folder = "/tmp"};

    if (virtiofsd_check(&any, NULL) < 0 || geteuid() != 0) {
        printf("no virtiofsd, or not root\n");
        return UNIT_SKIP;
    }
    return unit_main("share", add_tests);
}
