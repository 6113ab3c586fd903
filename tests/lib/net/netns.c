/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/net/netns.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/unit.h"

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return written;
}

/* Root needs no user namespace, and may open what belongs to root. */
static bool enter(void)
{
    char uid_map[32], gid_map[32];

    snprintf(uid_map, sizeof(uid_map), "0 %u 1", geteuid());
    snprintf(gid_map, sizeof(gid_map), "0 %u 1", getegid());
    if (geteuid() == 0 && unshare(CLONE_NEWNET) == 0)
        return true;
    return unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 &&
           write_file("/proc/self/setgroups", "deny") &&
           write_file("/proc/self/uid_map", uid_map) && write_file("/proc/self/gid_map", gid_map);
}

/* Does a child that does this succeed? */
static bool can(bool (*fn)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(fn() ? 0 : 1);
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool open_tun(void)
{
    return enter() && open("/dev/net/tun", O_RDWR | O_CLOEXEC) >= 0;
}

static bool has_program(const char *name)
{
    char command[128];

    snprintf(command, sizeof(command), "PATH=$PATH:/usr/sbin:/sbin command -v %s >/dev/null", name);
    return system(command) == 0;
}

bool netns_is_possible(const char *program, bool taps)
{
    const char *missing = program && !has_program(program) ? program : "ip";

    if (!has_program(missing))
        printf("%s is missing: scripts/setup guest installs it\n", missing);
    else if (!can(enter))
        printf("no network namespaces: expected root, or user namespaces\n");
    else if (taps && !can(open_tun))
        printf("/dev/net/tun cannot be opened\n");
    else
        return true;
    return false;
}

void netns_enter(void)
{
    const char *path = getenv("PATH");
    char with_sbin[4096];

    ck_assert(enter());
    snprintf(with_sbin, sizeof(with_sbin), "%s:/usr/sbin:/sbin", path ? path : "/usr/bin:/bin");
    ck_assert_int_eq(setenv("PATH", with_sbin, 1), 0);
    ck_assert_int_eq(system("ip link set lo up"), 0);
}
