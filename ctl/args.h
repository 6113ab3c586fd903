/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line.
 */
#ifndef MINIVMM_CTL_ARGS_H
#define MINIVMM_CTL_ARGS_H

#include "base/compiler.h"
#include "ctl/command.h"

enum args_what { ARGS_RUN, ARGS_HELP, ARGS_VERSION };

/*
 * What to do, and for ARGS_RUN the command and all that it gets; pointers are into argv, whose
 * order changes. 0, or CTL_USAGE, and it was said what is wrong.
 */
int args_parse(int argc, char **argv, enum args_what *ret_what, const struct command **ret_command,
               struct args *ret_args) MUST_CHECK;

#endif
