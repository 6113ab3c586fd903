/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settings of a VM, of its disks and other groups, each described once: what it is called, what
 * it takes, how it is set and what --help says about it. A new setting is one line in a table of
 * config_settings.c, and a field in struct config or in the struct of its group.
 *
 * Private to the configuration: config*.c and options.c.
 */
#ifndef MINIVMM_CONFIG_CONFIG_SETTINGS_H
#define MINIVMM_CONFIG_CONFIG_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "vmm/config/config.h"

/* The type of a setting in JSON. On the command line everything is text. */
enum setting_json {
    SETTING_JSON_STRING, /* the usual: 0 */
    SETTING_JSON_INTEGER,
    SETTING_JSON_BOOLEAN, /* set as "on" or "off" */
    SETTING_JSON_SIZE,    /* a string such as "512M", or an integer: bytes */
    SETTING_JSON_STRINGS, /* an array of strings, set one by one */
    SETTING_JSON_GROUP,   /* an array of objects with the settings of a group as keys */
};

/* A value on its way into the configuration. */
struct setting_value {
    const char *text;
    const char *dir; /* where a relative path in it starts, without '/'; NULL: here */
};

/* What settings take, and how it is set: config_values.c. */
enum setting_type {
    SETTING_IS_NONE, /* an option that sets nothing */
    SETTING_IS_KERNEL,
    SETTING_IS_INITRD,
    SETTING_IS_CMDLINE,
    SETTING_IS_GROUP,
    SETTING_IS_PLACES,
    SETTING_IS_MEMORY,
    SETTING_IS_PAGES,
    SETTING_IS_ON_OFF,
    SETTING_IS_NUMBER,
    SETTING_IS_PORT,
    SETTING_IS_REBOOT,
    SETTING_IS_KERNEL_CACHE,
    SETTING_IS_PATH,
    SETTING_IS_NAME,
    SETTING_IS_ADDRESS,
    SETTING_IS_LOG_LEVEL,
    SETTING_IS_FORMAT,
    SETTING_IS_CACHE,
    SETTING_IS_AIO,
    SETTING_IS_DISK_PLACE,
    SETTING_IS_DISK_SERIAL,
    SETTING_IS_TAG,
    SETTING_IS_WRITE_ERROR,
    SETTING_IS_READ_ERROR,
    SETTING_IS_LIMIT,
    SETTING_IS_NET_KIND,
    SETTING_IS_TEXT,
    SETTING_IS_TEXTS,
    SETTING_IS_MAC,
    SETTING_IS_PORT_MAP,
};

/*
 * A setting. Without pointers: the tables need no memory of their own in each process, and after
 * the start nobody looks at them.
 */
struct setting {
    char name[20];   /* JSON key, key of a group, and long option unless `option` is given */
    char option[12]; /* long option; "": the same as `name` */
    char value[40];  /* what it takes, for people; "": an option without a value */
    char help[56];
    enum setting_json json;
    enum setting_type type;
    unsigned field; /* offset in the object */
    unsigned min;   /* of a number */
    unsigned max;
};

/* The settings of a VM, in the order of --help; an empty name ends each table. */
extern const struct setting config_settings[];

/*
 * Parts of a VM that have settings of their own, and of which there may be several, such as disks.
 * On the command line "[FIRST,]KEY=VALUE,…", a comma in a value written twice; in JSON an array of
 * objects.
 */
struct config_group {
    char name[12];                  /* the setting of the VM that adds one */
    const struct setting *settings; /* its keys */
    bool first_is_unnamed; /* on the command line the first setting is a value without its key */
    size_t max;            /* how many there may be */
    size_t array;          /* where struct config has the pointer to them, */
    size_t count;          /* how many there are, */
    size_t size;           /* and how large one is */
    void (*init)(void *object);
    void (*done)(void *object);
    /* Is what must be there there? NULL: nothing must. 0, or a negative errno with *err filled. */
    int (*check)(const void *object, struct err *err);
};

/* An empty name ends the table. */
extern const struct config_group config_groups[];

/* The group that the setting `name` of a VM adds to; NULL: none. */
const struct config_group *config_group_find(const char *name);

/* The setting called `name` in a table; NULL: none. */
const struct setting *setting_find(const struct setting *table, const char *name);

#endif
