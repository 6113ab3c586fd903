/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream connections of a busybox guest, by TCP or vsock.
 *
 * usage: sockets echo PLACE                  send back what comes, on any number of connections
 *        sockets pipe PLACE                  stdin goes there, what comes back goes to stdout
 *        sockets send PLACE                  the same, but the end of stdin is not told: passt of
 *                                            2023 may forget what comes back after that
 *        sockets swarm PLACE COUNT BYTES     COUNT connections at once to an echo, BYTES over each
 *        sockets turns PLACE SECONDS         a byte there and back, again and again, timed
 *
 * PLACE is tcp:ADDRESS:PORT, with IPv6 as [ADDRESS], or vsock:CID:PORT; CID -1 is any.
 */
#ifndef _GNU_SOURCE /* built without the Makefile for a guest */
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define MAX_CONNECTIONS 1000u
#define CHUNK 65536u
#define MAX_TURNS 1000000u

struct place {
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_vm vm;
    };
    socklen_t size;
};

static struct place parse_place(char *text)
{
    struct place place = {.size = sizeof(place.in4)};
    char *colon = strrchr(text, ':');
    if (!colon || colon == text)
        errx(2, "%s: no port", text);
    *colon = '\0';
    unsigned port = (unsigned)strtoul(colon + 1, NULL, 10);
    if (strncmp(text, "vsock:", 6) == 0) {
        place.vm.svm_family = AF_VSOCK;
        place.vm.svm_cid = (unsigned)strtol(text + 6, NULL, 10);
        place.vm.svm_port = port;
        place.size = sizeof(place.vm);
        return place;
    }
    if (strncmp(text, "tcp:", 4) != 0)
        errx(2, "%s: neither tcp: nor vsock:", text);
    char *address = text + 4;
    if (inet_pton(AF_INET, address, &place.in4.sin_addr) == 1) {
        place.in4.sin_family = AF_INET;
        place.in4.sin_port = htons((uint16_t)port);
        return place;
    }
    char *bracket = strchr(address, ']');
    if (*address == '[' && bracket) {
        *bracket = '\0';
        if (inet_pton(AF_INET6, address + 1, &place.in6.sin6_addr) == 1) {
            place.in6.sin6_family = AF_INET6;
            place.in6.sin6_port = htons((uint16_t)port);
            place.size = sizeof(place.in6);
            return place;
        }
    }
    errx(2, "%s: no address", address);
}

static int connect_to(const struct place *place)
{
    int on = 1;
    int fd = socket(place->any.sa_family, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, &place->any, place->size) != 0)
        err(1, "connect");
    /* Not to wait for the answer to a piece shorter than a frame; vsock has no such option. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static void write_all(int fd, const void *data, size_t size)
{
    for (const char *p = data; size > 0;) {
        ssize_t n = write(fd, p, size);
        if (n <= 0)
            err(1, "write");
        p += n;
        size -= (size_t)n;
    }
}

static void copy(int from, int to)
{
    static char buf[CHUNK];
    ssize_t n;
    while ((n = read(from, buf, sizeof(buf))) > 0)
        write_all(to, buf, (size_t)n);
    if (n < 0)
        err(1, "read");
}

static void echo(const struct place *place)
{
    int on = 1;
    int listener = socket(place->any.sa_family, SOCK_STREAM, 0);
    if (listener < 0)
        err(1, "socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(listener, &place->any, place->size) != 0 || listen(listener, MAX_CONNECTIONS) != 0)
        err(1, "listen");
    signal(SIGCHLD, SIG_IGN);
    puts("listening");
    fflush(stdout);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            err(1, "accept");
        if (fork() == 0) {
            copy(fd, fd);
            exit(0);
        }
        close(fd);
    }
}

/* One process each way: neither side ever waits for the other with full buffers. */
static void pipe_through(const struct place *place, bool tell_end)
{
    int fd = connect_to(place);
    pid_t child = fork();
    if (child < 0)
        err(1, "fork");
    if (child == 0) {
        copy(0, fd);
        if (tell_end)
            shutdown(fd, SHUT_WR);
        exit(0);
    }
    copy(fd, 1);
    kill(child, SIGKILL);
}

struct connection {
    int fd;
    size_t sent, received;
};

/* What connection `i` sends as byte number `at`. */
static char content(unsigned i, size_t at)
{
    return (char)((size_t)i * 131 ^ at * 7 ^ at >> 8);
}

static void send_some(struct connection *c, unsigned i, size_t bytes)
{
    char buf[4096];
    size_t n = 0;
    while (n < sizeof(buf) && c->sent + n < bytes) {
        buf[n] = content(i, c->sent + n);
        n++;
    }
    ssize_t sent = send(c->fd, buf, n, MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN)
        err(1, "connection %u: send", i);
    if (sent > 0)
        c->sent += (size_t)sent;
}

static void receive_some(struct connection *c, unsigned i)
{
    char buf[4096];
    ssize_t n = read(c->fd, buf, sizeof(buf));
    if (n <= 0)
        err(1, "connection %u ended after %zu bytes", i, c->received);
    for (ssize_t k = 0; k < n; k++) {
        if (buf[k] != content(i, c->received++))
            errx(1, "connection %u: byte %zu is wrong", i, c->received - 1);
    }
}

static void swarm(const struct place *place, unsigned count, size_t bytes)
{
    static struct connection connections[MAX_CONNECTIONS];
    static struct pollfd polls[MAX_CONNECTIONS];
    if (count > MAX_CONNECTIONS)
        errx(2, "more than %u connections", MAX_CONNECTIONS);
    for (unsigned i = 0; i < count; i++) {
        connections[i].fd = connect_to(place);
        polls[i].fd = connections[i].fd;
    }
    for (unsigned left = count; left > 0;) {
        for (unsigned i = 0; i < count; i++)
            polls[i].events = connections[i].sent < bytes ? POLLIN | POLLOUT : POLLIN;
        if (poll(polls, count, -1) < 0)
            err(1, "poll");
        for (unsigned i = 0; i < count; i++) {
            struct connection *c = &connections[i];
            if (polls[i].revents & POLLOUT)
                send_some(c, i, bytes);
            if (polls[i].revents & (POLLIN | POLLHUP | POLLERR))
                receive_some(c, i);
            if (c->received == bytes && polls[i].fd >= 0) {
                polls[i].fd = -1;
                left--;
            }
        }
    }
    printf("%u connections sent and received %zu bytes each\n", count, bytes);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int compare_times(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void turns(const struct place *place, double seconds)
{
    static uint64_t times[MAX_TURNS];
    size_t n = 0;
    char byte = 0;
    int fd = connect_to(place);
    uint64_t begin = now_ns(), end = begin + (uint64_t)(seconds * 1e9);
    for (uint64_t at = begin, next; at < end && n < MAX_TURNS; at = next) {
        write_all(fd, &byte, 1);
        if (read(fd, &byte, 1) != 1)
            err(1, "read");
        next = now_ns();
        times[n++] = next - at;
    }
    qsort(times, n, sizeof(times[0]), compare_times);
    uint64_t median = times[n / 2], p99 = times[n * 99 / 100];
    printf("turns %zu median %.2f p99 %.2f us\n", n, (double)median / 1e3, (double)p99 / 1e3);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 2 ? argv[1] : "";
    struct place place = argc > 2 ? parse_place(argv[2]) : (struct place){0};
    signal(SIGPIPE, SIG_IGN);
    if (strcmp(mode, "echo") == 0 && argc == 3)
        echo(&place);
    else if (strcmp(mode, "pipe") == 0 && argc == 3)
        pipe_through(&place, true);
    else if (strcmp(mode, "send") == 0 && argc == 3)
        pipe_through(&place, false);
    else if (strcmp(mode, "swarm") == 0 && argc == 5)
        swarm(&place, (unsigned)strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
    else if (strcmp(mode, "turns") == 0 && argc == 4)
        turns(&place, strtod(argv[3], NULL));
    else
        errx(2, "usage: sockets echo|pipe|send|swarm|turns PLACE …");
    return 0;
}
