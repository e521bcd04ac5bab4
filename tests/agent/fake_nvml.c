/*
 * A stand-in for libnvidia-ml.so.1: the functions that the agent calls, with NVML's own structures and codes.
 *
 * What it answers stands in the text file that $FAKE_NVML names, read anew at each call: one `key value` a line,
 * keys of a GPU begin with its index (`0.power 250000`). Values are in the units of NVML. In place of a value:
 *
 *     !15      the call fails with this code
 *     hang     the call never returns
 *     crash    the call ends the process with SIGSEGV
 *
 * A key that is not there answers NOT_SUPPORTED. `0.lost 15` fails every call for GPU 0. The MIG instances of GPU 0
 * are 100, 101, …, those of GPU 1 are 110, 111, …. Each call is noted in "$FAKE_NVML.calls".
 */
#include <assert.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, TIMEOUT = 10, ARGUMENT_VERSION_MISMATCH = 25
};
enum { TEMPERATURE_GPU = 0, CLOCK_SM = 1, CLOCK_MEM = 2, FIELD_MEMORY_TEMP = 82 };
enum { VALUE_UNSIGNED_INT = 1, EVENT_XID = 8, MAX_GPUS = 8, FIRST_INSTANCE = 100, INSTANCES = 10 };

typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;
typedef union { double d; unsigned ui; unsigned long ul; unsigned long long ull; long long sll; } Value;
typedef struct {
    unsigned id, scope;
    long long timestamp, latency;
    unsigned type;
    int code;
    Value value;
} FieldValue;
typedef struct { void *device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } Event;
typedef struct { char legacy[16]; unsigned domain, bus, device, device_id, subsystem_id; char bus_id[32]; } Pci;
typedef struct { unsigned version, sensor; int degrees; } Temperature;

static_assert(sizeof(Memory2) == 0x28, "nvmlMemory_v2_t");
static_assert(sizeof(Process) == 24, "nvmlProcessInfo_v2_t");
static_assert(sizeof(FieldValue) == 40, "nvmlFieldValue_t");
static_assert(sizeof(Event) == 32, "nvmlEventData_t");
static_assert(sizeof(Pci) == 68, "nvmlPciInfo_t");
static_assert(sizeof(Temperature) == 12, "nvmlTemperature_v1_t");

static int initialized;
static unsigned long long told_xid[MAX_GPUS];

static void note(const char *function, int gpu) {
    char path[4096];
    snprintf(path, sizeof path, "%s.calls", getenv("FAKE_NVML"));
    FILE *file = fopen(path, "a");
    if (file == NULL) abort();
    if (gpu < 0) fprintf(file, "%s\n", function);
    else fprintf(file, "%s %d\n", function, gpu);
    fclose(file);
}

/* Finds the text after a key; 0 where there is none. */
static int look_up(const char *key, char text[1024]) {
    char line[2048];
    size_t length = strlen(key);
    int found = 0;
    FILE *file = fopen(getenv("FAKE_NVML"), "r");
    if (file == NULL) abort();
    while (!found && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, length) == 0 && line[length] == ' ') {
            line[strcspn(line, "\n")] = 0;
            snprintf(text, 1024, "%.1023s", line + length + 1);
            found = 1;
        }
    }
    fclose(file);
    return found;
}

static int obey(const char *text) {
    if (strcmp(text, "hang") == 0) for (;;) pause();
    if (strcmp(text, "crash") == 0) raise(SIGSEGV);
    return text[0] == '!' ? atoi(text + 1) : SUCCESS;
}

static int ask(const char *function, const char *key, char text[1024]) {
    note(function, -1);
    if (!look_up(key, text)) return initialized ? NOT_SUPPORTED : UNINITIALIZED;
    int code = obey(text);
    return code != SUCCESS || initialized ? code : UNINITIALIZED;
}

static int index_of(void *device) { return (int)((uintptr_t)device / 16) - 1; }

static void *device_of(int index) { return (void *)(uintptr_t)(16 * (index + 1)); }

static int ask_gpu(const char *function, void *device, const char *name, char text[1024]) {
    char key[64], lost[1024];
    int gpu = index_of(device);
    note(function, gpu);
    if (!initialized) return UNINITIALIZED;
    snprintf(key, sizeof key, "%d.lost", gpu);
    if (look_up(key, lost)) return atoi(lost);
    snprintf(key, sizeof key, "%d.%s", gpu, name);
    return look_up(key, text) ? obey(text) : NOT_SUPPORTED;
}

static int give_unsigned(const char *function, void *device, const char *name, unsigned *value) {
    char text[1024];
    int code = ask_gpu(function, device, name, text);
    if (code == SUCCESS) *value = (unsigned)strtoul(text, NULL, 0);
    return code;
}

static int give_long(const char *function, void *device, const char *name, unsigned long long *value) {
    char text[1024];
    int code = ask_gpu(function, device, name, text);
    if (code == SUCCESS) *value = strtoull(text, NULL, 0);
    return code;
}

static int give_text(int code, const char *text, char *out, unsigned size) {
    if (code != SUCCESS) return code;
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
    char text[1024];
    if (flags != 0) return INVALID_ARGUMENT;
    note(__func__, -1);
    int code = look_up("init", text) ? obey(text) : SUCCESS;
    if (code == SUCCESS) initialized = 1;
    return code;
}

int nvmlShutdown(void) {
    note(__func__, -1);
    initialized = 0;
    return SUCCESS;
}

const char *nvmlErrorString(int code) { return code == SUCCESS ? "Success" : "an error of the stand-in"; }

int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    char text[1024];
    int code = ask(__func__, "driver", text);
    return give_text(code, text, out, size);
}

int nvmlSystemGetNVMLVersion(char *out, unsigned size) {
    char text[1024];
    int code = ask(__func__, "nvml", text);
    return give_text(code, text, out, size);
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    char text[1024];
    int code = ask(__func__, "cuda", text);
    if (code == SUCCESS) *version = atoi(text);
    return code;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    char text[1024];
    int code = ask(__func__, "count", text);
    if (code == SUCCESS) *count = (unsigned)atoi(text);
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned gpu, void **device) {
    char key[64], text[1024];
    note(__func__, (int)gpu);
    if (!initialized) return UNINITIALIZED;
    if (gpu >= MAX_GPUS) return INVALID_ARGUMENT;
    snprintf(key, sizeof key, "%u.handle", gpu);
    int code = look_up(key, text) ? obey(text) : SUCCESS;
    if (code == SUCCESS) *device = device_of((int)gpu);
    return code;
}

/* `0.pci 00000000:01:00.0`; asked for with a domain of any length. */
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device) {
    char key[64], text[1024];
    if (!initialized) return UNINITIALIZED;
    for (int gpu = 0; gpu < MAX_GPUS; gpu++) {
        snprintf(key, sizeof key, "%d.pci", gpu);
        if (!look_up(key, text) || strcasecmp(text + strlen(text) - strlen(bus_id), bus_id) != 0) continue;
        note(__func__, gpu);
        *device = device_of(gpu);
        return SUCCESS;
    }
    note(__func__, -1);
    return NOT_FOUND;
}

int nvmlDeviceGetIndex(void *device, unsigned *index) {
    note(__func__, index_of(device));
    *index = (unsigned)index_of(device);
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(void *device, Pci *pci) {
    char text[1024];
    int code = ask_gpu(__func__, device, "pci", text);
    return give_text(code, text, pci->bus_id, sizeof pci->bus_id);
}

int nvmlDeviceGetName(void *device, char *out, unsigned size) {
    char text[1024];
    int code = ask_gpu(__func__, device, "name", text);
    return give_text(code, text, out, size);
}

int nvmlDeviceGetUUID(void *device, char *out, unsigned size) {
    char text[1024];
    int code = ask_gpu(__func__, device, "uuid", text);
    return give_text(code, text, out, size);
}

/* `0.util GPU MEMORY`, percent */
int nvmlDeviceGetUtilizationRates(void *device, Utilization *rates) {
    char text[1024];
    int code = ask_gpu(__func__, device, "util", text);
    if (code == SUCCESS && sscanf(text, "%u %u", &rates->gpu, &rates->memory) != 2) abort();
    return code;
}

/* `0.memory TOTAL USED RESERVED`, bytes; without RESERVED only the first version of the call answers. */
int nvmlDeviceGetMemoryInfo_v2(void *device, Memory2 *memory) {
    char text[1024];
    unsigned long long total, used, reserved;
    if (memory->version != (sizeof(Memory2) | 2u << 24)) return ARGUMENT_VERSION_MISMATCH;
    int code = ask_gpu(__func__, device, "memory", text);
    if (code != SUCCESS) return code;
    if (sscanf(text, "%llu %llu %llu", &total, &used, &reserved) != 3) return ARGUMENT_VERSION_MISMATCH;
    memory->total = total, memory->used = used, memory->reserved = reserved;
    memory->free = total - used - reserved;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
    char text[1024];
    int code = ask_gpu(__func__, device, "memory", text);
    if (code != SUCCESS) return code;
    if (sscanf(text, "%llu %llu", &memory->total, &memory->used) != 2) abort();
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *degrees) {
    if (sensor != TEMPERATURE_GPU) return INVALID_ARGUMENT;
    return give_unsigned(__func__, device, "temp", degrees);
}

int nvmlDeviceGetTemperatureV(void *device, Temperature *temperature) {
    unsigned degrees;
    if (temperature->version != (sizeof *temperature | 1u << 24)) return ARGUMENT_VERSION_MISMATCH;
    if (temperature->sensor != TEMPERATURE_GPU) return INVALID_ARGUMENT;
    int code = give_unsigned(__func__, device, "tempV", &degrees);
    if (code == SUCCESS) temperature->degrees = (int)degrees;
    return code;
}

int nvmlDeviceGetTemperatureThreshold(void *device, int kind, unsigned *degrees) {
    const char *const names[] = {"shutdown", "slowdown", "memTempMax"};
    if (kind < 0 || kind > 2) return INVALID_ARGUMENT;
    return give_unsigned(__func__, device, names[kind], degrees);
}

int nvmlDeviceGetPersistenceMode(void *device, unsigned *mode) {
    return give_unsigned(__func__, device, "persistence", mode);
}

int nvmlDeviceGetPerformanceState(void *device, int *state) {
    return give_unsigned(__func__, device, "pstate", (unsigned *)state);
}

int nvmlDeviceGetCurrPcieLinkGeneration(void *device, unsigned *generation) {
    return give_unsigned(__func__, device, "linkGen", generation);
}

int nvmlDeviceGetMaxPcieLinkGeneration(void *device, unsigned *generation) {
    return give_unsigned(__func__, device, "linkGenMax", generation);
}

int nvmlDeviceGetCurrPcieLinkWidth(void *device, unsigned *width) {
    return give_unsigned(__func__, device, "linkWidth", width);
}

int nvmlDeviceGetMaxPcieLinkWidth(void *device, unsigned *width) {
    return give_unsigned(__func__, device, "linkWidthMax", width);
}

/* in KB/s */
int nvmlDeviceGetPcieThroughput(void *device, int counter, unsigned *rate) {
    if (counter != 0 && counter != 1) return INVALID_ARGUMENT;
    return give_unsigned(__func__, device, counter == 0 ? "pcieTx" : "pcieRx", rate);
}

/* `0.rows CORRECTABLE UNCORRECTABLE PENDING FAILURE` */
int nvmlDeviceGetRemappedRows(void *device, unsigned *corr, unsigned *uncorr, unsigned *pending, unsigned *failure) {
    char text[1024];
    int code = ask_gpu(__func__, device, "rows", text);
    if (code == SUCCESS && sscanf(text, "%u %u %u %u", corr, uncorr, pending, failure) != 4) abort();
    return code;
}

/* `0.mig CURRENT MAXIMUM`: whether it is divided, and into how many at most */
static int give_mig(const char *function, void *device, unsigned *current, unsigned *maximum) {
    char text[1024];
    int code = ask_gpu(function, device, "mig", text);
    if (code == SUCCESS && sscanf(text, "%u %u", current, maximum) != 2) abort();
    return code;
}

int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    unsigned maximum;
    int code = give_mig(__func__, device, current, &maximum);
    *pending = *current;
    return code;
}

int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) {
    unsigned current;
    return give_mig(__func__, device, &current, count);
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned place, void **instance) {
    char key[64], text[1024];
    int index = FIRST_INSTANCE + INSTANCES * index_of(device) + (int)place;
    note(__func__, index);
    snprintf(key, sizeof key, "%d.uuid", index);
    if (!look_up(key, text)) return NOT_FOUND;
    *instance = device_of(index);
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(void *device, unsigned *id) {
    return give_unsigned(__func__, device, "gi", id);
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    return give_unsigned(__func__, device, "power", milliwatts);
}

int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *milliwatts) {
    return give_unsigned(__func__, device, "limit", milliwatts);
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    return give_long(__func__, device, "energy", millijoules);
}

int nvmlDeviceGetClockInfo(void *device, int kind, unsigned *mhz) {
    if (kind != CLOCK_SM && kind != CLOCK_MEM) return INVALID_ARGUMENT;
    return give_unsigned(__func__, device, kind == CLOCK_SM ? "smClock" : "memClock", mhz);
}

int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *bits) {
    return give_long(__func__, device, "throttle", bits);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *bits) {
    return give_long(__func__, device, "throttle", bits);
}

int nvmlDeviceGetFanSpeed(void *device, unsigned *percent) {
    return give_unsigned(__func__, device, "fan", percent);
}

int nvmlDeviceGetTotalEccErrors(void *device, int error, int counter, unsigned long long *count) {
    if ((error != 0 && error != 1) || counter != 0) return INVALID_ARGUMENT;
    return give_long(__func__, device, error == 0 ? "eccCorrected" : "ecc", count);
}

int nvmlDeviceGetFieldValues(void *device, int count, FieldValue *values) {
    char text[1024];
    int code = ask_gpu(__func__, device, "memTemp", text);
    for (int i = 0; i < count; i++) {
        values[i].code = values[i].id == FIELD_MEMORY_TEMP ? code : NOT_SUPPORTED;
        values[i].type = VALUE_UNSIGNED_INT;
        if (values[i].code == SUCCESS) values[i].value.ui = (unsigned)atoi(text);
    }
    /* The call itself succeeds; each field has a code of its own. */
    return code == NOT_SUPPORTED ? SUCCESS : code;
}

/* `0.compute PID:BYTES PID:BYTES …`; `-` for no process, BYTES `-` where the memory is not known. */
static int give_processes(const char *function, void *device, const char *name, unsigned *count, Process *out) {
    char text[1024], *rest = text, *word;
    unsigned found = 0;
    int code = ask_gpu(function, device, name, text);
    if (code != SUCCESS) return code;
    for (char *c = text; *c != 0; c++) found += *c == ':';
    if (found > *count) {
        *count = found;
        return INSUFFICIENT_SIZE;
    }
    *count = found;
    while (found > 0 && (word = strsep(&rest, " ")) != NULL) {
        char *used = strchr(word, ':') + 1;
        out->pid = (unsigned)atoi(word);
        out->used = *used == '-' ? ~0ull : strtoull(used, NULL, 0);
        out->gpu_instance = out->compute_instance = ~0u;
        out++;
    }
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, Process *processes) {
    return give_processes(__func__, device, "compute", count, processes);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, Process *processes) {
    return give_processes(__func__, device, "graphics", count, processes);
}

int nvmlEventSetCreate(void **set) {
    *set = &told_xid;
    return initialized ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set) {
    char text[1024];
    if (types != EVENT_XID || set != (void *)&told_xid) return INVALID_ARGUMENT;
    return ask_gpu(__func__, device, "xid", text);
}

/* `0.xid NUMBER`: told once each time it changes; 0 for none. */
int nvmlEventSetWait_v2(void *set, Event *event, unsigned timeout) {
    char key[64], text[1024];
    if (set != (void *)&told_xid || timeout != 0) return INVALID_ARGUMENT;
    for (int gpu = 0; gpu < MAX_GPUS; gpu++) {
        snprintf(key, sizeof key, "%d.xid", gpu);
        if (!look_up(key, text)) continue;
        unsigned long long xid = strtoull(text, NULL, 0);
        if (xid == told_xid[gpu]) continue;
        told_xid[gpu] = xid;
        memset(event, 0, sizeof *event);
        event->device = device_of(gpu);
        event->type = EVENT_XID;
        event->data = xid;
        return SUCCESS;
    }
    return TIMEOUT;
}
