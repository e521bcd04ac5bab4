/* The clients of the benchmarks: thousands of connections to one server on this machine, for little CPU.
 *
 *   load PORT HELLOS READY [SAMPLE MARK]
 *
 * HELLOS is a file: for each connection a length (4 bytes, little-endian) and the bytes it says when it
 * connects. A connection is ready once the server's answer holds READY. After that, what comes is thrown away
 * in the kernel (MSG_TRUNC) and only its length is counted: a client that copies and parses would be the
 * slower side. Who asks for the count checks it against what was published, to the byte.
 *
 * SAMPLE is a file with one masked frame, sent by `send`; the seven digits behind MARK in its payload count up.
 *
 * Commands on standard input, one per line, each answered by one line:
 *   count               bytes received since the last reset, and connections that were lost
 *   reset               count from zero
 *   say HEX             every connection sends these bytes
 *   send RATE SECONDS   samples, RATE a second in all, in turn over the connections; gives how many were sent
 * It ends at the end of its input, and after LIFETIME seconds at the latest.
 */
#define _GNU_SOURCE
#include "client.h"

#include <fcntl.h>
#include <sys/epoll.h>

enum { LIFETIME = 600, MOST = 10000, AT_ONCE = 64, DIGITS = 7, FRAME = 4096 };

static int epoll_fd, connections, lost;
static int sockets[MOST];
static long long received;
static unsigned char sample[FRAME];
static long sample_size, counter_at;

static void await_ready(int fd, const char *ready) {
    static char answer[65536];
    size_t size = 0;
    for (;;) {
        struct pollfd readable = {fd, POLLIN, 0};
        if (poll(&readable, 1, 20000) != 1) fail("no answer to a hello");
        ssize_t got = recv(fd, answer + size, sizeof answer - size, 0);
        if (got <= 0) fail("the server hung up at a hello");
        size += (size_t)got;
        if (memmem(answer, size, ready, strlen(ready))) return;
        if (size == sizeof answer) fail("not the expected answer to a hello");
    }
}

static void connect_all(int port, const char *path, const char *ready) {
    FILE *hellos = fopen(path, "rb");
    unsigned char hello[FRAME];
    uint32_t size;
    int waiting = 0;
    if (!hellos) fail(path);
    while (connections < MOST && fread(&size, sizeof size, 1, hellos) == 1) {
        if (size > sizeof hello || fread(hello, 1, size, hellos) != size) fail("bad hello");
        int fd = sockets[connections++] = dial(port);
        say(fd, hello, size);
        if (++waiting == AT_ONCE)
            for (; waiting; waiting--) await_ready(sockets[connections - waiting], ready);
    }
    for (; waiting; waiting--) await_ready(sockets[connections - waiting], ready);
    fclose(hellos);
    for (int index = 0; index < connections; index++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = sockets[index]};
        fcntl(sockets[index], F_SETFL, O_NONBLOCK);
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, sockets[index], &event) < 0) fail("epoll_ctl");
    }
}

/* Throw away what has come; returns whether a command waits. */
static int take(int milliseconds) {
    static struct epoll_event events[1024];
    int command = 0, count = epoll_wait(epoll_fd, events, 1024, milliseconds);
    for (int index = 0; index < count; index++) {
        int fd = events[index].data.fd;
        if (fd == STDIN_FILENO) {
            command = 1;
            continue;
        }
        ssize_t got = recv(fd, NULL, 1 << 22, MSG_TRUNC);
        if (got > 0) {
            received += got;
        } else if (got == 0 || errno != EAGAIN) {
            epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
            lost++;
        }
    }
    return command;
}

static void read_sample(const char *path, const char *mark) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(path);
    sample_size = (long)fread(sample, 1, sizeof sample, file);
    fclose(file);
    counter_at = find_counter(sample, sample_size, mark);
}

static long send_samples(double rate, double seconds) {
    static long number = 1000000;
    double start = now();
    long sent = 0, total = (long)(rate * seconds);
    while (sent < total) {
        long due = (long)((now() - start) * rate);
        for (; sent < due && sent < total; sent++) {
            write_counter(sample, counter_at, DIGITS, ++number);
            say(sockets[sent % connections], sample, (size_t)sample_size);
        }
        take(1);
    }
    return sent;
}

static void say_all(char *hex) {
    unsigned char bytes[256];
    size_t size = 0;
    for (; size < sizeof bytes && sscanf(hex, "%2hhx", &bytes[size]) == 1; hex += 2) size++;
    for (int index = 0; index < connections; index++) say(sockets[index], bytes, size);
}

int main(int count, char **words) {
    char line[1024];
    double rate, seconds;
    if (count != 4 && count != 6) return fprintf(stderr, "load PORT HELLOS READY [SAMPLE MARK]\n"), 2;
    alarm(LIFETIME);
    setvbuf(stdin, NULL, _IONBF, 0);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (count == 6) read_sample(words[4], words[5]);
    connect_all(atoi(words[1]), words[2], words[3]);
    struct epoll_event commands = {.events = EPOLLIN, .data.fd = STDIN_FILENO};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &commands) < 0) fail("epoll_ctl");
    printf("ready %d\n", connections);
    for (;;) {
        fflush(stdout);
        if (!take(-1)) continue;
        if (!fgets(line, sizeof line, stdin)) return 0;
        if (!strncmp(line, "count", 5)) {
            printf("%lld %d\n", received, lost);
        } else if (!strncmp(line, "reset", 5)) {
            received = 0;
            printf("ok\n");
        } else if (!strncmp(line, "say ", 4)) {
            say_all(line + 4);
            printf("ok\n");
        } else if (sscanf(line, "send %lf %lf", &rate, &seconds) == 2 && sample_size) {
            printf("%ld\n", send_samples(rate, seconds));
        } else {
            printf("what?\n");
        }
    }
}
