/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/guest/refusal.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/lib/guest/guest.h"
#include "tests/lib/scratch.h"

/* It takes milliseconds; a busy machine is no reason to fail. */
#define SOON_NS 20000000000ull

void refusal_enter_folder(void)
{
    ck_assert_int_eq(chdir(scratch_path(".")), 0);
    ck_assert_int_eq(chmod(".", 0755), 0);
}

void refusal_write_file(const char *name, const void *data, size_t len)
{
    FILE *file = fopen(name, "wb");

    ck_assert_msg(file != NULL, "%s", name);
    ck_assert_uint_eq(fwrite(data, 1, len, file), len);
    ck_assert_int_eq(fclose(file), 0);
}

void refusal_write_kernel(void)
{
    struct guest guest;

    guest_init(&guest);
    guest_power_off(&guest);
    guest_write_kernel(&guest, "kernel");
    guest_done(&guest);
}

/* ---- what must not change -------------------------------------------------------------------- */

static uint64_t hash_of(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325; /* FNV-1a, by words */
    uint64_t words[8192] = {0};
    int fd = open(name, O_RDONLY | O_NONBLOCK);
    ssize_t n;

    while (fd >= 0 && (n = read(fd, words, sizeof(words))) > 0)
        for (size_t i = 0; i < (size_t)n / sizeof(words[0]); i++)
            hash = (hash ^ words[i]) * 0x100000001b3;
    if (fd >= 0)
        close(fd);
    return hash;
}

static int is_not_parent(const struct dirent *entry)
{
    return strcmp(entry->d_name, "..") != 0;
}

/* Every file in the folder: what it is, and what it holds. To be freed. */
static char *list_files(void)
{
    struct dirent **entries;
    size_t len;
    char *text;
    FILE *out = open_memstream(&text, &len);
    int n = scandir(".", &entries, is_not_parent, alphasort);

    ck_assert(out != NULL && n >= 0);
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        struct stat st;

        ck_assert_int_eq(lstat(name, &st), 0);
        fprintf(out, "%s %o %lld %lld.%09ld %016llx\n", name, st.st_mode, (long long)st.st_size,
                (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
                S_ISREG(st.st_mode) ? (unsigned long long)hash_of(name) : 0);
        free(entries[i]);
    }
    free(entries);
    ck_assert_int_eq(fclose(out), 0);
    return text;
}

/*
 * A terminal that tells about every change of its settings, also one that is taken back: with
 * EXTPROC set, the master of a pty in packet mode reads a packet for each.
 */
struct watched_terminal {
    int master;
    int slave;
};

static void open_terminal(struct watched_terminal *terminal)
{
    struct termios settings;
    int on = 1;

    ck_assert_int_eq(openpty(&terminal->master, &terminal->slave, NULL, NULL, NULL), 0);
    ck_assert_int_eq(tcgetattr(terminal->slave, &settings), 0);
    settings.c_lflag |= EXTPROC;
    ck_assert_int_eq(tcsetattr(terminal->slave, TCSANOW, &settings), 0);
    ck_assert_int_eq(ioctl(terminal->master, TIOCPKT, &on), 0);
    ck_assert_int_eq(fcntl(terminal->master, F_SETFL, O_NONBLOCK), 0);
    ck_assert_int_eq(fcntl(terminal->master, F_SETFD, FD_CLOEXEC), 0);
    ck_assert_int_eq(fcntl(terminal->slave, F_SETFD, FD_CLOEXEC), 0);
}

/* Was it changed, or printed on? */
static bool close_terminal(struct watched_terminal *terminal)
{
    char packet[64];
    bool touched = read(terminal->master, packet, sizeof(packet)) > 0;

    close(terminal->slave);
    close(terminal->master);
    return touched;
}

/* ---- the check ------------------------------------------------------------------------------- */

void refusal_check_line(const struct vm *vm, const char *const says[REFUSAL_TEXTS_MAX])
{
    const char *line = vm->err.data ? vm->err.data : "";

    ck_assert_msg(strncmp(line, "minivmm: ", 9) == 0, "stderr: %s", line);
    ck_assert_msg(strchr(line, '\n') == line + vm->err.len - 1, "not one line: %s", line);
    for (size_t i = 0; i + 1 < vm->err.len; i++)
        ck_assert_msg((unsigned char)line[i] >= ' ', "control character: %s", line);
    for (size_t i = 0; i < REFUSAL_TEXTS_MAX && says[i]; i++)
        ck_assert_msg(strstr(line, says[i]) != NULL, "no '%s' in: %s", says[i], line);
}

int refusal_run(struct vm *vm, const char *const args[], void (*in_child)(void), bool *ret_touched)
{
    struct watched_terminal terminal;
    struct vm_setup setup = {.in_child = in_child};
    int code;

    open_terminal(&terminal);
    setup.terminal = terminal.slave;
    vm_start_with(vm, args, &setup);
    code = vm_wait(vm);
    *ret_touched = close_terminal(&terminal);
    return code;
}

void refusal_check(const struct refusal *refusal)
{
    char *before, *after;
    uint64_t start_ns;
    bool touched;
    struct vm vm;
    int code;

    if (refusal->config)
        refusal_write_file("config.json", refusal->config, strlen(refusal->config));
    before = list_files();
    start_ns = monotonic_ns();
    code = refusal_run(&vm, refusal->args, refusal->in_child, &touched);
    ck_assert_uint_lt(monotonic_ns() - start_ns, SOON_NS);
    after = list_files();

    if (code == REFUSAL_SKIPPED) {
        printf("this machine cannot make it fail: '%s' is not tested\n", refusal->says[0]);
    } else {
        ck_assert_msg(code == refusal->code, "exit code %d, expected %d; stderr: %s", code,
                      refusal->code, vm_errors(&vm));
        refusal_check_line(&vm, refusal->says);
        ck_assert_uint_eq(vm.out.len, 0);
        ck_assert_msg(!touched, "the terminal was touched; stderr: %s", vm.err.data);
        ck_assert_str_eq(after, before);
    }
    free(before);
    free(after);
    vm_done(&vm);
}
