/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's vhost-net, which most machines that build this do not have. */
#include "devices/virtio/vhost_net.h"

#include <string.h>
#include <unistd.h>

#include "devices/virtio/virtio.h"
#include "tests/lib/unit.h"

START_TEST(it_is_there_or_why_not_is_told)
{
    struct vhost_net vhost;
    struct err err = {0};

    if (vhost_net_open(&vhost, &err) == 0) {
        ck_assert_int_eq(vhost_net_set_features(&vhost, VIRTIO_FEATURES_COMMON), 0);
        vhost_net_close(&vhost);
        return;
    }
    ck_assert_msg(strstr(err.msg, "/dev/vhost-net: ") == err.msg, "%s", err.msg);
    if (access(VHOST_NET_DEVICE, F_OK) < 0)
        ck_assert_str_eq(err.msg, "/dev/vhost-net: there is none: load the module vhost_net, or "
                                  "leave vhost=on out");
    else
        ck_assert_msg(strstr(err.msg, "vhost=on"), "%s", err.msg);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "vhost-net", it_is_there_or_why_not_is_told);
}

UNIT_MAIN("vhost_net", add_tests)
