/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of all commands.
 */
#ifndef MINIVMM_CTL_COMMANDS_H
#define MINIVMM_CTL_COMMANDS_H

#include "ctl/command.h"

/* In the order in which --help shows them; NULL behind the last. The first, list, has no VM. */
extern const struct command *const commands[];

/* NULL: there is none. */
const struct command *commands_find(const char *name);

#endif
