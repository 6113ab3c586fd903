/* SPDX-License-Identifier: Apache-2.0 */
#include <asm/bootparam.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "boot/boot.h"
#include "memory/layout_x86.h"
#include "tests/lib/boot/kernel_file.h"
#include "tests/lib/unit.h"

#define PAGE 4096u
#define INITRDS_MAX 3

/* A loaded guest: a synthetic kernel with initrds. */
static struct guest_mem *mem;
static const struct boot_params *params;
static struct err err;

static const void *at(uint64_t gpa, size_t len)
{
    void *host;

    ck_assert_int_eq(guest_mem_at(mem, gpa, len, &host), 0);
    return host;
}

/* initrds[i] is a file of lens[i] bytes i + 1. */
static int load_initrds(const struct test_bzimage *kernel, const size_t *lens, size_t n,
                        uint64_t memory)
{
    const struct boot_machine machine = {.ncpus = 1, .acpi = true, .cmdline = ""};
    const struct mem_range ranges[] = {
        {.gpa = 0, .len = min_u64(memory, X86_LOW_RAM_END)},
        {.gpa = X86_HIGH_RAM_START, .len = memory - min_u64(memory, X86_LOW_RAM_END)},
    };
    struct test_file kernel_file = test_file_new(kernel, sizeof(*kernel)), files[INITRDS_MAX];
    const char *paths[INITRDS_MAX];
    struct boot_options options = {.kernel = kernel_file.path, .initrds = paths, .ninitrds = n};
    struct boot_plan plan;
    struct boot *boot;
    int r;

    for (size_t i = 0; i < n; i++) {
        uint8_t *data = malloc(lens[i]);

        ck_assert_ptr_nonnull(data);
        memset(data, (int)i + 1, lens[i]);
        files[i] = test_file_new(data, lens[i]);
        paths[i] = files[i].path;
        free(data);
    }
    ck_assert_int_eq(boot_open(&options, &boot, &err), 0);
    ck_assert_int_eq(guest_mem_new(ranges, memory > X86_LOW_RAM_END ? 2 : 1, &mem, &err), 0);
    r = boot_load(boot, &machine, mem, &plan, &err);
    boot_close(boot);
    test_file_free(&kernel_file);
    for (size_t i = 0; i < n; i++)
        test_file_free(&files[i]);
    if (r < 0)
        guest_mem_free(mem);
    else
        params = at(plan.params_gpa, sizeof(*params));
    return r;
}

START_TEST(an_initrd_lies_at_the_end_of_ram)
{
    const size_t len = 5 * MIB + 123;
    struct test_bzimage kernel;
    const uint8_t *initrd;

    test_bzimage_init(&kernel);
    ck_assert_int_eq(load_initrds(&kernel, &len, 1, 64 * MIB), 0);
    ck_assert_uint_eq(params->hdr.ramdisk_image, align_down(64 * MIB - len, PAGE));
    ck_assert_uint_eq(params->hdr.ramdisk_size, len);
    initrd = at(params->hdr.ramdisk_image, len);
    ck_assert_uint_eq(initrd[0], 1);
    ck_assert_int_eq(memcmp(initrd, initrd + 1, len - 1), 0); /* all bytes are the same */
    guest_mem_free(mem);
}
END_TEST

START_TEST(an_initrd_stays_below_the_kernels_limit)
{
    const size_t len = PAGE;
    struct test_bzimage kernel;

    test_bzimage_init(&kernel);
    ck_assert_int_eq(load_initrds(&kernel, &len, 1, 8 * GIB), 0);
    ck_assert_uint_eq(params->hdr.ramdisk_image + len, 0x80000000);
    guest_mem_free(mem);

    kernel.hdr.initrd_addr_max = UINT32_MAX;
    ck_assert_int_eq(load_initrds(&kernel, &len, 1, 8 * GIB), 0);
    ck_assert_uint_eq(params->hdr.ramdisk_image + len, X86_LOW_RAM_END);
    guest_mem_free(mem);
}
END_TEST

START_TEST(several_initrds_follow_each_other_on_multiples_of_four)
{
    const size_t lens[] = {5, 8, 3};
    const uint8_t expected[] = {1, 1, 1, 1, 1, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3};
    struct test_bzimage kernel;

    test_bzimage_init(&kernel);
    ck_assert_int_eq(load_initrds(&kernel, lens, 3, 64 * MIB), 0);
    ck_assert_uint_eq(params->hdr.ramdisk_size, sizeof(expected));
    ck_assert_mem_eq(at(params->hdr.ramdisk_image, sizeof(expected)), expected, sizeof(expected));
    guest_mem_free(mem);
}
END_TEST

START_TEST(an_initrd_goes_below_a_kernel_that_is_in_the_way)
{
    const size_t len = 2 * MIB;
    struct test_bzimage kernel;

    test_bzimage_init(&kernel);
    kernel.hdr.init_size = 48 * MIB - PAGE; /* to one page below the end */
    ck_assert_int_eq(load_initrds(&kernel, &len, 1, 64 * MIB), 0);
    ck_assert_uint_eq(params->hdr.ramdisk_image, TEST_KERNEL_GPA - len);
    guest_mem_free(mem);
}
END_TEST

START_TEST(an_initrd_that_does_not_fit_is_refused_with_the_sizes)
{
    const size_t len = 16 * MIB;
    struct test_bzimage kernel;

    test_bzimage_init(&kernel);
    kernel.hdr.init_size = 40 * MIB; /* 8 MiB remain above, 15 MiB below */
    ck_assert_int_eq(load_initrds(&kernel, &len, 1, 64 * MIB), -ENOSPC);
    ck_assert_msg(
        strstr(err.msg, "a ramdisk of 16384 KiB does not fit: the guest has 64 MiB of RAM"), "%s",
        err.msg);

    test_bzimage_init(&kernel);
    kernel.hdr.initrd_addr_max = 0;
    ck_assert_int_eq(load_initrds(&kernel, &len, 1, 64 * MIB), -ENOSPC);
}
END_TEST

/* Files as large as there are any: three of them are more than 64 bits can count. */
START_TEST(initrds_of_more_bytes_than_can_be_counted_are_refused)
{
    const struct boot_machine machine = {.ncpus = 1, .acpi = true, .cmdline = ""};
    const struct mem_range range = {.gpa = 0, .len = 64 * MIB};
    struct test_file kernel_file, initrd;
    struct test_bzimage kernel;
    const char *paths[INITRDS_MAX];
    struct boot_options options;
    struct boot_plan plan;
    struct boot *boot;

    test_bzimage_init(&kernel);
    kernel_file = test_file_new(&kernel, sizeof(kernel));
    initrd = test_file_new("x", 1);
    ck_assert_int_eq(ftruncate(initrd.fd, INT64_MAX), 0);
    for (size_t i = 0; i < INITRDS_MAX; i++)
        paths[i] = initrd.path;
    options = (struct boot_options){.kernel = kernel_file.path, .initrds = paths};
    for (options.ninitrds = 2; options.ninitrds <= INITRDS_MAX; options.ninitrds++) {
        ck_assert_int_eq(boot_open(&options, &boot, &err), 0);
        ck_assert_int_eq(guest_mem_new(&range, 1, &mem, &err), 0);
        ck_assert_int_eq(boot_load(boot, &machine, mem, &plan, &err), -EFBIG);
        ck_assert_msg(strstr(err.msg, "and more: too big: expected less than 2^63 bytes in all"),
                      "%s", err.msg);
        guest_mem_free(mem);
        boot_close(boot);
    }
    test_file_free(&kernel_file);
    test_file_free(&initrd);
}
END_TEST

START_TEST(an_initrd_file_that_became_shorter_is_noticed)
{
    const struct boot_machine machine = {.ncpus = 1, .acpi = true, .cmdline = ""};
    const struct mem_range range = {.gpa = 0, .len = 64 * MIB};
    struct test_file kernel_file, initrd;
    struct test_bzimage kernel;
    const char *paths[1];
    struct boot_options options;
    struct boot_plan plan;
    struct boot *boot;

    test_bzimage_init(&kernel);
    kernel_file = test_file_new(&kernel, sizeof(kernel));
    initrd = test_file_new("x", 1);
    ck_assert_int_eq(ftruncate(initrd.fd, 5 * (off_t)MIB), 0);
    paths[0] = initrd.path;
    options = (struct boot_options){.kernel = kernel_file.path, .initrds = paths, .ninitrds = 1};

    ck_assert_int_eq(boot_open(&options, &boot, &err), 0);
    ck_assert_int_eq(ftruncate(initrd.fd, 3 * (off_t)MIB + 1), 0);
    ck_assert_int_eq(guest_mem_new(&range, 1, &mem, &err), 0);
    ck_assert_int_eq(boot_load(boot, &machine, mem, &plan, &err), -EIO);
    ck_assert_msg(strstr(err.msg, initrd.path) != NULL, "%s", err.msg);
    ck_assert_msg(strstr(err.msg, "was 5242880 bytes when opened and ends at"), "%s", err.msg);
    guest_mem_free(mem);
    boot_close(boot);
    test_file_free(&kernel_file);
    test_file_free(&initrd);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "place", an_initrd_lies_at_the_end_of_ram,
              an_initrd_stays_below_the_kernels_limit,
              several_initrds_follow_each_other_on_multiples_of_four,
              an_initrd_goes_below_a_kernel_that_is_in_the_way);
    unit_case(suite, "refused", an_initrd_that_does_not_fit_is_refused_with_the_sizes,
              initrds_of_more_bytes_than_can_be_counted_are_refused,
              an_initrd_file_that_became_shorter_is_noticed);
}

UNIT_USES_THREADS;
UNIT_MAIN("initrd", add_tests)
