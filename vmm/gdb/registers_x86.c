/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gdb/registers_x86.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define AT(field) offsetof(struct gdb_registers, field)
/* NOLINTBEGIN(bugprone-macro-parentheses): strings that become arrays */
#define REGISTER(name_, bits_, type_, group_, field)                                               \
    {                                                                                              \
        .name = name_, .type = type_, .group = group_, .bits = (bits_), .offset = AT(field)        \
    }
/* NOLINTEND(bugprone-macro-parentheses) */
#define GENERAL(name_, type_, field) REGISTER(name_, 64, type_, "general", field)
#define SEGMENT(name_, index) REGISTER(name_, 32, "int32", "general", segment[index])
#define ST(index) REGISTER("st" #index, 80, "i387_ext", "float", st[index])
#define X87(name_, field) REGISTER(name_, 32, "int", "float", x87.field)
#define XMM(index) REGISTER("xmm" #index, 128, "vec128", "vector", xmm[index])
#define SYSTEM(name_, type_, field) REGISTER(name_, 64, type_, "system", field)
#define YMMH(index) REGISTER("ymm" #index "h", 128, "uint128", "vector", ymmh[index])

static const struct gdb_register core[] = {
    GENERAL("rax", "int64", gpr[GDB_RAX]),
    GENERAL("rbx", "int64", gpr[GDB_RBX]),
    GENERAL("rcx", "int64", gpr[GDB_RCX]),
    GENERAL("rdx", "int64", gpr[GDB_RDX]),
    GENERAL("rsi", "int64", gpr[GDB_RSI]),
    GENERAL("rdi", "int64", gpr[GDB_RDI]),
    GENERAL("rbp", "data_ptr", gpr[GDB_RBP]),
    GENERAL("rsp", "data_ptr", gpr[GDB_RSP]),
    GENERAL("r8", "int64", gpr[GDB_R8]),
    GENERAL("r9", "int64", gpr[GDB_R8 + 1]),
    GENERAL("r10", "int64", gpr[GDB_R8 + 2]),
    GENERAL("r11", "int64", gpr[GDB_R8 + 3]),
    GENERAL("r12", "int64", gpr[GDB_R8 + 4]),
    GENERAL("r13", "int64", gpr[GDB_R8 + 5]),
    GENERAL("r14", "int64", gpr[GDB_R8 + 6]),
    GENERAL("r15", "int64", gpr[GDB_R8 + 7]),
    GENERAL("rip", "code_ptr", rip),
    REGISTER("eflags", 32, "i386_eflags", "general", rflags),
    SEGMENT("cs", GDB_CS),
    SEGMENT("ss", GDB_SS),
    SEGMENT("ds", GDB_DS),
    SEGMENT("es", GDB_ES),
    SEGMENT("fs", GDB_FS),
    SEGMENT("gs", GDB_GS),
    ST(0),
    ST(1),
    ST(2),
    ST(3),
    ST(4),
    ST(5),
    ST(6),
    ST(7),
    X87("fctrl", control),
    X87("fstat", status),
    X87("ftag", tag),
    X87("fiseg", insn_segment),
    X87("fioff", insn_offset),
    X87("foseg", operand_segment),
    X87("fooff", operand_offset),
    X87("fop", opcode),
};

static const struct gdb_register sse[] = {
    XMM(0),
    XMM(1),
    XMM(2),
    XMM(3),
    XMM(4),
    XMM(5),
    XMM(6),
    XMM(7),
    XMM(8),
    XMM(9),
    XMM(10),
    XMM(11),
    XMM(12),
    XMM(13),
    XMM(14),
    XMM(15),
    REGISTER("mxcsr", 32, "i386_mxcsr", "vector", mxcsr),
};

static const struct gdb_register linux_call[] = {
    REGISTER("orig_rax", 64, "int", "system", orig_rax),
};

static const struct gdb_register segments[] = {
    SYSTEM("fs_base", "int64", fs_base),
    SYSTEM("gs_base", "int64", gs_base),
};

static const struct gdb_register control[] = {
    SYSTEM("k_gs_base", "int64", k_gs_base), SYSTEM("cr0", "x64_cr0", cr0),
    SYSTEM("cr2", "data_ptr", cr2),          SYSTEM("cr3", "int64", cr3),
    SYSTEM("cr4", "x64_cr4", cr4),           SYSTEM("cr8", "int64", cr8),
    SYSTEM("efer", "x64_efer", efer),
};

static const struct gdb_register avx_upper[] = {
    YMMH(0), YMMH(1), YMMH(2),  YMMH(3),  YMMH(4),  YMMH(5),  YMMH(6),  YMMH(7),
    YMMH(8), YMMH(9), YMMH(10), YMMH(11), YMMH(12), YMMH(13), YMMH(14), YMMH(15),
};

/* ---- types that gdb does not know ------------------------------------------------------------ */

struct flag {
    char name[12];
    unsigned bit;
};

struct flags {
    const char *id;
    unsigned len; /* in bytes */
    const struct flag *list;
    size_t n;
};

/* Intel SDM 1, 3.4.3 and 11.6.4; 3A, 2.5 and 2.2.1. */
static const struct flag eflags_list[] = {
    {"CF", 0},  {"", 1},    {"PF", 2},   {"AF", 4},   {"ZF", 6},  {"SF", 7},
    {"TF", 8},  {"IF", 9},  {"DF", 10},  {"OF", 11},  {"NT", 14}, {"RF", 16},
    {"VM", 17}, {"AC", 18}, {"VIF", 19}, {"VIP", 20}, {"ID", 21},
};
static const struct flag mxcsr_list[] = {
    {"IE", 0}, {"DE", 1}, {"ZE", 2}, {"OE", 3},  {"UE", 4},  {"PE", 5},  {"DAZ", 6},
    {"IM", 7}, {"DM", 8}, {"ZM", 9}, {"OM", 10}, {"UM", 11}, {"PM", 12}, {"FZ", 15},
};
static const struct flag cr0_list[] = {
    {"PE", 0},  {"MP", 1},  {"EM", 2},  {"TS", 3},  {"ET", 4},  {"NE", 5},
    {"WP", 16}, {"AM", 18}, {"NW", 29}, {"CD", 30}, {"PG", 31},
};
static const struct flag cr4_list[] = {
    {"VME", 0},   {"PVI", 1},   {"TSD", 2},   {"DE", 3},        {"PSE", 4},         {"PAE", 5},
    {"MCE", 6},   {"PGE", 7},   {"PCE", 8},   {"OSFXSR", 9},    {"OSXMMEXCPT", 10}, {"UMIP", 11},
    {"LA57", 12}, {"VMXE", 13}, {"SMXE", 14}, {"FSGSBASE", 16}, {"PCIDE", 17},      {"OSXSAVE", 18},
    {"SMEP", 20}, {"SMAP", 21}, {"PKE", 22},  {"CET", 23},      {"PKS", 24},
};
static const struct flag efer_list[] = {
    {"SCE", 0}, {"LME", 8}, {"LMA", 10}, {"NXE", 11}, {"SVME", 12}, {"FFXSR", 14},
};

static const struct flags eflags_type = {"i386_eflags", 4, eflags_list, ARRAY_SIZE(eflags_list)};
static const struct flags mxcsr_type = {"i386_mxcsr", 4, mxcsr_list, ARRAY_SIZE(mxcsr_list)};
static const struct flags control_types[] = {
    {"x64_cr0", 8, cr0_list, ARRAY_SIZE(cr0_list)},
    {"x64_cr4", 8, cr4_list, ARRAY_SIZE(cr4_list)},
    {"x64_efer", 8, efer_list, ARRAY_SIZE(efer_list)},
};

/* An xmm register is shown as whatever somebody may keep in it. */
static const char vector_types[] = "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>\n"
                                   "<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>\n"
                                   "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>\n"
                                   "<vector id=\"v8i16\" type=\"int16\" count=\"8\"/>\n"
                                   "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>\n"
                                   "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>\n"
                                   "<union id=\"vec128\">\n"
                                   "<field name=\"v4_float\" type=\"v4f\"/>\n"
                                   "<field name=\"v2_double\" type=\"v2d\"/>\n"
                                   "<field name=\"v16_int8\" type=\"v16i8\"/>\n"
                                   "<field name=\"v8_int16\" type=\"v8i16\"/>\n"
                                   "<field name=\"v4_int32\" type=\"v4i32\"/>\n"
                                   "<field name=\"v2_int64\" type=\"v2i64\"/>\n"
                                   "<field name=\"uint128\" type=\"uint128\"/>\n"
                                   "</union>\n";

/* ---- the whole ------------------------------------------------------------------------------- */

/* In the order of the numbers. */
static const struct feature {
    const char *name;
    const struct gdb_register *registers;
    size_t n;
    const struct flags *flags;
    size_t nflags;
    const char *types;
} features[] = {
    {"org.gnu.gdb.i386.core", core, ARRAY_SIZE(core), &eflags_type, 1, ""},
    {"org.gnu.gdb.i386.sse", sse, ARRAY_SIZE(sse), &mxcsr_type, 1, vector_types},
    {"org.gnu.gdb.i386.linux", linux_call, ARRAY_SIZE(linux_call), NULL, 0, ""},
    {"org.gnu.gdb.i386.segments", segments, ARRAY_SIZE(segments), NULL, 0, ""},
    {"minivmm.x86.control", control, ARRAY_SIZE(control), control_types, ARRAY_SIZE(control_types),
     ""},
    {"org.gnu.gdb.i386.avx", avx_upper, ARRAY_SIZE(avx_upper), NULL, 0, ""},
};

static size_t nfeatures(bool avx)
{
    return ARRAY_SIZE(features) - (avx ? 0 : 1);
}

size_t gdb_register_count(bool avx)
{
    size_t n = 0;

    for (size_t i = 0; i < nfeatures(avx); i++)
        n += features[i].n;
    return n;
}

const struct gdb_register *gdb_register_at(size_t number)
{
    for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
        if (number < features[i].n)
            return &features[i].registers[number];
        number -= features[i].n;
    }
    return NULL;
}

const struct gdb_register *gdb_register_find(const char *name, bool avx)
{
    for (size_t i = 0; i < gdb_register_count(avx); i++)
        if (strcmp(gdb_register_at(i)->name, name) == 0)
            return gdb_register_at(i);
    return NULL;
}

static void print_flags(FILE *out, const struct flags *flags)
{
    fprintf(out, "<flags id=\"%s\" size=\"%u\">\n", flags->id, flags->len);
    for (size_t i = 0; i < flags->n; i++)
        fprintf(out, "<field name=\"%s\" start=\"%u\" end=\"%u\"/>\n", flags->list[i].name,
                flags->list[i].bit, flags->list[i].bit);
    fprintf(out, "</flags>\n");
}

static void print_feature(FILE *out, const struct feature *feature)
{
    fprintf(out, "<feature name=\"%s\">\n%s", feature->name, feature->types);
    for (size_t i = 0; i < feature->nflags; i++)
        print_flags(out, &feature->flags[i]);
    for (size_t i = 0; i < feature->n; i++) {
        const struct gdb_register *reg = &feature->registers[i];

        fprintf(out, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\" group=\"%s\"/>\n", reg->name,
                reg->bits, reg->type, reg->group);
    }
    fprintf(out, "</feature>\n");
}

char *gdb_describe_registers(bool avx)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    if (!out)
        return NULL;
    fprintf(out, "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n"
                 "<target>\n<architecture>i386:x86-64</architecture>\n");
    for (size_t i = 0; i < nfeatures(avx); i++)
        print_feature(out, &features[i]);
    fprintf(out, "</target>\n");
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
