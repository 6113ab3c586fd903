/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wrong options, wrong settings, and files that are not what they are taken for, given to the
 * program as a user gives them. tests/lib/guest/refusal.h says what is expected each time; most of
 * it is in tests/guest/cases/.
 */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/boot/kernel_file.h"
#include "tests/lib/guest/guest_test.h"
#include "tests/lib/guest/refusal.h"
#include "tests/lib/guest/refusal_cases.h"
#include "vmm/config/config.h"

#define KERNEL "--kernel", "kernel"
#define CONFIG "--config", "config.json"

/* Images on top of each other; deep-0 is one too deep. */
#define DEPTH_MAX 64u

/* ---- more than a line of a file can say ------------------------------------------------------ */

#define VALUE_40 "0123456789012345678901234567890123456789"
#define VALUE_400                                                                                  \
    VALUE_40 VALUE_40 VALUE_40 VALUE_40 VALUE_40 VALUE_40 VALUE_40 VALUE_40 VALUE_40 VALUE_40

static const struct refusal odd_values[] = {
    {.args = {KERNEL, "--memory", VALUE_400},
     .code = EXIT_USAGE,
     .says = {"--memory", VALUE_40, "32M to 4T"}},
    {.args = {KERNEL, "--memory", "1\n2\033[2J"},
     .code = EXIT_USAGE,
     .says = {"--memory", "'1?2?[2J'", "32M to 4T"}},
    {.args = {"--kernel", "bz", "--append", VALUE_400 VALUE_400},
     .code = EXIT_SETUP,
     .says = {"command line", "at most 800"}},
    {.args = {KERNEL, "--serial", "unix:" VALUE_400},
     .code = EXIT_SETUP,
     .says = {VALUE_40, "at most 107 bytes"}},
    {.args = {CONFIG},
     .config = "{\"kernel\": \"\xff\"}",
     .code = EXIT_USAGE,
     .says = {"config.json", "expected JSON"}},
    {.args = {CONFIG, "--cpus", "x"},
     .config = "{}",
     .code = EXIT_USAGE,
     .says = {"--cpus", "'x'", "1 to 255"}},
};

static void print_into_the_void(void)
{
    if (dup2(open("/dev/full", O_WRONLY | O_CLOEXEC), STDOUT_FILENO) < 0)
        _exit(REFUSAL_SKIPPED);
}

static const struct refusal lost_output[] = {
    {.args = {"--help"},
     .in_child = print_into_the_void,
     .code = EXIT_SETUP,
     .says = {"standard output", "No space left"}},
    {.args = {"--version"},
     .in_child = print_into_the_void,
     .code = EXIT_SETUP,
     .says = {"standard output", "No space left"}},
};

/* What the shell does with 9<>disk.raw and with >>disk.raw. */
static void open_disk_as_9(void)
{
    if (dup2(open("disk.raw", O_RDWR | O_CLOEXEC), 9) < 0)
        _exit(REFUSAL_SKIPPED);
}

static void print_on_disk(void)
{
    if (dup2(open("disk.raw", O_WRONLY | O_APPEND | O_CLOEXEC), STDOUT_FILENO) < 0)
        _exit(REFUSAL_SKIPPED);
}

static const struct refusal own_descriptors[] = {
    {.args = {KERNEL, "--disk", "disk.raw", "--serial", "file:/dev/fd/9"},
     .in_child = open_disk_as_9,
     .code = EXIT_SETUP,
     .says = {"/dev/fd/9", "disk vda of this VM"}},
    {.args = {KERNEL, "--disk", "/proc/self/fd/9", "--serial", "file:disk.raw"},
     .in_child = open_disk_as_9,
     .code = EXIT_SETUP,
     .says = {"disk.raw", "disk vda of this VM"}},
    {.args = {KERNEL, "--disk", "disk.raw"},
     .in_child = print_on_disk,
     .code = EXIT_SETUP,
     .says = {"standard output", "disk vda of this VM"}},
};

/* ---- the files ------------------------------------------------------------------------------- */

static void write_bzimage(const char *name, const struct test_bzimage *image, size_t len)
{
    refusal_write_file(name, image, len);
}

static void make_bzimages(void)
{
    static const size_t lens[] = {3, 510, 520, 600, 1024, 5000};
    struct test_bzimage good, image;

    test_bzimage_init(&good);
    good.hdr.cmdline_size = 800;
    write_bzimage("bz", &good, sizeof(good));
    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        char name[32];

        snprintf(name, sizeof(name), "bz-%zu", lens[i]);
        write_bzimage(name, &good, lens[i]);
    }
    image = good;
    image.hdr.version = 0x020b;
    write_bzimage("bz-old", &image, sizeof(image));
    image = good;
    image.hdr.xloadflags = 0;
    write_bzimage("bz-32bit", &image, sizeof(image));
    image = good;
    image.hdr.loadflags = 0;
    write_bzimage("bz-low", &image, sizeof(image));
    image = good;
    image.hdr.init_size = 32 << 20;
    write_bzimage("bz-large", &image, sizeof(image));
    image = good;
    image.hdr.pref_address = 0xfffffffffffff000;
    write_bzimage("bz-nowhere", &image, sizeof(image));
    image = good;
    image.hdr.kernel_alignment = 3;
    write_bzimage("bz-align", &image, sizeof(image));
}

static void make_elfs(void)
{
    static const size_t lens[] = {40, 100, 300};
    struct test_elf good, elf;

#define WRITE_ELF(name, ...)                                                                       \
    do {                                                                                           \
        elf = good;                                                                                \
        __VA_ARGS__;                                                                               \
        refusal_write_file(name, &elf, sizeof(elf));                                               \
    } while (0)

    test_elf_init(&good);
    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        char name[32];

        snprintf(name, sizeof(name), "elf-%zu", lens[i]);
        refusal_write_file(name, &good, lens[i]);
    }
    WRITE_ELF("elf-32bit", elf.ehdr.e_ident[EI_CLASS] = ELFCLASS32);
    WRITE_ELF("elf-arm", elf.ehdr.e_machine = EM_AARCH64);
    WRITE_ELF("elf-object", elf.ehdr.e_type = ET_REL);
    WRITE_ELF("elf-headers", elf.ehdr.e_phnum = UINT16_MAX);
    WRITE_ELF("elf-headers-behind", elf.ehdr.e_phoff = UINT64_MAX - 8);
    WRITE_ELF("elf-segment-wraps", elf.load.p_paddr = UINT64_MAX - 4096);
    WRITE_ELF("elf-segment-large", elf.load.p_memsz = 1ull << 62);
    WRITE_ELF("elf-segment-low", elf.load.p_memsz = elf.load.p_paddr, elf.load.p_paddr = 4096);
    WRITE_ELF("elf-entry", elf.ehdr.e_entry = 0, elf.note.p_type = PT_NULL);
#undef WRITE_ELF
}

/* Fields of the qcow2 header by their offset, in bytes. */
static const struct header_case {
    const char *name;
    unsigned at;
    unsigned len;
    uint64_t value;
} header_cases[] = {
    {"version-1", 4, 4, 1},
    {"version-4", 4, 4, 4},
    {"backing-name-outside", 8, 8, 1ull << 40},
    {"cluster-bits", 20, 4, 8},
    {"cluster-bits-huge", 20, 4, 200},
    {"size-huge", 24, 8, 1ull << 63},
    {"crypt-1", 32, 4, 1},
    {"crypt-2", 32, 4, 2},
    {"l1-huge", 36, 4, UINT32_MAX},
    {"l1-short", 36, 4, 0},
    {"l1-outside", 40, 8, 1ull << 40},
    {"l1-unaligned", 40, 8, 3 * 65536 + 512},
    {"reftable-outside", 48, 8, 1ull << 62},
    {"reftable-huge", 56, 4, UINT32_MAX},
    {"snapshots-huge", 60, 4, UINT32_MAX},
    {"incompatible-2", 72, 8, 1ull << 2},
    {"incompatible-9", 72, 8, 1ull << 9},
    {"incompatible-63", 72, 8, 1ull << 63},
    {"header-length", 100, 4, UINT32_MAX},
    {"extension-huge", 108, 4, UINT32_MAX},
};

static void make_broken_images(const struct mem_disk *good)
{
    static const size_t lens[] = {50, 90, 512, 65536, 150000};
    char name[32];

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        snprintf(name, sizeof(name), "cut-%zu", lens[i]);
        refusal_write_file(name, good->data, lens[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(header_cases); i++) {
        const struct header_case *c = &header_cases[i];
        uint8_t *image = malloc(good->len);

        ck_assert_ptr_nonnull(image);
        memcpy(image, good->data, good->len);
        if (c->len == 4)
            store_be32(image + c->at, (uint32_t)c->value);
        else
            store_be64(image + c->at, c->value);
        if (c->at == 8) /* a name needs a length */
            store_be32(image + 16, 10);
        if (c->at == 108) /* an extension needs a type */
            store_be32(image + 104, 1);
        refusal_write_file(c->name, image, good->len);
        free(image);
    }
}

static void make_overlay(struct mem_disk *disk, const char *name, const char *backing,
                         const char *format)
{
    const struct qcow2_image_options overlay = {
        .refcount_order = 4,
        .size = 8 << 20,
        .backing = backing,
        .backing_format = format,
    };

    qcow2_image_make(disk, &overlay);
    mem_disk_save(disk, name);
}

static void make_images(void)
{
    const struct qcow2_image_options plain = {.refcount_order = 4, .size = 8 << 20};
    const struct qcow2_image_options data_outside = {
        .refcount_order = 4, .size = 8 << 20, .data_file = "/etc/passwd"};
    const struct qcow2_image_options data_inside = {
        .refcount_order = 4, .size = 8 << 20, .data_file = "second"};
    static const char raw[65536];
    char name[32], backing[32];
    struct mem_disk disk;

    mem_disk_init(&disk, "disk");
    qcow2_image_make(&disk, &data_outside);
    mem_disk_save(&disk, "data-outside");
    qcow2_image_make(&disk, &data_inside);
    mem_disk_save(&disk, "data-inside");
    qcow2_image_make(&disk, &plain);
    mem_disk_save(&disk, "disk.qcow2");
    make_broken_images(&disk);
    refusal_write_file("disk.raw", raw, sizeof(raw));

    make_overlay(&disk, "backing-missing", "missing", "raw");
    make_overlay(&disk, "backing-folder", "folder", "raw");
    make_overlay(&disk, "backing-network", "nbd://host/disk", "raw");
    make_overlay(&disk, "backing-format", "disk.raw", "vmdk");
    make_overlay(&disk, "backing-probed-0", "backing-probed-1", NULL);
    make_overlay(&disk, "backing-probed-1", "missing", NULL);
    make_overlay(&disk, "backing-outside", "/etc/passwd", "raw");
    make_overlay(&disk, "backing-self", "backing-self", "qcow2");
    make_overlay(&disk, "backing-loop-0", "backing-loop-1", "qcow2");
    make_overlay(&disk, "backing-loop-1", "backing-loop-0", "qcow2");
    for (unsigned i = 0; i < DEPTH_MAX; i++) {
        snprintf(name, sizeof(name), "deep-%u", i);
        snprintf(backing, sizeof(backing), "deep-%u", i + 1);
        make_overlay(&disk, name, backing, i + 1 < DEPTH_MAX ? "qcow2" : "raw");
    }
    snprintf(name, sizeof(name), "deep-%u", DEPTH_MAX);
    refusal_write_file(name, raw, sizeof(raw));
    mem_disk_done(&disk);
}

static void make_special_files(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    close(fd);
    ck_assert_int_eq(mkfifo("fifo", 0600), 0);
    ck_assert_int_eq(mkdir("folder", 0700), 0);
    ck_assert_int_eq(symlink("loop", "loop"), 0);
    ck_assert_int_eq(link("disk.raw", "disk.hard"), 0);
    ck_assert_int_eq(symlink("disk.raw", "disk.link"), 0);
}

/* Once for all tests: none of them may change anything here but config.json. */
static void make_files(void)
{
    static const char text[] = "This is neither a kernel nor a disk.\n";
    static const char gzip[64] = "\x1f\x8b\x08";
    static const char vmdk[1024] = "# Disk DescriptorFile\nversion=1\n";

    refusal_enter_folder();
    refusal_write_kernel();
    make_bzimages();
    make_elfs();
    refusal_write_file("empty", "", 0);
    refusal_write_file("text", text, strlen(text));
    refusal_write_file("second", text, strlen(text));
    refusal_write_file("kernel.gz", gzip, sizeof(gzip));
    refusal_write_file("disk.vmdk", vmdk, sizeof(vmdk));
    refusal_write_file("large", "", 0);
    ck_assert_int_eq(truncate("large", 40 << 20), 0);
    make_images();
    make_special_files();
}

/* ---- tests ----------------------------------------------------------------------------------- */

static struct refusal_cases options, configs, boot_files, disks, serials, controls, own_files;

/* A loop test over a table of refusals. */
#define TEST_REFUSALS(name, table)                                                                 \
    START_TEST(name)                                                                               \
    {                                                                                              \
        refusal_check(&(table)[_i]);                                                               \
    }                                                                                              \
    END_TEST

TEST_REFUSALS(bad_option_is_refused, options.list)
TEST_REFUSALS(bad_configuration_is_refused, configs.list)
TEST_REFUSALS(bad_kernel_or_initrd_is_refused, boot_files.list)
TEST_REFUSALS(bad_disk_is_refused, disks.list)
TEST_REFUSALS(bad_serial_port_is_refused, serials.list)
TEST_REFUSALS(bad_control_socket_is_refused, controls.list)
TEST_REFUSALS(own_file_is_no_output, own_files.list)
TEST_REFUSALS(odd_value_is_refused, odd_values)
TEST_REFUSALS(lost_output_is_told, lost_output)
TEST_REFUSALS(own_descriptor_is_no_output, own_descriptors)

START_TEST(more_disks_than_slots_are_refused)
{
    struct refusal refusal = {
        .args = {KERNEL}, .code = EXIT_SETUP, .says = {"65 disks", "room for 64"}};

    for (size_t i = 0; i < 65; i++) {
        refusal.args[2 + 2 * i] = "--disk";
        refusal.args[3 + 2 * i] = "disk.raw,readonly=on";
    }
    refusal_check(&refusal);
}
END_TEST

START_TEST(long_path_leaves_room_for_the_reason)
{
    static char path[PATH_MAX + 100];
    const struct refusal refusals[] = {
        {.args = {"--kernel", path}, .code = EXIT_SETUP, .says = {"kernel: xxx", "too long"}},
        {.args = {KERNEL, "--disk", path},
         .code = EXIT_SETUP,
         .says = {"disk vda: xxx", "too long"}},
        {.args = {"--config", path}, .code = EXIT_USAGE, .says = {"xxx", "too long"}},
    };

    memset(path, 'x', sizeof(path) - 1);
    refusal_check(&refusals[_i]);
}
END_TEST

/* What the others rely on: the same files and options, where nothing is wrong. */
START_TEST(good_input_is_taken)
{
    static const char *const args[][VM_ARGS_MAX] = {
        {KERNEL, "--initrd", "text"},
        {KERNEL, "--disk", "disk.qcow2", "--disk", "disk.raw"},
        {KERNEL, "--disk", "text,format=raw"},
        {KERNEL, "--disk", "deep-1,readonly=on", "--serial", "null"},
        {KERNEL, "--memory", "32M", "--cpus", "2"},
        {KERNEL, "--disk", "disk.raw,readonly=on", "--disk", "disk.hard,readonly=on"},
        {KERNEL, "--disk", "deep-63,readonly=on", "--disk", "deep-62"},
        {KERNEL, "--disk", "backing-outside,backing=folder,backing=/etc"},
        {KERNEL, "--disk", "backing-outside,backing=any"},
        {KERNEL, "--disk", "backing-outside,backing=folder", "--backing", "/etc"},
        {KERNEL, "--disk", "backing-outside", "--backing=any"},
    };
    bool touched;
    struct vm vm;
    int code = refusal_run(&vm, args[_i], NULL, &touched);

    assert_exit_code(&vm, code, EXIT_POWER_OFF);
    ck_assert(touched != (_i == 3)); /* not without stdio */
    vm_done(&vm);
}
END_TEST

static void limit_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        _exit(REFUSAL_SKIPPED);
    limit.rlim_cur = 64;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        _exit(REFUSAL_SKIPPED);
}

/* The limit that a shell sets may be raised to the one that the host sets. */
START_TEST(longest_chain_needs_no_more_descriptors_than_there_are)
{
    static const char *const args[] = {KERNEL, "--disk", "deep-1", NULL};
    bool touched;
    struct vm vm;
    int code = refusal_run(&vm, args, limit_descriptors, &touched);

    assert_exit_code(&vm, code, EXIT_POWER_OFF);
    vm_done(&vm);
}
END_TEST

/* The refusals of a file: a loop test. */
static void add_cases(TCase *tcase, const TTest *test, struct refusal_cases *cases,
                      const char *name)
{
    refusal_cases_read(cases, name);
    tcase_add_loop_test(tcase, test, 0, cases->n);
}

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("bad input");

    tcase_add_unchecked_fixture(tcase, make_files, NULL);
    tcase_add_loop_test(tcase, good_input_is_taken, 0, 11);
    add_cases(tcase, bad_option_is_refused, &options, "options");
    add_cases(tcase, bad_configuration_is_refused, &configs, "config");
    add_cases(tcase, bad_kernel_or_initrd_is_refused, &boot_files, "boot");
    add_cases(tcase, bad_disk_is_refused, &disks, "disks");
    add_cases(tcase, bad_serial_port_is_refused, &serials, "serial");
    add_cases(tcase, bad_control_socket_is_refused, &controls, "control");
    add_cases(tcase, own_file_is_no_output, &own_files, "own_files");
    tcase_add_loop_test(tcase, odd_value_is_refused, 0, ARRAY_SIZE(odd_values));
    tcase_add_loop_test(tcase, lost_output_is_told, 0, ARRAY_SIZE(lost_output));
    tcase_add_loop_test(tcase, own_descriptor_is_no_output, 0, ARRAY_SIZE(own_descriptors));
    tcase_add_loop_test(tcase, long_path_leaves_room_for_the_reason, 0, 3);
    tcase_add_test(tcase, longest_chain_needs_no_more_descriptors_than_there_are);
    tcase_add_test(tcase, more_disks_than_slots_are_refused);
    suite_add_tcase(suite, tcase);
}

GUEST_TEST_MAIN("guest bad input", add_tests)
