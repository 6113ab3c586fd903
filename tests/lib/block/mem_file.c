#include "tests/lib/block/mem_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "tests/lib/block/history.h"
#include "tests/lib/dice.h"

#define MEM_HOLE_UNIT 512u

/* How many other operations finish before a late one. */
#define MEM_LATE 200

/* What is told apart when a disk is restored. */
#define MEM_UNIT 4096u
#define MEM_UNITS (MEM_DISK_MAX / MEM_UNIT)

/* From here on zeroing lets go of the memory: most of a long range was never touched. */
#define MEM_DROP_MIN (1u << 20)

struct mem_file {
    struct file file;
    struct mem_disk *disk;
    struct aio_task finish;
    struct list pending;
    unsigned npending;
    int nfinished;
};

static void die(const char *what)
{
    fprintf(stderr, "mem_file: %s\n", what);
    abort();
}

/* ---- disks ----------------------------------------------------------------------------------- */

/* Contents, followed by the versions. */
static size_t mapping_len(void)
{
    return MEM_DISK_MAX + MEM_UNITS * sizeof(uint64_t);
}

/*
 * Mappings of short disks that are gone, empty again: tests make and free thousands, and what costs
 * most is that the kernel has to find new pages.
 */
static uint8_t *spare[16];
static unsigned nspare;

/* What is zeroed to be used again; beyond that it is cheaper to let go of the pages. */
#define MEM_SPARE_MAX (8u << 20)

void mem_disk_init(struct mem_disk *disk, const char *name)
{
    *disk = (struct mem_disk){.name = name, .named = true, .align = 1};
    if (nspare > 0)
        disk->data = spare[--nspare];
    else
        disk->data = mmap(NULL, mapping_len(), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (disk->data == MAP_FAILED)
        die("no memory");
    disk->versions = (uint64_t *)(void *)(disk->data + MEM_DISK_MAX);
}

void mem_disk_done(struct mem_disk *disk)
{
    if (disk->len > MEM_SPARE_MAX || nspare == ARRAY_SIZE(spare)) {
        munmap(disk->data, mapping_len());
        return;
    }
    memset(disk->data, 0, disk->len);
    memset(disk->versions, 0, div_round_up(disk->len, MEM_UNIT) * sizeof(*disk->versions));
    spare[nspare++] = disk->data;
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

static void zero_range(uint8_t *data, uint64_t len)
{
    uint8_t *first = (uint8_t *)align_up((uintptr_t)data, MEM_UNIT);

    if (len >= MEM_DROP_MIN) {
        uint64_t head = (uint64_t)(first - data);
        uint64_t pages = align_down(len - head, MEM_UNIT);

        memset(data, 0, head);
        if (madvise(first, pages, MADV_DONTNEED) < 0)
            die("madvise");
        data = first + pages;
        len -= head + pages;
    }
    memset(data, 0, len);
}

/* No two changes, on whatever disk, have the same version; 0 is for zeroes. */
static void set_versions(struct mem_disk *disk, uint64_t off, uint64_t len, bool zeroes)
{
    static uint64_t last_version;

    last_version++;
    for (uint64_t at = align_down(off, MEM_UNIT); at < off + len; at += MEM_UNIT) {
        bool whole = at >= off && at + MEM_UNIT <= off + len;

        disk->versions[at / MEM_UNIT] = zeroes && whole ? 0 : last_version;
    }
}

void mem_disk_copy(struct mem_disk *to, const struct mem_disk *from)
{
    memcpy(to->data, from->data, from->len);
    if (from->len < to->len)
        zero_range(to->data + from->len, to->len - from->len);
    set_versions(to, 0, max_u64(from->len, to->len), false);
    to->len = from->len;
    to->named = from->named;
    to->fixed_len = from->fixed_len;
}

/* Every other sector as an L2 table, the rest data; all places are in the first megabytes. */
void mem_disk_make_device(struct mem_disk *disk, uint64_t len, unsigned seed)
{
    uint64_t dice = seed;

    for (uint64_t at = 0; at < len; at += BLOCK_SECTOR_SIZE) {
        uint8_t *sector = disk->data + at;

        history_fill(sector, 1ull << 60 | at);
        for (unsigned i = 0; i < BLOCK_SECTOR_SIZE && at / BLOCK_SECTOR_SIZE % 2; i += 8)
            store_be64(sector + i, 1ull << 63 | (dice_next(&dice) & 0x1ffe00));
    }
    disk->len = len;
    disk->fixed_len = true;
    set_versions(disk, 0, len, false);
}

void mem_disk_restore(struct mem_disk *to, const struct mem_disk *from)
{
    uint64_t nunits = div_round_up(max_u64(from->len, to->len), MEM_UNIT);

    for (uint64_t i = 0; i < nunits; i++) {
        if (to->versions[i] == from->versions[i])
            continue;
        memcpy(to->data + i * MEM_UNIT, from->data + i * MEM_UNIT, MEM_UNIT);
        to->versions[i] = from->versions[i];
    }
    to->len = from->len;
    to->named = from->named;
}

static void zero(struct mem_disk *disk, uint64_t off, uint64_t len)
{
    if (off >= disk->len)
        return;
    len = min_u64(len, disk->len - off);
    zero_range(disk->data + off, len);
    set_versions(disk, off, len, true);
}

static void set_len(struct mem_disk *disk, uint64_t len)
{
    zero(disk, len, UINT64_MAX);
    disk->len = len;
}

void mem_disk_apply(struct mem_disk *disk, const struct mem_op *op)
{
    switch (op->op) {
    case FILE_WRITE:
        memcpy(disk->data + op->off, op->data, op->len);
        disk->len = max_u64(disk->len, op->off + op->len);
        set_versions(disk, op->off, op->len, false);
        break;
    case FILE_ZERO:
    case FILE_PUNCH:
        zero(disk, op->off, op->len);
        break;
    case MEM_TRUNCATE:
        set_len(disk, op->off);
        break;
    case MEM_LINK:
    case MEM_UNLINK:
        disk->named = op->op == MEM_LINK;
        break;
    default: /* changes nothing */
        break;
    }
}

/* ---- records --------------------------------------------------------------------------------- */

static void record_add(struct mem_record *record, const struct mem_op *op)
{
    if (record->n == record->max) {
        record->max = record->max ? record->max * 2 : 64;
        record->ops = realloc(record->ops, record->max * sizeof(*record->ops));
        if (!record->ops)
            die("no memory");
    }
    record->ops[record->n++] = *op;
}

size_t mem_record_mark(struct mem_record *record)
{
    record_add(record, &(struct mem_op){.op = MEM_MARK, .begin = record->n});
    return record->n;
}

void mem_record_done(struct mem_record *record)
{
    for (size_t i = 0; i < record->n; i++)
        free(record->ops[i].data);
    free(record->ops);
    *record = (struct mem_record){0};
}

static void mem_submit(struct file *file, struct file_io *io);

/* ---- operations ------------------------------------------------------------------------------ */

static int do_read(const struct mem_disk *disk, const struct file_io *io, uint64_t len)
{
    if (io->off >= disk->len)
        return 0;
    return (int)iov_from_buf(io->iov, io->niov, 0, disk->data + io->off,
                             min_u64(len, disk->len - io->off));
}

static const struct mem_disk *copied_disk(const struct mem_disk *disk, const struct file_io *io)
{
    const struct mem_file *from = container_of(io->from, const struct mem_file, file);

    return io->from->ops->submit == mem_submit && from->disk != disk ? from->disk : NULL;
}

/*
 * A copy is written down as the write that it amounts to. 1, 0 if there is nothing to copy, or
 * -errno.
 */
static int get_data(struct mem_disk *disk, struct mem_op *op, const struct file_io *io)
{
    const struct mem_disk *from = op->op == FILE_COPY ? copied_disk(disk, io) : NULL;

    if (op->op == FILE_COPY && !from)
        return -EXDEV;
    if (from && io->from_off >= from->len)
        return 0;
    if (from)
        op->len = min_u64(op->len, from->len - io->from_off);
    if (!range_fits(op->off, op->len, disk->fixed_len ? disk->len : MEM_DISK_MAX))
        return -ENOSPC;
    op->data = malloc(op->len + 1);
    if (!op->data)
        die("no memory");
    if (from)
        memcpy(op->data, from->data + io->from_off, op->len);
    else
        iov_to_buf(io->iov, io->niov, 0, op->data, op->len);
    op->op = FILE_WRITE;
    return 1;
}

static int do_change(struct mem_disk *disk, struct mem_op *op, const struct file_io *io)
{
    if (op->op == FILE_WRITE || op->op == FILE_COPY) {
        int r = get_data(disk, op, io);

        if (r <= 0)
            return r;
    } else if ((op->op == FILE_ZERO || op->op == FILE_PUNCH) && disk->no_zero) {
        return -EOPNOTSUPP;
    }
    mem_disk_apply(disk, op);
    if (disk->record)
        record_add(disk->record, op);
    else
        free(op->data);
    return op->op == FILE_WRITE ? (int)op->len : 0;
}

/*
 * Short transfers move whole sectors: who reads in the middle of a write may see some sectors of
 * it, but never half of one.
 */
static uint64_t short_unit(const struct mem_disk *disk)
{
    return max_u64(disk->align, BLOCK_SECTOR_SIZE);
}

static bool is_transfer(unsigned op)
{
    return op == FILE_READ || op == FILE_WRITE || op == FILE_COPY;
}

/* Is it this operation's turn to fail? */
static bool is_faulty(const struct mem_disk *disk, unsigned op, uint64_t len)
{
    struct mem_fault *fault = disk->fault;

    if (!fault || fault->after < 0 || (fault->kinds && !(fault->kinds & (1u << op))))
        return false;
    if (fault->is_short && (!is_transfer(op) || len < 2 * short_unit(disk)))
        return false;
    if (fault->after > 0) {
        fault->after--;
        return false;
    }
    if (fault->more == 0)
        fault->after = -1;
    else
        fault->more--;
    fault->happened = true;
    return true;
}

/* What becomes of an operation: 0, or the error that it fails with; it may be short. */
static int choose_fate(const struct mem_disk *disk, struct mem_op *op)
{
    static const int results[] = {-EIO, -ENOSPC, -EAGAIN, -EINTR, -EOPNOTSUPP, -ENOMEM};
    unsigned fate;

    if (disk->choices->at >= disk->choices->n)
        return 0;
    fate = disk->choices->bytes[disk->choices->at++];
    if (fate < MEM_CHOICE_FAULTS)
        return 0;
    fate -= MEM_CHOICE_FAULTS;
    if (fate < ARRAY_SIZE(results))
        return results[fate];
    if (is_transfer(op->op) && op->len >= 2 * short_unit(disk))
        op->len = align_down(op->len / 2, short_unit(disk));
    return 0;
}

static int carry_out(struct mem_disk *disk, const struct file_io *io, size_t begin)
{
    struct mem_op op = {.disk = disk, .op = io->op, .begin = begin, .off = io->off, .len = io->len};
    int r = disk->choices ? choose_fate(disk, &op) : 0;

    disk->counts[io->op]++;
    if (io->op == FILE_WRITE && disk->before_write)
        disk->before_write();
    if (r < 0)
        return r;
    if (is_faulty(disk, io->op, io->len)) {
        if (!disk->fault->is_short)
            return disk->fault->result;
        op.len = align_down(io->len / 2, short_unit(disk));
    }
    if (is_transfer(io->op) && !is_aligned(io->off | io->len, disk->align))
        return -EINVAL;
    return io->op == FILE_READ ? do_read(disk, io, op.len) : do_change(disk, &op, io);
}

/* The operation that `pick` others stand before, of those that are not to be late. */
static struct file_io *find_pending(struct mem_file *mem, unsigned pick)
{
    list_for_each (item, &mem->pending) {
        struct file_io *io = container_of(item, struct file_io, link);

        if (io->fd <= mem->nfinished && pick-- == 0)
            return io;
    }
    return NULL;
}

static unsigned choose_next(struct mem_disk *disk)
{
    struct mem_choices *choices = disk->choices;

    return choices ? choices->bytes[choices->at++ % choices->n] : (unsigned)rand_r(&disk->seed);
}

/*
 * Finish one of those that wait, any one. Late ones have to be waited for if there are no others.
 */
static void finish_one(struct aio_task *task)
{
    struct mem_file *mem = container_of(task, struct mem_file, finish);
    struct file_io *io = NULL;
    unsigned n = 0;

    while (find_pending(mem, n))
        n++;
    if (n > 0)
        io = find_pending(mem, choose_next(mem->disk) % n);
    else
        io = container_of(mem->pending.next, struct file_io, link);
    mem->nfinished++;
    list_remove(&io->link);
    if (--mem->npending > 0)
        aio_defer(mem->file.aio, &mem->finish);
    io->done(io, carry_out(mem->disk, io, (size_t)io->result));
}

static void mem_submit(struct file *file, struct file_io *io)
{
    struct mem_file *mem = container_of(file, struct mem_file, file);
    size_t begin = mem->disk->record ? mem->disk->record->n : 0;

    if (!file->aio || !mem->disk->shuffle) {
        io->done(io, carry_out(mem->disk, io, begin));
        return;
    }
    io->result = (int)begin; /* ours while it is in flight, and so is fd */
    io->fd = 0;
    if (mem->disk->late > 0 && (unsigned)rand_r(&mem->disk->seed) % mem->disk->late == 0)
        io->fd = mem->nfinished + MEM_LATE;
    list_add_tail(&mem->pending, &io->link);
    mem->npending++;
    if (mem->npending > mem->disk->max_pending)
        mem->disk->max_pending = mem->npending;
    aio_defer(file->aio, &mem->finish);
}

static int mem_get_len(struct file *file, uint64_t *ret_len)
{
    *ret_len = container_of(file, struct mem_file, file)->disk->len;
    return 0;
}

/* What is no operation of a struct file; `off` as in struct mem_op. */
static int do_other(struct mem_disk *disk, unsigned what, uint64_t off)
{
    struct mem_op op = {
        .disk = disk, .op = what, .begin = disk->record ? disk->record->n : 0, .off = off};
    int r = disk->choices ? choose_fate(disk, &op) : 0;

    disk->counts[what]++;
    if (r < 0)
        return r;
    if (is_faulty(disk, what, 0))
        return disk->fault->result;
    return do_change(disk, &op, NULL);
}

static int mem_truncate(struct file *file, uint64_t len)
{
    struct mem_disk *disk = container_of(file, struct mem_file, file)->disk;

    if (disk->fixed_len)
        return -ENOTSUP;
    return len > MEM_DISK_MAX ? -EFBIG : do_other(disk, MEM_TRUNCATE, len);
}

static bool is_zero(const struct mem_disk *disk, uint64_t off)
{
    uint64_t len = off < disk->len ? min_u64(MEM_HOLE_UNIT, disk->len - off) : 0;

    return len == 0 ||
           (disk->data[off] == 0 && memcmp(disk->data + off, disk->data + off + 1, len - 1) == 0);
}

/* What is zero is a hole, in units of a file system's blocks. */
static int mem_get_extent(struct file *file, uint64_t off, bool *ret_hole, uint64_t *ret_end)
{
    struct mem_disk *disk = container_of(file, struct mem_file, file)->disk;
    uint64_t at = align_down(off, MEM_HOLE_UNIT);

    if (disk->fixed_len)
        return -EOPNOTSUPP;
    *ret_hole = is_zero(disk, at);
    while (at < disk->len && is_zero(disk, at) == *ret_hole)
        at += MEM_HOLE_UNIT;
    *ret_end = *ret_hole && at >= disk->len ? UINT64_MAX : min_u64(at, disk->len);
    return 0;
}

/* Holes take none. */
static int mem_get_space(struct file *file, uint64_t *ret_bytes)
{
    const struct mem_disk *disk = container_of(file, struct mem_file, file)->disk;

    *ret_bytes = 0;
    for (uint64_t off = 0; off < disk->len; off += MEM_HOLE_UNIT)
        *ret_bytes += is_zero(disk, off) ? 0 : MEM_HOLE_UNIT;
    return 0;
}

static void mem_free(struct file *file)
{
    free(container_of(file, struct mem_file, file));
}

static const struct file_ops mem_ops = {
    .submit = mem_submit,
    .get_len = mem_get_len,
    .truncate = mem_truncate,
    .get_space = mem_get_space,
    .get_extent = mem_get_extent,
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
    mem->file.fixed_len = disk->fixed_len;
    mem->file.align = disk->align;
    mem->file.mem_align = disk->align;
    mem->disk = disk;
    mem->finish.run = finish_one;
    list_init(&mem->pending);
    return &mem->file;
}

/* ---- environment ----------------------------------------------------------------------------- */

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
    struct mem_disk *disk = container_of(file, struct mem_file, file)->disk;
    int r = disk->named ? 0 : do_other(disk, MEM_LINK, 0);

    if (r == 0)
        r = do_other(disk, MEM_SYNC_FOLDER, 0);
    return r < 0 ? err_set_errno(err, r, "Could not create '%s'", path) : 0;
}

static void env_drop_file(const struct block_env *block_env, struct file *file, const char *path)
{
    struct mem_disk *disk = container_of(file, struct mem_file, file)->disk;

    if (disk->named && do_other(disk, MEM_UNLINK, 0) == 0)
        (void)do_other(disk, MEM_SYNC_FOLDER, 0);
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
