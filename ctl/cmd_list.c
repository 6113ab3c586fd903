/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-ctl list: all VMs with names.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/vm_names.h"
#include "ctl/amount.h"
#include "ctl/answer.h"
#include "ctl/command.h"
#include "ctl/facts.h"
#include "ctl/message.h"
#include "ctl/table.h"
#include "ctl/target.h"

/* One that hangs is not to keep the others from being shown. */
#define LIST_MS 1000u

/* VMs that are asked at a time. */
#define CREW_MAX 32u

struct inquiry {
    pthread_t thread;
    const struct target *target;
    unsigned timeout_ms;
    json_t *facts; /* NULL: nobody listens there any more */
};

static json_t *look(const struct inquiry *inquiry)
{
    uint64_t deadline_ns = monotonic_ns() + inquiry->timeout_ms * NS_PER_MS;
    const char *name = inquiry->target->name;
    struct link *link = NULL;
    json_t *facts = NULL;
    struct err err;
    int r = link_connect(inquiry->target->socket, inquiry->timeout_ms, &link, &err);

    if (r == -ENOENT || r == -ECONNREFUSED)
        return NULL;
    if (r == 0) {
        link_set_deadline(link, deadline_ns);
        r = link_negotiate(link, &err);
    }
    /* It ended meanwhile. */
    if (r != -ECONNRESET)
        facts =
            r == 0 ? facts_ask(link, name) : facts_unresponsive(name, link ? link_pid(link) : 0);
    link_close(link);
    if (facts)
        (void)json_object_set_new(facts, "socket", json_string(inquiry->target->socket));
    return facts;
}

static void *look_on_thread(void *arg)
{
    struct inquiry *inquiry = arg;

    inquiry->facts = look(inquiry);
    return NULL;
}

/* Ask up to CREW_MAX VMs at the same time, and add what they say to `list`. */
static void ask_some(const struct target *targets, size_t n, unsigned timeout_ms, json_t *list)
{
    struct inquiry inquiries[CREW_MAX];
    bool on_thread[CREW_MAX];

    for (size_t i = 0; i < n; i++) {
        inquiries[i] = (struct inquiry){.target = &targets[i], .timeout_ms = timeout_ms};
        on_thread[i] =
            pthread_create(&inquiries[i].thread, NULL, look_on_thread, &inquiries[i]) == 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (on_thread[i])
            pthread_join(inquiries[i].thread, NULL);
        else
            inquiries[i].facts = look(&inquiries[i]);
        if (inquiries[i].facts)
            (void)json_array_append_new(list, inquiries[i].facts);
    }
}

static void add_size(struct table *table, const json_t *facts, const char *key)
{
    uint64_t size = answer_number(facts, key);
    char buf[AMOUNT_MAX];

    table_add(table, "%s", size ? amount_size(size, buf) : "-");
}

static void add_number(struct table *table, const json_t *facts, const char *key)
{
    uint64_t number = answer_number(facts, key);

    if (number > 0)
        table_add(table, "%llu", (unsigned long long)number);
    else
        table_add(table, "-");
}

static void add_row(struct table *table, const json_t *facts)
{
    const json_t *uptime = json_object_get(facts, "uptime");
    const json_t *disks = json_object_get(facts, "disks");
    char buf[AMOUNT_MAX];

    table_add(table, "%s", answer_text(facts, "name"));
    table_add(table, "%s", answer_shown(facts, "state"));
    add_number(table, facts, "pid");
    add_size(table, facts, "memory");
    add_number(table, facts, "cpus");
    if (json_is_array(disks))
        table_add(table, "%zu", json_array_size(disks));
    else
        table_add(table, "-");
    table_add(table, "%s",
              json_is_integer(uptime) ? amount_span(answer_number(facts, "uptime"), buf) : "-");
}

static void print(const json_t *list, bool as_json)
{
    struct table table;
    size_t i;
    const json_t *facts;

    if (as_json) {
        answer_print(list, stdout);
        return;
    }
    table_init(&table, 7, "NAME STATE >PID >MEMORY >CPUS >DISKS >UPTIME");
    json_array_foreach(list, i, facts)
    {
        add_row(&table, facts);
    }
    table_print(&table, 0, stdout);
    table_done(&table);
}

static int run(const struct args *args)
{
    unsigned timeout_ms = args->timeout_ms ? args->timeout_ms : LIST_MS;
    const char *missing = vm_names_missing_runtime();
    struct target *targets = NULL;
    size_t n = 0;
    struct err err;
    json_t *list;

    if (targets_find(&targets, &n, &err) < 0)
        return ctl_fail(&err);
    if (missing)
        ctl_note("XDG_RUNTIME_DIR: there is no %s: VMs started with another value are not found",
                 missing);
    list = json_array();
    for (size_t i = 0; i < n; i += CREW_MAX)
        ask_some(&targets[i], min_u64(n - i, CREW_MAX), timeout_ms, list);
    print(list, args->json);
    json_decref(list);
    targets_free(targets, n);
    return CTL_OK;
}

const struct command command_list = {
    .name = "list",
    .run = run,
    .synopsis = "",
    .help = "all VMs of this user that have a name",
};
