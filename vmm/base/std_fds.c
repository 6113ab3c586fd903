#include "vmm/base/std_fds.h"

#include <fcntl.h>
#include <unistd.h>

void std_fds_fill(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}
