/*
 * Nanoseconds per operation, for the table of docs/performance.md.
 *
 *   socket_pair_cost pair N     a 512-byte write and the read of it, over a Unix stream socket pair
 *   socket_pair_cost plain N    the same of bytes that are not HTTP, once the connection is judged
 *   socket_pair_cost other N    getppid, a call that no tracer of sockets is interested in
 *
 * N bursts; the quickest is printed. A burst of pairs fits into the ring buffer, is over before the
 * agent's next drain, and begins when the agent has worked through the one before: what is measured is the
 * kernel side, not two programs in want of the same core or cache. The bytes are requests and responses, so
 * that a capture judges the connection HTTP and takes every one of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { message_bytes = 512, pairs_in_a_burst = 500, others_in_a_burst = 20000, pause_us = 150000 };

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void move(int from, int to, const char *message) {
    char received[message_bytes];
    if (write(from, message, message_bytes) != message_bytes ||
        read(to, received, message_bytes) != message_bytes) {
        perror("socket_pair_cost");
        exit(1);
    }
}

static void fill(char *message, const char *start_line) {
    int head = sprintf(message, "%s\r\nContent-Type: text/plain\r\nContent-Length: ", start_line);
    int length = message_bytes - head - 7; /* "NNN\r\n\r\n" */
    head += sprintf(message + head, "%d\r\n\r\n", length);
    memset(message + head, 'x', message_bytes - head);
}

int main(int argc, char **argv) {
    int ends[2];
    char request[message_bytes + 64], response[message_bytes + 64];
    if (argc != 3 || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) {
        fprintf(stderr, "usage: socket_pair_cost pair|plain|other N\n");
        return 2;
    }
    fill(request, "POST /bench HTTP/1.1\r\nHost: bench");
    fill(response, "HTTP/1.1 200 OK");
    int is_plain = strcmp(argv[1], "plain") == 0;
    int is_pair = is_plain || strcmp(argv[1], "pair") == 0;
    if (is_plain) {
        memset(request, 1, sizeof(request));
        memset(response, 2, sizeof(response));
    }
    int count = is_pair ? pairs_in_a_burst : others_in_a_burst;
    double quickest = 1e18;
    for (long bursts = atol(argv[2]); bursts > 0; bursts--) {
        double start = now_ns();
        for (int i = 0; i < count; i++) {
            if (!is_pair)
                getppid();
            else if (i % 2 == 0)
                move(ends[0], ends[1], request);
            else
                move(ends[1], ends[0], response);
        }
        double each = (now_ns() - start) / count;
        if (each < quickest)
            quickest = each;
        usleep(pause_us);
    }
    printf("%.1f\n", quickest);
    return 0;
}
