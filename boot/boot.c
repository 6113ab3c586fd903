/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/boot.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/random.h"
#include "base/trace.h"
#include "boot/acpi.h"
#include "boot/cmdline.h"
#include "boot/file.h"
#include "boot/guest_info.h"
#include "boot/kernel.h"
#include "boot/loader.h"
#include "boot/longmode_x86.h"
#include "boot/mptable_x86.h"
#include "boot/pvh_x86.h"
#include "boot/ram_map.h"
#include "boot/reset_vector_x86.h"
#include "boot/seed_x86.h"
#include "boot/unpacked_x86.h"
#include "boot/zero_page_x86.h"
#include "memory/layout_x86.h"

#define PAGE 4096u

/* Where one initrd follows another: cpio archives begin on multiples of 4 bytes. */
#define INITRD_PIECE_ALIGN 4u

#define PVH_INFO_SIZE PAGE

struct boot {
    struct boot_file kernel_file;
    struct kernel_image kernel;
    struct boot_file *initrds;
    size_t ninitrds;
    char *kernel_cache; /* NULL: none */
};

/* One boot_load in progress. */
struct session {
    const struct boot *boot;
    const struct boot_machine *machine;
    struct ram_map map;
    struct guest_info info;
    uint64_t entry_gpa;
    uint64_t kernel_gpa; /* of one that was unpacked here: anywhere in RAM */

    /* What files go where; room for all segments and initrds. */
    struct load *loads;
    size_t nloads;

    /* Where the fixed addresses are in host memory. */
    uint8_t *gdt;
    uint8_t *pvh_info;
    uint8_t *zero_page;
    uint8_t *setup_data;
    uint8_t *page_tables;
    uint8_t *cmdline;
    uint8_t *legacy_area; /* X86_EBDA_START to 1 MiB */
    uint8_t *kernel[KERNEL_SEGMENTS_MAX];
};

static int open_initrds(struct boot *boot, const struct boot_options *options, struct err *err)
{
    boot->initrds = calloc(options->ninitrds + 1, sizeof(boot->initrds[0]));
    if (!boot->initrds)
        return err_set(err, -ENOMEM, "out of memory");
    for (; boot->ninitrds < options->ninitrds; boot->ninitrds++) {
        int r =
            boot_file_open(options->initrds[boot->ninitrds], &boot->initrds[boot->ninitrds], err);

        if (r < 0) {
            err_prefix(err, "initrd");
            return r;
        }
    }
    return 0;
}

static void close_initrds(struct boot *boot)
{
    for (size_t i = 0; i < boot->ninitrds; i++)
        boot_file_close(&boot->initrds[i]);
    free(boot->initrds);
}

static int open_kernel(struct boot *boot, const struct boot_options *options, struct err *err)
{
    int r = boot_file_open(options->kernel, &boot->kernel_file, err);

    if (r == 0) {
        r = kernel_identify(&boot->kernel_file, &boot->kernel, err);
        if (r < 0)
            boot_file_close(&boot->kernel_file);
    }
    if (r < 0) {
        err_prefix(err, "kernel");
        if (options->kernel_named_by)
            err_prefix(err, "%s", options->kernel_named_by);
    }
    return r;
}

int boot_open(const struct boot_options *options, struct boot **ret_boot, struct err *err)
{
    struct boot *boot = calloc(1, sizeof(*boot));
    int r;

    if (!boot)
        return err_set(err, -ENOMEM, "out of memory");
    if (options->kernel_cache) {
        boot->kernel_cache = strdup(options->kernel_cache);
        if (!boot->kernel_cache) {
            r = err_set(err, -ENOMEM, "out of memory");
            goto free_boot;
        }
    }
    r = open_kernel(boot, options, err);
    if (r < 0)
        goto free_boot;
    r = open_initrds(boot, options, err);
    if (r < 0)
        goto close_initrds;
    *ret_boot = boot;
    return 0;

close_initrds:
    close_initrds(boot);
    boot_file_close(&boot->kernel_file);
free_boot:
    free(boot->kernel_cache);
    free(boot);
    return r;
}

void boot_close(struct boot *boot)
{
    if (!boot)
        return;
    close_initrds(boot);
    boot_file_close(&boot->kernel_file);
    free(boot->kernel_cache);
    free(boot);
}

bool boot_is_bzimage(const struct boot *boot)
{
    return boot->kernel.setup_header_len > 0;
}

int boot_file_fd(const struct boot *boot, size_t i)
{
    if (i == 0)
        return boot->kernel_file.fd;
    return i <= boot->ninitrds ? boot->initrds[i - 1].fd : -1;
}

/* First of all, so that no kernel can have what boot/ itself writes. */
static int take_low_memory(struct session *s, struct err *err)
{
    const struct {
        uint64_t gpa;
        uint64_t len;
        const char *what;
        uint8_t **ret_host;
    } places[] = {
        {X86_GDT, LONGMODE_GDT_SIZE, "the boot GDT", &s->gdt},
        {X86_PVH_INFO, PVH_INFO_SIZE, "the PVH start info", &s->pvh_info},
        {X86_ZERO_PAGE, ZERO_PAGE_SIZE, "the zero page", &s->zero_page},
        {X86_SETUP_DATA, SEED_ENTRY_SIZE, "the random seed", &s->setup_data},
        {X86_PAGE_TABLES, LONGMODE_TABLES_SIZE, "the page tables", &s->page_tables},
        {X86_CMDLINE, X86_CMDLINE_MAX, "the command line", &s->cmdline},
        {X86_EBDA_START, X86_KERNEL_START - X86_EBDA_START, "the legacy area", &s->legacy_area},
    };
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(places); i++)
        r = ram_map_take(&s->map, places[i].gpa, places[i].len, places[i].what, places[i].ret_host,
                         err);
    return r;
}

static int place_kernel(struct session *s, struct err *err)
{
    const struct kernel_image *kernel = &s->boot->kernel;

    for (size_t i = 0; i < kernel->nsegments; i++) {
        const struct kernel_segment *segment = &kernel->segments[i];
        int r =
            ram_map_take(&s->map, segment->gpa, segment->mem_len, "the kernel", &s->kernel[i], err);

        if (r < 0)
            return r;
    }
    if (kernel->entry_gpa >= X86_HIGH_RAM_START)
        return err_set(err, -EINVAL, "entry point %#llx, expected one below 4 GiB",
                       (unsigned long long)kernel->entry_gpa);
    return 0;
}

/*
 * All initrds one after the other, as high as the kernel allows: out of the way of what it does.
 */
static int place_initrds(struct session *s, struct err *err)
{
    const struct boot *boot = s->boot;
    uint64_t total = 0, off = 0;
    uint8_t *host;
    int r;

    if (boot->ninitrds == 0)
        return 0;
    for (size_t i = 0; i < boot->ninitrds; i++) {
        /* A file is smaller than 2^63 bytes. */
        if (!add_u64(align_up(total, INITRD_PIECE_ALIGN), boot->initrds[i].size, &total) ||
            total > INT64_MAX)
            return err_set(err, -EFBIG, "too big: expected less than 2^63 bytes in all");
    }
    r = ram_map_take_highest(&s->map, total, PAGE, boot->kernel.initrd_limit, "a ramdisk",
                             &s->info.initrd_gpa, &host, err);
    if (r < 0)
        return r;
    s->info.initrd_len = total;

    for (size_t i = 0; i < boot->ninitrds; i++) {
        const struct boot_file *file = &boot->initrds[i];

        off = align_up(off, INITRD_PIECE_ALIGN);
        s->loads[s->nloads++] = (struct load){.file = file, .len = file->size, .dst = host + off};
        off += file->size;
    }
    return 0;
}

/*
 * A packed kernel is unpacked here if that can be done; else its own stub does it in the guest. 0,
 * 1 for the stub, or GUEST_MEM_LOST with *err filled.
 */
static int unpack_kernel(struct session *s, struct err *err)
{
    const struct boot *boot = s->boot;
    const struct unpacked_source source = {
        .file = &boot->kernel_file, .image = &boot->kernel, .cache = boot->kernel_cache};
    struct unpacked unpacked;
    struct err why;
    int r;

    if (boot->kernel.payload.len == 0)
        return 1;
    r = unpacked_load(&source, &s->map, (const char *)s->cmdline, &unpacked, &why);
    if (r == GUEST_MEM_LOST) {
        *err = why;
        return r;
    }
    if (r < 0) {
        log_info("%s: the kernel unpacks itself: %s", boot->kernel_file.path, why.msg);
        return 1;
    }
    log_debug("kernel unpacked: at %#llx, entered at %#llx", (unsigned long long)unpacked.gpa,
              (unsigned long long)unpacked.entry_gpa);
    s->entry_gpa = unpacked.entry_gpa;
    s->kernel_gpa = unpacked.gpa;
    s->info.kaslr = unpacked.kaslr;
    return 0;
}

static void add_kernel_loads(struct session *s)
{
    const struct kernel_image *kernel = &s->boot->kernel;

    for (size_t i = 0; i < kernel->nsegments; i++)
        s->loads[s->nloads++] = (struct load){
            .file = &s->boot->kernel_file,
            .off = kernel->segments[i].file_off,
            .len = kernel->segments[i].file_len,
            .dst = s->kernel[i],
        };
    s->entry_gpa = kernel->entry_gpa;
}

static void write_firmware(struct session *s)
{
    uint8_t *area = s->legacy_area + (X86_FIRMWARE_TABLES - X86_EBDA_START);
    size_t size = X86_VM_GENERATION - X86_FIRMWARE_TABLES;

    /* The area is reserved as a whole: how much of it is used does not matter. */
    if (s->machine->acpi) {
        (void)acpi_build(s->machine, X86_FIRMWARE_TABLES, area, size);
        s->info.rsdp_gpa = X86_FIRMWARE_TABLES;
        if (!random_bytes(s->legacy_area + (X86_VM_GENERATION - X86_EBDA_START),
                          ACPI_VM_GENERATION_SIZE))
            log_info("the VM's generation is not told: the host has no random numbers yet");
    } else {
        (void)mptable_build(s->machine->ncpus, area, size);
        mptable_build_pointer(X86_FIRMWARE_TABLES, s->legacy_area);
    }
    reset_vector_fill(s->legacy_area + (X86_RESET_VECTOR - X86_EBDA_START));
}

/* Fresh at every start: guests that restart or are copies of one disk have nothing in common. */
static void write_seed(struct session *s)
{
    if (seed_fill(s->setup_data))
        s->info.setup_data_gpa = X86_SETUP_DATA;
    else
        log_info("the guest gets no random seed: the host has no random numbers yet");
}

static void write_entry(struct session *s, struct boot_plan *plan)
{
    const struct kernel_image *kernel = &s->boot->kernel;

    *plan = (struct boot_plan){
        .entry = kernel->entry,
        .rip = s->entry_gpa,
        .gdt_gpa = X86_GDT,
        .gdt_limit = LONGMODE_GDT_SIZE - 1,
    };
    longmode_fill_gdt(s->gdt);
    switch (kernel->entry) {
    case BOOT_ENTRY_LINUX64:
        longmode_fill_tables(X86_PAGE_TABLES, s->kernel_gpa, s->page_tables);
        write_seed(s);
        zero_page_fill(kernel, &s->info, s->zero_page);
        plan->params_gpa = X86_ZERO_PAGE;
        plan->cr3 = X86_PAGE_TABLES;
        break;
    case BOOT_ENTRY_PVH:
        (void)pvh_build(&s->info, X86_PVH_INFO, s->pvh_info, PVH_INFO_SIZE);
        plan->params_gpa = X86_PVH_INFO;
        break;
    }
}

static int load(struct session *s, struct boot_plan *ret_plan, struct err *err)
{
    int r = take_low_memory(s, err);
    uint64_t begin_ns;

    if (r < 0)
        return r;
    r = place_kernel(s, err);
    if (r < 0) {
        err_prefix(err, "kernel: %s", s->boot->kernel_file.path);
        return r;
    }
    r = place_initrds(s, err);
    if (r < 0) {
        err_prefix(err, "initrd: %s%s", s->boot->initrds[0].path,
                   s->boot->ninitrds > 1 ? " and more" : "");
        return r;
    }
    r = cmdline_build(s->machine, s->boot->kernel.cmdline_max, (char *)s->cmdline, X86_CMDLINE_MAX,
                      err);
    if (r < 0)
        return r;
    begin_ns = trace_begin();
    r = unpack_kernel(s, err);
    trace_span("place the kernel", begin_ns);
    if (r < 0)
        return r;
    if (r == 1)
        add_kernel_loads(s);
    begin_ns = trace_begin();
    r = loader_run(s->loads, s->nloads, err);
    trace_span("read files into memory", begin_ns);
    if (r < 0)
        return r;

    s->info.cmdline_gpa = X86_CMDLINE;
    s->info.ne820 = e820_build(s->map.mem, s->info.e820);
    write_firmware(s);
    write_entry(s, ret_plan);
    return 0;
}

int boot_load(struct boot *boot, const struct boot_machine *machine, struct guest_mem *mem,
              struct boot_plan *ret_plan, struct err *err)
{
    struct session s = {.boot = boot, .machine = machine};
    int r;

    ram_map_init(&s.map, mem);
    s.loads = calloc(boot->kernel.nsegments + boot->ninitrds, sizeof(s.loads[0]));
    if (!s.loads)
        return err_set(err, -ENOMEM, "out of memory");
    r = load(&s, ret_plan, err);
    free(s.loads);
    return r;
}
