/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ethernet addresses. No state; any thread.
 */
#ifndef MINIVMM_NET_MAC_H
#define MINIVMM_NET_MAC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

#define MAC_LEN 6u
#define MAC_TEXT_LEN 18u /* with the NUL */

struct mac {
    uint8_t octets[MAC_LEN];
};

/* "52:54:00:12:34:56", in digits of either case. False: it is none. */
bool mac_parse(const char *text, struct mac *ret_mac) MUST_CHECK;

void mac_format(const struct mac *mac, char text[MAC_TEXT_LEN]);

/* Of a group, broadcast included: no card can have it. */
static inline bool mac_is_group(const struct mac *mac)
{
    return mac->octets[0] & 1;
}

bool mac_is_zero(const struct mac *mac);

/*
 * The address of a VM's card number `index` that was given none: always the same for the same name,
 * and another one for others, as far as 46 bits go. Locally administered, of one card.
 */
struct mac mac_of_name(const char *name, unsigned index);

#endif
