#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/behind.h"
#include "base/file.h"
#include "base/memory.h"
#include "io/token_index.h"

/* Memory of a chunk: filled, then written while others are filled. */
typedef struct slot {
    npi_token_writer *writer;
    npi_behind behind; /* the writing */
    int64_t number;    /* of the chunk that it wrote last or is writing; -1: none so far */
    uint16_t *room;    /* [chunk][rows][width] */
} slot;

struct npi_token_writer {
    char *folder;
    int lock;            /* the folder, open and locked while the writer lives; -1: not */
    npi_token_info info; /* sizes alone */
    uint64_t index;
    bool *there;  /* [chunks] */
    int64_t next; /* image that add takes first */
    int64_t held; /* images of next's chunk in the slot whose turn it is */
    int count;    /* of slots, which are filled in turn */
    int turn;     /* the slot that is filled, or else the one whose writing began first */
    slot *slots;
};

/* The index that is there says the same as the one that would be written. */
static npos_status compare(const char *folder, json_t *there, json_t *wanted) {
    const char *key;
    json_t *value;
    json_object_foreach(wanted, key, value) {
        const json_t *old = json_object_get(there, key);
        if (strcmp(key, "spec") == 0 || json_equal(old, value))
            continue;
        char *is = json_dumps(old, JSON_COMPACT | JSON_ENCODE_ANY);
        char *now = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        npos_status status = npi_hint(
            npi_fail(NPOS_INVALID_ARGUMENT, "%s: '%s' is %.60s there and would now be %.60s",
                     folder, key, is ? is : "not", now ? now : "another"),
            strcmp(key, "model") == 0 ? "the tokens there were made with other weights"
                                      : "resume with what the extraction was started with");
        free(is);
        free(now);
        return status;
    }
    return NPOS_OK;
}

static npos_status write_index(npi_token_writer *writer, const char *path, json_t *wanted) {
    char *text = json_dumps(wanted, JSON_COMPACT);
    if (!text)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for the index", path);
    writer->index = XXH3_64bits(text, strlen(text));
    npos_status status = npi_file_write(path, text, strlen(text));
    free(text);
    return status;
}

static npos_status resume_index(npi_token_writer *writer, json_t *wanted) {
    npi_token_info info = {0};
    json_t *there = NULL;
    npos_status status = npi_token_index_read(writer->folder, &info, &there, &writer->index);
    if (status == NPOS_OK)
        status = compare(writer->folder, there, wanted);
    json_decref(there);
    npi_token_info_clear(&info);
    return status;
}

static npos_status start_index(npi_token_writer *writer, const npi_token_info *info, bool resume) {
    char *path;
    json_t *wanted = NULL;
    npos_status status;
    NPI_TRY(npi_path_join(&path, writer->folder, "index.json"));
    bool there = npi_is_file(path);
    if (there && !resume) {
        status = npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "%s: there is one already", path),
                          "go on with it (--resume), or name another folder");
        goto done;
    }
    wanted = npi_token_index_make(info);
    if (!wanted)
        status = npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for the index", path);
    else
        status = there ? resume_index(writer, wanted) : write_index(writer, path, wanted);
done:
    json_decref(wanted);
    npi_free(path);
    return status;
}

/* Whether chunk `number` was written for this index. */
static npos_status look(const npi_token_writer *writer, int64_t number, bool *out) {
    npi_token_header header;
    char *path;
    struct stat info;
    *out = false;
    NPI_TRY(npi_token_chunk_path(writer->folder, number, &path));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        *out = fstat(fd, &info) == 0 && read(fd, &header, sizeof header) == sizeof header &&
               npi_token_header_check(path, &header, (uint64_t)info.st_size, &writer->info, number,
                                      writer->index) == NPOS_OK;
        close(fd);
    }
    npi_free(path);
    return NPOS_OK;
}

/* Two writers of one store would take each other's chunks for missing ones. */
static npos_status lock_folder(npi_token_writer *writer) {
    writer->lock = open(writer->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (writer->lock < 0)
        return npi_fail_errno("%s: cannot open", writer->folder);
    if (flock(writer->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return npi_hint(
            npi_fail(NPOS_IO, "%s: another extraction is writing to it", writer->folder),
            "wait for it, or name another folder");
    return NPOS_OK; /* also where the file system knows no locks */
}

npos_status npi_token_writer_open(const char *folder, const npi_token_info *info, bool resume,
                                  int chunks, npi_token_writer **out) {
    npi_token_writer *writer;
    npos_status status;
    *out = NULL;
    NPI_TRY(npi_alloc(&writer, 1, sizeof *writer, "token store"));
    writer->lock = -1;
    writer->info = (npi_token_info){
        .images = info->images, .rows = info->rows, .width = info->width, .chunk = info->chunk};
    int64_t all = npi_token_chunks(info);
    int count = chunks < all ? chunks : (int)all;
    NPI_TRY_GOTO(npi_strdup(&writer->folder, folder), fail);
    NPI_TRY_GOTO(npi_alloc(&writer->there, (size_t)all, sizeof *writer->there, "chunks"), fail);
    NPI_TRY_GOTO(npi_alloc(&writer->slots, (size_t)count, sizeof *writer->slots, "chunks"), fail);
    for (; writer->count < count; writer->count++) {
        slot *s = &writer->slots[writer->count];
        s->writer = writer;
        s->number = -1;
        NPI_TRY_GOTO(npi_alloc(&s->room, (size_t)info->chunk, npi_token_image_bytes(info),
                               "a chunk of tokens"),
                     fail);
    }
    NPI_TRY_GOTO(npi_make_folders(folder), fail);
    NPI_TRY_GOTO(lock_folder(writer), fail);
    NPI_TRY_GOTO(start_index(writer, info, resume), fail);
    for (int64_t i = 0; i < all; i++)
        NPI_TRY_GOTO(look(writer, i, &writer->there[i]), fail);
    writer->next = npi_token_writer_missing(writer, 0);
    *out = writer;
    return NPOS_OK;
fail:
    npi_token_writer_close(writer);
    return status;
}

int64_t npi_token_writer_missing(const npi_token_writer *writer, int64_t from) {
    const npi_token_info *info = &writer->info;
    while (from < info->images && writer->there[from / info->chunk])
        from = (from / info->chunk + 1) * info->chunk;
    return from < info->images ? from : info->images;
}

/* npi_behind_fn, beside others: of the writer it reads what never changes. */
static npos_status write_chunk(void *context) {
    const slot *s = context;
    const npi_token_writer *writer = s->writer;
    npi_atomic file;
    char *path;
    int64_t images = npi_token_chunk_images(&writer->info, s->number);
    size_t bytes = (size_t)images * npi_token_image_bytes(&writer->info);
    npi_token_header header = {.magic = NPI_TOKEN_MAGIC,
                               .number = (uint64_t)s->number,
                               .images = (uint64_t)images,
                               .image_bytes = npi_token_image_bytes(&writer->info),
                               .sum = XXH3_64bits(s->room, bytes),
                               .index = writer->index};
    NPI_TRY(npi_token_chunk_path(writer->folder, s->number, &path));
    npos_status status = npi_atomic_open(&file, path);
    if (status == NPOS_OK) {
        fwrite(&header, sizeof header, 1, file.stream); /* commit finds the stream's error */
        fwrite(s->room, 1, bytes, file.stream);
        status = npi_atomic_commit(&file);
    }
    npi_free(path);
    return status;
}

/* The slot's chunk, if it has one, is on the disk; a slot whose write has failed is never free again. */
static npos_status settle(slot *s) {
    NPI_TRY(npi_behind_wait(&s->behind));
    if (s->number >= 0)
        s->writer->there[s->number] = true;
    return NPOS_OK;
}

npos_status npi_token_writer_add(npi_token_writer *writer, int64_t count, const uint16_t *halves) {
    const npi_token_info *info = &writer->info;
    size_t image = npi_token_image_bytes(info) / sizeof *halves;
    while (count > 0) {
        if (writer->next >= info->images)
            return npi_fail(NPOS_INVALID_ARGUMENT,
                            "%s: %" PRId64 " images more than the %" PRId64 " of its index",
                            writer->folder, count, info->images);
        slot *s = &writer->slots[writer->turn];
        if (writer->held == 0)
            NPI_TRY(settle(s));
        int64_t number = writer->next / info->chunk, all = npi_token_chunk_images(info, number);
        int64_t more = all - writer->held < count ? all - writer->held : count;
        memcpy(s->room + (size_t)writer->held * image, halves,
               (size_t)more * image * sizeof *halves);
        writer->held += more;
        writer->next += more;
        halves += (size_t)more * image;
        count -= more;
        if (writer->held < all)
            continue;
        s->number = number;
        NPI_TRY(npi_behind_run(&s->behind, write_chunk, s));
        writer->turn = (writer->turn + 1) % writer->count;
        writer->held = 0;
        writer->next = npi_token_writer_missing(writer, writer->next);
    }
    return NPOS_OK;
}

npos_status npi_token_writer_finish(npi_token_writer *writer) {
    for (int i = 0; i < writer->count; i++)
        NPI_TRY(settle(&writer->slots[(writer->turn + i) % writer->count]));
    return NPOS_OK;
}

void npi_token_writer_close(npi_token_writer *writer) {
    if (!writer)
        return;
    for (int i = 0; i < writer->count; i++) {
        npi_behind_join(&writer->slots[i].behind);
        npi_free(writer->slots[i].room);
    }
    if (writer->lock >= 0)
        close(writer->lock);
    npi_free(writer->slots);
    npi_free(writer->folder);
    npi_free(writer->there);
    npi_free(writer);
}
