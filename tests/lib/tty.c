/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/tty.h"

#include <check.h>
#include <termios.h>

bool tty_is_raw(int fd)
{
    struct termios now;

    ck_assert_int_eq(tcgetattr(fd, &now), 0);
    return !(now.c_lflag & (ICANON | ECHO | ISIG)) && !(now.c_oflag & OPOST);
}

bool tty_is_cooked(int fd)
{
    struct termios now;

    ck_assert_int_eq(tcgetattr(fd, &now), 0);
    return (now.c_lflag & ICANON) && (now.c_lflag & ECHO) && (now.c_lflag & ISIG) &&
           (now.c_oflag & OPOST);
}
