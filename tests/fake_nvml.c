/* A stand-in for libnvidia-ml.so.1, loaded by the real Python bindings through LD_LIBRARY_PATH. Environment:
 *   FAKE_NVML_GPUS          devices, default 1; their UUIDs end in their index
 *   FAKE_NVML_W             power of each in watts, default 100
 *   FAKE_NVML_RAMP          growth of that power in watts per second since nvmlInit, default 0
 *   FAKE_NVML_SQUARE_S      period of a square wave: that power in the first half, only the growth in the second
 *   FAKE_NVML_SPIKE_W       further power of a spike in the first 50 ms of each 400 ms, default 0
 *   FAKE_NVML_TICK_MS       interval at which the energy counter moves, default 100
 *   FAKE_NVML_LATE_MS       age of what the energy counter shows at a tick, default 0
 *   FAKE_NVML_NO_COUNTER    set: no energy counter, power only
 *   FAKE_NVML_NO_INSTANT    set: no power of the moment, only nvmlDeviceGetPowerUsage
 *   FAKE_NVML_NO_POWER      set: no power of either kind
 *   FAKE_NVML_POWER_FACTOR  what both kinds of power show for one watt, default 1
 *   FAKE_NVML_INIT_ERROR    code that nvmlInit returns, such as 9, driver not loaded
 *   FAKE_NVML_READ_ERROR    code that every reading returns, such as 4, no permission
 *   FAKE_NVML_FAIL_AFTER    seconds after nvmlInit from which every reading says that the GPU is lost
 *   FAKE_NVML_BUSY          use of the first GPU in percent, default 60; each further one is 20 busier
 *   FAKE_NVML_MIG           set: MIG is on; each GPU has a slice whose UUID starts with MIG-, and its use is not supported
 *   FAKE_NVML_THROTTLE      bits of the clock event reasons, default 1, idle
 *   FAKE_NVML_OTHERS        processes on each GPU beside this one, default 0
 *   FAKE_NVML_RESET_AFTER   seconds after nvmlInit at which the energy counter starts again from zero
 * Compiled with -DOLD_DRIVER it lacks the functions that old drivers lack. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef int nvmlReturn_t;
typedef void *nvmlDevice_t;
enum { OK = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };
enum { POWER_INSTANT = 186, SLICES = 100 };

static const double USED_BEFORE_J = 5e6; /* what the counter shows at nvmlInit, as on a machine that has been up */
static const double SPIKE_PERIOD_S = 0.4, SPIKE_S = 0.05;
double fake_nvml_born; /* CLOCK_MONOTONIC at nvmlInit in seconds, for tests to read */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double number(const char *name, double fallback) {
    const char *text = getenv(name);
    return text ? atof(text) : fallback;
}

static int gpus(void) { return (int)number("FAKE_NVML_GPUS", 1); }
static int is_slice(nvmlDevice_t device) { return (intptr_t)device > SLICES; }
static unsigned index_of(nvmlDevice_t device) { return (unsigned)((intptr_t)device - 1) % SLICES; }
static nvmlDevice_t device_at(int index) { return (nvmlDevice_t)(intptr_t)(index + 1); }

/* seconds until `age` in which something was on that is on in the first `on` of each `period` */
static double seconds_on(double age, double period, double on) {
    double whole = (long long)(age / period), rest = age - whole * period;
    return whole * on + (rest < on ? rest : on);
}
static int is_on(double age, double period, double on) { return age - (long long)(age / period) * period < on; }

static double watts(double age) {
    double period = number("FAKE_NVML_SQUARE_S", 0);
    double base = period <= 0 || is_on(age, period, period / 2) ? number("FAKE_NVML_W", 100) : 0;
    return base + number("FAKE_NVML_RAMP", 0) * age + is_on(age, SPIKE_PERIOD_S, SPIKE_S) * number("FAKE_NVML_SPIKE_W", 0);
}
double fake_nvml_joules(double age) { /* used until then, for tests to compare with */
    double period = number("FAKE_NVML_SQUARE_S", 0);
    double on = period <= 0 ? age : seconds_on(age, period, period / 2);
    double spikes = seconds_on(age, SPIKE_PERIOD_S, SPIKE_S) * number("FAKE_NVML_SPIKE_W", 0);
    return number("FAKE_NVML_W", 100) * on + number("FAKE_NVML_RAMP", 0) * age * age / 2 + spikes;
}

static nvmlReturn_t reading_state(void) {
    double after = number("FAKE_NVML_FAIL_AFTER", 0);
    if (after > 0 && now() - fake_nvml_born > after) return GPU_IS_LOST;
    return (nvmlReturn_t)number("FAKE_NVML_READ_ERROR", OK);
}

nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (!fake_nvml_born) fake_nvml_born = now();
    return (nvmlReturn_t)number("FAKE_NVML_INIT_ERROR", OK);
}
nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
nvmlReturn_t nvmlShutdown(void) { return OK; }
nvmlReturn_t nvmlSystemGetDriverVersion(char *text, unsigned n) { snprintf(text, n, "000.00"); return OK; }
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *n) { *n = gpus(); return OK; }

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    if ((int)index >= gpus()) return INVALID_ARGUMENT;
    *device = device_at(index);
    return OK;
}
nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index) { *index = index_of(device); return OK; }
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *text, unsigned n) { (void)device; snprintf(text, n, "FakeGPU 9000"); return OK; }
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *text, unsigned n) {
    snprintf(text, n, "%s-0000-0000-0000-00000000000%u", is_slice(device) ? "MIG-fake1111" : "GPU-fake0000", index_of(device));
    return OK;
}
nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, unsigned *architecture) { (void)device; *architecture = 9; return OK; }
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    for (int i = 0; i < gpus(); i++) {
        nvmlDevice_t candidates[] = {device_at(i), device_at(i + SLICES)};
        for (int j = 0; j <= (getenv("FAKE_NVML_MIG") != NULL); j++) {
            char text[96];
            nvmlDeviceGetUUID(candidates[j], text, sizeof text);
            if (!strcmp(text, uuid)) { *device = candidates[j]; return OK; }
        }
    }
    return NOT_FOUND;
}

#ifndef OLD_DRIVER
nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned *is) { *is = is_slice(device); return OK; }
nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t slice, nvmlDevice_t *device) { *device = device_at(index_of(slice)); return OK; }
nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending) {
    (void)device;
    *current = *pending = getenv("FAKE_NVML_MIG") != NULL;
    return OK;
}

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *millijoules) {
    if (is_slice(device)) return NOT_SUPPORTED;
    if (reading_state() != OK) return reading_state();
    if (getenv("FAKE_NVML_NO_COUNTER")) return NOT_SUPPORTED;
    double tick = number("FAKE_NVML_TICK_MS", 100) / 1000, reset = number("FAKE_NVML_RESET_AFTER", 0);
    double age = (long long)((now() - fake_nvml_born) / tick) * tick - number("FAKE_NVML_LATE_MS", 0) / 1000;
    if (age < 0) age = 0;
    double used = fake_nvml_joules(age);
    double shown = reset > 0 && age >= reset ? used - fake_nvml_joules(reset) : USED_BEFORE_J + used;
    *millijoules = (unsigned long long)(shown * 1000);
    return OK;
}

struct field_value {
    unsigned field, scope;
    long long timestamp, latency_us;
    int type;
    nvmlReturn_t result;
    union { double d; unsigned u; unsigned long long ull; } value;
};
nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, struct field_value *fields) {
    (void)device;
    if (reading_state() != OK) return reading_state();
    for (int i = 0; i < count; i++) {
        int known = fields[i].field == POWER_INSTANT && !getenv("FAKE_NVML_NO_INSTANT") && !getenv("FAKE_NVML_NO_POWER");
        fields[i].result = known ? OK : NOT_SUPPORTED;
        fields[i].value.u = (unsigned)(watts(now() - fake_nvml_born) * 1000 * number("FAKE_NVML_POWER_FACTOR", 1));
    }
    return OK;
}
nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons) {
    (void)device;
    *reasons = (unsigned long long)number("FAKE_NVML_THROTTLE", 1);
    return reading_state();
}
struct process { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; };
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count, struct process *processes) {
    (void)device;
    unsigned running = 1 + (unsigned)number("FAKE_NVML_OTHERS", 0);
    if (reading_state() != OK) return reading_state();
    if (*count < running) { *count = running; return INSUFFICIENT_SIZE; }
    *count = running;
    for (unsigned i = 0; i < running; i++) processes[i] = (struct process){i ? 4000000 + i : (unsigned)getpid(), 1 << 20, 0, 0};
    return OK;
}
#endif

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *milliwatts) {
    (void)device;
    if (reading_state() != OK) return reading_state();
    if (getenv("FAKE_NVML_NO_POWER")) return NOT_SUPPORTED;
    *milliwatts = (unsigned)(watts(now() - fake_nvml_born) * 1000 * number("FAKE_NVML_POWER_FACTOR", 1));
    return OK;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, struct { unsigned gpu, memory; } *rates) {
    if (reading_state() != OK) return reading_state();
    if (getenv("FAKE_NVML_MIG")) return NOT_SUPPORTED;
    rates->gpu = (unsigned)number("FAKE_NVML_BUSY", 60) + 20 * index_of(device);
    rates->memory = 1;
    return OK;
}
/* 16 GiB each, of which the first uses 4, the second 8 */
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, struct { unsigned long long total, free, used; } *memory) {
    if (reading_state() != OK) return reading_state();
    memory->total = 16ULL << 30;
    memory->used = (4ULL << 30) * (index_of(device) + 1);
    memory->free = memory->total - memory->used;
    return OK;
}
nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned *celsius) {
    (void)sensor;
    *celsius = 55 + 5 * index_of(device);
    return reading_state();
}
nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, int clock, unsigned *mhz) {
    (void)clock;
    *mhz = 1500 - 100 * index_of(device);
    return reading_state();
}
/* what other tools ask for */
nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned *milliwatts) { (void)device; *milliwatts = 400000; return OK; }
nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, int *mode) { (void)device; *mode = 0; return OK; }
nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned *count, void *processes) { (void)device; (void)processes; *count = 0; return OK; }

nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *reasons) {
    (void)device;
    *reasons = (unsigned long long)number("FAKE_NVML_THROTTLE", 1);
    return reading_state();
}

const char *nvmlErrorString(nvmlReturn_t code) { (void)code; return "fake error"; }
