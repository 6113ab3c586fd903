/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/config_net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What listens on the host's loopback addresses is not meant for guests by default. */
void config_net_init(struct config_net *net)
{
    *net = (struct config_net){.isolate = true};
}

static void free_texts(struct config_texts *texts)
{
    while (texts->n > 0)
        free(texts->list[--texts->n]);
    free(texts->list);
}

void config_net_done(struct config_net *net)
{
    free(net->kind);
    free_texts(&net->forwards);
    free_texts(&net->dns);
    free(net->hostname);
    free(net->helper);
    *net = (struct config_net){0};
}

int config_texts_add(struct config_texts *texts, const char *text, struct err *err)
{
    char **list = realloc(texts->list, (texts->n + 1) * sizeof(*list));

    if (list)
        texts->list = list;
    if (!list || !(list[texts->n] = strdup(text)))
        return err_set(err, -ENOMEM, "out of memory");
    texts->n++;
    return 0;
}

int config_net_options(const struct config_net *net, struct net_options *ret_options,
                       struct err *err)
{
    struct net_options options = {
        .listens = net->server,
        .bridge_helper = net->helper,
        .vhost = net->vhost,
        .user =
            {
                .forwards = (const char *const *)net->forwards.list,
                .nforwards = net->forwards.n,
                .dns = (const char *const *)net->dns.list,
                .ndns = net->dns.n,
                .hostname = net->hostname,
                .mtu = net->mtu,
                .isolate = net->isolate,
            },
    };
    int r;

    if (!net->kind)
        return err_set(err, -EINVAL, "kind is missing: expected " NET_KIND_EXPECTED);
    r = net_options_set_kind(&options, net->kind, err);
    if (r == 0)
        r = net_options_check(&options, err);
    if (r == 0 && !net->isolate && options.kind != NET_USER)
        r = err_set(err, -EINVAL, "isolate: only with user");
    if (r == 0 && options.kind == NET_NONE &&
        (net->mtu > 0 || net->bps > 0 || net->pps > 0 || !mac_is_zero(&net->mac)))
        r = err_set(err, -EINVAL, "none: expected no keys with it: there is no card");
    if (r == 0 && net->vhost && (net->bps > 0 || net->pps > 0))
        r = err_set(err, -EINVAL,
                    "vhost: expected neither bps nor pps with it: the kernel has no limits");
    if (r == 0)
        *ret_options = options;
    return r;
}

bool config_net_fd(const struct config_net *net, int *ret_fd)
{
    struct net_options options = {0};
    struct err err;

    if (!net->kind || net_options_set_kind(&options, net->kind, &err) < 0 ||
        options.kind != NET_TAP_FD)
        return false;
    *ret_fd = options.fd;
    return true;
}

/* Two cards: nothing that only one can have is given to both. */
static int check_pair(const struct config_net *one, const struct config_net *other, struct err *err)
{
    char text[MAC_TEXT_LEN];
    int fd, other_fd;

    if (!mac_is_zero(&one->mac) && memcmp(&one->mac, &other->mac, sizeof(one->mac)) == 0) {
        mac_format(&one->mac, text);
        return err_set(err, -EINVAL, "net: mac %s is given twice: expected different ones", text);
    }
    if (config_net_fd(one, &fd) && config_net_fd(other, &other_fd) && fd == other_fd)
        return err_set(err, -EINVAL, "net: fd %d is given twice: expected different ones", fd);
    return 0;
}

int config_nets_check(const struct config_net *nets, size_t n, struct err *err)
{
    int r = 0;

    for (size_t i = 1; r == 0 && i < n; i++)
        for (size_t j = 0; r == 0 && j < i; j++)
            r = check_pair(&nets[i], &nets[j], err);
    return r;
}
