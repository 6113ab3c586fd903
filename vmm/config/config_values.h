/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How values get into the configuration, by the type of their setting.
 *
 * Private to the configuration: config*.c and options.c.
 */
#ifndef MINIVMM_CONFIG_CONFIG_VALUES_H
#define MINIVMM_CONFIG_CONFIG_VALUES_H

#include "base/compiler.h"
#include "base/err.h"
#include "vmm/config/config.h"
#include "vmm/config/config_settings.h"

/*
 * Set it in `object`, a struct config or the struct of a group, which then owns a copy.
 * 0, or a negative errno with *err filled: the value and what was expected.
 */
int setting_set(const struct setting *setting, void *object, const struct setting_value *value,
                struct err *err) MUST_CHECK;

/* Forget what the file said, because the command line says something else. */
void setting_reset(const struct setting *setting, struct config *config);

/*
 * Add one to a group, with defaults; `config` owns it. NULL with *err filled if there are too many,
 * or without memory. Adding another moves it.
 */
void *config_group_add(const struct config_group *group, struct config *config, struct err *err);

/* All of its settings are set. 0, or a negative errno with *err filled. */
int config_group_check(const struct config_group *group, const void *object,
                       struct err *err) MUST_CHECK;

/*
 * Add one to a group, described by text: "[FIRST,]KEY=VALUE,…". 0, or a negative errno with *err
 * filled: an incomplete one may have been added.
 */
int config_group_parse(const struct config_group *group, struct config *config, const char *text,
                       struct err *err) MUST_CHECK;

/* Remove all of a group. */
void config_group_reset(const struct config_group *group, struct config *config);

#endif
