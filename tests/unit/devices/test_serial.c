/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/serial_reg.h>

#include "tests/lib/devices/com_port.h"
#include "tests/lib/unit.h"

/* ---- registers ------------------------------------------------------------------------------- */

START_TEST(registers_at_power_on)
{
    ck_assert_uint_eq(com_in(UART_IER), 0);
    ck_assert_uint_eq(com_in(UART_IIR), UART_IIR_NO_INT);
    ck_assert_uint_eq(com_in(UART_LCR), 0);
    ck_assert_uint_eq(com_in(UART_MCR), 0);
    ck_assert_uint_eq(com_in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
    ck_assert_uint_eq(com_in(UART_MSR), UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
    ck_assert_uint_eq(com_in(UART_RX), 0);
    ck_assert_uint_eq(com_edges(), 0);
}
END_TEST

START_TEST(absent_bits_read_as_zero)
{
    com_out(UART_IER, 0xff);
    ck_assert_uint_eq(com_in(UART_IER), 0x0f);
    com_out(UART_MCR, 0xff);
    ck_assert_uint_eq(com_in(UART_MCR), 0x1f);
    com_out(UART_LCR, 0xff);
    ck_assert_uint_eq(com_in(UART_LCR), 0xff);
}
END_TEST

START_TEST(scratch_register_keeps_its_value)
{
    com_out(UART_SCR, 0xa5);
    ck_assert_uint_eq(com_in(UART_SCR), 0xa5);
    com_out(UART_SCR, 0x5a);
    ck_assert_uint_eq(com_in(UART_SCR), 0x5a);
}
END_TEST

START_TEST(divisor_is_behind_dlab)
{
    com_out(UART_IER, UART_IER_MSI);
    com_out(UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
    com_out(UART_DLL, 0x34);
    com_out(UART_DLM, 0x12);
    ck_assert_uint_eq(com_in(UART_DLL), 0x34);
    ck_assert_uint_eq(com_in(UART_DLM), 0x12);
    com_out(UART_LCR, UART_LCR_WLEN8);
    ck_assert_uint_eq(com_in(UART_IER), UART_IER_MSI);
    ck_assert_uint_eq(com_host.noutput, 0);
    com_out(UART_LCR, UART_LCR_DLAB);
    ck_assert_uint_eq(com_in(UART_DLL), 0x34);
}
END_TEST

START_TEST(status_registers_ignore_writes)
{
    uint8_t lsr = com_in(UART_LSR), msr = com_in(UART_MSR);

    com_out(UART_LSR, 0xff);
    com_out(UART_MSR, 0xff);
    ck_assert_uint_eq(com_in(UART_LSR), lsr);
    ck_assert_uint_eq(com_in(UART_MSR), msr);
}
END_TEST

START_TEST(wide_access_reaches_neighbours)
{
    com_out_wide(UART_LCR, 2, 0x0203);
    ck_assert_uint_eq(com_in(UART_LCR), 0x03);
    ck_assert_uint_eq(com_in(UART_MCR), 0x02);
    ck_assert_uint_eq(com_in_wide(UART_RX, 8) >> 24 & 0xffff, 0x0203);
}
END_TEST

/* The steps of Linux's autoconfig, from the plainest to the 16550A's own. */
START_TEST(linux_probe_finds_a_16550a)
{
    unsigned count = 0;

    com_out(UART_IER, 0);
    ck_assert_uint_eq(com_in(UART_IER), 0);
    com_out(UART_IER, 0x0f);
    ck_assert_uint_eq(com_in(UART_IER), 0x0f);
    com_out(UART_IER, 0);

    com_out(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
    ck_assert_uint_eq(com_in(UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
    com_out(UART_MCR, 0);

    /* No EFR, in either bank, and no second bank of a National SuperIO chip. */
    com_out(UART_LCR, UART_LCR_CONF_MODE_B);
    com_out(UART_EFR, 0);
    com_out(UART_LCR, 0);
    com_out(UART_FCR, UART_FCR_ENABLE_FIFO);
    ck_assert_uint_eq(com_in(UART_IIR) >> 6, 3);
    com_out(UART_LCR, UART_LCR_CONF_MODE_A);
    ck_assert_uint_ne(com_in(UART_EFR), 0);
    com_out(UART_LCR, UART_LCR_CONF_MODE_B);
    ck_assert_uint_ne(com_in(UART_EFR), 0);

    /* No 64-byte FIFO, with and without DLAB; no UUE bit. */
    com_out(UART_LCR, 0);
    com_out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
    ck_assert_uint_eq(com_in(UART_IIR) >> 5, 6);
    com_out(UART_LCR, UART_LCR_CONF_MODE_A);
    com_out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
    ck_assert_uint_eq(com_in(UART_IIR) >> 5, 6);
    com_out(UART_LCR, 0);
    com_out(UART_IER, UART_IER_UUE);
    ck_assert_uint_eq(com_in(UART_IER), 0);

    /* The FIFO holds 16. */
    com_out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);
    com_out(UART_MCR, UART_MCR_LOOP);
    for (unsigned i = 0; i < 256; i++)
        com_out(UART_TX, i);
    while (com_in(UART_LSR) & UART_LSR_DR) {
        ck_assert_uint_eq(com_in(UART_RX), count);
        count++;
    }
    ck_assert_uint_eq(count, 16);
    ck_assert_uint_eq(com_host.noutput, 0);
}
END_TEST

/* The steps of Linux's start-up: is THRE raised again although IIR was read before? */
START_TEST(linux_startup_finds_a_working_thre)
{
    for (int i = 0; i < 2; i++) {
        com_out(UART_IER, UART_IER_THRI);
        ck_assert_uint_eq(com_iir(), UART_IIR_THRI);
        com_out(UART_IER, 0);
    }
    com_out(UART_MCR, UART_MCR_OUT2);
    com_out(UART_IER, UART_IER_THRI);
    ck_assert_uint_eq(com_edges(), 1);
    ck_assert_uint_eq(com_in(UART_LSR) & UART_LSR_TEMT, UART_LSR_TEMT);
    ck_assert_uint_eq(com_iir(), UART_IIR_THRI);
    com_out(UART_IER, 0);
}
END_TEST

/* The steps of Linux's search for the interrupt. */
START_TEST(linux_irq_probe_sees_an_edge)
{
    com_out(UART_MCR, UART_MCR_OUT1 | UART_MCR_OUT2);
    com_out(UART_MCR, 0);
    com_out(UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
    ck_assert_uint_eq(com_edges(), 0);
    com_out(UART_IER, 0x0f);
    (void)com_in(UART_LSR);
    (void)com_in(UART_RX);
    (void)com_in(UART_IIR);
    (void)com_in(UART_MSR);
    com_out(UART_TX, 0xff);
    ck_assert_uint_ge(com_edges(), 1);
}
END_TEST

START_TEST(free_takes_null)
{
    serial_free(NULL);
}
END_TEST

/* ---- transmitter ----------------------------------------------------------------------------- */

START_TEST(output_reaches_the_host_in_order)
{
    for (const char *p = "hello"; *p; p++)
        com_out(UART_TX, (unsigned char)*p);
    ck_assert_uint_eq(com_host.noutput, 5);
    ck_assert_mem_eq(com_host.output, "hello", 5);
}
END_TEST

START_TEST(thre_is_raised_after_each_character)
{
    com_open(0, UART_IER_THRI);
    ck_assert_uint_eq(com_iir(), UART_IIR_THRI);
    ck_assert_uint_eq(com_iir(), UART_IIR_NO_INT);
    for (int i = 0; i < 3; i++) {
        com_out(UART_TX, 'x');
        ck_assert_uint_eq(com_edges(), 1);
        ck_assert_uint_eq(com_iir(), UART_IIR_THRI);
        ck_assert_uint_eq(com_iir(), UART_IIR_NO_INT);
    }
}
END_TEST

START_TEST(writing_ier_again_makes_no_new_thre)
{
    com_open(0, UART_IER_THRI);
    ck_assert_uint_eq(com_iir(), UART_IIR_THRI);
    com_out(UART_IER, UART_IER_THRI | UART_IER_MSI);
    ck_assert_uint_eq(com_iir(), UART_IIR_NO_INT);
    ck_assert_uint_eq(com_edges(), 0);
}
END_TEST

START_TEST(full_host_makes_the_transmitter_busy)
{
    com_open(0, UART_IER_THRI);
    (void)com_iir();
    com_host.full = true;
    com_out(UART_TX, 'a');
    ck_assert_uint_eq(com_in(UART_LSR) & (UART_LSR_THRE | UART_LSR_TEMT), 0);
    ck_assert_uint_eq(com_iir(), UART_IIR_NO_INT);
    ck_assert_uint_eq(com_edges(), 0);

    com_drained();
    ck_assert_uint_eq(com_edges(), 1);
    ck_assert_uint_eq(com_iir(), UART_IIR_THRI);
    ck_assert_uint_eq(com_in(UART_LSR) & (UART_LSR_THRE | UART_LSR_TEMT),
                      UART_LSR_THRE | UART_LSR_TEMT);
}
END_TEST

START_TEST(thre_enabled_while_busy_comes_when_drained)
{
    com_open(0, 0);
    com_host.full = true;
    com_out(UART_TX, 'a');
    com_out(UART_IER, UART_IER_THRI);
    ck_assert_uint_eq(com_iir(), UART_IIR_NO_INT);
    com_out(UART_FCR,
            UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_XMIT); /* the host is full all the same */
    ck_assert_uint_eq(com_iir(), UART_IIR_NO_INT);
    com_drained();
    ck_assert_uint_eq(com_edges(), 1);
    ck_assert_uint_eq(com_iir(), UART_IIR_THRI);
}
END_TEST

/* Nobody calls writable here: polling must get on by itself. */
START_TEST(polling_sees_the_host_drained)
{
    com_host.full = true;
    com_out(UART_TX, 'a');
    ck_assert_uint_eq(com_in(UART_LSR) & UART_LSR_THRE, 0);
    com_host.full = false;
    ck_assert_uint_eq(com_in(UART_LSR) & UART_LSR_THRE, UART_LSR_THRE);
}
END_TEST

START_TEST(output_that_ignores_busy_is_passed_on)
{
    com_host.full = true;
    com_out(UART_TX, 'a');
    com_out(UART_TX, 'b');
    ck_assert_uint_eq(com_host.noutput, 2);
}
END_TEST

START_TEST(needless_writable_changes_nothing)
{
    com_open(0, UART_IER_THRI);
    (void)com_iir();
    com_drained();
    ck_assert_uint_eq(com_edges(), 0);
    ck_assert_uint_eq(com_iir(), UART_IIR_NO_INT);
}
END_TEST

/* ---- receiver -------------------------------------------------------------------------------- */

START_TEST(input_arrives_in_order)
{
    com_open(0, UART_IER_RDI);
    ck_assert_uint_eq(com_deliver("abc", 3), 3);
    ck_assert_uint_eq(com_edges(), 1);
    for (const char *p = "abc"; *p; p++) {
        ck_assert_uint_eq(com_in(UART_LSR) & UART_LSR_DR, UART_LSR_DR);
        ck_assert_uint_eq(com_in(UART_RX), (unsigned char)*p);
    }
    ck_assert_uint_eq(com_in(UART_LSR) & UART_LSR_DR, 0);
    ck_assert_uint_eq(com_iir(), UART_IIR_NO_INT);
}
END_TEST

START_TEST(trigger_level_tells_data_from_timeout)
{
    static const struct {
        unsigned trigger, level;
    } cases[] = {
        {UART_FCR_TRIGGER_1, 1},
        {UART_FCR_TRIGGER_4, 4},
        {UART_FCR_TRIGGER_8, 8},
        {UART_FCR_TRIGGER_14, 14},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        com_open(cases[i].trigger, UART_IER_RDI);
        for (unsigned n = 1; n <= 16; n++) {
            ck_assert_uint_eq(com_deliver("x", 1), 1);
            ck_assert_uint_eq(com_iir(), n < cases[i].level ? UART_IIR_RX_TIMEOUT : UART_IIR_RDI);
        }
    }
}
END_TEST

/* A driver that reads one character per interrupt gets an interrupt for each. */
START_TEST(timeout_is_raised_again_for_what_is_left)
{
    com_open(UART_FCR_TRIGGER_8, UART_IER_RDI);
    com_deliver("abc", 3);
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(com_edges(), 1);
        ck_assert_uint_eq(com_iir(), UART_IIR_RX_TIMEOUT);
        (void)com_in(UART_RX);
    }
    ck_assert_uint_eq(com_edges(), 0);
}
END_TEST

START_TEST(room_is_what_the_fifo_has_left)
{
    com_open(0, 0);
    ck_assert_uint_eq(com_deliver("0123456789abcdefghij", 20), 16);
    ck_assert_uint_eq(com_room(), 0);
    com_host.accepts = 0;
    for (int i = 0; i < 16; i++)
        ck_assert_uint_eq(com_in(UART_RX), (unsigned)"0123456789abcdef"[i]);
    ck_assert_uint_ge(com_host.accepts, 1);
    ck_assert_uint_eq(com_room(), 16);
}
END_TEST

START_TEST(without_fifo_there_is_room_for_one)
{
    com_out(UART_MCR, UART_MCR_RTS);
    ck_assert_uint_eq(com_deliver("ab", 2), 1);
    ck_assert_uint_eq(com_room(), 0);
    ck_assert_uint_eq(com_in(UART_RX), 'a');
    ck_assert_uint_eq(com_room(), 1);
}
END_TEST

START_TEST(closed_port_leaves_input_with_the_host)
{
    ck_assert_uint_eq(com_room(), 0);
    com_out(UART_MCR, UART_MCR_RTS);
    ck_assert_uint_eq(com_host.accepts, 1);
    ck_assert_uint_eq(com_room(), 1);
    com_out(UART_MCR, UART_MCR_RTS | UART_MCR_LOOP);
    ck_assert_uint_eq(com_room(), 0);
    com_out(UART_MCR, 0);
    ck_assert_uint_eq(com_room(), 0);
    com_out(UART_IER, UART_IER_RDI); /* as a probe does; OUT2 is down */
    ck_assert_uint_eq(com_room(), 0);
    com_out(UART_MCR, UART_MCR_OUT2);
    ck_assert_uint_eq(com_host.accepts, 2);
    ck_assert_uint_eq(com_room(), 1);
}
END_TEST

START_TEST(polling_for_input_opens_the_port)
{
    for (int i = 0; i < 15; i++)
        (void)com_in(UART_LSR);
    ck_assert_uint_eq(com_room(), 0);
    ck_assert_uint_eq(com_host.accepts, 0);
    (void)com_in(UART_LSR);
    ck_assert_uint_eq(com_host.accepts, 1);
    ck_assert_uint_eq(com_deliver("a", 1), 1);
    ck_assert_uint_eq(com_in(UART_LSR) & UART_LSR_DR, UART_LSR_DR);
    ck_assert_uint_eq(com_in(UART_RX), 'a');
    ck_assert_uint_eq(com_room(), 0);
}
END_TEST

START_TEST(polling_to_send_leaves_input_with_the_host)
{
    for (int i = 0; i < 100; i++) {
        (void)com_in(UART_LSR);
        com_out(UART_TX, 'x');
    }
    com_host.full = true;
    com_out(UART_TX, 'x');
    for (int i = 0; i < 100; i++)
        (void)com_in(UART_LSR);
    ck_assert_uint_eq(com_host.accepts, 0);
    ck_assert_uint_eq(com_room(), 0);
}
END_TEST

START_TEST(fifo_overrun_keeps_the_old)
{
    com_open(0, UART_IER_RLSI);
    com_host.front->receive(com_host.front, (const uint8_t *)"0123456789abcdefX", 17);
    ck_assert_uint_eq(com_edges(), 1);
    ck_assert_uint_eq(com_iir(), UART_IIR_RLSI);
    ck_assert_uint_eq(com_in(UART_LSR) & UART_LSR_OE, UART_LSR_OE);
    ck_assert_uint_eq(com_in(UART_LSR) & UART_LSR_OE, 0);
    ck_assert_uint_eq(com_iir(), UART_IIR_NO_INT);
    for (int i = 0; i < 16; i++)
        ck_assert_uint_eq(com_in(UART_RX), (unsigned)"0123456789abcdef"[i]);
    ck_assert_uint_eq(com_in(UART_LSR) & UART_LSR_DR, 0);
}
END_TEST

START_TEST(buffer_overrun_keeps_the_new)
{
    com_host.front->receive(com_host.front, (const uint8_t *)"ab", 2);
    ck_assert_uint_eq(com_in(UART_LSR) & (UART_LSR_OE | UART_LSR_DR), UART_LSR_OE | UART_LSR_DR);
    ck_assert_uint_eq(com_in(UART_RX), 'b');
    ck_assert_uint_eq(com_in(UART_LSR) & UART_LSR_DR, 0);
}
END_TEST

START_TEST(fifo_reset_and_toggle_discard_input)
{
    static const unsigned fcr[] = {UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR, 0};

    for (size_t i = 0; i < ARRAY_SIZE(fcr); i++) {
        com_open(0, UART_IER_RDI);
        com_deliver("abc", 3);
        com_host.accepts = 0;
        com_out(UART_FCR, fcr[i]);
        ck_assert_uint_eq(com_in(UART_LSR) & UART_LSR_DR, 0);
        ck_assert_uint_eq(com_iir(), UART_IIR_NO_INT);
        ck_assert_uint_eq(com_host.accepts, 1);
    }
}
END_TEST

START_TEST(fcr_bits_need_the_enable_bit)
{
    com_open(UART_FCR_TRIGGER_14, UART_IER_RDI);
    com_out(UART_FCR, UART_FCR_TRIGGER_14); /* disables */
    com_out(UART_FCR, UART_FCR_ENABLE_FIFO);
    com_deliver("a", 1);
    ck_assert_uint_eq(com_iir(), UART_IIR_RDI);
}
END_TEST

START_TEST(break_is_shown_with_its_character)
{
    com_open(UART_FCR_TRIGGER_8, UART_IER_RLSI | UART_IER_RDI);
    com_deliver("a", 1);
    com_host.front->break_received(com_host.front);
    com_deliver("b", 1);
    ck_assert_uint_eq(com_in(UART_LSR) & (UART_LSR_BI | 0x80),
                      0x80); /* in the FIFO, not at its head */
    ck_assert_uint_eq(com_iir(), UART_IIR_RX_TIMEOUT);
    ck_assert_uint_eq(com_in(UART_RX), 'a');
    ck_assert_uint_eq(com_iir(), UART_IIR_RLSI);
    ck_assert_uint_eq(com_in(UART_LSR) & (UART_LSR_BI | UART_LSR_DR), UART_LSR_BI | UART_LSR_DR);
    ck_assert_uint_eq(com_in(UART_LSR) & (UART_LSR_BI | 0x80), 0);
    ck_assert_uint_eq(com_in(UART_RX), 0);
    ck_assert_uint_eq(com_in(UART_RX), 'b');
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(
        suite, "registers", com_setup, com_teardown, registers_at_power_on,
        absent_bits_read_as_zero, scratch_register_keeps_its_value, divisor_is_behind_dlab,
        status_registers_ignore_writes, wide_access_reaches_neighbours, linux_probe_finds_a_16550a,
        linux_startup_finds_a_working_thre, linux_irq_probe_sees_an_edge, free_takes_null);
    unit_case_with(suite, "transmitter", com_setup, com_teardown, output_reaches_the_host_in_order,
                   thre_is_raised_after_each_character, writing_ier_again_makes_no_new_thre,
                   full_host_makes_the_transmitter_busy, thre_enabled_while_busy_comes_when_drained,
                   polling_sees_the_host_drained, output_that_ignores_busy_is_passed_on,
                   needless_writable_changes_nothing);
    unit_case_with(suite, "receiver", com_setup, com_teardown, input_arrives_in_order,
                   trigger_level_tells_data_from_timeout, timeout_is_raised_again_for_what_is_left,
                   room_is_what_the_fifo_has_left, without_fifo_there_is_room_for_one,
                   closed_port_leaves_input_with_the_host, polling_for_input_opens_the_port,
                   polling_to_send_leaves_input_with_the_host, fifo_overrun_keeps_the_old,
                   buffer_overrun_keeps_the_new, fifo_reset_and_toggle_discard_input,
                   fcr_bits_need_the_enable_bit, break_is_shown_with_its_character);
}

UNIT_MAIN("serial", add_tests)
