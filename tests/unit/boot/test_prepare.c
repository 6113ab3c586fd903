/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "boot/plain_kernel.h"
#include "boot/prepare.h"
#include "tests/lib/boot/kernel_file.h"
#include "tests/lib/boot/packed_kernel.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

static struct err err;
static bool is_new;

static void save_vmlinux(const struct test_vmlinux *vmlinux)
{
    size_t len;
    uint8_t *file = test_packed_kernel(TEST_PACKED_ZSTD, vmlinux, &len);

    scratch_save("kernel", file, len);
    free(file);
}

static void save_kernel(void)
{
    struct test_vmlinux v;

    test_vmlinux_init(&v);
    save_vmlinux(&v);
}

static int prepare(void)
{
    err = (struct err){0};
    return prepare_kernel(scratch_path("kernel"), scratch_path("cache"), &is_new, &err);
}

/* Change a byte of the image of the only entry, and leave its date. */
static void damage_entry(void)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
    struct stat st;
    glob_t found;
    int fd;

    ck_assert_int_eq(glob(scratch_path("cache/*.kernel"), 0, NULL, &found), 0);
    ck_assert_uint_eq(found.gl_pathc, 1);
    fd = open(found.gl_pathv[0], O_WRONLY | O_CLOEXEC);
    globfree(&found);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    times[1] = st.st_mtim;
    ck_assert_int_eq(pwrite(fd, "damage", 6, PLAIN_KERNEL_PAGE + 0x200), 6);
    ck_assert_int_eq(futimens(fd, times), 0);
    close(fd);
}

/* The kernel file is younger than two seconds at first: that is waited for. */
START_TEST(a_kernel_is_unpacked_once_and_mended)
{
    save_kernel();
    ck_assert_int_eq(prepare(), 0);
    ck_assert(is_new);
    scratch_ok("test $(ls cache | wc -l) = 1");
    ck_assert_int_eq(prepare(), 0);
    ck_assert(!is_new);
    damage_entry();
    ck_assert_int_eq(prepare(), 0);
    ck_assert(is_new);
    ck_assert_int_eq(prepare(), 0);
    ck_assert(!is_new);
    scratch_ok("test $(ls cache | wc -l) = 1");
}
END_TEST

START_TEST(zeros_at_the_end_of_a_kernel_are_not_kept)
{
    struct test_vmlinux v;

    test_vmlinux_init(&v);
    memset(v.data, 0, sizeof(v.data));
    save_vmlinux(&v);
    ck_assert_int_eq(prepare(), 0);
    scratch_ok("test $(stat -c %%s cache/*.kernel) = %zu",
               PLAIN_KERNEL_PAGE + sizeof(v.text) + sizeof(v.table));
}
END_TEST

START_TEST(a_kernel_that_is_not_packed_is_refused)
{
    struct test_bzimage image;

    test_bzimage_init(&image);
    scratch_save("kernel", &image, sizeof(image));
    ck_assert_int_eq(prepare(), -ENOTSUP);
    ck_assert_ptr_nonnull(strstr(err.msg, "expected a bzImage"));
    scratch_ok("test ! -e cache");
}
END_TEST

START_TEST(a_damaged_kernel_is_refused)
{
    uint8_t file[64 * KIB];
    size_t len;

    save_kernel();
    len = scratch_load("kernel", file, sizeof(file));
    memset(file + offsetof(struct test_bzimage, kernel) + TEST_PAYLOAD_OFF + 16, 0xff, 64);
    scratch_save("kernel", file, len);
    ck_assert_int_eq(prepare(), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "cannot be unpacked"));
    scratch_ok("test ! -e cache");
}
END_TEST

START_TEST(what_is_no_kernel_is_refused)
{
    scratch_save("kernel", "text", 4);
    ck_assert_int_lt(prepare(), 0);
    scratch_ok("rm kernel");
    ck_assert_int_eq(prepare(), -ENOENT);
}
END_TEST

START_TEST(a_folder_that_is_not_to_be_used_is_told)
{
    save_kernel();
    scratch_ok("mkdir -m 777 cache");
    ck_assert_int_eq(prepare(), -EPERM);
    ck_assert_ptr_nonnull(strstr(err.msg, "others may write to it"));
    scratch_ok("test $(ls cache | wc -l) = 0");
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "prepare", scratch_set_up, scratch_tear_down,
                   a_kernel_is_unpacked_once_and_mended, zeros_at_the_end_of_a_kernel_are_not_kept,
                   a_kernel_that_is_not_packed_is_refused, a_damaged_kernel_is_refused,
                   what_is_no_kernel_is_refused, a_folder_that_is_not_to_be_used_is_told);
}

UNIT_USES_THREADS;
UNIT_MAIN("prepare", add_tests)
