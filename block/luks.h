/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a LUKS header (version 1) says about the encryption of an image, for `info` of the image
 * tool. Nothing is decrypted.
 */
#ifndef MINIVMM_BLOCK_LUKS_H
#define MINIVMM_BLOCK_LUKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

#define LUKS_HEADER_LEN 592u
#define LUKS_SLOTS 8u

struct luks_slot {
    bool active;
    uint32_t iters;
    uint64_t key_off; /* bytes from the beginning of the header, as all offsets */
    uint32_t stripes;
};

struct luks {
    char cipher[48]; /* "aes-256" */
    char mode[33];
    char ivgen[33];
    char ivgen_hash[33]; /* empty: it has none */
    char hash[33];
    char uuid[41];
    uint64_t payload_off;
    uint32_t iters; /* of the master key */
    struct luks_slot slots[LUKS_SLOTS];
};

/* 0, or -EINVAL if that is not such a header. */
int luks_parse(const uint8_t header[LUKS_HEADER_LEN], struct luks *ret_luks) MUST_CHECK;

#endif
