/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file_host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/aio_execute.h"
#include "base/bytes.h"
#include "base/folder.h"
#include "base/lock_holder.h"
#include "base/log.h"
#include "base/new_path.h"

/* Taken where the kernel does not tell: no disk in use has larger blocks. */
#define DIRECT_ALIGN_DEFAULT 4096u

struct host_file {
    struct file file;
    int fd;
    bool is_device;
    bool direct;
    char *name;   /* of file_host_create: where links have led to; else NULL */
    bool unnamed; /* it has not got that name yet */
    bool threads; /* reads may be worth a thread */
    enum aio_kind aio_kind;
};

static struct host_file *of_file(struct file *file)
{
    return container_of(file, struct host_file, file);
}

/* ---- locks ----------------------------------------------------------------------------------- */

/*
 * QEMU's scheme (block/file-posix.c): one byte per permission. Whoever uses a permission holds a
 * read lock on LOCK_USED + bit; whoever cannot bear others using it holds one on LOCK_UNSHARED +
 * bit. Nobody takes write locks: they are only asked for, to see who else holds the byte. The locks
 * belong to the open file description (OFD), so other opens in the same process conflict too.
 */
enum { LOCK_USED = 100, LOCK_UNSHARED = 200 };
enum {
    PERM_CONSISTENT_READ = 1 << 0,
    PERM_WRITE = 1 << 1,
    PERM_RESIZE = 1 << 3,
    PERM_BITS = 5,
};

static int lock_byte(int fd, off_t at)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};

    return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

/* -EAGAIN if anybody else holds the byte. */
static int test_byte(int fd, off_t at)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};

    if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
        return -errno;
    return lock.l_type == F_UNLCK ? 0 : -EAGAIN;
}

/* Others do not make this fail: they read-lock the same bytes. */
static int announce(int fd, unsigned used, unsigned unshared)
{
    int r = 0;

    for (int i = 0; i < PERM_BITS && r == 0; i++) {
        if (used & (1u << i))
            r = lock_byte(fd, LOCK_USED + i);
        if (r == 0 && (unshared & (1u << i)))
            r = lock_byte(fd, LOCK_UNSHARED + i);
    }
    return r;
}

/*
 * Announce what we do first, then look at the others: of two that start at once, one sees the
 * other.
 */
static int lock_perms(int fd, unsigned used, unsigned unshared)
{
    int r = announce(fd, used, unshared);

    for (int i = 0; i < PERM_BITS && r == 0; i++) {
        if (used & (1u << i))
            r = test_byte(fd, LOCK_UNSHARED + i);
        if (r == 0 && (unshared & (1u << i)))
            r = test_byte(fd, LOCK_USED + i);
    }
    return r;
}

/*
 * A process that was killed keeps its locks until the kernel has taken its io_uring down, a moment
 * after it is gone, as what it was writing may still be on the way. Whoever starts it again at once
 * should not be told that the image is in use: where no process is in sight that has the image
 * locked, it is waited for; but not for longer than this, all images together.
 */
#define LOCK_PATIENCE_MS 500
#define LOCK_RETRY_MS 10

static int wait_for_locks(int fd, unsigned used, unsigned unshared)
{
    static atomic_int waited; /* ms */
    const struct timespec pause = {.tv_nsec = LOCK_RETRY_MS * 1000000L};
    int r = -EAGAIN;

    while (r == -EAGAIN && atomic_fetch_add(&waited, LOCK_RETRY_MS) < LOCK_PATIENCE_MS) {
        (void)nanosleep(&pause, NULL); /* shorter if a signal comes: it is only patience */
        r = lock_perms(fd, used, unshared);
    }
    return r;
}

static int refuse_in_use(const char *path, bool writable, const struct lock_holder *holder,
                         struct err *err)
{
    const char *why = writable ? "" : " that may write to it";

    if (holder->pid == getpid())
        return err_set(err, -EAGAIN, "%s: the image is in use already, by this process", path);
    if (holder->pid)
        return err_set(err, -EAGAIN,
                       "%s: the image is in use by process %d (%s)%s: close it there first", path,
                       (int)holder->pid, holder->name, why);
    return err_set(err, -EAGAIN,
                   "%s: the image is in use by another process%s: close it there first", path, why);
}

static int host_lock(struct file *file, const char *path, struct err *err)
{
    unsigned used = PERM_CONSISTENT_READ | (file->writable ? PERM_WRITE | PERM_RESIZE : 0);
    unsigned unshared = PERM_WRITE | PERM_RESIZE;
    struct lock_holder holder = {.pid = 0};
    int fd = of_file(file)->fd;
    int r = lock_perms(fd, used, unshared);
    struct stat st;

    if (r == -EAGAIN && fstat(fd, &st) == 0 && !lock_holder_find(&st, fd, &holder))
        r = wait_for_locks(fd, used, unshared);
    if (r == -EAGAIN || r == -EACCES)
        return refuse_in_use(path, file->writable, &holder, err);
    if (r < 0) /* a file system without locks: there is nothing to be kept out by */
        log_warn("%s: cannot lock the image (error %d): make sure that nothing else writes to it",
                 path, -r);
    return 0;
}

/* If it fails the lock stays as it is, and keeps readers out. */
static void host_share(struct file *file)
{
    static const unsigned written = PERM_WRITE | PERM_RESIZE;
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_len = 1};

    for (int i = 0; i < PERM_BITS; i++) {
        lock.l_start = LOCK_USED + i;
        if (written & (1u << i))
            (void)fcntl(of_file(file)->fd, F_OFD_SETLK, &lock);
    }
}

static void unlock(int fd)
{
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

    lock.l_start = LOCK_USED;
    lock.l_len = LOCK_UNSHARED + PERM_BITS - LOCK_USED;
    (void)fcntl(fd, F_OFD_SETLK, &lock);
}

/*
 * Locks belong to the descriptor, and the reader's would keep the writer out. So they are given up
 * when the writer has announced itself and before it looks at others: at any moment one of the two
 * keeps other writers out.
 */
static int own_by(struct file *file, int fd, const char *path, struct err *err)
{
    struct host_file *host = of_file(file);
    const unsigned written = PERM_WRITE | PERM_RESIZE;
    int reader = host->fd;
    int r;

    (void)announce(fd, PERM_CONSISTENT_READ | written, written); /* host_lock says if it fails */
    unlock(reader);
    host->fd = fd;
    r = host_lock(file, path, err);
    host->fd = reader;
    if (r == 0 && dup3(fd, reader, O_CLOEXEC) < 0)
        r = err_set_errno(err, -errno, "%s", path);
    if (r < 0 && announce(reader, PERM_CONSISTENT_READ, written) < 0)
        log_warn("%s: cannot lock the image again: make sure that nothing else writes to it", path);
    return r;
}

static int host_own(struct file *file, const char *path, struct err *err)
{
    struct host_file *host = of_file(file);
    char itself[32];
    int fd;
    int r;

    if ((fcntl(host->fd, F_GETFL) & O_ACCMODE) == O_RDWR) {
        r = host_lock(file, path, err);
        if (r < 0)
            host_share(file);
        return r;
    }
    (void)snprintf(itself, sizeof(itself), "/proc/self/fd/%d", host->fd);
    fd = open(itself, O_RDWR | O_CLOEXEC | (host->direct ? O_DIRECT : 0));
    if (fd < 0)
        return err_set_errno(err, -errno, "%s: cannot be written", path);
    r = own_by(file, fd, path, err);
    close(fd);
    return r;
}

/*
 * io_uring reads what is in the page cache before the call returns. From this length on the copying
 * takes longer than to wake a thread for it.
 */
#define LONG_COPY (128u << 10)

/* ---- operations ------------------------------------------------------------------------------ */

static void host_submit(struct file *file, struct file_io *io)
{
    struct host_file *host = of_file(file);

    if (io->op == FILE_COPY && io->from->ops != file->ops) {
        io->done(io, -EXDEV);
        return;
    }
    io->fd = host->fd;
    io->direct = host->direct;
    io->sleeps = io->op == FILE_WRITE && !host->direct;
    io->long_copy = host->threads && io->op == FILE_READ && io->len >= LONG_COPY;
    if (io->op == FILE_COPY)
        io->from_fd = of_file(io->from)->fd;
    if (file->aio)
        aio_submit(file->aio, host->aio_kind, io);
    else
        io->done(io, aio_execute(io));
}

static int host_get_len(struct file *file, uint64_t *ret_len)
{
    struct host_file *host = of_file(file);
    struct stat st;

    if (host->is_device) {
        if (ioctl(host->fd, BLKGETSIZE64, ret_len) < 0)
            return -errno;
        return 0;
    }
    if (fstat(host->fd, &st) < 0)
        return -errno;
    *ret_len = (uint64_t)st.st_size;
    return 0;
}

static int host_truncate(struct file *file, uint64_t len)
{
    struct host_file *host = of_file(file);

    if (host->is_device)
        return -ENOTSUP;
    return ftruncate(host->fd, (off_t)len) < 0 ? -errno : 0;
}

static int host_get_space(struct file *file, uint64_t *ret_bytes)
{
    struct stat st;

    if (fstat(of_file(file)->fd, &st) < 0)
        return -errno;
    *ret_bytes = (uint64_t)st.st_blocks * 512; /* whatever the file system's blocks are */
    return 0;
}

static int host_get_extent(struct file *file, uint64_t off, bool *ret_hole, uint64_t *ret_end)
{
    struct host_file *host = of_file(file);
    off_t end = lseek(host->fd, (off_t)off, SEEK_DATA);
    bool hole = end < 0 || (uint64_t)end > off;

    if (end < 0 && (errno != ENXIO || host->is_device))
        return -EOPNOTSUPP;
    if (!hole) {
        end = lseek(host->fd, (off_t)off, SEEK_HOLE);
        if (end <= (off_t)off) /* an error, or the file was changed by somebody else */
            return -EOPNOTSUPP;
    }
    *ret_hole = hole;
    *ret_end = end < 0 ? UINT64_MAX : (uint64_t)end;
    return 0;
}

static void host_free(struct file *file)
{
    struct host_file *host = of_file(file);

    /* What had to be durable was synced; close reports nothing more that could be acted on. */
    close(host->fd);
    free(host->name);
    free(file->home);
    free(host);
}

static const struct file_ops host_ops = {
    .submit = host_submit,
    .get_len = host_get_len,
    .truncate = host_truncate,
    .get_space = host_get_space,
    .get_extent = host_get_extent,
    .lock = host_lock,
    .share = host_share,
    .own = host_own,
    .free = host_free,
};

/* ---- opening --------------------------------------------------------------------------------- */

void file_host_identify(const struct stat *st, uint64_t ret_id[2])
{
    bool is_device = S_ISBLK(st->st_mode);

    /* No file has inode 0. */
    ret_id[0] = is_device ? st->st_rdev : st->st_dev;
    ret_id[1] = is_device ? 0 : st->st_ino;
}

static int check_kind(const struct host_path *path, struct err *err)
{
    if (S_ISREG(path->st.st_mode) || S_ISBLK(path->st.st_mode))
        return 0;
    return err_set(err, -EINVAL, "%s: %s: expected a file or a block device", path->name,
                   host_path_kind(path));
}

static void find_direct_alignment(struct host_file *host)
{
    struct file *file = &host->file;
    int block;

    file->align = DIRECT_ALIGN_DEFAULT;
    file->mem_align = DIRECT_ALIGN_DEFAULT;
#ifdef STATX_DIOALIGN
    struct statx stx;

    if (statx(host->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
        (stx.stx_mask & STATX_DIOALIGN) && is_pow2(stx.stx_dio_offset_align) &&
        is_pow2(stx.stx_dio_mem_align)) {
        file->align = stx.stx_dio_offset_align;
        file->mem_align = stx.stx_dio_mem_align;
        return;
    }
#endif
    if (host->is_device && ioctl(host->fd, BLKSSZGET, &block) == 0 && is_pow2((uint64_t)block))
        file->align = (uint32_t)block;
}

static int open_fd(const struct host_path *path, const struct file_host_options *options,
                   int *ret_fd, struct err *err)
{
    int flags = (options->writable ? O_RDWR : O_RDONLY) | (options->direct ? O_DIRECT : 0);
    int fd = host_path_open(path, flags);

    if (fd >= 0) {
        *ret_fd = fd;
        return 0;
    }
    if (fd == -EINVAL && options->direct)
        return err_set(err, fd, "%s: this file system has no direct I/O, use cache=writeback",
                       path->name);
    if (options->writable && (fd == -EACCES || fd == -EPERM || fd == -EROFS))
        return err_set(err, fd, "%s: cannot be written: give readonly=on to only read it",
                       path->name);
    return err_set_errno(err, fd, "%s: cannot open", path->name);
}

/* Make a struct file of an open descriptor, which is closed if that fails. */
static int wrap_fd(int fd, const struct host_path *path, const struct file_host_options *options,
                   struct host_file **ret_host, struct err *err)
{
    struct host_file *host = calloc(1, sizeof(*host));

    if (!host) {
        close(fd);
        err_set(err, -ENOMEM, "%s: out of memory", path->name);
        return -ENOMEM;
    }
    file_init(&host->file, &host_ops);
    host->fd = fd;
    host->is_device = S_ISBLK(path->st.st_mode);
    host->file.fixed_len = host->is_device;
    file_host_identify(&path->st, host->file.id);
    host->file.home = host_places_home(path);
    host->file.writable = options->writable;
    host->file.no_sync = options->no_sync;
    host->threads = options->threads && !options->direct && aio_processors() > 1;
    host->aio_kind = options->aio;
    host->direct = options->direct;
    if (options->direct)
        find_direct_alignment(host);
    *ret_host = host;
    return 0;
}

int file_host_open(const char *name, const struct file_host_options *options,
                   struct file **ret_file, struct err *err)
{
    struct host_file *host = NULL;
    struct host_path path;
    int fd = -1;
    int r = host_path_find(name, &path);

    if (r < 0)
        return err_set_errno(err, r, "%s: cannot open", name);
    r = check_kind(&path, err);
    if (r == 0 && options->places)
        r = host_places_check(options->places, &path, err);
    if (r == 0)
        r = open_fd(&path, options, &fd, err);
    if (r == 0)
        r = wrap_fd(fd, &path, options, &host, err);
    host_path_done(&path);
    if (r == 0)
        *ret_file = &host->file;
    return r;
}

/* ---- new files ------------------------------------------------------------------------------- */

/* The mode of a new image, before the umask. As with QEMU, nobody else may write to it. */
#define NEW_FILE_MODE 0644

/* A file without a name in the folder of `path`; -EOPNOTSUPP where there is no such thing. */
static int open_unnamed(const char *path, int flags)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) + 1 : 0;
    char *folder = malloc(len + 2);
    int fd;

    if (!folder)
        return -ENOMEM;
    memcpy(folder, len ? path : ".", len ? len : 1);
    folder[len ? len : 1] = '\0';
    fd = open(folder, flags | O_TMPFILE | O_CLOEXEC, NEW_FILE_MODE);
    if (fd < 0)
        fd = -errno;
    free(folder);
    return fd == -EISDIR ? -EOPNOTSUPP : fd; /* kernels and file systems that ignore O_TMPFILE */
}

/* An existing file keeps its contents until nobody else is seen to use it. */
static int empty_existing(struct host_file *host, const char *path, struct err *err)
{
    int r = host_lock(&host->file, path, err);

    if (r == 0 && !host->is_device && ftruncate(host->fd, 0) < 0)
        r = err_set_errno(err, -errno, "%s: cannot be emptied", path);
    return r;
}

static int open_existing(const struct host_path *path, const struct file_host_options *options,
                         struct host_file **ret_host, struct err *err)
{
    int fd = -1;
    int r = S_ISDIR(path->st.st_mode) ? -EISDIR : check_kind(path, err);

    if (r == -EINVAL)
        return r;
    if (r == 0)
        r = open_fd(path, options, &fd, NULL);
    if (r < 0) {
        err_set_errno(err, r, "Could not create '%s'", path->name);
        return r;
    }
    r = wrap_fd(fd, path, options, ret_host, err);
    if (r < 0)
        return r;
    r = empty_existing(*ret_host, path->name, err);
    if (r < 0)
        host_free(&(*ret_host)->file);
    return r;
}

static int refuse_new(const char *name, int error, struct err *err)
{
    if (error == -EEXIST)
        err_set(err, error, "%s: is there already: expected a new file", name);
    else
        err_set_errno(err, error, "Could not create '%s'", name);
    return error;
}

static int open_new(const char *name, const struct file_host_options *options,
                    struct host_file **ret_host, struct err *err)
{
    int flags = O_RDWR | (options->direct ? O_DIRECT : 0);
    struct host_path path = {.name = name};
    int fd = open_unnamed(name, flags);
    bool unnamed = fd >= 0;
    int r;

    if (fd == -EOPNOTSUPP) {
        fd = open(name, flags | O_CREAT | O_EXCL | O_CLOEXEC, NEW_FILE_MODE);
        if (fd < 0)
            fd = -errno;
    }
    if (fd < 0)
        return refuse_new(name, fd, err);
    path.fd = fd;
    (void)fstat(fd, &path.st); /* cannot fail */
    r = wrap_fd(fd, &path, options, ret_host, err);
    if (r == 0)
        (*ret_host)->unnamed = unnamed;
    else if (!unnamed)
        (void)unlink(name); /* there is an error to report already */
    return r;
}

/* Most file systems know neither: that is no failure. */
static void give_hints(int fd, const struct file_host_hints *hints)
{
    struct fsxattr attr;
    int flags;

    if (hints->nocow && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags |= FS_NOCOW_FL;
        if (ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0)
            log_debug("nocow: refused (error %d)", errno);
    }
    if (hints->extent_size && ioctl(fd, FS_IOC_FSGETXATTR, &attr) == 0) {
        attr.fsx_xflags |= FS_XFLAG_EXTSIZE;
        attr.fsx_extsize = hints->extent_size;
        if (ioctl(fd, FS_IOC_FSSETXATTR, &attr) < 0)
            log_debug("extent_size_hint: refused (error %d)", errno);
    }
}

/* `name` is where the links of `path` lead, and what the file is called if there is none yet. */
static int create(const char *path, const char *name, const struct file_host_options *options,
                  struct host_file **ret_host, struct err *err)
{
    struct host_path found;
    struct stat st;
    int r;

    if (options->exclusive)
        return lstat(path, &st) == 0 ? refuse_new(path, -EEXIST, err)
                                     : open_new(name, options, ret_host, err);
    r = host_path_find(path, &found);
    if (r == -ENOENT)
        return open_new(name, options, ret_host, err);
    if (r < 0) {
        err_set_errno(err, r, "Could not create '%s'", path);
        return r;
    }
    r = open_existing(&found, options, ret_host, err);
    host_path_done(&found);
    return r;
}

int file_host_create(const char *path, const struct file_host_options *options,
                     struct file **ret_file, struct err *err)
{
    struct host_file *host = NULL;
    char *name = NULL;
    int r = new_path_find(path, &name);

    if (r < 0)
        return err_set_errno(err, r, "Could not create '%s'", path);
    r = create(path, name, options, &host, err);
    if (r < 0) {
        free(name);
        return r;
    }
    host->name = name;
    give_hints(host->fd, &options->hints);
    *ret_file = &host->file;
    return 0;
}

int file_host_keep(struct file *file, const char *path, struct err *err)
{
    struct host_file *host = of_file(file);
    char self[sizeof("/proc/self/fd/") + 3 * sizeof(int)];
    int r;

    if (host->is_device)
        return 0;
    (void)snprintf(self, sizeof(self), "/proc/self/fd/%d", host->fd);
    if (host->unnamed && linkat(AT_FDCWD, self, AT_FDCWD, host->name, AT_SYMLINK_FOLLOW) < 0)
        return refuse_new(path, -errno, err);
    host->unnamed = false;
    r = folder_sync(host->name, host->fd);
    return r < 0 ? err_set_errno(err, r, "Could not make the name '%s' durable", path) : 0;
}

/* Does the name still stand for this file? */
static bool has_its_name(const struct host_file *host)
{
    struct stat named;
    struct stat st;

    return lstat(host->name, &named) == 0 && fstat(host->fd, &st) == 0 &&
           named.st_dev == st.st_dev && named.st_ino == st.st_ino;
}

void file_host_drop(struct file *file)
{
    struct host_file *host = of_file(file);

    /* A failure is ignored, because the caller has an error to report already. */
    if (!host->unnamed && !host->is_device && has_its_name(host) && unlink(host->name) == 0)
        (void)!folder_sync(host->name, host->fd);
    host_free(file);
}
