/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What there is to know about a VM at a glance: what it answers to a few queries, and what the host
 * knows of its process.
 */
#ifndef MINIVMM_CTL_FACTS_H
#define MINIVMM_CTL_FACTS_H

#include <jansson.h>

#include "ctl/link.h"

/*
 * An object, to be freed: name, state, pid, uptime, resident (bytes), memory (bytes), cpus, serial,
 * disks: an array of {device, file, format, size, used, readonly}. What the VM does not tell is
 * null. The state of one that does not answer is "unresponsive". `name` NULL: what the VM says.
 * NULL without memory.
 */
json_t *facts_ask(struct link *link, const char *name);

/* The same of a VM that cannot be asked; `pid` 0: unknown. */
json_t *facts_unresponsive(const char *name, pid_t pid);

/* The entry of a port in what query-chardev returns; NULL: there is none. */
const json_t *facts_port(const json_t *answer, const char *label);

/* Where the serial port is, in what query-chardev returns; NULL: it does not tell. */
const char *facts_serial(const json_t *answer);

/* The entry of query-block for a disk, and its name; NULL if it has none. */
const char *facts_disk_name(const json_t *entry);

#endif
