/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gdb/packet.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ESCAPE '}'
#define ESCAPE_XOR 0x20
#define INTERRUPT 0x03

/* Room for data, the closing `#` and the sum being kept. */
#define REPLY_DATA_END (1u + GDB_PACKET_MAX)

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* ---- input ----------------------------------------------------------------------------------- */

static void begin_packet(struct gdb_reader *reader)
{
    reader->state = GDB_READER_DATA;
    reader->escaped = false;
    reader->bad = false;
    reader->sum = 0;
    reader->len = 0;
}

static enum gdb_input take_outside(struct gdb_reader *reader, char c)
{
    switch (c) {
    case '$':
        begin_packet(reader);
        return GDB_INPUT_NONE;
    case '+':
        return GDB_INPUT_ACK;
    case '-':
        return GDB_INPUT_NAK;
    case INTERRUPT:
        return GDB_INPUT_INTERRUPT;
    default:
        return GDB_INPUT_NONSENSE;
    }
}

static void take_data(struct gdb_reader *reader, char c)
{
    if (c == '$') { /* the rest of the packet before was lost */
        begin_packet(reader);
        return;
    }
    if (c == '#') {
        reader->bad = reader->bad || reader->escaped;
        reader->state = GDB_READER_SUM_HIGH;
        return;
    }
    reader->sum = (uint8_t)(reader->sum + (uint8_t)c);
    if (c == ESCAPE && !reader->escaped) {
        reader->escaped = true;
        return;
    }
    if (reader->escaped)
        c = (char)(c ^ ESCAPE_XOR);
    reader->escaped = false;
    if (reader->len < GDB_PACKET_MAX)
        reader->data[reader->len++] = c;
    else
        reader->bad = true;
}

static enum gdb_input take_sum(struct gdb_reader *reader, char c)
{
    int digit = hex_digit(c);

    if (digit < 0)
        reader->bad = true;
    reader->sum_sent = (uint8_t)(reader->sum_sent << 4 | (digit & 0xf));
    if (reader->state == GDB_READER_SUM_HIGH) {
        reader->state = GDB_READER_SUM_LOW;
        return GDB_INPUT_NONE;
    }
    reader->state = GDB_READER_OUTSIDE;
    reader->data[reader->len] = '\0';
    return reader->bad || reader->sum != reader->sum_sent ? GDB_INPUT_BAD : GDB_INPUT_PACKET;
}

static enum gdb_input take(struct gdb_reader *reader, char c)
{
    switch (reader->state) {
    case GDB_READER_OUTSIDE:
        return take_outside(reader, c);
    case GDB_READER_DATA:
        take_data(reader, c);
        return GDB_INPUT_NONE;
    case GDB_READER_SUM_HIGH:
    case GDB_READER_SUM_LOW:
        return take_sum(reader, c);
    }
    return GDB_INPUT_NONE;
}

enum gdb_input gdb_reader_feed(struct gdb_reader *reader, const char *bytes, size_t len,
                               size_t *ret_taken)
{
    for (size_t i = 0; i < len; i++) {
        enum gdb_input input = take(reader, bytes[i]);

        if (input != GDB_INPUT_NONE) {
            *ret_taken = i + 1;
            return input;
        }
    }
    *ret_taken = len;
    return GDB_INPUT_NONE;
}

/* ---- output ---------------------------------------------------------------------------------- */

void gdb_reply_begin(struct gdb_reply *reply)
{
    reply->full = false;
    reply->data[0] = '$';
    reply->len = 1;
}

static void put(struct gdb_reply *reply, const char *bytes, size_t len)
{
    if (len > REPLY_DATA_END - reply->len) {
        reply->full = true;
        return;
    }
    memcpy(reply->data + reply->len, bytes, len);
    reply->len += len;
}

void gdb_reply_text(struct gdb_reply *reply, const char *text)
{
    put(reply, text, strlen(text));
}

void gdb_reply_format(struct gdb_reply *reply, const char *fmt, ...)
{
    char text[256];
    va_list args;
    int len;

    va_start(args, fmt);
    len = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof(text))
        reply->full = true;
    else
        put(reply, text, (size_t)len);
}

void gdb_reply_hex(struct gdb_reply *reply, const void *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *from = bytes;

    for (size_t i = 0; i < len; i++) {
        const char pair[] = {digits[from[i] >> 4], digits[from[i] & 0xf]};

        put(reply, pair, sizeof(pair));
    }
}

size_t gdb_reply_binary(struct gdb_reply *reply, const void *bytes, size_t len)
{
    const char *from = bytes;

    for (size_t i = 0; i < len; i++) {
        bool special = from[i] == '$' || from[i] == '#' || from[i] == ESCAPE || from[i] == '*';
        const char pair[] = {ESCAPE, (char)(from[i] ^ ESCAPE_XOR)};

        if (REPLY_DATA_END - reply->len < sizeof(pair))
            return i;
        put(reply, special ? pair : &from[i], special ? sizeof(pair) : 1);
    }
    return len;
}

void gdb_reply_error(struct gdb_reply *reply, int error)
{
    gdb_reply_begin(reply);
    gdb_reply_format(reply, "E%02x", (unsigned)-error & 0xff);
}

void gdb_reply_end(struct gdb_reply *reply)
{
    uint8_t sum = 0;

    if (reply->full)
        gdb_reply_error(reply, -E2BIG);
    for (size_t i = 1; i < reply->len; i++)
        sum = (uint8_t)(sum + (uint8_t)reply->data[i]);
    reply->data[reply->len++] = '#';
    reply->data[reply->len++] = "0123456789abcdef"[sum >> 4];
    reply->data[reply->len++] = "0123456789abcdef"[sum & 0xf];
}

/* ---- reading what is in a packet ------------------------------------------------------------- */

bool gdb_take_number(const char **text, uint64_t *ret_number)
{
    const char *p = *text;
    uint64_t number = 0;

    for (; hex_digit(*p) >= 0; p++) {
        if (number >> 60 != 0)
            return false;
        number = number << 4 | (unsigned)hex_digit(*p);
    }
    if (p == *text)
        return false;
    *text = p;
    *ret_number = number;
    return true;
}

bool gdb_take_char(const char **text, char c)
{
    if (**text != c)
        return false;
    (*text)++;
    return true;
}

bool gdb_take_word(const char **text, const char *word)
{
    size_t len = strlen(word);

    if (strncmp(*text, word, len) != 0)
        return false;
    *text += len;
    return true;
}

/* The byte that two digits are; -1: they are something else. */
static int hex_byte(const char *digits)
{
    int high = hex_digit(digits[0]);
    int low = high < 0 ? -1 : hex_digit(digits[1]);

    return low < 0 ? -1 : high * 16 + low;
}

bool gdb_take_bytes(const char **text, void *bytes, size_t len)
{
    uint8_t *to = bytes;

    if (strnlen(*text, 2 * len) < 2 * len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (hex_byte(*text + 2 * i) < 0)
            return false;
    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t)hex_byte(*text + 2 * i);
    *text += 2 * len;
    return true;
}
