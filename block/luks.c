/* SPDX-License-Identifier: Apache-2.0 */
#include "block/luks.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

/* Offsets of the fields; numbers are big endian. LUKS On-Disk Format Specification 1.2, 5. */
enum {
    AT_MAGIC = 0,
    AT_CIPHER = 8,
    AT_MODE = 40,
    AT_HASH = 72,
    AT_PAYLOAD = 104,
    AT_KEY_BYTES = 108,
    AT_ITERS = 164,
    AT_UUID = 168,
    AT_SLOTS = 208,

    SLOT_LEN = 48,
    SLOT_ACTIVE = 0,
    SLOT_ITERS = 4,
    SLOT_KEY = 40,
    SLOT_STRIPES = 44,
};

#define TEXT_LEN 32u
#define UUID_LEN 40u
#define SECTOR 512u
#define SLOT_IS_ACTIVE 0x00ac71f3u

static const char magic[8] = {'L', 'U', 'K', 'S', '\xba', '\xbe', '\0', '\1'};

static void copy_text(char *to, const uint8_t *from, size_t len)
{
    memcpy(to, from, len);
    to[len] = '\0';
}

/* "xts-plain64", "cbc-essiv:sha256": how blocks are chained, and where their IVs come from. */
static void split_mode(struct luks *luks)
{
    char *ivgen = strchr(luks->mode, '-');
    char *hash;

    if (!ivgen)
        return;
    *ivgen++ = '\0';
    hash = strchr(ivgen, ':');
    if (hash) {
        *hash++ = '\0';
        (void)snprintf(luks->ivgen_hash, sizeof(luks->ivgen_hash), "%s", hash);
    }
    (void)snprintf(luks->ivgen, sizeof(luks->ivgen), "%s", ivgen);
}

static struct luks_slot parse_slot(const uint8_t *slot)
{
    return (struct luks_slot){
        .active = load_be32(slot + SLOT_ACTIVE) == SLOT_IS_ACTIVE,
        .iters = load_be32(slot + SLOT_ITERS),
        .key_off = (uint64_t)load_be32(slot + SLOT_KEY) * SECTOR,
        .stripes = load_be32(slot + SLOT_STRIPES),
    };
}

int luks_parse(const uint8_t header[LUKS_HEADER_LEN], struct luks *ret_luks)
{
    struct luks luks = {.iters = load_be32(header + AT_ITERS)};
    uint32_t key_bytes = load_be32(header + AT_KEY_BYTES);
    char cipher[TEXT_LEN + 1];

    if (memcmp(header + AT_MAGIC, magic, sizeof(magic)) != 0)
        return -EINVAL;
    copy_text(luks.mode, header + AT_MODE, TEXT_LEN);
    copy_text(luks.hash, header + AT_HASH, TEXT_LEN);
    copy_text(luks.uuid, header + AT_UUID, UUID_LEN);
    copy_text(cipher, header + AT_CIPHER, TEXT_LEN);
    split_mode(&luks);
    if (strcmp(luks.mode, "xts") == 0)
        key_bytes /= 2; /* there are two keys */
    (void)snprintf(luks.cipher, sizeof(luks.cipher), "%s-%llu", cipher, key_bytes * 8ull);
    luks.payload_off = (uint64_t)load_be32(header + AT_PAYLOAD) * SECTOR;
    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        luks.slots[i] = parse_slot(header + AT_SLOTS + (size_t)i * SLOT_LEN);
    *ret_luks = luks;
    return 0;
}
