/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A gdb session on any bytes, beside a machine made of arrays. A byte 0xff in the input lets the
 * machine stop, if it runs; what comes with it, the reason. Each packet between gets its checksum.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/vmm/gdb/fake_target.h"
#include "vmm/gdb/packet.h"
#include "vmm/gdb/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STOPS 0xffu

static bool over;

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void on_send(struct gdb_session_user *user, const char *bytes, size_t len)
{
    must(len > 0 && len <= GDB_PACKET_MAX + 4);
    must(bytes[0] == '$' || len == 1);
    must(len == 1 || (len >= 4 && bytes[len - 3] == '#'));
}

static void on_listen(struct gdb_session_user *user, bool listen)
{
}

static void on_over(struct gdb_session_user *user)
{
    must(!over);
    over = true;
}

static void stop(struct gdb_session *session, uint8_t how)
{
    const struct gdb_stop reason = {
        .kind = (enum gdb_stop_kind)(how % (GDB_STOP_WATCHED + 1)),
        .cpu = how / 8 % FAKE_NCPUS,
        .watch = how / 32 % GDB_HARDWARE_MAX,
    };

    gdb_session_stopped(session, &reason);
}

/* A line of the input is a packet; anything else is sent as it is, too. */
static void send_packet(struct gdb_session *session, const char *bytes, size_t len)
{
    char sum[4];
    uint8_t total = 0;

    for (size_t i = 0; i < len; i++)
        total = (uint8_t)(total + (uint8_t)bytes[i]);
    snprintf(sum, sizeof(sum), "#%02x", total);
    gdb_session_input(session, "$", 1);
    gdb_session_input(session, bytes, len);
    gdb_session_input(session, sum, 3);
}

static void play(struct gdb_session *session, const char *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        const char *end = memchr(data + at, '\n', size - at);
        size_t len = end ? (size_t)(end - data) - at : size - at;

        if (len >= 1 && (uint8_t)data[at] == STOPS)
            stop(session, len > 1 ? (uint8_t)data[at + 1] : 0);
        else if (len >= 1 && (data[at] == '$' || data[at] == '\003' || data[at] == '-'))
            gdb_session_input(session, data + at, len);
        else
            send_packet(session, data + at, len);
        at += len + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fake_target fake;
    struct gdb_session_user user = {.send = on_send, .listen = on_listen, .over = on_over};
    struct gdb_session *session;

    over = false;
    fake_target_init(&fake);
    must(gdb_session_new(&fake.target, &user, &session) == 0);
    stop(session, 0);
    play(session, (const char *)data, size);
    gdb_session_hang_up(session);
    stop(session, 0);
    must(over);
    gdb_session_free(session);
    return 0;
}
