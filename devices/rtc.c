/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/rtc.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

enum rtc_register {
    RTC_SECONDS = 0,
    RTC_MINUTES = 2,
    RTC_HOURS = 4,
    RTC_WEEKDAY = 6,
    RTC_DAY = 7,
    RTC_MONTH = 8,
    RTC_YEAR = 9,
    RTC_A = 10,
    RTC_B = 11,
    RTC_D = 13,
};

/* The oscillator runs, at the usual rate; no update is in progress. */
#define RTC_A_VALUE 0x26u

/* Hours up to 23, digits in BCD. */
#define RTC_B_VALUE 0x02u

/* The time is valid: the battery is good. */
#define RTC_D_VALUE 0x80u

/* What is written to the first port, but for the bit that masks NMIs. */
#define INDEX_MASK 0x7fu

struct rtc {
    time_t (*now)(void);
    pthread_mutex_t lock; /* guards the rest */
    uint8_t index;
    time_t seen; /* what the registers show */
};

static uint8_t bcd(int value)
{
    return (uint8_t)(value / 10 % 10 << 4 | value % 10);
}

/*
 * Look at the clock when a driver begins to read. One that begins in another way sees a time that
 * is a second old at most.
 */
static void look(struct rtc *rtc)
{
    time_t now = rtc->now();
    bool begins = rtc->index == RTC_A || rtc->index == RTC_SECONDS;

    if (begins || now < rtc->seen || now - rtc->seen > 1)
        rtc->seen = now;
}

static uint8_t read_register(struct rtc *rtc)
{
    struct tm tm = {0};

    look(rtc);
    (void)gmtime_r(&rtc->seen, &tm); /* fails in years that do not fit an int */
    switch (rtc->index) {
    case RTC_SECONDS:
        return bcd(tm.tm_sec);
    case RTC_MINUTES:
        return bcd(tm.tm_min);
    case RTC_HOURS:
        return bcd(tm.tm_hour);
    case RTC_WEEKDAY:
        return bcd(tm.tm_wday + 1); /* Sunday is 1 */
    case RTC_DAY:
        return bcd(tm.tm_mday);
    case RTC_MONTH:
        return bcd(tm.tm_mon + 1);
    case RTC_YEAR:
        return bcd(tm.tm_year % 100);
    case RTC_CENTURY:
        return bcd(tm.tm_year / 100 + 19);
    case RTC_A:
        return RTC_A_VALUE;
    case RTC_B:
        return RTC_B_VALUE;
    case RTC_D:
        return RTC_D_VALUE;
    default:
        return 0;
    }
}

/* Only the second port can be read, and by bytes. */
static uint64_t rtc_read(void *dev, uint64_t off, unsigned size)
{
    struct rtc *rtc = dev;
    uint64_t value;

    if (off == 0)
        return UINT64_MAX;
    pthread_mutex_lock(&rtc->lock);
    value = read_register(rtc);
    pthread_mutex_unlock(&rtc->lock);
    return value;
}

static void rtc_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
    struct rtc *rtc = dev;

    if (off != 0)
        return;
    pthread_mutex_lock(&rtc->lock);
    rtc->index = value & INDEX_MASK;
    pthread_mutex_unlock(&rtc->lock);
}

const struct bus_ops rtc_bus_ops = {.read = rtc_read, .write = rtc_write};

int rtc_new(time_t (*now)(void), struct rtc **ret_rtc)
{
    struct rtc *rtc = calloc(1, sizeof(*rtc));

    if (!rtc)
        return -ENOMEM;
    rtc->now = now;
    pthread_mutex_init(&rtc->lock, NULL);
    *ret_rtc = rtc;
    return 0;
}

void rtc_free(struct rtc *rtc)
{
    if (!rtc)
        return;
    pthread_mutex_destroy(&rtc->lock);
    free(rtc);
}
