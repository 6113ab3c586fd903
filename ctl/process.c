/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define TEXT_MAX 4096

static int read_file(const char *path, char text[TEXT_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return -errno;
    n = read(fd, text, TEXT_MAX - 1);
    close(fd);
    if (n <= 0)
        return -ESRCH;
    text[n] = '\0';
    return 0;
}

static int read_own(pid_t pid, const char *name, char text[TEXT_MAX])
{
    char path[512];

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    return read_file(path, text);
}

static uint64_t ticks_to_ns(uint64_t ticks)
{
    return ticks * (NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
}

/* proc(5): fields 14, 15 and 22; the second is the name, which may have anything in it. */
static int read_stat(const char *text, struct process *process, uint64_t *ret_start_ns)
{
    const char *end = strrchr(text, ')');
    uint64_t user, system, start;

    if (!end || sscanf(end + 1,
                       " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
                       " %*d %*d %*d %*d %*d %*d %" SCNu64,
                       &user, &system, &start) != 3)
        return -EPROTO;
    process->cpu_ns = ticks_to_ns(user + system);
    *ret_start_ns = ticks_to_ns(start);
    return 0;
}

/* A line of /proc/PID/status, in bytes; 0: it is not there. */
static uint64_t status_size(const char *text, const char *key)
{
    const char *line = strstr(text, key);
    uint64_t kib;

    return line && sscanf(line + strlen(key), "%" SCNu64, &kib) == 1 ? kib << 10 : 0;
}

/* The kernel says so of the masters of pseudo-terminals. */
static bool is_master(pid_t pid, const char *fd, unsigned index)
{
    char name[32 + sizeof(((struct dirent *)0)->d_name)];
    char text[TEXT_MAX];
    const char *line;
    unsigned found;

    (void)snprintf(name, sizeof(name), "fdinfo/%s", fd);
    if (read_own(pid, name, text) < 0)
        return false;
    line = strstr(text, "\ntty-index:");
    return line && sscanf(line, "\ntty-index: %u", &found) == 1 && found == index;
}

bool process_has_pty(pid_t pid, unsigned index)
{
    char path[64];
    struct dirent *entry;
    bool has = false;
    DIR *dir;

    (void)snprintf(path, sizeof(path), "/proc/%d/fdinfo", pid);
    dir = opendir(path);
    while (dir && !has && (entry = readdir(dir)))
        has = is_master(pid, entry->d_name, index);
    if (dir)
        closedir(dir);
    return has;
}

int process_look(pid_t pid, struct process *ret_process)
{
    struct process process;
    struct timespec now;
    char text[TEXT_MAX];
    uint64_t start_ns = 0;
    uint64_t now_ns;
    int r = read_own(pid, "stat", text);

    if (r == 0)
        r = read_stat(text, &process, &start_ns);
    if (r == 0)
        r = read_own(pid, "status", text);
    if (r < 0)
        return r;
    /* Since the host's boot, as the start of a process is. */
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    now_ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
    process.uptime_s = now_ns > start_ns ? (now_ns - start_ns) / NS_PER_S : 0;
    process.resident = status_size(text, "\nVmRSS:");
    process.swapped = status_size(text, "\nVmSwap:");
    *ret_process = process;
    return 0;
}
