/*
 * Latency of an HTTP server at a steady rate: steady_load PORT RATE SECONDS
 *
 * One request at a time on a keep-alive connection to 127.0.0.1, sent on a fixed schedule, so that the server
 * and the tracer are never saturated and what is measured is the path of one request. Prints the median and
 * the 99th percentile in microseconds and the number of requests.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int by_size(const void *a, const void *b) {
    double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* Reads one response: the head, then as many bytes as its Content-Length says. */
static void read_response(int fd) {
    char buffer[16384];
    size_t got = 0;
    for (;;) {
        ssize_t n = read(fd, buffer + got, sizeof buffer - 1 - got);
        if (n <= 0)
            fail("read");
        got += n;
        buffer[got] = 0;
        char *end = strstr(buffer, "\r\n\r\n");
        char *length = strcasestr(buffer, "content-length:");
        if (end && length && got >= (size_t)(end + 4 - buffer) + atol(length + 15))
            return;
    }
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: steady_load PORT RATE SECONDS\n");
        return 2;
    }
    long rate = atol(argv[2]), count = rate * atol(argv[3]), interval_ns = 1000000000L / rate;
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof server) != 0)
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);

    char request[2048];
    int head =
        sprintf(request, "POST /json HTTP/1.1\r\nHost: localhost\r\nUser-Agent: steady-load\r\n"
                         "Accept: */*\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n\r\n");
    memset(request + head, ' ', 1024);
    request[head] = '{', request[head + 1023] = '}';

    double *latency_us = calloc(count, sizeof *latency_us);
    long long next_ns = now_ns();
    for (long i = 0; i < count; i++, next_ns += interval_ns) {
        struct timespec until = {next_ns / 1000000000LL, next_ns % 1000000000LL};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        long long sent_ns = now_ns();
        if (write(fd, request, head + 1024) != head + 1024)
            fail("write");
        read_response(fd);
        latency_us[i] = (now_ns() - sent_ns) / 1e3;
    }
    qsort(latency_us, count, sizeof *latency_us, by_size);
    printf("%.1f %.1f %ld\n", latency_us[count / 2], latency_us[count * 99 / 100], count);
    free(latency_us);
    return 0;
}
