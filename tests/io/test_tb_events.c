/* TensorBoard's event files, parsed back by the format's own rules. */
#include "check.h"

#include <dirent.h>
#include <math.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/tb_events.h"

static void crc32c_is_rfc3720s(void **state) {
    (void)state;
    uint8_t bytes[32] = {0};
    assert_int_equal(npi_crc32c("123456789", 9), 0xe3069283u);
    assert_int_equal(npi_crc32c(bytes, 32), 0x8a9136aau); /* RFC 3720, B.4: zeros, ones, rising */
    memset(bytes, 0xff, 32);
    assert_int_equal(npi_crc32c(bytes, 32), 0x62a8ab43u);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(npi_crc32c(bytes, 32), 0x46dd794eu);
    assert_int_equal(npi_crc32c("", 0), 0u);
}

/* A place in a protocol buffer. */
typedef struct cursor {
    const uint8_t *at, *end;
} cursor;

static uint64_t varint(cursor *c) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        assert_true(c->at < c->end);
        uint8_t byte = *c->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return value;
    }
    fail_msg("a varint does not end");
    return 0;
}

static void take(cursor *c, void *to, size_t size) {
    assert_true((size_t)(c->end - c->at) >= size);
    memcpy(to, c->at, size);
    c->at += size;
}

/* The next field; for bytes (wire type 2) *inner is what it holds. */
static int field(cursor *c, int wire, cursor *inner) {
    uint64_t key = varint(c);
    assert_int_equal(key & 7, wire);
    if (wire == 2) {
        uint64_t size = varint(c);
        assert_true((uint64_t)(c->end - c->at) >= size);
        *inner = (cursor){c->at, c->at + size};
        c->at += size;
    }
    return (int)(key >> 3);
}

/* One TFRecord with both checksums; its payload in *payload. */
static void record(cursor *c, cursor *payload) {
    uint64_t length;
    uint32_t crcs[2], seen;
    uint8_t front[8];
    memcpy(front, c->at, sizeof front);
    take(c, &length, sizeof length);
    take(c, &crcs[0], sizeof crcs[0]);
    assert_true((uint64_t)(c->end - c->at) >= length);
    *payload = (cursor){c->at, c->at + length};
    c->at += length;
    take(c, &crcs[1], sizeof crcs[1]);
    seen = npi_crc32c(front, sizeof front);
    assert_int_equal(crcs[0], (uint32_t)((seen >> 15 | seen << 17) + 0xa282ead8u));
    seen = npi_crc32c(payload->at, length);
    assert_int_equal(crcs[1], (uint32_t)((seen >> 15 | seen << 17) + 0xa282ead8u));
}

/* wall_time and step, which every event starts with. */
static uint64_t event_front(cursor *c) {
    double wall_time;
    assert_int_equal(field(c, 1, NULL), 1);
    take(c, &wall_time, sizeof wall_time);
    assert_true(wall_time > 1.6e9);
    assert_int_equal(field(c, 0, NULL), 2);
    return varint(c);
}

static void assert_scalar(cursor *file, const char *tag, uint64_t step, float value) {
    cursor event, summary, entry, name;
    float seen;
    record(file, &event);
    assert_int_equal(event_front(&event), step);
    assert_int_equal(field(&event, 2, &summary), 5);
    assert_ptr_equal(event.at, event.end);
    assert_int_equal(field(&summary, 2, &entry), 1);
    assert_ptr_equal(summary.at, summary.end);
    assert_int_equal(field(&entry, 2, &name), 1);
    assert_int_equal(name.end - name.at, strlen(tag));
    assert_memory_equal(name.at, tag, strlen(tag));
    assert_int_equal(field(&entry, 5, NULL), 2);
    take(&entry, &seen, sizeof seen);
    assert_memory_equal(&seen, &value, sizeof seen);
    assert_ptr_equal(entry.at, entry.end);
}

/* The folder's only file. */
static void read_only_file(const char *folder, char **text, size_t *size) {
    DIR *open = opendir(folder);
    int files = 0;
    assert_non_null(open);
    for (struct dirent *e; (e = readdir(open));) {
        if (e->d_name[0] == '.')
            continue;
        assert_memory_equal(e->d_name, "events.out.tfevents.", 20);
        CHECK_OK(npi_file_read(check_path(folder, e->d_name), text, size));
        files++;
    }
    closedir(open);
    assert_int_equal(files, 1);
}

static void scalars_come_back(void **state) {
    (void)state;
    char *folder = check_folder(), *text;
    char long_tag[101];
    size_t size;
    npi_tb_events *events;
    memset(long_tag, 't', 100);
    long_tag[100] = '\0';
    CHECK_OK(npi_tb_open(folder, &events));
    CHECK_OK(npi_tb_scalar(events, "train/loss", 0, 1.25));
    CHECK_OK(npi_tb_scalar(events, "train/disp", 127, -0.1));
    CHECK_OK(npi_tb_scalar(events, "lr", 128, 0.0));
    CHECK_OK(npi_tb_scalar(events, "lr", INT64_C(5000000000), 1e-30));
    CHECK_OK(npi_tb_scalar(events, "nan", 1, (double)NAN));
    CHECK_OK(npi_tb_scalar(events, long_tag, 2, 3.0));
    /* flushed after each: read while still open */
    read_only_file(folder, &text, &size);
    cursor file = {(const uint8_t *)text, (const uint8_t *)text + size}, event, version;
    record(&file, &event);
    assert_int_equal(event_front(&event), 0);
    assert_int_equal(field(&event, 2, &version), 3);
    assert_int_equal(version.end - version.at, 13);
    assert_memory_equal(version.at, "brain.Event:2", 13);
    assert_scalar(&file, "train/loss", 0, 1.25f);
    assert_scalar(&file, "train/disp", 127, -0.1f);
    assert_scalar(&file, "lr", 128, 0.0f);
    assert_scalar(&file, "lr", 5000000000, 1e-30f);
    assert_scalar(&file, "nan", 1, (float)(double)NAN);
    assert_scalar(&file, long_tag, 2, 3.0f);
    assert_ptr_equal(file.at, file.end);
    npi_free(text);
    npi_tb_close(events);
    check_remove(folder);
}

static void a_missing_folder_is_named(void **state) {
    (void)state;
    npi_tb_events *events;
    CHECK_FAILS(npi_tb_open("/nowhere/at/all", &events), NPOS_IO, "/nowhere/at/all");
    assert_null(events);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_is_rfc3720s),
        cmocka_unit_test(scalars_come_back),
        cmocka_unit_test(a_missing_folder_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
