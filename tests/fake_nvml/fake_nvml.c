/* A modelled libnvidia-ml.so.1: enough of NVML for nvidia-ml-py and for bench's meter, with a known
 * truth. The true power of each GPU is piecewise constant (trace.h), so its energy is known exactly and a
 * test can hold a measured figure against it. Between the truth and a reading stand the sensor (which sees
 * a window of the time and answers with an old value), its gain and the counter's tick.
 *
 * Configured by environment variables, read when the library loads and again by fake_nvml_reset(). TRACE is
 * what trace.h reads: "60", "60,300@5,60@8" (300 from 5 s on), "square:…", "burst:…", "drift:…", "file:…".
 *   FAKE_NVML_GPUS        number of GPUs (2)
 *   FAKE_NVML_POWER_W     true power: TRACE; ';' parts GPUs, and the last one serves the remaining ones
 *   FAKE_NVML_SENSOR      "WINDOW_MS,UPDATE_MS[,PHASE_MS]": instant power (field 186, and GetPowerUsage up to
 *                         GA100) is the mean of the WINDOW_MS before its last update ("0,0": exact, now)
 *   FAKE_NVML_AVERAGE     the same for the mean (field 185, and GetPowerUsage since) ("1000,0")
 *   FAKE_NVML_GAIN        "POWER,COUNTER": what the readings show of the true power ("1,1")
 *   FAKE_NVML_TICK_MS     "PERIOD_MS[,PHASE_MS]" of the energy counter ("100")
 *   FAKE_NVML_COUNTER     "power": the energy counter integrates the true power (the default); "readings": it
 *                         adds up what the instant sensor shows, and misses what that does not see
 *   FAKE_NVML_RESET_AT_S  the energy counter starts again at 0 then
 *   FAKE_NVML_FROZEN_S    "FROM[,UNTIL]": the energy counter stands still, then shows all that passed
 *   FAKE_NVML_JUMP        "AT_S,JOULES": the energy counter is ahead by so much from then on
 *   FAKE_NVML_LIMIT_W     TRACE: the enforced power limit ("700")
 *   FAKE_NVML_CLOCK_MHZ   TRACE: the SM clock ("1755")
 *   FAKE_NVML_CLOCK_LIMIT_MHZ  TRACE: the application and maximum SM clock ("1980")
 *   FAKE_NVML_UTILIZATION TRACE: the share of time in % with any kernel running ("87")
 *   FAKE_NVML_TIME_S      start on virtual time at this second; else real time since reset
 *   FAKE_NVML_MEMORY      "total,reserved,used" in bytes
 *   FAKE_NVML_USED_B      TRACE: the memory in use, instead of the constant of FAKE_NVML_MEMORY
 *   FAKE_NVML_PIDS        "4242:1073741824,self:-": compute processes; '-' is memory not available, "self"
 *                         this process; ";AT_S=…" appends the list from then on
 *   FAKE_NVML_MIG         "1": MIG mode is on
 *   FAKE_NVML_MODULE      "1": energy (field 191) exists for the module scope only
 *   FAKE_NVML_THROTTLE_74, _269, _270, _271   TRACE: the share of time that this counter runs ("0"): software
 *                         power cap, software thermal, hardware thermal, hardware power brake
 *   FAKE_NVML_ECC_CORRECTED, _UNCORRECTED     TRACE: errors since the driver's start ("0")
 *   FAKE_NVML_CAPABILITY  compute capability ("9.0")
 *   FAKE_NVML_DRIVER      driver version ("590.00-fake")
 *   FAKE_NVML_FAULTS      rules parted by ',': TARGET[@GPU]:CODE[:FROM[:TIMES]]. TARGET is a function's
 *                         name, a field id, or '*' for every function that takes a device; CODE an
 *                         nvmlReturn_t or "hang"; FROM the first matching call that fails (1), TIMES how
 *                         many do (all); with an 's' ("5s", "0.5s") FROM is a time and TIMES a duration. A
 *                         failing field keeps a stale number in its value.
 * Controls: fake_nvml_reset, fake_nvml_set_time_s, fake_nvml_time_s, fake_nvml_true_energy_mj,
 * fake_nvml_release (ends hangs), fake_nvml_calls (device calls so far), fake_nvml_sessions (inits less
 * shutdowns).
 */
#include <time.h>
#include <unistd.h>

#include "trace.h"

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7 };
enum { MAX_GPUS = 8, MAX_RULES = 32, MAX_PIDS = 16, MAX_LISTS = 4, HANG = -1 };
enum { N_THROTTLES = 4 };
enum { TYPE_UINT = 1, TYPE_ULONGLONG = 3 };

typedef struct { int index; trace_t *power; } gpu_t;
typedef struct { char target[64]; int gpu, code, timed; double from, times; long seen; } rule_t;
typedef struct { double window_s, update_s, phase_s; } sensor_t;
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

typedef struct { double at_s; int n; process_t processes[MAX_PIDS]; } listing_t;

static const struct { unsigned field, reason; const char *variable; } THROTTLES[N_THROTTLES] = {
    {74, 0x04, "FAKE_NVML_THROTTLE_74"},
    {269, 0x20, "FAKE_NVML_THROTTLE_269"},
    {270, 0x40, "FAKE_NVML_THROTTLE_270"},
    {271, 0x80, "FAKE_NVML_THROTTLE_271"},
};

static gpu_t gpus[MAX_GPUS];
static trace_t powers[MAX_GPUS], throttles[N_THROTTLES], limit_w, clock_mhz, clock_limit_mhz, ecc[2], used_b, busy;
static rule_t rules[MAX_RULES];
static listing_t listings[MAX_LISTS];
static sensor_t instant, average;
static struct { long n; double joules; } tallies[MAX_GPUS]; /* of a counter that adds up readings */
static int adds_readings;
static int n_gpus, n_rules, n_listings, mig, module_scope, virtual_time, major, minor;
static int sessions; /* outlives a reset, as a process keeps its sessions */
static long calls;
static volatile int released;
static double zero_s, virtual_s, tick_s, tick_phase_s, reset_at_s, frozen_from_s, frozen_until_s;
static double jump_at_s, jump_j, power_gain, counter_gain;
static unsigned long long total_b, reserved_b;
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

static void read_powers(const char *text) {
    char copy[16384], *save = NULL;
    snprintf(copy, sizeof copy, "%s", text);
    char *part = strtok_r(copy, ";", &save);
    for (int i = 0; i < MAX_GPUS; i++) {
        gpus[i] = (gpu_t){i, part ? &powers[i] : gpus[i - 1].power}; /* the last serves the remaining GPUs */
        if (part) trace_read(&powers[i], part);
        part = part ? strtok_r(NULL, ";", &save) : NULL;
    }
}

/* "a,b,c" as up to three numbers; those that are not given stay as they are. */
static void read_numbers(const char *text, double *a, double *b, double *c) {
    double none;
    sscanf(text, "%lf,%lf,%lf", a, b ? b : &none, c ? c : &none);
}

static sensor_t read_sensor(const char *text) {
    double window_ms = 0, update_ms = 0, phase_ms = 0;
    read_numbers(text, &window_ms, &update_ms, &phase_ms);
    return (sensor_t){window_ms / 1e3, update_ms / 1e3, phase_ms / 1e3};
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
        rule->timed = from && strchr(from, 's');
        rule->from = from ? atof(from) : 1;
        rule->times = times ? atof(times) : -1;
        rule->seen = 0;
    }
}

static void read_processes(const char *text) {
    char copy[2048], *outer = NULL, *inner = NULL;
    snprintf(copy, sizeof copy, "%s", text);
    n_listings = 0;
    for (char *part = strtok_r(copy, ";", &outer); part && n_listings < MAX_LISTS; part = strtok_r(NULL, ";", &outer)) {
        listing_t *l = &listings[n_listings++];
        char *begins = strchr(part, '=');
        *l = (listing_t){.at_s = begins ? atof(part) : 0.0};
        char *p = strtok_r(begins ? begins + 1 : part, ",", &inner);
        for (; p && l->n < MAX_PIDS; p = strtok_r(NULL, ",", &inner)) {
            char *memory = strchr(p, ':');
            int known = memory && memory[1] != '-';
            l->processes[l->n++] = (process_t){
                .pid = !strncmp(p, "self", 4) ? (unsigned)getpid() : (unsigned)atoi(p),
                .used = known ? strtoull(memory + 1, NULL, 10) : ~0ull, .gpu_instance = ~0u, .compute_instance = ~0u};
        }
    }
}

__attribute__((constructor)) void fake_nvml_reset(void) {
    n_gpus = atoi(option("FAKE_NVML_GPUS", "2"));
    if (n_gpus > MAX_GPUS) n_gpus = MAX_GPUS;
    read_powers(option("FAKE_NVML_POWER_W", "60"));
    read_rules(option("FAKE_NVML_FAULTS", ""));
    read_processes(option("FAKE_NVML_PIDS", ""));
    instant = read_sensor(option("FAKE_NVML_SENSOR", "0,0"));
    average = read_sensor(option("FAKE_NVML_AVERAGE", "1000,0"));
    adds_readings = !strcmp(option("FAKE_NVML_COUNTER", "power"), "readings") && instant.update_s > 0;
    memset(tallies, 0, sizeof tallies);
    read_numbers(option("FAKE_NVML_GAIN", "1,1"), &power_gain, &counter_gain, NULL);
    tick_phase_s = 0.0;
    read_numbers(option("FAKE_NVML_TICK_MS", "100"), &tick_s, &tick_phase_s, NULL);
    tick_s /= 1e3;
    tick_phase_s /= 1e3;
    reset_at_s = atof(option("FAKE_NVML_RESET_AT_S", "-1"));
    frozen_from_s = frozen_until_s = jump_at_s = HUGE_VAL;
    read_numbers(option("FAKE_NVML_FROZEN_S", ""), &frozen_from_s, &frozen_until_s, NULL);
    read_numbers(option("FAKE_NVML_JUMP", ""), &jump_at_s, &jump_j, NULL);
    trace_read(&limit_w, option("FAKE_NVML_LIMIT_W", "700"));
    trace_read(&clock_mhz, option("FAKE_NVML_CLOCK_MHZ", "1755"));
    trace_read(&clock_limit_mhz, option("FAKE_NVML_CLOCK_LIMIT_MHZ", "1980"));
    for (int i = 0; i < N_THROTTLES; i++) trace_read(&throttles[i], option(THROTTLES[i].variable, "0"));
    trace_read(&busy, option("FAKE_NVML_UTILIZATION", "87"));
    trace_read(&ecc[0], option("FAKE_NVML_ECC_CORRECTED", "0"));
    trace_read(&ecc[1], option("FAKE_NVML_ECC_UNCORRECTED", "0"));
    mig = atoi(option("FAKE_NVML_MIG", "0"));
    module_scope = atoi(option("FAKE_NVML_MODULE", "0"));
    snprintf(driver, sizeof driver, "%s", option("FAKE_NVML_DRIVER", "590.00-fake"));
    sscanf(option("FAKE_NVML_CAPABILITY", "9.0"), "%d.%d", &major, &minor);
    unsigned long long used = 0;
    sscanf(option("FAKE_NVML_MEMORY", "80000000000,500000000,1200000000"), "%llu,%llu,%llu", &total_b, &reserved_b,
           &used);
    char constant[32];
    snprintf(constant, sizeof constant, "%llu", used);
    trace_read(&used_b, option("FAKE_NVML_USED_B", constant));
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

double fake_nvml_time_s(void) { return now_s(); }

/* The exact energy of a GPU between two times, in mJ. */
double fake_nvml_true_energy_mj(unsigned gpu, double from_s, double to_s) {
    if (gpu >= (unsigned)n_gpus) return -1.0;
    return 1e3 * (trace_integral(gpus[gpu].power, to_s) - trace_integral(gpus[gpu].power, from_s));
}

/* ---- the sensors ---- */

static double last_update_s(double t_s, double period_s, double phase_s) { /* 1e-9: 0.3 / 0.1 must be 3 ticks */
    return period_s > 0 ? floor((t_s - phase_s) / period_s + 1e-9) * period_s + phase_s : t_s;
}

static double seen_w(const gpu_t *g, const sensor_t *s, double at_s) {
    if (s->window_s <= 0) return trace_at(g->power, at_s);
    return (trace_integral(g->power, at_s) - trace_integral(g->power, at_s - s->window_s)) / s->window_s;
}

static unsigned sensed_mw(const gpu_t *g, const sensor_t *s) {
    return (unsigned)(1e3 * power_gain * seen_w(g, s, last_update_s(now_s(), s->update_s, s->phase_s)) + 0.5);
}

static double counted_j(const gpu_t *g, double t_s) {
    if (!adds_readings) return trace_integral(g->power, t_s);
    long last = (long)floor((t_s - instant.phase_s) / instant.update_s + 1e-9);
    if (last < tallies[g->index].n) memset(&tallies[g->index], 0, sizeof tallies[0]);
    while (tallies[g->index].n < last) {
        double at_s = ++tallies[g->index].n * instant.update_s + instant.phase_s;
        tallies[g->index].joules += seen_w(g, &instant, at_s) * instant.update_s;
    }
    return tallies[g->index].joules;
}

static unsigned long long counter_mj(const gpu_t *g) {
    double now = now_s();
    if (now >= frozen_from_s && now < frozen_until_s) now = frozen_from_s;
    double t = last_update_s(now, tick_s, tick_phase_s), joules = counted_j(g, t);
    int reset = reset_at_s >= 0 && now >= reset_at_s;
    if (reset) joules = t > reset_at_s ? joules - counted_j(g, reset_at_s) : 0.0;
    joules = joules * counter_gain + (t >= jump_at_s ? jump_j : 0.0) + (reset ? 0.0 : 5000.0 * (g->index + 1));
    return joules > 0 ? (unsigned long long)(1e3 * joules + 0.5) : 0;
}

/* ---- faults ---- */

static int fault(const char *target, const gpu_t *g) {
    for (int i = 0; i < n_rules; i++) {
        rule_t *r = &rules[i];
        int wildcard = r->target[0] == '*' && g && strncmp(target, "nvml", 4) == 0;
        if (!wildcard && strcmp(r->target, target)) continue;
        if (r->gpu >= 0 && (!g || g->index != r->gpu)) continue;
        double position = r->timed ? now_s() : (double)++r->seen;
        if (position < r->from || (r->times >= 0 && position >= r->from + r->times)) continue;
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
    unsigned long long used = (unsigned long long)trace_at(&used_b, now_s());
    *m = (memory_v1_t){total_b, total_b - reserved_b - used, reserved_b + used};
    return OK;
}
int nvmlDeviceGetMemoryInfo_v2(gpu_t *g, memory_v2_t *m) {
    ENTER(g);
    if (m->version != 0x02000028u) return 25;
    unsigned long long used = (unsigned long long)trace_at(&used_b, now_s());
    *m = (memory_v2_t){m->version, total_b, reserved_b, total_b - reserved_b - used, used};
    return OK;
}

int nvmlDeviceGetTotalEnergyConsumption(gpu_t *g, unsigned long long *mj) { ENTER(g); *mj = counter_mj(g); return OK; }
int nvmlDeviceGetPowerUsage(gpu_t *g, unsigned *mw) {
    ENTER(g);
    *mw = sensed_mw(g, major < 8 || (major == 8 && minor == 0) ? &instant : &average);
    return OK;
}
static int put_at(const trace_t *t, double per_unit, unsigned *out) {
    *out = (unsigned)(trace_at(t, now_s()) * per_unit + 0.5);
    return OK;
}
int nvmlDeviceGetEnforcedPowerLimit(gpu_t *g, unsigned *mw) { ENTER(g); return put_at(&limit_w, 1e3, mw); }
int nvmlDeviceGetPowerManagementLimit(gpu_t *g, unsigned *mw) { ENTER(g); return put_at(&limit_w, 1e3, mw); }
int nvmlDeviceGetTemperature(gpu_t *g, unsigned s, unsigned *c) { (void)s; ENTER(g); *c = 40 + g->index; return OK; }
int nvmlDeviceGetTemperatureV(gpu_t *g, temperature_t *t) { ENTER(g); t->celsius = 40 + g->index; return OK; }
static int put_clock(unsigned kind, const trace_t *sm, unsigned *mhz) { /* kind 2 is the memory's */
    *mhz = 2619;
    return kind == 2 ? OK : put_at(sm, 1.0, mhz);
}
int nvmlDeviceGetClockInfo(gpu_t *g, unsigned kind, unsigned *mhz) { ENTER(g); return put_clock(kind, &clock_mhz, mhz); }
int nvmlDeviceGetMaxClockInfo(gpu_t *g, unsigned kind, unsigned *mhz) {
    ENTER(g);
    return put_clock(kind, &clock_limit_mhz, mhz);
}
int nvmlDeviceGetApplicationsClock(gpu_t *g, unsigned kind, unsigned *mhz) {
    ENTER(g);
    return put_clock(kind, &clock_limit_mhz, mhz);
}
int nvmlDeviceGetMaxCustomerBoostClock(gpu_t *g, unsigned kind, unsigned *mhz) {
    ENTER(g);
    return put_clock(kind, &clock_limit_mhz, mhz);
}
int nvmlDeviceGetClock(gpu_t *g, unsigned kind, unsigned which, unsigned *mhz) { /* which 0: the current one */
    ENTER(g);
    return put_clock(kind, which ? &clock_limit_mhz : &clock_mhz, mhz);
}

static unsigned long long reasons(void) { /* a share below 1 is the first part of every second */
    unsigned long long mask = 0;
    for (int i = 0; i < N_THROTTLES; i++)
        if (now_s() - floor(now_s()) < trace_at(&throttles[i], now_s())) mask |= THROTTLES[i].reason;
    return mask;
}
int nvmlDeviceGetCurrentClocksEventReasons(gpu_t *g, unsigned long long *m) { ENTER(g); *m = reasons(); return OK; }
int nvmlDeviceGetCurrentClocksThrottleReasons(gpu_t *g, unsigned long long *m) { ENTER(g); *m = reasons(); return OK; }

/* kind 0 is corrected, 1 uncorrected; volatile and aggregate counts are the same here. */
int nvmlDeviceGetTotalEccErrors(gpu_t *g, unsigned kind, unsigned counter, unsigned long long *n) {
    (void)counter;
    ENTER(g);
    if (kind > 1) return INVALID;
    *n = (unsigned long long)trace_at(&ecc[kind], now_s());
    return OK;
}
int nvmlDeviceGetMemoryErrorCounter(gpu_t *g, unsigned kind, unsigned counter, unsigned place, unsigned long long *n) {
    (void)counter;
    ENTER(g);
    if (kind > 1) return INVALID;
    if (place != 2) return NOT_SUPPORTED; /* 2: device memory, where all of them are */
    *n = (unsigned long long)trace_at(&ecc[kind], now_s());
    return OK;
}
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
int nvmlDeviceGetC2cModeInfoV(gpu_t *g, void *info) { (void)info; ENTER(g); return NOT_SUPPORTED; }
int nvmlDeviceGetUtilizationRates(gpu_t *g, utilization_t *u) {
    ENTER(g);
    if (mig) return NOT_SUPPORTED;
    *u = (utilization_t){(unsigned)trace_at(&busy, now_s()), 42};
    return OK;
}

static int list_processes(unsigned *n, process_t *out) {
    const listing_t *l = NULL;
    for (int i = 0; i < n_listings && (!i || listings[i].at_s <= now_s()); i++) l = &listings[i];
    unsigned room = *n;
    *n = l ? (unsigned)l->n : 0;
    if (!*n) return OK;
    if (!out || room < *n) return TOO_SMALL;
    memcpy(out, l->processes, sizeof *out * *n);
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v2(gpu_t *g, unsigned *n, process_t *out) { ENTER(g); return list_processes(n, out); }
int nvmlDeviceGetComputeRunningProcesses_v3(gpu_t *g, unsigned *n, process_t *out) { ENTER(g); return list_processes(n, out); }

/* ---- field values ---- */

static int energy_in_scope(const field_t *f) { return f->id == 83 ? f->scope == 0 : (int)f->scope == module_scope; }

static int read_throttle(field_t *f) {
    for (int i = 0; i < N_THROTTLES; i++) {
        if (THROTTLES[i].field != f->id) continue;
        f->value.ull = (unsigned long long)(trace_integral(&throttles[i], now_s()) * 1e9);
        return OK;
    }
    return NOT_SUPPORTED;
}

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
    case 185: f->type = TYPE_UINT; f->value.ui = sensed_mw(g, &average); break;
    case 186: f->type = TYPE_UINT; f->value.ui = sensed_mw(g, &instant); break;
    case 3: case 5: f->value.ull = (unsigned long long)trace_at(&ecc[0], now_s()); break;
    case 4: case 6: f->value.ull = (unsigned long long)trace_at(&ecc[1], now_s()); break;
    default: f->ret = read_throttle(f);
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
