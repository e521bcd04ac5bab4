/*
 * A stand-in for libcuda.so.1: the functions of the driver API that the benchmark calls. One GPU, whose memory is
 * this process's own and whose kernels are done here, by the benchmark's own rules, the way that $FAKE_CUDA says:
 *
 *     none           there is no GPU
 *     full           other programs hold its memory
 *     bad memory     one byte of what was copied is another
 *     bad sums       one of the sums is another
 *     FUNCTION=CODE  this function fails with this code
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, NO_DEVICE = 100, CHAINS = 16, UNROLLED = 32, MIB = 1024 * 1024 };
enum { FILL = 1, COPY, MULTIPLY_ADD };

static int mode(const char *word) {
    const char *said = getenv("FAKE_CUDA");
    return said && !strcmp(said, word);
}

static int failing(const char *function) {
    const char *said = getenv("FAKE_CUDA");
    size_t length = strlen(function);
    return said && !strncmp(said, function, length) && said[length] == '=' ? atoi(said + length + 1) : SUCCESS;
}

#define FAILS_AS_TOLD do { int code = failing(__func__); if (code) return code; } while (0)

int cuInit(unsigned flags) { (void)flags; FAILS_AS_TOLD; return mode("none") ? NO_DEVICE : SUCCESS; }
int cuDriverGetVersion(int *version) { *version = 12040; return SUCCESS; }
int cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
int cuDeviceGet(int *device, int index) { *device = index; return SUCCESS; }
int cuDeviceGetName(char *name, int size, int device) { (void)device; snprintf(name, size, "Stand-in"); return SUCCESS; }
int cuDeviceGetUuid(char *uuid, int device) { (void)device; memset(uuid, 0x5a, 16); return SUCCESS; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    *value = attribute == 16 ? 2 : 0;
    return SUCCESS;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { (void)device; FAILS_AS_TOLD; *context = context; return SUCCESS; }
int cuDevicePrimaryCtxRelease(int device) { (void)device; return SUCCESS; }
int cuCtxSetCurrent(void *context) { (void)context; return SUCCESS; }
int cuCtxSynchronize(void) { return SUCCESS; }
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    *total = 1024UL * MIB;
    *free_bytes = (mode("full") ? 10UL : 200UL) * MIB;
    return SUCCESS;
}
int cuMemAlloc_v2(uint64_t *address, size_t size) {
    FAILS_AS_TOLD;
    *address = (uint64_t)(uintptr_t)malloc(size);
    return SUCCESS;
}
int cuMemFree_v2(uint64_t address) { free((void *)(uintptr_t)address); return SUCCESS; }
int cuMemsetD32_v2(uint64_t address, unsigned word, size_t count) {
    for (size_t i = 0; i < count; i++) ((uint32_t *)(uintptr_t)address)[i] = word;
    return SUCCESS;
}
int cuMemcpyDtoH_v2(void *target, uint64_t source, size_t size) {
    memcpy(target, (void *)(uintptr_t)source, size);
    return SUCCESS;
}

/* The benchmark asks for the compiler's complaints: options 5 and 6 are a buffer and its size. */
int cuModuleLoadDataEx(void **module, const char *ptx, unsigned count, int *options, void **values) {
    int code = failing(__func__);
    if (code && count == 2 && options[0] == 5 && options[1] == 6)
        snprintf(values[0], (size_t)(uintptr_t)values[1], "ptxas error: no such thing\nmore of it\n");
    *module = (void *)ptx;
    return code;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
    (void)module;
    *function = (void *)(uintptr_t)(!strcmp(name, "fill") ? FILL : !strcmp(name, "copy") ? COPY : MULTIPLY_ADD);
    return SUCCESS;
}
int cuModuleUnload(void *module) { (void)module; return SUCCESS; }

static void multiply_add(float *out, size_t threads, float factor, float term, unsigned rounds) {
    float sums[2 * CHAINS];
    for (int chain = 0; chain < 2 * CHAINS; chain++) {
        float value = 1.0f + chain;
        for (unsigned step = 0; step < rounds * UNROLLED; step++) value = fmaf(value, factor, term);
        sums[chain] = value;
    }
    for (size_t pair = 0; pair < threads / 2; pair++) memcpy(out + pair * 2 * CHAINS, sums, sizeof sums);
    if (mode("bad sums")) out[threads * CHAINS / 2] += 1e-5f;
}

int cuLaunchKernel(void *function, unsigned blocks, unsigned y, unsigned z, unsigned threads, unsigned v, unsigned w,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    (void)y, (void)z, (void)v, (void)w, (void)shared, (void)stream, (void)extra;
    FAILS_AS_TOLD;
    size_t total = (size_t)blocks * threads;
    unsigned char *first = *(unsigned char **)parameters[0];
    switch ((int)(uintptr_t)function) {
    case FILL:
        for (size_t i = 0; i < total; i++)
            ((uint32_t *)first)[i] = (uint32_t)i * 2654435761u ^ *(uint32_t *)parameters[1];
        return SUCCESS;
    case COPY:
        memcpy(*(void **)parameters[1], first, total * 16);
        if (mode("bad memory")) (*(unsigned char **)parameters[1])[total * 16 - 1] ^= 1;
        return SUCCESS;
    }
    multiply_add((float *)first, total, *(float *)parameters[1], *(float *)parameters[2], *(unsigned *)parameters[3]);
    return SUCCESS;
}

int cuEventCreate(void **event, unsigned flags) { (void)flags; *event = calloc(1, sizeof(struct timespec)); return SUCCESS; }
int cuEventDestroy_v2(void *event) { free(event); return SUCCESS; }
int cuEventRecord(void *event, void *stream) { (void)stream; return clock_gettime(CLOCK_MONOTONIC, event); }
int cuEventSynchronize(void *event) { (void)event; return SUCCESS; }
int cuEventElapsedTime(float *milliseconds, void *first, void *last) {
    struct timespec *a = first, *b = last;
    *milliseconds = (b->tv_sec - a->tv_sec) * 1e3f + (b->tv_nsec - a->tv_nsec) / 1e6f;
    return SUCCESS;
}
int cuGetErrorName(int code, const char **name) {
    *name = code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : NULL;
    return code == 2 ? SUCCESS : 1;
}
