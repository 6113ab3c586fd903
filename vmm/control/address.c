/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/address.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"
#include "base/parse.h"

#define EXPECTED "expected unix:PATH or tcp:127.0.0.1:PORT"

/* As much of a text as a message shows: what was expected must fit after it. */
#define TEXT "%.200s"

static const char *after_prefix(const char *text, const char *prefix)
{
    size_t len = strlen(prefix);

    return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

static int parse_tcp(const char *text, const char *host_port, uint16_t *ret_port, struct err *err)
{
    const char *port = after_prefix(host_port, "127.0.0.1:");
    uint64_t number;

    if (!port)
        port = after_prefix(host_port, "localhost:");
    if (!port)
        return err_set(err, -EINVAL,
                       TEXT ": sockets for clients are for this machine only: expected "
                            "tcp:127.0.0.1:PORT",
                       text);
    if (parse_u64(port, &number) < 0 || number == 0 || number > UINT16_MAX)
        return err_set(err, -EINVAL, TEXT ": '%.20s': expected a port from 1 to 65535", text, port);
    *ret_port = (uint16_t)number;
    return 0;
}

/*
 * What QEMU's users write after a path, and what always holds here: we listen, and start without
 * waiting for a client.
 */
static bool is_usual_word(const char *word, size_t len)
{
    static const char usual[][12] = {"server", "server=on", "nowait", "wait=off"};

    for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
        if (strlen(usual[i]) == len && memcmp(usual[i], word, len) == 0)
            return true;
    return false;
}

static int parse_unix(const char *text, const char *path, size_t *ret_len, struct err *err)
{
    size_t path_len = strcspn(path, ",");

    for (const char *word = path + path_len; *word == ',';) {
        size_t len = strcspn(++word, ",");

        if (!is_usual_word(word, len))
            return err_set(err, -EINVAL, TEXT ": '%.*s': expected unix:PATH[,server]", text,
                           (int)min_u64(len, 40), word);
        word += len;
    }
    if (path_len == 0 || path_len > PATH_MAX)
        return err_set(err, -EINVAL, TEXT ": " EXPECTED, text);
    *ret_len = path_len;
    return 0;
}

int address_parse(const char *text, struct address *ret_address, struct err *err)
{
    struct address address = {.path = after_prefix(text, "unix:")};
    const char *tcp = after_prefix(text, "tcp:");
    int r;

    if (address.path)
        r = parse_unix(text, address.path, &address.path_len, err);
    else if (tcp)
        r = parse_tcp(text, tcp, &address.port, err);
    else
        r = err_set(err, -EINVAL, TEXT ": " EXPECTED, text);
    if (r == 0)
        *ret_address = address;
    return r;
}
