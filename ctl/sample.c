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

/* Add the exits among counters {name, value}. Returns how many there was no room for. */
static uint64_t add_exits(json_t *exits, const json_t *stats)
{
    uint64_t nleft = 0;
    size_t i;
    const json_t *stat;

    json_array_foreach(stats, i, stat)
    {
        const char *name = answer_text(stat, "name");
        char buf[COUNTER_NAME_MAX];
        const char *reason = name ? reason_of(name, buf) : NULL;
        json_t *value = json_object_get(stat, "value");

        if (!reason || !json_is_integer(value))
            continue;
        if (json_object_size(exits) == SAMPLE_REASONS_MAX && !json_object_get(exits, reason))
            nleft++;
        else
            (void)json_object_set(exits, reason, value);
    }
    return nleft;
}

/*
 * What query-stats returns as {qom-path: {reason: value}}: more than one provider tells of a CPU.
 * *ret_nleft counts what there was no room for.
 */
static json_t *exits_by_cpu(const json_t *vcpus, uint64_t *ret_nleft)
{
    json_t *cpus = json_object();
    size_t i;
    const json_t *vcpu;

    *ret_nleft = 0;
    json_array_foreach(vcpus, i, vcpu)
    {
        const char *path = answer_text(vcpu, "qom-path");
        json_t *exits = path ? json_object_get(cpus, path) : NULL;

        if (path && !exits && json_object_size(cpus) < SAMPLE_ROWS_MAX) {
            exits = json_object();
            (void)json_object_set_new(cpus, path, exits);
        }
        if (exits)
            *ret_nleft += add_exits(exits, json_object_get(vcpu, "stats"));
        else
            ++*ret_nleft;
    }
    return cpus;
}

static json_t *vcpu_rates(size_t index, json_t *exits, const json_t *earlier, double seconds)
{
    json_t *reasons = json_object();
    double total = 0;
    double sum = 0;
    const char *reason;
    const json_t *value;

    json_object_foreach(exits, reason, value)
    {
        double rate =
            per_second(answer_number(earlier, reason), answer_number(exits, reason), seconds);

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
                              double seconds, uint64_t *ret_nleft)
{
    json_t *earlier = exits_by_cpu(before->vcpus, ret_nleft);
    json_t *now = exits_by_cpu(after->vcpus, ret_nleft);
    json_t *rates = json_array();
    const char *path;
    json_t *exits;

    json_object_foreach(now, path, exits)
    {
        (void)json_array_append_new(rates, vcpu_rates(json_array_size(rates), exits,
                                                      json_object_get(earlier, path), seconds));
    }
    json_decref(earlier);
    json_decref(now);
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

/* What query-blockstats returns as {name: entry}. */
static json_t *disks_by_name(const json_t *array)
{
    json_t *disks = json_object();
    size_t i;
    json_t *disk;

    json_array_foreach(array, i, disk)
    {
        const char *name = facts_disk_name(disk);

        if (name)
            (void)json_object_set(disks, name, disk);
    }
    return disks;
}

static json_t *all_disk_rates(const struct sample *before, const struct sample *after,
                              double seconds, uint64_t *ret_nleft)
{
    size_t n = min_u64(json_array_size(after->disks), SAMPLE_ROWS_MAX);
    json_t *earlier = disks_by_name(before->disks);
    json_t *rates = json_array();

    *ret_nleft = json_array_size(after->disks) - n;
    for (size_t i = 0; i < n; i++) {
        const json_t *disk = json_array_get(after->disks, i);
        const char *name = facts_disk_name(disk);

        (void)json_array_append_new(
            rates, disk_rates(disk, name ? json_object_get(earlier, name) : NULL, seconds));
    }
    json_decref(earlier);
    return rates;
}

json_t *sample_rates(const struct sample *before, const struct sample *after)
{
    double seconds = (double)(after->time_ns - before->time_ns) / NS_PER_S;
    const char *state = answer_text(after->status, "status");
    uint64_t ncpus_left, ndisks_left;
    json_t *rates =
        json_pack("{s:o,s:f,s:I,s:f,s:I,s:I}", "state", state ? json_string(state) : json_null(),
                  "seconds", seconds, "uptime", (json_int_t)after->uptime_s, "cpu",
                  per_second(before->cpu_ns, after->cpu_ns, seconds) / NS_PER_S, "resident",
                  (json_int_t)after->resident, "swapped", (json_int_t)after->swapped);
    if (rates) {
        (void)json_object_set_new(rates, "vcpus",
                                  all_vcpu_rates(before, after, seconds, &ncpus_left));
        (void)json_object_set_new(rates, "disks",
                                  all_disk_rates(before, after, seconds, &ndisks_left));
        (void)json_object_set_new(rates, "left-out",
                                  json_integer((json_int_t)ncpus_left + (json_int_t)ndisks_left));
    }
    return rates;
}
