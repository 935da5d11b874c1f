#include "data/download.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/memory.h"

npos_status npi_check_room(const char *folder, int64_t bytes, const char *what) {
    struct statvfs disk;
    char *path;
    int failed;
    NPI_TRY(npi_strdup(&path, folder));
    while ((failed = statvfs(*path ? path : ".", &disk)) != 0 && errno == ENOENT && *path) {
        char *slash = strrchr(path, '/'); /* the folder above: "/" at last, or "", which is here */
        path[slash == path && path[1] ? 1 : slash ? slash - path : 0] = '\0';
    }
    npos_status status =
        failed ? npi_fail_errno("%s: cannot ask how much room its disk has", folder) : NPOS_OK;
    npi_free(path);
    NPI_TRY(status);
    double room = (double)disk.f_bavail * (double)disk.f_frsize;
    if (room >= (double)bytes)
        return NPOS_OK;
    npi_fail(NPOS_IO, "%s needs %.1f MB below %s, the disk has %.1f MB free", what,
             (double)bytes / 1e6, folder, room / 1e6);
    return npi_hint(NPOS_IO, "make room, or choose another disk with --root");
}

#ifdef NPI_HAVE_CURL
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <curl/curl.h>

#include "base/clock.h"
#include "base/file.h"
#include "data/checksum.h"
#include "data/http_answer.h"
#include "npos/npos.h"

enum { TRIES = 6, STALL = 60, REDIRECTS = 10, ERROR_BODY = 1 << 20 };

/* What one file's download knows between tries and within one. */
typedef struct transfer {
    const npi_download *desc;
    CURL *curl;
    char *part, *tag_path;
    int fd;
    int64_t have, farthest; /* bytes in the part; the most that there ever were */
    char tag[NPI_HTTP_TAG]; /* of the version that the part is of; "" unknown */
    /* of the answer that is being read */
    npi_http_answer answer;
    char reason[CURL_ERROR_SIZE];
    int64_t skipped; /* bytes of an error's body */
    bool begun;
    npos_status status; /* of a callback that ended the transfer: not to be tried again */
    double told;
} transfer;

static size_t on_header(char *line, size_t one, size_t length, void *context) {
    transfer *t = context;
    (void)one;
    npi_http_header(&t->answer, line, length);
    return length;
}

static npos_status drop_part(transfer *t) {
    t->have = 0;
    t->tag[0] = '\0';
    unlink(t->tag_path);
    return ftruncate(t->fd, 0) == 0 ? NPOS_OK : npi_fail_errno("%s: cannot write", t->part);
}

static npos_status keep_tag(transfer *t) {
    if (strcmp(t->tag, t->answer.tag) == 0)
        return NPOS_OK;
    strcpy(t->tag, t->answer.tag);
    if (t->tag[0])
        return npi_file_write(t->tag_path, t->tag, strlen(t->tag));
    unlink(t->tag_path);
    return NPOS_OK;
}

/* The size that the answer says, against what was promised and what the disk holds. */
static npos_status check_total(transfer *t) {
    const npi_download *d = t->desc;
    if (t->answer.total < 0)
        return NPOS_OK;
    if (d->bytes > 0 && t->answer.total != d->bytes) {
        npi_fail(NPOS_BAD_DATA, "%s: the server's file has %lld bytes, expected %lld", d->url,
                 (long long)t->answer.total, (long long)d->bytes);
        return npi_hint(NPOS_BAD_DATA, "it was replaced, or something else is served in its place");
    }
    return npi_check_room(d->path, t->answer.total - t->have, npi_path_name(d->path));
}

/* With the first bytes of an answer: where they belong. */
static npos_status begin_body(transfer *t, long code) {
    t->begun = true;
    if (code == 206 && t->answer.range_start == t->have) {
        NPI_TRY(check_total(t));
        return keep_tag(t);
    }
    NPI_TRY(drop_part(t)); /* the whole file, or a part that was not asked for */
    if (code == 206)
        return NPOS_OK;
    curl_off_t length = -1;
    curl_easy_getinfo(t->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    t->answer.total = length;
    NPI_TRY(check_total(t));
    return keep_tag(t);
}

static npos_status take(transfer *t, const char *bytes, size_t size) {
    const npi_download *d = t->desc;
    if (d->bytes > 0 && t->have + (int64_t)size > d->bytes) {
        NPI_TRY(drop_part(t));
        return npi_fail(NPOS_BAD_DATA, "%s: the server sends more than the expected %lld bytes",
                        d->url, (long long)d->bytes);
    }
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(t->fd, bytes + done, size - done, t->have);
        if (n < 0 && errno != EINTR)
            return npi_fail_errno("%s: cannot write", t->part);
        if (n > 0) {
            done += (size_t)n;
            t->have += n;
        }
    }
    return NPOS_OK;
}

static size_t on_body(char *bytes, size_t one, size_t size, void *context) {
    transfer *t = context;
    long code = 0;
    (void)one;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &code);
    if (code != 200 && code != 206) { /* an error's page: read past, but not for ever */
        t->skipped += (int64_t)size;
        return t->skipped > ERROR_BODY ? 0 : size;
    }
    if (!t->begun) {
        bool wanted = code == 200 || t->answer.range_start == t->have;
        t->status = begin_body(t, code);
        if (t->status != NPOS_OK || !wanted)
            return 0;
    }
    t->status = take(t, bytes, size);
    return t->status == NPOS_OK ? size : 0;
}

static int on_progress(void *context, curl_off_t total, curl_off_t now, curl_off_t up_total,
                       curl_off_t up) {
    transfer *t = context;
    (void)total, (void)now, (void)up_total, (void)up;
    if (!t->desc->progress || npi_seconds() - t->told < 0.1)
        return 0;
    t->told = npi_seconds();
    t->status = t->desc->progress(t->desc->context, t->have,
                                  t->desc->bytes > 0    ? t->desc->bytes
                                  : t->answer.total > 0 ? t->answer.total
                                                        : 0);
    return t->status != NPOS_OK;
}

static void set_up(transfer *t) {
    CURL *c = t->curl;
    curl_easy_setopt(c, CURLOPT_URL, t->desc->url);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)REDIRECTS);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(c, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    curl_easy_setopt(c, CURLOPT_USERAGENT, "npos/" NPOS_VERSION);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 30L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME,
                     (long)(t->desc->stall > 0 ? t->desc->stall : STALL));
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->reason);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
}

static bool will_not_change(CURLcode code) {
    return code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT ||
           code == CURLE_TOO_MANY_REDIRECTS || code == CURLE_PEER_FAILED_VERIFICATION ||
           code == CURLE_OUT_OF_MEMORY;
}

/* What came of one try: NPOS_OK with *again = false: whole; with *again = true: to be tried again, the reason is the
 * newest message. */
static npos_status judge(transfer *t, CURLcode result, long code, bool *again) {
    const npi_download *d = t->desc;
    int64_t wanted = d->bytes > 0 ? d->bytes : t->answer.total;
    *again = false;
    if (t->status != NPOS_OK)
        return t->status;
    if (code == 416) { /* nothing behind what is there: it is whole, or too long */
        if (d->bytes > 0 && t->have == d->bytes)
            return NPOS_OK;
        *again = true;
        npi_fail(NPOS_IO, "%s: the server has nothing from byte %lld on", d->url,
                 (long long)t->have);
        return drop_part(t);
    }
    if (code >= 400) {
        *again = code == 408 || code == 425 || code == 429 || code >= 500;
        npi_fail(NPOS_IO, "%s: the server answers %ld", d->url, code);
        return *again
                   ? NPOS_OK
                   : npi_hint(npi_fail(NPOS_NOT_FOUND, "%s: the server answers %ld", d->url, code),
                              "the link died or moved; --mirror names another server");
    }
    if (will_not_change(result))
        return npi_fail(NPOS_IO, "%s: %s", d->url,
                        t->reason[0] ? t->reason : curl_easy_strerror(result));
    if (result == CURLE_OK && (code == 200 || code == 206) && (wanted <= 0 || t->have == wanted))
        return NPOS_OK;
    *again = true;
    npi_fail(NPOS_IO, "%s: %s, at byte %lld", d->url,
             result == CURLE_OK ? "the server sent too little"
             : t->reason[0]     ? t->reason
                                : curl_easy_strerror(result),
             (long long)t->have);
    return NPOS_OK;
}

static npos_status try_once(transfer *t, bool *again) {
    char range[32];
    struct curl_slist *headers = NULL;
    char condition[NPI_HTTP_TAG + 16];
    snprintf(range, sizeof range, "%lld-", (long long)t->have);
    curl_easy_setopt(t->curl, CURLOPT_RANGE, t->have > 0 ? range : NULL);
    if (t->have > 0 && t->tag[0]) {
        snprintf(condition, sizeof condition, "If-Range: %s", t->tag);
        headers = curl_slist_append(NULL, condition);
    }
    curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, headers);
    t->begun = false;
    t->skipped = 0;
    npi_http_answer_begin(&t->answer);
    t->reason[0] = '\0';
    long code = 0;
    CURLcode result = curl_easy_perform(t->curl);
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &code);
    if (result == CURLE_OK && (code == 200 || code == 206) && !t->begun) /* an empty body */
        t->status = begin_body(t, code);
    curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    return judge(t, result, code, again);
}

/* Waits, and asks now and then whether to go on. */
static npos_status pause_for(transfer *t, double seconds) {
    double until = npi_seconds() + seconds;
    while (npi_seconds() < until) {
        if (t->desc->progress)
            NPI_TRY(t->desc->progress(t->desc->context, t->have, t->desc->bytes));
        usleep(50000);
    }
    return NPOS_OK;
}

/* Until all of it is in the part. */
static npos_status get_all(transfer *t) {
    const npi_download *d = t->desc;
    int most = d->tries > 0 ? d->tries : TRIES, tries = 0;
    double pause = d->pause > 0 ? d->pause : 1;
    if (d->bytes > 0 && t->have == d->bytes)
        return NPOS_OK;
    if (t->have > d->bytes && d->bytes > 0)
        NPI_TRY(drop_part(t));
    for (;;) {
        bool again;
        npos_status status = try_once(t, &again);
        if (status != NPOS_OK || !again)
            return status;
        if (t->have > t->farthest) {
            t->farthest = t->have;
            tries = 0;
        }
        if (++tries >= most)
            return npi_hint(NPOS_IO,
                            "tried %d times; what came so far stays: the same command goes on "
                            "from there",
                            most);
        NPI_TRY(pause_for(t, pause * (double)(1 << (tries < 7 ? tries - 1 : 6))));
    }
}

static npos_status taken(transfer *t) {
    close(t->fd);
    t->fd = -1; /* what the other one has in the part is its own */
    return npi_fail(NPOS_IO, "%s: another process is downloading it", t->part);
}

/* Opens the part, for this process alone, and reads how far it came. */
static npos_status open_part(transfer *t) {
    struct stat info, named;
    char *tag = NULL;
    size_t size;
    t->fd = open(t->part, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (t->fd < 0)
        return npi_fail_errno("%s: cannot write", t->part);
    if (flock(t->fd, LOCK_EX | LOCK_NB) != 0)
        return taken(t);
    if (fstat(t->fd, &info) != 0)
        return npi_fail_errno("%s", t->part);
    /* between open and lock another one may have finished it: then this is its file, not a part */
    if (stat(t->part, &named) != 0 || named.st_ino != info.st_ino || named.st_dev != info.st_dev)
        return taken(t);
    t->have = t->farthest = info.st_size;
    if (npi_is_file(t->tag_path) && npi_file_read(t->tag_path, &tag, &size) == NPOS_OK &&
        size < sizeof t->tag && !strpbrk(tag, "\r\n"))
        strcpy(t->tag, tag);
    npi_free(tag);
    /* without the server's mark and without a checksum nobody would notice two versions joined */
    return t->have > 0 && !t->tag[0] && !t->desc->checksum ? drop_part(t) : NPOS_OK;
}

/* All of it, with the checksum that it should have: one more try from the start when it is wrong. */
static npos_status get_right(transfer *t) {
    const npi_download *d = t->desc;
    for (int round = 0;; round++) {
        NPI_TRY(get_all(t));
        npos_status status = d->checksum
                                 ? npi_checksum_check(t->part, d->checksum, d->progress, d->context)
                                 : NPOS_OK;
        if (status != NPOS_BAD_DATA)
            return status;
        char message[1024];
        snprintf(message, sizeof message, "%s", npos_error_message());
        NPI_TRY(drop_part(t));
        t->farthest = 0;
        npi_fail(status, "%s: %s", d->url, message);
        if (round > 0)
            return npi_hint(status,
                            "downloaded twice: what the server has is not what was published");
    }
}

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void start_curl(void) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

bool npi_download_available(void) {
    return true;
}

npos_status npi_download_file(const npi_download *desc) {
    transfer t = {.desc = desc, .fd = -1};
    npos_status status;
    pthread_once(&once, start_curl);
    NPI_TRY_GOTO(npi_format(&t.part, "%s.part", desc->path), done);
    NPI_TRY_GOTO(npi_format(&t.tag_path, "%s.part.tag", desc->path), done);
    t.curl = curl_easy_init();
    if (!t.curl)
        NPI_TRY_GOTO(npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory to download", desc->url), done);
    set_up(&t);
    NPI_TRY_GOTO(open_part(&t), done);
    NPI_TRY_GOTO(get_right(&t), done);
    if (fsync(t.fd) != 0 || rename(t.part, desc->path) != 0)
        NPI_TRY_GOTO(npi_fail_errno("%s: cannot put the finished file in place", desc->path), done);
    unlink(t.tag_path);
    if (desc->progress)
        status = desc->progress(desc->context, t.have, t.have);
done:
    if (t.fd >= 0) {
        if (t.have == 0) /* renamed or empty: an empty one is of no use */
            unlink(t.part);
        close(t.fd);
    }
    curl_easy_cleanup(t.curl);
    npi_free(t.part);
    npi_free(t.tag_path);
    return status;
}

#else

bool npi_download_available(void) {
    return false;
}

npos_status npi_download_file(const npi_download *download) {
    return npi_hint(
        npi_fail(NPOS_UNSUPPORTED, "%s: this build has no libcurl to download it", download->url),
        "build npos where libcurl's development files are, or download it by hand");
}
#endif
