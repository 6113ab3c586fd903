/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A UART (National PC16550D). The guest side runs on vCPU threads, the host side on the main
 * loop's thread; one lock guards the registers.
 *
 * Output goes to a struct chardev, which never blocks: while the chardev says that it is full, the
 * transmitter reports itself busy (no THRE), so a driver that obeys the UART waits and loses
 * nothing. Input is pulled from the chardev as the receive FIFO has room, once the guest has raised
 * RTS, enabled the receive interrupt, or polls.
 *
 * There is no wire: characters take no time, speed, parity and word length change
 * nothing, and nothing is timed, so an idle port costs nothing.
 */
#ifndef MINIVMM_DEVICES_SERIAL_H
#define MINIVMM_DEVICES_SERIAL_H

#include "base/compiler.h"
#include "devices/bus.h"
#include "devices/chardev.h"
#include "devices/irq.h"

#define SERIAL_PORTS 8u

struct serial;

extern const struct bus_ops serial_bus_ops; /* dev: struct serial */

/*
 * Attaches itself to the chardev. Neither irq nor chardev is owned; both outlive it. 0 or -errno.
 */
int serial_new(struct irq *irq, struct chardev *chardev, struct serial **ret_serial) MUST_CHECK;

/* Detaches from the chardev. Main thread, while no vCPU runs. NULL is fine. */
void serial_free(struct serial *serial);

#endif
