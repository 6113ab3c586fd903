/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/qmp_builtin.h"

#include <stdio.h>

#include "base/bytes.h"

static void run_capabilities(struct qmp_request *request)
{
    json_t *enable = qmp_any(request, "enable");

    /* None is offered in the greeting. */
    if (enable && json_array_size(enable) > 0)
        qmp_fail(request, QMP_GENERIC_ERROR, "qmp_capabilities: none of these was offered");
    else
        qmp_done(request);
}

static void run_query_version(struct qmp_request *request)
{
    qmp_return(request, qmp_version());
}

static void add_name(const struct qmp_command *command, void *opaque)
{
    json_array_append_new(opaque, json_pack("{s:s}", "name", command->name));
}

static void run_query_commands(struct qmp_request *request)
{
    json_t *names = json_array();

    qmp_each_command(request, add_name, names);
    qmp_return(request, names);
}

/* ---- query-qmp-schema ------------------------------------------------------------------------ */

/*
 * An honest subset: each command with its arguments. What commands return is described as "any",
 * and events are not listed.
 */
static const char schema_types[][8] = {
    [QMP_STRING] = "str",
    [QMP_INTEGER] = "int",
    [QMP_BOOLEAN] = "bool",
    [QMP_ANY] = "any",
};

static json_t *schema_member(const struct qmp_arg *arg)
{
    json_t *member = json_pack("{s:s,s:s}", "name", arg->name, "type", schema_types[arg->type]);

    /* A default of null says that there need not be one. */
    if (member && arg->optional)
        json_object_set_new(member, "default", json_null());
    return member;
}

static void add_schema(const struct qmp_command *command, void *opaque)
{
    json_t *members = json_array();
    char arg_type[64];

    (void)snprintf(arg_type, sizeof(arg_type), "%s-arguments", command->name);
    for (size_t i = 0; i < command->nargs; i++)
        json_array_append_new(members, schema_member(&command->args[i]));
    json_array_append_new(opaque, json_pack("{s:s,s:s,s:o}", "name", arg_type, "meta-type",
                                            "object", "members", members));
    json_array_append_new(opaque, json_pack("{s:s,s:s,s:s,s:s,s:b}", "name", command->name,
                                            "meta-type", "command", "arg-type", arg_type,
                                            "ret-type", "any", "allow-oob", 0));
}

static void add_builtin(json_t *schema, const char *name, const char *json_type)
{
    json_array_append_new(schema, json_pack("{s:s,s:s,s:s}", "name", name, "meta-type", "builtin",
                                            "json-type", json_type));
}

static void run_query_schema(struct qmp_request *request)
{
    json_t *schema = json_array();

    add_builtin(schema, "str", "string");
    add_builtin(schema, "int", "int");
    add_builtin(schema, "bool", "boolean");
    add_builtin(schema, "any", "value");
    qmp_each_command(request, add_schema, schema);
    qmp_return(request, schema);
}

static const struct qmp_arg capabilities_args[] = {{"enable", QMP_ANY, true}};

static const struct qmp_command commands[] = {
    {"qmp_capabilities", run_capabilities, capabilities_args, ARRAY_SIZE(capabilities_args)},
    {"query-version", run_query_version, NULL, 0},
    {"query-commands", run_query_commands, NULL, 0},
    {"query-qmp-schema", run_query_schema, NULL, 0},
};

const struct qmp_commands qmp_builtin_commands = {commands, ARRAY_SIZE(commands)};
