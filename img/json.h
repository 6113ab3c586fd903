/*
 * Output as JSON.
 */
#ifndef MINIVMM_IMG_JSON_H
#define MINIVMM_IMG_JSON_H

#include <jansson.h>

/*
 * Print a value and a newline, as qemu-img does: four blanks for each level, members of an object in
 * the order of QEMU's hash table. So the text is the same, not only the data.
 */
void json_print(const json_t *value);

#endif
