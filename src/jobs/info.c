/* npos_info: version, devices, libraries and folders of this installation. */
#include <stdio.h>
#include <string.h>

#ifdef NPI_HAVE_ARCHIVE
#include <archive.h>
#endif
#ifdef NPI_HAVE_CURL
#include <curl/curl.h>
#endif
#ifdef NPI_HAVE_NETTLE
#include <nettle/version.h>
#endif
#ifdef NPI_HAVE_JPEG
#include <jconfig.h>
#endif
#ifdef NPI_HAVE_PNG
#include <png.h>
#endif
#ifdef NPI_HAVE_WEBP
#include <webp/decode.h>
#endif
#include <jansson.h>
#include <xxhash.h>
#include <yaml.h>
#include <zlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "devices/devices.h"
#include "jobs/options.h"
#include "jobs/recipe.h"
#include "npos/npos.h"
#include "tensor/device.h"

#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

void npos_info_options_init(npos_info_options *options) {
    *options = (npos_info_options){.struct_size = sizeof *options, .table = stdout};
}

static int set_text(json_t *object, const char *key, const char *text) {
    return json_object_set_new(object, key, text ? json_string(text) : json_null());
}

/* {"name", "available", then "description", "precision", "precisions" or "reason"} */
static json_t *device(const char *name) {
    json_t *row = json_object();
    npi_device *dev;
    set_text(row, "name", name);
    npos_status status = npi_device_open(name, NPI_PRECISION_AUTO, 0, &dev);
    json_object_set_new(row, "available", json_boolean(status == NPOS_OK));
    if (status != NPOS_OK) {
        set_text(row, "reason", npos_error_message());
        return row;
    }
    set_text(row, "description", dev->description);
    set_text(row, "precision", dev->compute == NPI_BF16 ? "bf16" : "fp32");
    npi_device_close(dev);
    json_t *precisions = json_pack("[s]", "fp32");
    if (npi_device_open(name, NPI_PRECISION_BF16, 0, &dev) == NPOS_OK) {
        json_array_append_new(precisions, json_string("bf16"));
        npi_device_close(dev);
    }
    json_object_set_new(row, "precisions", precisions);
    return row;
}

/* The optional ones are null in a build without them. */
static json_t *libraries(void) {
    json_t *object = json_object();
    char text[64];
    const char *archive = NULL, *curl = NULL, *jpeg = NULL, *nettle = NULL, *png = NULL,
               *webp = NULL;
#ifdef NPI_HAVE_ARCHIVE
    archive = archive_version_string(); /* "libarchive 3.6.2" */
    archive += strcspn(archive, "0123456789");
#endif
#ifdef NPI_HAVE_CURL
    curl = curl_version_info(CURLVERSION_NOW)->version;
#endif
#ifdef NPI_HAVE_NETTLE
    nettle = TEXT(NETTLE_VERSION_MAJOR) "." TEXT(NETTLE_VERSION_MINOR);
#endif
#ifdef NPI_HAVE_JPEG
    jpeg = TEXT(LIBJPEG_TURBO_VERSION);
#endif
#ifdef NPI_HAVE_PNG
    png = png_get_libpng_ver(NULL);
#endif
#ifdef NPI_HAVE_WEBP
    char webp_text[48];
    unsigned of_webp = (unsigned)WebPGetDecoderVersion();
    snprintf(webp_text, sizeof webp_text, "%u.%u.%u", of_webp >> 16, of_webp >> 8 & 255,
             of_webp & 255);
    webp = webp_text;
#endif
    set_text(object, "libarchive", archive);
    set_text(object, "libcurl", curl);
    set_text(object, "libjpeg-turbo", jpeg);
    set_text(object, "libpng", png);
    set_text(object, "nettle", nettle);
    set_text(object, "libwebp", webp);
    set_text(object, "libyaml", yaml_get_version_string());
    set_text(object, "jansson", JANSSON_VERSION);
    unsigned xxh = XXH_versionNumber();
    snprintf(text, sizeof text, "%u.%u.%u", xxh / 10000, xxh / 100 % 100, xxh % 100);
    set_text(object, "xxhash", text);
    set_text(object, "zlib", zlibVersion());
    return object;
}

static json_t *features(void) {
    json_t *list = json_array();
    json_array_append_new(list, json_string("openmp"));
    return list;
}

static json_t *describe(void) {
    json_t *info = json_object(), *devices = json_array();
    json_object_set_new(info, "schema", json_integer(1));
    set_text(info, "version", NPOS_VERSION);
    set_text(info, "compiler", COMPILER);
    json_object_set_new(info, "processors", json_integer(npi_cpu_count()));
    json_array_append_new(devices, device("cpu"));
    json_array_append_new(devices, device("cuda"));
    json_array_append_new(devices, device("reference"));
    json_object_set_new(info, "devices", devices);
    json_object_set_new(info, "features", features());
    json_object_set_new(info, "libraries", libraries());
    set_text(info, "recipes", npi_recipe_folder());
    return info;
}

static void print(const json_t *info, FILE *out) {
    size_t i;
    const char *key;
    json_t *row, *devices = json_object_get(info, "devices");
    fprintf(out, "npos        %s (compiler %s)\n", NPOS_VERSION, COMPILER);
    fprintf(out, "processors  %d\n", (int)json_integer_value(json_object_get(info, "processors")));
    fprintf(out, "recipes     %s\n\n", npi_recipe_folder());
    json_array_foreach(devices, i, row) {
        const char *reason = json_string_value(json_object_get(row, "reason"));
        fprintf(out, "%-12s", json_string_value(json_object_get(row, "name")));
        if (reason)
            fprintf(out, "not available: %s\n", reason);
        else
            fprintf(out, "%s; %s\n", json_string_value(json_object_get(row, "description")),
                    json_string_value(json_object_get(row, "precision")));
    }
    fputc('\n', out);
    json_object_foreach(json_object_get(info, "libraries"), key, row) fprintf(
        out, "%-14s%s\n", key, json_is_null(row) ? "not in this build" : json_string_value(row));
}

npos_status npos_info(const npos_info_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_info");
    npos_status status = NPOS_OK;
    json_t *info = describe();
    char *text = json_dumps(info, JSON_INDENT(2));
    if (!text)
        status = npi_fail(NPOS_OUT_OF_MEMORY, "info: no memory for the description");
    if (status == NPOS_OK && options->table)
        print(info, options->table);
    if (status == NPOS_OK && options->json) {
        char *lines;
        status = npi_format(&lines, "%s\n", text);
        if (status == NPOS_OK)
            status = npi_file_write(options->json, lines, strlen(lines));
        npi_free(lines);
    }
    free(text);
    json_decref(info);
    return status;
}
