/* SPDX-License-Identifier: Apache-2.0 */
#include "base/vm_names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

static struct err err;

static void set_up(void)
{
    scratch_set_up();
    memset(&err, 0, sizeof(err));
    umask(0);
    ck_assert_int_eq(setenv("XDG_RUNTIME_DIR", scratch_path("run"), 1), 0);
    ck_assert_int_eq(mkdir(scratch_path("run"), 0700), 0);
}

START_TEST(names_are_words)
{
    char longest[VM_NAME_MAX + 2];

    memset(longest, 'x', sizeof(longest) - 1);
    longest[VM_NAME_MAX] = '\0';
    ck_assert(vm_name_is_valid(longest));
    longest[VM_NAME_MAX] = 'x';
    longest[VM_NAME_MAX + 1] = '\0';
    ck_assert(!vm_name_is_valid(longest));

    ck_assert(vm_name_is_valid("web-1.example_org"));
    ck_assert(vm_name_is_valid("9"));
    for (const char *const *bad =
             (const char *const[]){"", ".", "..", ".a", "-a", "_a", "a/b", "a b", "a\n", "a\x1b",
                                   "\xc3\xa4", "a:b", NULL};
         *bad; bad++)
        ck_assert_msg(!vm_name_is_valid(*bad), "%s", *bad);
}
END_TEST

static void check_folders(const char *first, const char *second, const char *third)
{
    char *folders[VM_FOLDERS_MAX];

    vm_names_folders(folders);
    ck_assert_str_eq(folders[0], first);
    ck_assert_str_eq(folders[1], second);
    ck_assert_pstr_eq(folders[2], third);
    for (size_t i = 0; i < VM_FOLDERS_MAX; i++)
        free(folders[i]);
}

START_TEST(folder_of_the_session_comes_first)
{
    char own[64], usual_runtime[32], usual[64];

    snprintf(usual_runtime, sizeof(usual_runtime), "/run/user/%u", geteuid());
    snprintf(usual, sizeof(usual), "%s/minivmm", usual_runtime);
    if (geteuid() == 0)
        strcpy(own, "/run/minivmm");
    else
        snprintf(own, sizeof(own), "/tmp/minivmm-%u", geteuid());

    setenv("XDG_RUNTIME_DIR", "/run/user/9999999", 1);
    check_folders("/run/user/9999999/minivmm", own, usual);
    setenv("XDG_RUNTIME_DIR", usual_runtime, 1);
    check_folders(usual, own, NULL);
    setenv("XDG_RUNTIME_DIR", "here", 1);
    check_folders(own, usual, NULL);
    setenv("XDG_RUNTIME_DIR", "", 1);
    check_folders(own, usual, NULL);
    unsetenv("XDG_RUNTIME_DIR");
    check_folders(own, usual, NULL);
    if (geteuid() == 0) {
        setenv("XDG_RUNTIME_DIR", "/run", 1);
        check_folders(own, usual, NULL);
    }
}
END_TEST

START_TEST(folder_is_made_for_its_user_alone)
{
    struct stat st;
    char *path;

    for (unsigned i = 0; i < 2; i++) {
        ck_assert_msg(vm_names_new_socket("vm", &path, &err) == 0, "%s", err.msg);
        ck_assert_str_eq(path, scratch_path("run/minivmm/vm.qmp"));
        free(path);
        ck_assert_int_eq(stat(scratch_path("run/minivmm"), &st), 0);
        ck_assert_uint_eq(st.st_mode & 07777, 0700);
    }
}
END_TEST

START_TEST(folder_that_others_can_write_to_is_refused)
{
    char *path;

    ck_assert_int_eq(mkdir(scratch_path("run/minivmm"), 0770), 0);
    ck_assert_int_eq(vm_names_new_socket("vm", &path, &err), -EPERM);
    ck_assert_ptr_nonnull(strstr(err.msg, "mode 0770"));
}
END_TEST

START_TEST(link_in_place_of_the_folder_is_refused)
{
    char *path;

    ck_assert_int_eq(mkdir(scratch_path("elsewhere"), 0700), 0);
    ck_assert_int_eq(symlink(scratch_path("elsewhere"), scratch_path("run/minivmm")), 0);
    ck_assert_int_eq(vm_names_new_socket("vm", &path, &err), -ENOTDIR);
}
END_TEST

START_TEST(folder_of_another_user_is_refused)
{
    char *path;

    if (geteuid() != 0)
        return; /* nobody else can give it away */
    ck_assert_int_eq(mkdir(scratch_path("run/minivmm"), 0700), 0);
    ck_assert_int_eq(chown(scratch_path("run/minivmm"), 1234, 1234), 0);
    ck_assert_int_eq(vm_names_new_socket("vm", &path, &err), -EPERM);
    ck_assert_ptr_nonnull(strstr(err.msg, "user 1234"));
}
END_TEST

START_TEST(what_cannot_be_had_is_said)
{
    char *path;

    ck_assert_int_eq(vm_names_check_folder(scratch_path("run/minivmm"), &err), -ENOENT);
    ck_assert_ptr_null(vm_names_missing_runtime());
    ck_assert_int_eq(vm_names_new_socket("a/b", &path, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "a/b: expected up to 48 letters"));
    setenv("XDG_RUNTIME_DIR", scratch_path("missing"), 1);
    ck_assert_int_eq(vm_names_new_socket("vm", &path, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.msg, "missing/minivmm: cannot make the folder"));
    ck_assert_str_eq(vm_names_missing_runtime(), scratch_path("missing"));
    setenv("XDG_RUNTIME_DIR", "missing", 1);
    ck_assert_ptr_null(vm_names_missing_runtime());
    unsetenv("XDG_RUNTIME_DIR");
    ck_assert_ptr_null(vm_names_missing_runtime());
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "vm_names", set_up, scratch_tear_down, names_are_words,
                   folder_of_the_session_comes_first, folder_is_made_for_its_user_alone,
                   folder_that_others_can_write_to_is_refused,
                   link_in_place_of_the_folder_is_refused, folder_of_another_user_is_refused,
                   what_cannot_be_had_is_said);
}

UNIT_MAIN("vm_names", add_tests)
