/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Input: a kernel file. It is opened and loaded into a small guest with an initrd, as a whole: bad
 * files are refused, and no byte outside guest memory is touched. Its length says what else is
 * wrong with the host: a second initrd that is missing, a file that became shorter.
 */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "boot/boot.h"
#include "tests/lib/boot/kernel_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct mem_range range = {.gpa = 0, .len = 32 * MIB};
    static const struct boot_virtio_mmio disk = {.gpa = 0xd0000000, .len = 0x1000, .gsi = 5};
    struct test_file kernel = test_file_new(data, size), initrd = test_file_new("initrd", 6);
    const char *const initrds[] = {initrd.path, "/missing"};
    const struct boot_options options = {
        .kernel = kernel.path, .initrds = initrds, .ninitrds = size % 5 ? 1 : 2};
    struct boot_machine machine = {
        .ncpus = 1,
        .acpi = size % 2 == 0,
        .kaslr = size % 3 != 0,
        .virtio = &disk,
        .nvirtio = 1,
        .cmdline = "quiet",
    };
    struct boot_plan plan;
    struct guest_mem *mem;
    struct boot *boot;
    struct err err;

    if (boot_open(&options, &boot, &err) == 0) {
        if (boot_file_fd(boot, 0) < 0 || (size % 7 == 0 && ftruncate(kernel.fd, size / 2) < 0))
            abort();
        if (guest_mem_new(&range, 1, &mem, &err) < 0)
            abort();
        if (boot_load(boot, &machine, mem, &plan, &err) == 0 && plan.rip >= 4 * GIB)
            abort();
        guest_mem_free(mem);
        boot_close(boot);
    }
    test_file_free(&kernel);
    test_file_free(&initrd);
    return 0;
}
