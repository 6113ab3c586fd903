/* SPDX-License-Identifier: Apache-2.0 */
#include "net/passt_args.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* Those that are always there, with room for each that may be there once. */
#define ARGS_FIXED 16u

/* Where systemd-resolved tells which servers it asks. */
#define RESOLVED_CONF "/run/systemd/resolve/resolv.conf"

#define HOSTNAME_MAX 253u

/* ---- checks ---------------------------------------------------------------------------------- */

static bool is_hostname(const char *text)
{
    size_t len = strlen(text);

    if (len == 0 || len > HOSTNAME_MAX || text[0] == '-' || text[0] == '.')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) && text[i] != '-' && text[i] != '.')
            return false;
    }
    return true;
}

static int check_dns(const char *text, struct err *err)
{
    struct in6_addr addr; /* large enough for both families */

    if (inet_pton(AF_INET, text, &addr) != 1 && inet_pton(AF_INET6, text, &addr) != 1)
        return err_set(err, -EINVAL, "dns: '%.200s': expected an IP address", text);
    return 0;
}

int passt_options_check(const struct passt_options *options, struct err *err)
{
    struct passt_forward forward;
    int r = 0;

    for (size_t i = 0; i < options->nforwards && r == 0; i++) {
        r = passt_forward_parse(options->forwards[i], &forward, err);
        if (r < 0)
            err_prefix(err, "forward");
    }
    for (size_t i = 0; i < options->ndns && r == 0; i++)
        r = check_dns(options->dns[i], err);
    if (r < 0)
        return r;
    if (options->hostname && !is_hostname(options->hostname))
        return err_set(err, -EINVAL, "hostname: '%.200s': expected letters, digits, - and .",
                       options->hostname);
    if (options->mtu && (options->mtu < PASST_MTU_MIN || options->mtu > PASST_MTU_MAX))
        return err_set(err, -EINVAL, "mtu: %u: expected a number from %u to %u", options->mtu,
                       PASST_MTU_MIN, PASST_MTU_MAX);
    return 0;
}

/* ---- the command line ------------------------------------------------------------------------ */

/*
 * A resolver on the host's loopback address is reached by way of the gateway's address, which an
 * isolated guest cannot use. So it asks the servers which that resolver asks.
 */
static void find_resolvers(struct resolvers *resolvers)
{
    struct resolvers own;

    resolvers->n = 0; /* passt finds the host's */
    resolvers_read("/etc/resolv.conf", &own);
    if (own.n > 0 || own.nlocal == 0)
        return;
    resolvers_read(RESOLVED_CONF, resolvers);
    if (resolvers->n == 0)
        log_warn("net user: the host's name server is on a loopback address, which the guest "
                 "cannot reach: name another by dns=, or use isolate=off");
}

static const char **put(const char **arg, const char *option, const char *value)
{
    *arg++ = option;
    if (value)
        *arg++ = value;
    return arg;
}

static const char **put_dns(const char **arg, const struct passt_args *args,
                            const struct passt_options *options)
{
    for (size_t i = 0; i < options->ndns; i++)
        arg = put(arg, "--dns", options->dns[i]);
    for (unsigned i = 0; i < args->resolvers.n; i++)
        arg = put(arg, "--dns", args->resolvers.addrs[i]);
    return arg;
}

/* Without a word on UDP, versions of passt forward UDP ports of the same numbers as TCP's. */
static const char **put_forwards(const char **arg, const struct passt_args *args, size_t n)
{
    bool has_udp = false;

    for (size_t i = 0; i < n; i++) {
        const struct passt_forward *forward = &args->forwards[i];

        arg = put(arg, forward->is_udp ? "--udp-ports" : "--tcp-ports", forward->arg);
        has_udp = has_udp || forward->is_udp;
    }
    return has_udp ? arg : put(arg, "--udp-ports", "none");
}

static void fill_argv(struct passt_args *args, const struct passt_options *options)
{
    const char **arg = args->argv;

    arg = put(arg, "passt", "--foreground");
    arg = put(arg, "--fd", PASST_FD);
    (void)snprintf(args->mtu, sizeof(args->mtu), "%u",
                   options->mtu ? options->mtu : PASST_MTU_MAX); /* fits */
    arg = put(arg, "--mtu", args->mtu);
    if (options->isolate)
        arg = put(arg, "--no-map-gw", NULL);
    if (options->hostname)
        arg = put(arg, "--hostname", options->hostname);
    arg = put_dns(arg, args, options);
    arg = put_forwards(arg, args, options->nforwards);
    *arg = NULL;
}

int passt_args_make(struct passt_args *args, const struct passt_options *options, struct err *err)
{
    const size_t max = ARGS_FIXED + 2 * (options->nforwards + options->ndns + RESOLVERS_MAX);

    memset(args, 0, sizeof(*args));
    args->argv = calloc(max, sizeof(*args->argv));
    args->forwards = calloc(options->nforwards + 1, sizeof(*args->forwards));
    if (!args->argv || !args->forwards) {
        passt_args_free(args);
        return err_set(err, -ENOMEM, "passt: out of memory");
    }
    for (size_t i = 0; i < options->nforwards; i++) {
        int r = passt_forward_parse(options->forwards[i], &args->forwards[i], err);

        if (r < 0) {
            passt_args_free(args);
            return r;
        }
    }
    if (options->isolate && options->ndns == 0)
        find_resolvers(&args->resolvers);
    fill_argv(args, options);
    return 0;
}

void passt_args_free(struct passt_args *args)
{
    free(args->forwards);
    free(args->argv);
    args->forwards = NULL;
    args->argv = NULL;
}
