/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a VMM takes from exec to its first KVM_RUN.
 *
 * usage: first_kvm_run -- COMMAND…
 *
 * Runs COMMAND under ptrace with a seccomp filter that stops it at ioctl(KVM_RUN) and at nothing
 * else, so that its other system calls run at full speed; prints the nanoseconds from just before
 * execve to the stop, and kills it.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int trace_kvm_run(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KVM_RUN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void child(char **argv, uint64_t *start_ns)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 || raise(SIGSTOP) != 0 || trace_kvm_run() < 0) {
        perror("first_kvm_run: cannot trace");
        _exit(126);
    }
    *start_ns = now_ns();
    execvp(argv[0], argv);
    fprintf(stderr, "first_kvm_run: %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

/* Let the VMM run until a thread of it stops at KVM_RUN. 0, or -1 if it ended before. */
static int wait_for_kvm_run(pid_t vmm)
{
    int status;

    for (;;) {
        pid_t tid = waitpid(-1, &status, __WALL);
        int signo = 0;

        if (tid < 0)
            return -1;
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (tid == vmm)
                return -1;
            continue;
        }
        if (status >> 8 == (SIGTRAP | (PTRACE_EVENT_SECCOMP << 8)))
            return 0;
        /* Events and the first stop of a new thread are ours; other signals are the VMM's. */
        if (status >> 16 == 0 && WSTOPSIG(status) != SIGSTOP && WSTOPSIG(status) != SIGTRAP)
            signo = WSTOPSIG(status);
        ptrace(PTRACE_CONT, tid, NULL, (void *)(intptr_t)signo);
    }
}

int main(int argc, char **argv)
{
    uint64_t *start_ns =
        mmap(NULL, sizeof(*start_ns), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int reached, status;
    uint64_t end_ns;
    pid_t vmm;

    if (argc < 3 || strcmp(argv[1], "--") != 0 || start_ns == MAP_FAILED) {
        fprintf(stderr, "usage: first_kvm_run -- COMMAND...\n");
        return 2;
    }
    vmm = fork();
    if (vmm < 0) {
        perror("first_kvm_run: fork");
        return 1;
    }
    if (vmm == 0)
        child(argv + 2, start_ns);

    waitpid(vmm, &status, 0);
    ptrace(PTRACE_SETOPTIONS, vmm, NULL,
           (void *)(intptr_t)(PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
                              PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL));
    ptrace(PTRACE_CONT, vmm, NULL, NULL);
    reached = wait_for_kvm_run(vmm);
    end_ns = now_ns();
    kill(vmm, SIGKILL);
    while (waitpid(-1, &status, __WALL) > 0)
        ;
    if (reached < 0) {
        fprintf(stderr, "first_kvm_run: %s ended before its first KVM_RUN\n", argv[2]);
        return 1;
    }
    printf("%llu\n", (unsigned long long)(end_ns - *start_ns));
    return 0;
}
