/* The points of the report's map, and one step of synthesis from the bank. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "jobs/compute.h"
#include "jobs/report_gather.h"
#include "ood/neighbours.h"
#include "report/embedding_map.h"

enum { ID_POINTS = 900, OUTLIER_POINTS = 160, NEAREST = 10, MAP_STEPS = 350 };
static const double perplexity = 30;

typedef struct gathering {
    npi_report *report;
    const npos_compute *compute;
    const npi_report_points *points;
    int dim, count, room, part_room;
    float *x; /* [count][dim] */
} gathering;

/* Appends a part of n points and copies rows `first`, `first + step`, ... of h. */
static npos_status add(gathering *g, npi_map_kind kind, int which, int n, const float *h,
                       size_t step) {
    npi_map *map = &g->report->map;
    if (n <= 0)
        return NPOS_OK;
    if (map->parts == g->part_room) {
        int room = g->part_room ? 2 * g->part_room : 32;
        NPI_TRY(npi_grow(&map->part, (size_t)g->part_room, (size_t)room, sizeof *map->part, "map"));
        g->part_room = room;
    }
    if (g->count + n > g->room) {
        int room = 2 * (g->count + n);
        NPI_TRY(npi_grow(&g->x, (size_t)g->room * (size_t)g->dim, (size_t)room * (size_t)g->dim,
                         sizeof *g->x, "points of the map"));
        g->room = room;
    }
    map->part[map->parts++] = (npi_map_part){kind, which, g->count, n};
    for (int i = 0; i < n; i++)
        memcpy(g->x + (size_t)(g->count + i) * (size_t)g->dim,
               h + (size_t)i * step * (size_t)g->dim, (size_t)g->dim * sizeof *h);
    g->count += n;
    return NPOS_OK;
}

/* *rows = the bank's embeddings, class by class; first[c] = where class c begins, first[classes] =
 * how many there are. */
static npos_status by_class(const npi_run *run, float **rows, int64_t *first) {
    const npi_bank *bank = &run->bank;
    size_t dim = (size_t)bank->dim;
    int64_t at = 0;
    NPI_TRY(npi_alloc(rows, (size_t)bank->n * dim, sizeof **rows, "embeddings by class"));
    for (int c = 0; c < run->classes; c++) {
        first[c] = at;
        for (int64_t i = 0; i < bank->n; i++)
            if (bank->labels[i] == c)
                memcpy(*rows + (size_t)at++ * dim, bank->h + (size_t)i * dim, dim * sizeof **rows);
    }
    first[run->classes] = at;
    return NPOS_OK;
}

/* ---- prototypes ---- */

/* Mean of the normalised h of those ID images whose z is nearest to the prototype. */
static npos_status add_prototypes(gathering *g) {
    const npi_run *run = g->report->run;
    const npi_features *id = &g->points->id;
    size_t dim = (size_t)g->dim;
    float *unit = NULL, *mean = NULL;
    npos_status status = NPOS_OK;
    if (!run->prototypes || !id->z || id->n < NEAREST)
        return NPOS_OK;
    NPI_TRY_GOTO(npi_alloc(&unit, (size_t)id->n * dim, sizeof *unit, "prototypes"), done);
    NPI_TRY_GOTO(npi_alloc(&mean, dim, sizeof *mean, "prototypes"), done);
    npi_normalise_rows(id->n, g->dim, id->h, unit);
    for (int c = 0; c < run->classes; c++) {
        int64_t near[NEAREST];
        double close[NEAREST];
        int count = 0;
        for (int64_t i = 0; i < id->n; i++) {
            double dot = 0;
            for (int d = 0; d < id->proj; d++)
                dot += (double)id->z[i * id->proj + d] * (double)run->prototypes[c * run->proj + d];
            if (count == NEAREST && dot <= close[NEAREST - 1])
                continue;
            int slot = count < NEAREST ? count++ : NEAREST - 1;
            for (; slot > 0 && close[slot - 1] < dot; slot--) {
                close[slot] = close[slot - 1];
                near[slot] = near[slot - 1];
            }
            close[slot] = dot;
            near[slot] = i;
        }
        memset(mean, 0, dim * sizeof *mean);
        for (int j = 0; j < count; j++)
            for (size_t d = 0; d < dim; d++)
                mean[d] += unit[(size_t)near[j] * dim + d] / (float)count;
        NPI_TRY_GOTO(add(g, NPI_MAP_PROTOTYPE, c, 1, mean, 1), done);
    }
done:
    npi_free(unit);
    npi_free(mean);
    return status;
}

/* ---- synthesis ---- */

typedef struct synthesis {
    npi_device *dev;
    npi_synth *synth;
    void *rows, *count, *step, *outliers, *boundary; /* device memory */
    float *host_outliers;
    int32_t *host_boundary;
    int classes, ring, pick, keep;
} synthesis;

static void synthesis_clear(synthesis *s) {
    if (s->synth)
        s->dev->ood->synth_free(s->dev, s->synth);
    s->dev->memory->free(s->dev, s->rows);
    s->dev->memory->free(s->dev, s->count);
    s->dev->memory->free(s->dev, s->step);
    s->dev->memory->free(s->dev, s->outliers);
    s->dev->memory->free(s->dev, s->boundary);
    npi_free(s->host_outliers);
    npi_free(s->host_boundary);
}

/* One step of synthesis from the first `ring` training embeddings of each class. */
static npos_status synthesise(synthesis *s, const npi_recipe *recipe, int dim, const float *rows,
                              const int64_t *first) {
    npi_device *dev = s->dev;
    const npi_memory_ops *memory = dev->memory;
    npi_synth_desc desc = {.classes = s->classes,
                           .ring = s->ring,
                           .dim = dim,
                           .select = recipe->select < s->ring ? recipe->select : s->ring,
                           .noise = recipe->noise,
                           .keep = recipe->keep,
                           .sigma = (float)recipe->sigma,
                           .seed = (uint64_t)recipe->seed};
    desc.pick = recipe->pick < desc.select ? recipe->pick : desc.select;
    /* a shorter ring keeps the share of it that k neighbours are */
    desc.k = (int)((int64_t)recipe->k * s->ring / recipe->ring);
    desc.k = desc.k < 1 ? 1 : desc.k;
    s->pick = desc.pick;
    s->keep = desc.keep;
    size_t row = (size_t)dim * sizeof(float), ring = (size_t)s->ring,
           made = (size_t)s->classes * (size_t)s->pick * (size_t)s->keep,
           chosen = (size_t)s->classes * (size_t)s->pick;
    const npi_step step = {.number = 0};
    NPI_TRY(memory->alloc(dev, (size_t)s->classes * ring * row, "rings of the map", &s->rows));
    NPI_TRY(memory->alloc(dev, (size_t)s->classes * sizeof(uint64_t), "map", &s->count));
    NPI_TRY(memory->alloc(dev, sizeof step, "map", &s->step));
    NPI_TRY(memory->alloc(dev, made * row, "outliers of the map", &s->outliers));
    NPI_TRY(memory->alloc(dev, chosen * sizeof(int32_t), "map", &s->boundary));
    NPI_TRY(npi_alloc(&s->host_outliers, made * (size_t)dim, sizeof(float), "outliers of the map"));
    NPI_TRY(npi_alloc(&s->host_boundary, chosen, sizeof(int32_t), "map"));
    for (int c = 0; c < s->classes; c++) {
        const uint64_t pushed = (uint64_t)s->ring;
        NPI_TRY(memory->upload(dev, (char *)s->rows + (size_t)c * ring * row,
                               rows + (size_t)first[c] * (size_t)dim, ring * row));
        NPI_TRY(memory->upload(dev, (char *)s->count + (size_t)c * sizeof pushed, &pushed,
                               sizeof pushed));
    }
    NPI_TRY(memory->upload(dev, s->step, &step, sizeof step));
    NPI_TRY(dev->ood->synth_create(dev, &desc, &s->synth));
    npi_ring rings = {s->classes, s->ring, dim, s->rows, s->count};
    NPI_TRY(dev->ood->synthesise(s->synth, &rings, s->step, NULL, s->outliers, s->boundary));
    NPI_TRY(memory->download(dev, s->host_outliers, s->outliers, made * row));
    return memory->download(dev, s->host_boundary, s->boundary, chosen * sizeof(int32_t));
}

static npos_status add_outliers(gathering *g, const float *rows, const int64_t *first) {
    const npi_run *run = g->report->run;
    npi_map *map = &g->report->map;
    synthesis s = {.dev = run->dev, .classes = run->classes, .ring = run->recipe.ring};
    bool tuned = strcmp(run->recipe.method, "clip") == 0 && run->has_head;
    if (strcmp(run->recipe.method, "npos") != 0 && !tuned)
        return NPOS_OK;
    for (int c = 0; c < run->classes; c++)
        if (first[c + 1] - first[c] < s.ring)
            s.ring = (int)(first[c + 1] - first[c]);
    if (s.ring < 2)
        return npi_format(&map->note, "outliers: a class has fewer than two training embeddings");
    npos_status status;
    NPI_TRY_GOTO(synthesise(&s, &run->recipe, g->dim, rows, first), done);
    int picks = s.classes * s.pick;
    int shown = OUTLIER_POINTS / picks < 1 ? 1 : OUTLIER_POINTS / picks;
    if (shown > s.keep)
        shown = s.keep;
    map->boundary = picks;
    map->outliers = picks * s.keep;
    for (int b = 0; b < picks; b++) {
        int c = b / s.pick;
        const float *made = s.host_outliers + (size_t)b * (size_t)s.keep * (size_t)g->dim;
        const float *from = rows + (size_t)(first[c] + s.host_boundary[b]) * (size_t)g->dim;
        NPI_TRY_GOTO(add(g, NPI_MAP_OUTLIER, c, shown, made, (size_t)(s.keep / shown)), done);
        NPI_TRY_GOTO(add(g, NPI_MAP_BOUNDARY, c, 1, from, 1), done);
    }
done:
    synthesis_clear(&s);
    return status;
}

/* ---- all of it ---- */

static npos_status add_all(gathering *g) {
    const npi_run *run = g->report->run;
    float *rows = NULL;
    int64_t *first = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&first, (size_t)run->classes + 1, sizeof *first, "map"), done);
    NPI_TRY_GOTO(by_class(run, &rows, first), done);
    int share = ID_POINTS / run->classes < 1 ? 1 : ID_POINTS / run->classes;
    for (int c = 0; c < run->classes; c++) {
        int64_t n = first[c + 1] - first[c];
        int shown = n < share ? (int)n : share;
        NPI_TRY_GOTO(add(g, NPI_MAP_ID, c, shown, rows + (size_t)first[c] * (size_t)g->dim,
                         shown > 0 ? (size_t)(n / shown) : 1),
                     done);
    }
    for (int i = 0; i < g->points->sets; i++)
        NPI_TRY_GOTO(add(g, NPI_MAP_SET, i, (int)g->points->set[i].n, g->points->set[i].h, 1),
                     done);
    NPI_TRY_GOTO(add_outliers(g, rows, first), done);
    status = add_prototypes(g);
done:
    npi_free(rows);
    npi_free(first);
    return status;
}

static npos_status told(void *context, int64_t done, int64_t total) {
    return npi_compute_progress(context, "draw the map", done, total, NULL);
}

npos_status npi_report_map(npi_report *report, const npos_compute *compute,
                           const npi_report_points *points) {
    npi_run *run = report->run;
    npi_map *map = &report->map;
    gathering g = {.report = report, .compute = compute, .points = points, .dim = run->dim};
    npos_status status = npi_run_bank(run);
    if (status == NPOS_NOT_FOUND || status == NPOS_IO || status == NPOS_BAD_DATA)
        return npi_strdup(&map->why, npos_error_message());
    NPI_TRY(status);
    if (run->bank.n < 10)
        return npi_strdup(&map->why, "the run kept fewer than ten training embeddings.");
    NPI_TRY_GOTO(add_all(&g), done);
    if (g.count > NPI_MAP_MOST) {
        status = npi_format(&map->why, "%d points are more than the %d of a map.", g.count,
                            NPI_MAP_MOST);
        goto done;
    }
    npi_normalise_rows(g.count, g.dim, g.x, g.x);
    map->points = g.count;
    NPI_TRY_GOTO(npi_alloc(&map->at, (size_t)g.count * 2, sizeof *map->at, "map"), done);
    npos_compute asked = *compute; /* the callback takes no pointer to const */
    status = npi_embedding_map(g.count, g.dim, g.x, perplexity, MAP_STEPS,
                               (uint64_t)run->recipe.seed, told, &asked, map->at);
done:
    npi_free(g.x);
    return status;
}
