/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/mptable_x86.h"

#include <assert.h>

#include "base/bytes.h"
#include "boot/bytebuf.h"
#include "memory/layout_x86.h"

#define MP_SPEC_1_4 4

/* 4.1 and 4.2: offsets in the two headers. */
#define POINTER_CHECKSUM 10
#define TABLE_LENGTH 4
#define TABLE_CHECKSUM 7
#define TABLE_ENTRY_COUNT 34

/* 4.3: entry types, in the order in which the table has them. */
enum mp_entry { MP_PROCESSOR, MP_BUS, MP_IOAPIC, MP_IO_INTERRUPT, MP_LOCAL_INTERRUPT };

enum mp_interrupt { MP_INT = 0, MP_NMI = 1, MP_EXTINT = 3 };

#define MP_CPU_ENABLED 0x01
#define MP_CPU_BOOT 0x02
#define MP_CPU_FAMILY_6 0x600u
#define MP_CPU_FPU_APIC 0x201u /* CPUID feature bits 0 and 9 */
#define LAPIC_VERSION 0x14
#define IOAPIC_VERSION 0x11
#define ISA_BUS 0
#define ALL_LAPICS 0xff
#define PIC_CASCADE 2

void mptable_build_pointer(uint32_t table_gpa, uint8_t pointer[MPTABLE_POINTER_SIZE])
{
    struct bytebuf buf = {.data = pointer, .size = MPTABLE_POINTER_SIZE};

    bytebuf_put(&buf, "_MP_", 4);
    bytebuf_put_u32(&buf, table_gpa);
    bytebuf_put_u8(&buf, MPTABLE_POINTER_SIZE / 16);
    bytebuf_put_u8(&buf, MP_SPEC_1_4);
    bytebuf_put_zeroes(&buf, 6); /* checksum; features: a table, virtual wire mode */
    pointer[POINTER_CHECKSUM] = bytes_checksum(pointer, MPTABLE_POINTER_SIZE);
}

static void put_header(struct bytebuf *buf)
{
    bytebuf_put(buf, "PCMP", 4);
    bytebuf_put_u16(buf, 0); /* length, at the end */
    bytebuf_put_u8(buf, MP_SPEC_1_4);
    bytebuf_put_u8(buf, 0); /* checksum, at the end */
    bytebuf_put(buf, "MINIVMM ", 8);
    bytebuf_put(buf, "MICROVM     ", 12);
    bytebuf_put_u32(buf, 0); /* no OEM table */
    bytebuf_put_u16(buf, 0);
    bytebuf_put_u16(buf, 0); /* number of entries, at the end */
    bytebuf_put_u32(buf, X86_LAPIC);
    bytebuf_put_u32(buf, 0); /* no extended table */
}

static void put_processor(struct bytebuf *buf, unsigned apic_id)
{
    bytebuf_put_u8(buf, MP_PROCESSOR);
    bytebuf_put_u8(buf, (uint8_t)apic_id);
    bytebuf_put_u8(buf, LAPIC_VERSION);
    bytebuf_put_u8(buf, MP_CPU_ENABLED | (apic_id == 0 ? MP_CPU_BOOT : 0));
    bytebuf_put_u32(buf, MP_CPU_FAMILY_6);
    bytebuf_put_u32(buf, MP_CPU_FPU_APIC);
    bytebuf_put_zeroes(buf, 8);
}

static void put_isa_bus(struct bytebuf *buf)
{
    bytebuf_put_u8(buf, MP_BUS);
    bytebuf_put_u8(buf, ISA_BUS);
    bytebuf_put(buf, "ISA   ", 6);
}

static void put_ioapic(struct bytebuf *buf, uint8_t id)
{
    bytebuf_put_u8(buf, MP_IOAPIC);
    bytebuf_put_u8(buf, id);
    bytebuf_put_u8(buf, IOAPIC_VERSION);
    bytebuf_put_u8(buf, 1); /* enabled */
    bytebuf_put_u32(buf, X86_IOAPIC);
}

/* Polarity and trigger as the bus has them: on ISA, active-high edges. */
static void put_interrupt(struct bytebuf *buf, enum mp_entry entry, enum mp_interrupt type,
                          uint8_t irq, uint8_t apic, uint8_t pin)
{
    bytebuf_put_u8(buf, (uint8_t)entry);
    bytebuf_put_u8(buf, (uint8_t)type);
    bytebuf_put_u16(buf, 0);
    bytebuf_put_u8(buf, ISA_BUS);
    bytebuf_put_u8(buf, irq);
    bytebuf_put_u8(buf, apic);
    bytebuf_put_u8(buf, pin);
}

size_t mptable_build(unsigned ncpus, uint8_t *area, size_t size)
{
    struct bytebuf buf = {.data = area, .size = size};
    uint8_t ioapic_id = (uint8_t)ncpus; /* the first ID that no CPU has */
    uint16_t nentries = 0;

    assert(ncpus >= 1 && ncpus <= UINT8_MAX);
    put_header(&buf);
    for (unsigned cpu = 0; cpu < ncpus; cpu++, nentries++)
        put_processor(&buf, cpu);
    put_isa_bus(&buf);
    put_ioapic(&buf, ioapic_id);
    nentries += 2;

    /* Every pin is an ISA interrupt of the same number: virtio devices use those above 15 too. */
    for (uint8_t pin = 0; pin < X86_NIRQ_PINS; pin++) {
        if (pin == PIC_CASCADE)
            continue;
        put_interrupt(&buf, MP_IO_INTERRUPT, MP_INT, pin, ioapic_id, pin);
        nentries++;
    }
    put_interrupt(&buf, MP_LOCAL_INTERRUPT, MP_EXTINT, 0, 0, 0);
    put_interrupt(&buf, MP_LOCAL_INTERRUPT, MP_NMI, 0, ALL_LAPICS, 1);
    nentries += 2;

    store_le16(area + TABLE_LENGTH, (uint16_t)buf.len);
    store_le16(area + TABLE_ENTRY_COUNT, nentries);
    area[TABLE_CHECKSUM] = bytes_checksum(area, buf.len);
    return buf.len;
}
