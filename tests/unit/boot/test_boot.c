/* SPDX-License-Identifier: Apache-2.0 */
#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "boot/boot.h"
#include "memory/layout_x86.h"
#include "tests/lib/boot/kernel_file.h"
#include "tests/lib/boot/packed_kernel.h"
#include "tests/lib/host_calls.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define STOCK_KERNELS "/boot/vmlinuz-*"

static struct err err;

static const struct boot_virtio_mmio disks[] = {
    {.gpa = 0xd0000000, .len = 0x1000, .gsi = 5},
    {.gpa = 0xd0001000, .len = 0x1000, .gsi = 23},
};

static const struct boot_machine machine = {
    .ncpus = 2,
    .acpi = true,
    .kaslr = true,
    .virtio = disks,
    .nvirtio = ARRAY_SIZE(disks),
    .cmdline = "console=ttyS0 quiet",
};

static struct guest_mem *memory_of(uint64_t size)
{
    const struct mem_range ranges[] = {
        {.gpa = 0, .len = min_u64(size, X86_LOW_RAM_END)},
        {.gpa = X86_HIGH_RAM_START, .len = size - min_u64(size, X86_LOW_RAM_END)},
    };
    struct guest_mem *mem;

    ck_assert_int_eq(guest_mem_new(ranges, size > X86_LOW_RAM_END ? 2 : 1, &mem, &err), 0);
    return mem;
}

static const uint8_t *at(const struct guest_mem *mem, uint64_t gpa, size_t len)
{
    void *host;

    ck_assert_int_eq(guest_mem_at(mem, gpa, len, &host), 0);
    return host;
}

/* Open a kernel, load it into memory of `size` bytes, and leave memory and plan. */
static int open_and_load(const char *kernel, const struct boot_machine *m, uint64_t size,
                         struct guest_mem **ret_mem, struct boot_plan *plan)
{
    struct boot_options options = {.kernel = kernel};
    struct boot *boot;
    int r = boot_open(&options, &boot, &err);

    if (r < 0)
        return r;
    *ret_mem = memory_of(size);
    r = boot_load(boot, m, *ret_mem, plan, &err);
    boot_close(boot);
    if (r < 0)
        guest_mem_free(*ret_mem);
    return r;
}

static int load_bytes(const void *data, size_t len, const struct boot_machine *m, uint64_t size,
                      struct guest_mem **ret_mem, struct boot_plan *plan)
{
    struct test_file file = test_file_new(data, len);
    int r = open_and_load(file.path, m, size, ret_mem, plan);

    test_file_free(&file);
    return r;
}

START_TEST(a_bzimage_is_entered_with_a_zero_page)
{
    struct test_bzimage image;
    const struct boot_params *params;
    struct guest_mem *mem;
    struct boot_plan plan;

    test_bzimage_init(&image);
    ck_assert_int_eq(load_bytes(&image, sizeof(image), &machine, 64 * MIB, &mem, &plan), 0);
    ck_assert_int_eq(plan.entry, BOOT_ENTRY_LINUX64);
    ck_assert_uint_eq(plan.rip, TEST_KERNEL_GPA + 0x200);
    ck_assert_mem_eq(at(mem, TEST_KERNEL_GPA, sizeof(image.kernel)), image.kernel,
                     sizeof(image.kernel));

    params = (const struct boot_params *)at(mem, plan.params_gpa, sizeof(*params));
    ck_assert_uint_eq(params->hdr.header, 0x53726448);
    ck_assert_uint_eq(params->hdr.type_of_loader, 0xff);
    ck_assert_uint_eq(params->hdr.ramdisk_size, 0);
    ck_assert_uint_eq(params->acpi_rsdp_addr, X86_FIRMWARE_TABLES);
    ck_assert_mem_eq(at(mem, params->acpi_rsdp_addr, 8), "RSD PTR ", 8);
    ck_assert_str_eq((const char *)at(mem, params->hdr.cmd_line_ptr, 64), machine.cmdline);
    ck_assert_uint_gt(params->e820_entries, 2);
    guest_mem_free(mem);
}
END_TEST

/* Follow the page tables to a page of 2 MiB at the same physical address. */
static void check_mapped(const struct guest_mem *mem, const struct boot_plan *plan, uint64_t a)
{
    const uint64_t table = 0x000ffffffffff000, page_2m = 0x000fffffffe00000;
    uint64_t entry = load_le64(at(mem, plan->cr3 + 8 * (a >> 39), 8));

    ck_assert_uint_eq(entry & 0xfff, 3);
    entry = load_le64(at(mem, (entry & table) + 8 * (a >> 30 & 511), 8));
    ck_assert_uint_eq(entry & 0xfff, 3);
    entry = load_le64(at(mem, (entry & table) + 8 * (a >> 21 & 511), 8));
    ck_assert_uint_eq(entry & 0xfff, 0x83);
    ck_assert_uint_eq(entry & page_2m, a & page_2m);
}

START_TEST(page_tables_map_the_first_4_gib_to_themselves)
{
    static const uint64_t addresses[] = {0,          0x1000200,  0x3fffffff,
                                         0x40000000, 0xd0000000, 0xffffffff};
    struct test_bzimage image;
    struct guest_mem *mem;
    struct boot_plan plan;

    test_bzimage_init(&image);
    ck_assert_int_eq(load_bytes(&image, sizeof(image), &machine, 64 * MIB, &mem, &plan), 0);
    for (size_t i = 0; i < ARRAY_SIZE(addresses); i++)
        check_mapped(mem, &plan, addresses[i]);
    ck_assert_uint_eq(load_le64(at(mem, plan.gdt_gpa + 0x10, 8)), 0x00af9b000000ffff);
    ck_assert_uint_eq(load_le64(at(mem, plan.gdt_gpa + 0x18, 8)), 0x00cf93000000ffff);
    ck_assert_uint_eq(plan.gdt_limit, 0x1f);
    guest_mem_free(mem);
}
END_TEST

START_TEST(an_elf_kernel_with_a_note_is_entered_by_pvh)
{
    struct test_elf elf;
    struct guest_mem *mem;
    struct boot_plan plan;
    const uint8_t *info;

    test_elf_init(&elf);
    ck_assert_int_eq(load_bytes(&elf, sizeof(elf), &machine, 64 * MIB, &mem, &plan), 0);
    ck_assert_int_eq(plan.entry, BOOT_ENTRY_PVH);
    ck_assert_uint_eq(plan.rip, TEST_KERNEL_GPA + 16);
    ck_assert_mem_eq(at(mem, TEST_KERNEL_GPA, sizeof(elf.text)), elf.text, sizeof(elf.text));
    info = at(mem, plan.params_gpa, 4096);
    ck_assert_uint_eq(load_le32(info), 0x336ec578);
    ck_assert_str_eq((const char *)at(mem, load_le64(info + 24), 64), machine.cmdline);
    ck_assert_uint_eq(load_le64(info + 32), X86_FIRMWARE_TABLES);
    guest_mem_free(mem);
}
END_TEST

START_TEST(an_elf_kernel_without_a_note_is_entered_as_linux)
{
    const struct boot_params *params;
    struct test_elf elf;
    struct guest_mem *mem;
    struct boot_plan plan;

    test_elf_init(&elf);
    elf.ehdr.e_phnum = 1;
    ck_assert_int_eq(load_bytes(&elf, sizeof(elf), &machine, 64 * MIB, &mem, &plan), 0);
    ck_assert_int_eq(plan.entry, BOOT_ENTRY_LINUX64);
    ck_assert_uint_eq(plan.rip, TEST_KERNEL_GPA);
    params = (const struct boot_params *)at(mem, plan.params_gpa, sizeof(*params));
    ck_assert_uint_eq(params->hdr.boot_flag, 0xaa55);
    ck_assert_uint_eq(params->hdr.header, 0x53726448);
    ck_assert_str_eq((const char *)at(mem, params->hdr.cmd_line_ptr, 64), machine.cmdline);
    guest_mem_free(mem);
}
END_TEST

START_TEST(without_acpi_there_is_an_mp_table_and_devices_on_the_command_line)
{
    struct boot_machine m = machine;
    const struct boot_params *params;
    struct test_bzimage image;
    struct guest_mem *mem;
    struct boot_plan plan;

    m.acpi = false;
    test_bzimage_init(&image);
    ck_assert_int_eq(load_bytes(&image, sizeof(image), &m, 64 * MIB, &mem, &plan), 0);
    params = (const struct boot_params *)at(mem, plan.params_gpa, sizeof(*params));
    ck_assert_uint_eq(params->acpi_rsdp_addr, 0);
    ck_assert_mem_eq(at(mem, X86_EBDA_START, 4), "_MP_", 4);
    ck_assert_mem_eq(at(mem, load_le32(at(mem, X86_EBDA_START + 4, 4)), 4), "PCMP", 4);
    ck_assert_str_eq((const char *)at(mem, params->hdr.cmd_line_ptr, 256),
                     "virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:23 "
                     "console=ttyS0 quiet");
    guest_mem_free(mem);
}
END_TEST

/* As Linux does when it reboots a machine with hardware-reduced ACPI. */
START_TEST(a_jump_to_the_bios_resets_by_the_keyboard_controller)
{
    static const uint8_t reset[] = {0xb0, 0xfe, 0xe6, 0x64};
    struct test_bzimage image;
    struct guest_mem *mem;
    struct boot_plan plan;

    test_bzimage_init(&image);
    ck_assert_int_eq(load_bytes(&image, sizeof(image), &machine, 64 * MIB, &mem, &plan), 0);
    ck_assert_mem_eq(at(mem, 0xffff0, 16), reset, sizeof(reset));
    guest_mem_free(mem);
}
END_TEST

/* Large enough to be worth a second thread, where there is a CPU for it. */
START_TEST(a_kernel_of_several_megabytes_is_loaded_whole)
{
    const size_t kernel_len = 3 * MIB + 16, head_len = offsetof(struct test_bzimage, kernel);
    uint8_t *data = malloc(head_len + kernel_len);
    struct test_bzimage image;
    struct guest_mem *mem;
    struct boot_plan plan;

    ck_assert_ptr_nonnull(data);
    test_bzimage_init(&image);
    image.hdr.syssize = (uint32_t)(kernel_len / 16);
    image.hdr.init_size = 4 * MIB;
    memcpy(data, &image, head_len);
    for (size_t i = 0; i < kernel_len; i++)
        data[head_len + i] = (uint8_t)(i ^ i >> 8 ^ i >> 16);
    ck_assert_int_eq(load_bytes(data, head_len + kernel_len, &machine, 64 * MIB, &mem, &plan), 0);
    ck_assert_int_eq(memcmp(at(mem, TEST_KERNEL_GPA, kernel_len), data + head_len, kernel_len), 0);
    guest_mem_free(mem);
    free(data);
}
END_TEST

START_TEST(a_guest_can_be_loaded_again_into_fresh_memory)
{
    struct test_bzimage image;
    struct test_file file;
    struct boot_options options;
    struct boot *boot;

    test_bzimage_init(&image);
    file = test_file_new(&image, sizeof(image));
    options = (struct boot_options){.kernel = file.path};
    ck_assert_int_eq(boot_open(&options, &boot, &err), 0);
    for (int start = 0; start < 2; start++) {
        struct guest_mem *mem = memory_of(64 * MIB);
        struct boot_plan plan;

        ck_assert_int_eq(boot_load(boot, &machine, mem, &plan, &err), 0);
        ck_assert_mem_eq(at(mem, TEST_KERNEL_GPA, 4096), image.kernel, 4096);
        guest_mem_free(mem);
    }
    boot_close(boot);
    test_file_free(&file);
}
END_TEST

/* ---- random numbers that guests begin with --------------------------------------------------- */

#define SEED_LEN 32

static const struct boot_params *zero_page(const struct guest_mem *mem,
                                           const struct boot_plan *plan)
{
    return (const struct boot_params *)at(mem, plan->params_gpa, sizeof(struct boot_params));
}

static bool is_zero(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] != 0)
            return false;
    return true;
}

/* Load test kernels into two guests, one after the other. */
static void load_twice(const struct boot_machine *m, struct guest_mem *mem[2],
                       struct boot_plan plans[2])
{
    struct test_bzimage image;

    test_bzimage_init(&image);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(load_bytes(&image, sizeof(image), m, 64 * MIB, &mem[i], &plans[i]), 0);
}

START_TEST(each_start_has_a_seed_of_its_own)
{
    struct guest_mem *mem[2];
    struct boot_plan plans[2];
    const uint8_t *seeds[2];

    load_twice(&machine, mem, plans);
    for (int i = 0; i < 2; i++) {
        uint64_t gpa = zero_page(mem[i], &plans[i])->hdr.setup_data;
        const uint8_t *entry = at(mem[i], gpa, 16 + SEED_LEN);

        ck_assert_uint_eq(load_le64(entry), 0); /* the last entry */
        ck_assert_uint_eq(load_le32(entry + 8), 9);
        ck_assert_uint_eq(load_le32(entry + 12), SEED_LEN);
        seeds[i] = entry + 16;
        ck_assert(!is_zero(seeds[i], SEED_LEN / 2) &&
                  !is_zero(seeds[i] + SEED_LEN / 2, SEED_LEN / 2));
    }
    ck_assert_mem_ne(seeds[0], seeds[1], SEED_LEN);
    guest_mem_free(mem[0]);
    guest_mem_free(mem[1]);
}
END_TEST

START_TEST(each_start_is_another_generation)
{
    struct guest_mem *mem[2];
    struct boot_plan plans[2];

    load_twice(&machine, mem, plans);
    ck_assert(!is_zero(at(mem[0], X86_VM_GENERATION, 16), 16));
    ck_assert_mem_ne(at(mem[0], X86_VM_GENERATION, 16), at(mem[1], X86_VM_GENERATION, 16), 16);
    guest_mem_free(mem[0]);
    guest_mem_free(mem[1]);
}
END_TEST

START_TEST(a_guest_without_acpi_has_a_seed_and_no_generation)
{
    struct boot_machine m = machine;
    struct guest_mem *mem[2];
    struct boot_plan plans[2];

    m.acpi = false;
    load_twice(&m, mem, plans);
    ck_assert_uint_ne(zero_page(mem[0], &plans[0])->hdr.setup_data, 0);
    ck_assert(is_zero(at(mem[0], X86_VM_GENERATION, 16), 16));
    guest_mem_free(mem[0]);
    guest_mem_free(mem[1]);
}
END_TEST

START_TEST(a_host_without_random_numbers_starts_a_guest_without_a_seed)
{
    struct guest_mem *mem[2];
    struct boot_plan plans[2];

    host_calls[HOST_RANDOM] = (struct host_call){.fail = UINT_MAX, .error = EAGAIN};
    load_twice(&machine, mem, plans);
    host_calls_reset();
    ck_assert_uint_eq(zero_page(mem[0], &plans[0])->hdr.setup_data, 0);
    ck_assert(is_zero(at(mem[0], X86_SETUP_DATA, 4096), 4096));
    guest_mem_free(mem[0]);
    guest_mem_free(mem[1]);
}
END_TEST

START_TEST(pvh_has_no_place_for_a_seed)
{
    struct test_elf elf;
    struct guest_mem *mem;
    struct boot_plan plan;

    test_elf_init(&elf);
    ck_assert_int_eq(load_bytes(&elf, sizeof(elf), &machine, 64 * MIB, &mem, &plan), 0);
    ck_assert_int_eq(plan.entry, BOOT_ENTRY_PVH);
    ck_assert(is_zero(at(mem, X86_SETUP_DATA, 4096), 4096));
    guest_mem_free(mem);
}
END_TEST

/* ---- kernels that are unpacked here ---------------------------------------------------------- */

/* A kernel of one packing in a guest of `size` bytes. */
struct packed_guest {
    struct guest_mem *mem;
    struct boot_plan plan;
    const struct boot_params *params;
};

static struct packed_guest load_file(const uint8_t *file, size_t len, const char *cmdline,
                                     uint64_t size)
{
    struct boot_machine m = machine;
    struct packed_guest guest;

    m.cmdline = cmdline;
    ck_assert_msg(load_bytes(file, len, &m, size, &guest.mem, &guest.plan) == 0, "%s", err.msg);
    ck_assert_int_eq(guest.plan.entry, BOOT_ENTRY_LINUX64);
    guest.params =
        (const struct boot_params *)at(guest.mem, guest.plan.params_gpa, sizeof(*guest.params));
    return guest;
}

static struct packed_guest load_packed(enum test_packing packing, const struct test_vmlinux *v,
                                       const char *cmdline, uint64_t size)
{
    size_t len;
    uint8_t *file = test_packed_kernel(packing, v, &len);
    struct packed_guest guest = load_file(file, len, cmdline, size);

    free(file);
    return guest;
}

/* What the kernel is at the place that the entry point says, but for its relocations. */
static uint64_t check_kernel(const struct packed_guest *guest, const struct test_vmlinux *v)
{
    uint64_t gpa = guest->plan.rip - TEST_VMLINUX_ENTRY;
    const uint8_t *kernel = at(guest->mem, gpa, TEST_BZIMAGE_INIT_SIZE);
    uint64_t delta = load_le64(kernel + TEST_VMLINUX_RELOC64) - TEST_VMLINUX_VALUE64;

    ck_assert_uint_ge(gpa, TEST_KERNEL_GPA);
    ck_assert_uint_eq(gpa % (2 * MIB), 0);
    ck_assert_uint_eq(delta % (2 * MIB), 0);
    ck_assert_uint_le(delta, GIB - TEST_KERNEL_GPA - TEST_BZIMAGE_INIT_SIZE);
    ck_assert_uint_eq(load_le64(kernel + TEST_VMLINUX_RELOC64_DATA), TEST_VMLINUX_VALUE64 + delta);
    ck_assert_uint_eq(load_le32(kernel + TEST_VMLINUX_INVERSE32),
                      (uint32_t)(TEST_VMLINUX_VALUE32 - delta));
    ck_assert_uint_eq(load_le32(kernel + TEST_VMLINUX_RELOC32),
                      (uint32_t)(TEST_VMLINUX_VALUE32 + delta));
    ck_assert_mem_eq(kernel + 0x100, v->text + 0x100, sizeof(v->text) - 0x100);
    ck_assert_mem_eq(kernel + TEST_VMLINUX_DATA + 0x10, v->data + 0x10, sizeof(v->data) - 0x10);
    ck_assert_uint_eq(load_le64(kernel + sizeof(v->text)), 0);
    ck_assert_uint_eq(load_le64(kernel + TEST_VMLINUX_DATA + sizeof(v->data)), 0);
    return delta;
}

START_TEST(packed_kernels_are_unpacked_and_entered_at_their_own_entry)
{
    struct test_vmlinux v;

    test_vmlinux_init(&v);
    for (unsigned packing = 0; packing < TEST_PACKINGS; packing++) {
        struct packed_guest guest = load_packed(packing, &v, "quiet", 64 * MIB);

        (void)check_kernel(&guest, &v);
        ck_assert_uint_ne(guest.params->hdr.loadflags & KASLR_FLAG, 0);
        guest_mem_free(guest.mem);
    }
}
END_TEST

/* By chance, once in ten to the 20th runs, it is not. */
START_TEST(each_start_has_its_own_addresses)
{
    uint64_t deltas = 0, places = 0, first_delta = 0, first_rip = 0;
    struct test_vmlinux v;

    test_vmlinux_init(&v);
    for (unsigned i = 0; i < 16; i++) {
        struct packed_guest guest = load_packed(TEST_PACKED_LZ4, &v, "quiet", 256 * MIB);
        uint64_t delta = check_kernel(&guest, &v);

        first_delta = i == 0 ? delta : first_delta;
        first_rip = i == 0 ? guest.plan.rip : first_rip;
        deltas += delta != first_delta;
        places += guest.plan.rip != first_rip;
        guest_mem_free(guest.mem);
    }
    ck_assert_uint_gt(deltas, 0);
    ck_assert_uint_gt(places, 0);
}
END_TEST

static void check_not_randomised(const struct packed_guest *guest, const struct test_vmlinux *v)
{
    ck_assert_uint_eq(guest->plan.rip, TEST_KERNEL_GPA + TEST_VMLINUX_ENTRY);
    ck_assert_uint_eq(check_kernel(guest, v), 0);
    ck_assert_uint_eq(guest->params->hdr.loadflags & KASLR_FLAG, 0);
}

/* Half of the places lie below 3 GiB, half above 4 GiB. */
START_TEST(a_kernel_above_4_gib_is_mapped)
{
    unsigned below = 0, above = 0;
    struct test_vmlinux v;

    test_vmlinux_init(&v);
    while (below == 0 || above == 0) {
        struct packed_guest guest = load_packed(TEST_PACKED_LZ4, &v, "quiet", 6 * GIB);
        uint64_t gpa = guest.plan.rip - TEST_VMLINUX_ENTRY;

        (void)check_kernel(&guest, &v);
        check_mapped(guest.mem, &guest.plan, gpa);
        check_mapped(guest.mem, &guest.plan, gpa + GIB);
        check_mapped(guest.mem, &guest.plan, GIB);
        check_mapped(guest.mem, &guest.plan, 4 * GIB - 1);
        below += gpa < X86_HIGH_RAM_START;
        above += gpa >= X86_HIGH_RAM_START;
        guest_mem_free(guest.mem);
    }
}
END_TEST

static int open_file(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    return fd;
}

/* Change bytes of the entry's image that no relocation changes, and keep its date. */
static void mark_entry(const char *path)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
    int fd = open_file(path, O_WRONLY);
    struct stat st;

    ck_assert_int_eq(fstat(fd, &st), 0);
    times[1] = st.st_mtim;
    ck_assert_int_eq(pwrite(fd, "marked", 6, 4096 + 0x200), 6);
    ck_assert_int_eq(futimens(fd, times), 0);
    close(fd);
}

static bool is_marked(const struct boot_options *options, const struct test_vmlinux *v,
                      const char *cmdline)
{
    struct boot_machine m = machine;
    struct packed_guest guest = {.mem = memory_of(64 * MIB)};
    const uint8_t *text;
    struct boot *boot;
    bool marked;

    m.cmdline = cmdline;
    ck_assert_int_eq(boot_open(options, &boot, &err), 0);
    ck_assert_int_eq(boot_load(boot, &m, guest.mem, &guest.plan, &err), 0);
    boot_close(boot);
    text = at(guest.mem, guest.plan.rip - TEST_VMLINUX_ENTRY, sizeof(v->text));
    marked = memcmp(text + 0x200, "marked", 6) == 0;
    if (!marked)
        (void)check_kernel(&guest, v);
    ck_assert_mem_eq(text + 0x210, v->text + 0x210, sizeof(v->text) - 0x210);
    guest_mem_free(guest.mem);
    return marked;
}

/* The stub could not run in guest memory that has a hole. */
static void lose_memory(const struct boot_options *options)
{
    struct guest_mem *mem = memory_of(64 * MIB);
    struct boot_plan plan;
    struct boot *boot;

    ck_assert_int_eq(boot_open(options, &boot, &err), 0);
    host_calls[HOST_MREMAP] = (struct host_call){.fail = 1, .error = ENOMEM};
    ck_assert_int_eq(boot_load(boot, &machine, mem, &plan, &err), GUEST_MEM_LOST);
    ck_assert_ptr_nonnull(strstr(err.msg, "guest memory is lost"));
    boot_close(boot);
    guest_mem_free(mem);
}

START_TEST(an_unpacked_kernel_comes_from_the_cache_the_next_time)
{
    const char *dir = scratch_path("cache"), *path = scratch_path("kernel");
    struct boot_options options = {.kernel = path, .kernel_cache = dir};
    struct test_vmlinux v;
    uint8_t *file;
    size_t len;
    glob_t found;

    test_vmlinux_init(&v);
    file = test_packed_kernel(TEST_PACKED_LZ4, &v, &len);
    scratch_save("kernel", file, len);
    free(file);
    /* Younger ones are not kept. */
    (void)usleep(2100 * 1000);
    ck_assert(!is_marked(&options, &v, "quiet"));
    scratch_ok("test $(ls cache | wc -l) = 1");
    ck_assert_int_eq(glob(scratch_path("cache/*.kernel"), 0, NULL, &found), 0);
    ck_assert(!is_marked(&options, &v, "quiet"));
    mark_entry(found.gl_pathv[0]);
    ck_assert(is_marked(&options, &v, "quiet"));
    ck_assert(is_marked(&options, &v, "nokaslr"));
    lose_memory(&options);

    /* Not where it would not be unpacked either, nor one that is not as it was made. */
    ck_assert_int_eq(chmod(found.gl_pathv[0], 0644), 0);
    ck_assert(!is_marked(&options, &v, "quiet"));
    globfree(&found);
    options.kernel_cache = NULL;
    ck_assert(!is_marked(&options, &v, "quiet"));
}
END_TEST

START_TEST(nokaslr_leaves_the_kernel_where_it_was_linked_for)
{
    struct packed_guest guest;
    struct test_vmlinux v;

    test_vmlinux_init(&v);
    guest = load_packed(TEST_PACKED_ZSTD, &v, "quiet nokaslr", 64 * MIB);
    check_not_randomised(&guest, &v);
    guest_mem_free(guest.mem);
}
END_TEST

START_TEST(without_kaslr_the_command_line_begins_with_nokaslr)
{
    struct boot_machine m = machine;
    struct packed_guest guest;
    struct test_vmlinux v;
    uint8_t *file;
    size_t len;

    m.kaslr = false;
    test_vmlinux_init(&v);
    file = test_packed_kernel(TEST_PACKED_LZ4, &v, &len);
    ck_assert_int_eq(load_bytes(file, len, &m, 64 * MIB, &guest.mem, &guest.plan), 0);
    guest.params = (const struct boot_params *)at(guest.mem, guest.plan.params_gpa, 4096);
    check_not_randomised(&guest, &v);
    ck_assert_str_eq((const char *)at(guest.mem, guest.params->hdr.cmd_line_ptr, 64),
                     "nokaslr console=ttyS0 quiet");
    guest_mem_free(guest.mem);
    free(file);
}
END_TEST

START_TEST(a_kernel_without_a_table_runs_where_it_was_linked_for)
{
    struct packed_guest guest;
    struct test_vmlinux v;
    size_t payload_len, len;
    uint8_t *payload, *file;

    test_vmlinux_init(&v);
    payload = test_pack(TEST_PACKED_XZ, &v, offsetof(struct test_vmlinux, table), &payload_len);
    file = test_bzimage_around(payload, payload_len, &len);
    guest = load_file(file, len, "quiet", 64 * MIB);
    ck_assert_uint_eq(check_kernel(&guest, &v), 0);
    ck_assert_uint_eq(guest.params->hdr.loadflags & KASLR_FLAG, 0);
    guest_mem_free(guest.mem);
    free(payload);
    free(file);
}
END_TEST

/* The kernel's own stub is in place and entered, and nothing else is there. */
static void check_stub(const struct packed_guest *guest, const uint8_t *file, size_t len)
{
    const uint8_t *head = at(guest->mem, TEST_KERNEL_GPA - 2 * MIB, 2 * MIB);
    const uint8_t *kernel = at(guest->mem, TEST_KERNEL_GPA, TEST_BZIMAGE_INIT_SIZE);
    size_t off = offsetof(struct test_bzimage, kernel);

    ck_assert_uint_eq(guest->plan.rip, TEST_KERNEL_GPA + 0x200);
    ck_assert_uint_eq(guest->params->hdr.loadflags & KASLR_FLAG, 0);
    ck_assert_mem_eq(kernel, file + off, len - off);
    ck_assert(is_zero(head, 2 * MIB));
    ck_assert(is_zero(kernel + len - off, TEST_BZIMAGE_INIT_SIZE - (len - off)));
}

static void expect_stub(const struct test_vmlinux *v, const char *cmdline)
{
    size_t len;
    uint8_t *file = test_packed_kernel(TEST_PACKED_LZ4, v, &len);
    struct packed_guest guest = load_file(file, len, cmdline, 34 * MIB);

    check_stub(&guest, file, len);
    guest_mem_free(guest.mem);
    free(file);
}

START_TEST(what_is_unexpected_is_left_to_the_kernels_stub)
{
    struct test_vmlinux v;

    test_vmlinux_init(&v);
    expect_stub(&v, "mem=64M");
    v.table[0] = 1;
    expect_stub(&v, "");
    test_vmlinux_init(&v);
    v.table[7] = 1; /* outside the kernel: noticed when it is in place */
    expect_stub(&v, "");
    test_vmlinux_init(&v);
    v.ehdr.e_machine = EM_386;
    expect_stub(&v, "");
    test_vmlinux_init(&v);
    v.load[1].p_paddr += TEST_BZIMAGE_INIT_SIZE;
    expect_stub(&v, "nokaslr");
}
END_TEST

START_TEST(a_damaged_payload_is_left_to_the_kernels_stub)
{
    struct test_vmlinux v;

    test_vmlinux_init(&v);
    for (unsigned packing = 0; packing < TEST_PACKINGS; packing++) {
        size_t len;
        uint8_t *file = test_packed_kernel(packing, &v, &len);
        struct packed_guest guest;

        memset(file + offsetof(struct test_bzimage, kernel) + TEST_PAYLOAD_OFF + 4, 0xa5, 16);
        guest = load_file(file, len, "", 34 * MIB);
        check_stub(&guest, file, len);
        guest_mem_free(guest.mem);
        free(file);
    }
}
END_TEST

START_TEST(the_command_line_may_be_as_long_as_the_kernel_says)
{
    char text[2048 + 1];
    struct boot_machine m = machine;
    struct test_bzimage image;
    struct guest_mem *mem;
    struct boot_plan plan;

    m.cmdline = text;
    memset(text, 'a', sizeof(text));
    test_bzimage_init(&image);
    text[2047] = '\0';
    ck_assert_int_eq(load_bytes(&image, sizeof(image), &m, 64 * MIB, &mem, &plan), 0);
    guest_mem_free(mem);

    text[2047] = 'a';
    text[2048] = '\0';
    ck_assert_int_eq(load_bytes(&image, sizeof(image), &m, 64 * MIB, &mem, &plan), -E2BIG);
    ck_assert_str_eq(err.msg, "command line of 2048 bytes: this kernel takes at most 2047");
}
END_TEST

START_TEST(a_kernel_that_sets_no_limit_is_limited_by_our_room)
{
    static char text[X86_CMDLINE_MAX + 1];
    struct boot_machine m = machine;
    struct test_bzimage image;
    struct guest_mem *mem;
    struct boot_plan plan;

    m.cmdline = text;
    memset(text, 'a', sizeof(text) - 1);
    test_bzimage_init(&image);
    image.hdr.cmdline_size = UINT32_MAX;
    ck_assert_int_eq(load_bytes(&image, sizeof(image), &m, 64 * MIB, &mem, &plan), -E2BIG);
    text[X86_CMDLINE_MAX - 1] = '\0';
    ck_assert_int_eq(load_bytes(&image, sizeof(image), &m, 64 * MIB, &mem, &plan), 0);
    guest_mem_free(mem);
}
END_TEST

START_TEST(a_kernel_that_needs_more_ram_than_there_is_is_refused)
{
    struct test_bzimage image;
    struct guest_mem *mem;
    struct boot_plan plan;

    test_bzimage_init(&image);
    image.hdr.init_size = 17 * MIB;
    ck_assert_int_eq(load_bytes(&image, sizeof(image), &machine, 33 * MIB, &mem, &plan), 0);
    guest_mem_free(mem);
    ck_assert_int_eq(load_bytes(&image, sizeof(image), &machine, 32 * MIB, &mem, &plan), -ENOSPC);
    ck_assert_msg(strstr(err.msg, "the kernel needs 17408 KiB at 0x1000000, which is outside the "
                                  "guest's 32 MiB of RAM"),
                  "%s", err.msg);
}
END_TEST

/* Nothing of the machine's own is given to a kernel. */
START_TEST(segments_on_top_of_boot_tables_are_refused)
{
    static const struct {
        uint64_t gpa;
        const char *message;
    } cases[] = {
        {0, "overlaps the boot GDT"},
        {X86_PVH_INFO, "overlaps the PVH start info"},
        {X86_ZERO_PAGE + 8, "overlaps the zero page"},
        {X86_PAGE_TABLES, "overlaps the page tables"},
        {X86_CMDLINE - 1, "overlaps the command line"},
        {X86_EBDA_START - 1, "overlaps the legacy area"},
        {0xc0000, "overlaps the legacy area"},
        {X86_KERNEL_START - 1, "overlaps the legacy area"},
        {64 * MIB - 1, "outside the guest's 64 MiB of RAM"},
        {64 * MIB, "outside the guest's 64 MiB of RAM"},
        {5 * GIB, "outside the guest's 64 MiB of RAM"},
        {UINT64_MAX - 0x4000, "outside the guest's 64 MiB of RAM"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct guest_mem *mem;
        struct boot_plan plan;
        struct test_elf elf;

        test_elf_init(&elf);
        elf.ehdr.e_phnum = 1;
        elf.ehdr.e_entry = elf.load.p_paddr = cases[i].gpa;
        ck_assert_int_lt(load_bytes(&elf, sizeof(elf), &machine, 64 * MIB, &mem, &plan), 0);
        ck_assert_msg(strstr(err.msg, cases[i].message), "%s", err.msg);
    }
}
END_TEST

START_TEST(segments_on_top_of_each_other_are_refused)
{
    struct guest_mem *mem;
    struct boot_plan plan;
    struct test_elf elf;

    test_elf_init(&elf);
    elf.note = elf.load;
    elf.note.p_paddr += elf.load.p_memsz - 1;
    ck_assert_int_eq(load_bytes(&elf, sizeof(elf), &machine, 64 * MIB, &mem, &plan), -EINVAL);
    ck_assert_msg(strstr(err.msg, "overlaps the kernel"), "%s", err.msg);
}
END_TEST

START_TEST(an_entry_point_above_4_gib_is_refused)
{
    struct guest_mem *mem;
    struct boot_plan plan;
    struct test_elf elf;

    test_elf_init(&elf);
    elf.ehdr.e_phnum = 1;
    elf.ehdr.e_entry = elf.load.p_paddr = 4 * GIB;
    ck_assert_int_eq(load_bytes(&elf, sizeof(elf), &machine, 4 * GIB, &mem, &plan), -EINVAL);
    ck_assert_msg(strstr(err.msg, "expected one below 4 GiB"), "%s", err.msg);
}
END_TEST

START_TEST(a_file_that_became_shorter_is_noticed)
{
    struct guest_mem *mem = memory_of(64 * MIB);
    struct boot_options options;
    struct test_bzimage image;
    struct test_file file;
    struct boot_plan plan;
    struct boot *boot;

    test_bzimage_init(&image);
    file = test_file_new(&image, sizeof(image));
    options = (struct boot_options){.kernel = file.path};
    ck_assert_int_eq(boot_open(&options, &boot, &err), 0);
    ck_assert_int_eq(ftruncate(file.fd, 2000), 0);
    ck_assert_int_eq(boot_load(boot, &machine, mem, &plan, &err), -EIO);
    ck_assert_msg(strstr(err.msg, "was 5120 bytes when opened and ends at 2000 now"), "%s",
                  err.msg);
    ck_assert_msg(strstr(err.msg, file.path) != NULL, "%s", err.msg);
    boot_close(boot);
    test_file_free(&file);
    guest_mem_free(mem);
}
END_TEST

START_TEST(what_is_no_regular_file_is_refused_without_waiting)
{
    const char *fifo = scratch_path("fifo");
    struct boot_options options = {.kernel = fifo};
    struct boot *boot;

    ck_assert_int_eq(mkdir(fifo, 0700), 0);
    ck_assert_int_eq(boot_open(&options, &boot, &err), -EINVAL);
    ck_assert_msg(strstr(err.msg, "a directory, expected a regular file"), "%s", err.msg);
    ck_assert_int_eq(rmdir(fifo), 0);

    ck_assert_int_eq(boot_open(&options, &boot, &err), -ENOENT);

    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    ck_assert_int_eq(boot_open(&options, &boot, &err), -EINVAL);
    ck_assert_msg(strstr(err.msg, "expected a regular file"), "%s", err.msg);

    options.kernel = "/dev/zero";
    ck_assert_int_eq(boot_open(&options, &boot, &err), -EINVAL);
}
END_TEST

START_TEST(a_missing_initrd_is_named)
{
    const char *const initrds[] = {"/nonexistent/initrd"};
    struct test_bzimage image;
    struct boot_options options;
    struct test_file file;
    struct boot *boot;

    test_bzimage_init(&image);
    file = test_file_new(&image, sizeof(image));
    options = (struct boot_options){.kernel = file.path, .initrds = initrds, .ninitrds = 1};
    ck_assert_int_eq(boot_open(&options, &boot, &err), -ENOENT);
    ck_assert_msg(strstr(err.msg, initrds[0]) != NULL, "%s", err.msg);
    test_file_free(&file);
}
END_TEST

START_TEST(the_kernels_of_this_machine_load)
{
    glob_t found;

    if (glob(STOCK_KERNELS, 0, NULL, &found) != 0) {
        printf("no kernel in " STOCK_KERNELS ": not loaded\n");
        return;
    }
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct guest_mem *mem;
        struct boot_plan plan;

        if (access(found.gl_pathv[i], R_OK) < 0)
            continue;
        ck_assert_msg(open_and_load(found.gl_pathv[i], &machine, 256 * MIB, &mem, &plan) == 0, "%s",
                      err.msg);
        ck_assert_int_eq(plan.entry, BOOT_ENTRY_LINUX64);
        guest_mem_free(mem);
    }
    globfree(&found);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "load", a_bzimage_is_entered_with_a_zero_page,
              page_tables_map_the_first_4_gib_to_themselves,
              an_elf_kernel_with_a_note_is_entered_by_pvh,
              an_elf_kernel_without_a_note_is_entered_as_linux,
              without_acpi_there_is_an_mp_table_and_devices_on_the_command_line,
              a_jump_to_the_bios_resets_by_the_keyboard_controller,
              a_guest_can_be_loaded_again_into_fresh_memory,
              a_kernel_of_several_megabytes_is_loaded_whole, the_kernels_of_this_machine_load);
    unit_case(suite, "random", each_start_has_a_seed_of_its_own, each_start_is_another_generation,
              a_guest_without_acpi_has_a_seed_and_no_generation,
              a_host_without_random_numbers_starts_a_guest_without_a_seed,
              pvh_has_no_place_for_a_seed);
    unit_case(suite, "unpacked", packed_kernels_are_unpacked_and_entered_at_their_own_entry,
              each_start_has_its_own_addresses, a_kernel_above_4_gib_is_mapped,
              an_unpacked_kernel_comes_from_the_cache_the_next_time,
              nokaslr_leaves_the_kernel_where_it_was_linked_for,
              without_kaslr_the_command_line_begins_with_nokaslr,
              a_kernel_without_a_table_runs_where_it_was_linked_for,
              what_is_unexpected_is_left_to_the_kernels_stub,
              a_damaged_payload_is_left_to_the_kernels_stub);
    unit_case(suite, "command line", the_command_line_may_be_as_long_as_the_kernel_says,
              a_kernel_that_sets_no_limit_is_limited_by_our_room);
    unit_case(suite, "refused", a_kernel_that_needs_more_ram_than_there_is_is_refused,
              segments_on_top_of_boot_tables_are_refused, segments_on_top_of_each_other_are_refused,
              an_entry_point_above_4_gib_is_refused, a_file_that_became_shorter_is_noticed);
    unit_case(suite, "files", what_is_no_regular_file_is_refused_without_waiting,
              a_missing_initrd_is_named);
}

UNIT_USES_THREADS;
UNIT_MAIN("boot", add_tests)
