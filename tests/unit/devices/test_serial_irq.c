/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/serial_reg.h>
#include <pthread.h>
#include <sched.h>

#include "tests/lib/devices/com_port.h"
#include "tests/lib/unit.h"

/* ---- interrupts, modem lines, loopback ------------------------------------------------------- */

START_TEST(interrupts_come_by_priority)
{
    com_open(0, UART_IER_RDI | UART_IER_RLSI | UART_IER_MSI | UART_IER_THRI);
    com_out(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2); /* CTS and DSR fall */
    com_out(UART_MCR, UART_MCR_OUT2 | UART_MCR_RTS);
    com_host.front->break_received(com_host.front);
    ck_assert_uint_eq(com_iir(), UART_IIR_RLSI);
    (void)com_in(UART_LSR);
    ck_assert_uint_eq(com_iir(), UART_IIR_RDI);
    (void)com_in(UART_RX);
    ck_assert_uint_eq(com_iir(), UART_IIR_THRI);
    ck_assert_uint_eq(com_iir(), UART_IIR_MSI);
    (void)com_in(UART_MSR);
    ck_assert_uint_eq(com_iir(), UART_IIR_NO_INT);
}
END_TEST

START_TEST(reading_iir_for_another_cause_keeps_thre)
{
    com_open(0, UART_IER_RDI | UART_IER_THRI);
    com_deliver("a", 1);
    ck_assert_uint_eq(com_iir(), UART_IIR_RDI);
    ck_assert_uint_eq(com_iir(), UART_IIR_RDI);
    (void)com_in(UART_RX);
    ck_assert_uint_eq(com_iir(), UART_IIR_THRI);
}
END_TEST

START_TEST(out2_connects_the_interrupt)
{
    com_out(UART_MCR, UART_MCR_RTS);
    com_out(UART_IER, UART_IER_RDI);
    com_deliver("a", 1);
    ck_assert_uint_eq(com_edges(), 0);
    ck_assert_uint_eq(com_iir(), UART_IIR_RDI);
    com_out(UART_MCR, UART_MCR_RTS | UART_MCR_OUT2);
    ck_assert_uint_eq(com_edges(), 1);
    com_out(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2);
    com_out(UART_MCR, UART_MCR_OUT2);
    ck_assert_uint_eq(com_edges(), 1);
}
END_TEST

START_TEST(enabling_an_interrupt_that_is_due_makes_an_edge)
{
    com_open(0, 0);
    com_deliver("a", 1);
    ck_assert_uint_eq(com_edges(), 0);
    com_out(UART_IER, UART_IER_RDI);
    ck_assert_uint_eq(com_edges(), 1);
}
END_TEST

START_TEST(loopback_turns_modem_lines_around)
{
    static const struct {
        unsigned mcr, msr;
    } cases[] = {
        {0, 0},
        {UART_MCR_RTS, UART_MSR_CTS},
        {UART_MCR_DTR, UART_MSR_DSR},
        {UART_MCR_OUT1, UART_MSR_RI},
        {UART_MCR_OUT2, UART_MSR_DCD},
        {0x0f, 0xf0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        com_out(UART_MCR, UART_MCR_LOOP | cases[i].mcr);
        ck_assert_uint_eq(com_in(UART_MSR) & 0xf0, cases[i].msr);
    }
    com_out(UART_MCR, 0);
    ck_assert_uint_eq(com_in(UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
}
END_TEST

START_TEST(deltas_say_what_changed_since_the_last_read)
{
    com_out(UART_MCR, UART_MCR_LOOP | UART_MCR_RTS | UART_MCR_DTR | UART_MCR_OUT2);
    ck_assert_uint_eq(com_in(UART_MSR) & 0x0f, 0); /* the same three lines */
    com_out(UART_MCR, UART_MCR_LOOP | UART_MCR_RTS | UART_MCR_DTR);
    ck_assert_uint_eq(com_in(UART_MSR) & 0x0f, UART_MSR_DDCD);
    ck_assert_uint_eq(com_in(UART_MSR) & 0x0f, 0);
    com_out(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT1);
    ck_assert_uint_eq(com_in(UART_MSR) & 0x0f, UART_MSR_DCTS | UART_MSR_DDSR); /* RI rose */
    com_out(UART_MCR, UART_MCR_LOOP);
    ck_assert_uint_eq(com_in(UART_MSR) & 0x0f, UART_MSR_TERI);
}
END_TEST

START_TEST(loopback_returns_characters_and_breaks)
{
    com_open(0, 0);
    com_host.full = true; /* loopback does not care */
    com_out(UART_MCR, UART_MCR_LOOP);
    com_out(UART_TX, 'q');
    ck_assert_uint_eq(com_in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT | UART_LSR_DR);
    ck_assert_uint_eq(com_in(UART_RX), 'q');
    com_out(UART_LCR, UART_LCR_WLEN8 | UART_LCR_SBC);
    ck_assert_uint_eq(com_in(UART_LSR) & UART_LSR_BI, UART_LSR_BI);
    ck_assert_uint_eq(com_in(UART_RX), 0);
    ck_assert_uint_eq(com_host.noutput, 0);
}
END_TEST

/* ---- threads --------------------------------------------------------------------------------- */

#define INPUT_LEN 4000u
#define CHURN 4000u

/* vCPU 0: an interrupt handler that waits for edges and counts what it reads. */
static void *handle_interrupts(void *opaque)
{
    uint8_t expected = 0;

    for (unsigned got = 0; got < INPUT_LEN;) {
        if (com_edges() == 0) {
            sched_yield(); /* on one CPU the others have to run for an edge to come */
            continue;
        }
        while (com_iir() != UART_IIR_NO_INT) {
            while (com_in(UART_LSR) & UART_LSR_DR) {
                ck_assert_uint_eq(com_in(UART_RX), expected++);
                got++;
            }
        }
    }
    return NULL;
}

/* vCPU 1: polled output, to a host that is full at times. */
static void *churn_output(void *opaque)
{
    for (unsigned i = 0; i < CHURN; i++) {
        com_host.full = i % 16 == 0;
        com_out(UART_TX, 'x');
        com_host.full = false;
        while (!(com_in(UART_LSR) & UART_LSR_THRE))
            sched_yield();
        com_out(UART_SCR, i);
    }
    return NULL;
}

/* The main loop delivers as there is room. No edge is missed, or the handler would hang. */
START_TEST(input_and_output_on_threads_lose_nothing)
{
    pthread_t handler, writer;

    com_open(UART_FCR_TRIGGER_8, UART_IER_RDI);
    ck_assert_int_eq(pthread_create(&handler, NULL, handle_interrupts, NULL), 0);
    ck_assert_int_eq(pthread_create(&writer, NULL, churn_output, NULL), 0);
    for (unsigned sent = 0; sent < INPUT_LEN;) {
        char next = (char)sent;

        unsigned taken = (unsigned)com_deliver(&next, 1);

        sent += taken;
        com_host.front->writable(com_host.front);
        if (taken == 0)
            sched_yield();
    }
    pthread_join(handler, NULL);
    pthread_join(writer, NULL);
    ck_assert_uint_eq(com_host.noutput, CHURN);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "interrupts", com_setup, com_teardown, interrupts_come_by_priority,
                   reading_iir_for_another_cause_keeps_thre, out2_connects_the_interrupt,
                   enabling_an_interrupt_that_is_due_makes_an_edge,
                   loopback_turns_modem_lines_around, deltas_say_what_changed_since_the_last_read,
                   loopback_returns_characters_and_breaks,
                   input_and_output_on_threads_lose_nothing);
}

UNIT_USES_THREADS;
UNIT_MAIN("serial_irq", add_tests)
