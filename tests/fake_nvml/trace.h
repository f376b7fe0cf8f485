/* Something over time that is piecewise constant, so that its integral is exact: true power, a limit, a
 * share of throttled time. Its text is one of
 *   "60" or "60,300@5,60@8"          a constant; steps (300 from 5 s on); the first holds before 0, too
 *   "square:LOW:HIGH:PERIOD_S:SHARE[:PHASE_S]"   HIGH for SHARE of every period, from PHASE_S on
 *   "burst:LOW:HIGH:ON_S:OFF_S:SEED"  bursts and pauses of exponential length with these means; each burst
 *                                     at a level of its own between the middle and HIGH
 *   "drift:FROM:TO:SPAN_S[:SEED[:NOISE]]"  from FROM to TO within SPAN_S and back, in steps of 10 ms, each
 *                                     off by up to the share NOISE (0)
 *   "file:PATH"                       lines "seconds,value" in order, the first at 0
 * The generated ones repeat for ever, a burst after 600 s; steps and files hold their last value.
 */
#ifndef TRACE_H
#define TRACE_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TRACE = 200000 };

typedef struct {
    int n;
    double *at_s, *value, *before; /* `before` is the integral from 0 to at_s */
    double repeats_s;              /* 0: holds its last value */
} trace_t;

static void trace_free(trace_t *t) {
    free(t->at_s);
    *t = (trace_t){0};
}

static void trace_begin(trace_t *t) {
    trace_free(t);
    t->at_s = calloc(3 * MAX_TRACE, sizeof *t->at_s); /* untouched pages cost nothing */
    t->value = t->at_s + MAX_TRACE;
    t->before = t->value + MAX_TRACE;
}

static void trace_add(trace_t *t, double at_s, double value) {
    if (t->n == MAX_TRACE) return;
    int i = t->n++;
    t->at_s[i] = at_s;
    t->value[i] = value;
    t->before[i] = i ? t->before[i - 1] + t->value[i - 1] * (at_s - t->at_s[i - 1]) : 0.0;
}

static double trace_random(uint64_t *state) { /* splitmix64, in [0, 1) */
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static void trace_square(trace_t *t, const double *p, int n) {
    double period = p[2], share = p[3], phase = n > 4 ? fmod(fmod(p[4], period) + period, period) : 0.0;
    double end = phase + share * period; /* of HIGH, which may go beyond the period's end */
    trace_add(t, 0.0, phase > 0 && end <= period ? p[0] : end > period || phase == 0 ? p[1] : p[0]);
    if (end > period) {
        trace_add(t, end - period, p[0]);
        trace_add(t, phase, p[1]);
    } else {
        if (phase > 0) trace_add(t, phase, p[1]);
        if (end < period) trace_add(t, end, p[0]);
    }
    t->repeats_s = period;
}

static void trace_burst(trace_t *t, const double *p) {
    uint64_t state = (uint64_t)p[4] * 2654435761u + 1;
    double at = 0.0, length = 600.0;
    while (at < length && t->n < MAX_TRACE - 2) {
        trace_add(t, at, p[0]);
        at -= p[3] * log(1.0 - trace_random(&state));
        if (at >= length) break;
        trace_add(t, at, p[1] - (p[1] - p[0]) * trace_random(&state) / 2);
        at -= p[2] * log(1.0 - trace_random(&state));
    }
    t->repeats_s = length;
}

static void trace_drift(trace_t *t, const double *p, int n) {
    uint64_t state = (uint64_t)(n > 3 ? p[3] : 0) + 1;
    double span = p[2], noise = n > 4 ? p[4] : 0.0, step = 0.01;
    long steps = lround(span / step), last = 2 * steps < MAX_TRACE ? 2 * steps : MAX_TRACE;
    for (long i = 0; i < last; i++) {
        double way = i < steps ? (i + 0.5) / steps : (2 * steps - i - 0.5) / steps;
        trace_add(t, i * step, (p[0] + (p[1] - p[0]) * way) * (1 + noise * (2 * trace_random(&state) - 1)));
    }
    t->repeats_s = last * step;
}

static void trace_file(trace_t *t, const char *path) {
    FILE *file = fopen(path, "r");
    double at, value;
    while (file && fscanf(file, "%lf,%lf", &at, &value) == 2) trace_add(t, at, value);
    if (file) fclose(file);
    if (!t->n) { fprintf(stderr, "fake_nvml: no trace in %s\n", path); abort(); }
}

static void trace_steps(trace_t *t, char *text) {
    char *save = NULL;
    for (char *s = strtok_r(text, ",", &save); s; s = strtok_r(NULL, ",", &save)) {
        char *at = strchr(s, '@');
        trace_add(t, at ? atof(at + 1) : 0.0, atof(s));
    }
}

static void trace_read(trace_t *t, const char *text) {
    char copy[4096], *save = NULL;
    double p[8] = {0};
    int n = 0;
    snprintf(copy, sizeof copy, "%s", text);
    trace_begin(t);
    char *colon = strchr(copy, ':');
    if (!colon) { trace_steps(t, copy); return; }
    *colon = 0;
    if (!strcmp(copy, "file")) { trace_file(t, colon + 1); return; }
    for (char *s = strtok_r(colon + 1, ":", &save); s && n < 8; s = strtok_r(NULL, ":", &save)) p[n++] = atof(s);
    if (!strcmp(copy, "square") && n >= 4) trace_square(t, p, n);
    else if (!strcmp(copy, "burst") && n == 5) trace_burst(t, p);
    else if (!strcmp(copy, "drift") && n >= 3) trace_drift(t, p, n);
    else { fprintf(stderr, "fake_nvml: no trace %s\n", text); abort(); }
}

static int trace_index(const trace_t *t, double at_s) { /* the last step not after at_s, else the first */
    int low = 0, high = t->n;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (t->at_s[middle] <= at_s) low = middle; else high = middle;
    }
    return low;
}

static double trace_at(const trace_t *t, double at_s) {
    if (t->repeats_s > 0) at_s -= floor(at_s / t->repeats_s) * t->repeats_s;
    return t->value[trace_index(t, at_s)];
}

static double trace_once(const trace_t *t, double to_s) {
    int i = trace_index(t, to_s);
    return t->before[i] + t->value[i] * (to_s - t->at_s[i]);
}

/* The integral from 0 to to_s; negative before 0. */
static double trace_integral(const trace_t *t, double to_s) {
    if (t->repeats_s <= 0) return trace_once(t, to_s);
    double whole = floor(to_s / t->repeats_s);
    return whole * trace_once(t, t->repeats_s) + trace_once(t, to_s - whole * t->repeats_s);
}

#endif
