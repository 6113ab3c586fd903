/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/snapshot_info.h"

#include "base/clock.h"
#include "vmm/control/qmp.h"

json_t *snapshot_info(const struct block_snapshot *snapshot)
{
    json_t *json = json_pack(
        "{s:o,s:o,s:I,s:I,s:I,s:I,s:I}", "id", qmp_text(snapshot->id), "name",
        qmp_text(snapshot->name), "vm-state-size", (json_int_t)snapshot->vm_state_len, "date-sec",
        (json_int_t)snapshot->date_sec, "date-nsec", (json_int_t)snapshot->date_nsec,
        "vm-clock-sec", (json_int_t)(snapshot->vm_clock_ns / NS_PER_S), "vm-clock-nsec",
        (json_int_t)(snapshot->vm_clock_ns % NS_PER_S));

    if (snapshot->icount != UINT64_MAX)
        json_object_set_new(json, "icount", json_integer((json_int_t)snapshot->icount));
    return json;
}
