/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/amount.h"

#include <stdio.h>

#include "base/bytes.h"

const char *amount_size(uint64_t bytes, char buf[AMOUNT_MAX])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1023.95 && unit + 1 < ARRAY_SIZE(units)) {
        value /= 1024;
        unit++;
    }
    if (unit == 0 || value == (double)(uint64_t)value || value >= 99.95)
        (void)snprintf(buf, AMOUNT_MAX, "%.0f %s", value, units[unit]);
    else
        (void)snprintf(buf, AMOUNT_MAX, "%.1f %s", value, units[unit]);
    return buf;
}

const char *amount_rate(double per_second, char buf[AMOUNT_MAX])
{
    static const char units[] = {'\0', 'k', 'M', 'G', 'T'};
    size_t unit = 0;

    while (per_second >= 999.5 && unit + 1 < ARRAY_SIZE(units)) {
        per_second /= 1000;
        unit++;
    }
    if (per_second < 0.05 || per_second >= 9.95)
        (void)snprintf(buf, AMOUNT_MAX, "%.0f%.1s", per_second, &units[unit]);
    else
        (void)snprintf(buf, AMOUNT_MAX, "%.1f%.1s", per_second, &units[unit]);
    return buf;
}

const char *amount_span(uint64_t seconds, char buf[AMOUNT_MAX])
{
    const unsigned long long s = seconds;

    if (s < 60)
        (void)snprintf(buf, AMOUNT_MAX, "%llus", s);
    else if (s < 3600)
        (void)snprintf(buf, AMOUNT_MAX, "%llum %02llus", s / 60, s % 60);
    else if (s < 86400)
        (void)snprintf(buf, AMOUNT_MAX, "%lluh %02llum", s / 3600, s / 60 % 60);
    else
        (void)snprintf(buf, AMOUNT_MAX, "%llud %02lluh", s / 86400, s / 3600 % 24);
    return buf;
}
