/* jobs/options.h - what every job checks of its options. */
#ifndef NPI_JOBS_OPTIONS_H
#define NPI_JOBS_OPTIONS_H

#include "base/fail.h"

/* Options that npos_X_options_init did not fill have another struct_size. */
#define NPI_CHECK_OPTIONS(options, job)                                                            \
    do {                                                                                           \
        if ((options)->struct_size != sizeof *(options))                                           \
            return npi_fail(NPOS_INVALID_ARGUMENT,                                                 \
                            "%s: options of %zu bytes, expected %zu: fill them with "              \
                            "%s_options_init first",                                               \
                            job, (options)->struct_size, sizeof *(options), job);                  \
    } while (0)

#endif
