/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/sample.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "ctl/answer.h"
#include "ctl/facts.h"
#include "ctl/message.h"
#include "ctl/process.h"

/* Counters of exits: QEMU says io_exits, minivmm exits-port-read, and both say exits for all. */
#define ALL "exits"
#define SUFFIX "_exits"
#define PREFIX "exits-"
/* Longer names count nothing that we know. */
#define COUNTER_NAME_MAX 64u

/* ---- taking ---------------------------------------------------------------------------------- */

/* NULL where the VM answers with an error. Arguments are stolen. */
static int ask(struct link *link, const char *command, json_t *arguments, json_t **ret_value,
               struct err *err)
{
    int r = link_ask(link, command, arguments, ret_value, err);

    return r == CTL_REMOTE_ERROR ? 0 : r;
}

int sample_take(struct link *link, struct sample *ret_sample, struct err *err)
{
    struct sample sample = {.time_ns = monotonic_ns()};
    struct process process;
    int r = ask(link, "query-status", NULL, &sample.status, err);

    if (r == 0)
        r = ask(link, "query-stats", json_pack("{s:s}", "target", "vcpu"), &sample.vcpus, err);
    if (r == 0)
        r = ask(link, "query-blockstats", NULL, &sample.disks, err);
    if (r < 0) {
        sample_done(&sample);
        return r;
    }
    if (link_pid(link) > 0 && process_look(link_pid(link), &process) == 0) {
        sample.uptime_s = process.uptime_s;
        sample.cpu_ns = process.cpu_ns;
        sample.resident = process.resident;
        sample.swapped = process.swapped;
    }
    *ret_sample = sample;
    return 0;
}

void sample_done(struct sample *sample)
{
    json_decref(sample->status);
    json_decref(sample->vcpus);
    json_decref(sample->disks);
    *sample = (struct sample){0};
}

/* ---- comparing ------------------------------------------------------------------------------- */

/* A counter that went back is another guest's, which began with 0. */
static double per_second(uint64_t before, uint64_t after, double seconds)
{
    uint64_t done = after >= before ? after - before : after;

    return seconds > 0 ? (double)done / seconds : 0;
}

/* The element of an array with the same text under `key`; NULL: none. */
static const json_t *same_in(const json_t *array, const char *key, const char *text)
{
    size_t i;
    const json_t *element;

    json_array_foreach(array, i, element)
    {
        const char *other = answer_text(element, key);

        if (other && text && strcmp(other, text) == 0)
            return element;
    }
    return NULL;
}

static void put_rate(json_t *rates, const char *key, double rate)
{
    (void)json_object_set_new(rates, key, json_real(rate));
}

/* What is counted, without that it is exits; NULL: it is none; "": all of them. */
static const char *reason_of(const char *name, char buf[COUNTER_NAME_MAX])
{
    size_t len = strlen(name);

    if (strcmp(name, ALL) == 0)
        return "";
    if (len >= COUNTER_NAME_MAX)
        return NULL;
    memcpy(buf, name, len + 1);
    if (len > strlen(SUFFIX) && strcmp(name + len - strlen(SUFFIX), SUFFIX) == 0) {
        buf[len - strlen(SUFFIX)] = '\0';
        return buf;
    }
    return strncmp(name, PREFIX, strlen(PREFIX)) == 0 ? buf + strlen(PREFIX) : NULL;
}

/* `vcpu` and `earlier` are elements of what query-stats returns. */
static json_t *vcpu_rates(size_t index, const json_t *vcpu, const json_t *earlier, double seconds)
{
    const json_t *stats = json_object_get(vcpu, "stats");
    json_t *reasons = json_object();
    double total = 0;
    double sum = 0;
    size_t i;
    const json_t *stat;

    json_array_foreach(stats, i, stat)
    {
        const char *name = answer_text(stat, "name");
        char buf[COUNTER_NAME_MAX];
        const char *reason = name ? reason_of(name, buf) : NULL;
        double rate;

        if (!reason || !json_is_integer(json_object_get(stat, "value")))
            continue;
        rate = per_second(
            answer_number(same_in(json_object_get(earlier, "stats"), "name", name), "value"),
            answer_number(stat, "value"), seconds);
        if (reason[0]) {
            put_rate(reasons, reason, rate);
            sum += rate;
        } else {
            total = rate;
        }
    }
    return json_pack("{s:I,s:f,s:o}", "cpu", (json_int_t)index, "exits", total > 0 ? total : sum,
                     "reasons", reasons);
}

static json_t *all_vcpu_rates(const struct sample *before, const struct sample *after,
                              double seconds)
{
    json_t *rates = json_array();
    size_t i;
    const json_t *vcpu;

    json_array_foreach(after->vcpus, i, vcpu)
    {
        const json_t *earlier = same_in(before->vcpus, "qom-path", answer_text(vcpu, "qom-path"));

        (void)json_array_append_new(rates, vcpu_rates(i, vcpu, earlier, seconds));
    }
    return rates;
}

static json_t *disk_rates(const json_t *disk, const json_t *earlier, double seconds)
{
    static const char *const keys[] = {"rd_bytes", "rd_operations", "wr_bytes", "wr_operations",
                                       "flush_operations"};
    const char *name = facts_disk_name(disk);
    json_t *rates = json_object();

    (void)json_object_set_new(rates, "device", name ? json_string(name) : json_null());
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        put_rate(rates, keys[i],
                 per_second(answer_number(json_object_get(earlier, "stats"), keys[i]),
                            answer_number(json_object_get(disk, "stats"), keys[i]), seconds));
    return rates;
}

static json_t *all_disk_rates(const struct sample *before, const struct sample *after,
                              double seconds)
{
    json_t *rates = json_array();
    size_t i;
    const json_t *disk;

    json_array_foreach(after->disks, i, disk)
    {
        const json_t *earlier = same_in(before->disks, "device", answer_text(disk, "device"));

        (void)json_array_append_new(rates, disk_rates(disk, earlier, seconds));
    }
    return rates;
}

json_t *sample_rates(const struct sample *before, const struct sample *after)
{
    double seconds = (double)(after->time_ns - before->time_ns) / NS_PER_S;
    const char *state = answer_text(after->status, "status");
    json_t *rates =
        json_pack("{s:o,s:f,s:I,s:f,s:I,s:I}", "state", state ? json_string(state) : json_null(),
                  "seconds", seconds, "uptime", (json_int_t)after->uptime_s, "cpu",
                  per_second(before->cpu_ns, after->cpu_ns, seconds) / NS_PER_S, "resident",
                  (json_int_t)after->resident, "swapped", (json_int_t)after->swapped);

    if (rates) {
        (void)json_object_set_new(rates, "vcpus", all_vcpu_rates(before, after, seconds));
        (void)json_object_set_new(rates, "disks", all_disk_rates(before, after, seconds));
    }
    return rates;
}
