/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The UART under any sequence of register accesses and host events. Whatever came before, a guest
 * that then opens the port finds it working: no state is a dead end.
 *
 * An input is a sequence of steps. The first byte of a step says what (bits 3 to 5) and where (bits
 * 0 to 2); most take one more byte.
 */
#include <linux/serial_reg.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "tests/lib/devices/com_port.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum step {
    STEP_READ,
    STEP_WRITE,
    STEP_READ_WIDE,
    STEP_WRITE_WIDE,
    STEP_DELIVER,
    STEP_RECEIVE_UNASKED,
    STEP_BREAK,
    STEP_HOST_FULL,
};

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void take_step(enum step step, unsigned reg, const uint8_t *data, size_t len)
{
    switch (step) {
    case STEP_READ:
        (void)com_in(reg);
        break;
    case STEP_WRITE:
        com_out(reg, data[0]);
        break;
    case STEP_READ_WIDE:
        (void)com_in_wide(reg, SERIAL_PORTS - reg);
        break;
    case STEP_WRITE_WIDE:
        com_out_wide(reg, SERIAL_PORTS - reg, data[0] * 0x0102040810204081ull);
        break;
    case STEP_DELIVER:
        (void)com_deliver(data, min_u64(data[0], len));
        break;
    case STEP_RECEIVE_UNASKED:
        com_host.front->receive(com_host.front, data, min_u64(data[0], len));
        break;
    case STEP_BREAK:
        com_host.front->break_received(com_host.front);
        break;
    case STEP_HOST_FULL:
        com_host.full = data[0] & 1;
        if (!com_host.full)
            com_drained();
        break;
    }
    must(com_room() <= 16);
}

static void check_port_works(void)
{
    com_drained();
    com_open(0, UART_IER_RDI | UART_IER_THRI);
    must(com_iir() == UART_IIR_THRI);
    (void)com_edges();
    com_out(UART_TX, 'x');
    must(com_host.output[(com_host.noutput - 1) % sizeof(com_host.output)] == 'x');
    must(com_edges() == 1 && com_iir() == UART_IIR_THRI);

    must(com_deliver("ab", 2) == 2);
    must(com_edges() == 1 && com_iir() == UART_IIR_RDI);
    must(com_in(UART_RX) == 'a');
    must(com_in(UART_RX) == 'b');
    (void)com_in(UART_LSR);
    must(com_in(UART_LSR) == (UART_LSR_THRE | UART_LSR_TEMT));
    must(com_iir() == UART_IIR_NO_INT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    com_setup();
    for (; size >= 2; data += 2, size -= 2)
        take_step((enum step)(data[0] >> 3 & 7), data[0] & 7, data + 1, size - 1);
    check_port_works();
    com_teardown();
    return 0;
}
