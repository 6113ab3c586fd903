/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/aml.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

/* ACPI 6.4, 20.3: AML byte stream byte values. */
enum aml_op {
    AML_ZERO = 0x00,
    AML_ONE = 0x01,
    AML_NAME = 0x08,
    AML_BYTE = 0x0a,
    AML_WORD = 0x0b,
    AML_DWORD = 0x0c,
    AML_STRING = 0x0d,
    AML_QWORD = 0x0e,
    AML_SCOPE = 0x10,
    AML_BUFFER = 0x11,
    AML_PACKAGE = 0x12,
    AML_METHOD = 0x14,
    AML_EXT = 0x5b,
    AML_AND = 0x7b,
    AML_NOTIFY = 0x86,
    AML_IF = 0xa0,
};

enum aml_ext_op {
    AML_EXT_REGION = 0x80,
    AML_EXT_FIELD = 0x81,
    AML_EXT_DEVICE = 0x82,
};

#define AML_REGION_SYSTEM_IO 0x01

/* Field flags: byte access, no lock, bits not written become 0. */
#define AML_FIELD_BYTE_ACCESS_WRITE_ZEROS (0x01 | 2 << 5)

#define AML_METHOD_SERIALIZED 0x08

/* ACPI 6.4, 6.4: resource data types. */
#define RESOURCE_IO 0x47
#define RESOURCE_END 0x79
#define RESOURCE_MEMORY32_FIXED 0x86
#define RESOURCE_EXTENDED_INTERRUPT 0x89

#define IO_DECODE_16 0x01
#define MEMORY_WRITABLE 0x01

/* Consumer, edge-triggered; not set: active-low, shared. */
#define INTERRUPT_CONSUMER_EDGE 0x03
#define INTERRUPT_SHARED 0x08

static void put_name(struct bytebuf *buf, const char *name)
{
    size_t len = strlen(name);

    assert(len == 4 || (len == 5 && name[0] == '\\'));
    bytebuf_put(buf, name, len);
}

static struct aml_block begin_block(struct bytebuf *buf)
{
    return (struct aml_block){.start = buf->len};
}

/*
 * Put the package length in front of the body (20.2.4). It counts itself: one byte up to 63, or a
 * lead byte with the low four bits and the number of bytes that follow.
 */
void aml_end(struct bytebuf *buf, struct aml_block block)
{
    size_t body = buf->len - block.start;
    size_t extra = body + 1 <= 0x3f ? 0 : body + 2 <= 0xfff ? 1 : body + 3 <= 0xfffff ? 2 : 3;
    size_t total = body + 1 + extra;
    uint8_t *at = buf->data + block.start;

    assert(total <= 0xfffffff);
    (void)bytebuf_extend(buf, 1 + extra);
    memmove(at + 1 + extra, at, body);
    if (extra == 0) {
        at[0] = (uint8_t)total;
        return;
    }
    at[0] = (uint8_t)(extra << 6 | (total & 0xf));
    for (size_t i = 1; i <= extra; i++)
        at[i] = (uint8_t)(total >> (4 + 8 * (i - 1)));
}

struct aml_block aml_begin_scope(struct bytebuf *buf, const char *name)
{
    struct aml_block block;

    bytebuf_put_u8(buf, AML_SCOPE);
    block = begin_block(buf);
    put_name(buf, name);
    return block;
}

struct aml_block aml_begin_device(struct bytebuf *buf, const char *name)
{
    struct aml_block block;

    bytebuf_put_u8(buf, AML_EXT);
    bytebuf_put_u8(buf, AML_EXT_DEVICE);
    block = begin_block(buf);
    put_name(buf, name);
    return block;
}

struct aml_block aml_begin_method(struct bytebuf *buf, const char *name, unsigned nargs)
{
    struct aml_block block;

    assert(nargs <= 7);
    bytebuf_put_u8(buf, AML_METHOD);
    block = begin_block(buf);
    put_name(buf, name);
    bytebuf_put_u8(buf, (uint8_t)(nargs | AML_METHOD_SERIALIZED));
    return block;
}

static void put_integer(struct bytebuf *buf, uint64_t value)
{
    if (value == 0 || value == 1) {
        bytebuf_put_u8(buf, value == 0 ? AML_ZERO : AML_ONE);
    } else if (value <= UINT8_MAX) {
        bytebuf_put_u8(buf, AML_BYTE);
        bytebuf_put_u8(buf, (uint8_t)value);
    } else if (value <= UINT16_MAX) {
        bytebuf_put_u8(buf, AML_WORD);
        bytebuf_put_u16(buf, (uint16_t)value);
    } else if (value <= UINT32_MAX) {
        bytebuf_put_u8(buf, AML_DWORD);
        bytebuf_put_u32(buf, (uint32_t)value);
    } else {
        bytebuf_put_u8(buf, AML_QWORD);
        bytebuf_put_u64(buf, value);
    }
}

static void put_name_op(struct bytebuf *buf, const char *name)
{
    bytebuf_put_u8(buf, AML_NAME);
    put_name(buf, name);
}

void aml_name_string(struct bytebuf *buf, const char *name, const char *value)
{
    put_name_op(buf, name);
    bytebuf_put_u8(buf, AML_STRING);
    bytebuf_put(buf, value, strlen(value) + 1);
}

void aml_name_integer(struct bytebuf *buf, const char *name, uint64_t value)
{
    put_name_op(buf, name);
    put_integer(buf, value);
}

void aml_name_package(struct bytebuf *buf, const char *name, const uint32_t *values, size_t nvalues)
{
    struct aml_block package;

    assert(nvalues <= UINT8_MAX);
    put_name_op(buf, name);
    bytebuf_put_u8(buf, AML_PACKAGE);
    package = begin_block(buf);
    bytebuf_put_u8(buf, (uint8_t)nvalues);
    for (size_t i = 0; i < nvalues; i++)
        put_integer(buf, values[i]);
    aml_end(buf, package);
}

void aml_io_byte(struct bytebuf *buf, const char *region, const char *field, uint16_t port)
{
    struct aml_block fields;

    bytebuf_put_u8(buf, AML_EXT);
    bytebuf_put_u8(buf, AML_EXT_REGION);
    put_name(buf, region);
    bytebuf_put_u8(buf, AML_REGION_SYSTEM_IO);
    put_integer(buf, port);
    put_integer(buf, 1);

    bytebuf_put_u8(buf, AML_EXT);
    bytebuf_put_u8(buf, AML_EXT_FIELD);
    fields = begin_block(buf);
    put_name(buf, region);
    bytebuf_put_u8(buf, AML_FIELD_BYTE_ACCESS_WRITE_ZEROS);
    put_name(buf, field);
    bytebuf_put_u8(buf, 8); /* bits, in the form of a package length */
    aml_end(buf, fields);
}

void aml_notify_if_set(struct bytebuf *buf, const char *field, uint8_t mask, const char *device,
                       uint8_t value)
{
    struct aml_block block;

    bytebuf_put_u8(buf, AML_IF);
    block = begin_block(buf);
    bytebuf_put_u8(buf, AML_AND);
    put_name(buf, field);
    put_integer(buf, mask);
    bytebuf_put_u8(buf, AML_ZERO); /* no target: the result is the predicate */
    bytebuf_put_u8(buf, AML_NOTIFY);
    put_name(buf, device);
    put_integer(buf, value);
    aml_end(buf, block);
}

void aml_crs_init(struct aml_crs *crs)
{
    crs->resources = (struct bytebuf){.data = crs->data, .size = sizeof(crs->data)};
}

/* 6.4.3.4: 32-bit fixed memory range. */
void aml_crs_memory(struct aml_crs *crs, uint32_t base, uint32_t len)
{
    bytebuf_put_u8(&crs->resources, RESOURCE_MEMORY32_FIXED);
    bytebuf_put_u16(&crs->resources, 9);
    bytebuf_put_u8(&crs->resources, MEMORY_WRITABLE);
    bytebuf_put_u32(&crs->resources, base);
    bytebuf_put_u32(&crs->resources, len);
}

/* 6.4.2.5: I/O port. */
void aml_crs_io(struct aml_crs *crs, uint16_t base, uint8_t len)
{
    bytebuf_put_u8(&crs->resources, RESOURCE_IO);
    bytebuf_put_u8(&crs->resources, IO_DECODE_16);
    bytebuf_put_u16(&crs->resources, base);
    bytebuf_put_u16(&crs->resources, base);
    bytebuf_put_u8(&crs->resources, 1); /* alignment */
    bytebuf_put_u8(&crs->resources, len);
}

/* 6.4.3.6: extended interrupt. */
void aml_crs_edge_interrupt(struct aml_crs *crs, uint32_t gsi, bool shared)
{
    bytebuf_put_u8(&crs->resources, RESOURCE_EXTENDED_INTERRUPT);
    bytebuf_put_u16(&crs->resources, 6);
    bytebuf_put_u8(&crs->resources, INTERRUPT_CONSUMER_EDGE | (shared ? INTERRUPT_SHARED : 0));
    bytebuf_put_u8(&crs->resources, 1);
    bytebuf_put_u32(&crs->resources, gsi);
}

void aml_name_crs(struct bytebuf *buf, struct aml_crs *crs)
{
    struct aml_block block;

    bytebuf_put_u8(&crs->resources, RESOURCE_END);
    bytebuf_put_u8(&crs->resources, 0); /* 6.4.2.9: 0 stands for "checksum is right" */

    put_name_op(buf, "_CRS");
    bytebuf_put_u8(buf, AML_BUFFER);
    block = begin_block(buf);
    put_integer(buf, crs->resources.len);
    bytebuf_put(buf, crs->data, crs->resources.len);
    aml_end(buf, block);
}
