/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of new images, and what becomes of them when the power fails: the folder is synced after
 * every change of a name, and what the host answers to that is not ignored.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/file_host.h"
#include "base/folder.h"
#include "block/image.h"
#include "tests/lib/host_calls.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

static unsigned synced_there; /* syncs of the folder while the name was in it */
static unsigned synced_gone;

static bool exists(void)
{
    struct stat st;

    return lstat(scratch_path("image"), &st) == 0;
}

static void note_sync(int fd)
{
    struct stat folder;
    struct stat st;

    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_int_eq(stat(scratch_path("."), &folder), 0);
    if (st.st_ino != folder.st_ino || st.st_dev != folder.st_dev)
        return;
    if (exists())
        synced_there++;
    else
        synced_gone++;
}

static void setup(void)
{
    scratch_set_up();
    host_calls_reset();
    host_calls[HOST_FSYNC].hook = note_sync;
    synced_there = 0;
    synced_gone = 0;
}

static int create(struct err *err)
{
    const struct block_create_options options = {
        .path = scratch_path("image"), .format = BLOCK_FORMAT_QCOW2, .len = 1 << 20};

    return block_create(&options, err);
}

START_TEST(name_of_a_new_image_is_durable)
{
    struct err err = {0};

    ck_assert_msg(create(&err) == 0, "%s", err.msg);
    ck_assert_uint_eq(synced_there, 1);
    ck_assert_uint_eq(synced_gone, 0); /* before it is there that would be of no use */
    ck_assert_uint_eq(host_calls[HOST_SYNCFS].count, 0);
}
END_TEST

START_TEST(name_that_is_gone_is_durably_so)
{
    const struct file_host_options options = {.writable = true};
    struct err err = {0};
    struct file *file;

    ck_assert_int_eq(file_host_create(scratch_path("image"), &options, &file, &err), 0);
    ck_assert_int_eq(file_host_keep(file, scratch_path("image"), &err), 0);
    ck_assert(exists());
    file_host_drop(file);
    ck_assert(!exists());
    ck_assert_uint_eq(synced_gone, 1);
}
END_TEST

START_TEST(of_two_that_make_a_new_file_one_does)
{
    const struct file_host_options options = {.writable = true, .exclusive = true};
    const char *image = scratch_path("image");
    struct err err = {0};
    struct file *first;
    struct file *second;

    ck_assert_int_eq(file_host_create(image, &options, &first, &err), 0);
    ck_assert_int_eq(file_host_create(image, &options, &second, &err), 0);
    ck_assert_int_eq(file_host_keep(first, image, &err), 0);
    ck_assert_int_eq(file_write(first, 0, "x", 1), 0);
    ck_assert_int_eq(file_host_keep(second, image, &err), -EEXIST);
    ck_assert_ptr_nonnull(strstr(err.msg, "is there already: expected a new file"));
    file_host_drop(second);
    ck_assert(exists());
    ck_assert_int_eq(file_host_create(image, &options, &second, &err), -EEXIST);
    file_free(first);
    scratch_ok("[ \"$(cat image)\" = x ]");
}
END_TEST

START_TEST(what_a_link_leads_to_is_no_new_file)
{
    const struct file_host_options options = {.writable = true, .exclusive = true};
    struct err err = {0};
    struct file *file;

    scratch_ok("ln -s nowhere image");
    ck_assert_int_eq(file_host_create(scratch_path("image"), &options, &file, &err), -EEXIST);
}
END_TEST

START_TEST(failed_sync_of_the_folder_fails_the_creation)
{
    static const int errors[] = {EIO, ENOSPC, EDQUOT};
    struct err err = {0};

    host_calls[HOST_FSYNC].fail = 1;
    host_calls[HOST_FSYNC].error = errors[_i];
    ck_assert_int_eq(create(&err), -errors[_i]);
    ck_assert_ptr_nonnull(strstr(err.msg, scratch_path("image")));
    ck_assert(!exists());
}
END_TEST

START_TEST(interrupted_sync_of_the_folder_is_repeated)
{
    struct err err = {0};

    host_calls[HOST_FSYNC].fail = 3;
    host_calls[HOST_FSYNC].error = EINTR;
    ck_assert_int_eq(create(&err), 0);
    ck_assert_uint_eq(host_calls[HOST_FSYNC].count, 4);
}
END_TEST

static const int unknown[] = {EINVAL, ENOSYS, EOPNOTSUPP};

START_TEST(where_folders_cannot_be_synced_the_file_system_is)
{
    struct err err = {0};

    host_calls[HOST_FSYNC].fail = UINT_MAX;
    host_calls[HOST_FSYNC].error = unknown[_i];
    ck_assert_int_eq(create(&err), 0);
    ck_assert_uint_eq(host_calls[HOST_SYNCFS].count, 1);

    /* Nor that: it cannot be helped. */
    ck_assert_int_eq(unlink(scratch_path("image")), 0);
    host_calls[HOST_SYNCFS] = (struct host_call){.fail = 1, .error = unknown[_i]};
    ck_assert_int_eq(create(&err), 0);
    ck_assert(exists());

    ck_assert_int_eq(unlink(scratch_path("image")), 0);
    host_calls[HOST_SYNCFS] = (struct host_call){.fail = 1, .error = EIO};
    ck_assert_int_eq(create(&err), -EIO);
    ck_assert(!exists());
}
END_TEST

/* One that may be written but not read, which root may all the same, or that has gone. */
START_TEST(folder_that_cannot_be_opened_leaves_the_file_system)
{
    int fd = dup(STDERR_FILENO);

    ck_assert_int_eq(folder_sync(scratch_path("nowhere/image"), -1), -ENOENT);
    host_calls[HOST_SYNCFS] = (struct host_call){.fail = 1, .error = EIO};
    ck_assert_int_eq(folder_sync(scratch_path("nowhere/image"), fd), -EIO);
    ck_assert_uint_eq(host_calls[HOST_SYNCFS].count, 1);
    close(fd);
}
END_TEST

START_TEST(folder_of_each_kind_of_path_is_found)
{
    char here[PATH_MAX];

    ck_assert_ptr_nonnull(getcwd(here, sizeof(here)));
    ck_assert_int_eq(chdir(scratch_path(".")), 0);
    ck_assert_int_eq(folder_sync("image", -1), 0);
    ck_assert_int_eq(folder_sync("./image", -1), 0);
    ck_assert_uint_eq(synced_gone, 2);
    ck_assert_int_eq(folder_sync("/image", -1), 0);
    ck_assert_uint_eq(host_calls[HOST_FSYNC].count, 3);
    ck_assert_int_eq(chdir(here), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("folder");

    tcase_add_checked_fixture(tcase, setup, scratch_tear_down);
    tcase_add_test(tcase, name_of_a_new_image_is_durable);
    tcase_add_test(tcase, name_that_is_gone_is_durably_so);
    tcase_add_test(tcase, of_two_that_make_a_new_file_one_does);
    tcase_add_test(tcase, what_a_link_leads_to_is_no_new_file);
    tcase_add_loop_test(tcase, failed_sync_of_the_folder_fails_the_creation, 0, 3);
    tcase_add_test(tcase, interrupted_sync_of_the_folder_is_repeated);
    tcase_add_loop_test(tcase, where_folders_cannot_be_synced_the_file_system_is, 0,
                        ARRAY_SIZE(unknown));
    tcase_add_test(tcase, folder_that_cannot_be_opened_leaves_the_file_system);
    tcase_add_test(tcase, folder_of_each_kind_of_path_is_found);
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("folder", add_tests)
