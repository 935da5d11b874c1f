/* devices/cpu/cpu_profile.h - where a step's time goes, for the benchmarks.
 *
 * Off by default; one thread drives a device, so plain variables do. */
#ifndef NPI_DEVICES_CPU_PROFILE_H
#define NPI_DEVICES_CPU_PROFILE_H

#include <stdbool.h>

typedef enum npi_cpu_part {
    NPI_CPU_PACK,
    NPI_CPU_FORWARD,
    NPI_CPU_BACK_DATA,
    NPI_CPU_BACK_WEIGHTS,
    NPI_CPU_NORM,
    NPI_CPU_NORM_BACK,
    NPI_CPU_PARTS
} npi_cpu_part;

extern const char *const npi_cpu_part_names[NPI_CPU_PARTS];

/* processor_time: count what the process used of all processors instead of the wall's clock, for
 * single-threaded figures on a busy machine. */
void npi_cpu_profile_start(bool processor_time);
/* seconds[part] since start. */
void npi_cpu_profile_stop(double seconds[NPI_CPU_PARTS]);

/* Ends the part that ran since the last call; free of cost while the profile is off. */
void npi_cpu_profile_mark(npi_cpu_part part);
/* A part begins: what ran before is nobody's. */
void npi_cpu_profile_begin(void);

#endif
