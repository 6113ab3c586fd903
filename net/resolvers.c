/* SPDX-License-Identifier: Apache-2.0 */
#include "net/resolvers.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define LINE_LEN_MAX 1024

/* 127.0.0.0/8 or ::1, as text that inet_pton takes. False: no address, or another one. */
static bool is_local(const char *text)
{
    struct in6_addr addr6;
    struct in_addr addr;

    if (inet_pton(AF_INET, text, &addr) == 1)
        return ntohl(addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return inet_pton(AF_INET6, text, &addr6) == 1 && IN6_IS_ADDR_LOOPBACK(&addr6);
}

/* Those with a scope (fe80::1%eth0) mean nothing to a guest. */
static bool is_address(const char *text)
{
    struct in6_addr addr; /* large enough for both families */

    return inet_pton(AF_INET, text, &addr) == 1 || inet_pton(AF_INET6, text, &addr) == 1;
}

static void take_line(struct resolvers *resolvers, const char *line)
{
    char addr[INET6_ADDRSTRLEN];

    if (sscanf(line, "nameserver %45s", addr) != 1)
        return;
    if (is_local(addr))
        resolvers->nlocal++;
    else if (is_address(addr) && resolvers->n < RESOLVERS_MAX)
        memcpy(resolvers->addrs[resolvers->n++], addr, sizeof(addr));
}

void resolvers_read(const char *path, struct resolvers *ret_resolvers)
{
    FILE *file = fopen(path, "re");
    char line[LINE_LEN_MAX];

    memset(ret_resolvers, 0, sizeof(*ret_resolvers));
    if (!file)
        return;
    while (fgets(line, sizeof(line), file))
        take_line(ret_resolvers, line);
    (void)fclose(file); /* it was only read */
}
