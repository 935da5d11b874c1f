#include "io/tb_events.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/memory.h"

struct npi_tb_events {
    char *path;
};

uint32_t npi_crc32c(const void *bytes, uint64_t size) {
    const unsigned char *at = bytes;
    uint32_t crc = 0xffffffffu;
    for (uint64_t i = 0; i < size; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static uint32_t masked(const void *bytes, uint64_t size) {
    uint32_t crc = npi_crc32c(bytes, size);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* A small buffer for one Event. */
typedef struct message {
    unsigned char bytes[256];
    size_t size;
} message;

static void put(message *m, const void *bytes, size_t size) {
    memcpy(m->bytes + m->size, bytes, size);
    m->size += size;
}

/* Field numbers and wire types of protocol buffers: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes. */
static void put_key(message *m, int field, int wire) {
    unsigned char key = (unsigned char)(field << 3 | wire);
    put(m, &key, 1);
}

static void put_varint(message *m, uint64_t value) {
    do {
        unsigned char byte = (unsigned char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        put(m, &byte, 1);
        value >>= 7;
    } while (value);
}

static void put_bytes(message *m, int field, const void *bytes, size_t size) {
    put_key(m, field, 2);
    put_varint(m, size);
    put(m, bytes, size);
}

/* Event { double wall_time = 1; int64 step = 2; ... } */
static message event(int64_t step) {
    message m = {.size = 0};
    double wall_time = (double)time(NULL);
    put_key(&m, 1, 1);
    put(&m, &wall_time, sizeof wall_time);
    put_key(&m, 2, 0);
    put_varint(&m, (uint64_t)step);
    return m;
}

static npos_status write_record(const npi_tb_events *events, const message *m) {
    uint64_t length = m->size;
    uint32_t length_crc = masked(&length, sizeof length), crc = masked(m->bytes, m->size);
    unsigned char record[sizeof m->bytes + 16];
    memcpy(record, &length, 8);
    memcpy(record + 8, &length_crc, 4);
    memcpy(record + 12, m->bytes, m->size);
    memcpy(record + 12 + m->size, &crc, 4);
    return npi_file_append(events->path, record, m->size + 16);
}

npos_status npi_tb_open(const char *folder, npi_tb_events **out) {
    npi_tb_events *events;
    *out = NULL;
    NPI_TRY(npi_alloc(&events, 1, sizeof *events, "TensorBoard events"));
    npos_status status = npi_format(&events->path, "%s/events.out.tfevents.%lld.npos", folder,
                                    (long long)time(NULL));
    if (status == NPOS_OK) {
        message m = event(0);
        put_bytes(&m, 3, "brain.Event:2", 13); /* file_version */
        status = write_record(events, &m);
    }
    if (status == NPOS_OK)
        *out = events;
    else
        npi_tb_close(events);
    return status;
}

npos_status npi_tb_scalar(npi_tb_events *events, const char *tag, int64_t step, double value) {
    /* Event.summary (5) = Summary { value (1) = Value { tag (1), simple_value (2) } } */
    message inner = {.size = 0}, summary = {.size = 0}, m = event(step);
    float single = (float)value;
    size_t length = strlen(tag);
    put_bytes(&inner, 1, tag, length < 100 ? length : 100);
    put_key(&inner, 2, 5);
    put(&inner, &single, sizeof single);
    put_bytes(&summary, 1, inner.bytes, inner.size);
    put_bytes(&m, 5, summary.bytes, summary.size);
    return write_record(events, &m);
}

void npi_tb_close(npi_tb_events *events) {
    if (!events)
        return;
    npi_free(events->path);
    npi_free(events);
}
