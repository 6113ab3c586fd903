/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings from a JSON file: the same names as on the command line, typed. docs/config.md is the
 * schema.
 */
#ifndef MINIVMM_CONFIG_CONFIG_JSON_H
#define MINIVMM_CONFIG_CONFIG_JSON_H

#include <stddef.h>

#include "base/compiler.h"
#include "base/err.h"
#include "vmm/config/config.h"

/*
 * Read settings from a JSON file into `config`; relative paths in it are relative to the file's
 * folder. Notes the path in config->file. 0, or a negative errno with *err filled; `config` may be
 * filled in part then.
 */
int config_load_json(struct config *config, const char *path, struct err *err) MUST_CHECK;

/*
 * The same from memory: `name` is for messages; relative paths start at `dir`, which does not end
 * with '/'; NULL: here.
 */
int config_parse_json(struct config *config, const char *text, size_t len, const char *name,
                      const char *dir, struct err *err) MUST_CHECK;

#endif
