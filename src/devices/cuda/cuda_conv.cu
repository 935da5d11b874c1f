/* Convolutions by cuDNN's graph interface: describes the operations, asks the heuristics for engines and takes, of those
 * that keep our promises, the fastest, or where that is not measured the first. */
#include "devices/cuda/cuda_conv.cuh"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "devices/cuda/cuda_tune.cuh"

typedef cudnnBackendDescriptor_t descriptor;

enum { MAX_DESCRIPTORS = 48, MAX_CONFIGS = 32, MAX_CANDIDATES = 16, MAX_COMPILED = 6 };

typedef struct candidate {
    descriptor plan;
    int64_t workspace, engine;
    int place; /* in the heuristics' order */
} candidate;

struct npi_conv {
    npi_conv *next; /* of the device's plans */
    npi_device *dev;
    npi_conv_desc desc;
    char key[NPI_TUNE_KEY_BYTES];
    descriptor made[MAX_DESCRIPTORS]; /* all but the plan, in order of making */
    int made_count;
    candidate chosen;
};

/* What tensors are called in the variant pack. */
enum { X_ID = 1, W_ID, Y_ID, BIAS_ID, RESIDUAL_ID, FIRST_VIRTUAL_ID };

/* ---- descriptors ---- */

static npos_status make(npi_conv *c, cudnnBackendDescriptorType_t type, descriptor *out) {
    if (c->made_count == MAX_DESCRIPTORS)
        return npi_fail(NPOS_INTERNAL, "%s: more than %d descriptors", c->desc.name,
                        MAX_DESCRIPTORS);
    CUDNN_TRY(c->desc.name, cudnnBackendCreateDescriptor(type, out));
    c->made[c->made_count++] = *out;
    return NPOS_OK;
}

#define SET(what, attribute, type, count, value)                                                   \
    CUDNN_TRY(c->desc.name, cudnnBackendSetAttribute((what), (attribute), (type), (count), (value)))
#define FINISH(what) CUDNN_TRY(c->desc.name, cudnnBackendFinalize(what))

static npos_status tensor(npi_conv *c, int64_t id, const int64_t dims[4], npi_dtype type,
                          descriptor *out) {
    /* dims are N, C, H, W as cuDNN counts them; memory is N, H, W, C */
    int64_t strides[4] = {dims[1] * dims[2] * dims[3], 1, dims[3] * dims[1], dims[1]};
    int64_t alignment = 16;
    bool is_virtual = id >= FIRST_VIRTUAL_ID;
    cudnnDataType_t data = type == NPI_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    NPI_TRY(make(c, CUDNN_BACKEND_TENSOR_DESCRIPTOR, out));
    SET(*out, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &data);
    SET(*out, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    SET(*out, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    SET(*out, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    SET(*out, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    if (is_virtual)
        SET(*out, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    FINISH(*out);
    return NPOS_OK;
}

/* The convolution as an operation on x, w and y, or their gradients. */
static npos_status convolution(npi_conv *c, descriptor x, descriptor w, descriptor y,
                               descriptor *out) {
    static const struct {
        cudnnBackendDescriptorType_t type;
        cudnnBackendAttributeName_t x, w, y, conv, alpha, beta;
    } kinds[] = {
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
    };
    const npi_conv_desc *d = &c->desc;
    const auto *kind = &kinds[d->pass == NPI_CONV_DATA ? 1 : d->pass == NPI_CONV_FILTER ? 2 : 0];
    int64_t two = 2, ones[2] = {1, 1}, strides[2] = {d->stride, d->stride},
            pads[2] = {d->pad, d->pad};
    cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    float alpha = 1.0f, beta = d->accumulate ? 1.0f : 0.0f;
    descriptor conv;
    NPI_TRY(make(c, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, &conv));
    SET(conv, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    SET(conv, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    SET(conv, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two);
    SET(conv, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, ones);
    SET(conv, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
    SET(conv, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
    SET(conv, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
    FINISH(conv);
    NPI_TRY(make(c, kind->type, out));
    SET(*out, kind->conv, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &conv);
    SET(*out, kind->x, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x);
    SET(*out, kind->w, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &w);
    SET(*out, kind->y, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y);
    SET(*out, kind->alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
    SET(*out, kind->beta, CUDNN_TYPE_FLOAT, 1, &beta);
    FINISH(*out);
    return NPOS_OK;
}

/* y = f(x, b), element by element in float32; b has x's shape or one value a channel.  b NULL: f has one argument. */
static npos_status pointwise(npi_conv *c, cudnnPointwiseMode_t mode, descriptor x, descriptor b,
                             descriptor y, descriptor *out) {
    cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    descriptor f;
    NPI_TRY(make(c, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, &f));
    SET(f, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    SET(f, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    FINISH(f);
    NPI_TRY(make(c, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, out));
    SET(*out, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &f);
    SET(*out, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x);
    if (b)
        SET(*out, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &b);
    SET(*out, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y);
    FINISH(*out);
    return NPOS_OK;
}

/* ---- the graph of operations ---- */

typedef struct operations {
    descriptor list[4];
    int count;
} operations;

static npos_status describe(npi_conv *c, operations *ops) {
    const npi_conv_desc *d = &c->desc;
    const npi_dtype type = c->dev->compute;
    int64_t in[4] = {d->n, d->c, d->h, d->w}, to[4] = {d->n, d->out_c, d->oh, d->ow},
            filter[4] = {d->out_c, d->c, d->kernel, d->kernel}, each[4] = {1, d->out_c, 1, 1};
    descriptor x, w, y;
    ops->count = 0;
    NPI_TRY(tensor(c, X_ID, in, type, &x));
    NPI_TRY(tensor(c, W_ID, filter, type, &w));
    NPI_TRY(tensor(c, Y_ID, to, type, &y));
    if (d->pass != NPI_CONV_BIAS)
        return convolution(c, x, w, y, &ops->list[ops->count++]);
    descriptor bias, residual, at, next;
    int64_t id = FIRST_VIRTUAL_ID;
    NPI_TRY(tensor(c, BIAS_ID, each, NPI_F32, &bias));
    NPI_TRY(tensor(c, id++, to, NPI_F32, &at));
    NPI_TRY(convolution(c, x, w, at, &ops->list[ops->count++]));
    next = y;
    if (d->residual || d->relu)
        NPI_TRY(tensor(c, id++, to, NPI_F32, &next));
    NPI_TRY(pointwise(c, CUDNN_POINTWISE_ADD, at, bias, next, &ops->list[ops->count++]));
    at = next;
    if (d->residual) {
        NPI_TRY(tensor(c, RESIDUAL_ID, to, type, &residual));
        next = y;
        if (d->relu)
            NPI_TRY(tensor(c, id++, to, NPI_F32, &next));
        NPI_TRY(pointwise(c, CUDNN_POINTWISE_ADD, at, residual, next, &ops->list[ops->count++]));
        at = next;
    }
    if (d->relu)
        NPI_TRY(pointwise(c, CUDNN_POINTWISE_RELU_FWD, at, NULL, y, &ops->list[ops->count++]));
    return NPOS_OK;
}

/* ---- engines ---- */

/* Whether an engine's sums are float32 of the values as they are, in an order of its own that never changes. */
static bool keeps_promises(npi_conv *c, descriptor engine) {
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t count = 0;
    if (cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                 CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count,
                                 notes) != CUDNN_STATUS_SUCCESS)
        return false;
    for (int64_t i = 0; i < count; i++) {
        bool rounds = notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE ||
                      notes[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
        if (notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC ||
            notes[i] == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION ||
            (rounds && c->dev->compute == NPI_F32))
            return false;
    }
    return true;
}

/* Engines that are compiled when a plan is made: of use only where there is nothing else. */
static bool compiles(descriptor engine) {
    cudnnBackendBehaviorNote_t notes[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    int64_t count = 0;
    bool found = false;
    if (cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                 CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, &count,
                                 notes) == CUDNN_STATUS_SUCCESS)
        for (int64_t i = 0; i < count; i++)
            found = found || notes[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    return found;
}

/* Makes a plan of a configuration, if it is one for us. */
static bool plan_with(npi_conv *c, descriptor config, bool with_compiled, candidate *out) {
    descriptor engine = NULL, plan = NULL;
    cudnnHandle_t handle = npi_cuda_dnn(c->dev);
    int64_t count = 0;
    bool fits =
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) ==
            CUDNN_STATUS_SUCCESS &&
        cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                 1, &count, &engine) == CUDNN_STATUS_SUCCESS &&
        keeps_promises(c, engine) && (with_compiled || !compiles(engine)) &&
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan) ==
            CUDNN_STATUS_SUCCESS &&
        cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1,
                                 &handle) == CUDNN_STATUS_SUCCESS &&
        cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                 &config) == CUDNN_STATUS_SUCCESS &&
        cudnnBackendFinalize(plan) == CUDNN_STATUS_SUCCESS &&
        cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
                                 1, &count, &out->workspace) == CUDNN_STATUS_SUCCESS &&
        cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1,
                                 &count, &out->engine) == CUDNN_STATUS_SUCCESS;
    if (engine)
        cudnnBackendDestroyDescriptor(engine);
    if (fits)
        out->plan = plan;
    else if (plan)
        cudnnBackendDestroyDescriptor(plan);
    return fits;
}

/* Which of the heuristics' configurations become plans. */
typedef struct selection {
    cudnnBackendHeurMode_t mode;
    bool with_compiled;
    int only; /* this place, or -1: all */
    int most; /* the first so many that fit */
} selection;

static npos_status gather(npi_conv *c, descriptor graph, selection which, candidate *list,
                          int *found) {
    descriptor heuristics, configs[MAX_CONFIGS];
    int64_t count = 0;
    *found = 0;
    NPI_TRY(make(c, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristics));
    SET(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
        &graph);
    SET(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &which.mode);
    if (cudnnBackendFinalize(heuristics) != CUDNN_STATUS_SUCCESS)
        return NPOS_OK; /* knows nothing of this */
    int made = 0;
    while (made < MAX_CONFIGS &&
           cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &configs[made]) ==
               CUDNN_STATUS_SUCCESS)
        made++;
    if (cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, made, &count,
                                 configs) != CUDNN_STATUS_SUCCESS)
        count = 0;
    for (int i = 0; i < made && i < count && *found < which.most; i++) {
        list[*found].place = i;
        if (which.only < 0 || which.only == i)
            *found += plan_with(c, configs[i], which.with_compiled, &list[*found]);
    }
    for (int i = 0; i < made; i++)
        cudnnBackendDestroyDescriptor(configs[i]);
    return NPOS_OK;
}

static void drop(candidate *list, int count, int except) {
    for (int i = 0; i < count; i++)
        if (i != except)
            cudnnBackendDestroyDescriptor(list[i].plan);
}

/* ---- the fastest ---- */

/* Whether the choice is worth measuring: 2 billion operations and more. */
static bool is_large(const npi_conv_desc *d) {
    return 2.0 * d->n * d->oh * d->ow * d->out_c * d->c * d->kernel * d->kernel > 2e9;
}

static void key_of(npi_device *dev, const npi_conv_desc *d, char *key) {
    snprintf(key, NPI_TUNE_KEY_BYTES, "%d:%dx%dx%dx%d:%d:k%ds%dp%d:%d:%d%d%d", d->pass, d->n, d->c,
             d->h, d->w, d->out_c, d->kernel, d->stride, d->pad, dev->compute, d->accumulate,
             d->residual, d->relu);
}

static npos_status execute(npi_conv *c, const candidate *with, const npi_conv_args *args);

/* The least milliseconds of a few runs; infinite for a plan that does not run. */
static npos_status time_of(npi_conv *c, const candidate *with, const npi_conv_args *args,
                           float *best) {
    enum { RUNS = 6 };
    cudaStream_t stream = npi_cuda_stream(c->dev);
    cudaEvent_t begin, end;
    *best = INFINITY;
    CUDA_TRY(c->desc.name, cudaEventCreate(&begin));
    CUDA_TRY(c->desc.name, cudaEventCreate(&end));
    for (int i = 0; i < RUNS; i++) {
        float took = 0.0f;
        cudaEventRecord(begin, stream);
        npos_status status = execute(c, with, args);
        cudaEventRecord(end, stream);
        CUDA_TRY(c->desc.name, cudaEventSynchronize(end));
        cudaEventElapsedTime(&took, begin, end);
        if (status == NPOS_OK && i > 0 && took < *best)
            *best = took;
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return NPOS_OK;
}

static npos_status measure(npi_conv *c, const candidate *list, int count, int *fastest) {
    const npi_conv_desc *d = &c->desc;
    const npi_memory_ops *memory = c->dev->memory;
    const size_t in = (size_t)d->n * (size_t)d->c * (size_t)(d->h * d->w),
                 out = (size_t)d->n * (size_t)d->out_c * (size_t)(d->oh * d->ow),
                 filter = (size_t)d->out_c * (size_t)d->c * (size_t)(d->kernel * d->kernel),
                 sizes[5] = {in, filter, out, (size_t)d->out_c, out};
    void *data[5] = {};
    npos_status status = NPOS_OK;
    float least = INFINITY;
    for (int i = 0; i < 5 && status == NPOS_OK; i++)
        status = memory->alloc(c->dev, sizes[i] * sizeof(float), d->name, &data[i]);
    const npi_conv_args args = {d->name, data[0], data[1], data[2], (const float *)data[3],
                                data[4]};
    *fastest = 0;
    for (int i = 0; i < count && status == NPOS_OK; i++) {
        float took;
        status = time_of(c, &list[i], &args, &took);
        if (status == NPOS_OK && took < least) {
            least = took;
            *fastest = i;
        }
    }
    for (void *block : data)
        memory->free(c->dev, block);
    return status;
}

/* The kept choice, or the one that is now measured and kept. */
static npos_status tune(npi_conv *c, descriptor graph, selection all) {
    candidate list[MAX_CANDIDATES];
    selection kept = all;
    npi_choice choice;
    int count = 0, fastest = 0;
    if (npi_tune_find(c->dev, c->key, &choice) && choice.place >= 0) {
        kept.only = choice.place;
        NPI_TRY(gather(c, graph, kept, list, &count));
        if (count == 1 && (int)list[0].engine == choice.engine) {
            c->chosen = list[0];
            return NPOS_OK;
        }
        drop(list, count, -1);
    }
    NPI_TRY(gather(c, graph, all, list, &count));
    if (count == 0)
        return NPOS_OK;
    npos_status status = measure(c, list, count, &fastest);
    if (status == NPOS_OK) {
        choice = {list[fastest].place, (int)list[fastest].engine};
        npi_tune_keep(c->dev, c->key, &choice);
        for (int i = 0; i < count; i++) /* another process may have been first */
            if (list[i].place == choice.place)
                fastest = i;
        c->chosen = list[fastest];
    }
    drop(list, count, status == NPOS_OK ? fastest : -1);
    return status;
}

static npos_status plan(npi_conv *c) {
    operations ops;
    descriptor graph;
    cudnnHandle_t handle = npi_cuda_dnn(c->dev);
    const bool bias = c->desc.pass == NPI_CONV_BIAS;
    int count = 0;
    NPI_TRY(describe(c, &ops));
    NPI_TRY(make(c, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &graph));
    SET(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    SET(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, ops.count, ops.list);
    if (cudnnBackendFinalize(graph) != CUDNN_STATUS_SUCCESS)
        return NPOS_OK;
    if (is_large(&c->desc) && npi_tune_possible(c->dev))
        NPI_TRY(
            tune(c, graph, {CUDNN_HEUR_MODE_A, bias, -1, bias ? MAX_COMPILED : MAX_CANDIDATES}));
    /* fused engines are compiled, others only where there is nothing else */
    const selection firsts[] = {{CUDNN_HEUR_MODE_A, bias, -1, 1},
                                {CUDNN_HEUR_MODE_A, true, -1, 1},
                                {CUDNN_HEUR_MODE_FALLBACK, true, -1, 1}};
    for (int i = 0; i < 3 && !c->chosen.plan; i++) {
        candidate first;
        NPI_TRY(gather(c, graph, firsts[i], &first, &count));
        if (count == 1)
            c->chosen = first;
    }
    return NPOS_OK;
}

static void conv_free(npi_conv *conv) {
    if (conv->chosen.plan)
        cudnnBackendDestroyDescriptor(conv->chosen.plan);
    while (conv->made_count > 0)
        cudnnBackendDestroyDescriptor(conv->made[--conv->made_count]);
    free(conv);
}

void npi_conv_free_all(npi_device *dev) {
    npi_cuda *cuda = npi_cuda_of(dev);
    while (cuda->convs) {
        npi_conv *first = (npi_conv *)cuda->convs;
        cuda->convs = first->next;
        conv_free(first);
    }
}

npos_status npi_conv_create(npi_device *dev, const npi_conv_desc *desc, bool quiet,
                            npi_conv **out) {
    static const char *const passes[] = {"forward", "inference", "backward data",
                                         "backward filter"};
    npi_cuda *cuda = npi_cuda_of(dev);
    char key[NPI_TUNE_KEY_BYTES];
    key_of(dev, desc, key);
    for (*out = (npi_conv *)cuda->convs; *out; *out = (*out)->next)
        if (strcmp((*out)->key, key) == 0)
            return NPOS_OK;
    npi_conv *c = (npi_conv *)calloc(1, sizeof *c);
    if (!c)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for %zu bytes", desc->name, sizeof *c);
    c->dev = dev;
    c->desc = *desc;
    memcpy(c->key, key, sizeof key);
    npos_status status = plan(c);
    if (status == NPOS_OK && !c->chosen.plan)
        status = quiet ? NPOS_UNSUPPORTED
                       : npi_fail(NPOS_UNSUPPORTED,
                                  "%s: cuDNN has no repeatable engine for the %s convolution of "
                                  "%d x %d x %d x %d to %d channels, kernel %d, stride %d",
                                  desc->name, passes[desc->pass], desc->n, desc->c, desc->h,
                                  desc->w, desc->out_c, desc->kernel, desc->stride);
    c->desc.name = "convolution"; /* the caller's name may be gone before the plan */
    if (status != NPOS_OK) {
        conv_free(c);
        return status;
    }
    c->next = (npi_conv *)cuda->convs;
    cuda->convs = c;
    *out = c;
    return NPOS_OK;
}

/* Where the tensors lie, for one call. */
static npos_status fill_pack(npi_conv *c, const npi_conv_args *args, void *workspace,
                             descriptor pack) {
    int64_t ids[] = {X_ID, W_ID, Y_ID, BIAS_ID, RESIDUAL_ID};
    void *pointers[] = {args->x, args->w, args->y, (void *)args->bias, (void *)args->residual};
    int64_t count = c->desc.pass != NPI_CONV_BIAS ? 3 : c->desc.residual ? 5 : 4;
    SET(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids);
    SET(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pointers);
    SET(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    FINISH(pack);
    return NPOS_OK;
}

static npos_status execute(npi_conv *c, const candidate *with, const npi_conv_args *args) {
    const char *name = args->name;
    void *workspace = NULL;
    descriptor pack;
    if (with->workspace > 0)
        NPI_TRY(npi_cuda_scratch(c->dev, (size_t)with->workspace, &workspace));
    CUDNN_TRY(name, cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack));
    npos_status status = fill_pack(c, args, workspace, pack);
    if (status == NPOS_OK)
        status =
            npi_cudnn_status(cudnnBackendExecute(npi_cuda_dnn(c->dev), with->plan, pack), name);
    cudnnBackendDestroyDescriptor(pack);
    return status;
}

npos_status npi_conv_run(npi_conv *conv, const npi_conv_args *args) {
    NPI_TRY(execute(conv, &conv->chosen, args));
    return npi_cuda_launched(conv->dev, args->name);
}

int npi_conv_engine(const npi_conv *conv) {
    return (int)conv->chosen.engine;
}
