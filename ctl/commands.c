/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/commands.h"

#include <stddef.h>
#include <string.h>

const struct command *const commands[] = {
    &command_list,     &command_status,
    &command_console,  &command_power_off,
    &command_pause,    &command_resume,
    &command_reset,    &command_resize,
    &command_snapshot, &command_throttle,
    &command_jobs,     &command_top,
    &command_qmp,      NULL,
};

const struct command *commands_find(const char *name)
{
    for (size_t i = 0; commands[i]; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}
