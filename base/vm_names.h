/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMs with names: where the control socket of a VM is that was given one, so that it is found
 * again.
 *
 * It is FOLDER/NAME.qmp. FOLDER is $XDG_RUNTIME_DIR/minivmm; without that variable, or where it is
 * no absolute path, /run/minivmm for root and /tmp/minivmm-UID for others. It belongs to its user
 * alone (mode 0700), which is checked before anything in it is believed: everybody may make names
 * in /tmp.
 */
#ifndef MINIVMM_BASE_VM_NAMES_H
#define MINIVMM_BASE_VM_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/err.h"

#define VM_NAME_MAX 48
#define VM_NAMES_SUFFIX ".qmp"

/*
 * Up to VM_NAME_MAX letters, digits and -_. of ASCII, with a letter or digit first: a name is a
 * word for shells, a part of a file name, and harmless on a terminal.
 */
bool vm_name_is_valid(const char *name);

/* One line on what a name has to be, for messages. */
#define VM_NAME_EXPECTED                                                                           \
    "expected up to 48 letters, digits, '-', '_' and '.', with a letter or digit first"

/*
 * The folders where VMs of this user may be. The first is where new ones go; the others may have
 * VMs that were started without the variable, or with its usual value, /run/user/UID. To be freed;
 * NULL behind the last one, or without memory.
 */
#define VM_FOLDERS_MAX 3
void vm_names_folders(char *ret_folders[VM_FOLDERS_MAX]);

/*
 * What XDG_RUNTIME_DIR names, if that is not there: VMs that were started with another value are
 * not found. NULL: it is there, or the variable is of no use.
 */
const char *vm_names_missing_runtime(void);

/* 0; -ENOENT: it is not there; or another -errno: it is not this user's alone. *err is filled. */
int vm_names_check_folder(const char *folder, struct err *err) MUST_CHECK;

/* The path of a VM's socket, to be freed; NULL without memory. */
char *vm_names_socket(const char *folder, const char *name);

/*
 * The socket of a VM of this name that runs and is not in the first folder, to be freed; NULL: none
 * is there. Looked for by one who has the name in the first folder already: of two VMs that start
 * at the same time, none overlooks the other.
 */
char *vm_names_other_socket(const char *name);

/*
 * The path of the socket for a VM that is about to start: the name is checked, and the folder made
 * if need be. 0, or a negative errno with *err filled.
 */
int vm_names_new_socket(const char *name, char **ret_path, struct err *err) MUST_CHECK;

#endif
