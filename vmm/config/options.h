/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line. It is read by hand because getopt_long takes abbreviations, which break when an
 * option is added, and prints messages of its own.
 */
#ifndef MINIVMM_CONFIG_OPTIONS_H
#define MINIVMM_CONFIG_OPTIONS_H

#include "base/compiler.h"
#include "base/err.h"
#include "vmm/config/config.h"

/* What the command line asked for: a VM, or something else. */
enum options_action {
    OPTIONS_RUN,
    OPTIONS_PREPARE_KERNEL, /* of config->kernel, for the cache */
    OPTIONS_HELP,
    OPTIONS_VERSION,
};

/*
 * Parse argv into `config`, which config_init has filled. --config is read first, wherever it
 * stands. 0, or a negative errno with *err filled; `config` may be filled in part then.
 */
int options_parse(int argc, char **argv, struct config *config, enum options_action *ret_action,
                  struct err *err) MUST_CHECK;
void options_print_help(void);

#endif
