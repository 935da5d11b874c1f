#include "io/token_store.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/token_foreign.h"
#include "io/token_index.h"

typedef struct chunk {
    const unsigned char *map; /* header and tokens */
    size_t bytes;
    atomic_bool checked;
} chunk;

struct npi_token_store {
    char *path;
    npi_token_info info;
    chunk *chunks;              /* [npi_token_chunks]; NULL where foreign */
    npi_token_foreign *foreign; /* NULL where it is a store of npos */
};

static npos_status incomplete(const char *path, const npi_token_info *info, int64_t number) {
    return npi_hint(npi_fail(NPOS_NOT_FOUND,
                             "%s: no such file: the store is not whole, it needs %" PRId64
                             " chunks",
                             path, npi_token_chunks(info)),
                    "`npos extract --resume`, with what it was started with, makes what is missing "
                    "from image %" PRId64 " on",
                    number * info->chunk);
}

static npos_status map_chunk(npi_token_store *store, int64_t number, uint64_t index) {
    chunk *to = &store->chunks[number];
    npos_status status = NPOS_OK;
    struct stat info;
    char *path;
    NPI_TRY(npi_token_chunk_path(store->path, number, &path));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        status = npi_is_file(path) ? npi_fail_errno("%s: cannot open", path)
                                   : incomplete(path, &store->info, number);
    } else if (fstat(fd, &info) != 0) {
        status = npi_fail_errno("%s: cannot stat", path);
    } else if ((size_t)info.st_size < sizeof(npi_token_header)) {
        status = npi_fail(NPOS_BAD_DATA, "%s: %lld bytes are no chunk of tokens", path,
                          (long long)info.st_size);
    } else {
        void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) {
            status = npi_fail_errno("%s: cannot map", path);
        } else {
            npi_token_header header;
            to->map = map;
            to->bytes = (size_t)info.st_size;
            memcpy(&header, map, sizeof header);
            status = npi_token_header_check(path, &header, to->bytes, &store->info, number, index);
        }
    }
    if (fd >= 0)
        close(fd);
    if (status == NPOS_BAD_DATA)
        status = npi_hint(status, "delete the file and let `npos extract --resume` make it again");
    npi_free(path);
    return status;
}

static npos_status open_own(npi_token_store *store) {
    uint64_t hash;
    NPI_TRY(npi_token_index_read(store->path, &store->info, NULL, &hash));
    int64_t chunks = npi_token_chunks(&store->info);
    NPI_TRY(npi_alloc(&store->chunks, (size_t)chunks, sizeof *store->chunks, "chunks"));
    for (int64_t i = 0; i < chunks; i++)
        NPI_TRY(map_chunk(store, i, hash));
    return NPOS_OK;
}

npos_status npi_token_store_open(const char *path, npi_token_store **out) {
    npi_token_store *store;
    char *index = NULL;
    npos_status status;
    *out = NULL;
    NPI_TRY(npi_alloc(&store, 1, sizeof *store, "token store"));
    NPI_TRY_GOTO(npi_strdup(&store->path, path), done);
    NPI_TRY_GOTO(npi_path_join(&index, path, "index.json"), done);
    if (npi_is_file(index))
        status = open_own(store);
    else
        status = npi_token_foreign_open(path, &store->info, &store->foreign);
done:
    npi_free(index);
    if (status == NPOS_OK)
        *out = store;
    else
        npi_token_store_close(store);
    return status;
}

void npi_token_store_close(npi_token_store *store) {
    if (!store)
        return;
    for (int64_t i = 0; store->chunks && i < npi_token_chunks(&store->info); i++)
        if (store->chunks[i].map)
            munmap((void *)(uintptr_t)store->chunks[i].map, store->chunks[i].bytes);
    npi_token_foreign_close(store->foreign);
    npi_free(store->chunks);
    npi_token_info_clear(&store->info);
    npi_free(store->path);
    npi_free(store);
}

const npi_token_info *npi_token_store_info(const npi_token_store *store) {
    return &store->info;
}

static void add_to_hash(const npi_token_store *store, uint64_t foreign, XXH3_state_t *state) {
    const npi_token_info *info = &store->info;
    const int64_t sizes[] = {info->images,         info->block,          info->rows,   info->width,
                             (int64_t)info->model, (int64_t)info->names, info->classes};
    XXH3_64bits_update(state, sizes, sizeof sizes);
    XXH3_64bits_update(state, info->labels, (size_t)info->images * sizeof *info->labels);
    for (int c = 0; c < info->classes; c++)
        XXH3_64bits_update(state, info->class_names[c], strlen(info->class_names[c]) + 1);
    for (int64_t i = 0; store->chunks && i < npi_token_chunks(info); i++) {
        npi_token_header header;
        memcpy(&header, store->chunks[i].map, sizeof header);
        XXH3_64bits_update(state, &header.sum, sizeof header.sum);
    }
    XXH3_64bits_update(state, &foreign, sizeof foreign);
}

npos_status npi_token_store_identity(const npi_token_store *store, uint64_t *out) {
    uint64_t foreign = 0;
    *out = 0;
    if (store->foreign)
        NPI_TRY(npi_token_foreign_identity(store->foreign, &foreign));
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for a hash", store->path);
    XXH3_64bits_reset(state);
    add_to_hash(store, foreign, state);
    uint64_t hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    *out = hash ? hash : 1;
    return NPOS_OK;
}

/* Two threads may both compare: the answer is the same. */
static npos_status check_sum(npi_token_store *store, int64_t number) {
    chunk *at = &store->chunks[number];
    npi_token_header header;
    if (atomic_load_explicit(&at->checked, memory_order_relaxed))
        return NPOS_OK;
    memcpy(&header, at->map, sizeof header);
    if (XXH3_64bits(at->map + sizeof header, at->bytes - sizeof header) != header.sum)
        return npi_hint(npi_fail(NPOS_BAD_DATA, "%s/%05" PRId64 ".tok: its checksum is wrong",
                                 store->path, number),
                        "delete the file and let `npos extract --resume` make it again");
    atomic_store_explicit(&at->checked, true, memory_order_relaxed);
    return NPOS_OK;
}

npos_status npi_token_store_read(npi_token_store *store, int64_t i, uint16_t *out) {
    const npi_token_info *info = &store->info;
    size_t numbers = npi_token_image_bytes(info) / sizeof *out;
    if (i < 0 || i >= info->images)
        return npi_fail(NPOS_INVALID_ARGUMENT, "%s: image %" PRId64 " of %" PRId64, store->path, i,
                        info->images);
    if (store->foreign) {
        NPI_TRY(npi_token_foreign_read(store->foreign, info, i, out));
    } else {
        NPI_TRY(check_sum(store, i / info->chunk));
        memcpy(out,
               store->chunks[i / info->chunk].map + sizeof(npi_token_header) +
                   (size_t)(i % info->chunk) * npi_token_image_bytes(info),
               npi_token_image_bytes(info));
    }
    unsigned broken = 0;
    for (size_t k = 0; k < numbers; k++)
        broken |= (out[k] & 0x7c00u) == 0x7c00u;
    return broken ? npi_fail(NPOS_BAD_DATA,
                             "%s: image %" PRId64 " has tokens that are not finite in float16",
                             store->path, i)
                  : NPOS_OK;
}
