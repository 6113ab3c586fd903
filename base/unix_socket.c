/* SPDX-License-Identifier: Apache-2.0 */
#include "base/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/folder.h"
#include "base/folder_walk.h"

#define PATH_LEN_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

/* Who waits in the socket's queue while one client is served. */
#define QUEUE_LEN 1

/* Replacing takes much less; a folder that somebody keeps locked must not stop us for ever. */
#define LOCK_PATIENCE_MS 500
#define LOCK_RETRY_MS 10

/* What is being made. */
struct draft {
    const char *path;
    const char *name; /* its last part */
    int folder;
    char temporary[32]; /* name in `folder` */
    int fd;
    struct stat made;
};

/* ---- what has the name ----------------------------------------------------------------------- */

/* The path fits. */
static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    return addr;
}

/*
 * The error of a look at a socket, 0 for none. The kernel refuses a datagram socket for want of an
 * owner, but tells one of another type by an error of its own. So whoever has the socket notices
 * nothing: a client would take the place of the next one, and output that is kept for him. And a
 * process that has bound it, but does not listen yet, has it.
 */
static int look_at(const char *path)
{
    const struct sockaddr_un addr = address_of(path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int r;

    if (fd < 0)
        return -errno;
    r = connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
    close(fd);
    return r;
}

bool unix_socket_is_used(const char *path)
{
    return strlen(path) <= PATH_LEN_MAX && look_at(path) == -EPROTOTYPE;
}

/* Is it a socket that a process left behind? */
static bool is_stale(const struct draft *draft)
{
    struct stat st;

    return fstatat(draft->folder, draft->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISSOCK(st.st_mode) && look_at(draft->path) == -ECONNREFUSED;
}

/* Returns a descriptor that holds the lock until it is closed, or -errno. */
static int lock_folder(int folder)
{
    const struct timespec pause = {.tv_nsec = LOCK_RETRY_MS * 1000000L};
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r;

    if (fd < 0)
        return -errno;
    r = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
    for (int waited = 0; r == -EWOULDBLOCK && waited < LOCK_PATIENCE_MS; waited += LOCK_RETRY_MS) {
        (void)nanosleep(&pause, NULL); /* shorter if a signal comes: it is only patience */
        r = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
    }
    if (r == 0)
        return fd;
    close(fd);
    return r;
}

static int refuse_name(const struct draft *draft, struct err *err)
{
    return err_set(err, -EADDRINUSE,
                   "%s: exists: expected a new path, or a socket that nobody has open",
                   draft->path);
}

/* Checked first, so that nothing is made, and removed again, where the name cannot be had. */
static int check_name(const struct draft *draft, struct err *err)
{
    struct stat st;

    if (fstatat(draft->folder, draft->name, &st, AT_SYMLINK_NOFOLLOW) < 0 || is_stale(draft))
        return 0;
    return refuse_name(draft, err);
}

/* Put the draft in the place of a socket that is still stale. */
static int replace_stale(const struct draft *draft, struct err *err)
{
    int lock = lock_folder(draft->folder);
    bool stale;
    int r = 0;

    if (lock < 0)
        return err_set_errno(err, lock, "%s: exists, and its folder cannot be locked to replace it",
                             draft->path);
    stale = is_stale(draft);
    if (stale && renameat(draft->folder, draft->temporary, draft->folder, draft->name) < 0)
        r = -errno;
    close(lock);
    if (!stale)
        return refuse_name(draft, err);
    return r < 0 ? err_set_errno(err, r, "%s: cannot be replaced", draft->path) : 0;
}

/* ---- making one ------------------------------------------------------------------------------ */

/* An address for the temporary name, which may be longer than the one it is made for. */
static struct sockaddr_un temporary_address(const struct draft *draft)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t room = sizeof(addr.sun_path);
    int dir_len = (int)(draft->name - draft->path);

    if ((size_t)snprintf(addr.sun_path, room, "%.*s%s", dir_len, draft->path, draft->temporary) >=
        room)
        (void)snprintf(addr.sun_path, room, "/proc/self/fd/%d/%s", draft->folder, draft->temporary);
    return addr;
}

/* The mode is that of the open socket: nobody else could connect at any time. */
static int bind_temporary(struct draft *draft)
{
    struct sockaddr_un addr;
    uint64_t random;

    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        return -EIO;
    (void)snprintf(draft->temporary, sizeof(draft->temporary), ".minivmm-%016llx",
                   (unsigned long long)random);
    addr = temporary_address(draft);
    if (fchmod(draft->fd, 0600) < 0 ||
        bind(draft->fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
        return -errno;
    return 0;
}

static int give_name(struct draft *draft, struct err *err)
{
    if (listen(draft->fd, QUEUE_LEN) < 0 ||
        fstatat(draft->folder, draft->temporary, &draft->made, AT_SYMLINK_NOFOLLOW) < 0)
        return err_set_errno(err, -errno, "%s: cannot wait for clients", draft->path);
    if (linkat(draft->folder, draft->temporary, draft->folder, draft->name, 0) == 0)
        return 0;
    if (errno != EEXIST)
        return err_set_errno(err, -errno, "%s: cannot make a socket", draft->path);
    return replace_stale(draft, err);
}

static int make(struct draft *draft, struct err *err)
{
    int r;

    draft->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (draft->fd < 0)
        return err_set_errno(err, -errno, "%s: cannot make a socket", draft->path);
    r = bind_temporary(draft);
    if (r < 0) {
        err_set_errno(err, r, "%s: cannot make a socket", draft->path);
    } else {
        r = give_name(draft, err);
        (void)unlinkat(draft->folder, draft->temporary, 0); /* renamed, it is gone already */
    }
    if (r < 0)
        close(draft->fd);
    return r;
}

int unix_socket_listen(const char *path, struct unix_socket *ret_socket, struct err *err)
{
    struct draft draft = {.path = path};
    int r;

    ret_socket->fd = -1;
    if (strlen(path) > PATH_LEN_MAX)
        return err_set(err, -ENAMETOOLONG, "%.200s: expected a socket path of at most %zu bytes",
                       path, PATH_LEN_MAX);
    draft.folder = folder_open(path, &draft.name);
    if (draft.folder == -ELOOP)
        return err_set(err, -ELOOP, "%s: " FOLDER_LOOP, path);
    if (draft.folder < 0)
        return err_set_errno(err, draft.folder, "%s: cannot make a socket", path);
    if (draft.name[0])
        r = check_name(&draft, err);
    else
        r = err_set(err, -EISDIR, "%s: expected a file name", path);
    if (r == 0)
        r = make(&draft, err);
    close(draft.folder);
    if (r == 0)
        *ret_socket = (struct unix_socket){.fd = draft.fd, .path = path, .made = draft.made};
    return r;
}

/* The name goes first: without a listener it would be free to be replaced, and not ours then. */
void unix_socket_close(struct unix_socket *sock)
{
    struct stat now;

    if (sock->fd < 0)
        return;
    if (lstat(sock->path, &now) == 0 && now.st_dev == sock->made.st_dev &&
        now.st_ino == sock->made.st_ino)
        (void)unlink(sock->path); /* at worst the next start finds it stale */
    close(sock->fd);
    sock->fd = -1;
}
