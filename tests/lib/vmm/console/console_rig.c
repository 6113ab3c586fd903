/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/vmm/console/console_rig.h"

#include <check.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/scratch.h"

#define MS 1000000ull

struct con_rig con;

static size_t front_can_receive(struct chardev_front *ops)
{
    return con.front.room;
}

static void front_receive(struct chardev_front *ops, const uint8_t *data, size_t len)
{
    struct con_front *front = &con.front;

    ck_assert_uint_le(len, front->room);
    ck_assert_uint_le(front->len + len, sizeof(front->data));
    memcpy(front->data + front->len, data, len);
    front->len += len;
    front->room -= len;
}

static void front_writable(struct chardev_front *ops)
{
    con.front.nwritable++;
}

static void front_break(struct chardev_front *ops)
{
    con.front.nbreaks++;
}

static void front_resized(struct chardev_front *ops)
{
    con.front.nresized++;
}

static void on_quit(void *opaque)
{
    con.front.quit = true;
}

static bool is_hurried(void *opaque)
{
    return con.front.hurried;
}

static void stop_loop(struct loop_timer *timer)
{
    loop_stop(con.loop);
}

static void run_for(unsigned ms)
{
    struct loop_timer timer = {.expired = stop_loop};

    loop_arm(con.loop, &timer, ms * MS);
    ck_assert_int_eq(loop_run(con.loop), 0);
}

void con_settle(void)
{
    run_for(2);
}

static bool count_round(void *opaque)
{
    (*(unsigned *)opaque)++;
    return false;
}

unsigned con_idle_rounds(void)
{
    unsigned rounds = 0;

    con_settle();
    loop_set_before_sleep(con.loop, count_round, &rounds);
    run_for(30);
    loop_set_before_sleep(con.loop, NULL, NULL);
    return rounds;
}

void con_give_room(size_t room)
{
    con.front.room = room;
    con.chardev->ops->accept_input(con.chardev);
    con_settle();
}

void con_print(const char *text)
{
    con.chardev->ops->write(con.chardev, (const uint8_t *)text, strlen(text));
}

int con_try_open(enum serial_kind kind, const char *path, struct err *err)
{
    const struct console_options options = {
        .name = "serial port",
        .kind = kind,
        .path = path,
        .files = &con.files,
        .loop = con.loop,
        .events = {.quit = on_quit, .is_hurried = is_hurried},
        .is_sized = true,
    };
    int r = console_new(&options, &con.console, err);

    if (r < 0)
        return r;
    r = console_start(con.console, err);
    if (r < 0) {
        con_close();
    } else {
        con.chardev = console_chardev(con.console);
        con.chardev->ops->set_front(con.chardev, &con.front.ops);
    }
    return r;
}

void con_open(enum serial_kind kind, const char *path)
{
    struct err err = {0};

    ck_assert_msg(con_try_open(kind, path, &err) == 0, "%s", err.msg);
}

void con_close(void)
{
    console_close(con.console);
    con.console = NULL;
}

void con_setup(void)
{
    signal(SIGPIPE, SIG_IGN);
    memset(&con, 0, sizeof(con));
    con.front.ops = (struct chardev_front){front_can_receive, front_receive, front_writable,
                                           front_break, front_resized};
    con.front.room = sizeof(con.front.data);
    ck_assert_int_eq(loop_new(&con.loop), 0);
    scratch_set_up();
    con.path = scratch_path("serial");
}

void con_teardown(void)
{
    con_close();
    open_files_done(&con.files);
    loop_free(con.loop);
    scratch_tear_down();
}

void con_wait_readable(int fd)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};

    ck_assert_int_eq(poll(&pfd, 1, 10000), 1);
}

size_t con_read(int fd, char *buf, size_t len)
{
    ssize_t n = read(fd, buf, len);

    return n < 0 ? 0 : (size_t)n;
}

uint8_t con_pattern(size_t pos)
{
    return (uint8_t)(pos * 7 + pos / 251);
}

bool con_print_pattern(size_t *pos, size_t len)
{
    uint8_t data[256];

    if (con.chardev->ops->is_full(con.chardev))
        return false;
    for (size_t i = 0; i < len; i++)
        data[i] = con_pattern(*pos + i);
    con.chardev->ops->write(con.chardev, data, len);
    *pos += len;
    return true;
}

void con_fill(size_t *pos)
{
    do {
        while (con_print_pattern(pos, 256))
            ;
        con_settle();
    } while (!con.chardev->ops->is_full(con.chardev));
}

void con_check_pattern(int fd, size_t *pos)
{
    uint8_t data[8192];
    bool same = true;
    size_t n;

    while ((n = con_read(fd, (char *)data, sizeof(data))) > 0) {
        for (size_t i = 0; i < n; i++)
            same = same && data[i] == con_pattern(*pos + i);
        ck_assert(same);
        *pos += n;
    }
}
