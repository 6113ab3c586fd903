/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands of minivmm-ctl: in cmd_*.c, by subject, and one line each in commands.c.
 *
 * A command gets a command line that was checked for what it takes, connects to the VM, and ends
 * with an exit status (message.h), having said what is wrong.
 */
#ifndef MINIVMM_CTL_COMMAND_H
#define MINIVMM_CTL_COMMAND_H

#include <stdbool.h>

/* Options that not all commands take. */
enum {
    OPTION_FORCE = 1 << 0,
    OPTION_INTERNAL = 1 << 1,
    OPTION_DELETE = 1 << 2,
    OPTION_INTERVAL = 1 << 3,
    OPTION_COUNT = 1 << 4,
    OPTION_DETACH = 1 << 5,
    OPTION_FOLLOW = 1 << 6,
};

struct args {
    const char *target; /* the VM; NULL: the command is about all */
    char **operands;
    int noperands;
    bool json;
    unsigned timeout_ms; /* 0: the command's own */

    unsigned options; /* those given of the following */
    const char *internal;
    const char *delete;
    unsigned interval_ms;
    unsigned count;
    char detach_key;
};

struct command {
    const char *name;
    int (*run)(const struct args *args);
    int min; /* operands */
    int max; /* -1: any number */
    unsigned options;
    bool takes_disk; /* as its first operand */
    const char *synopsis;
    const char *help; /* lines */
};

/* How long an answer may take, and one that means work. */
#define ANSWER_MS 5000u
#define WORK_MS 60000u

extern const struct command command_list;

extern const struct command command_status;

extern const struct command command_power_off;
extern const struct command command_pause;
extern const struct command command_resume;
extern const struct command command_reset;

extern const struct command command_console;

extern const struct command command_resize;
extern const struct command command_snapshot;
extern const struct command command_throttle;

extern const struct command command_jobs;

extern const struct command command_top;

extern const struct command command_qmp;

#endif
