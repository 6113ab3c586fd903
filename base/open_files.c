/* SPDX-License-Identifier: Apache-2.0 */
#include "base/open_files.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_host.h"
#include "base/folder_walk.h"

struct open_file {
    uint64_t id[2];
    bool writable;
    char role[sizeof(((struct open_file_use *)0)->role)];
};

/* Of all lists: they are looked at and changed for a moment only. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void open_files_done(struct open_files *files)
{
    free(files->list);
    *files = (struct open_files){0};
}

/* NULL: it is none of them. */
static struct open_file *find(const struct open_files *files, const uint64_t id[2])
{
    for (size_t i = 0; i < files->n; i++)
        if (memcmp(files->list[i].id, id, sizeof(files->list[i].id)) == 0)
            return &files->list[i];
    return NULL;
}

/* ---- what the VM is made of ------------------------------------------------------------------ */

/*
 * Only a file that all its users read has several entries, so the first one says enough about all.
 */
static int check_use(const struct open_files *files, const uint64_t id[2],
                     const struct open_file_use *use, struct err *err)
{
    const struct open_file *known = find(files, id);

    if (!known || (!known->writable && !use->writable))
        return 0;
    if (!use->writable)
        return err_set(err, -EBUSY,
                       "%s: given twice: it is %s already, which may write to it: expected another "
                       "file, or readonly=on there",
                       use->path, known->role);
    return err_set(err, -EBUSY,
                   "%s: given twice: it is %s already: expected another file, or readonly=on%s",
                   use->path, known->role, known->writable ? " for both" : "");
}

static int add(struct open_files *files, const uint64_t id[2], const struct open_file_use *use,
               struct err *err)
{
    struct open_file *list;
    int r = check_use(files, id, use, err);

    if (r < 0)
        return r;
    list = realloc(files->list, (files->n + 1) * sizeof(*list));
    if (!list)
        return err_set(err, -ENOMEM, "%s: out of memory", use->path);
    files->list = list;
    list += files->n++;
    list->id[0] = id[0];
    list->id[1] = id[1];
    list->writable = use->writable;
    memcpy(list->role, use->role, sizeof(list->role));
    return 0;
}

int open_files_add(struct open_files *files, const uint64_t id[2], const struct open_file_use *use,
                   struct err *err)
{
    int r;

    pthread_mutex_lock(&lock);
    r = add(files, id, use, err);
    pthread_mutex_unlock(&lock);
    return r;
}

void open_files_change(struct open_files *files, const uint64_t id[2],
                       const struct open_file_use *use)
{
    struct open_file *file;

    pthread_mutex_lock(&lock);
    file = find(files, id);
    if (file) {
        file->writable = use->writable;
        memcpy(file->role, use->role, sizeof(file->role));
    }
    pthread_mutex_unlock(&lock);
}

void open_files_remove(struct open_files *files, const uint64_t id[2])
{
    struct open_file *file;

    pthread_mutex_lock(&lock);
    file = find(files, id);
    if (file)
        *file = files->list[--files->n];
    pthread_mutex_unlock(&lock);
}

static int add_stat(struct open_files *files, int result, const struct stat *st,
                    const struct open_file_use *use, struct err *err)
{
    uint64_t id[2];

    if (result < 0)
        return err_set_errno(err, -errno, "%s: cannot stat", use->path);
    file_host_identify(st, id);
    return open_files_add(files, id, use, err);
}

int open_files_add_fd(struct open_files *files, int fd, const struct open_file_use *use,
                      struct err *err)
{
    struct stat st;
    int result = fstat(fd, &st);

    return add_stat(files, result, &st, use, err);
}

int open_files_add_path(struct open_files *files, const struct open_file_use *use, struct err *err)
{
    struct stat st;
    int result = stat(use->path, &st);

    return add_stat(files, result, &st, use, err);
}

/* ---- where it prints ------------------------------------------------------------------------- */

static int check_output(const struct open_files *files, const struct stat *st, const char *name,
                        struct err *err)
{
    const struct open_file *known;
    uint64_t id[2];
    int r = 0;

    file_host_identify(st, id);
    pthread_mutex_lock(&lock);
    known = find(files, id);
    if (known)
        r = err_set(err, -EBUSY,
                    "%s: the file is %s of this VM: expected another one for its output", name,
                    known->role);
    pthread_mutex_unlock(&lock);
    return r;
}

int open_files_check_fd(const struct open_files *files, int fd, const char *name, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_set_errno(err, -errno, "%s: cannot stat", name);
    return check_output(files, &st, name, err);
}

int open_files_check_path(const struct open_files *files, const char *path, struct err *err)
{
    struct stat st;

    /* What cannot be found cannot be harmed; opening it says why, if it fails there too. */
    return stat(path, &st) < 0 ? 0 : check_output(files, &st, path, err);
}

/*
 * Opening does not truncate: only what was looked at is emptied. No waiting for the reader of a
 * FIFO, and a terminal does not become our controlling one.
 */
#define OUTPUT_FLAGS (O_WRONLY | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
#define OUTPUT_MODE 0600

static int open_output(const char *path)
{
    struct folder_entry entry;
    int r = folder_find(path, &entry);

    if (r < 0)
        return r;
    r = -EISDIR;
    if (entry.name[0]) {
        r = openat(entry.folder, entry.name, OUTPUT_FLAGS | entry.nofollow, OUTPUT_MODE);
        if (r < 0)
            r = -errno;
    }
    close(entry.folder);
    return r;
}

static int empty_file(int fd, const char *path, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || (S_ISREG(st.st_mode) && ftruncate(fd, 0) < 0))
        return err_set_errno(err, -errno, "%s: cannot be emptied", path);
    return 0;
}

int open_files_open_output(const struct open_files *files, const char *path, int *ret_fd,
                           struct err *err)
{
    int fd = open_output(path);
    int r;

    if (fd == -ELOOP)
        return err_set(err, fd, "%s: " FOLDER_LOOP, path);
    if (fd == -ENXIO)
        return err_set(
            err, fd,
            "%s: a FIFO that nobody reads, or a socket: expected a file, or a reader first", path);
    if (fd < 0)
        return err_set_errno(err, fd, "%s: cannot open for output", path);
    r = open_files_check_fd(files, fd, path, err);
    if (r == 0)
        r = empty_file(fd, path, err);
    if (r < 0) {
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}
