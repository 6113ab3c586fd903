/* SPDX-License-Identifier: Apache-2.0 */
/* In a network namespace of each test's own; the host's side of a tap is a packet socket. */
#include "net/tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>

#include "base/bytes.h"
#include "net/bridge.h"
#include "net/open.h"
#include "tests/lib/net/card.h"
#include "tests/lib/net/netns.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define ETHERTYPE 0x88b5 /* for experiments */
#define ETH_LEN 14u
#define IP_LEN 20u

static struct card card;
static struct net *net;
static struct err err;
static int host;
static uint8_t bytes[70000];

static void set_up(void)
{
    scratch_set_up();
    memset(&err, 0, sizeof(err));
    net = NULL;
    host = -1;
    netns_enter();
    card_init(&card);
}

static void tear_down(void)
{
    card_done(&card);
    if (net)
        net->ops->close(net);
    close(host);
    scratch_tear_down();
}

static void open_host(unsigned type)
{
    const struct timeval patience = {20, 0};
    struct sockaddr_ll addr = {.sll_family = AF_PACKET,
                               .sll_protocol = htons((uint16_t)type),
                               .sll_ifindex = (int)if_nametoindex("tap0")};

    host = socket(AF_PACKET, SOCK_RAW, htons((uint16_t)type));
    ck_assert_int_ge(host, 0);
    ck_assert_int_eq(bind(host, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(setsockopt(host, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
}

/* A tap of the card's, up, on which the host says nothing of its own accord. */
static void start(void)
{
    if (if_nametoindex("tap0") == 0)
        scratch_ok("ip tuntap add tap0 mode tap");
    ck_assert_msg(tap_open("tap0", &net, &err) == 0, "%s", err.msg);
    scratch_ok("echo 1 >/proc/sys/net/ipv6/conf/tap0/disable_ipv6");
    scratch_ok("ip link set tap0 up && ip addr add 192.0.2.1/24 dev tap0 && "
               "ip neigh add 192.0.2.2 lladdr 52:54:00:00:00:02 dev tap0 nud permanent");
    card_attach(&card, net);
}

/* A frame of the test's type; the bytes after the addresses follow from its length. */
static void fill(uint32_t len)
{
    card_fill(bytes, len);
    memset(bytes, 0xff, 6);
    bytes[12] = ETHERTYPE >> 8;
    bytes[13] = ETHERTYPE & 0xff;
}

static unsigned send_bytes(uint32_t len, const struct virtio_net_hdr_v1 *header)
{
    struct iovec iov[] = {{(void *)header, NET_HDR_LEN}, {bytes, len}};
    struct net_frame frame = {.iov = iov, .niov = 2, .len = len};

    ck_assert_uint_eq(net->ops->send(net, &frame, 1), 1);
    return frame.dropped;
}

/* ---- frames ---------------------------------------------------------------------------------- */

START_TEST(frames_go_both_ways)
{
    const uint32_t lens[] = {60, 61, 1514};
    const struct virtio_net_hdr_v1 header = {0};

    start();
    open_host(ETHERTYPE);
    for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
        uint8_t expected[1514];

        fill(lens[i]);
        memcpy(expected, bytes, lens[i]);
        ck_assert_uint_eq(send_bytes(lens[i], &header), 0);
        memset(bytes, 0, lens[i]);
        ck_assert_int_eq(recv(host, bytes, sizeof(bytes), 0), lens[i]);
        ck_assert_mem_eq(bytes, expected, lens[i]);
        ck_assert_int_eq(send(host, bytes, lens[i], 0), lens[i]);
        card_wait(&card, &card.nreceived, i + 1);
        ck_assert_uint_eq(card.last_len, lens[i]);
        ck_assert_mem_eq(card.last, expected, lens[i]);
    }
}
END_TEST

START_TEST(a_frame_without_room_is_dropped)
{
    start();
    open_host(ETHERTYPE);
    card.room = 1400;
    fill(1401);
    ck_assert_int_eq(send(host, bytes, 1401, 0), 1401);
    fill(1400);
    ck_assert_int_eq(send(host, bytes, 1400, 0), 1400);
    card_wait(&card, &card.nreceived, 1);
    ck_assert_uint_eq(card.ndropped, 1);
    ck_assert_uint_eq(card.last_len, 1400);
}
END_TEST

static void give_frame(void)
{
    fill(60);
    ck_assert_int_eq(send(host, bytes, 60, 0), 60);
}

START_TEST(a_card_that_does_not_watch_is_not_woken)
{
    start();
    open_host(ETHERTYPE);
    card_check_watch(&card, give_frame);
}
END_TEST

START_TEST(frames_that_the_kernel_refuses_are_dropped)
{
    const struct virtio_net_hdr_v1 header = {0};
    const struct virtio_net_hdr_v1 nonsense = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                               .gso_type = 77,
                                               .hdr_len = 60000,
                                               .csum_start = 50000,
                                               .csum_offset = 50000};

    start();
    fill(60);
    ck_assert_uint_eq(send_bytes(60, &nonsense), 1);
    ck_assert_uint_eq(send_bytes(60, &header), 0);
    scratch_ok("ip link set tap0 down");
    ck_assert_uint_eq(send_bytes(60, &header), 1);
    ck_assert(net->link_up);
}
END_TEST

/* ---- offloads -------------------------------------------------------------------------------- */

static uint64_t offload(unsigned feature)
{
    return 1ull << feature;
}

static void send_datagram(void)
{
    const struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0xc0000202)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    ck_assert_int_eq(sendto(fd, "0123456789", 10, 0, (const struct sockaddr *)&addr, sizeof(addr)),
                     10);
    close(fd);
}

START_TEST(checksums_are_left_out_for_who_agreed)
{
    start();
    ck_assert_uint_eq(net->offloads, NET_OFFLOADS);
    for (unsigned i = 0; i < 4; i++) {
        bool agreed = i % 2;

        ck_assert_int_eq(net->ops->set_offloads(net, agreed ? offload(VIRTIO_NET_F_GUEST_CSUM) : 0),
                         0);
        send_datagram();
        card_wait(&card, &card.nreceived, i + 1);
        ck_assert_uint_eq(card.last_flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, agreed);
    }
}
END_TEST

/* The driver is another one by now, and has not agreed. */
START_TEST(frames_from_before_are_dropped_if_they_are_not_as_agreed)
{
    start();
    ck_assert_int_eq(net->ops->set_offloads(net, offload(VIRTIO_NET_F_GUEST_CSUM)), 0);
    send_datagram();
    card_detach(&card);
    card_attach(&card, net);
    send_datagram();
    card_wait(&card, &card.nreceived, 1);
    ck_assert_uint_eq(card.ndropped, 1);
    ck_assert_uint_eq(card.last_flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, 0);
}
END_TEST

/* A TCP segment of `len` bytes, to be cut, as the host's stack has it. */
static void send_segment(uint32_t len)
{
    const uint32_t header_len = ETH_LEN + IP_LEN + 20;
    struct virtio_net_hdr header = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                    .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                    .hdr_len = header_len,
                                    .gso_size = 1448,
                                    .csum_start = ETH_LEN + IP_LEN,
                                    .csum_offset = 16};
    uint8_t *frame = bytes + sizeof(header);
    int on = 1;

    ck_assert_int_eq(setsockopt(host, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
    memset(bytes, 0, sizeof(header) + header_len + len);
    memcpy(bytes, &header, sizeof(header));
    memset(frame, 0xff, 6);
    frame[12] = 8;         /* IPv4 */
    frame[ETH_LEN] = 0x45; /* 20 bytes of header */
    store_be16(frame + ETH_LEN + 2, (uint16_t)(IP_LEN + 20 + len));
    frame[ETH_LEN + 8] = 64; /* hops */
    frame[ETH_LEN + 9] = IPPROTO_TCP;
    frame[ETH_LEN + 12] = frame[ETH_LEN + 16] = 10;
    frame[ETH_LEN + IP_LEN + 12] = 5 << 4; /* 20 bytes of header */
    ck_assert_int_eq(send(host, bytes, sizeof(header) + header_len + len, 0),
                     (ssize_t)(sizeof(header) + header_len + len));
}

START_TEST(segments_are_left_whole_for_who_agreed)
{
    start();
    open_host(ETH_P_IP);
    send_segment(4 * 1448);
    card_wait(&card, &card.nreceived, 4);
    ck_assert_uint_eq(card.last_len, ETH_LEN + IP_LEN + 20 + 1448);
    ck_assert_int_eq(net->ops->set_offloads(net, offload(VIRTIO_NET_F_GUEST_CSUM) |
                                                     offload(VIRTIO_NET_F_GUEST_TSO4)),
                     0);
    send_segment(4 * 1448);
    card_wait(&card, &card.nreceived, 5);
    ck_assert_uint_eq(card.last_len, ETH_LEN + IP_LEN + 20 + 4 * 1448);
}
END_TEST

/* A driver that agreed to segments of IPv6 gets none of IPv4 from before. */
START_TEST(segments_from_before_are_dropped_by_their_kind)
{
    const uint64_t csum = offload(VIRTIO_NET_F_GUEST_CSUM);

    start();
    open_host(ETH_P_IP);
    ck_assert_int_eq(net->ops->set_offloads(net, csum | offload(VIRTIO_NET_F_GUEST_TSO4)), 0);
    send_segment(4 * 1448);
    ck_assert_int_eq(net->ops->set_offloads(net, csum | offload(VIRTIO_NET_F_GUEST_TSO6)), 0);
    card_wait(&card, &card.ndropped, 1);
    ck_assert_uint_eq(card.nreceived, 0);
}
END_TEST

/* The kernel takes no segments without checksums. */
START_TEST(offloads_that_fail_change_nothing)
{
    const uint64_t agreed = offload(VIRTIO_NET_F_GUEST_CSUM) | offload(VIRTIO_NET_F_GUEST_TSO4);

    start();
    open_host(ETH_P_IP);
    ck_assert_int_eq(net->ops->set_offloads(net, agreed), 0);
    ck_assert_int_eq(net->ops->set_offloads(net, offload(VIRTIO_NET_F_GUEST_TSO4)), -EINVAL);
    send_segment(4 * 1448);
    card_wait(&card, &card.nreceived, 1);
    ck_assert_uint_eq(card.ndropped, 0);
    ck_assert_uint_eq(card.last_len, ETH_LEN + IP_LEN + 20 + 4 * 1448);
}
END_TEST

/* ---- interfaces ------------------------------------------------------------------------------ */

START_TEST(an_interface_that_is_removed_takes_the_link_down)
{
    const struct virtio_net_hdr_v1 header = {0};

    start();
    scratch_ok("ip link del tap0");
    card_wait_link(&card, false);
    card_turn(&card, 30);
    ck_assert_uint_eq(card.nlink_changes, 1);
    ck_assert_int_eq(card_receive(&card), 0);
    ck_assert_uint_eq(send_bytes(60, &header), 1);
    card_detach(&card);
    card_attach(&card, net);
    ck_assert(!net->link_up);
}
END_TEST

/* The next driver agrees to offloads, as each does: it is no fault of the card's. */
START_TEST(offloads_of_one_that_was_removed_are_agreed_to)
{
    start();
    scratch_ok("ip link del tap0");
    ck_assert_int_eq(net->ops->set_offloads(net, NET_OFFLOADS), 0);
    card_wait_link(&card, false);
    ck_assert_int_eq(net->ops->set_offloads(net, 0), 0);
    card_detach(&card);
    card_attach(&card, net);
    ck_assert_int_eq(net->ops->set_offloads(net, NET_OFFLOADS), 0);
    card_turn(&card, 30);
    ck_assert_uint_eq(card.nlink_changes, 1);
    ck_assert(!net->link_up);
}
END_TEST

START_TEST(one_that_is_missing_is_not_made)
{
    ck_assert_int_eq(tap_open("tap7", &net, &err), -ENODEV);
    ck_assert_str_eq(err.msg, "tap7: there is no such interface: make it by `ip tuntap add dev "
                              "tap7 mode tap user NAME`");
    ck_assert_uint_eq(if_nametoindex("tap7"), 0);
}
END_TEST

START_TEST(one_in_use_is_refused)
{
    struct net *second;

    start();
    ck_assert_int_eq(tap_open("tap0", &second, &err), -EBUSY);
    ck_assert_msg(strstr(err.msg, "another process"), "%s", err.msg);
    ck_assert_int_eq(tap_open("lo", &second, &err), -EINVAL);
    ck_assert_msg(strstr(err.msg, "lo: expected a tap"), "%s", err.msg);
}
END_TEST

START_TEST(one_of_several_queues_and_large_frames_is_used)
{
    scratch_ok("ip tuntap add tap0 mode tap multi_queue && ip link set tap0 mtu 9000");
    start();
    ck_assert_uint_eq(net->mtu, 9000);
}
END_TEST

static int open_tun(const char *name, int flags)
{
    struct ifreq ifr = {.ifr_flags = (short)flags};
    int fd = open("/dev/net/tun", O_RDWR);

    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
    ck_assert_int_eq(ioctl(fd, TUNSETIFF, &ifr), 0);
    return fd;
}

START_TEST(a_descriptor_of_somebody_elses_is_used)
{
    const struct virtio_net_hdr_v1 header = {0};
    int fd = open_tun("tap0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);

    ck_assert_msg(tap_open_fd(fd, &net, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(net->offloads, NET_OFFLOADS);
    ck_assert_str_eq(net->label, "tap0");
    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    scratch_ok("ip link set tap0 up");
    card_attach(&card, net);
    open_host(ETHERTYPE);
    fill(60);
    ck_assert_uint_eq(send_bytes(60, &header), 0);
    ck_assert_int_eq(recv(host, bytes, sizeof(bytes), 0), 60);
}
END_TEST

START_TEST(a_descriptor_without_headers_is_used)
{
    const struct virtio_net_hdr_v1 header = {0};
    int fd = open_tun("tap0", IFF_TAP | IFF_NO_PI);

    ck_assert_msg(tap_open_fd(fd, &net, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(net->offloads, 0);
    scratch_ok("echo 1 >/proc/sys/net/ipv6/conf/tap0/disable_ipv6 && ip link set tap0 up");
    card_attach(&card, net);
    open_host(ETHERTYPE);
    fill(60);
    ck_assert_uint_eq(send_bytes(60, &header), 0);
    ck_assert_int_eq(recv(host, bytes, sizeof(bytes), 0), 60);
    ck_assert_int_eq(send(host, bytes, 60, 0), 60);
    card_wait(&card, &card.nreceived, 1);
    ck_assert_uint_eq(card.last_len, 60);
    ck_assert_uint_eq(card.last_flags, 0);
}
END_TEST

/* The kernel would have to be told of it in another way. */
START_TEST(a_descriptor_without_headers_is_not_the_kernels)
{
    const struct net_options options = {
        .kind = NET_TAP_FD,
        .fd = open_tun("tap0", IFF_TAP | IFF_NO_PI),
        .vhost = true,
    };

    ck_assert_int_eq(net_options_check(&options, &err), 0);
    ck_assert_int_eq(net_open(&options, &net, &err), -EINVAL);
    ck_assert_str_eq(err.msg, "vhost: expected a tap that was opened with IFF_VNET_HDR");
    net = NULL;
}
END_TEST

START_TEST(a_descriptor_that_carries_no_ethernet_is_refused)
{
    int tun = open_tun("tun0", IFF_TUN | IFF_NO_PI);

    ck_assert_int_eq(tap_open_fd(tun, &net, &err), -EINVAL);
    ck_assert_msg(strstr(err.msg, "not a tun"), "%s", err.msg);
    net = NULL;
    close(tun);
}
END_TEST

/* ---- bridges --------------------------------------------------------------------------------- */

static const char *play_helper(const char *script)
{
    scratch_save("helper", script, strlen(script));
    ck_assert_int_eq(chmod(scratch_path("helper"), 0755), 0);
    return scratch_path("helper");
}

START_TEST(a_helper_that_refuses_is_told)
{
    const char *helper =
        play_helper("#!/bin/sh\necho failed to parse default acl file >&2; exit 1\n");

    ck_assert_int_lt(bridge_open("br0", helper, &net, &err), 0);
    ck_assert_msg(strstr(err.msg, "exit status 1: failed to parse default acl file"), "%s",
                  err.msg);
    helper = play_helper("#!/bin/sh\nprintf x >&3; exit 0\n");
    ck_assert_int_lt(bridge_open("br0", helper, &net, &err), 0);
    ck_assert_int_eq(bridge_open("a-name-that-is-too-long", helper, &net, &err), -EINVAL);
    net = NULL;
}
END_TEST

/* As QEMU's helper does: the same arguments, one byte, one descriptor. */
START_TEST(the_interface_that_a_helper_sends_is_used)
{
    const char *helper = play_helper(
        "#!/usr/bin/env python3\n"
        "import array, fcntl, os, socket, struct, sys\n"
        "assert sys.argv[1:] == ['--use-vnet', '--fd=3', '--br=br0'], sys.argv\n"
        "tun = os.open('/dev/net/tun', os.O_RDWR)\n"
        "fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', b'tap0', 0x5002))\n"
        "socket.socket(fileno=3).sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,\n"
        "                                           array.array('i', [tun]))])\n");

    ck_assert_msg(bridge_open("br0", helper, &net, &err) == 0, "%s", err.msg);
    ck_assert_str_eq(net->label, "tap0");
    ck_assert_uint_eq(net->offloads, NET_OFFLOADS);
    card_attach(&card, net);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "frames", set_up, tear_down, frames_go_both_ways,
                   a_frame_without_room_is_dropped, a_card_that_does_not_watch_is_not_woken,
                   frames_that_the_kernel_refuses_are_dropped);
    unit_case_with(suite, "offloads", set_up, tear_down, checksums_are_left_out_for_who_agreed,
                   frames_from_before_are_dropped_if_they_are_not_as_agreed,
                   segments_are_left_whole_for_who_agreed,
                   segments_from_before_are_dropped_by_their_kind,
                   offloads_that_fail_change_nothing);
    unit_case_with(suite, "interfaces", set_up, tear_down,
                   an_interface_that_is_removed_takes_the_link_down,
                   offloads_of_one_that_was_removed_are_agreed_to, one_that_is_missing_is_not_made,
                   one_in_use_is_refused, one_of_several_queues_and_large_frames_is_used,
                   a_descriptor_of_somebody_elses_is_used, a_descriptor_without_headers_is_used,
                   a_descriptor_without_headers_is_not_the_kernels,
                   a_descriptor_that_carries_no_ethernet_is_refused);
    unit_case_with(suite, "bridges", set_up, tear_down, a_helper_that_refuses_is_told,
                   the_interface_that_a_helper_sends_is_used);
}

int main(void)
{
    return netns_is_possible(NULL, true) ? unit_main("tap", add_tests) : UNIT_SKIP;
}
