/* SPDX-License-Identifier: Apache-2.0 */
#include "base/folder_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* As many as the kernel follows. */
#define LINKS_MAX 40u

struct walk {
    int folder;
    unsigned links;
    const char *rest; /* what is left of the path, seen from the folder */
    char path[PATH_MAX];
};

static void enter(struct walk *walk, int folder)
{
    if (walk->folder >= 0)
        close(walk->folder);
    walk->folder = folder;
}

static int enter_name(struct walk *walk, const char *name)
{
    int folder = openat(walk->folder, name, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (folder < 0)
        return -errno;
    enter(walk, folder);
    return 0;
}

/*
 * May a link in the folder be followed? In a sticky folder that all may write to only links of our
 * own or of the folder's owner, whom nobody else can replace; in one that is not sticky, none.
 */
static bool may_follow(int folder, const struct stat *link)
{
    struct stat dir;

    if (fstat(folder, &dir) < 0)
        return false;
    if (!(dir.st_mode & S_IWOTH))
        return true;
    return (dir.st_mode & S_ISVTX) && (link->st_uid == geteuid() || link->st_uid == dir.st_uid);
}

/* Links in /proc are the kernel's: some lead to open files, which their texts only describe. */
static bool is_in_proc(int folder)
{
    struct statfs fs;

    return fstatfs(folder, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

/* The path goes on with the link's text, and then as before. */
static int follow(struct walk *walk, int link)
{
    size_t more = strlen(walk->rest) + 1;
    size_t room = sizeof(walk->path) - more;
    ssize_t len;

    if (++walk->links > LINKS_MAX)
        return -ELOOP;
    memmove(walk->path + room, walk->rest, more);
    len = readlinkat(link, "", walk->path, room);
    if (len < 0)
        return -errno;
    if ((size_t)len == room)
        return -ENAMETOOLONG;
    memmove(walk->path + len, walk->path + room, more);
    walk->rest = walk->path;
    return walk->path[0] == '/' ? enter_name(walk, "/") : 0;
}

/* Go into `name`, a part of the path; `rest` follows it already. 1: it is the last part. */
static int take(struct walk *walk, const char *name)
{
    int part = openat(walk->folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    bool last = !*walk->rest;
    struct stat st;
    int r;

    if (part < 0)
        return errno == ENOENT && last ? 1 : -errno;
    if (fstat(part, &st) < 0) {
        r = -errno;
    } else if (S_ISLNK(st.st_mode) && !is_in_proc(walk->folder)) {
        r = may_follow(walk->folder, &st) ? follow(walk, part) : -ELOOP;
    } else if (last) {
        r = 1;
    } else if (S_ISDIR(st.st_mode)) {
        enter(walk, part); /* this one, whatever has become of the name meanwhile */
        return 0;
    } else {
        r = enter_name(walk, name);
    }
    close(part);
    return r;
}

static int step(struct walk *walk, char name[NAME_MAX + 1])
{
    const char *part = walk->rest + strspn(walk->rest, "/");
    size_t len = strcspn(part, "/");

    if (len > NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(name, part, len);
    name[len] = '\0';
    walk->rest = part + len;
    return len == 0 ? 1 : take(walk, name);
}

int folder_find(const char *path, struct folder_entry *ret_entry)
{
    struct walk walk = {.folder = AT_FDCWD, .rest = walk.path};
    size_t len = strlen(path);
    int r;

    if (len >= sizeof(walk.path))
        return -ENAMETOOLONG;
    memcpy(walk.path, path, len + 1);
    r = enter_name(&walk, path[0] == '/' ? "/" : ".");
    while (r == 0)
        r = step(&walk, ret_entry->name);
    if (r < 0) {
        if (walk.folder >= 0)
            close(walk.folder);
        return r;
    }
    ret_entry->folder = walk.folder;
    ret_entry->nofollow = is_in_proc(walk.folder) ? 0 : O_NOFOLLOW;
    return 0;
}
