/* What the clients of the benchmarks share; each is one process, one thread, and ends when something fails. */
#ifndef CLIENT_H
#define CLIENT_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A short masked text frame as it begins: two bytes, two of length, four of mask. */
enum { HEAD = 8, MASK_AT = 4 };

static inline void fail(const char *what) {
    fprintf(stderr, "benchmark client: %s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(1);
}

static inline double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/* Send all of it, however long the server takes to read (up to five seconds). */
static inline void say(int fd, const unsigned char *bytes, size_t size) {
    while (size) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0) {
            struct pollfd writable = {fd, POLLOUT, 0};
            if (errno != EAGAIN || poll(&writable, 1, 5000) != 1) fail("send");
            continue;
        }
        bytes += sent;
        size -= (size_t)sent;
    }
}

static inline int dial(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* Where the digits of a masked frame's counter are: right behind MARK, which must be there. */
static inline long find_counter(const unsigned char *frame, long size, const char *mark) {
    unsigned char *plain = malloc((size_t)size);
    if (size < HEAD + 126 || frame[1] != (0x80 | 126)) fail("a sample is not a frame of 126 bytes to 64 KiB");
    for (long index = HEAD; index < size; index++) plain[index] = frame[index] ^ frame[MASK_AT + index % 4];
    unsigned char *found = memmem(plain + HEAD, (size_t)(size - HEAD), mark, strlen(mark));
    if (!found) fail("a sample does not hold its counter");
    long at = found - plain + (long)strlen(mark);
    free(plain);
    return at;
}

static inline void write_counter(unsigned char *frame, long at, int digits, int64_t number) {
    for (long place = at + digits - 1; place >= at; place--, number /= 10)
        frame[place] = (unsigned char)('0' + number % 10) ^ frame[MASK_AT + place % 4];
}

#endif
