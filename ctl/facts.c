/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/facts.h"

#include <stdbool.h>
#include <string.h>

#include "ctl/answer.h"
#include "ctl/message.h"
#include "ctl/process.h"

/*
 * Ask. A VM that does not know the question leaves a fact unknown, and one that answers nothing is
 * not asked for more. NULL, or a value to be freed.
 */
static json_t *ask(struct link *link, int *r, const char *command)
{
    json_t *value = NULL;
    struct err err;

    if (*r == 0)
        *r = link_ask(link, command, NULL, &value, &err);
    if (*r == CTL_REMOTE_ERROR)
        *r = 0;
    return value;
}

/* Steals `value`; NULL stands for null. */
static void put(json_t *facts, const char *key, json_t *value)
{
    (void)json_object_set_new(facts, key, value ? value : json_null());
}

static json_t *text_or_null(const char *text)
{
    return text ? json_string(text) : NULL;
}

static json_t *number_or_null(const json_t *object, const char *key)
{
    return json_is_integer(json_object_get(object, key))
               ? json_integer((json_int_t)answer_number(object, key))
               : NULL;
}

const char *facts_disk_name(const json_t *entry)
{
    const char *name = answer_text(entry, "device");

    if (name && name[0])
        return name;
    name = answer_text(entry, "qdev");
    return name ? name : answer_text(json_object_get(entry, "inserted"), "node-name");
}

static json_t *disk_of(const json_t *entry)
{
    const json_t *inserted = json_object_get(entry, "inserted");
    const json_t *image = json_object_get(inserted, "image");
    json_t *disk = json_object();

    put(disk, "device", text_or_null(facts_disk_name(entry)));
    put(disk, "file", text_or_null(answer_text(inserted, "file")));
    put(disk, "format", text_or_null(answer_text(image, "format")));
    put(disk, "size", number_or_null(image, "virtual-size"));
    put(disk, "used", number_or_null(image, "actual-size"));
    put(disk, "readonly", json_boolean(json_is_true(json_object_get(inserted, "ro"))));
    return disk;
}

static json_t *card_of(const json_t *entry)
{
    json_t *card = json_object();

    put(card, "name", text_or_null(answer_text(entry, "name")));
    put(card, "type", text_or_null(answer_text(entry, "type")));
    put(card, "peer", text_or_null(answer_text(entry, "peer")));
    put(card, "address", text_or_null(answer_text(entry, "mac-address")));
    put(card, "up", json_boolean(json_is_true(json_object_get(entry, "link-up"))));
    return card;
}

/* Each entry of an answer in our form; NULL: unknown. */
static json_t *all_of(const json_t *answer, json_t *(*one_of)(const json_t *entry))
{
    json_t *all = json_is_array(answer) ? json_array() : NULL;
    size_t i;
    const json_t *entry;

    json_array_foreach(answer, i, entry)
    {
        (void)json_array_append_new(all, one_of(entry));
    }
    return all;
}

const json_t *facts_port(const json_t *answer, const char *label)
{
    const json_t *entry;
    size_t i;

    json_array_foreach(answer, i, entry)
    {
        const char *own = answer_text(entry, "label");

        if (own && strcmp(own, label) == 0)
            return entry;
    }
    return NULL;
}

const char *facts_serial(const json_t *answer)
{
    const json_t *port = facts_port(answer, "serial0");

    return answer_text(port ? port : json_array_get(answer, 0), "filename");
}

static void put_process(json_t *facts, pid_t pid)
{
    struct process process;
    bool seen = pid > 0 && process_look(pid, &process) == 0;

    put(facts, "pid", pid > 0 ? json_integer(pid) : NULL);
    put(facts, "uptime", seen ? json_integer((json_int_t)process.uptime_s) : NULL);
    put(facts, "resident", seen ? json_integer((json_int_t)process.resident) : NULL);
}

static void put_machine(struct link *link, int *r, json_t *facts)
{
    json_t *memory = ask(link, r, "query-memory-size-summary");
    json_t *cpus = ask(link, r, "query-cpus-fast");
    json_t *serial = ask(link, r, "query-chardev");
    json_t *cards = ask(link, r, "x-query-netdev"); /* minivmm's own */
    json_t *blocks = ask(link, r, "query-block");

    put(facts, "memory", number_or_null(memory, "base-memory"));
    put(facts, "cpus",
        json_is_array(cpus) ? json_integer((json_int_t)json_array_size(cpus)) : NULL);
    put(facts, "serial", text_or_null(facts_serial(serial)));
    put(facts, "cards", all_of(cards, card_of));
    put(facts, "disks", all_of(blocks, disk_of));
    json_decref(memory);
    json_decref(cpus);
    json_decref(serial);
    json_decref(cards);
    json_decref(blocks);
}

json_t *facts_ask(struct link *link, const char *name)
{
    json_t *facts = json_object();
    int r = 0;
    json_t *status = ask(link, &r, "query-status");
    const char *state = r < 0 ? "unresponsive" : answer_text(status, "status");
    json_t *own_name = name ? NULL : ask(link, &r, "query-name");

    put(facts, "name", text_or_null(name ? name : answer_text(own_name, "name")));
    put(facts, "state", text_or_null(state));
    put_process(facts, link_pid(link));
    put_machine(link, &r, facts); /* a disk that hangs may keep it from answering all of it */
    json_decref(status);
    json_decref(own_name);
    return facts;
}

json_t *facts_unresponsive(const char *name, pid_t pid)
{
    json_t *facts = json_object();
    int r = -1; /* nothing is asked */

    put(facts, "name", text_or_null(name));
    put(facts, "state", json_string("unresponsive"));
    put_process(facts, pid);
    put_machine(NULL, &r, facts);
    return facts;
}
