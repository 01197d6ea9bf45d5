/* Makes writes and syncs of chosen files fail with EIO, once a trigger file exists: to be loaded by LD_PRELOAD.
 *
 * EIO_FILES    a piece of the paths that are meant, such as "/journal/"
 * EIO_TRIGGER  the file whose existence means that the disk is broken from now on
 *
 * Writes by io_submit, which programs reach through syscall(), are carried out and then told as failed: whether the
 * bytes are on the disk is unknown to the program, as after a real error of the medium. All others are not carried out.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <linux/aio_abi.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int broken(int fd)
{
    const char *files = getenv("EIO_FILES"), *trigger = getenv("EIO_TRIGGER");
    char link[64], path[PATH_MAX];
    if (!files || !trigger || access(trigger, F_OK) != 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0)
        return 0;
    path[size] = 0;
    return strstr(path, files) != NULL;
}

#define FAIL_IF_BROKEN(fd)                                                                                             \
    if (broken(fd)) {                                                                                                  \
        errno = EIO;                                                                                                   \
        return -1;                                                                                                     \
    }

#define REAL(type, name, ...)                                                                                          \
    static type (*real)(__VA_ARGS__);                                                                                  \
    if (!real)                                                                                                         \
        real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name);

#define SYNC(function)                                                                                                 \
    int function(int fd)                                                                                               \
    {                                                                                                                  \
        REAL(int, #function, int)                                                                                      \
        FAIL_IF_BROKEN(fd)                                                                                             \
        return real(fd);                                                                                               \
    }

#define WRITE_AT(function)                                                                                             \
    ssize_t function(int fd, const void *data, size_t size, off_t at)                                                  \
    {                                                                                                                  \
        REAL(ssize_t, #function, int, const void *, size_t, off_t)                                                     \
        FAIL_IF_BROKEN(fd)                                                                                             \
        return real(fd, data, size, at);                                                                               \
    }

#define WRITE_VECTOR(function)                                                                                         \
    ssize_t function(int fd, const struct iovec *parts, int count, off_t at, int flags)                                \
    {                                                                                                                  \
        REAL(ssize_t, #function, int, const struct iovec *, int, off_t, int)                                           \
        FAIL_IF_BROKEN(fd)                                                                                             \
        return real(fd, parts, count, at, flags);                                                                      \
    }

SYNC(fsync)
SYNC(fdatasync)
WRITE_AT(pwrite)
WRITE_AT(pwrite64)
WRITE_VECTOR(pwritev2)
WRITE_VECTOR(pwritev64v2)

long syscall(long number, ...)
{
    REAL(long, "syscall", long, ...)
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    long result = real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (number == SYS_io_getevents && result > 0) {
        struct io_event *events = (struct io_event *)a[3];
        for (long i = 0; i < result; i++)
            if (broken(((struct iocb *)events[i].obj)->aio_fildes))
                events[i].res = -EIO;
    }
    return result;
}
