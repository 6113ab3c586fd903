/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that writes nonsense to every port, register and ring harms only itself: afterwards the
 * VMM still runs, the same guest can use the machine properly, and memory has not grown.
 *
 * GUEST_SEED=N repeats a run.
 */
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_mmio.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "devices/acpi_pm.h"
#include "devices/serial.h"
#include "memory/layout_x86.h"
#include "tests/lib/guest/guest_disk.h"
#include "tests/lib/guest/guest_test.h"
#include "tests/lib/guest/random.h"
#include "vmm/config/config.h"

#define GUEST_RAM (64u << 20) /* GUEST_MEMORY */
#define GUEST_RAM_TAIL 0x2000u
#define DISKS 2u
#define DISK_LEN (1u << 20)

/* Resident memory of the VMM, its guest's included, that would show a leak. */
#define RSS_MAX_KIB ((64u + 32u) << 10)

static struct guest guest;
static struct vm vm;

/* Small numbers, single bits, all ones and anything: what registers are sensitive to. */
static uint64_t nonsense(void)
{
    switch (random_below(4)) {
    case 0:
        return random_below(16);
    case 1:
        return 1ull << random_below(64);
    case 2:
        return UINT64_MAX << random_below(64);
    default:
        return random_u64();
    }
}

/* The guest's own tables, code and operations: a device told to write there ends the guest. */
static bool harms_the_guest(uint64_t gpa)
{
    return gpa < GUEST_RAM && (gpa < GUEST_DATA || gpa >= GUEST_DATA_END) &&
           gpa < GUEST_RAM - GUEST_RAM_TAIL;
}

/* An address of queue memory: good, at the end of RAM, in a hole, nowhere, not aligned. */
static uint64_t nonsense_address(void)
{
    uint64_t gpa;

    switch (random_below(5)) {
    case 0:
        return GUEST_RAM - random_below(GUEST_RAM_TAIL);
    case 1:
        return X86_VIRTIO_MMIO_BASE + random_below(0x10000);
    case 2:
        gpa = nonsense();
        return harms_the_guest(gpa) ? GUEST_RAM : gpa;
    case 3:
        return GUEST_DATA + random_below(0x100000);
    default:
        return GUEST_DATA + (random_below(0x1000) << 4);
    }
}

static void set_up(void)
{
    random_seed();
    guest_init(&guest);
}

static void tear_down(void)
{
    vm_done(&vm);
    guest_done(&guest);
}

static void make_disk(const char *path)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, DISK_LEN), 0);
    close(fd);
}

static unsigned long rss_kib(void)
{
    unsigned long kib = 0;
    char line[256];
    FILE *file;

    snprintf(line, sizeof(line), "/proc/%d/status", vm.pid);
    file = fopen(line, "r");
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof(line), file))
        if (strncmp(line, "VmRSS:", 6) == 0)
            kib = strtoul(line + 6, NULL, 10);
    fclose(file);
    return kib;
}

/* After the nonsense: use both disks properly, say so, wait for a byte, power off. */
static void add_proper_use(void)
{
    struct guest_disk disk;

    for (unsigned i = 0; i < DISKS; i++) {
        guest_disk_init(&disk, &guest, i);
        guest_fill(&guest, GUEST_DISK_BUFFER, 'G', 512);
        guest_disk_request(&disk, VIRTIO_BLK_T_OUT, 1, GUEST_DISK_BUFFER, 512);
        guest_disk_request(&disk, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    }
    /* The serial port as a driver finds it: 8 bits, no loopback, no interrupts. */
    guest_op(&guest, GUEST_OUT8, X86_PORT_COM1 + 3, 0x03, 0);
    guest_op(&guest, GUEST_OUT8, X86_PORT_COM1 + 4, 0x00, 0);
    guest_op(&guest, GUEST_OUT8, X86_PORT_COM1 + 1, 0x00, 0);
    guest_put_text(&guest, "unharmed");
    guest_op(&guest, GUEST_OUT8, X86_PORT_COM1 + 2, 0x02, 0); /* clear the receive FIFO */
    guest_op(&guest, GUEST_WAIT_IN8, X86_PORT_COM1 + 5, 1, 0);
    guest_power_off(&guest);
}

static void run_and_check(void)
{
    const char *kernel = scratch_path("kernel"),
               *disks[DISKS] = {scratch_path("disk0"), scratch_path("disk1")};
    char options[DISKS][512];
    const char *const args[] = {"--kernel", kernel,     "--memory", GUEST_MEMORY, "--cpus", "2",
                                "--disk",   options[0], "--disk",   options[1],   NULL};
    uint8_t data[512];
    int fd;

    for (unsigned i = 0; i < DISKS; i++) {
        make_disk(disks[i]);
        snprintf(options[i], sizeof(options[i]), "%s,format=raw,queues=%u", disks[i], 1 + i);
    }
    add_proper_use();
    guest_write_kernel(&guest, kernel);
    vm_start(&vm, args);
    ck_assert_msg(vm_wait_output(&vm, "unharmed"), "stderr: %s", vm_errors(&vm));
    ck_assert_uint_le(rss_kib(), RSS_MAX_KIB);
    vm_send(&vm, "!", 1);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_POWER_OFF);

    for (unsigned i = 0; i < DISKS; i++) {
        fd = open(disks[i], O_RDONLY);
        ck_assert_int_eq(lseek(fd, 0, SEEK_END), DISK_LEN);
        ck_assert_int_eq(pread(fd, data, sizeof(data), 512), sizeof(data));
        ck_assert_int_eq(data[0], 'G');
        close(fd);
    }
}

/* ---- ports ----------------------------------------------------------------------------------- */

/*
 * Ports that do what they are for when written: the reset line, the ACPI registers, and in KVM
 * the interrupt controllers. Reading them is fine.
 */
static bool writing_ends_the_guest(unsigned port)
{
    return port == X86_PORT_I8042_COMMAND ||
           (port >= X86_PORT_ACPI_PM && port < X86_PORT_ACPI_PM + ACPI_PM_LEN) || port == 0x92 ||
           port == 0xcf9;
}

/* An access of 2 or 4 bytes must not reach them from below either. */
static bool may_write(unsigned port, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        if (writing_ends_the_guest(port + i))
            return false;
    return true;
}

static void access_port(unsigned port)
{
    static const enum guest_opcode reads[] = {GUEST_IN8, GUEST_IN16, GUEST_IN32};
    static const enum guest_opcode writes[] = {GUEST_OUT8, GUEST_OUT16, GUEST_OUT32};
    unsigned log2 = (unsigned)random_below(3);

    if (may_write(port, 1u << log2))
        guest_op(&guest, writes[log2], port, nonsense(), 0);
    guest_op(&guest, reads[log2], port, 0, 0);
}

START_TEST(every_port)
{
    for (unsigned port = 0; port <= 0xffff; port += 1 + (unsigned)random_below(4))
        access_port(port);
    run_and_check();
}
END_TEST

START_TEST(ports_of_devices)
{
    static const unsigned bases[] = {X86_PORT_COM1, X86_PORT_COM1, X86_PORT_COM1,
                                     X86_PORT_I8042_DATA, X86_PORT_ACPI_PM};

    for (unsigned i = 0; i < 20000; i++)
        access_port(bases[random_below(ARRAY_SIZE(bases))] - 1 +
                    (unsigned)random_below(SERIAL_PORTS + 2));
    run_and_check();
}
END_TEST

/* ---- virtio ---------------------------------------------------------------------------------- */

static uint64_t device(void)
{
    return X86_VIRTIO_MMIO_BASE + random_below(DISKS + 1) * X86_VIRTIO_MMIO_STRIDE;
}

static void access_register(void)
{
    static const enum guest_opcode reads[] = {GUEST_LD8, GUEST_LD16, GUEST_LD32, GUEST_LD64};
    static const enum guest_opcode writes[] = {GUEST_ST8, GUEST_ST16, GUEST_ST32, GUEST_ST64};
    /* Mostly where the registers are, and mostly in the size they have. */
    uint64_t gpa =
        device() + (random_below(8) == 0 ? random_below(0x1000) : random_below(0x140) & ~3ull);
    unsigned log2 = random_below(4) == 0 ? (unsigned)random_below(4) : 2;

    if (random_below(3) == 0)
        guest_op(&guest, reads[log2], gpa, 0, 0);
    else
        guest_op(&guest, writes[log2], gpa, nonsense(), 0);
}

START_TEST(every_virtio_register)
{
    for (unsigned i = 0; i < 30000; i++)
        access_register();
    run_and_check();
}
END_TEST

static void set(uint64_t regs, uint32_t reg, uint64_t value)
{
    guest_op(&guest, GUEST_ST32, regs + reg, (uint32_t)value, 0);
}

/* Descriptors that point anywhere, and an available ring with nonsense in it. */
static void spoil_rings(const struct guest_disk *disk)
{
    for (uint64_t i = 0; i < GUEST_DISK_QUEUE_SIZE; i++) {
        uint64_t desc = disk->mem + GUEST_DISK_DESC + 16 * i;

        guest_op(&guest, GUEST_ST64, desc, nonsense_address(), 0);
        guest_op(&guest, GUEST_ST32, desc + 8, random_below(2) ? random_below(0x2000) : nonsense(),
                 0);
        guest_op(&guest, GUEST_ST16, desc + 12, random_below(8), 0);
        guest_op(&guest, GUEST_ST16, desc + 14, random_below(10), 0);
        guest_op(&guest, GUEST_ST16, disk->mem + GUEST_DISK_AVAIL + 4 + 2 * i, random_below(9), 0);
    }
    guest_op(&guest, GUEST_ST16, disk->mem + GUEST_DISK_AVAIL + 2, random_below(12), 0);
}

/* A device brought up properly, then lied to. */
START_TEST(rings_full_of_nonsense)
{
    for (unsigned i = 0; i < 300; i++) {
        struct guest_disk disk;

        guest_disk_init(&disk, &guest, (unsigned)random_below(DISKS));
        for (unsigned k = 0; k < 4; k++) {
            spoil_rings(&disk);
            set(disk.regs, VIRTIO_MMIO_QUEUE_NOTIFY, random_below(3));
        }
    }
    run_and_check();
}
END_TEST

/* Queues in strange places and of strange sizes, switched on and kicked. */
START_TEST(queues_anywhere)
{
    static const uint32_t address_regs[] = {VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_AVAIL_LOW,
                                            VIRTIO_MMIO_QUEUE_USED_LOW};

    for (unsigned i = 0; i < 500; i++) {
        uint64_t regs = device();

        set(regs, VIRTIO_MMIO_STATUS, 0);
        set(regs, VIRTIO_MMIO_STATUS, 3);
        set(regs, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        set(regs, VIRTIO_MMIO_DRIVER_FEATURES, 1);
        set(regs, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
        set(regs, VIRTIO_MMIO_DRIVER_FEATURES, random_below(2) ? 0 : nonsense());
        set(regs, VIRTIO_MMIO_STATUS, 11);
        set(regs, VIRTIO_MMIO_QUEUE_SEL, random_below(3));
        set(regs, VIRTIO_MMIO_QUEUE_NUM, random_below(2) ? 8 : nonsense());
        for (size_t k = 0; k < ARRAY_SIZE(address_regs); k++) {
            uint64_t gpa = nonsense_address();

            set(regs, address_regs[k], gpa);
            set(regs, address_regs[k] + 4, random_below(4) ? gpa >> 32 : nonsense());
        }
        set(regs, VIRTIO_MMIO_QUEUE_READY, 1);
        set(regs, VIRTIO_MMIO_STATUS, 15);
        set(regs, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        for (unsigned k = random_below(4); k > 0; k--)
            access_register();
    }
    run_and_check();
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("garbage");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, every_port);
    tcase_add_test(tcase, ports_of_devices);
    tcase_add_test(tcase, every_virtio_register);
    tcase_add_test(tcase, rings_full_of_nonsense);
    tcase_add_test(tcase, queues_anywhere);
    suite_add_tcase(suite, tcase);
}

GUEST_TEST_MAIN("guest garbage", add_tests)
