/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's end of the serial port: what is typed at a terminal, escape keys among it, and what
 * the peers of a unix socket do, while the guest prints and takes input as it likes.
 *
 * Input: bit 0 of the first byte is the kind (terminal, socket); then steps, a byte that says what
 * (bits 0 to 2), to whom (bits 3 and 4) and how much (bits 5 to 7), and for some more bytes.
 */
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/open_files.h"
#include "vmm/console/console.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CTRL_A 0x01
#define PEERS 4u
#define STEPS_MAX 256u

/* What is typed has to fit into a terminal that nobody reads, and guests into memory. */
#define TYPED_MAX 2048u

enum {
    STEP_TYPE,
    STEP_PRINT,
    STEP_ROOM,
    STEP_TURN,
    STEP_CONNECT,
    STEP_READ,
    STEP_SHUT,
    STEP_HANG_UP
};

static struct loop *loop;
static struct console *console;
static struct chardev *chardev;
static struct loop_work stop;

/* The guest: what it got. */
static uint8_t got[TYPED_MAX];
static size_t ngot;
static size_t room;
static unsigned nbreaks;
static unsigned nquits;

/* What was typed at the terminal, and what it comes to: keys for the guest, and for us. */
static uint8_t expected[TYPED_MAX];
static size_t nexpected;
static size_t ntyped;
static unsigned expected_breaks;
static unsigned expected_quits;
static bool escaped;

static int terminal = -1; /* our end of it */
static char folder[] = "/tmp/fuzz-console-XXXXXX";
static struct sockaddr_un addr; /* of the socket in it */
static int peers[PEERS];

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* ---- the guest ------------------------------------------------------------------------------- */

static size_t can_receive(struct chardev_front *front)
{
    return room;
}

static void receive(struct chardev_front *front, const uint8_t *data, size_t len)
{
    must(len > 0 && len <= room && ngot + len <= ntyped);
    memcpy(got + ngot, data, len);
    ngot += len;
    room -= len;
}

static void writable(struct chardev_front *front)
{
}

static void break_received(struct chardev_front *front)
{
    nbreaks++;
}

static struct chardev_front front = {
    .can_receive = can_receive,
    .receive = receive,
    .writable = writable,
    .break_received = break_received,
};

static void quit(void *opaque)
{
    nquits++;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static void stop_loop(struct loop_work *work)
{
    loop_stop(loop);
}

/* A few rounds: what is ready is done in the first, and what comes of it in the next. */
static void turn(unsigned rounds)
{
    for (; rounds > 0; rounds--) {
        loop_post(loop, &stop);
        must(loop_run(loop) == 0);
    }
}

/* ---- the terminal ---------------------------------------------------------------------------- */

/* What a key means, without a look at how it is done. */
static void expect_key(uint8_t key)
{
    if (!escaped) {
        escaped = key == CTRL_A;
        if (!escaped)
            expected[nexpected++] = key;
        return;
    }
    escaped = false;
    if (key == CTRL_A || key == 'a')
        expected[nexpected++] = CTRL_A;
    expected_breaks += key == 'b';
    expected_quits += key == 'x';
}

static void open_terminal(void)
{
    int slave;

    must(openpty(&terminal, &slave, NULL, NULL, NULL) == 0);
    must(dup2(slave, STDIN_FILENO) == STDIN_FILENO);
    must(fcntl(terminal, F_SETFL, O_NONBLOCK) == 0);
    close(slave);
}

static void type(const uint8_t *keys, size_t len)
{
    len = min_u64(len, TYPED_MAX - ntyped);
    must(write(terminal, keys, len) == (ssize_t)len);
    ntyped += len;
    for (size_t i = 0; i < len; i++)
        expect_key(keys[i]);
}

/* A guest that takes everything gets it; the kernel passes it on when it gets round to it. */
static void check_typed(void)
{
    room = TYPED_MAX;
    chardev->ops->accept_input(chardev);
    for (unsigned i = 0;
         i < 100000 && (ngot < nexpected || nbreaks < expected_breaks || nquits < expected_quits);
         i++)
        turn(1);
    must(ngot == nexpected && memcmp(got, expected, ngot) == 0);
    must(nbreaks == expected_breaks && nquits == expected_quits);
}

/* ---- the socket ------------------------------------------------------------------------------ */

static void hang_up(unsigned peer)
{
    if (peers[peer] >= 0)
        close(peers[peer]);
    peers[peer] = -1;
}

/* Who does not get through at once goes away. */
static void dial(unsigned peer)
{
    hang_up(peer);
    peers[peer] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    must(peers[peer] >= 0);
    if (connect(peers[peer], (const struct sockaddr *)&addr, sizeof(addr)) < 0)
        hang_up(peer);
}

static void send_to_guest(unsigned peer, const uint8_t *data, size_t len)
{
    len = min_u64(len, TYPED_MAX - ntyped);
    if (peers[peer] < 0)
        return;
    if (send(peers[peer], data, len, MSG_NOSIGNAL) > 0)
        ntyped += len;
}

static void read_output(unsigned peer, size_t len)
{
    char buf[4096];

    if (peers[peer] >= 0 && recv(peers[peer], buf, min_u64(len, sizeof(buf)), 0) == 0)
        hang_up(peer);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void print(size_t len)
{
    static const uint8_t text[4096] = "output";

    if (!chardev->ops->is_full(chardev))
        chardev->ops->write(chardev, text, min_u64(len, sizeof(text)));
}

/* How many bytes after the step belong to it. */
static size_t take_step(bool is_terminal, uint8_t step, const uint8_t *data, size_t size)
{
    unsigned peer = step >> 3 & 3;
    size_t amount = step >> 5;
    size_t len = min_u64(amount + 1, size);

    switch (step & 7) {
    case STEP_TYPE:
        if (is_terminal)
            type(data, len);
        else
            send_to_guest(peer, data, len);
        return len;
    case STEP_PRINT:
        print((size_t)16 << amount);
        break;
    case STEP_ROOM:
        room += amount * 4;
        chardev->ops->accept_input(chardev);
        break;
    case STEP_TURN:
        turn((unsigned)amount);
        break;
    case STEP_CONNECT:
        if (!is_terminal)
            dial(peer);
        break;
    case STEP_READ:
        read_output(peer, (size_t)16 << amount);
        break;
    case STEP_SHUT:
        if (peers[peer] >= 0)
            (void)shutdown(peers[peer], amount % 2 ? SHUT_WR : SHUT_RD); /* it may be gone */
        break;
    default:
        hang_up(peer);
        break;
    }
    return 0;
}

static void take_steps(bool is_terminal, const uint8_t *data, size_t size)
{
    for (unsigned i = 0; i < STEPS_MAX && size > 0; i++) {
        size_t len = 1 + take_step(is_terminal, data[0], data + 1, size - 1);

        data += len;
        size -= len;
    }
}

/* ---- a run ----------------------------------------------------------------------------------- */

/* What the guest prints goes nowhere, for fuzzers write to standard output, too. */
static int silence(void)
{
    int saved = dup(STDOUT_FILENO);
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

    must(saved >= 0 && fd >= 0 && dup2(fd, STDOUT_FILENO) == STDOUT_FILENO);
    close(fd);
    return saved;
}

static void speak(int saved)
{
    must(dup2(saved, STDOUT_FILENO) == STDOUT_FILENO);
    close(saved);
}

static void remove_folder(void)
{
    (void)rmdir(folder); /* at worst it stays */
}

static void make_world(void)
{
    log_set_level(LOG_ERROR);
    (void)signal(SIGPIPE, SIG_IGN);
    must(loop_new(&loop) == 0);
    stop.run = stop_loop;
    must(mkdtemp(folder) != NULL && atexit(remove_folder) == 0);
    addr.sun_family = AF_UNIX;
    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/socket", folder);
}

static void forget(void)
{
    ngot = room = nbreaks = nquits = 0;
    nexpected = ntyped = expected_breaks = expected_quits = 0;
    escaped = false;
    for (unsigned i = 0; i < PEERS; i++)
        peers[i] = -1;
}

static void run(bool is_terminal, const uint8_t *data, size_t size)
{
    struct open_files files = {0};
    const struct console_options options = {
        .name = "serial port",
        .kind = is_terminal ? SERIAL_STDIO : SERIAL_UNIX,
        .path = addr.sun_path,
        .files = &files,
        .loop = loop,
        .events = {.quit = quit},
    };
    struct err err;

    if (is_terminal)
        open_terminal();
    must(console_new(&options, &console, &err) == 0);
    must(console_start(console, &err) == 0);
    chardev = console_chardev(console);
    chardev->ops->set_front(chardev, &front);
    take_steps(is_terminal, data, size);
    if (is_terminal)
        check_typed();
    for (unsigned i = 0; i < PEERS; i++)
        hang_up(i);
    turn(4); /* nobody is waited for at the end */
    console_close(console);
    if (is_terminal)
        close(terminal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int saved;

    if (size == 0)
        return 0;
    if (!loop)
        make_world();
    forget();
    saved = silence();
    run(!(data[0] & 1), data + 1, size - 1);
    speak(saved);
    return 0;
}
