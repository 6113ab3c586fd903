/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/serial.h"

#include <errno.h>
#include <linux/serial_reg.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/trace.h"

#define FIFO_SIZE 16u

/* Bits that exist on a 16550A; the others read as zero. */
#define IER_BITS (UART_IER_RDI | UART_IER_THRI | UART_IER_RLSI | UART_IER_MSI)
#define MCR_BITS (UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT1 | UART_MCR_OUT2 | UART_MCR_LOOP)
#define FCR_BITS (UART_FCR_ENABLE_FIFO | UART_FCR_DMA_SELECT | UART_FCR_TRIGGER_MASK)

#define IIR_FIFO_ENABLED 0xc0u
#define LSR_FIFO_ERROR 0x80u
#define LSR_TX_EMPTY (UART_LSR_THRE | UART_LSR_TEMT)

/* The other end of the cable: a terminal that is always there and ready. */
#define MSR_CONNECTED (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)

#define DIVISOR_9600 12u

/*
 * A guest that reads LSR as often as this and does nothing else with the port waits for input.
 * Drivers that probe, or wait to send, read it once or twice.
 */
#define LSR_POLLS 16u

struct rx_char {
    uint8_t data;
    uint8_t errors; /* LSR bits that belong to this character */
};

struct serial {
    struct chardev_front front;
    struct irq *irq;
    struct chardev *chardev;

    pthread_mutex_t lock; /* guards the rest */
    uint8_t ier;
    uint8_t fcr;
    uint8_t lcr;
    uint8_t mcr;
    uint8_t scr;
    uint16_t divisor;
    uint8_t msr_lines;  /* upper half of MSR */
    uint8_t msr_deltas; /* lower half: what changed since it was read */

    struct rx_char rx[FIFO_SIZE];
    unsigned rx_head;
    unsigned rx_count;
    bool rx_overrun;
    unsigned lsr_polls; /* reads of LSR in a row, up to LSR_POLLS */

    bool has_spoken;  /* the guest has sent something */
    bool tx_busy;     /* the chardev was full after the last character */
    bool thr_pending; /* the THR became empty, and IIR has not said so yet */

    bool irq_line; /* the level a real UART would drive; its rising edges are raised */
};

/* ---- interrupts ------------------------------------------------------------------------------ */

static bool fifo_enabled(const struct serial *serial)
{
    return serial->fcr & UART_FCR_ENABLE_FIFO;
}

static unsigned rx_capacity(const struct serial *serial)
{
    return fifo_enabled(serial) ? FIFO_SIZE : 1;
}

static unsigned rx_trigger(const struct serial *serial)
{
    static const uint8_t levels[] = {1, 4, 8, 14};

    return fifo_enabled(serial) ? levels[serial->fcr >> 6] : 1;
}

static uint8_t line_errors(const struct serial *serial)
{
    uint8_t errors = serial->rx_count > 0 ? serial->rx[serial->rx_head].errors : 0;

    return serial->rx_overrun ? errors | UART_LSR_OE : errors;
}

/* The interrupt of the highest priority that is enabled and pending, as IIR shows it. */
static uint8_t pending_interrupt(const struct serial *serial)
{
    if (serial->ier & UART_IER_RLSI && line_errors(serial))
        return UART_IIR_RLSI;
    if (serial->ier & UART_IER_RDI && serial->rx_count >= rx_trigger(serial))
        return UART_IIR_RDI;
    /*
     * The character time-out: a few characters below the trigger level, and a pause. Input comes in
     * pieces with pauses between them, so the pause is there by the time anybody can look.
     */
    if (serial->ier & UART_IER_RDI && serial->rx_count > 0)
        return UART_IIR_RX_TIMEOUT;
    if (serial->ier & UART_IER_THRI && serial->thr_pending)
        return UART_IIR_THRI;
    if (serial->ier & UART_IER_MSI && serial->msr_deltas)
        return UART_IIR_MSI;
    return UART_IIR_NO_INT;
}

/*
 * Follow a change of registers. On a PC, OUT2 connects the UART to the interrupt controller, and
 * loopback takes OUT2 down.
 */
static void update_irq(struct serial *serial)
{
    bool connected = (serial->mcr & (UART_MCR_OUT2 | UART_MCR_LOOP)) == UART_MCR_OUT2;
    bool line = connected && pending_interrupt(serial) != UART_IIR_NO_INT;

    if (line && !serial->irq_line)
        irq_raise(serial->irq);
    serial->irq_line = line;
}

/* ---- receiver -------------------------------------------------------------------------------- */

static void rx_clear(struct serial *serial)
{
    serial->rx_head = 0;
    serial->rx_count = 0;
}

/* A character arrives. Without room a FIFO keeps what it has, a single buffer is overwritten. */
static void rx_push(struct serial *serial, uint8_t data, uint8_t errors)
{
    if (serial->rx_count == rx_capacity(serial)) {
        serial->rx_overrun = true;
        if (fifo_enabled(serial))
            return;
        rx_clear(serial);
    }
    serial->rx[(serial->rx_head + serial->rx_count) % FIFO_SIZE] =
        (struct rx_char){.data = data, .errors = errors};
    serial->rx_count++;
}

static bool rx_has_errors(const struct serial *serial)
{
    for (unsigned i = 0; i < serial->rx_count; i++) {
        if (serial->rx[(serial->rx_head + i) % FIFO_SIZE].errors)
            return true;
    }
    return false;
}

/*
 * Is anybody listening? Not in loopback, which cuts the receiver off from outside, and not before
 * the guest raises RTS, enables and connects the interrupt, or polls: while it still probes the
 * port it would discard what comes. Until then input waits in the chardev, as with a terminal that
 * obeys RTS.
 */
static bool rx_is_open(const struct serial *serial)
{
    bool irq_used = serial->mcr & UART_MCR_OUT2 && serial->ier & UART_IER_RDI;

    if (serial->mcr & UART_MCR_LOOP)
        return false;
    return serial->mcr & UART_MCR_RTS || irq_used || serial->lsr_polls == LSR_POLLS;
}

/* can_receive may say more than before. */
static void rx_room_grew(struct serial *serial)
{
    serial->chardev->ops->accept_input(serial->chardev);
}

static uint8_t read_rbr(struct serial *serial)
{
    uint8_t data;

    if (serial->rx_count == 0)
        return 0;
    data = serial->rx[serial->rx_head].data;
    serial->rx_head = (serial->rx_head + 1) % FIFO_SIZE;
    serial->rx_count--;

    /*
     * A read restarts the time-out. A driver that takes one character per interrupt relies on the
     * next edge that this makes.
     */
    if (serial->rx_count < rx_trigger(serial))
        serial->irq_line = false;
    update_irq(serial);
    if (serial->rx_count == 0)
        rx_room_grew(serial);
    return data;
}

/* ---- transmitter ----------------------------------------------------------------------------- */

/* The THR is empty: characters take no time, unless the chardev cannot take more for now. */
static void tx_complete(struct serial *serial)
{
    serial->tx_busy =
        !(serial->mcr & UART_MCR_LOOP) && serial->chardev->ops->is_full(serial->chardev);
    serial->thr_pending = !serial->tx_busy;
    update_irq(serial);
}

static void transmit(struct serial *serial, uint8_t data)
{
    if (!serial->has_spoken)
        trace_mark("first output byte");
    serial->has_spoken = true;
    serial->chardev->ops->write(serial->chardev, &data, 1);
}

static void write_thr(struct serial *serial, uint8_t data)
{
    serial->thr_pending = false;
    update_irq(serial);

    if (serial->mcr & UART_MCR_LOOP)
        rx_push(serial, data, 0);
    else
        transmit(serial, data);
    tx_complete(serial);
}

/* ---- registers ------------------------------------------------------------------------------- */

static void write_ier(struct serial *serial, uint8_t value)
{
    uint8_t changed = serial->ier ^ value;
    bool was_open = rx_is_open(serial);

    serial->ier = value & IER_BITS;
    /* Enabling the interrupt while the THR is empty makes one, whatever IIR said before. */
    if (changed & UART_IER_THRI)
        serial->thr_pending = value & UART_IER_THRI && !serial->tx_busy;
    update_irq(serial);
    if (!was_open && rx_is_open(serial))
        rx_room_grew(serial);
}

static uint8_t read_iir(struct serial *serial)
{
    uint8_t iir = pending_interrupt(serial);

    if (iir == UART_IIR_THRI) {
        serial->thr_pending = false; /* reading it out acknowledges this one, and only this one */
        update_irq(serial);
    }
    return fifo_enabled(serial) ? iir | IIR_FIFO_ENABLED : iir;
}

static void write_fcr(struct serial *serial, uint8_t value)
{
    bool toggled = (serial->fcr ^ value) & UART_FCR_ENABLE_FIFO;

    /* The other bits are taken only together with the enable bit. */
    serial->fcr = value & UART_FCR_ENABLE_FIFO ? value & FCR_BITS : 0;
    if (toggled || value & UART_FCR_CLEAR_RCVR) {
        rx_clear(serial);
        rx_room_grew(serial);
    }
    if (toggled || value & UART_FCR_CLEAR_XMIT)
        serial->thr_pending = !serial->tx_busy;
    update_irq(serial);
}

/* In loopback the outgoing lines of MCR are the incoming ones of MSR. */
static uint8_t modem_lines(const struct serial *serial)
{
    if (!(serial->mcr & UART_MCR_LOOP))
        return MSR_CONNECTED;
    return (serial->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) |
           (serial->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
           (serial->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) |
           (serial->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0);
}

static void write_mcr(struct serial *serial, uint8_t value)
{
    bool was_open = rx_is_open(serial);
    uint8_t old_lines = serial->msr_lines;
    uint8_t changed;

    serial->mcr = value & MCR_BITS;
    serial->msr_lines = modem_lines(serial);
    changed = old_lines ^ serial->msr_lines;

    /* Of the ring indicator only the trailing edge counts. */
    if (serial->msr_lines & UART_MSR_RI)
        changed &= (uint8_t)~UART_MSR_RI;
    serial->msr_deltas |= changed >> 4;
    update_irq(serial);
    if (!was_open && rx_is_open(serial))
        rx_room_grew(serial);
}

static uint8_t read_msr(struct serial *serial)
{
    uint8_t msr = serial->msr_lines | serial->msr_deltas;

    serial->msr_deltas = 0;
    update_irq(serial);
    return msr;
}

static void write_lcr(struct serial *serial, uint8_t value)
{
    bool break_begins = value & ~serial->lcr & UART_LCR_SBC;

    serial->lcr = value;
    /* The chardev has no notion of a break; only the receiver in loopback sees it. */
    if (break_begins && serial->mcr & UART_MCR_LOOP) {
        rx_push(serial, 0, UART_LSR_BI);
        update_irq(serial);
    }
}

static uint8_t read_lsr(struct serial *serial)
{
    uint8_t lsr;

    /* Look again, so that a driver that polls depends on nobody's notice. */
    if (serial->tx_busy)
        tx_complete(serial);

    lsr = line_errors(serial);
    if (serial->rx_count > 0)
        lsr |= UART_LSR_DR;
    if (!serial->tx_busy)
        lsr |= LSR_TX_EMPTY;
    if (fifo_enabled(serial) && rx_has_errors(serial))
        lsr |= LSR_FIFO_ERROR;

    /* Reading clears the errors shown. */
    serial->rx_overrun = false;
    serial->rx[serial->rx_head].errors = 0;
    update_irq(serial);
    return lsr;
}

/* Count reads of LSR in a row; see LSR_POLLS. */
static void note_access(struct serial *serial, bool reads_lsr)
{
    bool was_open = rx_is_open(serial);

    if (!reads_lsr || serial->tx_busy)
        serial->lsr_polls = 0;
    else if (serial->lsr_polls < LSR_POLLS)
        serial->lsr_polls++;
    if (!was_open && rx_is_open(serial))
        rx_room_grew(serial);
}

static uint8_t read_reg(struct serial *serial, uint64_t off)
{
    bool dlab = serial->lcr & UART_LCR_DLAB;

    note_access(serial, off == UART_LSR);
    switch (off) {
    case UART_RX:
        return dlab ? serial->divisor & 0xff : read_rbr(serial);
    case UART_IER:
        return dlab ? serial->divisor >> 8 : serial->ier;
    case UART_IIR:
        return read_iir(serial);
    case UART_LCR:
        return serial->lcr;
    case UART_MCR:
        return serial->mcr;
    case UART_LSR:
        return read_lsr(serial);
    case UART_MSR:
        return read_msr(serial);
    default:
        return serial->scr;
    }
}

static void write_reg(struct serial *serial, uint64_t off, uint8_t value)
{
    bool dlab = serial->lcr & UART_LCR_DLAB;

    note_access(serial, false);
    switch (off) {
    case UART_TX:
        if (dlab)
            serial->divisor = (uint16_t)((serial->divisor & 0xff00) | value);
        else
            write_thr(serial, value);
        break;
    case UART_IER:
        if (dlab)
            serial->divisor = (uint16_t)((serial->divisor & 0x00ff) | value << 8);
        else
            write_ier(serial, value);
        break;
    case UART_FCR:
        write_fcr(serial, value);
        break;
    case UART_LCR:
        write_lcr(serial, value);
        break;
    case UART_MCR:
        write_mcr(serial, value);
        break;
    case UART_SCR:
        serial->scr = value;
        break;
    default: /* LSR and MSR are read-only */
        break;
    }
}

/* The registers are bytes; a wider access is that many accesses to neighbours, as on ISA. */
static uint64_t serial_read(void *dev, uint64_t off, unsigned size)
{
    struct serial *serial = dev;
    uint64_t value = 0;

    pthread_mutex_lock(&serial->lock);
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)read_reg(serial, off + i) << (8 * i);
    pthread_mutex_unlock(&serial->lock);
    return value;
}

static void serial_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
    struct serial *serial = dev;

    pthread_mutex_lock(&serial->lock);
    for (unsigned i = 0; i < size; i++)
        write_reg(serial, off + i, (uint8_t)(value >> (8 * i)));
    pthread_mutex_unlock(&serial->lock);
}

const struct bus_ops serial_bus_ops = {.read = serial_read, .write = serial_write};

/* ---- the chardev's side ---------------------------------------------------------------------- */

static struct serial *serial_of(struct chardev_front *front)
{
    return container_of(front, struct serial, front);
}

static size_t front_can_receive(struct chardev_front *front)
{
    struct serial *serial = serial_of(front);
    size_t room;

    pthread_mutex_lock(&serial->lock);
    room = rx_is_open(serial) ? rx_capacity(serial) - serial->rx_count : 0;
    pthread_mutex_unlock(&serial->lock);
    return room;
}

/* The guest may have taken room away since can_receive; then it overruns, as on a wire. */
static void front_receive(struct chardev_front *front, const uint8_t *data, size_t len)
{
    struct serial *serial = serial_of(front);

    pthread_mutex_lock(&serial->lock);
    for (size_t i = 0; i < len; i++)
        rx_push(serial, data[i], 0);
    update_irq(serial);
    pthread_mutex_unlock(&serial->lock);
}

static void front_writable(struct chardev_front *front)
{
    struct serial *serial = serial_of(front);

    pthread_mutex_lock(&serial->lock);
    if (serial->tx_busy)
        tx_complete(serial);
    pthread_mutex_unlock(&serial->lock);
}

static void front_break_received(struct chardev_front *front)
{
    struct serial *serial = serial_of(front);

    pthread_mutex_lock(&serial->lock);
    rx_push(serial, 0, UART_LSR_BI); /* a break comes with one zero character */
    update_irq(serial);
    pthread_mutex_unlock(&serial->lock);
}

int serial_new(struct irq *irq, struct chardev *chardev, struct serial **ret_serial)
{
    struct serial *serial = calloc(1, sizeof(*serial));

    if (!serial)
        return -ENOMEM;
    serial->front = (struct chardev_front){
        .can_receive = front_can_receive,
        .receive = front_receive,
        .writable = front_writable,
        .break_received = front_break_received,
    };
    serial->irq = irq;
    serial->chardev = chardev;
    pthread_mutex_init(&serial->lock, NULL);
    serial->divisor = DIVISOR_9600;
    serial->msr_lines = MSR_CONNECTED;
    chardev->ops->set_front(chardev, &serial->front);
    *ret_serial = serial;
    return 0;
}

void serial_free(struct serial *serial)
{
    if (!serial)
        return;
    serial->chardev->ops->set_front(serial->chardev, NULL);
    pthread_mutex_destroy(&serial->lock);
    free(serial);
}
