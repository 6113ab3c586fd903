/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the files of images come from; private to block/. block_open and block_create use the
 * host's; tests and fuzzers put their own in.
 */
#ifndef MINIVMM_BLOCK_ENV_H
#define MINIVMM_BLOCK_ENV_H

#include "base/err.h"
#include "base/file.h"
#include "base/file_host.h"

struct block_env {
    int (*open_file)(const struct block_env *env, const char *path,
                     const struct file_host_options *options, struct file **ret_file,
                     struct err *err);

    /* As file_host_create, file_host_keep and file_host_drop. */
    int (*create_file)(const struct block_env *env, const char *path,
                       const struct file_host_options *options, struct file **ret_file,
                       struct err *err);
    int (*keep_file)(const struct block_env *env, struct file *file, const char *path,
                     struct err *err);
    void (*drop_file)(const struct block_env *env, struct file *file, const char *path);
};

extern const struct block_env block_host_env;

#endif
