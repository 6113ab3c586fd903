/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A minivmm process under test: started with pipes on stdin, stdout and stderr, fed, listened to,
 * and waited for with a time limit. Errors of the test machine end the process with a message.
 */
#ifndef MINIVMM_TESTS_VM_H
#define MINIVMM_TESTS_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Far more than anything here needs, on a busy machine without hardware virtualisation too. */
#define VM_TIMEOUT_S 60

#define VM_ARGS_MAX 144

/* What came out of a pipe so far; always followed by a NUL byte. */
struct vm_stream {
    int fd; /* -1: ended */
    char *data;
    size_t len;
};

struct vm {
    pid_t pid; /* -1: waited for */
    int in;    /* -1: closed */
    struct vm_stream out;
    struct vm_stream err;
};

/*
 * Print why and exit with status 77 unless /dev/kvm can be opened, and unless the program to be
 * tested is there: $MINIVMM, or minivmm of the same build as this program.
 */
void vm_require(void);

/* A text file of the source tree that this program was built in, by its path there. To be freed. */
char *vm_read_source(const char *path);

/* Can files of the tests (scratch.h) be opened with O_DIRECT (cache=none)? Prints a line if not. */
bool vm_has_direct_io(void);

/* Start minivmm with these arguments, up to NULL. */
void vm_start(struct vm *vm, const char *const args[]);

/* How a start may be different; all 0 for vm_start. */
struct vm_setup {
    int terminal;           /* standard input; 0: a pipe */
    void (*in_child)(void); /* last thing before minivmm runs, in its process; may _exit */
};

void vm_start_with(struct vm *vm, const char *const args[], const struct vm_setup *setup);

void vm_send(struct vm *vm, const void *data, size_t len);
void vm_close_input(struct vm *vm);

/* Read until stdout, or stderr, contains `text`. False when the stream or the time ended first. */
bool vm_wait_output(struct vm *vm, const char *text);
bool vm_wait_error(struct vm *vm, const char *text);

/* What came from stderr so far; "" for nothing. */
const char *vm_errors(const struct vm *vm);

/* Read until stdout has brought `len` bytes. */
bool vm_wait_output_len(struct vm *vm, size_t len);

/* For whoever reads the failure of one that hangs: where each of its threads is. To stderr. */
void vm_print_threads(const struct vm *vm);

/*
 * Wait for the end of the process and of its streams. The exit code; -N if signal N ended it;
 * -1000 if it did not end in VM_TIMEOUT_S and was killed.
 */
#define VM_HANGS (-1000)
int vm_wait(struct vm *vm);

/* vm_start and vm_wait. */
int vm_run(struct vm *vm, const char *const args[]);

/* Kill it, if it still runs, and free the streams. */
void vm_done(struct vm *vm);

#endif
