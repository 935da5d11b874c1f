#include <math.h>
#include <stdio.h>
#include <string.h>

#include "dc.h"

/* devicecheck on itself: what it is there to find, put there on purpose. */
static void expect(dc *d, int *wrong, const char *what, bool found) {
    bool failed = d->failed > 0;
    if (failed != found) {
        fprintf(stderr, "self-check: %s was %s\n", what, failed ? "reported" : "not reported");
        ++*wrong;
    }
    d->failed = 0;
}

bool dc_self_check(dc *d) {
    enum { COUNT = 100 };
    int wrong = 0;
    size_t bytes = COUNT * sizeof(float);
    npi_device *dev = d->side[1];
    float *values = dc_normals(d, COUNT, 1.0), *other = dc_host(d, bytes);
    uint8_t byte = 1;
    d->quiet = true;
    dc_buf *buf = dc_input(d, "values", values, bytes);
    dc_floats(d, buf, DC_ROWS);
    expect(d, &wrong, "an equal array", false);
    dc_passed(d, "upload", dev->memory->upload(dev, (char *)dc_at(buf, 1) + bytes, &byte, 1));
    dc_guards(d, buf);
    expect(d, &wrong, "a byte behind the end", true);
    dc_buf *before = dc_input(d, "values", values, bytes);
    dc_passed(d, "upload", dev->memory->upload(dev, (char *)dc_at(before, 1) - 1, &byte, 1));
    dc_guards(d, before);
    expect(d, &wrong, "a byte before the start", true);
    dc_compare(d, "unwritten", COUNT, values, dc_read(d, dc_output(d, "unwritten", bytes), 1),
               DC_ACT);
    expect(d, &wrong, "an output that was not written", true);
    memcpy(other, values, bytes);
    other[COUNT / 2] = NAN;
    dc_compare(d, "nan", COUNT, values, other, DC_ACT);
    expect(d, &wrong, "one NaN", true);
    dc_compare(d, "nan", COUNT, other, values, DC_ACT);
    expect(d, &wrong, "a NaN that did not pass through", true);
    dc_compare(d, "nan", COUNT, other, other, DC_ACT);
    expect(d, &wrong, "the same NaN", false);
    memcpy(other, values, bytes);
    other[3] += 0.5f;
    dc_compare(d, "off", COUNT, values, other, DC_ACT);
    expect(d, &wrong, "one element off by a half", true);
    memcpy(other, values, bytes);
    other[7] = nextafterf(other[7], INFINITY);
    dc_compare(d, "bits", COUNT, values, other, DC_EXACT);
    expect(d, &wrong, "one bit where bits count", true);
    dc_compare(d, "bits", COUNT, values, other, DC_ROWS);
    expect(d, &wrong, "one bit where rounding is allowed", false);
    d->quiet = false;
    printf("%s self-check\n", wrong ? "FAIL" : "ok  ");
    return wrong == 0;
}
