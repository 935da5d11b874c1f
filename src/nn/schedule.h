/* nn/schedule.h - the learning rate: cosine or one step by epoch, after a linear warm-up by step. */
#ifndef NPI_NN_SCHEDULE_H
#define NPI_NN_SCHEDULE_H

typedef struct npi_schedule {
    double lr, end;     /* the cosine goes from lr to end */
    int epochs, steps;  /* steps of an epoch */
    int warmup_epochs;  /* W; 0: no warm-up */
    double warmup_from; /* w0 */
    int drop_epoch;     /* 0: cosine; else lr, times drop from this epoch on */
    double drop;
} npi_schedule;

/* Rate of step i of epoch e (both from 0):
 *   cos(e) = end + (lr - end) (1 + cos(pi e / epochs)) / 2
 *   e >= W: cos(e);  e < W: w0 + (cos(W) - w0) (i + e steps) / (W steps)
 * With drop_epoch > 0, lr before it and lr drop from it on stand for cos(e). */
double npi_schedule_rate(const npi_schedule *schedule, int epoch, int step);

#endif
