/* SPDX-License-Identifier: Apache-2.0 */
#include "net/passt_forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/parse.h"

#define PORT_MAX 65535u

/* Longest part of a forward that can be good. */
#define PART_MAX INET6_ADDRSTRLEN

/*
 * Cut the last part off, at its colon: [text, *end) becomes what is before; NULL if there was no
 * colon. An address in brackets has colons of its own. False: there is no part of a good length.
 */
static bool cut_last(const char *text, const char **end, char part[PART_MAX])
{
    const char *from = *end;

    if (from > text && from[-1] == ']') {
        while (from > text && *from != '[')
            from--;
    } else {
        while (from > text && from[-1] != ':')
            from--;
    }
    if (from == *end || *end - from >= PART_MAX)
        return false;
    memcpy(part, from, (size_t)(*end - from));
    part[*end - from] = '\0';
    if (from > text && from[-1] != ':')
        return false;
    *end = from > text ? from - 1 : NULL;
    return true;
}

static bool is_port(const char *text, unsigned *ret_port)
{
    uint64_t port;

    if (parse_u64(text, &port) < 0 || port < 1 || port > PORT_MAX)
        return false;
    *ret_port = (unsigned)port;
    return true;
}

/* What passt is told: the address and a slash, or nothing for all addresses. */
static bool take_address(char *part, char arg[PART_MAX + 1])
{
    struct in6_addr addr; /* large enough for both families */
    size_t len = strlen(part);

    arg[0] = '\0';
    if (strcmp(part, "*") == 0)
        return true;
    if (part[0] == '[' && part[len - 1] == ']') {
        part[len - 1] = '\0';
        part++;
        if (inet_pton(AF_INET6, part, &addr) != 1)
            return false;
    } else if (inet_pton(AF_INET, part, &addr) != 1) {
        return false;
    }
    (void)snprintf(arg, PART_MAX + 1, "%s/", part); /* shorter than the part and its brackets */
    return true;
}

static bool parse(const char *text, struct passt_forward *forward)
{
    const char *end;
    char part[PART_MAX];
    char addr[PART_MAX + 1] = "127.0.0.1/";
    unsigned host, guest;

    forward->is_udp = strncmp(text, "udp:", 4) == 0;
    if (forward->is_udp || strncmp(text, "tcp:", 4) == 0)
        text += 4;
    end = text + strlen(text);
    if (!cut_last(text, &end, part) || !is_port(part, &guest) || !end ||
        !cut_last(text, &end, part) || !is_port(part, &host))
        return false;
    if (end && (!cut_last(text, &end, part) || end || !take_address(part, addr)))
        return false;
    (void)snprintf(forward->arg, sizeof(forward->arg), "%s%u:%u", addr, host, guest); /* fits */
    return true;
}

int passt_forward_parse(const char *text, struct passt_forward *ret_forward, struct err *err)
{
    if (!parse(text, ret_forward))
        return err_set(err, -EINVAL, "'%.200s': expected " PASST_FORWARD_EXPECTED, text);
    return 0;
}
