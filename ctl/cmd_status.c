/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-ctl NAME status: one VM, its disks and its network cards.
 */
#include <stdbool.h>

#include "base/clock.h"
#include "ctl/amount.h"
#include "ctl/answer.h"
#include "ctl/command.h"
#include "ctl/facts.h"
#include "ctl/message.h"
#include "ctl/table.h"
#include "ctl/target.h"

static void add_fact(struct table *table, const char *what, const char *value)
{
    table_add(table, "%s", what);
    table_add(table, "%s", value ? value : "-");
}

static void add_size(struct table *table, const char *what, const json_t *facts, const char *key)
{
    uint64_t size = answer_number(facts, key);
    char buf[AMOUNT_MAX];

    add_fact(table, what, size ? amount_size(size, buf) : NULL);
}

static void add_number(struct table *table, const char *what, const json_t *facts, const char *key)
{
    uint64_t number = answer_number(facts, key);
    char buf[AMOUNT_MAX];

    (void)snprintf(buf, sizeof(buf), "%llu", (unsigned long long)number);
    add_fact(table, what, number ? buf : NULL);
}

static void print_machine(const json_t *facts)
{
    struct table table;
    char buf[AMOUNT_MAX];

    table_init(&table, 2, "");
    add_fact(&table, "name", answer_text(facts, "name"));
    add_fact(&table, "state", answer_text(facts, "state"));
    add_number(&table, "PID", facts, "pid");
    add_fact(&table, "uptime",
             json_is_integer(json_object_get(facts, "uptime"))
                 ? amount_span(answer_number(facts, "uptime"), buf)
                 : NULL);
    add_number(&table, "CPUs", facts, "cpus");
    add_size(&table, "memory", facts, "memory");
    add_size(&table, "resident", facts, "resident");
    add_fact(&table, "serial port", answer_text(facts, "serial"));
    table_print(&table, 0, stdout);
    table_done(&table);
}

/* An image may well take 0 bytes. */
static void add_disk_size(struct table *table, const json_t *disk, const char *key)
{
    bool is_known = json_is_integer(json_object_get(disk, key));
    char buf[AMOUNT_MAX];

    table_add(table, "%s", is_known ? amount_size(answer_number(disk, key), buf) : "-");
}

static void print_disks(const json_t *disks)
{
    struct table table;
    size_t i;
    const json_t *disk;

    if (json_array_size(disks) == 0)
        return;
    table_init(&table, 6, "DISK FORMAT >SIZE >USED MODE FILE");
    json_array_foreach(disks, i, disk)
    {
        table_add(&table, "%s", answer_shown(disk, "device"));
        table_add(&table, "%s", answer_shown(disk, "format"));
        add_disk_size(&table, disk, "size");
        add_disk_size(&table, disk, "used");
        table_add(&table, "%s", json_is_true(json_object_get(disk, "readonly")) ? "ro" : "rw");
        table_add(&table, "%s", answer_shown(disk, "file"));
    }
    putchar('\n');
    table_print(&table, 0, stdout);
    table_done(&table);
}

static void print_cards(const json_t *cards)
{
    struct table table;
    size_t i;
    const json_t *card;

    if (json_array_size(cards) == 0)
        return;
    table_init(&table, 5, "CARD LINK ADDRESS NETWORK AT");
    json_array_foreach(cards, i, card)
    {
        table_add(&table, "%s", answer_shown(card, "name"));
        table_add(&table, "%s", json_is_true(json_object_get(card, "up")) ? "up" : "down");
        table_add(&table, "%s", answer_shown(card, "address"));
        table_add(&table, "%s", answer_shown(card, "type"));
        table_add(&table, "%s", answer_shown(card, "peer"));
    }
    putchar('\n');
    table_print(&table, 0, stdout);
    table_done(&table);
}

static int run(const struct args *args)
{
    unsigned timeout_ms = args->timeout_ms ? args->timeout_ms : ANSWER_MS;
    uint64_t deadline_ns = monotonic_ns() + timeout_ms * NS_PER_MS;
    struct link *link;
    struct err err;
    json_t *facts;

    if (target_open(args->target, timeout_ms, &link, &err) < 0)
        return ctl_fail(&err);
    link_set_deadline(link, deadline_ns);
    facts = facts_ask(link, NULL);
    link_close(link);
    if (args->json) {
        answer_print(facts, stdout);
    } else {
        print_machine(facts);
        print_disks(json_object_get(facts, "disks"));
        print_cards(json_object_get(facts, "cards"));
    }
    json_decref(facts);
    return CTL_OK;
}

const struct command command_status = {
    .name = "status",
    .run = run,
    .synopsis = "",
    .help = "state, process, memory, serial port, disks and network cards",
};
