/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/devices/com_port.h"

#include <assert.h>
#include <linux/serial_reg.h>
#include <string.h>
#include <sys/eventfd.h>

#define COM1 0x3f8u

struct com_host com_host;

static struct irq irq;
static struct serial *serial;
static struct bus bus;

static void host_write(struct chardev *chardev, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        com_host.output[com_host.noutput++ % sizeof(com_host.output)] = data[i];
}

static bool host_is_full(struct chardev *chardev)
{
    return com_host.full;
}

static void host_accept_input(struct chardev *chardev)
{
    com_host.accepts++;
}

static void host_set_front(struct chardev *chardev, struct chardev_front *front)
{
    com_host.front = front;
}

static const struct chardev_ops host_ops = {
    .write = host_write,
    .is_full = host_is_full,
    .accept_input = host_accept_input,
    .set_front = host_set_front,
};

void com_setup(void)
{
    struct bus_range range = {.base = COM1, .len = SERIAL_PORTS, .ops = &serial_bus_ops};
    int r;

    memset(&com_host, 0, sizeof(com_host));
    memset(&bus, 0, sizeof(bus));
    com_host.chardev.ops = &host_ops;
    r = irq_init(&irq, 4);
    assert(r == 0);
    r = serial_new(&irq, &com_host.chardev, &serial);
    assert(r == 0);
    range.dev = serial;
    r = bus_add(&bus, &range);
    assert(r == 0);
}

void com_teardown(void)
{
    serial_free(serial);
    assert(!com_host.front);
    irq_done(&irq);
}

size_t com_room(void)
{
    return com_host.front->can_receive(com_host.front);
}

size_t com_deliver(const void *data, size_t len)
{
    size_t room = com_room();

    if (len > room)
        len = room;
    com_host.front->receive(com_host.front, data, len);
    return len;
}

void com_drained(void)
{
    com_host.full = false;
    com_host.front->writable(com_host.front);
}

unsigned com_edges(void)
{
    eventfd_t count;

    return eventfd_read(irq.fd, &count) < 0 ? 0 : (unsigned)count;
}

uint64_t com_in_wide(unsigned reg, unsigned size)
{
    uint64_t value = 0;

    bus_read(&bus, COM1 + reg, &value, size);
    return value;
}

void com_out_wide(unsigned reg, unsigned size, uint64_t value)
{
    bus_write(&bus, COM1 + reg, &value, size);
}

uint8_t com_in(unsigned reg)
{
    return (uint8_t)com_in_wide(reg, 1);
}

void com_out(unsigned reg, unsigned value)
{
    com_out_wide(reg, 1, value);
}

uint8_t com_iir(void)
{
    return com_in(UART_IIR) & 0x0f;
}

void com_open(unsigned trigger, unsigned ier)
{
    com_out(UART_LCR, UART_LCR_WLEN8);
    com_out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT | trigger);
    com_out(UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
    com_out(UART_IER, ier);
    (void)com_edges();
}
