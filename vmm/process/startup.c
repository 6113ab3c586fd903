/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/process/startup.h"

#include <inttypes.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/log.h"

static uint64_t begin_ns;

void startup_begin(void)
{
    begin_ns = monotonic_ns();
}

void startup_step(const char *step)
{
    uint64_t now;

    if (!log_enabled(LOG_DEBUG))
        return;
    now = monotonic_ns();
    log_debug("startup: %s: %" PRIu64 " us, monotonic %" PRIu64 " us", step,
              (now - begin_ns) / 1000, now / 1000);
}
