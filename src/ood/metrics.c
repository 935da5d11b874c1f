#include "ood/metrics.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "ood/score_counts.h"

npos_status npi_scores_check(const npi_scores *scores) {
    if (scores->n < 1)
        return npi_fail(NPOS_INVALID_ARGUMENT, "%s: there are no scores", scores->name);
    if (scores->n > INT32_MAX)
        return npi_fail(NPOS_INVALID_ARGUMENT, "%s: %lld scores, expected at most %d", scores->name,
                        (long long)scores->n, INT32_MAX);
    for (int64_t i = 0; i < scores->n; i++)
        if (isnan(scores->value[i]))
            return npi_fail(NPOS_NOT_FINITE, "%s: score %lld of %lld is NaN", scores->name,
                            (long long)i, (long long)scores->n);
    return NPOS_OK;
}

static int ascending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static npos_status sorted_copy(const npi_scores *scores, double **out) {
    *out = NULL;
    NPI_TRY(npi_scores_check(scores));
    NPI_TRY(npi_alloc(out, (size_t)scores->n, sizeof **out, "sorted scores"));
    memcpy(*out, scores->value, (size_t)scores->n * sizeof **out);
    qsort(*out, (size_t)scores->n, sizeof **out, ascending);
    return NPOS_OK;
}

void npi_score_counts_clear(npi_score_counts *counts) {
    npi_free(counts->id);
    npi_free(counts->ood);
    npi_free(counts->id_group);
    npi_free(counts->ood_group);
    memset(counts, 0, sizeof *counts);
}

/* group[i] = place of score i among the ascending distinct values, which hold it. */
static void find_groups(const double *distinct, int32_t groups, const npi_scores *scores,
                        int32_t *group) {
    for (int64_t i = 0; i < scores->n; i++) {
        int32_t low = 0, high = groups - 1;
        while (low < high) {
            int32_t middle = low + (high - low) / 2;
            if (distinct[middle] < scores->value[i])
                low = middle + 1;
            else
                high = middle;
        }
        group[i] = low;
    }
}

npos_status npi_score_counts_make(const npi_scores *id, const npi_scores *ood,
                                  npi_score_counts *out) {
    double *a = NULL, *b = NULL, *distinct = NULL;
    npos_status status;
    NPI_TRY_GOTO(sorted_copy(id, &a), done);
    NPI_TRY_GOTO(sorted_copy(ood, &b), done);
    size_t n = (size_t)id->n, m = (size_t)ood->n;
    if (n + m > INT32_MAX) {
        status = npi_fail(NPOS_INVALID_ARGUMENT, "%s and %s: %zu scores, expected at most %d",
                          id->name, ood->name, n + m, INT32_MAX);
        goto done;
    }
    NPI_TRY_GOTO(npi_alloc(&out->id, n + m, sizeof *out->id, "score counts"), done);
    NPI_TRY_GOTO(npi_alloc(&out->ood, n + m, sizeof *out->ood, "score counts"), done);
    NPI_TRY_GOTO(npi_alloc(&out->id_group, n, sizeof *out->id_group, "score groups"), done);
    NPI_TRY_GOTO(npi_alloc(&out->ood_group, m, sizeof *out->ood_group, "score groups"), done);
    NPI_TRY_GOTO(npi_alloc(&distinct, n + m, sizeof *distinct, "distinct scores"), done);
    out->id_n = (int32_t)n;
    out->ood_n = (int32_t)m;
    int32_t group = 0;
    for (size_t i = 0, j = 0; i < n || j < m; group++) {
        double value = j == m || (i < n && a[i] < b[j]) ? a[i] : b[j];
        distinct[group] = value;
        for (; i < n && a[i] == value; i++)
            out->id[group]++;
        for (; j < m && b[j] == value; j++)
            out->ood[group]++;
    }
    out->groups = group;
    find_groups(distinct, group, id, out->id_group);
    find_groups(distinct, group, ood, out->ood_group);
done:
    npi_free(a);
    npi_free(b);
    npi_free(distinct);
    if (status != NPOS_OK)
        npi_score_counts_clear(out);
    return status;
}

/* Ascending over the thresholds: the candidates come with falling TPR, so the search can stop as
 * soon as the TPR is below 0.95, from where it only gets farther away. */
static int32_t fpr95_oe(int32_t groups, int32_t n, int32_t m, const int32_t *id,
                        const int32_t *ood) {
    int32_t tp = n, fp = m, best = m, g = 0;
    double least = INFINITY;
    for (; g < groups && id[g] == 0; g++)
        fp -= ood[g];
    for (; g < groups; g++) {
        if (id[g] == 0 && ood[g] == 0)
            continue;
        double tpr = (double)tp / n, distance = fabs(tpr - 0.95);
        if (distance < least) {
            least = distance;
            best = fp;
        }
        if (tpr < 0.95)
            break;
        tp -= id[g];
        fp -= ood[g];
    }
    return best;
}

static int32_t fpr95_knn_ood(int32_t groups, int32_t n, int32_t m, const int32_t *id,
                             const int32_t *ood) {
    int32_t rank = (int32_t)rint(0.05 * n), below = 0, fp = m;
    for (int32_t g = 0; g < groups; g++) {
        below += id[g];
        fp -= ood[g];
        if (below > rank)
            return fp;
    }
    return 0;
}

static int32_t fpr95_openood(int32_t groups, int32_t m, const int32_t *id, const int32_t *ood) {
    int32_t tp = 0, fp = 0;
    bool first = true;
    for (int32_t g = 0, next; g < groups; g = next) {
        for (next = g + 1; next < groups && id[next] == 0 && ood[next] == 0; next++)
            ;
        if (id[g] == 0 && ood[g] == 0)
            continue; /* only leading groups of a resample */
        tp += ood[g];
        fp += id[g];
        bool straight = !first && next < groups && id[next] == id[g] && ood[next] == ood[g];
        if (!straight && (double)tp / m >= 0.95)
            return fp;
        first = false;
    }
    return fp;
}

static int32_t fpr95_count(npi_protocol protocol, const npi_score_counts *counts, const int32_t *id,
                           const int32_t *ood) {
    switch (protocol) {
    case NPI_PROTOCOL_OE:
        return fpr95_oe(counts->groups, counts->id_n, counts->ood_n, id, ood);
    case NPI_PROTOCOL_KNN_OOD:
        return fpr95_knn_ood(counts->groups, counts->id_n, counts->ood_n, id, ood);
    case NPI_PROTOCOL_OPENOOD:
        return fpr95_openood(counts->groups, counts->ood_n, id, ood);
    }
    return 0;
}

static double auroc(const npi_score_counts *c, const int32_t *id, const int32_t *ood) {
    uint64_t twice = 0; /* at most 2 n m < 2^63 */
    uint64_t below = 0;
    for (int32_t g = 0; g < c->groups; g++) {
        twice += (uint64_t)id[g] * (2 * below + (uint64_t)ood[g]);
        below += (uint64_t)ood[g];
    }
    return (double)twice / (2.0 * c->id_n * c->ood_n);
}

/* The precision-recall curve of `positive` against `negative` counts, taken group by group from
 * `from` in steps of `step`: its average precision, or the trapezoid rule from (0, 1).  Groups
 * without a positive add nothing; leading empty ones (of a resample) have no precision. */
static double area_pr(int32_t groups, int32_t total, const int32_t *positive,
                      const int32_t *negative, int32_t from, int32_t step, bool trapezoid) {
    double area = 0, before = 1;
    int64_t tp = 0, fp = 0;
    for (int32_t i = 0, g = from; i < groups; i++, g += step) {
        tp += positive[g];
        fp += negative[g];
        if (tp + fp == 0)
            continue;
        double precision = (double)tp / (double)(tp + fp);
        double height = trapezoid ? (precision + before) / 2 : precision;
        area += positive[g] * height;
        before = precision;
    }
    return fmin(area / total, 1);
}

/* ODIN's curves: x from 0 to 1 with y given at both ends; points without a y are skipped. */
static void aupr_odin(const npi_score_counts *c, const int32_t *id, const int32_t *ood, double *in,
                      double *out) {
    int64_t tp = c->id_n, fp = c->ood_n;
    double in_x = 1, in_y = 0.5, out_x = 0, out_y = 0;
    *in = *out = 0;
    for (int32_t g = 0; g <= c->groups; g++) { /* thresholds dropped so far */
        int64_t kept = tp + fp, dropped = c->id_n + c->ood_n - kept;
        if (kept > 0) {
            double x = (double)tp / c->id_n, y = (double)tp / (double)kept;
            *in += (in_x - x) * (in_y + y) / 2;
            in_x = x;
            in_y = y;
        }
        if (dropped > 0) {
            double x = 1 - (double)fp / c->ood_n, y = (double)(c->ood_n - fp) / (double)dropped;
            *out += (x - out_x) * (out_y + y) / 2;
            out_x = x;
            out_y = y;
        }
        if (g < c->groups) {
            tp -= id[g];
            fp -= ood[g];
        }
    }
    *in = fmin(*in + in_x * in_y / 2, 1); /* rounding may pass 1 */
    *out = fmin(*out + (1 - out_x) * (out_y + 0.5) / 2, 1);
}

void npi_measure_counts(npi_protocol protocol, const npi_score_counts *c, const int32_t *id,
                        const int32_t *ood, npi_measures *out) {
    memset(out, 0, sizeof *out);
    int32_t negatives = protocol == NPI_PROTOCOL_OPENOOD ? c->id_n : c->ood_n;
    out->fpr95 = (double)fpr95_count(protocol, c, id, ood) / negatives;
    out->auroc = auroc(c, id, ood);
    if (protocol == NPI_PROTOCOL_KNN_OOD) {
        aupr_odin(c, id, ood, &out->aupr_in, &out->aupr_out);
    } else {
        bool trapezoid = protocol == NPI_PROTOCOL_OPENOOD;
        out->aupr_in = area_pr(c->groups, c->id_n, id, ood, c->groups - 1, -1, trapezoid);
        out->aupr_out = area_pr(c->groups, c->ood_n, ood, id, 0, 1, trapezoid);
    }
    out->fpr95_ci[1] = out->auroc_ci[1] = out->aupr_in_ci[1] = out->aupr_out_ci[1] = 1;
}

npos_status npi_measure_points(npi_protocol protocol, const npi_scores *id, const npi_scores *ood,
                               npi_measures *out) {
    npi_score_counts counts = {0};
    NPI_TRY(npi_score_counts_make(id, ood, &counts));
    npi_measure_counts(protocol, &counts, counts.id, counts.ood, out);
    npi_score_counts_clear(&counts);
    return NPOS_OK;
}

npos_status npi_threshold_at_tpr(const npi_scores *id, double tpr, double *threshold,
                                 int64_t *accepted) {
    if (!(tpr > 0 && tpr <= 1))
        return npi_fail(NPOS_INVALID_ARGUMENT, "tpr: %g, expected more than 0 and at most 1", tpr);
    double *sorted;
    NPI_TRY(sorted_copy(id, &sorted));
    /* tpr * n may come out a rounding error above a whole number (0.07 * 100) */
    int64_t needed = (int64_t)ceil(tpr * (double)id->n * (1 - 1e-12));
    needed = needed < 1 ? 1 : needed;
    int64_t at = id->n - needed;
    *threshold = sorted[at];
    while (at > 0 && sorted[at - 1] == *threshold)
        at--;
    if (accepted)
        *accepted = id->n - at;
    npi_free(sorted);
    return NPOS_OK;
}
