/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gdb/session_data.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "vmm/gdb/session_state.h"

/* Memory is copied in pieces of this size. */
#define PIECE 512u

/* ---- registers ------------------------------------------------------------------------------- */

static bool has_avx(const struct gdb_session *session)
{
    return session->target->ops->has_avx(session->target);
}

static int get(const struct gdb_session *session, struct gdb_registers *registers)
{
    *registers = (struct gdb_registers){.rip = 0};
    return session->target->ops->get_registers(session->target, session->cpu, registers);
}

static int set(const struct gdb_session *session, const struct gdb_registers *registers)
{
    return session->target->ops->set_registers(session->target, session->cpu, registers);
}

/* The host is little endian, as the guest is. */
static void *place(struct gdb_registers *registers, const struct gdb_register *reg)
{
    return (uint8_t *)registers + reg->offset;
}

void gdb_get_registers(struct gdb_session *session)
{
    struct gdb_registers registers;
    int r = get(session, &registers);

    if (r < 0) {
        gdb_reply_error(&session->reply, r);
        return;
    }
    for (size_t i = 0; i < gdb_register_count(has_avx(session)); i++) {
        const struct gdb_register *reg = gdb_register_at(i);

        gdb_reply_hex(&session->reply, place(&registers, reg), reg->bits / 8);
    }
}

static void answer(struct gdb_session *session, int r)
{
    if (r < 0)
        gdb_reply_error(&session->reply, r);
    else
        gdb_reply_text(&session->reply, "OK");
}

/* gdb may leave out the last ones. */
void gdb_set_registers(struct gdb_session *session, const char *text)
{
    struct gdb_registers registers;
    int r = get(session, &registers);

    for (size_t i = 0; r == 0 && *text && i < gdb_register_count(has_avx(session)); i++) {
        const struct gdb_register *reg = gdb_register_at(i);

        if (!gdb_take_bytes(&text, place(&registers, reg), reg->bits / 8))
            r = -EINVAL;
    }
    answer(session, r < 0 ? r : set(session, &registers));
}

static const struct gdb_register *take_register(struct gdb_session *session, const char **text)
{
    uint64_t number;

    if (!gdb_take_number(text, &number) || number >= gdb_register_count(has_avx(session)))
        return NULL;
    return gdb_register_at(number);
}

void gdb_get_register(struct gdb_session *session, const char *text)
{
    const struct gdb_register *reg = take_register(session, &text);
    struct gdb_registers registers;
    int r = reg ? get(session, &registers) : -EINVAL;

    if (r < 0)
        gdb_reply_error(&session->reply, r);
    else
        gdb_reply_hex(&session->reply, place(&registers, reg), reg->bits / 8);
}

void gdb_set_register(struct gdb_session *session, const char *text)
{
    const struct gdb_register *reg = take_register(session, &text);
    struct gdb_registers registers;
    int r = reg ? get(session, &registers) : -EINVAL;

    if (r == 0 && (!gdb_take_char(&text, '=') ||
                   !gdb_take_bytes(&text, place(&registers, reg), reg->bits / 8) || *text))
        r = -EINVAL;
    answer(session, r < 0 ? r : set(session, &registers));
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Where `address` is, and how many of `len` bytes can be copied there at once. */
static int locate(struct gdb_session *session, bool physical, uint64_t address, size_t len,
                  uint64_t *ret_gpa, size_t *ret_len)
{
    uint64_t in_page = PIECE - address % PIECE;
    int r = 0;

    if (physical)
        *ret_gpa = address;
    else
        r = session->target->ops->translate(session->target, session->cpu, address, ret_gpa,
                                            &in_page);
    *ret_len = (size_t)min_u64(min_u64(in_page, PIECE - address % PIECE), len);
    return r;
}

size_t gdb_read(struct gdb_session *session, bool physical, uint64_t address, void *buf, size_t len)
{
    size_t done = 0;

    while (done < len) {
        uint8_t *to = (uint8_t *)buf + done;
        uint64_t gpa;
        size_t n;

        if (locate(session, physical, address + done, len - done, &gpa, &n) < 0 ||
            session->target->ops->read(session->target, gpa, to, n) < 0)
            break;
        gdb_breakpoints_hide(&session->breakpoints, gpa, to, n);
        done += n;
    }
    return done;
}

static int write_memory(struct gdb_session *session, uint64_t address, const uint8_t *bytes,
                        size_t len)
{
    while (len > 0) {
        uint8_t piece[PIECE];
        uint64_t gpa;
        size_t n;
        int r = locate(session, session->physical, address, len, &gpa, &n);

        if (r < 0)
            return r;
        memcpy(piece, bytes, n);
        gdb_breakpoints_keep(&session->breakpoints, gpa, piece, n);
        r = session->target->ops->write(session->target, gpa, piece, n);
        if (r < 0)
            return r;
        address += n;
        bytes += n;
        len -= n;
    }
    return 0;
}

/* `ADDRESS,LENGTH` */
static bool take_range(const char **text, uint64_t *ret_address, uint64_t *ret_len)
{
    return gdb_take_number(text, ret_address) && gdb_take_char(text, ',') &&
           gdb_take_number(text, ret_len);
}

/* What can be read is answered, even if it is less. */
void gdb_read_memory(struct gdb_session *session, const char *text)
{
    uint8_t *bytes = session->memory;
    uint64_t address, len;
    size_t done;

    if (!take_range(&text, &address, &len) || *text) {
        gdb_reply_error(&session->reply, -EINVAL);
        return;
    }
    len = min_u64(len, sizeof(session->memory));
    done = gdb_read(session, session->physical, address, bytes, len);
    if (done == 0 && len > 0)
        gdb_reply_error(&session->reply, -EFAULT);
    gdb_reply_hex(&session->reply, bytes, done);
}

void gdb_write_memory(struct gdb_session *session, const char *text)
{
    uint8_t *bytes = session->memory;
    uint64_t address, len;

    if (!take_range(&text, &address, &len) || !gdb_take_char(&text, ':') ||
        len > sizeof(session->memory) || !gdb_take_bytes(&text, bytes, len) || *text)
        gdb_reply_error(&session->reply, -EINVAL);
    else
        answer(session, write_memory(session, address, bytes, len));
}

void gdb_write_memory_binary(struct gdb_session *session, const char *text, size_t len)
{
    const char *end = text + len;
    uint64_t address, n;

    if (!take_range(&text, &address, &n) || !gdb_take_char(&text, ':') || n != (size_t)(end - text))
        gdb_reply_error(&session->reply, -EINVAL);
    else
        answer(session, write_memory(session, address, (const uint8_t *)text, n));
}

/* ---- breakpoints ----------------------------------------------------------------------------- */

/*
 * An empty answer says that something is not supported. But without support for software
 * breakpoints gdb would write an int3 itself, and the guest would run into it.
 */
static bool is_supported(struct gdb_session *session, uint64_t type)
{
    if (type <= GDB_WATCH_ACCESS &&
        session->target->ops->supports(session->target, (enum gdb_breakpoint_type)type))
        return true;
    if (type == GDB_BREAK_SOFTWARE)
        gdb_reply_error(&session->reply, -ENOTSUP);
    return false;
}

/* `TYPE,ADDRESS,KIND`; for watchpoints the kind is the length. */
void gdb_breakpoint(struct gdb_session *session, bool on, const char *text)
{
    struct gdb_breakpoints *breakpoints = &session->breakpoints;
    uint64_t type, address, kind;
    struct gdb_hardware hardware;

    if (!gdb_take_number(&text, &type) || !gdb_take_char(&text, ',') ||
        !take_range(&text, &address, &kind)) {
        gdb_reply_error(&session->reply, -EINVAL);
        return;
    }
    if (!is_supported(session, type))
        return;
    if (type == GDB_BREAK_HARDWARE)
        kind = 1;
    hardware =
        (struct gdb_hardware){.type = (enum gdb_breakpoint_type)type, .va = address, .len = kind};
    if (type == GDB_BREAK_SOFTWARE && on) {
        answer(session, gdb_software_set(breakpoints, session->target, session->cpu, address));
        return;
    }
    if (on) {
        answer(session, gdb_hardware_set(breakpoints, &hardware));
        return;
    }
    if (type == GDB_BREAK_SOFTWARE)
        gdb_software_remove(breakpoints, session->target, address);
    else
        gdb_hardware_remove(breakpoints, &hardware);
    answer(session, 0);
}
