/* A whole fleet and its audience: agents that send a sample a second each, consoles that follow the fleet by
 * digest, watchers that follow one provider each. One process, so that an agent and who reads it share a clock:
 * a sample carries the microseconds since the start behind MARK.
 *
 *   whole FLEET AGENTS CONSOLES ARRIVALS MARK EVENT
 *
 * FLEET is a file: for each connection (agents first, then consoles, then watchers) the port of its hub (4 bytes,
 * little-endian), a length (likewise) and the bytes that it says when it connects, a length and the frame that it
 * repeats: an agent's sample, everybody else's ping. ARRIVALS connections a second are made. An agent sends from
 * the moment that it is registered, in its own millisecond of each second. A watcher gets it in a message of the
 * type EVENT.
 *
 * It writes "ready" when all have their answer. Commands on standard input, one per line:
 *   measure SECONDS     watch for so long, pause until the last digests are in, and give the result as JSON
 * It ends at the end of its input.
 */
#define _GNU_SOURCE
#include "client.h"

#include <fcntl.h>
#include <sys/epoll.h>

enum { MOST = 20000, DIGITS = 12, LONGEST_FRAME = 1 << 20, AT_ONCE = 1 << 20, STEPS = 100000, PING_SECONDS = 20 };
enum { ARRIVAL_SECONDS = 60 };
enum kind { AGENT, CONSOLE, WATCHER };

/* All stamps have the same number of digits. */
static const int64_t FIRST_STAMP = 100000000000;
static const double DRAIN_SECONDS = 2.5;
static const long ENDLESS = 1000000;

struct connection {
    int fd, ready;
    enum kind kind;
    unsigned char *hello, *repeated, *rest; /* rest: the beginning of a frame whose end has not come */
    uint32_t port, hello_size, repeated_size;
    size_t rest_size;
    long counter_at;
    long last_round; /* a console: providers whose sample of the last round it has seen */
};

/* Latencies in steps of `step` microseconds; what is longer than all counts as the last. */
struct histogram {
    int64_t step, total, most;
    int64_t counts[STEPS];
};

static struct connection connections[MOST];
static const char *mark, *event_type;
static int connection_count, ready_count, agents, consoles, epoll_fd, measuring;
static double begun, agents_from;
static long turns, last_turn, pings;
static int64_t measured_from, last_round_from;
static int64_t sent, delivered, headlines, frames_in, bytes_in, refused, lost;
static struct histogram delivery = {.step = 10}, digest = {.step = 100};

static int64_t stamp(void) { return FIRST_STAMP + (int64_t)((now() - begun) * 1e6); }

static void note(struct histogram *histogram, int64_t microseconds) {
    int64_t step = microseconds / histogram->step;
    histogram->counts[step < STEPS ? step : STEPS - 1]++;
    histogram->total++;
    if (microseconds > histogram->most) histogram->most = microseconds;
}

/* The upper end of the step that holds this share; in milliseconds. */
static double quantile(const struct histogram *histogram, double share) {
    int64_t rank = (int64_t)(share * (double)histogram->total), seen = 0;
    for (int step = 0; step < STEPS; step++)
        if ((seen += histogram->counts[step]) > rank) return (double)((step + 1) * histogram->step) / 1e3;
    return 0;
}

static void clear(struct histogram *histogram) {
    memset(histogram->counts, 0, sizeof histogram->counts);
    histogram->total = histogram->most = 0;
}

static int holds(const unsigned char *text, size_t size, const char *what) {
    return memmem(text, size, what, strlen(what)) != NULL;
}

static void read_samples(struct connection *reader, const unsigned char *text, size_t size, int64_t at) {
    const unsigned char *end = text + size;
    while ((text = memmem(text, (size_t)(end - text), mark, strlen(mark)))) {
        text += strlen(mark);
        /* A frame is followed by what was received after it, or by a zero. */
        int64_t sampled = strtoll((const char *)text, NULL, 10);
        if (!measuring || sampled < measured_from) continue;
        note(reader->kind == WATCHER ? &delivery : &digest, at - sampled);
        if (reader->kind == WATCHER) delivered++;
        else headlines++;
        if (last_round_from && sampled >= last_round_from) reader->last_round++;
    }
}

static void take_frame(struct connection *reader, int opcode, const unsigned char *text, size_t size, int64_t at) {
    size_t start = size < 128 ? size : 128;
    frames_in++;
    if (opcode == 8) {
        fprintf(stderr, "closed with %d %.*s\n", size > 1 ? text[0] << 8 | text[1] : 0, (int)size - 2, text + 2);
    } else if (holds(text, start, "\"type\":\"error\"")) {
        if (!refused++) fprintf(stderr, "refused: %.*s\n", (int)size, text);
    } else if (!reader->ready && holds(text, start, reader->kind == AGENT ? "\"registered\"" : "\"subscribed\"")) {
        reader->ready = 1;
        ready_count++;
    } else if (holds(text, start, reader->kind == WATCHER ? event_type : "\"kind\":\"metrics\"")) {
        read_samples(reader, text, size, at);
    }
}

/* Take the frames at the beginning of what came; gives how many bytes they have. */
static size_t take_frames(struct connection *reader, const unsigned char *bytes, size_t size, int64_t at) {
    size_t used = 0;
    if (!reader->ready && size > 4 && !memcmp(bytes, "HTTP", 4)) {
        const unsigned char *end = memmem(bytes, size, "\r\n\r\n", 4);
        if (!end) return 0;
        if (!holds(bytes, 16, " 101 ")) fprintf(stderr, "%.*s\n", (int)size, bytes), fail("no handshake");
        used = (size_t)(end + 4 - bytes);
    }
    for (;;) {
        const unsigned char *head = bytes + used;
        size_t left = size - used, skip = 2, length;
        if (left < 2) return used;
        length = head[1] & 127;
        if (head[1] & 128) fail("a server masks no frames");
        if (length == 126 && left >= 4) {
            length = (size_t)head[2] << 8 | head[3];
            skip = 4;
        } else if (length >= 126) {
            if (length == 127) fail("a frame above 64 KiB");
            return used;
        }
        if (left < skip + length) return used;
        take_frame(reader, head[0] & 15, head + skip, length, at);
        used += skip + length;
    }
}

static void read_from(struct connection *reader) {
    static unsigned char bytes[LONGEST_FRAME + AT_ONCE + 1];
    memcpy(bytes, reader->rest, reader->rest_size);
    ssize_t got = recv(reader->fd, bytes + reader->rest_size, AT_ONCE, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, reader->fd, NULL);
        lost++;
        return;
    }
    bytes_in += got;
    size_t size = reader->rest_size + (size_t)got;
    bytes[size] = 0;
    size_t used = take_frames(reader, bytes, size, stamp());
    if (size - used > LONGEST_FRAME) fail("a frame without an end");
    reader->rest_size = size - used;
    reader->rest = realloc(reader->rest, reader->rest_size + 1);
    memcpy(reader->rest, bytes + used, reader->rest_size);
}

/* Read what has come; gives whether a command waits. */
static int take(int milliseconds) {
    static struct epoll_event events[1024];
    int command = 0, count = epoll_wait(epoll_fd, events, 1024, milliseconds);
    for (int index = 0; index < count; index++) {
        if (events[index].data.ptr) read_from(events[index].data.ptr);
        else command = 1;
    }
    return command;
}

static void repeat(struct connection *client) {
    if (!client->ready) return;
    if (client->kind == AGENT) {
        write_counter(client->repeated, client->counter_at, DIGITS, stamp());
        sent++;
    }
    say(client->fd, client->repeated, client->repeated_size);
}

/* Let everybody say what is due: an agent once a second, the others every PING_SECONDS, all evenly spread. */
static void speak(double at) {
    long due = (long)((at - agents_from) * agents);
    int others = connection_count - agents;
    for (; turns < due && turns < last_turn; turns++) repeat(&connections[turns % agents]);
    due = (long)((at - begun) * others / PING_SECONDS);
    for (; pings < due; pings++) repeat(&connections[agents + pings % others]);
}

/* Let all agents send so many samples each, from now on. */
static void begin_rounds(long rounds) {
    agents_from = now();
    turns = 0;
    last_turn = rounds * agents;
}

static unsigned char *read_part(FILE *file, uint32_t *size) {
    if (fread(size, sizeof *size, 1, file) != 1) fail("the fleet's file ends early");
    unsigned char *part = malloc(*size);
    if (fread(part, 1, *size, file) != *size) fail("the fleet's file ends early");
    return part;
}

static void read_fleet(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(path);
    for (; connection_count < MOST; connection_count++) {
        struct connection *client = &connections[connection_count];
        if (fread(&client->port, sizeof client->port, 1, file) != 1) break;
        client->hello = read_part(file, &client->hello_size);
        client->repeated = read_part(file, &client->repeated_size);
        client->kind = connection_count < agents ? AGENT : connection_count < agents + consoles ? CONSOLE : WATCHER;
        if (client->kind == AGENT)
            client->counter_at = find_counter(client->repeated, client->repeated_size, mark);
    }
    fclose(file);
}

static void arrive(double rate) {
    double start = now();
    int arrived = 0;
    begin_rounds(ENDLESS);
    while (ready_count < connection_count) {
        double at = now();
        for (; arrived < connection_count && arrived < (at - start) * rate; arrived++) {
            struct connection *client = &connections[arrived];
            struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
            client->fd = dial((int)client->port);
            say(client->fd, client->hello, client->hello_size);
            fcntl(client->fd, F_SETFL, O_NONBLOCK);
            if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, client->fd, &event) < 0) fail("epoll_ctl");
        }
        speak(at);
        take(1);
        if (lost || refused || at - start > connection_count / rate + ARRIVAL_SECONDS) fail("not all were let in");
    }
}

static void speak_until(long turn) {
    while (turns < turn) {
        speak(now());
        take(1);
    }
}

static void pause_agents(void) {
    last_turn = turns;
    for (double start = now(), at = start; at - start < DRAIN_SECONDS; at = now()) {
        speak(at);
        take(1);
    }
}

static void measure(long rounds) {
    pause_agents();
    for (int index = 0; index < connection_count; index++) connections[index].last_round = 0;
    clear(&delivery);
    clear(&digest);
    sent = delivered = headlines = frames_in = bytes_in = last_round_from = 0;
    measured_from = stamp();
    measuring = 1;
    begin_rounds(rounds);
    speak_until((rounds - 1) * agents);
    last_round_from = stamp();
    speak_until(rounds * agents);
    int64_t frames = frames_in, bytes = bytes_in;
    pause_agents();
    measuring = 0;
    begin_rounds(ENDLESS);
    int64_t least = agents, told = 0;
    for (int index = agents; index < connection_count; index++) {
        if (connections[index].kind == CONSOLE && connections[index].last_round < least)
            least = connections[index].last_round;
        if (connections[index].kind == WATCHER) told++;
    }
    printf("{\"sent\": %ld, \"watchers\": %ld, \"delivered\": %ld, \"headlines\": %ld, \"refused\": %ld, \"lost\": %ld, "
           "\"newest_seen\": %ld, \"frames_in\": %ld, \"bytes_in\": %ld, "
           "\"delivery_ms\": [%.2f, %.2f, %.2f], \"digest_ms\": [%.1f, %.1f, %.1f]}\n",
           (long)sent, (long)told, (long)delivered, (long)headlines, (long)refused, (long)lost, (long)least, (long)frames,
           (long)bytes, quantile(&delivery, 0.5), quantile(&delivery, 0.99), (double)delivery.most / 1e3,
           quantile(&digest, 0.5), quantile(&digest, 0.99), (double)digest.most / 1e3);
}

int main(int count, char **words) {
    char line[256];
    long rounds;
    if (count != 7) return fprintf(stderr, "whole FLEET AGENTS CONSOLES ARRIVALS MARK EVENT\n"), 2;
    setvbuf(stdin, NULL, _IONBF, 0);
    begun = now();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    agents = atoi(words[2]);
    consoles = atoi(words[3]);
    mark = words[5];
    event_type = words[6];
    read_fleet(words[1]);
    if (agents < 1 || connection_count < agents + consoles) fail("a smaller fleet than promised");
    arrive(atof(words[4]));
    struct epoll_event commands = {.events = EPOLLIN};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &commands) < 0) fail("epoll_ctl");
    printf("ready\n");
    for (;;) {
        fflush(stdout);
        while (!take(1)) speak(now());
        if (!fgets(line, sizeof line, stdin)) return 0;
        if (sscanf(line, "measure %ld", &rounds) == 1 && rounds > 1) measure(rounds);
        else printf("what?\n");
    }
}
