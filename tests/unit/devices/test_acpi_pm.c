/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "devices/acpi_pm.h"
#include "tests/lib/unit.h"

#define BASE 0x600
#define SLP_EN 0x20u
#define WAK_STS 0x80u
#define SLEEP(type) ((uint8_t)((type) << 2 | SLP_EN))

static unsigned requests[2];

static void count_request(struct power_sink *sink, enum power_request what)
{
    requests[what]++;
}

static struct power_sink sink = {.request = count_request};
static struct irq irq;
static struct acpi_pm *pm;
static struct bus bus;

static void setup(void)
{
    struct bus_range range = {.base = BASE, .len = ACPI_PM_LEN, .ops = &acpi_pm_bus_ops};

    log_set_level(LOG_ERROR); /* some tests provoke warnings */
    ck_assert_int_eq(irq_init(&irq, 9), 0);
    ck_assert_int_eq(acpi_pm_new(&irq, &sink, &pm), 0);
    range.dev = pm;
    ck_assert_int_eq(bus_add(&bus, &range), 0);
}

static void teardown(void)
{
    acpi_pm_free(pm);
    irq_done(&irq);
}

static uint8_t in(uint64_t reg)
{
    uint8_t value;

    bus_read(&bus, BASE + reg, &value, 1);
    return value;
}

static void out(uint64_t reg, uint8_t value)
{
    bus_write(&bus, BASE + reg, &value, 1);
}

static unsigned edges(void)
{
    eventfd_t count;

    return eventfd_read(irq.fd, &count) < 0 ? 0 : (unsigned)count;
}

START_TEST(soft_off_needs_the_enable_bit)
{
    out(ACPI_PM_SLEEP_CONTROL, ACPI_PM_SLP_TYP_S5 << 2);
    ck_assert_uint_eq(requests[POWER_REQUEST_OFF], 0);
    out(ACPI_PM_SLEEP_CONTROL, SLEEP(ACPI_PM_SLP_TYP_S5));
    ck_assert_uint_eq(requests[POWER_REQUEST_OFF], 1);
    ck_assert_uint_eq(requests[POWER_REQUEST_RESET], 0);
}
END_TEST

START_TEST(other_sleep_types_wake_up_at_once)
{
    for (unsigned type = 0; type < 8; type++) {
        if (type == ACPI_PM_SLP_TYP_S5)
            continue;
        out(ACPI_PM_SLEEP_STATUS, WAK_STS);
        ck_assert_uint_eq(in(ACPI_PM_SLEEP_STATUS), 0);
        out(ACPI_PM_SLEEP_CONTROL, SLEEP(type));
        ck_assert_uint_eq(in(ACPI_PM_SLEEP_STATUS), WAK_STS);
    }
    ck_assert_uint_eq(requests[POWER_REQUEST_OFF], 0);
}
END_TEST

START_TEST(sleep_control_reads_back_without_the_enable_bit)
{
    ck_assert_uint_eq(in(ACPI_PM_SLEEP_CONTROL), 0);
    out(ACPI_PM_SLEEP_CONTROL, 0xff);
    ck_assert_uint_eq(in(ACPI_PM_SLEEP_CONTROL), 0x1c);
}
END_TEST

START_TEST(wake_status_is_cleared_by_writing_one)
{
    out(ACPI_PM_SLEEP_CONTROL, SLEEP(1));
    out(ACPI_PM_SLEEP_STATUS, (uint8_t)~WAK_STS);
    ck_assert_uint_eq(in(ACPI_PM_SLEEP_STATUS), WAK_STS);
    out(ACPI_PM_SLEEP_STATUS, WAK_STS);
    ck_assert_uint_eq(in(ACPI_PM_SLEEP_STATUS), 0);
}
END_TEST

START_TEST(only_the_reset_value_resets)
{
    for (unsigned value = 0; value <= 0xff; value++) {
        if (value != ACPI_PM_RESET_VALUE)
            out(ACPI_PM_RESET, (uint8_t)value);
    }
    ck_assert_uint_eq(requests[POWER_REQUEST_RESET], 0);
    out(ACPI_PM_RESET, ACPI_PM_RESET_VALUE);
    ck_assert_uint_eq(requests[POWER_REQUEST_RESET], 1);
    ck_assert_uint_eq(in(ACPI_PM_RESET), 0);
}
END_TEST

START_TEST(power_button_is_seen_once)
{
    ck_assert_uint_eq(in(ACPI_PM_GED_EVENTS), 0);
    acpi_pm_press_power_button(pm);
    ck_assert_uint_eq(edges(), 1);
    out(ACPI_PM_GED_EVENTS, 0xff); /* only reading clears */
    ck_assert_uint_eq(in(ACPI_PM_GED_EVENTS), ACPI_PM_EVENT_POWER_BUTTON);
    ck_assert_uint_eq(in(ACPI_PM_GED_EVENTS), 0);
    ck_assert_uint_eq(edges(), 0);
}
END_TEST

/* The guest may have been deaf to the first one. */
START_TEST(pressing_again_interrupts_again)
{
    acpi_pm_press_power_button(pm);
    acpi_pm_press_power_button(pm);
    ck_assert_uint_eq(edges(), 2);
    ck_assert_uint_eq(in(ACPI_PM_GED_EVENTS), ACPI_PM_EVENT_POWER_BUTTON);
    ck_assert_uint_eq(in(ACPI_PM_GED_EVENTS), 0);
}
END_TEST

/* For a guest that had no driver when it was pressed; one that knows is left alone. */
START_TEST(press_is_repeated_until_it_is_read)
{
    ck_assert(!acpi_pm_repeat_power_button(pm));
    ck_assert_uint_eq(edges(), 0);
    acpi_pm_press_power_button(pm);
    ck_assert(acpi_pm_repeat_power_button(pm));
    ck_assert(acpi_pm_repeat_power_button(pm));
    ck_assert_uint_eq(edges(), 3);
    ck_assert_uint_eq(in(ACPI_PM_GED_EVENTS), ACPI_PM_EVENT_POWER_BUTTON);
    ck_assert(!acpi_pm_repeat_power_button(pm));
    ck_assert_uint_eq(edges(), 0);
}
END_TEST

START_TEST(wide_access_reaches_each_register)
{
    uint32_t value = (uint32_t)ACPI_PM_RESET_VALUE << 16 | 1 << 2;

    acpi_pm_press_power_button(pm);
    bus_write(&bus, BASE, &value, 4);
    ck_assert_uint_eq(requests[POWER_REQUEST_RESET], 1);
    bus_read(&bus, BASE, &value, 4);
    ck_assert_uint_eq(value, (uint32_t)ACPI_PM_EVENT_POWER_BUTTON << 24 | 1 << 2);
}
END_TEST

#define PRESSES 2000

static void *press_often(void *opaque)
{
    for (int i = 0; i < PRESSES; i++)
        acpi_pm_press_power_button(pm);
    return NULL;
}

START_TEST(last_press_is_never_lost)
{
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, press_often, NULL), 0);
    for (int i = 0; i < PRESSES; i++)
        (void)in(ACPI_PM_GED_EVENTS);
    pthread_join(thread, NULL);
    acpi_pm_press_power_button(pm);
    ck_assert_uint_eq(in(ACPI_PM_GED_EVENTS), ACPI_PM_EVENT_POWER_BUTTON);
    ck_assert_uint_eq(edges(), PRESSES + 1);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "acpi_pm", setup, teardown, soft_off_needs_the_enable_bit,
                   other_sleep_types_wake_up_at_once,
                   sleep_control_reads_back_without_the_enable_bit,
                   wake_status_is_cleared_by_writing_one, only_the_reset_value_resets,
                   power_button_is_seen_once, pressing_again_interrupts_again,
                   press_is_repeated_until_it_is_read, wide_access_reaches_each_register,
                   last_press_is_never_lost);
}

UNIT_USES_THREADS;
UNIT_MAIN("acpi_pm", add_tests)
