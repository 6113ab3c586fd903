/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock of a PC (Motorola MC146818), as far as it tells the time: in UTC, by the host's clock.
 * There are no alarms, no interrupts and no memory, and nothing can be set.
 *
 * The original changes its registers once a second, and says in register A when they are about to.
 * This one shows the moment at which register A or the seconds were read last, so that what is read
 * one after the other belongs together. After more than a second it looks at the clock again, for
 * drivers that begin with another register; one that was interrupted for so long notices by reading
 * the seconds once more.
 */
#ifndef MINIVMM_DEVICES_RTC_H
#define MINIVMM_DEVICES_RTC_H

#include <time.h>

#include "base/compiler.h"
#include "devices/bus.h"

#define RTC_PORTS 2u /* which register; its value */

/* Where its century is; tables say so. */
#define RTC_CENTURY 0x32u

struct rtc;

/* `now` tells the time, on any thread. 0 or -ENOMEM. */
int rtc_new(time_t (*now)(void), struct rtc **ret_rtc) MUST_CHECK;
void rtc_free(struct rtc *rtc); /* NULL is fine */

extern const struct bus_ops rtc_bus_ops; /* dev: struct rtc; RTC_PORTS ports */

#endif
