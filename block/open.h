/*
 * Opening images out of files that do not come from the host; private to block/. What else open.c
 * has is in block.h.
 */
#ifndef MINIVMM_BLOCK_OPEN_H
#define MINIVMM_BLOCK_OPEN_H

#include "base/compiler.h"
#include "base/err.h"
#include "base/file.h"
#include "base/file_host.h"
#include "block/block.h"

/*
 * Where files come from. block_open and block_create use the host's; tests and fuzzers put their
 * own in.
 */
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

int block_open_in(const struct block_env *env, const struct block_options *options,
                  struct block **ret_block, struct err *err) MUST_CHECK;

#endif
