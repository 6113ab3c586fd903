/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/acpi.h"

#include <assert.h>
#include <stdio.h>

#include "base/bytes.h"
#include "boot/aml.h"
#include "boot/bytebuf.h"
#include "devices/acpi_pm.h"
#include "devices/rtc.h"
#include "memory/layout_x86.h"

#define OEM_ID "MINVMM" /* six characters */
#define OEM_TABLE_ID "MINIVMM "
#define CREATOR_ID "MVMM"

/* 5.2.6: the header that all tables but the RSDP share. */
#define HEADER_LENGTH 4
#define HEADER_CHECKSUM 9
#define HEADER_SIZE 36

#define TABLE_ALIGN 16

struct acpi_builder {
    struct bytebuf buf;
    uint64_t gpa; /* of the buffer */
};

static size_t begin_table(struct acpi_builder *b, const char *signature, uint8_t revision)
{
    struct bytebuf *buf = &b->buf;
    size_t start;

    bytebuf_put_zeroes(buf, align_up(buf->len, TABLE_ALIGN) - buf->len);
    start = buf->len;
    bytebuf_put(buf, signature, 4);
    bytebuf_put_u32(buf, 0); /* length, at the end */
    bytebuf_put_u8(buf, revision);
    bytebuf_put_u8(buf, 0); /* checksum, at the end */
    bytebuf_put(buf, OEM_ID, 6);
    bytebuf_put(buf, OEM_TABLE_ID, 8);
    bytebuf_put_u32(buf, 1); /* OEM revision */
    bytebuf_put(buf, CREATOR_ID, 4);
    bytebuf_put_u32(buf, 1); /* creator revision */
    return start;
}

/* Returns the table's address. */
static uint64_t end_table(struct acpi_builder *b, size_t start)
{
    uint8_t *table = b->buf.data + start;
    size_t len = b->buf.len - start;

    store_le32(table + HEADER_LENGTH, (uint32_t)len);
    table[HEADER_CHECKSUM] = bytes_checksum(table, len);
    return b->gpa + start;
}

/* ---- DSDT ------------------------------------------------------------------------------------ */

static void add_com1(struct bytebuf *buf)
{
    struct aml_block device = aml_begin_device(buf, "COM1");
    struct aml_crs crs;

    aml_name_string(buf, "_HID", "PNP0501");
    aml_name_integer(buf, "_UID", 0);
    aml_crs_init(&crs);
    aml_crs_io(&crs, X86_PORT_COM1, 8);
    aml_crs_edge_interrupt(&crs, X86_GSI_COM1, false);
    aml_name_crs(buf, &crs);
    aml_end(buf, device);
}

static void add_virtio(struct bytebuf *buf, const struct boot_virtio_mmio *virtio, unsigned index)
{
    struct aml_block device;
    struct aml_crs crs;
    char name[5];

    assert(index <= 0xfff && virtio->gpa <= UINT32_MAX && virtio->len <= UINT32_MAX);
    (void)snprintf(name, sizeof(name), "V%03X", index & 0xfff);

    device = aml_begin_device(buf, name);
    aml_name_string(buf, "_HID", "LNRO0005"); /* what Linux binds virtio-mmio to */
    aml_name_integer(buf, "_UID", index);
    aml_name_integer(buf, "_CCA", 1); /* DMA is coherent */
    aml_crs_init(&crs);
    aml_crs_memory(&crs, (uint32_t)virtio->gpa, (uint32_t)virtio->len);
    aml_crs_edge_interrupt(&crs, virtio->gsi, true);
    aml_name_crs(buf, &crs);
    aml_end(buf, device);
}

/*
 * The generic event device (5.6.9): its interrupt makes the guest run _EVT, which reads, and so
 * clears, the pending events and passes the button on.
 */
static void add_power_button(struct bytebuf *buf)
{
    struct aml_block device, method;
    struct aml_crs crs;

    device = aml_begin_device(buf, "PWRB");
    aml_name_string(buf, "_HID", "PNP0C0C");
    aml_name_integer(buf, "_UID", 0);
    aml_end(buf, device);

    device = aml_begin_device(buf, "GED_");
    aml_name_string(buf, "_HID", "ACPI0013");
    aml_name_integer(buf, "_UID", 0);
    aml_crs_init(&crs);
    aml_crs_edge_interrupt(&crs, X86_GSI_GED, false);
    aml_name_crs(buf, &crs);
    aml_io_byte(buf, "EREG", "EVTS", X86_PORT_ACPI_PM + ACPI_PM_GED_EVENTS);
    method = aml_begin_method(buf, "_EVT", 1);
    aml_notify_if_set(buf, "EVTS", ACPI_PM_EVENT_POWER_BUTTON, "PWRB", 0x80);
    aml_end(buf, method);
    aml_end(buf, device);
}

/* Where the guest's kernel says that it panicked. */
static void add_pvpanic(struct bytebuf *buf)
{
    struct aml_block device = aml_begin_device(buf, "PEVT");
    struct aml_crs crs;

    aml_name_string(buf, "_HID", "QEMU0001");
    aml_crs_init(&crs);
    aml_crs_io(&crs, X86_PORT_PVPANIC, 1);
    aml_name_crs(buf, &crs);
    aml_end(buf, device);
}

/*
 * Where the guest finds 16 bytes that are others for each run of a VM (Microsoft's "Virtual Machine
 * Generation ID"). A guest that goes on from a state from which other guests go on, too, sees by
 * them that its random numbers would be theirs.
 */
static void add_vm_generation(struct bytebuf *buf)
{
    static const uint32_t address[] = {X86_VM_GENERATION, 0}; /* low and high half */
    struct aml_block device = aml_begin_device(buf, "VGEN");

    aml_name_string(buf, "_HID", "MVMM0001");
    aml_name_string(buf, "_CID", "VM_Gen_Counter"); /* what drivers know it by, as the next */
    aml_name_string(buf, "_DDN", "VM_Gen_Counter");
    aml_name_package(buf, "ADDR", address, ARRAY_SIZE(address));
    aml_end(buf, device);
}

static void add_rtc(struct bytebuf *buf)
{
    struct aml_block device = aml_begin_device(buf, "RTC_");
    struct aml_crs crs;

    aml_name_string(buf, "_HID", "PNP0B00");
    aml_crs_init(&crs);
    aml_crs_io(&crs, X86_PORT_RTC, RTC_PORTS); /* no interrupt: Linux then offers no alarms */
    aml_name_crs(buf, &crs);
    aml_end(buf, device);
}

static uint64_t build_dsdt(struct acpi_builder *b, const struct boot_machine *machine)
{
    static const uint32_t s5[] = {ACPI_PM_SLP_TYP_S5, 0, 0, 0};
    size_t start = begin_table(b, "DSDT", 2); /* revision 2: 64-bit integers */
    struct bytebuf *buf = &b->buf;
    struct aml_block scope;

    scope = aml_begin_scope(buf, "\\_SB_");
    add_com1(buf);
    for (unsigned i = 0; i < machine->nvirtio; i++)
        add_virtio(buf, &machine->virtio[i], i);
    add_power_button(buf);
    add_pvpanic(buf);
    add_vm_generation(buf);
    if (machine->rtc)
        add_rtc(buf);
    aml_end(buf, scope);
    aml_name_package(buf, "_S5_", s5, ARRAY_SIZE(s5));
    return end_table(b, start);
}

/* ---- FADT (5.2.9) ---------------------------------------------------------------------------- */

enum fadt_offset {
    FADT_DSDT = 40,
    FADT_CENTURY = 108,
    FADT_IAPC_BOOT_ARCH = 109,
    FADT_FLAGS = 112,
    FADT_RESET_REG = 116,
    FADT_RESET_VALUE = 128,
    FADT_MINOR_REVISION = 131,
    FADT_X_DSDT = 140,
    FADT_SLEEP_CONTROL_REG = 244,
    FADT_SLEEP_STATUS_REG = 256,
    FADT_SIZE = 276,
};

#define FADT_REVISION 6
#define FADT_MINOR 4

/* Not set: legacy devices, 8042. */
#define FADT_BOOT_NO_VGA (1u << 2)
#define FADT_BOOT_NO_CMOS_RTC (1u << 5)

#define FADT_WBINVD (1u << 0)
#define FADT_NO_FIXED_POWER_BUTTON (1u << 4)
#define FADT_NO_FIXED_SLEEP_BUTTON (1u << 5)
#define FADT_RESET_REG_SUPPORTED (1u << 10)
#define FADT_HW_REDUCED_ACPI (1u << 20)

/* 5.2.3.2: generic address structure of a byte-wide port. */
static void store_port_address(uint8_t *gas, uint64_t port)
{
    gas[0] = 1; /* system I/O space */
    gas[1] = 8; /* bits wide */
    gas[2] = 0; /* bit offset */
    gas[3] = 1; /* byte access */
    store_le64(gas + 4, port);
}

static uint64_t build_fadt(struct acpi_builder *b, const struct boot_machine *machine,
                           uint64_t dsdt)
{
    size_t start = begin_table(b, "FACP", FADT_REVISION);
    uint8_t *fadt = b->buf.data + start;

    bytebuf_put_zeroes(&b->buf, FADT_SIZE - HEADER_SIZE);
    store_le32(fadt + FADT_DSDT, (uint32_t)dsdt);
    store_le64(fadt + FADT_X_DSDT, dsdt);
    store_le16(fadt + FADT_IAPC_BOOT_ARCH,
               FADT_BOOT_NO_VGA | (machine->rtc ? 0 : FADT_BOOT_NO_CMOS_RTC));
    fadt[FADT_CENTURY] = machine->rtc ? RTC_CENTURY : 0;
    store_le32(fadt + FADT_FLAGS, FADT_WBINVD | FADT_NO_FIXED_POWER_BUTTON |
                                      FADT_NO_FIXED_SLEEP_BUTTON | FADT_RESET_REG_SUPPORTED |
                                      FADT_HW_REDUCED_ACPI);
    store_port_address(fadt + FADT_RESET_REG, X86_PORT_ACPI_PM + ACPI_PM_RESET);
    fadt[FADT_RESET_VALUE] = ACPI_PM_RESET_VALUE;
    fadt[FADT_MINOR_REVISION] = FADT_MINOR;
    store_port_address(fadt + FADT_SLEEP_CONTROL_REG, X86_PORT_ACPI_PM + ACPI_PM_SLEEP_CONTROL);
    store_port_address(fadt + FADT_SLEEP_STATUS_REG, X86_PORT_ACPI_PM + ACPI_PM_SLEEP_STATUS);
    return end_table(b, start);
}

/* ---- MADT (5.2.12) --------------------------------------------------------------------------- */

#define MADT_REVISION 5
#define MADT_LOCAL_APIC 0
#define MADT_IO_APIC 1
#define MADT_CPU_ENABLED 1u

static uint64_t build_madt(struct acpi_builder *b, unsigned ncpus)
{
    size_t start = begin_table(b, "APIC", MADT_REVISION);
    struct bytebuf *buf = &b->buf;

    assert(ncpus >= 1 && ncpus <= UINT8_MAX); /* 255 is the broadcast ID */
    bytebuf_put_u32(buf, X86_LAPIC);
    bytebuf_put_u32(buf, 0); /* flags: no 8259 pair */

    for (unsigned cpu = 0; cpu < ncpus; cpu++) {
        bytebuf_put_u8(buf, MADT_LOCAL_APIC);
        bytebuf_put_u8(buf, 8);
        bytebuf_put_u8(buf, (uint8_t)cpu); /* processor UID */
        bytebuf_put_u8(buf, (uint8_t)cpu); /* APIC ID */
        bytebuf_put_u32(buf, MADT_CPU_ENABLED);
    }

    bytebuf_put_u8(buf, MADT_IO_APIC);
    bytebuf_put_u8(buf, 12);
    bytebuf_put_u8(buf, 0); /* I/O APIC ID */
    bytebuf_put_u8(buf, 0);
    bytebuf_put_u32(buf, X86_IOAPIC);
    bytebuf_put_u32(buf, 0); /* first GSI */
    return end_table(b, start);
}

/* ---- roots ----------------------------------------------------------------------------------- */

static uint64_t build_xsdt(struct acpi_builder *b, const uint64_t *tables, size_t ntables)
{
    size_t start = begin_table(b, "XSDT", 1);

    for (size_t i = 0; i < ntables; i++)
        bytebuf_put_u64(&b->buf, tables[i]);
    return end_table(b, start);
}

/* 5.2.5.3: two checksums, one over the part that ACPI 1.0 knew. */
#define RSDP_CHECKSUM 8
#define RSDP_V1_SIZE 20
#define RSDP_EXTENDED_CHECKSUM 32
#define RSDP_SIZE 36

static void fill_rsdp(uint8_t *rsdp, uint64_t xsdt)
{
    struct bytebuf buf = {.data = rsdp, .size = RSDP_SIZE};

    bytebuf_put(&buf, "RSD PTR ", 8);
    bytebuf_put_u8(&buf, 0); /* checksum */
    bytebuf_put(&buf, OEM_ID, 6);
    bytebuf_put_u8(&buf, 2);  /* revision */
    bytebuf_put_u32(&buf, 0); /* no RSDT */
    bytebuf_put_u32(&buf, RSDP_SIZE);
    bytebuf_put_u64(&buf, xsdt);
    bytebuf_put_zeroes(&buf, 4); /* extended checksum, reserved */

    rsdp[RSDP_CHECKSUM] = bytes_checksum(rsdp, RSDP_V1_SIZE);
    rsdp[RSDP_EXTENDED_CHECKSUM] = bytes_checksum(rsdp, RSDP_SIZE);
}

size_t acpi_build(const struct boot_machine *machine, uint64_t gpa, uint8_t *area, size_t size)
{
    struct acpi_builder b = {.buf = {.data = area, .size = size}, .gpa = gpa};
    uint64_t tables[2];
    uint8_t *rsdp = bytebuf_extend(&b.buf, RSDP_SIZE);

    tables[0] = build_fadt(&b, machine, build_dsdt(&b, machine));
    tables[1] = build_madt(&b, machine->ncpus);
    fill_rsdp(rsdp, build_xsdt(&b, tables, ARRAY_SIZE(tables)));
    return b.buf.len;
}
