/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settings of a VM and of a disk, each described once: what it is called, what it takes, how
 * it is set and what --help says about it. A new setting is one line in a table of
 * config_settings.c, and a field in struct config or struct config_disk.
 *
 * Private to the configuration: config*.c and options.c.
 */
#ifndef MINIVMM_CONFIG_CONFIG_SETTINGS_H
#define MINIVMM_CONFIG_CONFIG_SETTINGS_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "vmm/config/config.h"

/* The type of a setting in JSON. On the command line everything is text. */
enum setting_json {
    SETTING_JSON_STRING, /* the usual: 0 */
    SETTING_JSON_INTEGER,
    SETTING_JSON_BOOLEAN, /* set as "on" or "off" */
    SETTING_JSON_SIZE,    /* a string such as "512M", or an integer: bytes */
    SETTING_JSON_STRINGS, /* an array of strings, set one by one */
    SETTING_JSON_DISKS,   /* an array of objects with the disk settings as keys */
};

/* A value on its way into the configuration. */
struct setting_value {
    const char *text;
    const char *dir; /* where a relative path in it starts, without '/'; NULL: here */
};

/*
 * A setting. Without pointers: the tables need no memory of their own in each process, and after
 * the start nobody looks at them.
 */
struct setting {
    char name[20];   /* JSON key, key of --disk, and long option unless `option` is given */
    char option[12]; /* long option; "": the same as `name` */
    char value[40];  /* what it takes, for people; "": an option without a value */
    char help[56];
    enum setting_json json;
    unsigned type;         /* private to config_settings.c, but for the next */
#define SETTING_IS_NONE 0u /* an option that sets nothing */
    unsigned field;        /* offset in the object */
    unsigned min;          /* of a number */
    unsigned max;
};

/* The settings of a VM, in the order of --help; an empty name ends each table. */
extern const struct setting config_settings[];

/* The settings of a disk. The first is the image file, which is no key on the command line. */
extern const struct setting config_disk_settings[];

/* The setting called `name` in a table; NULL: none. */
const struct setting *setting_find(const struct setting *table, const char *name);

/*
 * Set it in `object`, a struct config or struct config_disk, which then owns a copy.
 * 0, or a negative errno with *err filled: the value and what was expected.
 */
int setting_set(const struct setting *setting, void *object, const struct setting_value *value,
                struct err *err) MUST_CHECK;

/* Forget what the file said, because the command line says something else. */
void setting_reset(const struct setting *setting, struct config *config);

/* Add a disk that is filled already; it belongs to `config` on success. 0 or -ENOMEM. */
int config_add_disk(struct config *config, const struct config_disk *disk) MUST_CHECK;

/*
 * Parse "FILE[,key=value]…" into a disk with defaults; a comma in a file name is written ",,".
 * 0 and a disk to be freed by config_disk_done; or a negative errno with *err filled.
 */
int config_parse_disk(const char *text, struct config_disk *ret_disk, struct err *err) MUST_CHECK;

#endif
