/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A UART between a host made of arrays and a guest made of function calls, for tests: one at a
 * time. The com_in … com_open functions are the guest's, the others the host's.
 */
#ifndef MINIVMM_TESTS_COM_PORT_H
#define MINIVMM_TESTS_COM_PORT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "devices/serial.h"

/* The chardev. Output wraps around at the end of the array. */
struct com_host {
    struct chardev chardev;
    struct chardev_front *front;
    uint8_t output[1024];
    size_t noutput;
    atomic_bool full;
    atomic_uint accepts; /* calls of accept_input */
};

extern struct com_host com_host;

void com_setup(void);
void com_teardown(void);

/* Deliver what fits, as a back end does; returns how much that was. */
size_t com_deliver(const void *data, size_t len);
size_t com_room(void);
/* The host is not full any more, and says so. */
void com_drained(void);
/* How often the interrupt was raised since the last call. */
unsigned com_edges(void);

uint8_t com_in(unsigned reg);
void com_out(unsigned reg, unsigned value);
/* Accesses of any width. */
uint64_t com_in_wide(unsigned reg, unsigned size);
void com_out_wide(unsigned reg, unsigned size, uint64_t value);
/* The interrupt that IIR shows, without the FIFO bits. */
uint8_t com_iir(void);
/* Open the port as a driver does: FIFO with the trigger bits given, lines up, interrupts `ier`. */
void com_open(unsigned trigger, unsigned ier);

#endif
