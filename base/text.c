/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

void text_replace_control(char *text)
{
    for (char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;

        if (c < 0x20 || c == 0x7f)
            *p = '?';
    }
}
