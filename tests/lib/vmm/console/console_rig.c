/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/vmm/console/console_rig.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/scratch.h"

#define MS 1000000ull

struct rig rig;

static size_t front_can_receive(struct chardev_front *ops)
{
    return rig.front.room;
}

static void front_receive(struct chardev_front *ops, const uint8_t *data, size_t len)
{
    struct rig_front *front = &rig.front;

    ck_assert_uint_le(len, front->room);
    ck_assert_uint_le(front->len + len, sizeof(front->data));
    memcpy(front->data + front->len, data, len);
    front->len += len;
    front->room -= len;
}

static void front_writable(struct chardev_front *ops)
{
    rig.front.nwritable++;
}

static void front_break(struct chardev_front *ops)
{
    rig.front.nbreaks++;
}

static void on_quit(void *opaque)
{
    rig.front.quit = true;
}

static bool is_hurried(void *opaque)
{
    return rig.front.hurried;
}

static void stop_loop(struct loop_timer *timer)
{
    loop_stop(rig.loop);
}

static void run_for(unsigned ms)
{
    struct loop_timer timer = {.expired = stop_loop};

    loop_arm(rig.loop, &timer, ms * MS);
    ck_assert_int_eq(loop_run(rig.loop), 0);
}

void rig_settle(void)
{
    run_for(2);
}

static bool count_round(void *opaque)
{
    (*(unsigned *)opaque)++;
    return false;
}

unsigned rig_idle_rounds(void)
{
    unsigned rounds = 0;

    rig_settle();
    loop_set_before_sleep(rig.loop, count_round, &rounds);
    run_for(30);
    loop_set_before_sleep(rig.loop, NULL, NULL);
    return rounds;
}

void rig_give_room(size_t room)
{
    rig.front.room = room;
    rig.chardev->ops->accept_input(rig.chardev);
    rig_settle();
}

void rig_print(const char *text)
{
    rig.chardev->ops->write(rig.chardev, (const uint8_t *)text, strlen(text));
}

int rig_try_open(enum serial_kind kind, const char *path, struct err *err)
{
    const struct console_events events = {.quit = on_quit, .is_hurried = is_hurried};
    int r = console_new(kind, path, &rig.files, rig.loop, &events, &rig.console, err);

    if (r < 0)
        return r;
    r = console_start(rig.console, err);
    if (r < 0) {
        rig_close();
    } else {
        rig.chardev = console_chardev(rig.console);
        rig.chardev->ops->set_front(rig.chardev, &rig.front.ops);
    }
    return r;
}

void rig_open(enum serial_kind kind, const char *path)
{
    struct err err = {0};

    ck_assert_msg(rig_try_open(kind, path, &err) == 0, "%s", err.msg);
}

void rig_close(void)
{
    console_close(rig.console);
    rig.console = NULL;
}

void rig_setup(void)
{
    signal(SIGPIPE, SIG_IGN);
    memset(&rig, 0, sizeof(rig));
    rig.front.ops =
        (struct chardev_front){front_can_receive, front_receive, front_writable, front_break};
    rig.front.room = sizeof(rig.front.data);
    ck_assert_int_eq(loop_new(&rig.loop), 0);
    scratch_set_up();
    rig.path = scratch_path("serial");
}

void rig_teardown(void)
{
    rig_close();
    open_files_done(&rig.files);
    loop_free(rig.loop);
    scratch_tear_down();
}

size_t rig_read(int fd, char *buf, size_t len)
{
    ssize_t n = read(fd, buf, len);

    return n < 0 ? 0 : (size_t)n;
}

uint8_t rig_pattern(size_t pos)
{
    return (uint8_t)(pos * 7 + pos / 251);
}

bool rig_print_pattern(size_t *pos, size_t len)
{
    uint8_t data[256];

    if (rig.chardev->ops->is_full(rig.chardev))
        return false;
    for (size_t i = 0; i < len; i++)
        data[i] = rig_pattern(*pos + i);
    rig.chardev->ops->write(rig.chardev, data, len);
    *pos += len;
    return true;
}

void rig_fill(size_t *pos)
{
    do {
        while (rig_print_pattern(pos, 256))
            ;
        rig_settle();
    } while (!rig.chardev->ops->is_full(rig.chardev));
}

void rig_check_pattern(int fd, size_t *pos)
{
    uint8_t data[8192];
    bool same = true;
    size_t n;

    while ((n = rig_read(fd, (char *)data, sizeof(data))) > 0) {
        for (size_t i = 0; i < n; i++)
            same = same && data[i] == rig_pattern(*pos + i);
        ck_assert(same);
        *pos += n;
    }
}
