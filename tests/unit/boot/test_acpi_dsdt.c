/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DSDT as ACPICA's own tools see it.
 */
#include <string.h>

#include "base/bytes.h"
#include "boot/acpi.h"
#include "memory/layout_x86.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define TEXT_MAX (256 * 1024)

static uint8_t area[X86_KERNEL_START - X86_FIRMWARE_TABLES];
static char text[TEXT_MAX];

static void write_dsdt(size_t nvirtio)
{
    static struct boot_virtio_mmio virtio[X86_VIRTIO_DEVICES_MAX];
    struct boot_machine machine = {
        .ncpus = 1, .virtio = virtio, .nvirtio = nvirtio, .rtc = nvirtio > 0};
    const uint8_t *dsdt;
    size_t used;

    for (unsigned i = 0; i < nvirtio; i++)
        virtio[i] = (struct boot_virtio_mmio){
            .gpa = X86_VIRTIO_MMIO_BASE + i * X86_VIRTIO_MMIO_STRIDE,
            .len = X86_VIRTIO_MMIO_STRIDE,
            .gsi = x86_virtio_gsi(i),
        };
    used = acpi_build(&machine, X86_FIRMWARE_TABLES, area, sizeof(area));
    dsdt = memmem(area, used, "DSDT", 4);
    ck_assert_ptr_nonnull(dsdt);
    scratch_save("dsdt.aml", dsdt, load_le32(dsdt + 4));
}

/* Read a whole text file, runs of white space made into one blank. */
static void read_text(const char *name)
{
    FILE *file = fopen(scratch_path(name), "r");
    size_t len = 0;
    int c;

    ck_assert_msg(file, "%s: not written", name);
    while ((c = fgetc(file)) != EOF && len < sizeof(text) - 1) {
        c = c == '\n' || c == '\t' ? ' ' : c;
        if (c != ' ' || len == 0 || text[len - 1] != ' ')
            text[len++] = (char)c;
    }
    text[len] = '\0';
    (void)fclose(file);
}

static void expect_text(const char *part)
{
    ck_assert_msg(strstr(text, part), "no \"%s\" in:\n%s", part, text);
}

static void disassemble(size_t nvirtio)
{
    write_dsdt(nvirtio);
    scratch_ok("iasl -d dsdt.aml >iasl.log 2>&1");
    read_text("dsdt.dsl");
}

START_TEST(iasl_reads_all_devices)
{
    disassemble(X86_VIRTIO_DEVICES_MAX);
    for (unsigned i = 0; i < X86_VIRTIO_DEVICES_MAX; i++) {
        char part[128];

        (void)snprintf(part, sizeof(part), "Device (V%03X) { Name (_HID, \"LNRO0005\")", i);
        expect_text(part);
        (void)snprintf(part, sizeof(part), "0x%08X, // Address Base",
                       X86_VIRTIO_MMIO_BASE + i * X86_VIRTIO_MMIO_STRIDE);
        expect_text(part);
        (void)snprintf(part, sizeof(part),
                       "Interrupt (ResourceConsumer, Edge, ActiveHigh, Shared, ,, ) { "
                       "0x%08X, }",
                       x86_virtio_gsi(i));
        expect_text(part);
    }
    expect_text("Name (_CCA, One)");
    expect_text("Device (COM1) { Name (_HID, \"PNP0501\"");
    expect_text("IO (Decode16, 0x03F8, // Range Minimum 0x03F8, // Range Maximum 0x01, // Alignment"
                " 0x08, // Length )");
    expect_text("Device (PEVT) { Name (_HID, \"QEMU0001\"");
    expect_text("Device (RTC) { Name (_HID, \"PNP0B00\"");
    expect_text("IO (Decode16, 0x0070, // Range Minimum 0x0070, // Range Maximum 0x01, // Alignment"
                " 0x02, // Length )");
    expect_text("Device (VGEN) { Name (_HID, \"MVMM0001\")");
    expect_text("Name (_CID, \"VM_Gen_Counter\")");
    expect_text("Name (ADDR, Package (0x02) { 0x000FFFE0, Zero })");
    expect_text("Device (PWRB) { Name (_HID, \"PNP0C0C\"");
    expect_text("Device (GED) { Name (_HID, \"ACPI0013\"");
    expect_text("OperationRegion (EREG, SystemIO, 0x0603, One)");
    expect_text("Field (EREG, ByteAcc, NoLock, WriteAsZeros) { EVTS, 8 }");
    expect_text("If ((EVTS & One)) { Notify (PWRB, 0x80)");
    expect_text("Name (_S5, Package (0x04)");
}
END_TEST

START_TEST(iasl_reads_a_machine_without_disks)
{
    disassemble(0);
    expect_text("Device (COM1)");
    ck_assert_ptr_null(strstr(text, "LNRO0005"));
    ck_assert_ptr_null(strstr(text, "PNP0B00"));
}
END_TEST

/* Compile what was disassembled: iasl's own checks find objects that contradict each other. */
START_TEST(iasl_finds_no_errors)
{
    disassemble(2);
    scratch_ok("iasl -p again dsdt.dsl >iasl.log 2>&1");
    read_text("iasl.log");
    expect_text("Compilation successful. 0 Errors, 0 Warnings");
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "dsdt", scratch_set_up, scratch_tear_down, iasl_reads_all_devices,
                   iasl_reads_a_machine_without_disks, iasl_finds_no_errors);
}

int main(void)
{
    if (system("iasl -v >/dev/null 2>&1") != 0) {
        puts("iasl is missing (Debian package acpica-tools)");
        return UNIT_SKIP;
    }
    return unit_main("acpi_dsdt", add_tests);
}
