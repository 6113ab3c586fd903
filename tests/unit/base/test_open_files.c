/* SPDX-License-Identifier: Apache-2.0 */
#include "base/open_files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

static struct open_files files;
static struct err err;

static void set_up(void)
{
    scratch_set_up();
    memset(&files, 0, sizeof(files));
    memset(&err, 0, sizeof(err));
    umask(0);
}

static void tear_down(void)
{
    open_files_done(&files);
    scratch_tear_down();
}

static int add(const char *name, bool writable)
{
    struct open_file_use use = {
        .path = scratch_path(name), .writable = writable, .role = "disk vda"};

    return open_files_add_path(&files, &use, &err);
}

static off_t len_of(const char *name)
{
    struct stat st;

    ck_assert_int_eq(stat(scratch_path(name), &st), 0);
    return st.st_size;
}

static int open_output(const char *path)
{
    int fd = -1;
    int r = open_files_open_output(&files, path, &fd, &err);

    return r < 0 ? r : fd;
}

START_TEST(two_readers_share_a_file)
{
    scratch_save("disk", "1234", 4);
    ck_assert_int_eq(add("disk", false), 0);
    ck_assert_int_eq(add("disk", false), 0);
    ck_assert_int_eq(add("disk", true), -EBUSY);
}
END_TEST

START_TEST(a_writer_shares_with_nobody)
{
    scratch_save("disk", "1234", 4);
    scratch_save("other", "1234", 4);
    ck_assert_int_eq(add("disk", true), 0);
    ck_assert_int_eq(add("other", true), 0);
    ck_assert_int_eq(add("disk", false), -EBUSY);
    ck_assert_msg(strstr(err.msg, "disk: given twice: it is disk vda already, which may write"),
                  "%s", err.msg);
    ck_assert_int_eq(add("disk", true), -EBUSY);
    ck_assert_msg(strstr(err.msg, "readonly=on for both"), "%s", err.msg);
}
END_TEST

START_TEST(a_file_of_the_vm_is_not_emptied_under_any_name)
{
    static const char *const names[] = {"disk", "hard", "soft", "folder/../disk"};

    scratch_save("disk", "1234", 4);
    scratch_ok("mkdir folder && ln disk hard && ln -s disk soft");
    ck_assert_int_eq(add("disk", true), 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        ck_assert_int_eq(open_output(scratch_path(names[i])), -EBUSY);
        ck_assert_msg(strstr(err.msg, "disk vda of this VM"), "%s", err.msg);
        ck_assert_int_eq(open_files_check_path(&files, scratch_path(names[i]), &err), -EBUSY);
        ck_assert_int_eq(len_of("disk"), 4);
    }
}
END_TEST

START_TEST(a_file_of_the_vm_behind_a_descriptor_is_not_emptied)
{
    char path[64];
    int fd;

    scratch_save("disk", "1234", 4);
    ck_assert_int_eq(add("disk", true), 0);
    fd = open(scratch_path("disk"), O_RDWR);
    snprintf(path, sizeof(path), "/dev/fd/%d", fd);
    ck_assert_int_eq(open_output(path), -EBUSY);
    ck_assert_int_eq(open_files_check_fd(&files, fd, "standard output", &err), -EBUSY);
    ck_assert_int_eq(len_of("disk"), 4);
    close(fd);
}
END_TEST

/* Two names of a device, with inodes of their own; and a terminal of the same number. */
START_TEST(a_device_is_known_by_its_number)
{
    const dev_t number = makedev(7, 255);

    if (mknod(scratch_path("device"), S_IFBLK | 0600, number) < 0) {
        printf("not root: block devices are not tested\n");
        return;
    }
    ck_assert_int_eq(mknod(scratch_path("same"), S_IFBLK | 0600, number), 0);
    ck_assert_int_eq(mknod(scratch_path("other"), S_IFBLK | 0600, makedev(7, 254)), 0);
    ck_assert_int_eq(mknod(scratch_path("terminal"), S_IFCHR | 0600, number), 0);
    ck_assert_int_eq(add("device", true), 0);
    ck_assert_int_eq(open_files_check_path(&files, scratch_path("same"), &err), -EBUSY);
    ck_assert_int_eq(open_files_check_path(&files, scratch_path("other"), &err), 0);
    ck_assert_int_eq(open_files_check_path(&files, scratch_path("terminal"), &err), 0);
    ck_assert_int_eq(add("same", true), -EBUSY);
}
END_TEST

START_TEST(another_file_is_emptied_and_keeps_its_mode)
{
    struct stat st;
    int fd;

    scratch_save("log", "old text", 8);
    ck_assert_int_eq(chmod(scratch_path("log"), 0640), 0);
    ck_assert_int_eq(symlink("log", scratch_path("link")), 0);
    fd = open_output(scratch_path("link"));
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_int_eq(st.st_size, 0);
    ck_assert_int_eq(st.st_mode & 07777, 0640);
    close(fd);
}
END_TEST

START_TEST(a_new_file_is_its_owners_alone)
{
    struct stat st;
    int fd = open_output(scratch_path("log"));

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_int_eq(st.st_mode & 07777, 0600);
    close(fd);
}
END_TEST

START_TEST(a_folder_or_nothing_is_refused)
{
    scratch_ok("mkdir folder && mkfifo fifo");
    ck_assert_int_eq(open_output(scratch_path("fifo")), -ENXIO);
    ck_assert_msg(strstr(err.msg, "a FIFO that nobody reads"), "%s", err.msg);
    ck_assert_int_eq(open_output(scratch_path("folder")), -EISDIR);
    ck_assert_int_eq(open_output(scratch_path("folder/")), -EISDIR);
    ck_assert_int_eq(open_output(scratch_path("missing/log")), -ENOENT);
    ck_assert_msg(strstr(err.msg, "missing/log"), "%s", err.msg);
}
END_TEST

/* The link's owner and the folder's: in the folder of another user, whose link is ours? */
START_TEST(a_link_that_anybody_may_have_made_is_not_followed)
{
    static const struct {
        mode_t folder;
        bool foreign_folder;
        bool foreign_link;
        bool followed;
    } cases[] = {
        {01777, false, false, true}, {01777, false, true, false}, {01777, true, false, true},
        {01777, true, true, true},   {0777, false, false, false}, {0777, false, true, false},
        {0755, false, true, true},   {01755, false, true, true},
    };
    /* Where the link is, and how one gets to it. */
    static const char *const ways[][2] = {
        {"../log", "folder/link"},
        {"../log", "own"}, /* a link of ours to that one */
        {"../logs", "folder/link/../log"},
        {"../logs", "folder/link/log"},
    };

    if (geteuid() != 0) {
        printf("not root: links of other users are not tested\n");
        return;
    }
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t way = 0; way < sizeof(ways) / sizeof(ways[0]); way++) {
            int fd;

            scratch_ok("rm -rf folder logs own && mkdir folder logs && ln -s folder/link own");
            scratch_save("log", "old text", 8);
            ck_assert_int_eq(link(scratch_path("log"), scratch_path("logs/log")), 0);
            ck_assert_int_eq(symlink(ways[way][0], scratch_path("folder/link")), 0);
            ck_assert_int_eq(chmod(scratch_path("folder"), cases[i].folder), 0);
            if (cases[i].foreign_folder)
                ck_assert_int_eq(chown(scratch_path("folder"), 65534, 65534), 0);
            if (cases[i].foreign_link)
                ck_assert_int_eq(lchown(scratch_path("folder/link"), 65534, 65534), 0);
            fd = open_output(scratch_path(ways[way][1]));
            ck_assert_msg((fd >= 0) == cases[i].followed, "case %zu, way %zu: %d", i, way, fd);
            ck_assert_int_eq(len_of("log"), cases[i].followed ? 0 : 8);
            if (fd >= 0)
                close(fd);
            else
                ck_assert_msg(strstr(err.msg, "is not followed"), "%s", err.msg);
        }
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "given twice", set_up, tear_down, two_readers_share_a_file,
                   a_writer_shares_with_nobody);
    unit_case_with(
        suite, "output", set_up, tear_down, a_file_of_the_vm_is_not_emptied_under_any_name,
        a_file_of_the_vm_behind_a_descriptor_is_not_emptied, a_device_is_known_by_its_number,
        another_file_is_emptied_and_keeps_its_mode, a_new_file_is_its_owners_alone,
        a_folder_or_nothing_is_refused, a_link_that_anybody_may_have_made_is_not_followed);
}

UNIT_MAIN("open files", add_tests)
