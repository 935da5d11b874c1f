#include "jobs/clip_text.h"

#include <math.h>

#include "base/memory.h"

enum { AT_ONCE = 64 };

/* All prompts as ids, template by template of class by class. */
typedef struct prompts {
    int count, context, longest; /* longest: rows of the longest prompt, <end> included */
    int32_t *ids;                /* [count][context] */
    int32_t *ends;               /* [count]: row of <end> */
} prompts;

static void prompts_clear(prompts *p) {
    npi_free(p->ids);
    npi_free(p->ends);
}

static npos_status read_prompt(const npi_tokenizer *tokenizer, const char *template,
                               const char *name, prompts *p, int i) {
    char *text;
    int used;
    NPI_TRY(npi_prompt(template, name, &text));
    npos_status status = npi_tokenizer_row(tokenizer, text, p->context, false,
                                           p->ids + (ptrdiff_t)i * p->context, &used);
    if (status == NPOS_OK) {
        p->ends[i] = used - 1;
        p->longest = used > p->longest ? used : p->longest;
    } else {
        status = npi_fail_in(status, "prompt '%s'", text);
    }
    npi_free(text);
    return status;
}

static npos_status read_prompts(const npi_tokenizer *tokenizer, const npi_class_list *classes,
                                const npi_templates *templates, prompts *p) {
    p->count = classes->count * templates->count;
    NPI_TRY(npi_alloc(&p->ids, (size_t)p->count * (size_t)p->context, sizeof *p->ids, "prompts"));
    NPI_TRY(npi_alloc(&p->ends, (size_t)p->count, sizeof *p->ends, "prompts"));
    for (int i = 0; i < p->count; i++)
        NPI_TRY(read_prompt(tokenizer, templates->text[i % templates->count],
                            classes->names[i / templates->count], p, i));
    return NPOS_OK;
}

/* to += x / |x| */
static void add_direction(int n, const float *x, double *to) {
    double square = 0.0;
    for (int j = 0; j < n; j++)
        square += (double)x[j] * (double)x[j];
    for (int j = 0; j < n; j++)
        to[j] += (double)x[j] / fmax(sqrt(square), 1e-12);
}

/* Device and host memory of one batch. */
typedef struct batch {
    int32_t *ids, *ends; /* device: [AT_ONCE][t], [AT_ONCE] */
    float *h;            /* device: [AT_ONCE][projection] */
    int32_t *cut;        /* host: [AT_ONCE][t] */
    float *rows;         /* host: [AT_ONCE][projection] */
} batch;

static npos_status batch_make(npi_device *dev, int t, int projection, batch *b) {
    size_t ids = (size_t)AT_ONCE * (size_t)t, numbers = (size_t)AT_ONCE * (size_t)projection;
    NPI_TRY(dev->memory->alloc(dev, ids * sizeof *b->ids, "ids of texts", &b->ids));
    NPI_TRY(dev->memory->alloc(dev, AT_ONCE * sizeof *b->ends, "ends of texts", &b->ends));
    NPI_TRY(dev->memory->alloc(dev, numbers * sizeof *b->h, "text embeddings", &b->h));
    NPI_TRY(npi_alloc(&b->cut, ids, sizeof *b->cut, "ids of texts"));
    return npi_alloc(&b->rows, numbers, sizeof *b->rows, "text embeddings");
}

static void batch_clear(npi_device *dev, batch *b) {
    dev->memory->free(dev, b->ids);
    dev->memory->free(dev, b->ends);
    dev->memory->free(dev, b->h);
    npi_free(b->cut);
    npi_free(b->rows);
}

/* Embeddings of prompts first..first + n - 1 in b->rows. */
static npos_status embed(npi_clip *clip, npi_clip_texts *plan, const prompts *p, int first, int n,
                         batch *b) {
    npi_device *dev = clip->dev;
    const npi_memory_ops *memory = dev->memory;
    size_t t = (size_t)p->longest, projection = (size_t)clip->config.projection;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < p->longest; j++)
            b->cut[i * p->longest + j] = p->ids[(ptrdiff_t)(first + i) * p->context + j];
    NPI_TRY(memory->upload(dev, b->ids, b->cut, (size_t)n * t * sizeof *b->ids));
    NPI_TRY(memory->upload(dev, b->ends, p->ends + first, (size_t)n * sizeof *b->ends));
    NPI_TRY(npi_clip_texts_embed(plan, n, b->ids, b->ends, b->h));
    return memory->download(dev, b->rows, b->h, (size_t)n * projection * sizeof *b->rows);
}

/* sums[c] = sum of the directions of class c's prompts */
static npos_status sum_prompts(npi_clip *clip, const prompts *p, int templates,
                               const npos_compute *compute, double *sums) {
    int projection = clip->config.projection;
    npi_clip_texts *plan = NULL;
    batch b = {0};
    npos_status status;
    NPI_TRY_GOTO(batch_make(clip->dev, p->longest, projection, &b), done);
    NPI_TRY_GOTO(npi_clip_texts_create(clip, AT_ONCE, p->longest, &plan), done);
    NPI_TRY_GOTO(npi_clip_texts_pack(plan), done);
    for (int first = 0; first < p->count; first += AT_ONCE) {
        int n = p->count - first < AT_ONCE ? p->count - first : AT_ONCE;
        NPI_TRY_GOTO(npi_compute_progress(compute, "embed texts", first, p->count, NULL), done);
        NPI_TRY_GOTO(embed(clip, plan, p, first, n, &b), done);
        for (int i = 0; i < n; i++)
            add_direction(projection, b.rows + (ptrdiff_t)i * projection,
                          sums + (ptrdiff_t)((first + i) / templates) * projection);
    }
    status = npi_compute_progress(compute, "embed texts", p->count, p->count, NULL);
done:
    npi_clip_texts_free(plan);
    batch_clear(clip->dev, &b);
    return status;
}

npos_status npi_clip_text(npi_clip *clip, const npi_tokenizer *tokenizer,
                          const npi_class_list *classes, const npi_templates *templates,
                          const npos_compute *compute, float *out) {
    int projection = clip->config.projection;
    prompts p = {.context = clip->config.context};
    double *sums = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_tokenizer_check(tokenizer, clip->config.vocabulary), done);
    NPI_TRY_GOTO(read_prompts(tokenizer, classes, templates, &p), done);
    NPI_TRY_GOTO(npi_alloc(&sums, (size_t)classes->count * (size_t)projection, sizeof *sums,
                           "text embeddings"),
                 done);
    NPI_TRY_GOTO(sum_prompts(clip, &p, templates->count, compute, sums), done);
    for (int c = 0; c < classes->count; c++) {
        const double *row = sums + (ptrdiff_t)c * projection;
        double square = 0.0;
        for (int j = 0; j < projection; j++)
            square += row[j] * row[j];
        if (!(square > 0.0 && isfinite(square))) {
            status = npi_fail(NPOS_NOT_FINITE, "class '%s': its text embeddings have no direction",
                              classes->names[c]);
            goto done;
        }
        for (int j = 0; j < projection; j++)
            out[(ptrdiff_t)c * projection + j] = (float)(row[j] / sqrt(square));
    }
done:
    npi_free(sums);
    prompts_clear(&p);
    return status;
}
