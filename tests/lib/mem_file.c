#include "tests/lib/mem_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/base/bytes.h"
#include "vmm/base/iov.h"

struct mem_file {
    struct file file;
    struct mem_disk *disk;
    struct aio *aio;
    struct aio_task finish;
    struct list pending;
    unsigned npending;
};

static void die(const char *what)
{
    fprintf(stderr, "mem_file: %s\n", what);
    abort();
}

/* ---- disks ------------------------------------------------------------------------------------------ */

void mem_disk_init(struct mem_disk *disk, const char *name)
{
    *disk = (struct mem_disk){.name = name, .align = 1, .fail_after = -1};
    disk->data = mmap(NULL, MEM_DISK_MAX, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (disk->data == MAP_FAILED)
        die("no memory");
}

void mem_disk_forget_ops(struct mem_disk *disk)
{
    for (size_t i = 0; i < disk->nops; i++)
        free(disk->ops[i].data);
    free(disk->ops);
    disk->ops = NULL;
    disk->nops = disk->max_ops = 0;
}

void mem_disk_done(struct mem_disk *disk)
{
    mem_disk_forget_ops(disk);
    munmap(disk->data, MEM_DISK_MAX);
}

void mem_disk_load(struct mem_disk *disk, const char *path)
{
    FILE *file = fopen(path, "rb");

    if (!file)
        die(path);
    disk->len = fread(disk->data, 1, MEM_DISK_MAX, file);
    fclose(file);
}

void mem_disk_save(const struct mem_disk *disk, const char *path)
{
    FILE *file = fopen(path, "wb");

    if (!file || fwrite(disk->data, 1, disk->len, file) != disk->len || fclose(file) != 0)
        die(path);
}

void mem_disk_apply(struct mem_disk *disk, const struct mem_op *op)
{
    if (op->op == FILE_WRITE) {
        memcpy(disk->data + op->off, op->data, op->len);
        disk->len = max_u64(disk->len, op->off + op->len);
    } else if (op->op != FILE_SYNC && op->off < disk->len) {
        memset(disk->data + op->off, 0, min_u64(op->len, disk->len - op->off));
    }
}

static void record(struct mem_disk *disk, const struct mem_op *op)
{
    if (disk->nops == disk->max_ops) {
        disk->max_ops = disk->max_ops ? disk->max_ops * 2 : 64;
        disk->ops = realloc(disk->ops, disk->max_ops * sizeof(*disk->ops));
        if (!disk->ops)
            die("no memory");
    }
    disk->ops[disk->nops++] = *op;
}

/* ---- operations ------------------------------------------------------------------------------------- */

static int do_read(const struct mem_disk *disk, const struct file_io *io, uint64_t len)
{
    if (io->off >= disk->len)
        return 0;
    return (int)iov_from_buf(io->iov, io->niov, 0, disk->data + io->off,
                             min_u64(len, disk->len - io->off));
}

static int do_change(struct mem_disk *disk, const struct file_io *io, uint64_t len)
{
    struct mem_op op = {.op = io->op, .off = io->off, .len = len};

    if (io->op == FILE_WRITE) {
        if (!range_fits(io->off, len, MEM_DISK_MAX))
            return -ENOSPC;
        op.data = malloc(len + 1);
        if (!op.data)
            die("no memory");
        iov_to_buf(io->iov, io->niov, 0, op.data, len);
    } else if (io->op != FILE_SYNC && disk->no_zero) {
        return -EOPNOTSUPP;
    }
    mem_disk_apply(disk, &op);
    if (disk->record)
        record(disk, &op);
    else
        free(op.data);
    return io->op == FILE_WRITE ? (int)len : 0;
}

static int carry_out(struct mem_disk *disk, const struct file_io *io)
{
    uint64_t len = io->len;

    disk->counts[io->op]++;
    if (disk->fail_after == 0) {
        disk->fail_after = -1;
        disk->failed = true;
        if (!disk->fail_short || io->op > FILE_WRITE || len < 2)
            return disk->fail_with;
        len = max_u64(disk->align, align_down(len / 2, disk->align));
    } else if (disk->fail_after > 0) {
        disk->fail_after--;
    }
    if (io->op <= FILE_WRITE && !is_aligned(io->off | io->len, disk->align))
        return -EINVAL;
    return io->op == FILE_READ ? do_read(disk, io, len) : do_change(disk, io, len);
}

/* Finish one of those that wait, any one. */
static void finish_one(struct aio_task *task)
{
    struct mem_file *mem = container_of(task, struct mem_file, finish);
    unsigned pick = (unsigned)rand_r(&mem->disk->seed) % mem->npending;

    list_for_each (item, &mem->pending) {
        struct file_io *io = container_of(item, struct file_io, link);

        if (pick-- > 0)
            continue;
        list_remove(item);
        if (--mem->npending > 0)
            aio_defer(mem->aio, &mem->finish);
        io->done(io, carry_out(mem->disk, io));
        return;
    }
}

static void mem_submit(struct file *file, struct file_io *io)
{
    struct mem_file *mem = container_of(file, struct mem_file, file);

    if (!mem->aio || !mem->disk->shuffle) {
        io->done(io, carry_out(mem->disk, io));
        return;
    }
    list_add_tail(&mem->pending, &io->link);
    mem->npending++;
    aio_defer(mem->aio, &mem->finish);
}

static int mem_get_len(struct file *file, uint64_t *ret_len)
{
    *ret_len = container_of(file, struct mem_file, file)->disk->len;
    return 0;
}

static int mem_truncate(struct file *file, uint64_t len)
{
    struct mem_disk *disk = container_of(file, struct mem_file, file)->disk;

    if (len > MEM_DISK_MAX)
        return -EFBIG;
    if (len < disk->len)
        memset(disk->data + len, 0, disk->len - len);
    disk->len = len;
    return 0;
}

static void mem_set_aio(struct file *file, struct aio *aio)
{
    container_of(file, struct mem_file, file)->aio = aio;
}

static void mem_free(struct file *file)
{
    free(container_of(file, struct mem_file, file));
}

static const struct file_ops mem_ops = {
    .submit = mem_submit,
    .get_len = mem_get_len,
    .truncate = mem_truncate,
    .set_aio = mem_set_aio,
    .free = mem_free,
};

struct file *mem_file_new(struct mem_disk *disk, bool writable)
{
    struct mem_file *mem = calloc(1, sizeof(*mem));

    if (!mem)
        die("no memory");
    file_init(&mem->file, &mem_ops);
    mem->file.id[0] = (uintptr_t)disk;
    mem->file.writable = writable;
    mem->file.align = disk->align;
    mem->file.mem_align = disk->align;
    mem->disk = disk;
    mem->finish.run = finish_one;
    list_init(&mem->pending);
    return &mem->file;
}

/* ---- environment ------------------------------------------------------------------------------------ */

static int env_open_file(const struct block_env *block_env, const char *path,
                         const struct file_host_options *options, struct file **ret_file,
                         struct err *err)
{
    const struct mem_env *env = container_of(block_env, const struct mem_env, env);
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;

    for (unsigned i = 0; i < env->ndisks; i++) {
        if (strcmp(env->disks[i]->name, name) != 0)
            continue;
        *ret_file = mem_file_new(env->disks[i], options->writable);
        return 0;
    }
    return err_set_errno(err, -ENOENT, "%s: cannot open", path);
}

void mem_env_init(struct mem_env *env)
{
    *env = (struct mem_env){.env = {.open_file = env_open_file}};
}

void mem_env_add(struct mem_env *env, struct mem_disk *disk)
{
    if (env->ndisks == MEM_ENV_DISKS)
        die("too many disks");
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
        die(err.msg);
    return block;
}

/* ---- requests --------------------------------------------------------------------------------------- */

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
