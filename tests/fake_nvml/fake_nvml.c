/* A modelled libnvidia-ml.so.1: enough of NVML for nvidia-ml-py and for bench's meter, with a known
 * truth. The true power of each GPU is piecewise constant, so its energy is known exactly and a test
 * can hold a measured figure against it.
 *
 * Configured by environment variables, read when the library loads and again by fake_nvml_reset():
 *   FAKE_NVML_GPUS        number of GPUs (2)
 *   FAKE_NVML_POWER_W     true power: "60", or steps "60,300@5,60@8" (300 W from 5 s on); ';' parts GPUs,
 *                         and the last trace serves the remaining ones
 *   FAKE_NVML_TICK_MS     the energy counter's period (100)
 *   FAKE_NVML_RESET_AT_S  the energy counter starts again at 0 then
 *   FAKE_NVML_TIME_S      start on virtual time at this second; else real time since reset
 *   FAKE_NVML_MEMORY      "total,reserved,used" in bytes
 *   FAKE_NVML_PIDS        "4242:1073741824,4343:-": compute processes; '-' is memory not available
 *   FAKE_NVML_MIG         "1": MIG mode is on
 *   FAKE_NVML_MODULE      "1": energy (field 191) exists for the module scope only
 *   FAKE_NVML_THROTTLE    share of time that counter 74 (software power cap) runs (0)
 *   FAKE_NVML_CAPABILITY  compute capability ("9.0")
 *   FAKE_NVML_DRIVER      driver version ("590.00-fake")
 *   FAKE_NVML_FAULTS      rules parted by ',': TARGET[@GPU]:CODE[:FROM[:TIMES]]. TARGET is a function's
 *                         name, a field id, or '*' for every function that takes a device; CODE an
 *                         nvmlReturn_t or "hang"; FROM the first matching call that fails (1), TIMES how
 *                         many do (all). A failing field keeps a stale number in its value.
 * Controls: fake_nvml_reset, fake_nvml_set_time_s, fake_nvml_true_energy_mj, fake_nvml_release (ends
 * hangs), fake_nvml_calls (device calls so far), fake_nvml_sessions (inits less shutdowns).
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7 };
enum { MAX_GPUS = 8, MAX_STEPS = 32, MAX_RULES = 32, MAX_PIDS = 16, HANG = -1 };
enum { TYPE_UINT = 1, TYPE_ULONGLONG = 3 };

typedef struct { int index, n_steps; double at_s[MAX_STEPS], watts[MAX_STEPS]; } gpu_t;
typedef struct { char target[64]; int gpu, code; long from, times, seen; } rule_t;
typedef struct { unsigned long long total, free, used; } memory_v1_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process_t;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned version, sensor; int celsius; } temperature_t;
typedef union { double d; unsigned ui; unsigned long ul; unsigned long long ull; long long sll; } value_t;
typedef struct {
    uint32_t id, scope;
    int64_t timestamp_us, latency_us;
    uint32_t type;
    int32_t ret;
    value_t value;
} field_t;

static gpu_t gpus[MAX_GPUS];
static rule_t rules[MAX_RULES];
static process_t processes[MAX_PIDS];
static int n_gpus, n_rules, n_processes, mig, module_scope, virtual_time, major, minor;
static int sessions; /* outlives a reset, as a process keeps its sessions */
static long calls;
static volatile int released;
static double zero_s, virtual_s, tick_s, reset_at_s, throttle_share;
static unsigned long long total_b, reserved_b, used_b;
static char driver[80];

/* ---- configuration ---- */

static const char *option(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

static double real_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void read_traces(const char *text) {
    char copy[4096], *outer = NULL, *inner = NULL;
    snprintf(copy, sizeof copy, "%s", text);
    char *part = strtok_r(copy, ";", &outer);
    for (int i = 0; i < MAX_GPUS; i++) {
        gpu_t *g = &gpus[i];
        if (!part) { /* the last trace serves the remaining GPUs */
            *g = gpus[i - 1];
            g->index = i;
            continue;
        }
        g->index = i;
        g->n_steps = 0;
        for (char *s = strtok_r(part, ",", &inner); s && g->n_steps < MAX_STEPS; s = strtok_r(NULL, ",", &inner)) {
            char *at = strchr(s, '@');
            g->watts[g->n_steps] = atof(s);
            g->at_s[g->n_steps++] = at ? atof(at + 1) : 0.0;
        }
        part = strtok_r(NULL, ";", &outer);
    }
}

static void read_rules(const char *text) {
    char copy[4096], *outer = NULL, *inner = NULL;
    snprintf(copy, sizeof copy, "%s", text);
    n_rules = 0;
    for (char *r = strtok_r(copy, ",", &outer); r && n_rules < MAX_RULES; r = strtok_r(NULL, ",", &outer)) {
        rule_t *rule = &rules[n_rules++];
        char *target = strtok_r(r, ":", &inner), *code = strtok_r(NULL, ":", &inner);
        char *from = strtok_r(NULL, ":", &inner), *times = strtok_r(NULL, ":", &inner);
        char *at = strchr(target, '@');
        rule->gpu = at ? atoi(at + 1) : -1;
        if (at) *at = 0;
        snprintf(rule->target, sizeof rule->target, "%s", target);
        rule->code = !code ? NOT_SUPPORTED : !strcmp(code, "hang") ? HANG : atoi(code);
        rule->from = from ? atol(from) : 1;
        rule->times = times ? atol(times) : -1;
        rule->seen = 0;
    }
}

static void read_processes(const char *text) {
    char copy[1024], *save = NULL;
    snprintf(copy, sizeof copy, "%s", text);
    n_processes = 0;
    for (char *p = strtok_r(copy, ",", &save); p && n_processes < MAX_PIDS; p = strtok_r(NULL, ",", &save)) {
        char *memory = strchr(p, ':');
        int known = memory && memory[1] != '-';
        processes[n_processes++] = (process_t){
            .pid = (unsigned)atoi(p), .used = known ? strtoull(memory + 1, NULL, 10) : ~0ull,
            .gpu_instance = ~0u, .compute_instance = ~0u};
    }
}

__attribute__((constructor)) void fake_nvml_reset(void) {
    n_gpus = atoi(option("FAKE_NVML_GPUS", "2"));
    if (n_gpus > MAX_GPUS) n_gpus = MAX_GPUS;
    read_traces(option("FAKE_NVML_POWER_W", "60"));
    read_rules(option("FAKE_NVML_FAULTS", ""));
    read_processes(option("FAKE_NVML_PIDS", ""));
    tick_s = atof(option("FAKE_NVML_TICK_MS", "100")) / 1e3;
    reset_at_s = atof(option("FAKE_NVML_RESET_AT_S", "-1"));
    throttle_share = atof(option("FAKE_NVML_THROTTLE", "0"));
    mig = atoi(option("FAKE_NVML_MIG", "0"));
    module_scope = atoi(option("FAKE_NVML_MODULE", "0"));
    snprintf(driver, sizeof driver, "%s", option("FAKE_NVML_DRIVER", "590.00-fake"));
    sscanf(option("FAKE_NVML_CAPABILITY", "9.0"), "%d.%d", &major, &minor);
    sscanf(option("FAKE_NVML_MEMORY", "80000000000,500000000,1200000000"), "%llu,%llu,%llu", &total_b, &reserved_b,
           &used_b);
    virtual_time = getenv("FAKE_NVML_TIME_S") != NULL;
    virtual_s = atof(option("FAKE_NVML_TIME_S", "0"));
    zero_s = real_s();
    calls = 0;
    released = 0;
}

/* ---- the truth ---- */

static double now_s(void) { return virtual_time ? virtual_s : real_s() - zero_s; }

void fake_nvml_set_time_s(double t_s) { virtual_time = 1; virtual_s = t_s; }
void fake_nvml_release(void) { released = 1; }
long fake_nvml_calls(void) { return calls; }
int fake_nvml_sessions(void) { return sessions; }

static double watts_at(const gpu_t *g, double t_s) {
    double watts = g->watts[0];
    for (int i = 1; i < g->n_steps && g->at_s[i] <= t_s; i++) watts = g->watts[i];
    return watts;
}

/* Joules from t = 0 to t_s; the first power holds before 0, too, where the integral is negative. */
static double joules_to(const gpu_t *g, double t_s) {
    double joules = 0.0;
    for (int i = 0; i < g->n_steps; i++) {
        double start = i ? g->at_s[i] : 0.0, end = i + 1 < g->n_steps ? g->at_s[i + 1] : t_s;
        if (i && start >= t_s) break;
        joules += g->watts[i] * ((end < t_s ? end : t_s) - start);
    }
    return joules;
}

/* The exact energy of a GPU between two times, in mJ. */
double fake_nvml_true_energy_mj(unsigned gpu, double from_s, double to_s) {
    return gpu < (unsigned)n_gpus ? 1e3 * (joules_to(&gpus[gpu], to_s) - joules_to(&gpus[gpu], from_s)) : -1.0;
}

static double last_tick_s(double t_s) { /* 1e-9: 0.3 / 0.1 must be 3 ticks */
    return tick_s > 0 ? (double)(long long)(t_s / tick_s + 1e-9) * tick_s : t_s;
}

static unsigned long long counter_mj(const gpu_t *g) {
    double t = last_tick_s(now_s());
    if (reset_at_s >= 0 && now_s() >= reset_at_s)
        return (unsigned long long)(t > reset_at_s ? 1e3 * (joules_to(g, t) - joules_to(g, reset_at_s)) + 0.5 : 0);
    return 5000000ull * (g->index + 1) + (unsigned long long)(1e3 * joules_to(g, t) + 0.5);
}

static unsigned mean_mw(const gpu_t *g) { /* the mean of the last second, as field 185 promises */
    return (unsigned)(1e3 * (joules_to(g, now_s()) - joules_to(g, now_s() - 1.0)) + 0.5);
}

/* ---- faults ---- */

static int fault(const char *target, const gpu_t *g) {
    for (int i = 0; i < n_rules; i++) {
        rule_t *r = &rules[i];
        int wildcard = r->target[0] == '*' && g && strncmp(target, "nvml", 4) == 0;
        if (!wildcard && strcmp(r->target, target)) continue;
        if (r->gpu >= 0 && (!g || g->index != r->gpu)) continue;
        long nth = ++r->seen;
        if (nth < r->from || (r->times >= 0 && nth >= r->from + r->times)) continue;
        if (r->code != HANG) return r->code;
        while (!released) usleep(1000);
    }
    return OK;
}

#define ENTER(g) do { calls++; int code_ = fault(__func__, g); if (code_) return code_; } while (0)

/* ---- system ---- */

int nvmlInitWithFlags(unsigned flags) { (void)flags; ENTER(NULL); sessions++; return OK; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlInit(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { ENTER(NULL); sessions--; return OK; }

const char *nvmlErrorString(int code) {
    static char text[40];
    snprintf(text, sizeof text, "modelled error %d", code);
    return text;
}

static int put(char *buffer, unsigned size, const char *text) {
    return (unsigned)snprintf(buffer, size, "%s", text) < size ? OK : TOO_SMALL;
}

int nvmlSystemGetDriverVersion(char *b, unsigned n) { ENTER(NULL); return put(b, n, driver); }
int nvmlSystemGetNVMLVersion(char *b, unsigned n) { ENTER(NULL); return put(b, n, "13.590.00-fake"); }
int nvmlSystemGetCudaDriverVersion(int *v) { *v = 13000; return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = 13000; return OK; }

/* ---- devices ---- */

static void uuid_of(const gpu_t *g, char *buffer, size_t size) {
    snprintf(buffer, size, "GPU-00000000-0000-0000-0000-%012d", g->index);
}

int nvmlDeviceGetCount_v2(unsigned *n) { ENTER(NULL); *n = (unsigned)n_gpus; return OK; }
int nvmlDeviceGetCount(unsigned *n) { return nvmlDeviceGetCount_v2(n); }

int nvmlDeviceGetHandleByIndex_v2(unsigned i, gpu_t **g) {
    if (i >= (unsigned)n_gpus) return INVALID;
    ENTER(&gpus[i]);
    *g = &gpus[i];
    return OK;
}
int nvmlDeviceGetHandleByIndex(unsigned i, gpu_t **g) { return nvmlDeviceGetHandleByIndex_v2(i, g); }

int nvmlDeviceGetHandleByUUID(const char *uuid, gpu_t **g) {
    char own[96];
    for (int i = 0; i < n_gpus; i++) {
        uuid_of(&gpus[i], own, sizeof own);
        if (strcmp(own, uuid)) continue;
        ENTER(&gpus[i]);
        *g = &gpus[i];
        return OK;
    }
    return NOT_FOUND;
}

int nvmlDeviceGetIndex(gpu_t *g, unsigned *i) { ENTER(g); *i = (unsigned)g->index; return OK; }
int nvmlDeviceGetName(gpu_t *g, char *b, unsigned n) { ENTER(g); return put(b, n, "Modelled GPU"); }
int nvmlDeviceGetUUID(gpu_t *g, char *b, unsigned n) {
    ENTER(g);
    char own[96];
    uuid_of(g, own, sizeof own);
    return put(b, n, own);
}

int nvmlDeviceGetMemoryInfo(gpu_t *g, memory_v1_t *m) { /* v1 counts reserved as used */
    ENTER(g);
    *m = (memory_v1_t){total_b, total_b - reserved_b - used_b, reserved_b + used_b};
    return OK;
}
int nvmlDeviceGetMemoryInfo_v2(gpu_t *g, memory_v2_t *m) {
    ENTER(g);
    if (m->version != 0x02000028u) return 25;
    *m = (memory_v2_t){m->version, total_b, reserved_b, total_b - reserved_b - used_b, used_b};
    return OK;
}

int nvmlDeviceGetTotalEnergyConsumption(gpu_t *g, unsigned long long *mj) { ENTER(g); *mj = counter_mj(g); return OK; }
int nvmlDeviceGetPowerUsage(gpu_t *g, unsigned *mw) {
    ENTER(g);
    int instant = major < 8 || (major == 8 && minor == 0);
    *mw = instant ? (unsigned)(1e3 * watts_at(g, now_s())) : mean_mw(g);
    return OK;
}
int nvmlDeviceGetEnforcedPowerLimit(gpu_t *g, unsigned *mw) { ENTER(g); *mw = 700000; return OK; }
int nvmlDeviceGetTemperature(gpu_t *g, unsigned s, unsigned *c) { (void)s; ENTER(g); *c = 40 + g->index; return OK; }
int nvmlDeviceGetTemperatureV(gpu_t *g, temperature_t *t) { ENTER(g); t->celsius = 40 + g->index; return OK; }
int nvmlDeviceGetClockInfo(gpu_t *g, unsigned kind, unsigned *mhz) { ENTER(g); *mhz = kind == 2 ? 2619 : 1755; return OK; }
int nvmlDeviceGetPerformanceState(gpu_t *g, unsigned *p) { ENTER(g); *p = 0; return OK; }
int nvmlDeviceGetPersistenceMode(gpu_t *g, unsigned *m) { ENTER(g); *m = 1; return OK; }
int nvmlDeviceGetEccMode(gpu_t *g, unsigned *now, unsigned *next) { ENTER(g); *now = *next = 1; return OK; }
int nvmlDeviceGetMigMode(gpu_t *g, unsigned *now, unsigned *next) { ENTER(g); *now = *next = (unsigned)mig; return OK; }
int nvmlDeviceGetArchitecture(gpu_t *g, unsigned *a) {
    ENTER(g);
    *a = major >= 10 ? 10 : major == 9 ? 9 : major == 8 && minor == 9 ? 8 : major == 8 ? 7 : 5;
    return OK;
}
int nvmlDeviceGetCudaComputeCapability(gpu_t *g, int *a, int *b) { ENTER(g); *a = major; *b = minor; return OK; }
int nvmlDeviceGetUtilizationRates(gpu_t *g, utilization_t *u) {
    ENTER(g);
    if (mig) return NOT_SUPPORTED;
    *u = (utilization_t){87, 42};
    return OK;
}

static int list_processes(unsigned *n, process_t *out) {
    unsigned room = *n;
    *n = (unsigned)n_processes;
    if (!n_processes) return OK;
    if (!out || room < (unsigned)n_processes) return TOO_SMALL;
    memcpy(out, processes, sizeof *out * (size_t)n_processes);
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v2(gpu_t *g, unsigned *n, process_t *out) { ENTER(g); return list_processes(n, out); }
int nvmlDeviceGetComputeRunningProcesses_v3(gpu_t *g, unsigned *n, process_t *out) { ENTER(g); return list_processes(n, out); }

/* ---- field values ---- */

static int energy_in_scope(const field_t *f) { return f->id == 83 ? f->scope == 0 : (int)f->scope == module_scope; }

static void read_field(const gpu_t *g, field_t *f) {
    char target[16];
    snprintf(target, sizeof target, "%u", f->id);
    f->value.ull = 123456789ull; /* stale: a failing field leaves whatever stood there */
    f->timestamp_us = (int64_t)(now_s() * 1e6);
    f->latency_us = 7;
    f->type = TYPE_ULONGLONG;
    f->ret = fault(target, g);
    if (f->ret) return;
    switch (f->id) {
    case 83: case 191:
        if (energy_in_scope(f)) f->value.ull = counter_mj(g); else f->ret = NOT_SUPPORTED;
        break;
    case 185: f->type = TYPE_UINT; f->value.ui = mean_mw(g); break;
    case 186: f->type = TYPE_UINT; f->value.ui = (unsigned)(1e3 * watts_at(g, now_s())); break;
    case 74: f->value.ull = (unsigned long long)(throttle_share * now_s() * 1e9); break;
    case 269: case 270: case 271: f->value.ull = 0; break;
    default: f->ret = NOT_SUPPORTED;
    }
}

int nvmlDeviceGetFieldValues(gpu_t *g, int n, field_t *fields) {
    ENTER(g);
    for (int i = 0; i < n; i++) read_field(g, &fields[i]);
    return OK;
}

/* ---- layout, so that a test can hold it against the binding's structs ---- */

unsigned fake_nvml_sizeof(const char *name) {
    if (!strcmp(name, "Memory")) return sizeof(memory_v1_t);
    if (!strcmp(name, "Memory_v2")) return sizeof(memory_v2_t);
    if (!strcmp(name, "FieldValue")) return sizeof(field_t);
    if (!strcmp(name, "ProcessInfo")) return sizeof(process_t);
    return 0;
}
