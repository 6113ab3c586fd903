/* SPDX-License-Identifier: Apache-2.0 */
/*
 * With the host's own passt, in a network namespace of each test's own. The test is the guest, with
 * as much of TCP as it takes to see that what we promise drivers about passt is so.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "net/passt.h"
#include "tests/lib/net/card.h"
#include "tests/lib/net/netns.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define GUEST_IP 0x0a090002u /* 10.9.0.2, which is the host's own: passt has the guest share it */
#define GATEWAY_IP 0x0a090001u
#define GUEST_PORT 40000u
#define WINDOW_SHIFT 7
#define MSS 65480u

#define IP_AT 14u
#define TCP_AT (IP_AT + 20)
#define SYN 0x02u
#define RST 0x04u
#define PSH 0x08u
#define ACK 0x10u

static struct card card;
static struct net *net;
static struct err err;
static const uint8_t guest_mac[] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
static uint8_t gateway_mac[6];

/* What came. */
static unsigned nsyns, nsynacks, nresets, narp, nbad_sums, ndropped;
static uint32_t largest;
static uint16_t syn_port;
static uint8_t data[4 << 20];
static uint32_t ndata;
static uint32_t seq, acked; /* of our side: the next to send; of theirs: the next we expect */
static uint32_t to_ip;      /* whom the guest talks to */

/* ---- the guest ------------------------------------------------------------------------------- */

static uint32_t add(uint32_t sum, const uint8_t *at, uint32_t len)
{
    for (uint32_t i = 0; i + 1 < len; i += 2)
        sum += load_be16(at + i);
    if (len % 2)
        sum += (uint32_t)at[len - 1] << 8;
    return sum;
}

static uint16_t fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static void look_at_tcp(const uint8_t *frame, uint32_t len)
{
    const uint32_t tcp_len = load_be16(frame + IP_AT + 2) - 20u;
    const uint32_t header_len = (frame[TCP_AT + 12] >> 4) * 4u;
    const unsigned flags = frame[TCP_AT + 13];
    const uint32_t their_seq = load_be32(frame + TCP_AT + 4);

    ck_assert_uint_le(TCP_AT + tcp_len, len);
    nbad_sums += fold(add(0, frame + IP_AT, 20)) != 0xffff;
    nbad_sums += fold(add(IPPROTO_TCP + tcp_len + add(0, frame + IP_AT + 12, 8), frame + TCP_AT,
                          tcp_len)) != 0xffff;
    if (flags & SYN) {
        acked = their_seq + 1;
        syn_port = load_be16(frame + TCP_AT + 2);
        nsyns += !(flags & ACK);
        nsynacks += !!(flags & ACK);
    }
    nresets += !!(flags & RST);
    if (flags & SYN || tcp_len == header_len || their_seq != acked)
        return;
    ck_assert_uint_le(ndata + tcp_len - header_len, sizeof(data));
    memcpy(data + ndata, frame + TCP_AT + header_len, tcp_len - header_len);
    ndata += tcp_len - header_len;
    acked += tcp_len - header_len;
    largest = len > largest ? len : largest;
}

static void look(struct card *who)
{
    const uint8_t *frame = who->last;
    unsigned type = load_be16(frame + 12);

    if (type == 0x0806 && load_be16(frame + 20) == 2) {
        memcpy(gateway_mac, frame + 22, sizeof(gateway_mac));
        narp++;
    } else if (type == 0x0800 && frame[IP_AT + 9] == IPPROTO_TCP) {
        look_at_tcp(frame, who->last_len);
    }
}

static void send_bytes(const uint8_t *frame, uint32_t len)
{
    static struct virtio_net_hdr_v1 header;
    const struct iovec iov[] = {{&header, NET_HDR_LEN}, {(void *)frame, len}};
    struct net_frame one = {.iov = iov, .niov = 2, .len = len};

    ck_assert_uint_eq(net->ops->send(net, &one, 1), 1);
    ndropped += one.dropped;
}

static void resolve_gateway(void)
{
    uint8_t frame[42] = {[12] = 8, 6, 0, 1, 8, 0, 6, 4, 0, 1};

    memset(frame, 0xff, 6);
    memcpy(frame + 6, guest_mac, 6);
    memcpy(frame + 22, guest_mac, 6);
    store_be32(frame + 28, GUEST_IP);
    store_be32(frame + 38, GATEWAY_IP);
    send_bytes(frame, sizeof(frame));
    card_wait(&card, &narp, 1);
}

/* IP in an Ethernet frame, with a checksum; what is in it has none, or a wrong one. */
static void put_ip(uint8_t *frame, unsigned protocol, uint32_t len)
{
    uint8_t *ip = frame + IP_AT;

    memcpy(frame, gateway_mac, 6);
    memcpy(frame + 6, guest_mac, 6);
    store_be16(frame + 12, 0x0800);
    ip[0] = 0x45;
    store_be16(ip + 2, (uint16_t)(20 + len));
    ip[8] = 64;
    ip[9] = (uint8_t)protocol;
    store_be32(ip + 12, GUEST_IP);
    store_be32(ip + 16, to_ip);
    store_be16(ip + 10, (uint16_t)~fold(add(0, ip, 20)));
}

static void send_tcp(uint16_t to, unsigned flags, const uint8_t *payload, uint32_t len)
{
    static uint8_t frame[NET_FRAME_MAX];
    const uint32_t header_len = flags & SYN ? 28 : 20;
    uint8_t *tcp = frame + TCP_AT;

    memset(frame, 0, TCP_AT + header_len);
    put_ip(frame, IPPROTO_TCP, header_len + len);
    store_be16(tcp, GUEST_PORT);
    store_be16(tcp + 2, to);
    store_be32(tcp + 4, seq);
    store_be32(tcp + 8, flags & ACK ? acked : 0);
    tcp[12] = (uint8_t)(header_len / 4 << 4);
    tcp[13] = (uint8_t)flags;
    store_be16(tcp + 14, 0xffff);
    store_be16(tcp + 16, 0xbeef); /* no checksum of anything */
    if (flags & SYN) {
        memcpy(tcp + 20, (uint8_t[]){2, 4, MSS >> 8, MSS & 0xff, 1, 3, 3, WINDOW_SHIFT}, 8);
        seq++;
    }
    if (len)
        memcpy(tcp + header_len, payload, len);
    seq += len;
    send_bytes(frame, TCP_AT + header_len + len);
}

/* ---- the host -------------------------------------------------------------------------------- */

static int listen_on_loopback(uint16_t *ret_port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    *ret_port = ntohs(addr.sin_port);
    return fd;
}

static void start(const struct passt_options *options)
{
    ck_assert_int_eq(passt_options_check(options, &err), 0);
    ck_assert_msg(passt_open(options, &net, &err) == 0, "%s", err.msg);
    ck_assert_msg(net->ops->wait_ready(net, &err) == 0, "%s", err.msg);
    card.look = look;
    card_attach(&card, net);
    resolve_gateway();
}

static void set_up(void)
{
    scratch_set_up();
    memset(&err, 0, sizeof(err));
    net = NULL;
    netns_enter();
    card_init(&card);
    nsyns = nsynacks = nresets = narp = nbad_sums = ndropped = 0;
    seq = 1000;
    to_ip = GATEWAY_IP;
}

static void add_route(void)
{
    scratch_ok("ip link add v0 type veth peer name v1 && ip addr add 10.9.0.2/24 dev v0 && "
               "ip link set v0 up && ip link set v1 up && ip route add default via 10.9.0.1");
}

static void tear_down(void)
{
    card_done(&card);
    if (net)
        net->ops->close(net);
    scratch_tear_down();
}

static const char *const dns[] = {"192.0.2.53"};
static const struct passt_options open_options = {.card = "eth0", .dns = dns, .ndns = 1};
static const struct passt_options isolated = {
    .card = "eth0", .dns = dns, .ndns = 1, .isolate = true};

/* A connection from the guest to the host's loopback, which is at the gateway's address. */
static int connect_to_host(uint16_t *ret_port)
{
    int listener = listen_on_loopback(ret_port);
    int fd;

    send_tcp(*ret_port, SYN, NULL, 0);
    card_wait(&card, &nsynacks, 1);
    send_tcp(*ret_port, ACK, NULL, 0);
    fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    ck_assert_int_ge(fd, 0);
    close(listener);
    return fd;
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* CSUM and HOST_TSO4: a segment larger than any MTU, whose checksum is missing, arrives. */
START_TEST(large_segments_without_checksums_reach_the_host)
{
    static uint8_t payload[60000];
    static uint8_t got[60000];
    uint16_t port;
    size_t len = 0;
    int fd;

    add_route();
    start(&open_options);
    fd = connect_to_host(&port);
    card_fill(payload, sizeof(payload));
    send_tcp(port, ACK | PSH, payload, sizeof(payload));
    while (len < sizeof(got)) {
        struct pollfd poller = {.fd = fd, .events = POLLIN};
        ssize_t n;

        ck_assert_int_eq(poll(&poller, 1, 20000), 1);
        n = recv(fd, got + len, sizeof(got) - len, 0);
        ck_assert_int_gt(n, 0);
        len += (size_t)n;
    }
    ck_assert(card_is_filled(got, sizeof(got)));
    close(fd);
}
END_TEST

/* GUEST_CSUM: what comes has good checksums. And it is large, so that few frames are needed. */
START_TEST(large_frames_with_good_checksums_reach_the_guest)
{
    static uint8_t payload[2 << 20];
    uint16_t port;
    size_t sent = 0;
    int fd;

    add_route();
    start(&open_options);
    fd = connect_to_host(&port);
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)(i * 31 + i / 4093);
    while (ndata < sizeof(payload)) {
        uint32_t before = ndata;
        ssize_t n = send(fd, payload + sent, sizeof(payload) - sent, 0);

        sent += n > 0 ? (size_t)n : 0;
        card_turn(&card, 1);
        if (ndata != before)
            send_tcp(port, ACK, NULL, 0);
    }
    ck_assert_mem_eq(data, payload, sizeof(payload));
    ck_assert_uint_eq(nbad_sums, 0);
    ck_assert_uint_gt(largest, 60000);
    close(fd);
}
END_TEST

START_TEST(datagrams_without_checksums_reach_the_host)
{
    uint8_t frame[TCP_AT + 8 + 10] = {0};
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    uint8_t got[64];

    add_route();
    start(&open_options);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    put_ip(frame, IPPROTO_UDP, 18);
    store_be16(frame + TCP_AT, GUEST_PORT);
    store_be16(frame + TCP_AT + 2, ntohs(addr.sin_port));
    store_be16(frame + TCP_AT + 4, 18);
    store_be16(frame + TCP_AT + 6, 0xbeef);
    card_fill(frame + TCP_AT + 8, 10);
    send_bytes(frame, sizeof(frame));
    ck_assert_int_eq(poll(&poller, 1, 20000), 1);
    ck_assert_int_eq(recv(fd, got, sizeof(got), 0), 10);
    ck_assert(card_is_filled(got, 10));
}
END_TEST

START_TEST(an_isolated_guest_does_not_reach_the_hosts_loopback)
{
    uint16_t port;
    int listener = listen_on_loopback(&port);

    add_route();
    start(&isolated);
    send_tcp(port, SYN, NULL, 0);
    card_turn(&card, 500);
    ck_assert_uint_eq(nsynacks, 0);
    ck_assert_int_eq(accept4(listener, NULL, NULL, SOCK_NONBLOCK), -1);
    ck_assert_int_eq(errno, EAGAIN);
}
END_TEST

/* Nor by its own address, which Debian 12's version leads there, nor by the one that means it. */
START_TEST(an_isolated_guest_does_not_name_the_hosts_loopback)
{
    static const uint32_t addrs[] = {INADDR_LOOPBACK, INADDR_ANY};
    uint16_t port;
    int listener = listen_on_loopback(&port);

    add_route();
    start(&isolated);
    for (unsigned i = 0; i < ARRAY_SIZE(addrs); i++) {
        to_ip = addrs[i];
        send_tcp(port, SYN, NULL, 0);
        card_turn(&card, 300);
        ck_assert_uint_eq(nsynacks, 0);
        ck_assert_int_eq(accept4(listener, NULL, NULL, SOCK_NONBLOCK), -1);
        ck_assert_int_eq(errno, EAGAIN);
        ck_assert_uint_eq(ndropped, i + 1);
    }
}
END_TEST

static int try_connect(uint16_t port, uint32_t ip)
{
    const struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int r = connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;

    ck_assert_int_ge(fd, 0); /* it stays open until the test ends */
    return r;
}

/* Only by loopback, unless asked for; and no UDP port beside it. */
START_TEST(forwarded_ports_lead_to_the_guest)
{
    static const char *const forwards[] = {"2222:22", "*:8080:80"};
    struct passt_options options = isolated;

    options.forwards = forwards;
    options.nforwards = 2;
    add_route();
    start(&options);
    ck_assert_int_eq(try_connect(2222, INADDR_LOOPBACK), 0);
    card_wait(&card, &nsyns, 1);
    ck_assert_uint_eq(syn_port, 22);
    ck_assert_int_eq(try_connect(2222, GUEST_IP), -ECONNREFUSED);
    ck_assert_int_eq(try_connect(8080, GUEST_IP), 0);
    card_wait(&card, &nsyns, 2);
    ck_assert_uint_eq(syn_port, 80);
    ck_assert_int_ne(scratch_shell("grep -qi ':08AE' /proc/net/udp /proc/net/udp6"), 0);
}
END_TEST

START_TEST(a_port_in_use_is_told)
{
    static const char *const forwards[] = {"2222:22"};
    struct passt_options options = isolated;
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(2222), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    add_route();
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    options.forwards = forwards;
    options.nforwards = 1;
    ck_assert_int_eq(passt_open(&options, &net, &err), 0);
    ck_assert_int_eq(net->ops->wait_ready(net, &err), -EIO);
    ck_assert_msg(strstr(err.msg, "Failed to bind") || strstr(err.msg, "Couldn't listen"), "%s",
                  err.msg);
    ck_assert_msg(strstr(err.msg, "a port of forward= is in use"), "%s", err.msg);
    close(fd);
}
END_TEST

/* Debian 12's version; later ones go on without a route. */
START_TEST(a_host_without_routes_is_told_or_served)
{
    ck_assert_int_eq(passt_open(&isolated, &net, &err), 0);
    if (net->ops->wait_ready(net, &err) < 0)
        ck_assert_msg(strstr(err.msg, "default route"), "%s", err.msg);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(
        suite, "passt_real", set_up, tear_down, large_segments_without_checksums_reach_the_host,
        large_frames_with_good_checksums_reach_the_guest,
        datagrams_without_checksums_reach_the_host,
        an_isolated_guest_does_not_reach_the_hosts_loopback,
        an_isolated_guest_does_not_name_the_hosts_loopback, forwarded_ports_lead_to_the_guest,
        a_port_in_use_is_told, a_host_without_routes_is_told_or_served);
}

int main(void)
{
    return netns_is_possible("passt", false) ? unit_main("passt_real", add_tests) : UNIT_SKIP;
}
