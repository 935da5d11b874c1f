#if defined(__x86_64__)
#include "devices/cpu/cpu_math_avx512.h"

const npi_math npi_math_avx512 = {
    .mr = MR,
    .nr = NR,
    .tile = tile,
    .count_above = count_above,
    .gather_between = gather_between,
    .keep = keep,
    .screen = screen,
    .near = near,
    .centre = loop_centre,
    .combine = loop_combine,
    .dot = loop_dot,
    .distance = loop_distance,
    .normals = loop_normals,
    .sgd = loop_sgd,
    .softmax = loop_softmax,
    .act = loop_act,
    .act_back = loop_act_back,
    .layer_norm = loop_layer_norm,
};
#else
typedef int npi_cpu_math_avx512_empty;
#endif
