/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of `--gdb unix:PATH`, packet by packet. What does not work fails the test.
 */
#ifndef MINIVMM_TESTS_GDB_CLIENT_H
#define MINIVMM_TESTS_GDB_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/lib/guest/guest.h"

#define GDB_CLIENT_MAX 0x8000u

/* Number of register rip; those of the general registers are in enum gdb_gpr. */
#define GDB_CLIENT_RIP 16u

struct gdb_client {
    int fd; /* -1: closed */
    size_t len;
    char data[GDB_CLIENT_MAX]; /* received, and not used yet */
    char answer[GDB_CLIENT_MAX];
};

/*
 * Connect as soon as the socket is there; do without acknowledgements. fd is -1.
 */
void gdb_client_open(struct gdb_client *client, const char *path);
void gdb_client_close(struct gdb_client *client);

/* Only connect. */
int gdb_client_connect(const char *path);

void gdb_client_send(struct gdb_client *client, const char *packet);

/* The data of the next packet; NULL: the connection ended. Valid until the next one. */
const char *gdb_client_receive(struct gdb_client *client);

/* Both; the connection must not end. */
const char *gdb_client_ask(struct gdb_client *client, const char *packet);

/* The answer must be this one. */
void gdb_client_expect(struct gdb_client *client, const char *packet, const char *answer);

/* 0x03, while the guest runs. */
void gdb_client_interrupt(struct gdb_client *client);

/* Is there something to receive, or the end, within that time? */
bool gdb_client_wait(struct gdb_client *client, unsigned timeout_ms);

/*
 * Reach code that the guest has put into its own memory: a breakpoint cannot be set before, and
 * debug registers do not work everywhere. The guest does gdb_client_meet right before it jumps
 * there, and is stopped in front of the first instruction by gdb_client_reach.
 */
void gdb_client_meet(struct guest *guest);
void gdb_client_reach(struct gdb_client *client, uint64_t code);

/* Can breakpoints of packet `Z<type>` be set? Prints a line if not. */
bool gdb_client_supports(struct gdb_client *client, unsigned type);

/* A register of 64 bits; 8 bytes of memory. */
uint64_t gdb_client_register(struct gdb_client *client, unsigned number);
uint64_t gdb_client_memory(struct gdb_client *client, uint64_t address);

#endif
