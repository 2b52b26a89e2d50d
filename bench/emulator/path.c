/* A long network path between two namespaces on one machine.
 *
 *     path NEAR FAR SEED
 *
 * NEAR and FAR are names of network namespaces. Each gets a TUN device "p0"; what leaves one arrives at the other after
 * passing the line in that direction: a queue in front of a bottleneck, then loss, then a constant delay. Packets keep
 * their order. Commands come on standard input, one a line, and are answered by one line:
 *
 *     shape RATE QUEUE DELAY LOSS     bytes a second (0: no limit), bytes that may wait, microseconds one way,
 *                                     losses in a million packets; for both directions, and the counts begin anew
 *     count                           "near" and "far": packets taken, lost, dropped at the queue, delivered, late
 *
 * The end of standard input ends it, and the devices with it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    SLOTS = 1 << 15,  /* packets under way in one direction: 49 MB at 1500 bytes */
    BYTES = 2048,     /* of a slot; the devices have an MTU of 1500 */
    AT_ONCE = 128,    /* packets taken before others get a turn */
    LATE = 1000000,   /* nanoseconds after which a packet counts as delivered late */
};

typedef struct {
    int64_t when;
    uint16_t size;
    unsigned char bytes[BYTES];
} Packet;

typedef struct {
    int from, to;
    Packet *ring;
    uint32_t first, after; /* packets first .. after-1 are under way; counters that wrap with the ring */
    int64_t free_at;       /* when the bottleneck has sent all it took */
    uint64_t taken, lost, dropped, delivered, late;
} Line;

typedef struct {
    double rate, queue;
    int64_t delay;
    uint32_t loss;
} Shape;

static Shape shape;
static uint64_t random_state;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int64_t clock_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* splitmix64 */
static uint64_t next_random(void) {
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int open_device(const char *name) {
    char path[128];
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof path, "/run/netns/%s", name);
    int there = open(path, O_RDONLY | O_CLOEXEC);
    if (home < 0 || there < 0 || setns(there, CLONE_NEWNET) < 0) fail(path);
    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    snprintf(request.ifr_name, sizeof request.ifr_name, "p0");
    if (device < 0 || ioctl(device, TUNSETIFF, &request) < 0) fail("/dev/net/tun");
    if (setns(home, CLONE_NEWNET) < 0) fail("setns");
    close(home);
    close(there);
    return device;
}

static void forget_counts(Line *line) {
    line->taken = line->lost = line->dropped = line->delivered = line->late = 0;
}

/* Decides what becomes of a packet that was read into the next free slot; keeping it is to move `after`. */
static void admit(Line *line, Packet *packet, int64_t now) {
    line->taken++;
    int64_t leaves = now;
    if (shape.rate > 0) {
        if (line->free_at < now) line->free_at = now;
        double waiting = (double)(line->free_at - now) * 1e-9 * shape.rate;
        if (waiting + packet->size > shape.queue) {
            line->dropped++;
            return;
        }
        line->free_at += (int64_t)(packet->size / shape.rate * 1e9);
        leaves = line->free_at;
    }
    if (shape.loss && next_random() % 1000000 < shape.loss) {
        line->lost++; /* behind the bottleneck: it has used it */
        return;
    }
    packet->when = leaves + shape.delay;
    line->after++;
}

static void take(Line *line) {
    for (int i = 0; i < AT_ONCE && line->after - line->first < SLOTS; i++) {
        Packet *packet = &line->ring[line->after % SLOTS];
        ssize_t size = read(line->from, packet->bytes, BYTES);
        if (size <= 0) return;
        packet->size = (uint16_t)size;
        admit(line, packet, clock_now());
    }
}

static void deliver(Line *line) {
    int64_t now = clock_now();
    while (line->first != line->after) {
        Packet *packet = &line->ring[line->first % SLOTS];
        if (packet->when > now) return;
        if (write(line->to, packet->bytes, packet->size) < 0 && errno == EAGAIN) return;
        line->late += now - packet->when > LATE;
        line->delivered++;
        line->first++;
    }
}

static int64_t soonest(const Line *line, int64_t limit) {
    if (line->first == line->after) return limit;
    int64_t when = line->ring[line->first % SLOTS].when;
    return when < limit ? when : limit;
}

static void tell(const char *name, const Line *line, const char *end) {
    printf("\"%s\": {\"taken\": %lu, \"lost\": %lu, \"dropped\": %lu, \"delivered\": %lu, \"late\": %lu}%s", name,
           line->taken, line->lost, line->dropped, line->delivered, line->late, end);
}

static void obey(const char *command, Line lines[2]) {
    double rate, queue;
    long long delay;
    unsigned loss;
    if (sscanf(command, "shape %lf %lf %lld %u", &rate, &queue, &delay, &loss) == 4) {
        shape = (Shape){rate, queue, delay * 1000, loss};
        for (int i = 0; i < 2; i++) forget_counts(&lines[i]);
        puts("{}");
    } else if (!strncmp(command, "count", 5)) {
        putchar('{');
        tell("near", &lines[0], ", ");
        tell("far", &lines[1], "}\n");
    } else {
        puts("{\"error\": \"no such command\"}");
    }
    fflush(stdout);
}

int main(int count, char **words) {
    if (count != 4) return fputs("path NEAR FAR SEED\n", stderr), 2;
    random_state = strtoull(words[3], NULL, 10);
    struct sched_param first = {.sched_priority = 1}; /* what it sends late is an error of the measurement */
    if (sched_setscheduler(0, SCHED_RR, &first) < 0) setpriority(PRIO_PROCESS, 0, -10);
    int near = open_device(words[1]), far = open_device(words[2]);
    Line lines[2] = {{.from = near, .to = far}, {.from = far, .to = near}};
    for (int i = 0; i < 2; i++)
        if (!(lines[i].ring = calloc(SLOTS, sizeof(Packet)))) fail("memory");
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct pollfd wait[4] = {{0, POLLIN, 0}, {near, POLLIN, 0}, {far, POLLIN, 0}, {timer, POLLIN, 0}};
    puts("{}");
    fflush(stdout);
    char text[256];
    for (;;) {
        int64_t next = soonest(&lines[0], soonest(&lines[1], clock_now() + 1000000000));
        struct itimerspec alarm = {.it_value = {next / 1000000000, next % 1000000000}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &alarm, NULL);
        for (int i = 0; i < 2; i++) /* a full ring leaves packets with the kernel */
            wait[1 + i].events = lines[i].after - lines[i].first < SLOTS ? POLLIN : 0;
        if (poll(wait, 4, -1) < 0 && errno != EINTR) fail("poll");
        if (wait[0].revents) {
            if (!fgets(text, sizeof text, stdin)) return 0;
            obey(text, lines);
        }
        for (int i = 0; i < 2; i++) {
            take(&lines[i]);
            deliver(&lines[i]);
        }
    }
}
