/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/nic_counters.h"

#include <string.h>

#include "base/bytes.h"

unsigned nic_counters(const struct nic_info *info, struct vm_counter ret_counters[VM_COUNTERS_MAX])
{
    const struct virtio_net_counters *counted = &info->counters;
    const struct vm_counter counters[] = {
        {"rx-frames", counted->received.frames},
        {"rx-bytes", counted->received.bytes},
        {"rx-dropped", counted->received.dropped},
        {"rx-filtered", counted->filtered},
        {"rx-out-of-buffers", counted->starved},
        {"tx-frames", counted->sent.frames},
        {"tx-bytes", counted->sent.bytes},
        {"tx-dropped", counted->sent.dropped},
        {"tx-back-end-full", counted->full},
        {"queue-kicks", counted->rings.kicks},
        {"queue-interrupts", counted->rings.interrupts},
    };

    _Static_assert(ARRAY_SIZE(counters) <= VM_COUNTERS_MAX, "there is room for all");
    memcpy(ret_counters, counters, sizeof(counters));
    return ARRAY_SIZE(counters);
}
