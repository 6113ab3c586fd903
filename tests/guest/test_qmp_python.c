/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that others wrote for QEMU: the Python package qemu.qmp, where it is installed. PYTHON
 * names an interpreter that has it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/guest/guest_test.h"
#include "vmm/config/config.h"

static const char script[] =
    "import asyncio, sys\n"
    "from qemu.qmp import QMPClient\n"
    "from qemu.qmp.qmp_client import ExecuteError\n"
    "\n"
    "async def main(path):\n"
    "    qmp = QMPClient('test')\n"
    "    await qmp.connect(path)\n"
    "    names = {each['name'] for each in await qmp.execute('query-commands')}\n"
    "    assert {'stop', 'cont', 'quit', 'query-block'} <= names, names\n"
    "    for name in sorted(n for n in names if n.startswith('query-') and n != 'query-stats'):\n"
    "        await qmp.execute(name)\n"
    "    try:\n"
    "        await qmp.execute('no-such-command')\n"
    "        assert False\n"
    "    except ExecuteError as error:\n"
    "        assert error.error_class == 'CommandNotFound', error\n"
    "    with qmp.listener('STOP') as stops:\n"
    "        await qmp.execute('stop')\n"
    "        await stops.get()\n"
    "    assert (await qmp.execute('query-status'))['status'] == 'paused'\n"
    "    await qmp.execute('cont')\n"
    "    with qmp.listener('SHUTDOWN') as ends:\n"
    "        await qmp.execute('quit')\n"
    "        assert (await ends.get())['data']['guest'] is False\n"
    "    await qmp.disconnect()\n"
    "\n"
    "asyncio.run(main(sys.argv[1]))\n";

static const char *python(void)
{
    const char *named = getenv("PYTHON");

    return named ? named : "python3";
}

static bool has_package(void)
{
    char command[512];

    snprintf(command, sizeof(command), "%s -c 'import qemu.qmp' 2>/dev/null", python());
    return system(command) == 0;
}

START_TEST(python_package_is_content)
{
    const char *kernel = scratch_path("kernel");
    char address[512];
    const char *const args[] = {"--kernel", kernel,  "--memory", GUEST_MEMORY, "--serial",
                                "null",     "--qmp", address,    NULL};
    struct guest guest;
    struct vm vm;
    FILE *file;

    if (!has_package()) {
        printf("not tested: the Python package qemu.qmp is not installed\n");
        return;
    }
    file = fopen(scratch_path("client.py"), "w");
    ck_assert(file && fputs(script, file) >= 0 && fclose(file) == 0);
    snprintf(address, sizeof(address), "unix:%s", scratch_path("qmp"));
    guest_init(&guest);
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
    guest_write_kernel(&guest, kernel);
    guest_done(&guest);
    vm_start(&vm, args);
    scratch_ok("until [ -e qmp ]; do sleep 0.05; done; %s client.py qmp", python());
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
    vm_done(&vm);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "python", scratch_set_up, scratch_tear_down, python_package_is_content);
}

GUEST_TEST_MAIN("guest qmp python", add_tests)
