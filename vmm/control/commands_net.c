/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/commands_net.h"

#include <inttypes.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "base/bytes.h"
#include "net/mac.h"
#include "vmm/control/nic_counters.h"

/* The card with a name. False: there is none. */
static bool find_nic(struct control_vm *vm, const char *name, unsigned *ret_index)
{
    for (unsigned i = 0; i < vm->nnics; i++) {
        struct nic_info info;

        vm->queries->get_nic(vm, i, &info);
        if (strcmp(info.name, name) == 0) {
            *ret_index = i;
            return true;
        }
    }
    return false;
}

static void fail_without(struct qmp_request *request, const char *name)
{
    qmp_fail(request, QMP_DEVICE_NOT_FOUND, "Device '%.64s' not found", name);
}

/* ---- set_link, announce-self ----------------------------------------------------------------- */

static void run_set_link(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);
    const char *name = qmp_string(request, "name");
    unsigned index;

    if (!find_nic(vm, name, &index)) {
        fail_without(request, name);
        return;
    }
    vm->actions->set_link(vm, index, json_is_true(qmp_any(request, "up")));
    qmp_done(request);
}

/* Is the card among those that are named? No list: all are. */
static bool is_named(const json_t *names, const char *name)
{
    const json_t *element;
    size_t i;

    json_array_foreach(names, i,
                       element) if (json_is_string(element) &&
                                    strcmp(json_string_value(element), name) == 0) return true;
    return !names;
}

/* How often and when guests say it is up to them: QEMU's arguments about that change nothing. */
static void run_announce(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);
    const json_t *names = qmp_any(request, "interfaces");

    if (names && !json_is_array(names)) {
        qmp_fail(request, QMP_GENERIC_ERROR,
                 "announce-self: 'interfaces' must be an array of names");
        return;
    }
    for (unsigned i = 0; i < vm->nnics; i++) {
        struct nic_info info;

        vm->queries->get_nic(vm, i, &info);
        if (is_named(names, info.name))
            vm->actions->announce(vm, i);
    }
    qmp_done(request);
}

/* ---- query-rx-filter ------------------------------------------------------------------------- */

static json_t *mac_json(const struct mac *mac)
{
    char text[MAC_TEXT_LEN];

    mac_format(mac, text);
    return json_string(text);
}

static json_t *table_json(const struct net_filter_table *table)
{
    json_t *macs = json_array();

    for (unsigned i = 0; i < table->n; i++)
        json_array_append_new(macs, mac_json(&table->macs[i]));
    return macs;
}

/* What passes of a kind of addresses, in QEMU's words. */
static const char *state_of(const struct net_filter *filter, uint8_t none, uint8_t all)
{
    return filter->modes[none] ? "none" : filter->modes[all] ? "all" : "normal";
}

static json_t *filter_json(const struct nic_info *info)
{
    const struct net_filter *filter = &info->guest.filter;
    const bool *modes = filter->modes;
    json_t *json = json_pack(
        "{s:s,s:b,s:s,s:s,s:s,s:b,s:b,s:b}", "name", info->name, "promiscuous",
        modes[VIRTIO_NET_CTRL_RX_PROMISC], "multicast",
        state_of(filter, VIRTIO_NET_CTRL_RX_NOMULTI, VIRTIO_NET_CTRL_RX_ALLMULTI), "unicast",
        state_of(filter, VIRTIO_NET_CTRL_RX_NOUNI, VIRTIO_NET_CTRL_RX_ALLUNI), "vlan", "all",
        "broadcast-allowed", !modes[VIRTIO_NET_CTRL_RX_NOBCAST], "multicast-overflow",
        filter->multicast.overflow, "unicast-overflow", filter->unicast.overflow);

    json_object_set_new(json, "main-mac", mac_json(&filter->mac));
    json_object_set_new(json, "vlan-table", json_array());
    json_object_set_new(json, "unicast-table", table_json(&filter->unicast));
    json_object_set_new(json, "multicast-table", table_json(&filter->multicast));
    return json;
}

static void run_query_rx_filter(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);
    const char *name = qmp_string(request, "name");
    json_t *filters;
    unsigned index;

    if (name && !find_nic(vm, name, &index)) {
        fail_without(request, name);
        return;
    }
    filters = json_array();
    for (unsigned i = name ? index : 0; i < (name ? index + 1 : vm->nnics); i++) {
        struct nic_info info;

        vm->queries->get_nic(vm, i, &info);
        json_array_append_new(filters, filter_json(&info));
    }
    qmp_return(request, filters);
}

/* ---- x-query-netdev -------------------------------------------------------------------------- */

static json_t *nic_json(const struct nic_info *info)
{
    struct vm_counter counters[VM_COUNTERS_MAX];
    unsigned n = nic_counters(info, counters);
    json_t *json =
        json_pack("{s:s,s:s,s:o,s:b,s:b,s:b,s:i}", "name", info->name, "type", info->kind, "peer",
                  qmp_text(info->label), "vhost", info->guest.by_kernel, "link-wanted",
                  info->link_wanted, "link-up", info->guest.link_up, "mtu", info->mtu);
    json_t *counted = json_object();

    for (unsigned i = 0; i < n; i++)
        json_object_set_new(counted, counters[i].name, json_integer((json_int_t)counters[i].value));
    json_object_set_new(json, "mac-address", mac_json(&info->mac));
    json_object_set_new(json, "counters", counted);
    return json;
}

static void run_query_netdev(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);
    json_t *nics = json_array();

    for (unsigned i = 0; i < vm->nnics; i++) {
        struct nic_info info;

        vm->queries->get_nic(vm, i, &info);
        json_array_append_new(nics, nic_json(&info));
    }
    qmp_return(request, nics);
}

/* ---- the human monitor ----------------------------------------------------------------------- */

void commands_net_show(struct control_vm *vm, FILE *out)
{
    for (unsigned i = 0; i < vm->nnics; i++) {
        struct nic_info info;
        const struct virtio_net_counters *counted = &info.counters;
        char mac[MAC_TEXT_LEN];

        vm->queries->get_nic(vm, i, &info);
        mac_format(&info.mac, mac);
        fprintf(out, "%s: index=%u,type=nic,model=virtio-net,macaddr=%s,link=%s\n", info.name, i,
                mac, info.guest.link_up ? "up" : "down");
        fprintf(out, " \\ %s: %s\n", info.kind, info.label);
        fprintf(out, "    received: %" PRIu64 " frames, %" PRIu64 " bytes, %" PRIu64 " dropped\n",
                counted->received.frames, counted->received.bytes, counted->received.dropped);
        fprintf(out, "    sent:     %" PRIu64 " frames, %" PRIu64 " bytes, %" PRIu64 " dropped\n",
                counted->sent.frames, counted->sent.bytes, counted->sent.dropped);
    }
}

void commands_net_set_link(struct control_vm *vm, const char *args, FILE *out)
{
    const char *blank = strchr(args, ' ');
    const char *state = blank ? blank + 1 : "";
    char name[16] = "";
    unsigned index;

    if (strcmp(state, "on") != 0 && strcmp(state, "off") != 0) {
        fprintf(out, "set_link: expected the name of a card, and on or off\n");
        return;
    }
    if ((size_t)(blank - args) < sizeof(name))
        memcpy(name, args, (size_t)(blank - args));
    if (find_nic(vm, name, &index))
        vm->actions->set_link(vm, index, strcmp(state, "on") == 0);
    else
        fprintf(out, "Device '%.*s' not found\n", (int)min_u64((size_t)(blank - args), 64), args);
}

/* ---- table ----------------------------------------------------------------------------------- */

static const struct qmp_arg link_args[] = {{"name", QMP_STRING, false}, {"up", QMP_BOOLEAN, false}};
static const struct qmp_arg filter_args[] = {{"name", QMP_STRING, true}};
static const struct qmp_arg announce_args[] = {
    {"initial", QMP_INTEGER, true}, {"max", QMP_INTEGER, true},    {"rounds", QMP_INTEGER, true},
    {"step", QMP_INTEGER, true},    {"interfaces", QMP_ANY, true}, {"id", QMP_STRING, true}};

static const struct qmp_command commands[] = {
    {"set_link", run_set_link, link_args, ARRAY_SIZE(link_args)},
    {"query-rx-filter", run_query_rx_filter, filter_args, ARRAY_SIZE(filter_args)},
    {"announce-self", run_announce, announce_args, ARRAY_SIZE(announce_args)},
    {"x-query-netdev", run_query_netdev, NULL, 0},
};

const struct qmp_commands commands_net = {commands, ARRAY_SIZE(commands)};
