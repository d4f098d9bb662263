/*
 * One end of HTTP over OpenSSL, calling the library in the way that a pattern names.
 *
 *   openssl_peer serve PATTERN CERTIFICATE KEY CONNECTIONS    prints its port, then echoes what is posted
 *   openssl_peer ask PATTERN PORT AUTHORITY SIZES             posts bodies and checks that they come back
 *
 * SIZES are those of the bodies, as in 1,16384/40000: a comma is between requests, a slash between
 * connections. A client prints path and local port of each request. A message is one call of SSL_write where
 * the pattern does not cut it. Bodies tell request and position in every eight bytes, so that nothing can be
 * lost, doubled or swapped unseen. What does not go as expected ends the process with a message.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LARGEST_MESSAGE (8 << 20)
#define ABANDONED_AFTER 40000 /* bytes of a response that early-close reads */

struct pattern {
    const char *name;
    bool ex;           /* SSL_read_ex and SSL_write_ex */
    bool peek;         /* SSL_peek before each SSL_read */
    bool non_blocking; /* socket with a small send buffer: WANT_READ and WANT_WRITE */
    bool partial;      /* SSL_MODE_ENABLE_PARTIAL_WRITE */
    bool memory;       /* memory BIOs, and this program moves the ciphertext */
    bool threads;      /* each call on a thread of its own */
    bool clear;        /* SSL_clear, and the same SSL for the next connection */
    bool resume;       /* the next connection resumes the session of the last */
    bool renegotiate;  /* in the middle of each request; TLS 1.2 has it */
    bool key_update;   /* likewise; TLS 1.3 has it */
    bool early_close;  /* the client goes away in the middle of the last response */
    size_t relay;      /* as memory, but another process has the socket, and writes so many bytes at once */
    size_t read_size;  /* of each SSL_read */
    size_t write_size; /* of each SSL_write, 0 for whole messages */
    int version;       /* of TLS, 0 for the newest */
};

static const struct pattern patterns[] = {
    {.name = "plain", .read_size = 65536},
    {.name = "tls-1.2", .read_size = 65536, .version = TLS1_2_VERSION},
    {.name = "ex", .read_size = 65536, .ex = true},
    {.name = "tiny-reads", .read_size = 3},
    {.name = "tiny-writes", .read_size = 65536, .write_size = 7},
    {.name = "peek", .read_size = 1000, .peek = true},
    {.name = "non-blocking", .read_size = 65536, .non_blocking = true},
    {.name = "non-blocking-ex", .read_size = 5000, .non_blocking = true, .ex = true},
    {.name = "partial-writes", .read_size = 65536, .non_blocking = true, .partial = true},
    {.name = "memory", .read_size = 65536, .memory = true},
    {.name = "memory-tiny-reads", .read_size = 5, .memory = true},
    {.name = "memory-1.2", .read_size = 65536, .memory = true, .version = TLS1_2_VERSION},
    {.name = "relay", .read_size = 65536, .memory = true, .relay = 20000},
    {.name = "relay-in-pieces", .read_size = 65536, .memory = true, .relay = 16},
    {.name = "threads", .read_size = 65536, .threads = true},
    {.name = "clear", .read_size = 65536, .clear = true},
    {.name = "resume", .read_size = 65536, .resume = true},
    {.name = "resume-1.2", .read_size = 65536, .resume = true, .version = TLS1_2_VERSION},
    {.name = "renegotiate", .read_size = 65536, .renegotiate = true, .version = TLS1_2_VERSION},
    {.name = "key-update", .read_size = 65536, .key_update = true},
    {.name = "early-close", .read_size = 4096, .write_size = 16384, .early_close = true},
};

struct peer {
    const struct pattern *pattern;
    SSL *ssl;
    int in, out; /* where ciphertext comes from and goes to: a socket, or two pipes to the relay */
};

static void fail(const char *what) {
    fprintf(stderr, "openssl_peer: %s: %s\n", what, strerror(errno));
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void expect(bool holds, const char *what) {
    if (!holds)
        fail(what);
}

static void write_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t moved = write(fd, data, size);
        expect(moved > 0, "write");
        data += moved;
        size -= (size_t)moved;
    }
}

/* Memory BIOs: send what the library has produced. */
static void flush_ciphertext(struct peer *peer) {
    char data[20000];
    int size;
    while ((size = BIO_read(SSL_get_wbio(peer->ssl), data, sizeof data)) > 0)
        write_all(peer->out, data, (size_t)size);
}

/* Memory BIOs: wait for ciphertext; false at its end. */
static bool fetch_ciphertext(struct peer *peer) {
    char data[20000];
    ssize_t size = read(peer->in, data, sizeof data);
    if (size <= 0)
        return false;
    expect(BIO_write(SSL_get_rbio(peer->ssl), data, (int)size) == size, "BIO_write");
    return true;
}

static void wait_for(int fd, short events) {
    struct pollfd waited = {.fd = fd, .events = events};
    expect(poll(&waited, 1, -1) == 1, "poll");
}

/* Do what a call of the library asked for; false when the connection is over. */
static bool retry(struct peer *peer, int result) {
    int error = SSL_get_error(peer->ssl, result);
    if (peer->pattern->memory)
        flush_ciphertext(peer);
    if (error == SSL_ERROR_WANT_READ && peer->pattern->memory)
        return fetch_ciphertext(peer);
    if (error == SSL_ERROR_WANT_READ)
        wait_for(peer->in, POLLIN);
    else if (error == SSL_ERROR_WANT_WRITE)
        wait_for(peer->out, POLLOUT);
    else if (error == SSL_ERROR_ZERO_RETURN || peer->pattern->early_close)
        return false;
    else
        fail("unexpected result of a call");
    return true;
}

struct call {
    struct peer *peer;
    bool is_write;
    char *data;
    size_t size;
    int result; /* bytes moved, or what SSL_get_error wants */
};

static void *perform(void *argument) {
    struct call *call = argument;
    SSL *ssl = call->peer->ssl;
    size_t moved = 0;
    if (call->peer->pattern->ex) {
        call->result = call->is_write ? SSL_write_ex(ssl, call->data, call->size, &moved)
                                      : SSL_read_ex(ssl, call->data, call->size, &moved);
        if (call->result == 1)
            call->result = (int)moved;
    } else {
        call->result = call->is_write ? SSL_write(ssl, call->data, (int)call->size)
                                      : SSL_read(ssl, call->data, (int)call->size);
    }
    return NULL;
}

static int perform_somewhere(struct call *call) {
    pthread_t thread;
    if (!call->peer->pattern->threads) {
        perform(call);
        return call->result;
    }
    expect(pthread_create(&thread, NULL, perform, call) == 0, "pthread_create");
    expect(pthread_join(thread, NULL) == 0, "pthread_join");
    return call->result;
}

/* One read as the pattern has it, retried until it moves something; 0 at the end of the connection. */
static size_t read_some(struct peer *peer, char *data, size_t room) {
    size_t size = room < peer->pattern->read_size ? room : peer->pattern->read_size;
    for (;;) {
        if (peer->pattern->peek) {
            int peeked = SSL_peek(peer->ssl, data, (int)size);
            if (peeked <= 0 && !retry(peer, peeked))
                return 0;
            if (peeked > 0)
                memset(data, '?', (size_t)peeked);
        }
        struct call call = {.peer = peer, .data = data, .size = size};
        int result = perform_somewhere(&call);
        if (result > 0)
            return (size_t)result;
        if (!retry(peer, result))
            return 0;
    }
}

/* Send all, in the pieces of the pattern; false when the peer has gone. */
static bool send_all(struct peer *peer, char *data, size_t size) {
    while (size > 0) {
        size_t piece = peer->pattern->write_size;
        if (piece == 0 || piece > size)
            piece = size;
        struct call call = {.peer = peer, .is_write = true, .data = data, .size = piece};
        int result = perform_somewhere(&call);
        if (result <= 0) {
            if (!retry(peer, result))
                return false;
            continue;
        }
        if (peer->pattern->memory)
            flush_ciphertext(peer);
        data += result;
        size -= (size_t)result;
    }
    return true;
}

static void handshake(struct peer *peer) {
    int result;
    while ((result = SSL_do_handshake(peer->ssl)) != 1)
        expect(retry(peer, result), "handshake");
    if (peer->pattern->memory)
        flush_ciphertext(peer);
}

/* Read one message into `message`; returns the length of its body, or -1 when there is none. Reading stops
 * after `enough` bytes. */
static long receive_message(struct peer *peer, char *message, char **body, size_t enough) {
    size_t have = 0, wanted = enough;
    *body = NULL;
    while (have < wanted) {
        size_t moved = read_some(peer, message + have, LARGEST_MESSAGE - have);
        if (moved == 0)
            return -1;
        have += moved;
        message[have] = 0;
        char *end = *body == NULL ? strstr(message, "\r\n\r\n") : NULL;
        if (end != NULL) {
            *body = end + 4;
            size_t whole =
                (size_t)(*body - message) + strtoul(strstr(message, "Content-Length: ") + 16, NULL, 10);
            wanted = whole < enough ? whole : enough;
        }
    }
    return (long)(have - (size_t)(*body - message));
}

static void build_body(char *body, size_t size, unsigned request) {
    for (size_t at = 0; at < size; at++) {
        unsigned long told = ((unsigned long)request << 20) + at / 8;
        body[at] = at % 8 == 7 ? '\n' : (char)('a' + (told >> (4 * (6 - at % 8)) & 15));
    }
}

static void attach_transport(struct peer *peer) {
    if (peer->pattern->memory) {
        SSL_set_bio(peer->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        BIO_set_mem_eof_return(SSL_get_rbio(peer->ssl), -1);
        return;
    }
    if (peer->pattern->non_blocking) {
        int small = 4096;
        expect(setsockopt(peer->out, SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0, "setsockopt");
        expect(fcntl(peer->out, F_SETFL, O_NONBLOCK) == 0, "fcntl");
    }
    expect(SSL_set_fd(peer->ssl, peer->out) == 1, "SSL_set_fd");
}

static SSL_CTX *build_context(const struct pattern *pattern, const SSL_METHOD *method) {
    SSL_CTX *context = SSL_CTX_new(method);
    expect(context != NULL, "SSL_CTX_new");
    if (pattern->version != 0)
        expect(SSL_CTX_set_max_proto_version(context, pattern->version) == 1, "version");
    if (pattern->partial)
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_CTX_set_options(context, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
    return context;
}

static void end_connection(struct peer *peer) {
    if (!peer->pattern->early_close)
        SSL_shutdown(peer->ssl);
    if (peer->pattern->memory)
        flush_ciphertext(peer);
    close(peer->out);
    if (peer->in != peer->out) {
        close(peer->in);
        expect(wait(NULL) > 0, "wait for the relay");
    }
    if (peer->pattern->clear) {
        expect(SSL_clear(peer->ssl) == 1, "SSL_clear");
    } else {
        SSL_free(peer->ssl);
        peer->ssl = NULL;
    }
}

static void serve_connection(struct peer *peer, char *message) {
    char head[200], *body;
    long size;
    while ((size = receive_message(peer, message, &body, LARGEST_MESSAGE)) >= 0) {
        int head_size =
            snprintf(head, sizeof head,
                     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %ld\r\n\r\n", size);
        char *answer = malloc((size_t)head_size + (size_t)size);
        expect(answer != NULL, "malloc");
        memcpy(answer, head, (size_t)head_size);
        memcpy(answer + head_size, body, (size_t)size);
        bool sent = send_all(peer, answer, (size_t)head_size + (size_t)size);
        free(answer);
        if (!sent)
            return;
    }
}

/* Messages in small pieces would wait for acknowledgements. */
static int without_delay(int connection) {
    int on = 1;
    expect(setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0, "NODELAY");
    return connection;
}

static void serve(const struct pattern *pattern, const char *certificate, const char *key, int connections) {
    SSL_CTX *context = build_context(pattern, TLS_server_method());
    expect(SSL_CTX_use_certificate_file(context, certificate, SSL_FILETYPE_PEM) == 1, certificate);
    expect(SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1, key);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    expect(bind(listening, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    expect(listen(listening, 64) == 0, "listen");
    expect(getsockname(listening, (struct sockaddr *)&address, &length) == 0, "getsockname");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    struct peer peer = {.pattern = pattern};
    char *message = malloc(LARGEST_MESSAGE + 1);
    expect(message != NULL, "malloc");
    for (int number = 0; number < connections; number++) {
        peer.in = peer.out = accept(listening, NULL, NULL);
        expect(peer.in >= 0, "accept");
        without_delay(peer.in);
        if (peer.ssl == NULL)
            peer.ssl = SSL_new(context);
        attach_transport(&peer);
        SSL_set_accept_state(peer.ssl);
        handshake(&peer);
        serve_connection(&peer, message);
        end_connection(&peer);
    }
}

static int connect_to(int port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    expect(connect(connection, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    return without_delay(connection);
}

static int local_port_of(int connection) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    expect(getsockname(connection, (struct sockaddr *)&address, &length) == 0, "getsockname");
    return ntohs(address.sin_port);
}

/* Move bytes until both ends have said all that they say. */
static void relay_until_closed(int connection, int from, int to, size_t piece) {
    char data[20000];
    struct pollfd both[] = {{.fd = connection, .events = POLLIN}, {.fd = from, .events = POLLIN}};
    for (;;) {
        expect(poll(both, 2, -1) > 0, "poll");
        for (int side = 0; side < 2; side++) {
            if (both[side].revents == 0)
                continue;
            ssize_t size = read(both[side].fd, data, side == 0 ? sizeof data : piece);
            if (size <= 0 && side == 0)
                _exit(0);
            if (size <= 0) {
                shutdown(connection, SHUT_WR);
                both[side].fd = -1;
            } else if (side == 1) {
                write_all(connection, data, (size_t)size);
            } else if (write(to, data, (size_t)size) < 0) {
                to = -1; /* the client wants no more */
            }
        }
    }
}

/* Connect, directly or through a process that has the socket; returns the local port. */
static int open_transport(struct peer *peer, int port) {
    if (peer->pattern->relay == 0) {
        peer->in = peer->out = connect_to(port);
        return local_port_of(peer->out);
    }
    int towards[2], back[2];
    expect(pipe(towards) == 0 && pipe(back) == 0, "pipe");
    int connection = connect_to(port);
    int local_port = local_port_of(connection);
    pid_t child = fork();
    expect(child >= 0, "fork");
    if (child == 0) {
        close(towards[1]);
        close(back[0]);
        relay_until_closed(connection, towards[0], back[1], peer->pattern->relay);
    }
    close(towards[0]);
    close(back[1]);
    close(connection);
    peer->out = towards[1];
    peer->in = back[0];
    return local_port;
}

static void interrupt_request(struct peer *peer) {
    if (peer->pattern->renegotiate) {
        expect(SSL_renegotiate(peer->ssl) == 1, "SSL_renegotiate");
        expect(SSL_do_handshake(peer->ssl) == 1, "renegotiation");
    }
    if (peer->pattern->key_update)
        expect(SSL_key_update(peer->ssl, SSL_KEY_UPDATE_REQUESTED) == 1, "SSL_key_update");
}

/* Post a body and expect it back; with `abandon`, only the beginning. */
static void ask_once(struct peer *peer, char *message, unsigned request, size_t size, bool abandon) {
    char *body, *sent = malloc(LARGEST_MESSAGE);
    expect(sent != NULL, "malloc");
    int head = snprintf(sent, LARGEST_MESSAGE,
                        "POST /%s/%u HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
                        "Content-Length: %zu\r\n\r\n",
                        peer->pattern->name, request, size);
    build_body(sent + head, size, request);
    size_t half = ((size_t)head + size) / 2;
    if (peer->pattern->renegotiate || peer->pattern->key_update) {
        expect(send_all(peer, sent, half), "send");
        interrupt_request(peer);
        expect(send_all(peer, sent + half, (size_t)head + size - half), "send");
    } else {
        expect(send_all(peer, sent, (size_t)head + size), "send");
    }
    long got = receive_message(peer, message, &body, abandon ? ABANDONED_AFTER : LARGEST_MESSAGE);
    expect(abandon || got == (long)size, "length of the answer");
    expect(got >= 0 && memcmp(body, sent + head, (size_t)got) == 0, "content of the answer");
    free(sent);
}

static void ask(const struct pattern *pattern, int port, const char *authority, char *sizes) {
    SSL_CTX *context = build_context(pattern, TLS_client_method());
    expect(SSL_CTX_load_verify_file(context, authority) == 1, authority);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    struct peer peer = {.pattern = pattern};
    SSL_SESSION *session = NULL;
    char *connection_sizes, *of_connections = NULL;
    char *message = malloc(LARGEST_MESSAGE + 1);
    unsigned request = 0;
    expect(message != NULL, "malloc");
    for (char *rest = sizes; (connection_sizes = strtok_r(rest, "/", &of_connections)) != NULL; rest = NULL) {
        int local_port = open_transport(&peer, port);
        if (peer.ssl == NULL)
            peer.ssl = SSL_new(context);
        attach_transport(&peer);
        SSL_set_connect_state(peer.ssl);
        if (session != NULL)
            expect(SSL_set_session(peer.ssl, session) == 1, "SSL_set_session");
        handshake(&peer);
        expect(session == NULL || SSL_session_reused(peer.ssl), "resumption");
        char *size, *of_requests = NULL;
        for (char *list = connection_sizes; (size = strtok_r(list, ",", &of_requests)) != NULL; list = NULL) {
            bool abandon = pattern->early_close && *of_requests == 0;
            printf("/%s/%u %d\n", pattern->name, request, local_port);
            ask_once(&peer, message, request++, strtoul(size, NULL, 10), abandon);
        }
        if (pattern->resume) {
            SSL_SESSION_free(session);
            session = SSL_get1_session(peer.ssl);
        }
        end_connection(&peer);
    }
}

int main(int count, char **arguments) {
    const struct pattern *pattern = NULL;
    signal(SIGPIPE, SIG_IGN);
    for (size_t number = 0; number < sizeof patterns / sizeof *patterns; number++)
        if (count == 6 && strcmp(arguments[2], patterns[number].name) == 0)
            pattern = &patterns[number];
    expect(pattern != NULL, "wrong arguments");
    if (strcmp(arguments[1], "serve") == 0)
        serve(pattern, arguments[3], arguments[4], atoi(arguments[5]));
    else
        ask(pattern, atoi(arguments[3]), arguments[4], arguments[5]);
    return 0;
}
