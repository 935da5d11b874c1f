/* tests/data/bad_server.h - a web server on 127.0.0.1 that behaves well or badly, by the first part of the path:
 *
 *     /good/NAME       the file, ranges too            /cut/NAME        half of what is asked for, then closes
 *     /plain/NAME      the file; ignores ranges        /plaincut/NAME   /plain, but only half of it
 *     /wrong/NAME      one byte wrong                  /wrongonce/NAME  so the first time
 *     /long/NAME       says and sends 10 bytes more    /short/NAME      says and sends 10 bytes less
 *     /silent/NAME     sends no length                 /elsewhere/NAME  answers ranges with another range
 *     /moved/NAME      redirects to /good/NAME         /round/NAME      redirects to itself
 *     /file/NAME       redirects to a file: URL        /changed/NAME    a new version with each request; /cut
 *     /busy/NAME       503 twice, then good            /stalls/NAME     half, then nothing more
 *     /hang/NAME       half, then closes without a word about the length
 *
 * Everything else is 404.  The files are those of one folder.  One connection at a time. */
#ifndef TESTS_BAD_SERVER_H
#define TESTS_BAD_SERVER_H

#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

typedef struct bad_server {
    const char *folder;
    int socket, port;
    pthread_t thread;
    _Atomic int requests, ranges, stop;
} bad_server;

static void server_send(int to, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t n = send(to, bytes, size, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        bytes += n;
        size -= (size_t)n;
    }
}

static void server_say(int to, const char *text) {
    server_send(to, text, strlen(text));
}

static bool server_is(const char *kind, const char *word) {
    return strcmp(kind, word) == 0;
}

static void server_redirect(int to, const char *where, const char *name) {
    char head[512];
    snprintf(
        head, sizeof head,
        "HTTP/1.1 302 Found\r\nLocation: %s%s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        where, name);
    server_say(to, head);
}

static void server_file(bad_server *s, int to, const char *kind, char *bytes, size_t size,
                        long long from, bool same_version) {
    char head[512], range[128] = "", length[64] = "";
    bool plain = server_is(kind, "plain") || server_is(kind, "plaincut") || !same_version;
    bool part = from > 0 && !plain;
    size_t start = part ? (size_t)from : 0, end = size;
    if (part && start >= size) {
        server_say(
            to,
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    if (server_is(kind, "elsewhere") && part)
        start /= 2;
    if (server_is(kind, "wrong") || (server_is(kind, "wrongonce") && s->requests == 1))
        bytes[size - 1] ^= 1;
    if (server_is(kind, "short"))
        end = size - 10;
    size_t said = end - start + (server_is(kind, "long") ? 10 : 0);
    size_t sent = server_is(kind, "cut") || server_is(kind, "plaincut") ||
                          server_is(kind, "changed") || server_is(kind, "stalls") ||
                          server_is(kind, "hang")
                      ? (end - start + 1) / 2
                      : end - start;
    if (part)
        snprintf(range, sizeof range, "Content-Range: bytes %zu-%zu/%zu\r\n", start, end - 1, end);
    if (!server_is(kind, "silent") && !server_is(kind, "hang"))
        snprintf(length, sizeof length, "Content-Length: %zu\r\n", said);
    snprintf(head, sizeof head, "HTTP/1.1 %s\r\n%s%sETag: \"v%d\"\r\nConnection: close\r\n\r\n",
             part ? "206 Partial Content" : "200 OK", length, range,
             server_is(kind, "changed") ? (int)s->requests : 1);
    server_say(to, head);
    server_send(to, bytes + start, sent);
    if (server_is(kind, "long"))
        server_say(to, "0123456789");
    if (server_is(kind, "stalls")) {
        struct pollfd left = {to, POLLIN, 0};
        while (!s->stop && poll(&left, 1, 50) == 0) {
        }
    }
}

static void server_answer(bad_server *s, int to, const char *request) {
    char kind[32] = "", name[128] = "", path[700], tag[64] = "";
    long long from = 0;
    s->requests++;
    const char *range = strstr(request, "Range: bytes="),
               *condition = strstr(request, "If-Range: ");
    if (range)
        from = atoll(range + strlen("Range: bytes="));
    if (condition)
        sscanf(condition, "If-Range: %63s", tag);
    s->ranges += from > 0;
    if (sscanf(request, "GET /%31[^/]/%127[^ ?]", kind, name) != 2) {
        server_say(to, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    if (server_is(kind, "moved")) {
        server_redirect(to, "/good/", name);
        return;
    }
    if (server_is(kind, "round")) {
        server_redirect(to, "/round/", name);
        return;
    }
    if (server_is(kind, "file")) {
        server_redirect(to, "file:///etc/hostname?", name);
        return;
    }
    if (server_is(kind, "busy") && s->requests <= 2) {
        server_say(to, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\nConnection: "
                       "close\r\n\r\nlater");
        return;
    }
    static const char kinds[] =
        " good cut plain plaincut wrong wrongonce long short silent elsewhere changed busy "
        "stalls hang ";
    char word[40], *bytes = NULL;
    size_t size;
    snprintf(word, sizeof word, " %s ", kind);
    snprintf(path, sizeof path, "%s/%s", s->folder, name);
    if (!strstr(kinds, word) || !npi_is_file(path) || npi_file_read(path, &bytes, &size) != NPOS_OK)
        server_say(to,
                   "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngone");
    else
        server_file(s, to, kind, bytes, size, from,
                    !tag[0] || (strcmp(tag, "\"v1\"") == 0 && !server_is(kind, "changed")));
    npi_free(bytes);
}

static void *server_work(void *argument) {
    bad_server *s = argument;
    while (!s->stop) {
        struct pollfd waiting = {s->socket, POLLIN, 0};
        if (poll(&waiting, 1, 50) <= 0)
            continue;
        int to = accept(s->socket, NULL, NULL);
        char request[4096];
        size_t got = 0;
        while (got < sizeof request - 1) {
            ssize_t n = recv(to, request + got, sizeof request - 1 - got, 0);
            if (n <= 0)
                break;
            got += (size_t)n;
            request[got] = '\0';
            if (strstr(request, "\r\n\r\n"))
                break;
        }
        request[got] = '\0';
        server_answer(s, to, request);
        shutdown(to, SHUT_WR);
        close(to);
    }
    return NULL;
}

static void server_start(bad_server *s, const char *folder) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    memset(s, 0, sizeof *s);
    s->folder = folder;
    s->socket = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(s->socket >= 0);
    assert_int_equal(bind(s->socket, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(s->socket, 8), 0);
    assert_int_equal(getsockname(s->socket, (struct sockaddr *)&address, &length), 0);
    s->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, server_work, s), 0);
}

static void server_end(bad_server *s) {
    s->stop = 1;
    pthread_join(s->thread, NULL);
    close(s->socket);
}

#endif
