/* SPDX-License-Identifier: Apache-2.0 */
#include "net/mac.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

#define LOCALLY_ADMINISTERED 0x02u
#define GROUP 0x01u

static int digit_of(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;

    return at ? (int)(at - digits) : -1;
}

bool mac_parse(const char *text, struct mac *ret_mac)
{
    struct mac mac;

    for (unsigned i = 0; i < MAC_LEN; i++, text += 3) {
        int high = digit_of(text[0]);
        int low = high < 0 ? -1 : digit_of(text[1]);

        if (low < 0 || text[2] != (i + 1 < MAC_LEN ? ':' : '\0'))
            return false;
        mac.octets[i] = (uint8_t)(high << 4 | low);
    }
    *ret_mac = mac;
    return true;
}

void mac_format(const struct mac *mac, char text[MAC_TEXT_LEN])
{
    (void)snprintf(text, MAC_TEXT_LEN, "%02x:%02x:%02x:%02x:%02x:%02x", mac->octets[0],
                   mac->octets[1], mac->octets[2], mac->octets[3], mac->octets[4], mac->octets[5]);
}

bool mac_is_zero(const struct mac *mac)
{
    static const struct mac zero;

    return memcmp(mac, &zero, sizeof(zero)) == 0;
}

/* FNV-1a, then the bits mixed once more: names that differ at the end differ everywhere. */
static uint64_t hash(const char *name, unsigned index)
{
    uint64_t h = 0xcbf29ce484222325ull;

    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 0x100000001b3ull;
    h = (h ^ 0x100 ^ index) * 0x100000001b3ull; /* no byte of a name is 0x100 */
    h = (h ^ h >> 33) * 0xff51afd7ed558ccdull;
    return h ^ h >> 33;
}

struct mac mac_of_name(const char *name, unsigned index)
{
    uint8_t bytes[8];
    struct mac mac;

    store_le64(bytes, hash(name, index));
    memcpy(mac.octets, bytes, MAC_LEN);
    mac.octets[0] = (uint8_t)((mac.octets[0] | LOCALLY_ADMINISTERED) & ~GROUP);
    return mac;
}
