#include "ood/accuracy.h"

#include "base/memory.h"
#include "ood/logit_sums.h"

/* The class with most votes among k neighbours in order of distance; votes[classes] is zero before
 * and after. */
static int32_t vote(const npi_detector_model *model, const int64_t *index, int k, int32_t *votes,
                    double *share) {
    int32_t best = 0, most = 0;
    for (int j = 0; j < k; j++)
        votes[model->bank_labels[index[j]]]++;
    for (int j = 0; j < k; j++) { /* nearest voters first: they win ties */
        int32_t label = model->bank_labels[index[j]];
        if (votes[label] > most) {
            most = votes[label];
            best = label;
        }
    }
    for (int j = 0; j < k; j++)
        votes[model->bank_labels[index[j]]] = 0;
    *share = (double)most / k;
    return best;
}

static npos_status check_labels(const npi_detector_model *model) {
    int64_t n = npi_neighbour_bank_count(model->bank);
    for (int64_t i = 0; i < n; i++)
        if (model->bank_labels[i] < 0 || model->bank_labels[i] >= model->classes)
            return npi_fail(NPOS_BAD_DATA,
                            "%s: training embedding %lld has label %d, the model has %d classes",
                            model->name, (long long)i, model->bank_labels[i], model->classes);
    return NPOS_OK;
}

npos_status npi_classify_knn(const npi_detector_model *model, const npi_outputs *outputs,
                             int32_t *class_of, double *confidence) {
    int64_t *index = NULL, bank = npi_neighbour_bank_count(model->bank);
    int32_t *votes = NULL;
    int k = bank < NPI_VOTE_K ? (int)bank : NPI_VOTE_K;
    npos_status status;
    NPI_TRY_GOTO(check_labels(model), done);
    NPI_TRY_GOTO(npi_alloc(&index, (size_t)outputs->n * (size_t)k, sizeof *index, "neighbours"),
                 done);
    NPI_TRY_GOTO(npi_alloc(&votes, (size_t)model->classes, sizeof *votes, "votes"), done);
    NPI_TRY_GOTO(npi_neighbour_list(model->bank, outputs->n, outputs->h, k, index, NULL), done);
    for (int64_t i = 0; i < outputs->n; i++) {
        double share;
        class_of[i] = vote(model, index + i * k, k, votes, &share);
        if (confidence)
            confidence[i] = share;
    }
done:
    npi_free(index);
    npi_free(votes);
    return status;
}

static double cosine(const float *z, const float *mu, int dim) {
    double sum = 0;
    for (int d = 0; d < dim; d++)
        sum += (double)z[d] * (double)mu[d];
    return sum;
}

void npi_classify_prototype(const npi_detector_model *model, const npi_outputs *outputs,
                            int32_t *class_of, double *confidence) {
    const float *prototypes = model->prototypes;
    int proj = model->proj;
    for (int64_t i = 0; i < outputs->n; i++) {
        const float *z = outputs->z + i * proj;
        double best = -2, sum = 0; /* below any cosine */
        class_of[i] = 0;
        for (int c = 0; c < model->classes; c++) {
            double here = cosine(z, prototypes + (int64_t)c * proj, proj);
            if (here > best) {
                best = here;
                class_of[i] = c;
            }
        }
        if (!confidence)
            continue;
        for (int c = 0; c < model->classes; c++)
            sum += exp((cosine(z, prototypes + (int64_t)c * proj, proj) - best) / model->tau);
        confidence[i] = 1 / sum;
    }
}

void npi_classify_head(const npi_detector_model *model, const npi_outputs *outputs,
                       int32_t *class_of, double *confidence) {
    for (int64_t i = 0; i < outputs->n; i++) {
        const float *logit = outputs->logits + i * model->classes;
        int32_t best = 0;
        for (int32_t c = 1; c < model->classes; c++)
            best = logit[c] > logit[best] ? c : best;
        class_of[i] = best;
        if (confidence)
            confidence[i] = 1 / npi_logit_sum(logit, model->classes, (double)logit[best]);
    }
}

npos_status npi_classify(const npi_detector_model *model, const npi_outputs *outputs,
                         int32_t *class_of, double *confidence, bool *can) {
    *can = true;
    if (model->has_classifier)
        npi_classify_head(model, outputs, class_of, confidence);
    else if (model->prototypes)
        npi_classify_prototype(model, outputs, class_of, confidence);
    else if (model->bank)
        return npi_classify_knn(model, outputs, class_of, confidence);
    else
        *can = false;
    for (int64_t i = 0; !*can && i < outputs->n; i++)
        class_of[i] = -1;
    return NPOS_OK;
}

static int64_t count_right(int64_t n, const int32_t *class_of, const int32_t *labels) {
    int64_t right = 0;
    for (int64_t i = 0; i < n; i++)
        right += labels[i] >= 0 && class_of[i] == labels[i];
    return right;
}

npos_status npi_count_found(const npi_detector_model *model, const npi_outputs *outputs,
                            const int32_t *labels, npi_found *out) {
    int64_t n = outputs->n;
    int32_t *class_of = NULL;
    npos_status status = NPOS_OK;
    *out = (npi_found){0, -1, -1, -1, -1};
    for (int64_t i = 0; i < n; i++)
        out->labelled += labels[i] >= 0;
    NPI_TRY(npi_alloc(&class_of, (size_t)n, sizeof *class_of, "classes"));
    if (model->bank) {
        NPI_TRY_GOTO(npi_classify_knn(model, outputs, class_of, NULL), done);
        out->knn = count_right(n, class_of, labels);
    }
    if (model->prototypes) {
        npi_classify_prototype(model, outputs, class_of, NULL);
        out->prototype = count_right(n, class_of, labels);
    }
    if (model->has_classifier) {
        npi_classify_head(model, outputs, class_of, NULL);
        *(model->has_text ? &out->text : &out->head) = count_right(n, class_of, labels);
    }
done:
    npi_free(class_of);
    return status;
}

static int64_t plus(int64_t sum, int64_t found) {
    return found < 0 ? -1 : sum + found;
}

void npi_found_add(npi_found *sum, const npi_found *found) {
    sum->labelled += found->labelled;
    sum->knn = plus(sum->knn, found->knn);
    sum->prototype = plus(sum->prototype, found->prototype);
    sum->head = plus(sum->head, found->head);
    sum->text = plus(sum->text, found->text);
}

static double share(int64_t found, int64_t labelled) {
    return found >= 0 && labelled > 0 ? (double)found / (double)labelled : -1;
}

npi_accuracy npi_accuracy_of(const npi_found *found) {
    int64_t labelled = found->labelled;
    return (npi_accuracy){share(found->knn, labelled), share(found->prototype, labelled),
                          share(found->head, labelled), share(found->text, labelled)};
}
