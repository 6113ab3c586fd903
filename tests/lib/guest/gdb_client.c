/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/guest/gdb_client.h"

#include <check.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/lib/guest/vm.h"

/* Two words: the guest says that it is there, and waits until it may go on. */
#define MEETING_THERE (GUEST_DATA_END - 16)
#define MEETING_GO (GUEST_DATA_END - 8)

/* From there to the code, by the guest's interpreter. */
#define MEETING_STEPS_MAX 100u

int gdb_client_connect(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_uint_lt(strlen(path), sizeof(addr.sun_path));
    memcpy(addr.sun_path, path, strlen(path) + 1);
    for (unsigned i = 0; connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0; i++) {
        ck_assert_msg(i < VM_TIMEOUT_S * 100, "nobody listens on %s", path);
        usleep(10000);
    }
    return fd;
}

void gdb_client_open(struct gdb_client *client, const char *path)
{
    client->fd = gdb_client_connect(path);
    client->len = 0;
    gdb_client_expect(client, "QStartNoAckMode", "OK");
    (void)gdb_client_ask(client, "qSupported:swbreak+;hwbreak+");
}

void gdb_client_close(struct gdb_client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
}

void gdb_client_send(struct gdb_client *client, const char *packet)
{
    char frame[GDB_CLIENT_MAX];
    uint8_t sum = 0;
    int len;

    for (const char *c = packet; *c; c++)
        sum = (uint8_t)(sum + (uint8_t)*c);
    len = snprintf(frame, sizeof(frame), "$%s#%02x", packet, sum);
    ck_assert(len > 0 && (size_t)len < sizeof(frame));
    (void)!send(client->fd, frame, (size_t)len, MSG_NOSIGNAL); /* an end is noticed by who reads */
}

/* False: the connection ended. */
static bool read_more(struct gdb_client *client)
{
    struct pollfd poll_fd = {.fd = client->fd, .events = POLLIN};
    ssize_t n;

    ck_assert_uint_lt(client->len, sizeof(client->data) - 1);
    ck_assert_msg(poll(&poll_fd, 1, VM_TIMEOUT_S * 1000) == 1, "no answer");
    n = recv(client->fd, client->data + client->len, sizeof(client->data) - 1 - client->len, 0);
    if (n <= 0)
        return false;
    client->len += (size_t)n;
    client->data[client->len] = '\0';
    return true;
}

const char *gdb_client_receive(struct gdb_client *client)
{
    const char *begin, *end;
    size_t used;

    client->data[client->len] = '\0';
    for (;;) {
        begin = strchr(client->data, '$');
        end = begin ? strchr(begin, '#') : NULL;
        if (end && client->data + client->len - end > 2)
            break;
        if (!read_more(client))
            return NULL;
    }
    memcpy(client->answer, begin + 1, (size_t)(end - begin - 1));
    client->answer[end - begin - 1] = '\0';
    used = (size_t)(end + 3 - client->data);
    client->len -= used;
    memmove(client->data, client->data + used, client->len);
    return client->answer;
}

const char *gdb_client_ask(struct gdb_client *client, const char *packet)
{
    const char *answer;

    gdb_client_send(client, packet);
    answer = gdb_client_receive(client);
    ck_assert_msg(answer != NULL, "%s: the connection ended", packet);
    return answer;
}

void gdb_client_expect(struct gdb_client *client, const char *packet, const char *answer)
{
    const char *got = gdb_client_ask(client, packet);

    ck_assert_msg(strcmp(got, answer) == 0, "%s: '%s', expected '%s'", packet, got, answer);
}

void gdb_client_interrupt(struct gdb_client *client)
{
    ck_assert_int_eq(send(client->fd, "\003", 1, MSG_NOSIGNAL), 1);
}

bool gdb_client_wait(struct gdb_client *client, unsigned timeout_ms)
{
    struct pollfd poll_fd = {.fd = client->fd, .events = POLLIN};

    return client->len > 0 || poll(&poll_fd, 1, (int)timeout_ms) == 1;
}

void gdb_client_meet(struct guest *guest)
{
    guest_op(guest, GUEST_ST64, MEETING_THERE, 1, 0);
    guest_op(guest, GUEST_WAIT16, MEETING_GO, 1, 0);
}

void gdb_client_reach(struct gdb_client *client, uint64_t code)
{
    useconds_t moment_us = 1000;
    char packet[64];

    /* Longer each time: a busy machine may not run the guest at all for a while. */
    do {
        gdb_client_send(client, "vCont;c");
        usleep(moment_us);
        moment_us *= moment_us < 200000 ? 2 : 1;
        gdb_client_interrupt(client);
        ck_assert_str_eq(gdb_client_receive(client), "T02thread:1;");
    } while (gdb_client_memory(client, MEETING_THERE) != 1);
    snprintf(packet, sizeof(packet), "M%x,2:0100", MEETING_GO);
    gdb_client_expect(client, packet, "OK");
    for (unsigned i = 0; gdb_client_register(client, GDB_CLIENT_RIP) != code; i++) {
        ck_assert_uint_lt(i, MEETING_STEPS_MAX);
        gdb_client_expect(client, "vCont;s:1", "T05thread:1;");
    }
}

bool gdb_client_supports(struct gdb_client *client, unsigned type)
{
    char packet[64];

    snprintf(packet, sizeof(packet), "Z%u,%x,1", type, MEETING_THERE);
    if (strcmp(gdb_client_ask(client, packet), "OK") != 0) {
        printf("this host's KVM does not stop for Z%u: not tested\n", type);
        return false;
    }
    packet[0] = 'z';
    gdb_client_expect(client, packet, "OK");
    return true;
}

static uint64_t parse_le64(const char *hex)
{
    uint64_t value;

    ck_assert_msg(sscanf(hex, "%16" SCNx64, &value) == 1 && strlen(hex) == 16, "'%s'", hex);
    return __builtin_bswap64(value);
}

uint64_t gdb_client_register(struct gdb_client *client, unsigned number)
{
    char packet[32];

    snprintf(packet, sizeof(packet), "p%x", number);
    return parse_le64(gdb_client_ask(client, packet));
}

uint64_t gdb_client_memory(struct gdb_client *client, uint64_t address)
{
    char packet[32];

    snprintf(packet, sizeof(packet), "m%" PRIx64 ",8", address);
    return parse_le64(gdb_client_ask(client, packet));
}
