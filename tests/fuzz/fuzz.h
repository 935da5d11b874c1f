/* fuzz/fuzz.h - what the fuzz targets share.
 *
 * A target defines LLVMFuzzerTestOneInput.  `make fuzz` links it with clang's fuzzer, which searches
 * for inputs that crash it; the ordinary build links it with replay_corpus.c, which runs the committed
 * inputs as a test. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A path under which the bytes can be opened (in memory), valid until the next call. */
const char *fuzz_path(const uint8_t *data, size_t size);

#endif
