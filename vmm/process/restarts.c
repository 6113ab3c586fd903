/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/process/restarts.h"

#include "base/bytes.h"

unsigned restarts_next_pause_s(struct restarts *restarts, uint64_t lived_ns)
{
    if (lived_ns >= RESTARTS_LONG_ENOUGH_NS) {
        *restarts = (struct restarts){0};
        return 0;
    }
    if (restarts->nquick < RESTARTS_FREE) {
        restarts->nquick++;
        return 0;
    }
    restarts->pause_s = restarts->pause_s == 0
                            ? RESTARTS_PAUSE_S
                            : (unsigned)min_u64(2ull * restarts->pause_s, RESTARTS_PAUSE_MAX_S);
    return restarts->pause_s;
}
