/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "boot/cache_folder.h"
#include "boot/kernel_cache.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define IMAGE_LEN ((size_t)3 * PLAIN_KERNEL_PAGE)
#define HEADER_LEN (16 + sizeof(struct kernel_cache_key) + 6 * sizeof(uint64_t))

/* Older than the cache wants a kernel file to be; what is in it does not matter. */
#define OLD_FILE "/etc/passwd"

static uint8_t image[IMAGE_LEN];
static uint32_t table[] = {0, 1, 0, 2, 0, 3};
static struct boot_file kernel;
static struct kernel_cache_key key;
static char dir[4096];

static const struct plain_kernel plain = {
    .image_len = IMAGE_LEN,
    .entry_off = 0x123,
    .table = (uint8_t *)table,
    .table_len = sizeof(table),
};

static void set_up(void)
{
    struct err err;

    scratch_set_up();
    (void)snprintf(dir, sizeof(dir), "%s", scratch_path("caches/kernels"));
    memset(image, 0xa5, sizeof(image));
    ck_assert_int_eq(boot_file_open(OLD_FILE, &kernel, &err), 0);
    ck_assert_int_eq(kernel_cache_key(&kernel, &key, &err), 0);
}

static void tear_down(void)
{
    boot_file_close(&kernel);
    scratch_tear_down();
}

static const char *entry_path(void)
{
    static char path[sizeof(dir) + sizeof(key)];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, key.text);
    return path;
}

static void store(void)
{
    struct err err;

    ck_assert_int_eq(kernel_cache_store(dir, &kernel, &key, &plain, image, &err), 0);
}

/* Look for it with its table, and forget it. 0, or why it is not there. */
static int look(uint64_t image_max)
{
    struct kernel_cache_entry found;
    struct err err;
    int r = kernel_cache_find(dir, &key, image_max, true, &found, &err);

    if (r == 0)
        kernel_cache_entry_close(&found);
    return r;
}

static bool is_found(uint64_t image_max)
{
    return look(image_max) == 0;
}

static unsigned count_files(void)
{
    DIR *folder = opendir(dir);
    unsigned n = 0;

    ck_assert_ptr_nonnull(folder);
    for (const struct dirent *entry; (entry = readdir(folder));)
        n += entry->d_name[0] != '.';
    closedir(folder);
    return n;
}

START_TEST(what_is_stored_is_found)
{
    struct kernel_cache_entry found;
    uint8_t read_back[IMAGE_LEN];
    struct stat st;
    struct err err;

    ck_assert_int_eq(look(IMAGE_LEN), -ENOENT);
    store();
    ck_assert_int_eq(kernel_cache_find(dir, &key, IMAGE_LEN, true, &found, &err), 0);
    ck_assert_uint_eq(found.kernel.image_len, IMAGE_LEN);
    ck_assert_uint_eq(found.kernel.entry_off, 0x123);
    ck_assert_uint_eq(found.kernel.table_len, sizeof(table));
    ck_assert_mem_eq(found.kernel.table, table, sizeof(table));
    ck_assert_int_eq(pread(found.fd, read_back, IMAGE_LEN, KERNEL_CACHE_IMAGE_OFF), IMAGE_LEN);
    ck_assert_mem_eq(read_back, image, IMAGE_LEN);
    kernel_cache_entry_close(&found);

    ck_assert_int_eq(stat(dir, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0700);
    ck_assert_int_eq(stat(entry_path(), &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    ck_assert_uint_eq(count_files(), 1);
}
END_TEST

START_TEST(a_kernel_without_a_table_is_kept_as_well)
{
    struct plain_kernel without = plain;
    struct kernel_cache_entry found;
    struct err err;

    without.table = NULL;
    without.table_len = 0;
    ck_assert_int_eq(kernel_cache_store(dir, &kernel, &key, &without, image, &err), 0);
    ck_assert_int_eq(kernel_cache_find(dir, &key, IMAGE_LEN, true, &found, &err), 0);
    ck_assert_ptr_null(found.kernel.table);
    kernel_cache_entry_close(&found);
}
END_TEST

START_TEST(the_table_is_read_only_if_it_is_wanted)
{
    struct kernel_cache_entry found;
    struct err err;

    store();
    ck_assert_int_eq(kernel_cache_find(dir, &key, IMAGE_LEN, false, &found, &err), 0);
    ck_assert_ptr_null(found.kernel.table);
    ck_assert_uint_eq(found.kernel.image_len, IMAGE_LEN);
    kernel_cache_entry_close(&found);
}
END_TEST

START_TEST(an_entry_may_be_made_twice)
{
    store();
    store();
    ck_assert(is_found(IMAGE_LEN));
    ck_assert_uint_eq(count_files(), 1);
}
END_TEST

START_TEST(an_image_larger_than_its_room_is_refused)
{
    store();
    ck_assert(!is_found(IMAGE_LEN - 1));
    ck_assert(is_found(IMAGE_LEN));
}
END_TEST

START_TEST(a_changed_header_or_table_is_refused)
{
    struct timespec times[2];
    struct stat st;
    int fd;

    store();
    fd = open(entry_path(), O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    times[0] = st.st_atim;
    times[1] = st.st_mtim;
    for (size_t i = 0; i < HEADER_LEN + sizeof(table); i++) {
        off_t off =
            (off_t)(i < HEADER_LEN ? i : KERNEL_CACHE_IMAGE_OFF + IMAGE_LEN + i - HEADER_LEN);
        uint8_t byte;

        ck_assert_int_eq(pread(fd, &byte, 1, off), 1);
        byte ^= 0x40;
        ck_assert_int_eq(pwrite(fd, &byte, 1, off), 1);
        ck_assert_int_eq(futimens(fd, times), 0);
        ck_assert_msg(!is_found(IMAGE_LEN), "byte %zu", i);
        byte ^= 0x40;
        ck_assert_int_eq(pwrite(fd, &byte, 1, off), 1);
        ck_assert_int_eq(futimens(fd, times), 0);
    }
    ck_assert(is_found(IMAGE_LEN));
    close(fd);
}
END_TEST

/* Its date says so; what is in the image does not matter. */
START_TEST(an_entry_that_was_written_to_is_refused)
{
    int fd;

    store();
    fd = open(entry_path(), O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, image, 1, KERNEL_CACHE_IMAGE_OFF), 1);
    close(fd);
    ck_assert_int_eq(look(IMAGE_LEN), -EINVAL);
    store();
    ck_assert(is_found(IMAGE_LEN));
}
END_TEST

START_TEST(another_length_is_refused)
{
    static const off_t lengths[] = {0,
                                    1,
                                    100,
                                    KERNEL_CACHE_IMAGE_OFF,
                                    KERNEL_CACHE_IMAGE_OFF + IMAGE_LEN,
                                    KERNEL_CACHE_IMAGE_OFF + IMAGE_LEN + sizeof(table) + 1};

    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
        struct stat st;

        store();
        ck_assert_int_eq(stat(entry_path(), &st), 0);
        times[1] = st.st_mtim;
        ck_assert_int_eq(truncate(entry_path(), lengths[i]), 0);
        ck_assert_int_eq(utimensat(AT_FDCWD, entry_path(), times, 0), 0);
        ck_assert(!is_found(IMAGE_LEN));
    }
}
END_TEST

START_TEST(what_others_can_write_is_not_used)
{
    struct err err;

    store();
    for (mode_t bit = 01; bit <= 040; bit <<= 1) {
        ck_assert_int_eq(chmod(entry_path(), 0600 | bit), 0);
        ck_assert(!is_found(IMAGE_LEN));
    }
    ck_assert_int_eq(chmod(entry_path(), 0600), 0);
    ck_assert_int_eq(chmod(dir, 0720), 0);
    ck_assert(!is_found(IMAGE_LEN));
    ck_assert_int_eq(chmod(dir, 0702), 0);
    ck_assert(!is_found(IMAGE_LEN));
    ck_assert_int_eq(kernel_cache_store(dir, &kernel, &key, &plain, image, &err), -EPERM);
    ck_assert_int_eq(chmod(dir, 0755), 0);
    ck_assert(is_found(IMAGE_LEN));
}
END_TEST

START_TEST(what_is_no_regular_file_is_not_used)
{
    char target[sizeof(dir) + 16];

    store();
    (void)snprintf(target, sizeof(target), "%s/target", dir);
    ck_assert_int_eq(rename(entry_path(), target), 0);
    ck_assert_int_eq(symlink(target, entry_path()), 0);
    ck_assert(!is_found(IMAGE_LEN));
    ck_assert_int_eq(unlink(entry_path()), 0);
    ck_assert_int_eq(mkfifo(entry_path(), 0600), 0);
    ck_assert(!is_found(IMAGE_LEN));
}
END_TEST

START_TEST(a_kernel_that_was_just_written_is_not_kept)
{
    struct kernel_cache_key none;
    struct boot_file young;
    struct err err;

    scratch_save("young", "kernel", 6);
    ck_assert_int_eq(boot_file_open(scratch_path("young"), &young, &err), 0);
    ck_assert_int_eq(kernel_cache_key(&young, &none, &err), -EAGAIN);
    ck_assert_int_eq(kernel_cache_store(dir, &young, &key, &plain, image, &err), -EAGAIN);
    ck_assert_uint_eq(count_files(), 0);
    boot_file_close(&young);
}
END_TEST

#define OTHER "446f6466-ecd5-44a8-9d48-bb5c58d96764-"

/* Files that look like entries, each used a second later, and made earlier, than those before. */
static void make_others(unsigned n)
{
    for (unsigned i = 1; i <= n; i++) {
        struct timespec times[2] = {{.tv_sec = 1000 + i}, {.tv_sec = 1000 - i}};

        scratch_save("other", "x", 1);
        ck_assert_int_eq(utimensat(AT_FDCWD, scratch_path("other"), times, 0), 0);
        scratch_ok("mv other caches/kernels/" OTHER "%u.kernel", i);
    }
}

static void make_room(void)
{
    struct err err;
    int folder = cache_folder_open(dir, &err);

    ck_assert_int_ge(folder, 0);
    cache_folder_make_room(folder);
    close(folder);
}

START_TEST(entries_that_were_used_last_are_kept)
{
    store();
    make_others(CACHE_FOLDER_ENTRIES_MAX - 1);
    ck_assert_uint_eq(count_files(), CACHE_FOLDER_ENTRIES_MAX);
    store();
    ck_assert_uint_eq(count_files(), CACHE_FOLDER_ENTRIES_MAX - 1);
    scratch_ok("test ! -e caches/kernels/" OTHER "1.kernel");
    scratch_ok("test -e caches/kernels/" OTHER "2.kernel");
    ck_assert(is_found(IMAGE_LEN));
}
END_TEST

/* Reading it changes this time once a day on most file systems. */
START_TEST(each_use_counts)
{
    struct stat first, second;

    store();
    ck_assert(is_found(IMAGE_LEN));
    ck_assert_int_eq(stat(entry_path(), &first), 0);
    (void)usleep(20000);
    ck_assert(is_found(IMAGE_LEN));
    ck_assert_int_eq(stat(entry_path(), &second), 0);
    ck_assert(second.st_atim.tv_sec > first.st_atim.tv_sec ||
              second.st_atim.tv_nsec > first.st_atim.tv_nsec);
}
END_TEST

START_TEST(to_be_found_is_to_be_used)
{
    struct timespec times[2] = {{.tv_sec = 1}, {.tv_nsec = UTIME_OMIT}};

    store();
    ck_assert_int_eq(utimensat(AT_FDCWD, entry_path(), times, 0), 0);
    make_others(CACHE_FOLDER_ENTRIES_MAX - 1);
    ck_assert(is_found(IMAGE_LEN));
    make_room();
    ck_assert(is_found(IMAGE_LEN));
    scratch_ok("test ! -e caches/kernels/" OTHER "1.kernel");
}
END_TEST

/* A file that is being written, or was: the minute that its maker has is over. */
static int make_new(unsigned number, bool is_locked)
{
    static const struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    char name[64];
    int fd;

    (void)snprintf(name, sizeof(name), "caches/kernels/new-000000000000000%u.kernel", number);
    fd = open(scratch_path(name), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(futimens(fd, old), 0);
    if (is_locked)
        ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
    return fd;
}

START_TEST(what_is_being_written_neither_counts_nor_goes)
{
    int writing;

    store();
    make_others(CACHE_FOLDER_ENTRIES_MAX - 2);
    writing = make_new(1, true);
    close(make_new(2, false));
    scratch_ok("touch caches/kernels/new-0000000000000003.kernel"); /* locked in a moment */
    make_room();
    scratch_ok("test -e caches/kernels/new-0000000000000001.kernel");
    scratch_ok("test ! -e caches/kernels/new-0000000000000002.kernel");
    scratch_ok("test -e caches/kernels/new-0000000000000003.kernel");
    scratch_ok("test -e caches/kernels/" OTHER "1.kernel");
    ck_assert(is_found(IMAGE_LEN));
    close(writing);
    make_room();
    scratch_ok("test ! -e caches/kernels/new-0000000000000001.kernel");
}
END_TEST

START_TEST(a_file_that_is_made_is_locked)
{
    char name[CACHE_FOLDER_NEW_NAME_MAX];
    struct err err;
    int folder = cache_folder_make(dir, &err);
    int made = cache_folder_create(folder, name, &err);
    int other = openat(folder, name, O_RDONLY | O_CLOEXEC);

    ck_assert_int_ge(made, 0);
    ck_assert_int_eq(flock(other, LOCK_EX | LOCK_NB), -1);
    close(made);
    ck_assert_int_eq(flock(other, LOCK_EX | LOCK_NB), 0);
    close(other);
    close(folder);
}
END_TEST

/* Whatever folder he names, and however old they are. */
START_TEST(files_of_the_user_stay)
{
    static const char *const names[] = {
        "linux.kernel",
        ".kernel",
        "new-.kernel",
        "new-0000000000000001x.kernel",
        "new-00000000000000001.kernel",
        "446f6466-ecd5-44a8-9d48-bb5c58d96764",
        "446f6466-ecd5-44a8-9d48-bb5c58d96764.kernel",
        "README",
    };

    store();
    make_others(CACHE_FOLDER_ENTRIES_MAX - 1);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        scratch_ok("touch -d @1 caches/kernels/%s", names[i]);
    store();
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        scratch_ok("test -e caches/kernels/%s", names[i]);
}
END_TEST

START_TEST(what_is_half_written_leaves_nothing)
{
    struct rlimit limit = {.rlim_cur = 2ul * PLAIN_KERNEL_PAGE, .rlim_max = RLIM_INFINITY};
    struct err err;

    store();
    ck_assert_int_eq(unlink(entry_path()), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(kernel_cache_store(dir, &kernel, &key, &plain, image, &err), -EFBIG);
    ck_assert_uint_eq(count_files(), 0);
}
END_TEST

START_TEST(a_folder_that_cannot_be_made_is_told)
{
    struct err err;

    scratch_save("file", "x", 1);
    (void)snprintf(dir, sizeof(dir), "%s", scratch_path("file/kernels"));
    ck_assert_int_eq(kernel_cache_store(dir, &kernel, &key, &plain, image, &err), -ENOTDIR);
    (void)snprintf(dir, sizeof(dir), "%s", scratch_path("file"));
    ck_assert_int_eq(kernel_cache_store(dir, &kernel, &key, &plain, image, &err), -ENOTDIR);
    ck_assert_int_eq(look(IMAGE_LEN), -ENOTDIR);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "use", set_up, tear_down, what_is_stored_is_found,
                   a_kernel_without_a_table_is_kept_as_well, the_table_is_read_only_if_it_is_wanted,
                   an_entry_may_be_made_twice, entries_that_were_used_last_are_kept,
                   to_be_found_is_to_be_used, each_use_counts,
                   what_is_being_written_neither_counts_nor_goes, a_file_that_is_made_is_locked,
                   files_of_the_user_stay, what_is_half_written_leaves_nothing,
                   a_folder_that_cannot_be_made_is_told);
    unit_case_with(suite, "refused", set_up, tear_down, an_image_larger_than_its_room_is_refused,
                   a_changed_header_or_table_is_refused, an_entry_that_was_written_to_is_refused,
                   another_length_is_refused, what_others_can_write_is_not_used,
                   what_is_no_regular_file_is_not_used, a_kernel_that_was_just_written_is_not_kept);
}

UNIT_MAIN("kernel_cache", add_tests)
