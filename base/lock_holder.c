/* SPDX-License-Identifier: Apache-2.0 */
#include "base/lock_holder.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* PF_EXITING of the kernel, in the flags that /proc shows. */
#define FLAG_EXITING 0x4ul

/* Enough for "/proc/PID/fdinfo/FD". */
#define PATH_LEN 64

static bool is_number(const char *text)
{
    return *text && text[strspn(text, "0123456789")] == '\0';
}

/* The first line with any of the words, or at all (NULL); false: there is none. */
static bool find_line(const char *path, const char *const words[2], char *line, int size)
{
    FILE *f = fopen(path, "re");
    bool found = false;

    while (f && !found && fgets(line, size, f))
        found = !words || strstr(line, words[0]) || strstr(line, words[1]);
    if (f)
        fclose(f);
    return found;
}

/* Does the descriptor hold a lock, of whatever kind the image is locked with? */
static bool holds_lock(const char *pid, const char *fd)
{
    static const char *const kinds[2] = {"OFDLCK", "POSIX"};
    char path[PATH_LEN];
    char line[128];

    (void)snprintf(path, sizeof(path), "/proc/%.16s/fdinfo/%.16s", pid, fd);
    return find_line(path, kinds, line, sizeof(line));
}

/* Nothing is asked of the file system, which may not answer. */
static bool is_file(int folder, const char *fd, const struct stat *st)
{
    struct statx stx;

    return statx(folder, fd, AT_STATX_DONT_SYNC, STATX_INO, &stx) == 0 &&
           stx.stx_ino == st->st_ino && makedev(stx.stx_dev_major, stx.stx_dev_minor) == st->st_dev;
}

/* Its memory and files may be there still, but not for long. */
static bool is_exiting(const char *pid)
{
    char path[PATH_LEN];
    char line[512];
    unsigned long flags;
    const char *rest;
    char state;

    (void)snprintf(path, sizeof(path), "/proc/%.16s/stat", pid);
    rest = find_line(path, NULL, line, sizeof(line)) ? strrchr(line, ')') : NULL;
    return !rest || sscanf(rest, ") %c %*d %*d %*d %*d %*d %lu", &state, &flags) != 2 ||
           strchr("ZX", state) || (flags & FLAG_EXITING);
}

/* Not counting the descriptor `but`. */
static bool process_holds(const char *pid, const struct stat *st, int but)
{
    char path[PATH_LEN];
    struct dirent *entry;
    bool found = false;
    DIR *folder;

    (void)snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
    folder = opendir(path);
    while (folder && !found && (entry = readdir(folder)))
        found = is_number(entry->d_name) && strtol(entry->d_name, NULL, 10) != but &&
                is_file(dirfd(folder), entry->d_name, st) && holds_lock(pid, entry->d_name);
    if (folder)
        closedir(folder);
    return found && !is_exiting(pid);
}

static void describe(const char *pid, struct lock_holder *holder)
{
    char path[PATH_LEN];

    *holder = (struct lock_holder){.pid = (pid_t)strtol(pid, NULL, 10), .name = "?"};
    (void)snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
    (void)find_line(path, NULL, holder->name, sizeof(holder->name));
    holder->name[strcspn(holder->name, "\n")] = '\0';
    for (char *c = holder->name; *c; c++)
        if (iscntrl((unsigned char)*c))
            *c = '?';
}

bool lock_holder_find(const struct stat *st, int fd, struct lock_holder *ret_holder)
{
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    bool found = false;

    while (processes && !found && (entry = readdir(processes))) {
        const char *pid = entry->d_name;

        found =
            is_number(pid) && process_holds(pid, st, strtol(pid, NULL, 10) == getpid() ? fd : -1);
        if (found)
            describe(pid, ret_holder);
    }
    if (processes)
        closedir(processes);
    return found;
}
