#include "nn/schedule.h"

#include <math.h>

static double cosine(const npi_schedule *s, int epoch) {
    return s->end + (s->lr - s->end) * (1 + cos(M_PI * epoch / s->epochs)) / 2;
}

double npi_schedule_rate(const npi_schedule *s, int epoch, int step) {
    if (epoch >= s->warmup_epochs)
        return cosine(s, epoch);
    double done = (step + (double)epoch * s->steps) / ((double)s->warmup_epochs * s->steps);
    return s->warmup_from + (cosine(s, s->warmup_epochs) - s->warmup_from) * done;
}
