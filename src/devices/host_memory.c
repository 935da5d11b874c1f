#include "devices/host_memory.h"

#include <string.h>

#include "base/memory.h"

/* Room in front of a block for its size; keeps the alignment. */
enum { FRONT = 64 };

static npi_host_bytes *counted(npi_device *dev) {
    return dev->own;
}

static npos_status host_alloc(npi_device *dev, size_t bytes, const char *what, void *out) {
    char *block = NULL;
    void *memory = NULL;
    npos_status status =
        bytes > SIZE_MAX - FRONT
            ? npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for %zu bytes", what, bytes)
            : npi_alloc(&block, bytes + FRONT, 1, what);
    if (status == NPOS_OK) {
        npi_host_bytes *count = counted(dev);
        memcpy(block, &bytes, sizeof bytes);
        memory = block + FRONT;
        count->now += bytes;
        if (count->now > count->peak)
            count->peak = count->now;
    }
    memcpy(out, &memory, sizeof memory);
    return status;
}

static void host_free(npi_device *dev, void *memory) {
    if (!memory)
        return;
    char *block = (char *)memory - FRONT;
    size_t bytes;
    memcpy(&bytes, block, sizeof bytes);
    counted(dev)->now -= bytes;
    npi_free(block);
}

static npos_status host_copy(npi_device *dev, void *to, const void *from, size_t bytes) {
    (void)dev;
    if (bytes > 0)
        memcpy(to, from, bytes);
    return NPOS_OK;
}

static npos_status host_zero(npi_device *dev, void *to, size_t bytes) {
    (void)dev;
    if (bytes > 0)
        memset(to, 0, bytes);
    return NPOS_OK;
}

static npos_status host_post(npi_device *dev, int slot, const void *from, size_t bytes) {
    memcpy(counted(dev)->posted[slot], from, bytes);
    return NPOS_OK;
}

static npos_status host_collect(npi_device *dev, int slot, void *host, size_t bytes) {
    memcpy(host, counted(dev)->posted[slot], bytes);
    return NPOS_OK;
}

static npos_status host_sync(npi_device *dev) {
    (void)dev;
    return NPOS_OK;
}

static void host_usage(npi_device *dev, size_t *now, size_t *peak) {
    *now = counted(dev)->now;
    *peak = counted(dev)->peak;
}

const npi_memory_ops npi_host_memory = {.alloc = host_alloc,
                                        .free = host_free,
                                        .upload = host_copy,
                                        .download = host_copy,
                                        .copy = host_copy,
                                        .zero = host_zero,
                                        .post = host_post,
                                        .collect = host_collect,
                                        .sync = host_sync,
                                        .usage = host_usage};
