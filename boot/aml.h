/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI machine language, as much as a DSDT for this machine needs (ACPI 6.4, chapter 20).
 *
 * Objects are written one after the other. Those with a body are begun and ended; the length
 * that stands in front of the body is filled in at its end:
 *
 *     struct aml_block device = aml_begin_device(buf, "COM1");
 *     aml_name_string(buf, "_HID", "PNP0501");
 *     aml_end(buf, device);
 *
 * Names are four characters; a root prefix "\" may stand in front.
 */
#ifndef MINIVMM_BOOT_AML_H
#define MINIVMM_BOOT_AML_H

#include <stddef.h>
#include <stdint.h>

#include "boot/bytebuf.h"

/* Where a body begins that was begun and not yet ended. */
struct aml_block {
    size_t start;
};

struct aml_block aml_begin_scope(struct bytebuf *buf, const char *name);
struct aml_block aml_begin_device(struct bytebuf *buf, const char *name);
struct aml_block aml_begin_method(struct bytebuf *buf, const char *name, unsigned nargs);
void aml_end(struct bytebuf *buf, struct aml_block block);

void aml_name_string(struct bytebuf *buf, const char *name, const char *value);
void aml_name_integer(struct bytebuf *buf, const char *name, uint64_t value);

/* Name (name, Package () {values…}): at most 255 integers. */
void aml_name_package(struct bytebuf *buf, const char *name, const uint32_t *values,
                      size_t nvalues);

/* A byte in port I/O space that AML can read as `field`. */
void aml_io_byte(struct bytebuf *buf, const char *region, const char *field, uint16_t port);

/* If ((field & mask)) { Notify (device, value) }, where reading `field` may have side effects. */
void aml_notify_if_set(struct bytebuf *buf, const char *field, uint8_t mask, const char *device,
                       uint8_t value);

/* Name (_CRS, ResourceTemplate () {…}), with resources between begin and end. */
struct aml_crs {
    struct bytebuf resources;
    uint8_t data[64];
};

void aml_crs_init(struct aml_crs *crs);
void aml_crs_memory(struct aml_crs *crs, uint32_t base, uint32_t len);
void aml_crs_io(struct aml_crs *crs, uint16_t base, uint8_t len);
/* `shared`: other devices may have the same line. */
void aml_crs_edge_interrupt(struct aml_crs *crs, uint32_t gsi, bool shared);
void aml_name_crs(struct bytebuf *buf, struct aml_crs *crs);

#endif
