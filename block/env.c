/* SPDX-License-Identifier: Apache-2.0 */
#include "block/env.h"

static int host_open_file(const struct block_env *env, const char *path,
                          const struct file_host_options *options, struct file **ret_file,
                          struct err *err)
{
    return file_host_open(path, options, ret_file, err);
}

static int host_create_file(const struct block_env *env, const char *path,
                            const struct file_host_options *options, struct file **ret_file,
                            struct err *err)
{
    return file_host_create(path, options, ret_file, err);
}

static int host_keep_file(const struct block_env *env, struct file *file, const char *path,
                          struct err *err)
{
    return file_host_keep(file, path, err);
}

static void host_drop_file(const struct block_env *env, struct file *file, const char *path)
{
    file_host_drop(file);
}

const struct block_env block_host_env = {
    .open_file = host_open_file,
    .create_file = host_create_file,
    .keep_file = host_keep_file,
    .drop_file = host_drop_file,
};
