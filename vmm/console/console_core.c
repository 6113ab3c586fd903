/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/console/console_core.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"

/* Read at once: more than a UART takes, less than what would keep the loop from other things. */
/* Small enough for the page of the main thread's stack that an idle VM keeps anyway. */
#define INPUT_CHUNK 1024u

/* Where the end of a line is looked for. */
#define SHOWN_LINE_MAX 512u

static struct console *console_of(struct chardev *chardev)
{
    return container_of(chardev, struct console, chardev);
}

/* ---- output: from any thread ----------------------------------------------------------------- */

/* Holding the lock: drop the oldest output that nobody has begun to read, down to `max` bytes. */
static void trim_queued(struct console *console, size_t max)
{
    size_t excess = console->queued.len > max ? console->queued.len - max : 0;

    byte_queue_consume(&console->queued, excess);
    console->nunsent -= excess;
}

/* Holding the lock. */
static void enqueue(struct console *console, const uint8_t *data, size_t len)
{
    size_t in_flight = console->nunsent - console->queued.len;
    size_t max = CONSOLE_BUFFER_MAX - in_flight;
    size_t taken;

    if (!console->connected) {
        /* Of a long piece only the end can stay. */
        size_t skip = len > console->backlog_max ? len - console->backlog_max : 0;

        data += skip;
        len -= skip;
        trim_queued(console, console->backlog_max - len);
    }
    taken = byte_queue_append(&console->queued, data, len, max);
    console->nunsent += taken;
    console->nlost += len - taken;
    if (console->connected && console->nunsent > CONSOLE_BUFFER_FULL)
        atomic_store(&console->full, true);
}

static void chardev_write(struct chardev *chardev, const uint8_t *data, size_t len)
{
    struct console *console = console_of(chardev);
    bool connected;

    pthread_mutex_lock(&console->lock);
    enqueue(console, data, len);
    connected = console->connected;
    pthread_mutex_unlock(&console->lock);
    if (connected)
        loop_post(console->loop, &console->output_work);
}

static bool chardev_is_full(struct chardev *chardev)
{
    return atomic_load(&console_of(chardev)->full);
}

/* ---- output: main thread --------------------------------------------------------------------- */

/* Let the UART know that it may go on. */
static void not_full(struct console *console)
{
    if (atomic_exchange(&console->full, false) && console->front)
        console->front->writable(console->front);
}

/*
 * Keep the first `len` bytes of `sending` as shown. What is kept begins with a line, as far as the
 * output has any: the rest of a line may be the rest of an escape sequence.
 */
static void keep_shown(struct console *console, size_t len)
{
    struct byte_queue *shown = &console->shown;
    const uint8_t *data = byte_queue_front(&console->sending);
    size_t kept = min_u64(len, console->shown_max);
    const uint8_t *end;

    if (shown->len + kept > console->shown_max) {
        byte_queue_consume(shown, shown->len + kept - console->shown_max);
        end = memchr(byte_queue_front(shown), '\n', min_u64(shown->len, SHOWN_LINE_MAX));
        if (end)
            byte_queue_consume(shown, (size_t)(end - byte_queue_front(shown)) + 1);
    }
    (void)byte_queue_append(shown, data + (len - kept), kept, console->shown_max);
}

/* Account for bytes of `sending` that are gone. */
static void sent(struct console *console, size_t len)
{
    bool room;

    keep_shown(console, len);
    byte_queue_consume(&console->sending, len);
    pthread_mutex_lock(&console->lock);
    console->nunsent -= len;
    room = console->nunsent <= CONSOLE_BUFFER_FULL / 2;
    pthread_mutex_unlock(&console->lock);
    if (room)
        not_full(console);
}

/* Take what was queued since, and tell about what was lost. False: there is nothing to send. */
static bool take_queued(struct console *console)
{
    struct byte_queue empty = console->sending;
    size_t nlost;

    pthread_mutex_lock(&console->lock);
    console->sending = console->queued;
    console->queued = empty;
    nlost = console->nlost;
    console->nlost = 0;
    pthread_mutex_unlock(&console->lock);

    if (nlost > 0)
        log_guest(LOG_WARN, "%s: %zu bytes lost: the guest does not wait for the reader",
                  console->name, nlost);
    return console->sending.len > 0;
}

/* Wait for the reader, by epoll, or no longer. */
static void watch_output(struct console *console, bool blocked)
{
    int r = 0;

    if (!blocked)
        loop_remove_fd(&console->output);
    else if (!console->output.loop)
        r = loop_add_fd(console->loop, &console->output);
    if (r < 0)
        console->ops->output_failed(console, -r);
}

/*
 * Write what is there now. What comes meanwhile waits for the next round of the loop: a guest that
 * prints without end must not keep it from other work.
 */
static void flush(struct console *console)
{
    if (console->output.fd < 0 || (console->sending.len == 0 && !take_queued(console)))
        return;
    while (console->sending.len > 0) {
        ssize_t n =
            write(console->output.fd, byte_queue_front(&console->sending), console->sending.len);

        if (n >= 0) {
            sent(console, (size_t)n);
        } else if (errno == EAGAIN) {
            watch_output(console, true);
            return;
        } else if (errno != EINTR) {
            console->ops->output_failed(console, errno);
            return;
        }
    }
    watch_output(console, false);
}

static void on_output_work(struct loop_work *work)
{
    struct console *console = container_of(work, struct console, output_work);
    bool begins = console->sending.len > 0; /* with what was shown before */

    /* While the reader blocks, epoll tells when to go on. */
    if (console->output.loop)
        return;
    flush(console);
    if (begins)
        loop_post(console->loop, &console->output_work);
}

static void on_output_ready(struct loop_fd *watch, uint32_t events)
{
    struct console *console = container_of(watch, struct console, output);

    flush(console);
    loop_post(console->loop, &console->output_work); /* for what was queued while it blocked */
}

void console_print(struct console *console, const char *text)
{
    chardev_write(&console->chardev, (const uint8_t *)text, strlen(text));
}

/* ---- input ----------------------------------------------------------------------------------- */

/*
 * Room in the front end. Without any, accept_input is to wake us; so look once more after having
 * said that, lest the guest made room in between.
 */
static size_t front_room(struct console *console)
{
    size_t room;

    if (!console->front)
        return 0;
    atomic_store(&console->front_starved, false);
    room = console->front->can_receive(console->front);
    if (room > 0)
        return room;
    atomic_store(&console->front_starved, true);
    return console->front->can_receive(console->front);
}

/* Hand over what the guest has room for. True: it could take more. */
static bool deliver(struct console *console)
{
    size_t room;

    while ((room = front_room(console)) > 0) {
        size_t len = min_u64(room, console->received.len);

        if (len == 0)
            return true;
        console->front->receive(console->front, byte_queue_front(&console->received), len);
        byte_queue_consume(&console->received, len);
    }
    return false;
}

/* Read a piece. False: that was all, for now or for ever. */
static bool read_input(struct console *console)
{
    uint8_t data[INPUT_CHUNK];
    ssize_t n = read(console->input.fd, data, sizeof(data));
    size_t len;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        console->ops->input_ended(console);
        return false;
    }
    len = console->ops->filter ? console->ops->filter(console, data, (size_t)n) : (size_t)n;
    /* Beyond the limit, typing ahead is lost, as on any terminal. */
    (void)byte_queue_append(&console->received, data, len, CONSOLE_INPUT_MAX);
    return true;
}

/* Watch for more input if somebody can take it, else for a hang-up only. */
static void watch_input(struct console *console)
{
    bool wanted = !console->input_eof && (console->input_always || console->received.len == 0);
    int r;

    if (console->input.fd < 0 || console->input_unwatchable)
        return;
    if (console->input.loop) {
        r = loop_set_events(&console->input, wanted ? EPOLLIN : 0);
    } else {
        if (!wanted)
            return;
        console->input.events = EPOLLIN;
        r = loop_add_fd(console->loop, &console->input);
    }
    if (r == -EPERM)
        console->input_unwatchable = true;
    else if (r < 0)
        console->ops->input_ended(console);
}

static void on_input_ready(struct loop_fd *watch, uint32_t events)
{
    struct console *console = container_of(watch, struct console, input);

    if (watch->events == 0) {
        console->ops->hung_up(console);
        return;
    }
    if (read_input(console))
        deliver(console);
    watch_input(console);
}

/* The guest may take more, or a file is to be read, which epoll does not report. */
static void on_input_work(struct loop_work *work)
{
    struct console *console = container_of(work, struct console, input_work);
    bool room = deliver(console);

    watch_input(console);
    if (room && console->input.fd >= 0 && console->input_unwatchable && read_input(console))
        loop_post(console->loop, &console->input_work);
}

static void chardev_accept_input(struct chardev *chardev)
{
    struct console *console = console_of(chardev);

    if (atomic_load(&console->front_starved))
        loop_post(console->loop, &console->input_work);
}

void console_suspend_input(struct console *console)
{
    loop_remove_fd(&console->input);
}

void console_end_input(struct console *console)
{
    loop_remove_fd(&console->input);
    console->input.fd = -1;
}

/* ---- the size of the terminal ---------------------------------------------------------------- */

static struct chardev_size chardev_get_size(struct chardev *chardev)
{
    unsigned size = atomic_load(&console_of(chardev)->size);

    return (struct chardev_size){.columns = (uint16_t)(size >> 16), .rows = (uint16_t)size};
}

void console_look_at_size(struct console *console, int fd)
{
    struct winsize found;
    unsigned size;

    if (!console->is_sized || ioctl(fd, TIOCGWINSZ, &found) < 0)
        return;
    size = (unsigned)found.ws_col << 16 | found.ws_row;
    if (atomic_exchange(&console->size, size) != size && console->front && console->front->resized)
        console->front->resized(console->front);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void chardev_set_front(struct chardev *chardev, struct chardev_front *front)
{
    struct console *console = console_of(chardev);

    console->front = front;
    if (front)
        loop_post(console->loop, &console->input_work);
}

static const struct chardev_ops console_chardev_ops = {
    .write = chardev_write,
    .is_full = chardev_is_full,
    .accept_input = chardev_accept_input,
    .get_size = chardev_get_size,
    .set_front = chardev_set_front,
};

void console_init(struct console *console, const struct console_ops *ops, struct loop *loop)
{
    *console = (struct console){
        .chardev.ops = &console_chardev_ops,
        .ops = ops,
        .loop = loop,
        .input = {.fd = -1, .ready = on_input_ready},
        .input_work.run = on_input_work,
        .output = {.fd = -1, .events = EPOLLOUT, .ready = on_output_ready},
        .output_work.run = on_output_work,
    };
    pthread_mutex_init(&console->lock, NULL);
}

void console_done(struct console *console)
{
    loop_cancel(console->loop, &console->input_work);
    loop_cancel(console->loop, &console->output_work);
    byte_queue_done(&console->received);
    byte_queue_done(&console->sending);
    byte_queue_done(&console->shown);
    byte_queue_done(&console->queued);
    pthread_mutex_destroy(&console->lock);
}

void console_connect(struct console *console, int in_fd, int out_fd)
{
    console->input.fd = in_fd;
    console->input_eof = false;
    console->input_unwatchable = false;
    console->output.fd = out_fd;
    if (console->repeats) {
        console->sending = console->shown; /* it was empty */
        console->shown = (struct byte_queue){0};
    }

    pthread_mutex_lock(&console->lock);
    console->nunsent += console->sending.len;
    console->connected = out_fd >= 0;
    pthread_mutex_unlock(&console->lock);
    loop_post(console->loop, &console->output_work);
    loop_post(console->loop, &console->input_work);
}

void console_disconnect(struct console *console)
{
    console_end_input(console);
    loop_remove_fd(&console->output);
    console->output.fd = -1;
    keep_shown(console, console->sending.len);

    pthread_mutex_lock(&console->lock);
    console->connected = false;
    console->nunsent -= console->sending.len;
    trim_queued(console, console->backlog_max);
    pthread_mutex_unlock(&console->lock);
    byte_queue_consume(&console->sending, console->sending.len);
    not_full(console);
}

/* A reader that takes a little now and then could do so for hours. */
void console_drain(struct console *console)
{
    uint64_t begin_ns = monotonic_ns();

    flush(console);
    while (console->output.fd >= 0 && console->nunsent > 0) {
        struct pollfd pfd = {.fd = console->output.fd, .events = POLLOUT};
        bool late = monotonic_ns() - begin_ns >= CONSOLE_CLOSE_STALL_MS * NS_PER_MS;
        bool too_slow = late && console_is_hurried(&console->events);
        int n = too_slow ? 0 : poll(&pfd, 1, CONSOLE_CLOSE_STALL_MS);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            log_warn("%s: %zu bytes not written: %s", console->name, console->nunsent,
                     too_slow ? "the reader is slow" : "nobody reads");
            console->stalled = true;
            return;
        }
        flush(console);
    }
}
