/* A store of tokens: the input is index.json up to its first zero byte, and behind that the first chunk's
 * file.  Where the first byte is 'm' (it is not part of the index) the chunk's header is mended to that of
 * this index and these tokens, so that changed sizes come as far as the reading. */
#include <string.h>
#include <xxhash.h>

#include "base/memory.h"
#include "fuzz/fuzz.h"
#include "fuzz/fuzz_folder.h"
#include "io/token_index.h"
#include "io/token_store.h"

enum { MOST = 1 << 16, NUMBERS = 1 << 16 };

static void put(const char *name, const void *bytes, size_t size) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    FILE *file = fopen(path, "wb");
    if (!file || (size && fwrite(bytes, size, 1, file) != 1) || fclose(file) != 0)
        abort();
}

static void mend(uint8_t *chunk, size_t size, const uint8_t *index, size_t index_bytes) {
    npi_token_header header;
    if (size < sizeof header)
        return;
    memcpy(&header, chunk, sizeof header);
    header.index = XXH3_64bits(index, index_bytes);
    header.sum = XXH3_64bits(chunk + sizeof header, size - sizeof header);
    memcpy(chunk, &header, sizeof header);
}

/* What an opened store promises: labels of its classes, and images that can be asked for. */
static void read_all(npi_token_store *store) {
    static uint16_t image[NUMBERS];
    const npi_token_info *info = npi_token_store_info(store);
    uint64_t identity;
    for (int64_t i = 0; i < info->images; i++)
        if (info->labels[i] < -1 || info->labels[i] >= info->classes)
            __builtin_trap();
    for (int64_t i = 0; i < info->images && i < 4; i++)
        if ((int64_t)info->rows * info->width <= NUMBERS &&
            npi_token_store_read(store, i, image) == NPOS_OK && (image[0] & 0x7c00) == 0x7c00)
            __builtin_trap();
    if (npi_token_store_identity(store, &identity) == NPOS_OK && identity == 0)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t chunk[MOST];
    bool mended = size > 0 && data[0] == 'm';
    data += mended;
    size -= mended;
    const uint8_t *end = size ? memchr(data, '\0', size) : NULL;
    size_t index = end ? (size_t)(end - data) : size, rest = end ? size - index - 1 : 0;
    if (rest > MOST)
        return 0;
    if (rest)
        memcpy(chunk, end + 1, rest);
    if (mended)
        mend(chunk, rest, data, index);
    put("index.json", data, index);
    put("00000.tok", chunk, rest);
    npi_token_store *store;
    if (npi_token_store_open(fuzz_folder(), &store) == NPOS_OK) {
        read_all(store);
        npi_token_store_close(store);
    }
    return 0;
}
