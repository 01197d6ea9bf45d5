/* A clock that jumps: adds the number in a file (8 bytes, microseconds) to the time of day; to be loaded by LD_PRELOAD.
 *
 * CLOCK_FILE  the file, mapped once; who writes another number into it makes the clock jump at that moment.
 *
 * Only the time of day jumps, as when an operator or NTP sets it. The monotonic clock never does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t *jump_us;

__attribute__((constructor)) static void map(void)
{
    const char *path = getenv("CLOCK_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *found = mmap(NULL, sizeof *jump_us, PROT_READ, MAP_SHARED, fd, 0);
    if (found != MAP_FAILED)
        jump_us = found;
    close(fd);
}

static int64_t jumped_ns(int64_t seconds, int64_t nanoseconds)
{
    return seconds * 1000000000 + nanoseconds + (jump_us ? *jump_us * 1000 : 0);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = jumped_ns(now->tv_sec, now->tv_nsec);
        now->tv_sec = ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec found;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result)
{
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (result)
        *result = found.tv_sec;
    return found.tv_sec;
}
