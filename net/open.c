/* SPDX-License-Identifier: Apache-2.0 */
#include "net/open.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/parse.h"
#include "net/bridge.h"
#include "net/dgram.h"
#include "net/passt.h"
#include "net/tap.h"
#include "net/unix_stream.h"

static const struct {
    char word[12]; /* no pointers: what has some is a page that each VM writes when it starts */
    enum net_kind kind;
    bool has_place;
} kinds[] = {
    {"none", NET_NONE, false},
    {"user", NET_USER, false},
    {"tap", NET_TAP, true},
    {"fd", NET_TAP_FD, true},
    {"bridge", NET_BRIDGE, true},
    {"unix", NET_UNIX, true},
    {"unix-dgram", NET_UNIX_DGRAM, true},
};

static int set_place(struct net_options *options, const char *place, struct err *err)
{
    uint64_t fd;

    options->place = place;
    if (options->kind != NET_TAP_FD)
        return 0;
    if (parse_u64(place, &fd) < 0 || fd > INT_MAX)
        return err_set(err, -EINVAL, "fd: '%.200s': expected the number of an open descriptor",
                       place);
    options->fd = (int)fd;
    return 0;
}

int net_options_set_kind(struct net_options *options, const char *text, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        const size_t len = strlen(kinds[i].word);
        const char *place = NULL;

        if (strncmp(text, kinds[i].word, len) != 0)
            continue;
        if (kinds[i].has_place && (text[len] == ':' || text[len] == '=') && text[len + 1])
            place = text + len + 1;
        if (kinds[i].has_place ? !place : text[len] != '\0')
            continue;
        options->kind = kinds[i].kind;
        return set_place(options, place, err);
    }
    return err_set(err, -EINVAL, "'%.200s': expected " NET_KIND_EXPECTED, text);
}

static int refuse_key(const char *key, const char *kind, struct err *err)
{
    return err_set(err, -EINVAL, "%s: only with %s", key, kind);
}

int net_options_check(const struct net_options *options, struct err *err)
{
    if (options->kind != NET_USER) {
        if (options->user.nforwards > 0)
            return refuse_key("forward", "user", err);
        if (options->user.ndns > 0)
            return refuse_key("dns", "user", err);
        if (options->user.hostname)
            return refuse_key("hostname", "user", err);
    }
    if (options->listens && options->kind != NET_UNIX)
        return refuse_key("server", "unix", err);
    if (options->vhost && options->kind != NET_TAP && options->kind != NET_TAP_FD &&
        options->kind != NET_BRIDGE)
        return refuse_key("vhost", "tap, fd and bridge", err);
    if (options->bridge_helper && options->kind != NET_BRIDGE)
        return refuse_key("helper", "bridge", err);
    return passt_options_check(&options->user, err);
}

static int open_kind(const struct net_options *options, struct net **ret_net, struct err *err)
{
    switch (options->kind) {
    case NET_USER:
        return passt_open(&options->user, ret_net, err);
    case NET_TAP:
        return tap_open(options->place, ret_net, err);
    case NET_TAP_FD:
        return tap_open_fd(options->fd, ret_net, err);
    case NET_BRIDGE:
        return bridge_open(options->place, options->bridge_helper, ret_net, err);
    case NET_UNIX:
        return unix_stream_open(options->place, options->listens, ret_net, err);
    case NET_UNIX_DGRAM:
        return dgram_open(options->place, ret_net, err);
    case NET_NONE:
        break;
    }
    return err_set(err, -EINVAL, "no network: nothing to open");
}

int net_open(const struct net_options *options, struct net **ret_net, struct err *err)
{
    int r = open_kind(options, ret_net, err);

    if (r < 0)
        return r;
    if (options->vhost && (*ret_net)->ops->tap_fd(*ret_net) < 0) {
        (*ret_net)->ops->close(*ret_net);
        return err_set(err, -EINVAL, "vhost: expected a tap that was opened with IFF_VNET_HDR");
    }
    if (options->user.mtu)
        (*ret_net)->mtu = (uint16_t)options->user.mtu;
    return 0;
}
