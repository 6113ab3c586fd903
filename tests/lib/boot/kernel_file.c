/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/boot/kernel_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void fill(uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i + i / 256);
}

void test_bzimage_init(struct test_bzimage *image)
{
    memset(image, 0, sizeof(*image));
    image->hdr = (struct setup_header){
        .setup_sects = 1,
        .syssize = TEST_BZIMAGE_KERNEL_LEN / 16,
        .boot_flag = 0xaa55,
        .jump = (uint16_t)(0xeb | (0x1f1 + sizeof(struct setup_header) - 0x202) << 8),
        .header = 0x53726448,
        .version = 0x020f,
        .loadflags = LOADED_HIGH,
        .initrd_addr_max = 0x7fffffff,
        .kernel_alignment = 0x200000,
        .relocatable_kernel = 1,
        .xloadflags = XLF_KERNEL_64,
        .cmdline_size = 2047,
        .pref_address = TEST_KERNEL_GPA,
        .init_size = TEST_BZIMAGE_INIT_SIZE,
    };
    fill(image->kernel, sizeof(image->kernel));
}

void test_elf_init(struct test_elf *elf)
{
    memset(elf, 0, sizeof(*elf));
    memcpy(elf->ehdr.e_ident, ELFMAG, SELFMAG);
    elf->ehdr.e_ident[EI_CLASS] = ELFCLASS64;
    elf->ehdr.e_ident[EI_DATA] = ELFDATA2LSB;
    elf->ehdr.e_ident[EI_VERSION] = EV_CURRENT;
    elf->ehdr.e_type = ET_EXEC;
    elf->ehdr.e_machine = EM_X86_64;
    elf->ehdr.e_version = EV_CURRENT;
    elf->ehdr.e_entry = TEST_KERNEL_GPA;
    elf->ehdr.e_phoff = offsetof(struct test_elf, load);
    elf->ehdr.e_ehsize = sizeof(elf->ehdr);
    elf->ehdr.e_phentsize = sizeof(elf->load);
    elf->ehdr.e_phnum = 2;

    elf->load = (Elf64_Phdr){
        .p_type = PT_LOAD,
        .p_offset = offsetof(struct test_elf, text),
        .p_paddr = TEST_KERNEL_GPA,
        .p_filesz = sizeof(elf->text),
        .p_memsz = 4 * sizeof(elf->text),
    };
    elf->note = (Elf64_Phdr){
        .p_type = PT_NOTE,
        .p_offset = offsetof(struct test_elf, nhdr),
        .p_filesz = offsetof(struct test_elf, text) - offsetof(struct test_elf, nhdr),
    };
    elf->nhdr = (Elf64_Nhdr){.n_namesz = 4, .n_descsz = 8, .n_type = 18};
    memcpy(elf->nname, "Xen", 4);
    memcpy(elf->ndesc, &(uint64_t){TEST_KERNEL_GPA + 16}, 8);
    fill(elf->text, sizeof(elf->text));
}

struct test_file test_file_new(const void *data, size_t len)
{
    struct test_file file;

    file.fd = memfd_create("test", MFD_CLOEXEC);
    if (file.fd < 0 || write(file.fd, data, len) != (ssize_t)len) {
        perror("memfd");
        exit(EXIT_FAILURE);
    }
    (void)snprintf(file.path, sizeof(file.path), "/proc/self/fd/%d", file.fd);
    return file;
}

void test_file_free(struct test_file *file)
{
    close(file->fd);
}
