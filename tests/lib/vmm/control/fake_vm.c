/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/vmm/control/fake_vm.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "block/image_ops.h"
#include "block/stack.h"

static struct fake_vm *fake_of(struct control_vm *vm)
{
    return container_of(vm, struct fake_vm, vm);
}

/* ---- queries --------------------------------------------------------------------------------- */

static enum vm_state get_state(struct control_vm *vm)
{
    return fake_of(vm)->state;
}

static bool get_cpu(struct control_vm *vm, unsigned index, struct vm_cpu *ret_cpu)
{
    ret_cpu->thread_id = 100 + (int)index;
    return fake_of(vm)->state != VM_NO_GUEST;
}

static unsigned get_cpu_counters(struct control_vm *vm, unsigned index,
                                 struct vm_counter ret_counters[VM_COUNTERS_MAX])
{
    ret_counters[0] = (struct vm_counter){"exits-a", 10 + index};
    ret_counters[1] = (struct vm_counter){"exits-b", 20 + index};
    return 2;
}

/* As Linux 6.18 tells of a CPU, with numbers as long as they get. */
static void count_much(void (*each)(void *opaque, const struct kvm_stat *stat), void *opaque)
{
    uint64_t values[32];
    const struct kvm_stat counter = {
        .name = "preemption_reported_count", .base = 10, .nvalues = 1, .values = values};
    const struct kvm_stat histogram = {.name = "halt_poll_success_hist",
                                       .type = KVM_STAT_LOG2_HISTOGRAM,
                                       .nvalues = ARRAY_SIZE(values),
                                       .values = values};

    for (size_t i = 0; i < ARRAY_SIZE(values); i++)
        values[i] = INT64_MAX;
    for (unsigned i = 0; i < 48; i++)
        each(opaque, &counter);
    for (unsigned i = 0; i < 3; i++)
        each(opaque, &histogram);
}

static bool get_kvm_stats(struct control_vm *vm, int cpu,
                          void (*each)(void *opaque, const struct kvm_stat *stat), void *opaque)
{
    const uint64_t values[] = {30 + (uint64_t)cpu, 40, 50};
    const struct kvm_stat exits = {.name = "exits", .base = 10, .nvalues = 1, .values = values};
    const struct kvm_stat waits = {
        .name = "waits",
        .type = KVM_STAT_LINEAR_HISTOGRAM,
        .unit = "seconds",
        .base = 10,
        .exponent = -9,
        .bucket_size = 100,
        .nvalues = 3,
        .values = values,
    };

    if (fake_of(vm)->state == VM_NO_GUEST)
        return false;
    if (fake_of(vm)->counts_much)
        count_much(each, opaque);
    each(opaque, &exits);
    if (cpu < 0)
        each(opaque, &waits);
    return true;
}

static bool show(struct control_vm *vm, enum vm_topic topic, unsigned cpu, FILE *out)
{
    if (fake_of(vm)->state == VM_NO_GUEST)
        return false;
    fprintf(out, "topic %u of CPU %u\n", topic, cpu);
    return true;
}

static bool read_memory(struct control_vm *vm, uint64_t gpa, void *buf, size_t len)
{
    if (gpa < FAKE_VM_RAM || !range_fits(gpa - FAKE_VM_RAM, len, FAKE_VM_RAM_LEN))
        return false;
    memcpy(buf, fake_of(vm)->ram + (gpa - FAKE_VM_RAM), len);
    return true;
}

static bool translate(struct control_vm *vm, unsigned cpu, uint64_t va, uint64_t *ret_gpa)
{
    uint64_t off = va - FAKE_VM_VIRTUAL;

    if (off >= FAKE_VM_RAM_LEN)
        return false;
    *ret_gpa = FAKE_VM_RAM + FAKE_VM_RAM_LEN - VM_PAGE_SIZE - align_down(off, VM_PAGE_SIZE) +
               off % VM_PAGE_SIZE;
    return true;
}

static void ask_cpu(struct control_vm *vm, unsigned cpu, struct cpu_question *question)
{
    struct fake_vm *fake = fake_of(vm);

    fake->asked_of_all = question->of_all;
    if (fake->hung_cpu) {
        fake->asked = question;
        return;
    }
    question->looked = fake->state != VM_NO_GUEST;
    if (question->looked)
        question->look(question);
    question->answered(question);
}

void fake_vm_let_cpu_answer(struct fake_vm *fake)
{
    fake->hung_cpu = false;
    ask_cpu(&fake->vm, 0, fake->asked);
}

static void get_disk(struct control_vm *vm, unsigned index, struct vm_disk *ret_disk)
{
    *ret_disk = (struct vm_disk){.direct = index == 1, .io_status = index == 0 ? "ok" : NULL};
    (void)snprintf(ret_disk->device, sizeof(ret_disk->device), "vd%c", 'a' + (int)index);
}

static void ask_disk(struct control_vm *vm, unsigned index, struct disk_question *question)
{
    disk_questions_ask(&fake_of(vm)->questions[index], question);
}

static bool get_balloon(struct control_vm *vm, uint64_t *ret_memory)
{
    *ret_memory = fake_of(vm)->balloon_memory;
    return fake_of(vm)->has_balloon;
}

static int get_balloon_stats(struct control_vm *vm, struct vm_counter ret_counters[VM_COUNTERS_MAX],
                             uint64_t *ret_age_ms)
{
    static const char *const names[] = {"stat-a", "stat-b"};

    *ret_age_ms = 5000;
    for (int i = 0; i < fake_of(vm)->nballoon_stats; i++)
        ret_counters[i] = (struct vm_counter){.name = names[i], .value = (uint64_t)i + 1};
    return fake_of(vm)->has_balloon ? fake_of(vm)->nballoon_stats : -1;
}

static unsigned get_vsock_counters(struct control_vm *vm,
                                   struct vm_counter ret_counters[VM_COUNTERS_MAX])
{
    if (!fake_of(vm)->has_vsock)
        return 0;
    ret_counters[0] = (struct vm_counter){.name = "to-guest-packets", .value = 5};
    ret_counters[1] = (struct vm_counter){.name = "to-guest-bytes", .value = 77};
    return 2;
}

static void get_nic(struct control_vm *vm, unsigned index, struct nic_info *ret_info)
{
    *ret_info = fake_of(vm)->nics[index];
}

static const struct vm_queries queries = {
    .state = get_state,
    .get_cpu = get_cpu,
    .get_cpu_counters = get_cpu_counters,
    .get_kvm_stats = get_kvm_stats,
    .show = show,
    .read_memory = read_memory,
    .translate = translate,
    .ask_cpu = ask_cpu,
    .get_disk = get_disk,
    .ask_disk = ask_disk,
    .get_balloon = get_balloon,
    .get_balloon_stats = get_balloon_stats,
    .get_vsock_counters = get_vsock_counters,
    .get_nic = get_nic,
};

/* ---- actions --------------------------------------------------------------------------------- */

static void note(struct control_vm *vm, char action)
{
    struct fake_vm *fake = fake_of(vm);
    size_t len = strlen(fake->actions);

    ck_assert_uint_lt(len, sizeof(fake->actions) - 1);
    fake->actions[len] = action;
    fake->actions[len + 1] = '\0';
}

static bool press(struct control_vm *vm)
{
    note(vm, 'b');
    return fake_of(vm)->has_button;
}

static void reset(struct control_vm *vm)
{
    note(vm, 'r');
}

static void quit(struct control_vm *vm)
{
    note(vm, 'q');
}

static void begin_pause(struct control_vm *vm)
{
    note(vm, 'p');
    fake_of(vm)->state = VM_PAUSING;
}

static void resume(struct control_vm *vm)
{
    note(vm, 'c');
}

static bool set_balloon(struct control_vm *vm, uint64_t memory)
{
    fake_of(vm)->balloon_memory = memory;
    return fake_of(vm)->has_balloon;
}

static void set_link(struct control_vm *vm, unsigned nic, bool up)
{
    note(vm, up ? 'u' : 'd');
    note(vm, (char)('0' + nic));
}

static void announce(struct control_vm *vm, unsigned nic)
{
    note(vm, 'a');
    note(vm, (char)('0' + nic));
}

static const struct vm_actions actions = {
    .press_power_button = press,
    .reset = reset,
    .quit = quit,
    .pause = begin_pause,
    .resume = resume,
    .set_balloon = set_balloon,
    .set_link = set_link,
    .announce = announce,
};

/* ---- life ------------------------------------------------------------------------------------ */

void fake_vm_init(struct fake_vm *fake)
{
    *fake = (struct fake_vm){
        .vm =
            {
                .queries = &queries,
                .actions = &actions,
                .ncpus = 2,
                .memory = 5ull << 30,
                .serial.where = "unix:/run/s,server=on",
            },
        .state = VM_RUNNING,
        .has_button = true,
    };
    list_init(&fake->vm.stopping);
    list_init(&fake->vm.waiting);
    list_init(&fake->vm.asking);
}

void fake_vm_done(struct fake_vm *fake)
{
    for (unsigned i = 0; i < fake->vm.ndisks; i++) {
        disk_questions_end(&fake->questions[i]);
        ck_assert_int_eq(block_close(fake->ports[i].block), 0);
    }
}

void fake_vm_add_disk(struct fake_vm *fake, struct loop *loop, const char *path)
{
    unsigned index = fake->vm.ndisks++;
    const struct block_options options = {.path = path};
    struct block *block;
    struct err err;

    ck_assert_uint_lt(index, FAKE_VM_DISKS_MAX);
    ck_assert_msg(block_open(&options, &block, &err) == 0, "%s", err.msg);
    for (unsigned depth = 0; block_stack_at(block, depth); depth++)
        block_note_snapshots(block_stack_at(block, depth));
    block_port_init(&fake->ports[index], block, loop);
    disk_questions_init(&fake->questions[index], loop, &fake->ports[index]);
}
