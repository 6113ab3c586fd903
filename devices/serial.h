/*
 * A 16550A UART. The guest side runs on vCPU threads, the host side on the main loop's thread; one
 * lock guards the registers.
 *
 * Output goes to a struct chardev, which never blocks: while the chardev says that it is full, the
 * transmitter reports itself busy (no THRE), so a driver that obeys the UART waits and loses
 * nothing. Input is pulled from the chardev as the receive FIFO has room.
 */
#ifndef MINIVMM_DEVICES_SERIAL_H
#define MINIVMM_DEVICES_SERIAL_H

#include "devices/bus.h"
#include "devices/chardev.h"
#include "devices/irq.h"
#include "vmm/base/compiler.h"

#define SERIAL_PORTS 8u

struct serial;

extern const struct bus_ops serial_bus_ops; /* dev: struct serial */

/* Neither irq nor chardev is owned. 0 or -errno. */
int serial_new(struct irq *irq, struct chardev *chardev, struct serial **ret_serial) MUST_CHECK;
void serial_free(struct serial *serial);

#endif
