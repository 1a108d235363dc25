/* A stand-in for libnvidia-ml.so.1, loaded by the real Python bindings through LD_LIBRARY_PATH. Environment:
 *   FAKE_NVML_GPUS          devices, default 1; their UUIDs end in their index
 *   FAKE_NVML_W             power of each in watts, default 100
 *   FAKE_NVML_RAMP          growth of that power in watts per second since nvmlInit, default 0
 *   FAKE_NVML_SQUARE_S      period of a square wave: that power in the first half, only the growth in the second
 *   FAKE_NVML_TICK_MS       interval at which the energy counter moves, default 100
 *   FAKE_NVML_NO_COUNTER    set: no energy counter, power only
 *   FAKE_NVML_INIT_ERROR    code that nvmlInit returns, such as 9, driver not loaded
 *   FAKE_NVML_READ_ERROR    code that every reading returns, such as 4, no permission
 *   FAKE_NVML_FAIL_AFTER    seconds after nvmlInit from which every reading says that the GPU is lost
 *   FAKE_NVML_BUSY          use of the first GPU in percent, default 60; each further one is 20 busier
 *   FAKE_NVML_MIG           set: use of the GPU is not supported, as of a slice of one
 *   FAKE_NVML_RESET_AFTER   seconds after nvmlInit at which the energy counter starts again from zero */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int nvmlReturn_t;
typedef void *nvmlDevice_t;
enum { OK = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };

static const double USED_BEFORE_J = 5e6; /* what the counter shows at nvmlInit, as on a machine that has been up */
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
static unsigned index_of(nvmlDevice_t device) { return (unsigned)((intptr_t)device - 1); }
static nvmlDevice_t device_at(int index) { return (nvmlDevice_t)(intptr_t)(index + 1); }

/* seconds until `age` in which the square wave was on: all of them where there is none */
static double seconds_on(double age) {
    double period = number("FAKE_NVML_SQUARE_S", 0);
    if (period <= 0) return age;
    double whole = (long long)(age / period), rest = age - whole * period;
    return whole * period / 2 + (rest < period / 2 ? rest : period / 2);
}
static int is_on(double age) {
    double period = number("FAKE_NVML_SQUARE_S", 0);
    return period <= 0 || age - (long long)(age / period) * period < period / 2;
}
static double watts(double age) { return is_on(age) * number("FAKE_NVML_W", 100) + number("FAKE_NVML_RAMP", 0) * age; }
static double joules(double age) { return number("FAKE_NVML_W", 100) * seconds_on(age) + number("FAKE_NVML_RAMP", 0) * age * age / 2; }

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
    snprintf(text, n, "GPU-fake0000-0000-0000-0000-00000000000%u", index_of(device));
    return OK;
}
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    for (int i = 0; i < gpus(); i++) {
        char text[96];
        nvmlDeviceGetUUID(device_at(i), text, sizeof text);
        if (!strcmp(text, uuid)) { *device = device_at(i); return OK; }
    }
    return NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *millijoules) {
    (void)device;
    if (reading_state() != OK) return reading_state();
    if (getenv("FAKE_NVML_NO_COUNTER")) return NOT_SUPPORTED;
    double tick = number("FAKE_NVML_TICK_MS", 100) / 1000, reset = number("FAKE_NVML_RESET_AFTER", 0);
    double age = (long long)((now() - fake_nvml_born) / tick) * tick;
    double shown = reset > 0 && age >= reset ? joules(age) - joules(reset) : USED_BEFORE_J + joules(age);
    *millijoules = (unsigned long long)(shown * 1000);
    return OK;
}
nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *milliwatts) {
    (void)device;
    if (reading_state() != OK) return reading_state();
    *milliwatts = (unsigned)(watts(now() - fake_nvml_born) * 1000);
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

const char *nvmlErrorString(nvmlReturn_t code) { (void)code; return "fake error"; }
