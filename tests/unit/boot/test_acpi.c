/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/acpi.h"

#include <string.h>

#include "base/bytes.h"
#include "devices/acpi_pm.h"
#include "memory/layout_x86.h"
#include "tests/lib/unit.h"

#define AREA_SIZE (X86_KERNEL_START - X86_FIRMWARE_TABLES)

static uint8_t area[AREA_SIZE];
static size_t used;

static void build(unsigned ncpus, size_t nvirtio)
{
    static struct boot_virtio_mmio virtio[X86_VIRTIO_DEVICES_MAX];
    struct boot_machine machine = {
        .ncpus = ncpus,
        .acpi = true,
        .virtio = virtio,
        .nvirtio = nvirtio,
    };

    for (unsigned i = 0; i < nvirtio; i++)
        virtio[i] = (struct boot_virtio_mmio){
            .gpa = X86_VIRTIO_MMIO_BASE + i * X86_VIRTIO_MMIO_STRIDE,
            .len = X86_VIRTIO_MMIO_STRIDE,
            .gsi = x86_virtio_gsi(i),
        };
    memset(area, 0, sizeof(area));
    used = acpi_build(&machine, X86_FIRMWARE_TABLES, area, sizeof(area));
}

static uint8_t sum(const uint8_t *data, size_t len)
{
    uint8_t s = 0;

    for (size_t i = 0; i < len; i++)
        s += data[i];
    return s;
}

/* The table at a guest address, its header and checksum checked. */
static const uint8_t *table_at(uint64_t gpa, const char *signature)
{
    uint64_t off = gpa - X86_FIRMWARE_TABLES;
    const uint8_t *table = area + off;

    ck_assert(range_fits(off, 36, used));
    ck_assert_mem_eq(table, signature, 4);
    ck_assert(range_fits(off, load_le32(table + 4), used));
    ck_assert_uint_eq(sum(table, load_le32(table + 4)), 0);
    return table;
}

static const uint8_t *find_table(const char *signature)
{
    const uint8_t *xsdt = table_at(load_le64(area + 24), "XSDT");
    size_t n = (load_le32(xsdt + 4) - 36) / 8;

    for (size_t i = 0; i < n; i++) {
        uint64_t gpa = load_le64(xsdt + 36 + 8 * i);

        if (memcmp(area + (gpa - X86_FIRMWARE_TABLES), signature, 4) == 0)
            return table_at(gpa, signature);
    }
    ck_abort_msg("no %s", signature);
    return NULL;
}

START_TEST(the_root_pointer_has_both_checksums)
{
    build(1, 1);
    ck_assert_mem_eq(area, "RSD PTR ", 8);
    ck_assert_uint_eq(area[15], 2);
    ck_assert_uint_eq(sum(area, 20), 0);
    ck_assert_uint_eq(sum(area, 36), 0);
    ck_assert_uint_eq(load_le32(area + 16), 0);
    ck_assert_uint_eq(load_le32(area + 20), 36);
}
END_TEST

START_TEST(the_fadt_describes_a_hardware_reduced_machine)
{
    static const uint8_t sleep_control[12] = {1, 8, 0, 1, 0x00, 0x06};
    static const uint8_t sleep_status[12] = {1, 8, 0, 1, 0x01, 0x06};
    static const uint8_t reset[12] = {1, 8, 0, 1, 0x02, 0x06};
    const uint8_t *fadt;

    build(1, 1);
    fadt = find_table("FACP");
    ck_assert_uint_eq(load_le32(fadt + 4), 276);
    ck_assert_uint_eq(fadt[8], 6);
    ck_assert_uint_eq(load_le16(fadt + 109), 1 << 2 | 1 << 5); /* no VGA, no CMOS clock */
    ck_assert_uint_eq(load_le32(fadt + 112), 1 << 0 | 1 << 4 | 1 << 5 | 1 << 10 | 1 << 20);
    ck_assert_mem_eq(fadt + 116, reset, 12);
    ck_assert_uint_eq(fadt[128], ACPI_PM_RESET_VALUE);
    ck_assert_mem_eq(fadt + 244, sleep_control, 12);
    ck_assert_mem_eq(fadt + 256, sleep_status, 12);
    ck_assert_uint_eq(load_le32(fadt + 40), load_le64(fadt + 140));
    table_at(load_le64(fadt + 140), "DSDT");
}
END_TEST

START_TEST(a_clock_is_announced_with_its_century)
{
    struct boot_machine machine = {.ncpus = 1, .acpi = true, .rtc = true};
    const uint8_t *fadt;

    memset(area, 0, sizeof(area));
    used = acpi_build(&machine, X86_FIRMWARE_TABLES, area, sizeof(area));
    fadt = find_table("FACP");
    ck_assert_uint_eq(load_le16(fadt + 109), 1 << 2); /* no VGA */
    ck_assert_uint_eq(fadt[108], 0x32);
}
END_TEST

START_TEST(the_madt_lists_every_cpu_and_the_io_apic)
{
    static const unsigned ncpus[] = {1, 2, 64, 255};

    for (size_t i = 0; i < ARRAY_SIZE(ncpus); i++) {
        const uint8_t *madt, *entry;

        build(ncpus[i], 1);
        madt = find_table("APIC");
        ck_assert_uint_eq(load_le32(madt + 36), X86_LAPIC);
        ck_assert_uint_eq(load_le32(madt + 40), 0);
        entry = madt + 44;
        for (unsigned cpu = 0; cpu < ncpus[i]; cpu++, entry += 8) {
            const uint8_t expected[8] = {0, 8, (uint8_t)cpu, (uint8_t)cpu, 1};

            ck_assert_mem_eq(entry, expected, 8);
        }
        ck_assert_uint_eq(entry[0], 1);
        ck_assert_uint_eq(entry[1], 12);
        ck_assert_uint_eq(load_le32(entry + 4), X86_IOAPIC);
        ck_assert_uint_eq(load_le32(entry + 8), 0);
        ck_assert_ptr_eq(entry + 12, madt + load_le32(madt + 4));
    }
}
END_TEST

START_TEST(the_largest_machine_fits)
{
    build(255, X86_VIRTIO_DEVICES_MAX);
    ck_assert_uint_lt(used, AREA_SIZE);
    find_table("FACP");
    find_table("APIC");
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "tables", the_root_pointer_has_both_checksums,
              the_fadt_describes_a_hardware_reduced_machine, a_clock_is_announced_with_its_century,
              the_madt_lists_every_cpu_and_the_io_apic, the_largest_machine_fits);
}

UNIT_MAIN("acpi", add_tests)
