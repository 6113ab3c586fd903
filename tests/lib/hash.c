/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/hash.h"

#include <string.h>

uint64_t hash_word(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
    return hash << 31 | hash >> 33;
}

uint64_t hash_bytes(uint64_t hash, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    uint64_t lanes[4] = {hash, 1, 2, 3};
    uint64_t last[4] = {0};

    /* Four at a time, which the processor overlaps. */
    for (; len >= sizeof(last); len -= sizeof(last), bytes += sizeof(last))
        for (int i = 0; i < 4; i++) {
            uint64_t word;

            memcpy(&word, bytes + i * sizeof(word), sizeof(word));
            lanes[i] = hash_word(lanes[i], word);
        }
    memcpy(last, bytes, len);
    hash = hash_word(len, lanes[0]);
    for (int i = 1; i < 4; i++)
        hash = hash_word(hash, lanes[i]);
    for (int i = 0; i < 4; i++)
        hash = hash_word(hash, last[i]);
    return hash;
}
