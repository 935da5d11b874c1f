#include <math.h>
#include <string.h>

#include "devices/cpu/cpu_math.h"

static void swap_values(float *value, int32_t *index, int i, int j) {
    float v = value[i];
    value[i] = value[j];
    value[j] = v;
    if (index) {
        int32_t held = index[i];
        index[i] = index[j];
        index[j] = held;
    }
}

float npi_quickselect(float *value, int32_t *index, int n, int k) {
    int low = 0, high = n - 1;
    while (low < high) {
        float pivot = value[low + (high - low) / 2];
        int i = low, j = high;
        while (i <= j) {
            while (value[i] > pivot)
                i++;
            while (value[j] < pivot)
                j--;
            if (i <= j)
                swap_values(value, index, i++, j--);
        }
        if (k - 1 <= j)
            high = j;
        else if (k - 1 >= i)
            low = i;
        else
            break;
    }
    return value[k - 1];
}

/* The k-th largest of a few values, which are lost: by pivots, and by counting, since a branch for
 * each value would be guessed wrongly half the time. */
static float select_few(const npi_math *math, float *x, int n, int k) {
    for (;;) {
        if (n < k)
            return -INFINITY; /* they are not gathered */
        float pivot = x[n / 2];
        int above = math->count_above(n, x, pivot);
        if (above >= k) {
            n = math->gather_between(n, x, pivot, INFINITY, x);
            continue;
        }
        float below = nextafterf(pivot, -INFINITY);
        int from = math->count_above(n, x, below);
        if (from >= k)
            return pivot;
        n = math->gather_between(n, x, -INFINITY, below, x);
        k -= from;
    }
}

/* Search by counting: `low` always has at least k values above it, `high` fewer than k; once few
 * values lie between them, these are gathered and the answer is selected among them.  The next
 * limit to try comes from the density of values near the answer, aimed a little beyond it so that
 * the other side of the bracket comes in too. */
float npi_kth_largest(const npi_math *math, int n, const float *x, int k, npi_kth_guess *guess,
                      float *room) {
    enum { FEW = 48, BEYOND = 10, TRIES = 10 };
    float low = -INFINITY, high = INFINITY;
    int low_count = n, high_count = 0; /* values above low and above high */
    float limit = guess->value;
    float density = guess->density > 0.0f ? guess->density : (float)n;
    bool have_low = false, have_high = false;
    float last_limit = limit;
    int last_count = -1;
    for (int tries = 0; tries < TRIES && low_count - high_count > FEW; tries++) {
        int count = math->count_above(n, x, limit);
        if (last_count >= 0 && count != last_count && limit != last_limit) {
            float seen = (float)(last_count - count) / (limit - last_limit);
            if (seen > 0.0f)
                density = seen;
        }
        last_limit = limit;
        last_count = count;
        if (count >= k) {
            low = limit;
            low_count = count;
            have_low = true;
        } else {
            high = limit;
            high_count = count;
            have_high = true;
        }
        if (low_count - high_count <= FEW)
            break;
        /* aim at the side that is farther from the answer */
        int aim = low_count - k > k - high_count || !have_high ? k - BEYOND : k + BEYOND;
        if (!have_low)
            aim = k + BEYOND;
        aim = aim < 0 ? 0 : aim > n ? n : aim;
        float next = limit + (float)(count - aim) / density;
        if (!(next > low && next < high)) {
            if (!have_low || !have_high)
                density *= 0.25f;
            next = have_low && have_high ? low + (high - low) * 0.5f
                                         : limit + (float)(count - aim) / density;
            if (!(next > low && next < high))
                break;
        }
        limit = next;
    }
    int between = math->gather_between(n, x, low, high, room);
    int rank = k - high_count;
    if (rank > between)
        return have_low ? NAN : -INFINITY; /* the k-th value is -infinity itself */
    float kth = select_few(math, room, between, rank);
    guess->value = kth;
    guess->density = density;
    return kth;
}
