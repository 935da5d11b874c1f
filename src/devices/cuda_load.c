#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/cuda_module.h"
#include "devices/devices.h"

static npos_status fail(npos_status status, const char *text) {
    return npi_fail(status, "%s", text);
}

static npos_status hint(npos_status status, const char *text) {
    return npi_hint(status, "%s", text);
}

static const npi_cuda_host host = {NPI_CUDA_MODULE_VERSION, fail, hint};

/* Where the module may lie: NPOS_CUDA_MODULE names the file; else beside the program, as in the build folder, or in
 * lib/npos of the folder the program was installed to. */
static void *load(char *tried, size_t bytes) {
    const char *named = getenv("NPOS_CUDA_MODULE");
    char folder[PATH_MAX], path[PATH_MAX + 64];
    ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
    folder[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = '\0';
    static const char *const places[] = {"", "/../lib/npos"};
    tried[0] = '\0';
    for (size_t i = 0; i < (named ? 1 : sizeof places / sizeof *places); i++) {
        if (named)
            snprintf(path, sizeof path, "%s", named);
        else
            snprintf(path, sizeof path, "%s%s/libnpos_cuda.so", folder, places[i]);
        void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (module)
            return module;
        /* a module that is there but does not load says more than one that is not there */
        if (!tried[0] || access(path, F_OK) == 0)
            snprintf(tried, bytes, "%s", dlerror());
    }
    return NULL;
}

npos_status npi_cuda_load(int ordinal, npi_precision precision, npi_device **out) {
    static npi_cuda_open_function *open; /* the module stays loaded */
    *out = NULL;
    if (!open) {
        char tried[1024];
        void *module = load(tried, sizeof tried);
        if (!module)
            return npi_hint(
                npi_fail(NPOS_UNSUPPORTED, "device 'cuda': the module does not load: %s", tried),
                "build with nvcc and cuDNN at hand, or name the module in NPOS_CUDA_MODULE; "
                "--device cpu "
                "needs neither");
        void *symbol = dlsym(module, NPI_CUDA_MODULE_SYMBOL);
        memcpy(&open, &symbol, sizeof open);
        if (!open) {
            dlclose(module);
            return npi_fail(NPOS_UNSUPPORTED,
                            "device 'cuda': the module has no '" NPI_CUDA_MODULE_SYMBOL "'");
        }
    }
    return open(&host, ordinal, precision, out);
}
