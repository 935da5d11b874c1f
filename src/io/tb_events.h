/* io/tb_events.h - TensorBoard's event files: scalars by step.
 *
 * A file is a chain of TFRecords: length (uint64), masked CRC-32C of it, the bytes of an Event protocol buffer, their
 * masked CRC-32C. */
#ifndef NPI_IO_TB_EVENTS_H
#define NPI_IO_TB_EVENTS_H

#include <stdint.h>

#include "base/fail.h"

typedef struct npi_tb_events npi_tb_events;

/* Starts a new file events.out.tfevents.SECONDS.npos in `folder`. */
NPOS_MUST_CHECK npos_status npi_tb_open(const char *folder, npi_tb_events **out);
/* Appends one scalar; where that fails, as on a full disk, the file is as it was. */
NPOS_MUST_CHECK npos_status npi_tb_scalar(npi_tb_events *events, const char *tag, int64_t step,
                                          double value);
void npi_tb_close(npi_tb_events *events); /* NULL is accepted */

/* CRC-32C (Castagnoli), as RFC 3720. */
uint32_t npi_crc32c(const void *bytes, uint64_t size);

#endif
