/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets of gdb's remote serial protocol: `$data#sum`, in both directions, with two hexadecimal
 * digits of checksum, and `}` before a byte that has a meaning of its own, which is then XORed with
 * 0x20. Between packets there are `+` and `-`, which acknowledge one, and 0x03, which interrupts.
 *
 * Manual of gdb, appendix "gdb Remote Serial Protocol". What the client sends is hostile input.
 */
#ifndef MINIVMM_GDB_PACKET_H
#define MINIVMM_GDB_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

/* Longest data of a packet: all registers twice, or 8 KiB of memory in hexadecimal. */
#define GDB_PACKET_MAX 0x4000u

enum gdb_input {
    GDB_INPUT_NONE,      /* everything was taken, and nothing is complete */
    GDB_INPUT_PACKET,    /* reader->data, of reader->len bytes, followed by NUL */
    GDB_INPUT_BAD,       /* a packet with a wrong checksum, or one that is too long */
    GDB_INPUT_INTERRUPT, /* 0x03 */
    GDB_INPUT_ACK,       /* + */
    GDB_INPUT_NAK,       /* - */
    GDB_INPUT_NONSENSE,  /* any other byte between packets */
};

/* All zero is the beginning of a stream. */
struct gdb_reader {
    enum {
        GDB_READER_OUTSIDE,
        GDB_READER_DATA,
        GDB_READER_SUM_HIGH,
        GDB_READER_SUM_LOW,
    } state;
    bool escaped;
    bool bad;
    uint8_t sum;
    uint8_t sum_sent;
    size_t len;
    char data[GDB_PACKET_MAX + 1];
};

/* Go on with `len` bytes; *ret_taken is how many of them were used. */
enum gdb_input gdb_reader_feed(struct gdb_reader *reader, const char *bytes, size_t len,
                               size_t *ret_taken);

/* A packet to be sent; all zero is an empty one. What does not fit is not added: see `full`. */
struct gdb_reply {
    bool full;
    size_t len;
    char data[1 + GDB_PACKET_MAX + 3]; /* `$`, data, `#`, sum */
};

void gdb_reply_begin(struct gdb_reply *reply);
void gdb_reply_text(struct gdb_reply *reply, const char *text);
void gdb_reply_format(struct gdb_reply *reply, const char *fmt, ...) PRINTF_LIKE(2, 3);
void gdb_reply_hex(struct gdb_reply *reply, const void *bytes, size_t len);

/* Bytes as they are, those with a meaning escaped. Returns how many fit. */
size_t gdb_reply_binary(struct gdb_reply *reply, const void *bytes, size_t len);

/* Make it an error, a number of errno, whatever was in it before. */
void gdb_reply_error(struct gdb_reply *reply, int error);

/* Complete it: reply->data, of reply->len bytes, can be sent. A full one is an error instead. */
void gdb_reply_end(struct gdb_reply *reply);

/* ---- reading what is in a packet ------------------------------------------------------------- */

/*
 * Take a hexadecimal number of up to 16 digits at *text; false, and nothing taken, if none is
 * there.
 */
bool gdb_take_number(const char **text, uint64_t *ret_number) MUST_CHECK;

/* Take `c`; false if something else is there. */
bool gdb_take_char(const char **text, char c) MUST_CHECK;

/* Take `word`; false, and nothing taken, if something else is there. */
bool gdb_take_word(const char **text, const char *word) MUST_CHECK;

/* Take `len` bytes in hexadecimal; false, and nothing taken, if there are less. */
bool gdb_take_bytes(const char **text, void *bytes, size_t len) MUST_CHECK;

#endif
