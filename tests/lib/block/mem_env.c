/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/block/mem_env.h"

#include <errno.h>
#include <string.h>

#include "tests/lib/block/mem_file.h"

static struct mem_disk *find_disk(const struct block_env *block_env, const char *path)
{
    const struct mem_env *env = container_of(block_env, const struct mem_env, env);
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;

    for (unsigned i = 0; i < env->ndisks; i++)
        if (strcmp(env->disks[i]->name, name) == 0)
            return env->disks[i];
    return NULL;
}

static int env_open_file(const struct block_env *block_env, const char *path,
                         const struct file_host_options *options, struct file **ret_file,
                         struct err *err)
{
    struct mem_disk *disk = find_disk(block_env, path);

    if (!disk || !disk->named)
        return err_set_errno(err, -ENOENT, "%s: cannot open", path);
    *ret_file = mem_file_new(disk, options->writable);
    return 0;
}

/* A disk of the environment, emptied; if it has no name, it gets it when it is kept. */
static int env_create_file(const struct block_env *block_env, const char *path,
                           const struct file_host_options *options, struct file **ret_file,
                           struct err *err)
{
    struct mem_disk *disk = find_disk(block_env, path);

    if (!disk)
        return err_set_errno(err, -ENOENT, "%s: cannot open", path);
    *ret_file = mem_file_new(disk, options->writable);
    return disk->fixed_len ? 0 : file_truncate(*ret_file, 0);
}

static int env_keep_file(const struct block_env *block_env, struct file *file, const char *path,
                         struct err *err)
{
    struct mem_disk *disk = mem_file_disk(file);
    int r = disk->named ? 0 : mem_file_do(file, MEM_LINK, 0);

    if (r == 0)
        r = mem_file_do(file, MEM_SYNC_FOLDER, 0);
    return r < 0 ? err_set_errno(err, r, "Could not create '%s'", path) : 0;
}

static void env_drop_file(const struct block_env *block_env, struct file *file, const char *path)
{
    struct mem_disk *disk = mem_file_disk(file);

    if (disk->named && mem_file_do(file, MEM_UNLINK, 0) == 0)
        (void)mem_file_do(file, MEM_SYNC_FOLDER, 0);
    file_free(file);
}

void mem_env_init(struct mem_env *env)
{
    *env = (struct mem_env){.env = {
                                .open_file = env_open_file,
                                .create_file = env_create_file,
                                .keep_file = env_keep_file,
                                .drop_file = env_drop_file,
                            }};
}

void mem_env_add(struct mem_env *env, struct mem_disk *disk)
{
    if (env->ndisks == MEM_ENV_DISKS)
        mem_die("too many disks");
    env->disks[env->ndisks++] = disk;
}

struct block *mem_env_open(struct mem_env *env, const char *path, enum block_format format,
                           bool readonly)
{
    struct block_options options = {
        .path = path, .format = format, .readonly = readonly, .discard = true};
    struct block *block;
    struct err err = {0};

    if (block_open_in(&env->env, &options, &block, &err) < 0)
        mem_die(err.msg);
    return block;
}

/* ---- requests -------------------------------------------------------------------------------- */

int mem_block_read(struct block *block, uint64_t off, void *buf, size_t len)
{
    struct iovec iov = {buf, len};
    struct block_req req = {.op = BLOCK_READ, .off = off, .len = len, .iov = &iov, .niov = 1};

    return block_execute(block, &req);
}

int mem_block_write(struct block *block, uint64_t off, const void *buf, size_t len)
{
    struct iovec iov = {(void *)(uintptr_t)buf, len};
    struct block_req req = {.op = BLOCK_WRITE, .off = off, .len = len, .iov = &iov, .niov = 1};

    return block_execute(block, &req);
}

int mem_block_op(struct block *block, enum block_op op, unsigned flags, uint64_t off, uint64_t len)
{
    struct block_req req = {.op = op, .flags = flags, .off = off, .len = len};

    return block_execute(block, &req);
}
