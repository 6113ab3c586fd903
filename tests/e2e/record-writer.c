/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of the kill tests: writes numbered records at places that look random, makes
 * them durable in batches and says so on stdout, for ever.
 *
 * usage: record-writer DEVICE SEED START buffered|direct
 *
 * tests/e2e/lib/records.py computes the same places and contents; keep the two together.
 */
#ifndef _GNU_SOURCE /* built without the Makefile for a guest */
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define SECTOR 512u
/* Slots straddle the boundaries of 64 KiB clusters. */
#define SLOT_SECTORS 48u
#define SLOTS 1024u
/* Odd, so that a pass of SLOTS records visits every slot once. */
#define SLOT_STEP 389u
#define BATCH 16u

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* A sector is one 16-byte tag, repeated: record number and the sector's place on the disk. */
static void fill(unsigned char *buf, uint64_t record, uint64_t sector, uint64_t nsectors)
{
    for (uint64_t i = 0; i < nsectors; i++) {
        uint64_t tag[2] = {record + 1, sector + i};

        for (unsigned int at = 0; at < SECTOR; at += sizeof(tag))
            memcpy(buf + i * SECTOR + at, tag, sizeof(tag));
    }
}

static int write_record(int fd, unsigned char *buf, uint64_t seed, uint64_t record)
{
    uint64_t random = mix(seed * 0x100000001b3u + record);
    uint64_t slot = (record * SLOT_STEP + seed) % SLOTS;
    uint64_t first = random % SLOT_SECTORS;
    uint64_t nsectors = 1 + (random >> 32) % (SLOT_SECTORS - first);
    uint64_t sector = slot * SLOT_SECTORS + first;
    size_t len = nsectors * SECTOR;

    fill(buf, record, sector, nsectors);
    if (pwrite(fd, buf, len, (off_t)(sector * SECTOR)) != (ssize_t)len) {
        perror("record-writer: pwrite");
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static unsigned char buf[SLOT_SECTORS * SECTOR] __attribute__((aligned(4096)));
    uint64_t seed, record;
    int fd;

    if (argc != 5) {
        fprintf(stderr, "usage: record-writer DEVICE SEED START buffered|direct\n");
        return 2;
    }
    seed = strtoull(argv[2], NULL, 0);
    record = strtoull(argv[3], NULL, 0);
    fd = open(argv[1], O_RDWR | (strcmp(argv[4], "direct") == 0 ? O_DIRECT : 0));
    if (fd < 0) {
        perror(argv[1]);
        return 1;
    }
    for (;;) {
        for (unsigned int i = 0; i < BATCH; i++) {
            if (write_record(fd, buf, seed, record++) < 0)
                return 1;
        }
        if (fdatasync(fd) < 0) {
            perror("record-writer: fdatasync");
            return 1;
        }
        printf("minivmm-guest: synced %llu\n", (unsigned long long)record);
        fflush(stdout);
        /* So that at most a few batches are under way when the VMM is killed. */
        (void)tcdrain(STDOUT_FILENO);
    }
}
