/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/acpi_pm.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"

/* Bits of SLEEP_CONTROL and, the last one, SLEEP_STATUS (ACPI 6.4, 4.8.3.7). */
#define SLP_TYP_SHIFT 2u
#define SLP_TYP_MASK 0x07u
#define SLP_EN 0x20u
#define WAK_STS 0x80u

struct acpi_pm {
    struct irq *ged_irq;
    struct power_sink *sink;

    pthread_mutex_t lock; /* guards the rest */
    uint8_t sleep_control;
    uint8_t sleep_status;
    uint8_t ged_events;
};

static uint8_t read_reg(struct acpi_pm *pm, uint64_t off)
{
    uint8_t value = 0;

    pthread_mutex_lock(&pm->lock);
    switch (off) {
    case ACPI_PM_SLEEP_CONTROL:
        value = pm->sleep_control;
        break;
    case ACPI_PM_SLEEP_STATUS:
        value = pm->sleep_status;
        break;
    case ACPI_PM_GED_EVENTS:
        value = pm->ged_events;
        pm->ged_events = 0;
        break;
    default: /* RESET_REG is write-only */
        break;
    }
    pthread_mutex_unlock(&pm->lock);
    return value;
}

/*
 * Drivers poll SLEEP_STATUS for the wake-up once they have gone to sleep. There is no other state
 * than S5; who asks for one all the same has woken up already and need not wait for ever.
 */
static void write_sleep_control(struct acpi_pm *pm, uint8_t value)
{
    unsigned type = value >> SLP_TYP_SHIFT & SLP_TYP_MASK;
    bool sleep = value & SLP_EN;

    pthread_mutex_lock(&pm->lock);
    pm->sleep_control = (uint8_t)(type << SLP_TYP_SHIFT); /* SLP_EN is write-only */
    if (sleep && type != ACPI_PM_SLP_TYP_S5)
        pm->sleep_status |= WAK_STS;
    pthread_mutex_unlock(&pm->lock);

    if (sleep && type == ACPI_PM_SLP_TYP_S5)
        pm->sink->request(pm->sink, POWER_REQUEST_OFF);
    else if (sleep)
        log_guest(LOG_WARN, "guest asked for sleep type %u; only %u, power-off, exists", type,
                  ACPI_PM_SLP_TYP_S5);
}

static void write_sleep_status(struct acpi_pm *pm, uint8_t value)
{
    pthread_mutex_lock(&pm->lock);
    pm->sleep_status &= (uint8_t) ~(value & WAK_STS); /* write one to clear */
    pthread_mutex_unlock(&pm->lock);
}

static void write_reg(struct acpi_pm *pm, uint64_t off, uint8_t value)
{
    switch (off) {
    case ACPI_PM_SLEEP_CONTROL:
        write_sleep_control(pm, value);
        break;
    case ACPI_PM_SLEEP_STATUS:
        write_sleep_status(pm, value);
        break;
    case ACPI_PM_RESET:
        if (value == ACPI_PM_RESET_VALUE)
            pm->sink->request(pm->sink, POWER_REQUEST_RESET);
        break;
    default: /* the events are cleared by reading them */
        break;
    }
}

/* The registers are bytes; a wider access is that many accesses to neighbours. */
static uint64_t acpi_pm_read(void *dev, uint64_t off, unsigned size)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)read_reg(dev, off + i) << (8 * i);
    return value;
}

static void acpi_pm_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
    for (unsigned i = 0; i < size; i++)
        write_reg(dev, off + i, (uint8_t)(value >> (8 * i)));
}

const struct bus_ops acpi_pm_bus_ops = {.read = acpi_pm_read, .write = acpi_pm_write};

int acpi_pm_new(struct irq *ged_irq, struct power_sink *sink, struct acpi_pm **ret_pm)
{
    struct acpi_pm *pm = calloc(1, sizeof(*pm));

    if (!pm)
        return -ENOMEM;
    pthread_mutex_init(&pm->lock, NULL);
    pm->ged_irq = ged_irq;
    pm->sink = sink;
    *ret_pm = pm;
    return 0;
}

void acpi_pm_free(struct acpi_pm *pm)
{
    if (!pm)
        return;
    pthread_mutex_destroy(&pm->lock);
    free(pm);
}

void acpi_pm_press_power_button(struct acpi_pm *pm)
{
    pthread_mutex_lock(&pm->lock);
    pm->ged_events |= ACPI_PM_EVENT_POWER_BUTTON;
    pthread_mutex_unlock(&pm->lock);
    irq_raise(pm->ged_irq); /* after the event is there to be read */
}

bool acpi_pm_repeat_power_button(struct acpi_pm *pm)
{
    bool unread;

    pthread_mutex_lock(&pm->lock);
    unread = pm->ged_events & ACPI_PM_EVENT_POWER_BUTTON;
    pthread_mutex_unlock(&pm->lock);
    if (unread)
        irq_raise(pm->ged_irq);
    return unread;
}
