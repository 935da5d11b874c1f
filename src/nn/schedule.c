#include "nn/schedule.h"

#include <math.h>

static double by_epoch(const npi_schedule *s, int epoch) {
    if (s->drop_epoch > 0)
        return epoch < s->drop_epoch ? s->lr : s->lr * s->drop;
    return s->end + (s->lr - s->end) * (1 + cos(M_PI * epoch / s->epochs)) / 2;
}

double npi_schedule_rate(const npi_schedule *s, int epoch, int step) {
    if (epoch >= s->warmup_epochs)
        return by_epoch(s, epoch);
    double done = (step + (double)epoch * s->steps) / ((double)s->warmup_epochs * s->steps);
    return s->warmup_from + (by_epoch(s, s->warmup_epochs) - s->warmup_from) * done;
}
