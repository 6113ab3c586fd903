/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A number that stands for bytes, to compare much with much: fast, and no protection against anyone
 * who looks for collisions.
 */
#ifndef MINIVMM_TESTS_HASH_H
#define MINIVMM_TESTS_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START 0xcbf29ce484222325ull

uint64_t hash_word(uint64_t hash, uint64_t word);

/* The hash of what `hash` stands for and then `len` bytes. */
uint64_t hash_bytes(uint64_t hash, const void *data, size_t len);

#endif
