/* demo-data OUT: the demo's OOD images, made of what the distribution's packages hold.
 *
 *   OUT/glyphs/FONT/CODE.png      letters and digits, 28 x 28, white on black (fonts-dejavu-core,
 *                                 fonts-liberation; rendered with FreeType)
 *   OUT/icons/FOLDER/NAME.png     icons on black (tango-icon-theme)
 *   OUT/textures/KIND/NAME-N.png  patches of photographed and painted textures (gimp-data)
 *
 * The same packages give the same files.  A set whose package is missing is an error that names it.
 */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <ft2build.h>
#include FT_FREETYPE_H
#include <png.h>

enum { GLYPH = 28, PIXELS = 22, PATCH = 48, PATCHES = 20, PATH = 1024 };

static int made; /* files of the current set */

static bool make_folder(const char *path) {
    char part[PATH];
    snprintf(part, sizeof part, "%s", path);
    for (char *at = part + 1; *at; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        mkdir(part, 0777);
        *at = '/';
    }
    if (mkdir(part, 0777) == 0 || errno == EEXIST)
        return true;
    fprintf(stderr, "demo-data: %s: %s\n", path, strerror(errno));
    return false;
}

static bool write_png(const char *path, int width, int height, bool colour, const uint8_t *pixels) {
    png_image png = {.version = PNG_IMAGE_VERSION,
                     .width = (png_uint_32)width,
                     .height = (png_uint_32)height,
                     .format = colour ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY};
    if (!png_image_write_to_file(&png, path, 0, pixels, 0, NULL)) {
        fprintf(stderr, "demo-data: %s: %s\n", path, png.message);
        return false;
    }
    made++;
    return true;
}

/* Whether something is to be seen: one shade is no picture. */
static bool varied(const uint8_t *pixels, int count) {
    int lo = 255, hi = 0;
    for (int i = 0; i < count; i++) {
        lo = pixels[i] < lo ? pixels[i] : lo;
        hi = pixels[i] > hi ? pixels[i] : hi;
    }
    return hi - lo >= 32;
}

/* "a/b/Name.ext" -> "Name" */
static void stem(const char *path, char out[256]) {
    const char *slash = strrchr(path, '/');
    snprintf(out, 256, "%.255s", slash ? slash + 1 : path);
    char *dot = strrchr(out, '.');
    if (dot)
        *dot = '\0';
}

/* ---- glyphs ---- */

static const char *const font_folders[] = {"/usr/share/fonts/truetype/dejavu",
                                           "/usr/share/fonts/truetype/liberation",
                                           "/usr/share/fonts/truetype/liberation2"};
/* the fonts that every version of the two packages has */
static const char *const fonts[] = {"DejaVuSans",
                                    "DejaVuSans-Bold",
                                    "DejaVuSansMono",
                                    "DejaVuSansMono-Bold",
                                    "DejaVuSerif",
                                    "DejaVuSerif-Bold",
                                    "LiberationMono-Regular",
                                    "LiberationMono-Bold",
                                    "LiberationMono-Italic",
                                    "LiberationSans-Regular",
                                    "LiberationSans-Bold",
                                    "LiberationSans-Italic",
                                    "LiberationSerif-Regular",
                                    "LiberationSerif-Bold",
                                    "LiberationSerif-Italic"};

/* One glyph in the middle of the image; the parts that stand over are cut. */
static bool draw_glyph(FT_Face face, unsigned code, const char *folder) {
    uint8_t pixels[GLYPH * GLYPH] = {0};
    char path[PATH + 32];
    if (FT_Load_Char(face, code, FT_LOAD_RENDER | FT_LOAD_NO_HINTING) != 0)
        return true; /* a font without this letter */
    const FT_Bitmap *bitmap = &face->glyph->bitmap;
    int rows = (int)bitmap->rows, width = (int)bitmap->width;
    for (int y = 0; y < rows; y++) {
        for (int x = 0; x < width; x++) {
            int to_y = y + (GLYPH - rows) / 2, to_x = x + (GLYPH - width) / 2;
            if (to_y >= 0 && to_y < GLYPH && to_x >= 0 && to_x < GLYPH)
                pixels[to_y * GLYPH + to_x] = bitmap->buffer[y * bitmap->pitch + x];
        }
    }
    snprintf(path, sizeof path, "%s/%03u.png", folder, code);
    return write_png(path, GLYPH, GLYPH, false, pixels);
}

static bool draw_font(FT_Library library, const char *font, const char *out) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    char path[PATH], folder[PATH];
    FT_Face face = NULL;
    bool ok = true;
    for (size_t i = 0; !face && i < sizeof font_folders / sizeof *font_folders; i++) {
        snprintf(path, sizeof path, "%s/%s.ttf", font_folders[i], font);
        if (FT_New_Face(library, path, 0, &face) != 0)
            face = NULL;
    }
    if (!face)
        return true; /* counted in the end */
    snprintf(folder, sizeof folder, "%.700s/glyphs/%.200s", out, font);
    ok = FT_Set_Pixel_Sizes(face, 0, PIXELS) == 0 && make_folder(folder);
    for (const char *letter = letters; ok && *letter; letter++)
        ok = draw_glyph(face, (unsigned char)*letter, folder);
    FT_Done_Face(face);
    return ok;
}

static bool make_glyphs(const char *out) {
    FT_Library library;
    bool ok = true;
    if (FT_Init_FreeType(&library) != 0) {
        fprintf(stderr, "demo-data: FreeType does not start\n");
        return false;
    }
    for (size_t i = 0; ok && i < sizeof fonts / sizeof *fonts; i++)
        ok = draw_font(library, fonts[i], out);
    FT_Done_FreeType(library);
    return ok;
}

/* ---- folders ---- */

typedef bool take_fn(const char *path, const char *folder, const char *out);

static int visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static int by_bytes(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Calls take for each file below `path` that ends in `ending`, sorted; links are left out, since
 * themes give one picture several names. */
static bool walk(const char *path, const char *ending, take_fn *take, const char *out) {
    struct dirent **entries;
    bool ok = true;
    int count = scandir(path, &entries, visible, by_bytes);
    if (count < 0)
        return true; /* counted in the end */
    for (int i = 0; i < count; i++) {
        char inner[PATH], name[256];
        struct stat info;
        const char *dot = strrchr(entries[i]->d_name, '.');
        snprintf(inner, sizeof inner, "%.700s/%s", path, entries[i]->d_name);
        stem(path, name);
        if (ok && lstat(inner, &info) == 0) {
            if (S_ISDIR(info.st_mode))
                ok = walk(inner, ending, take, out);
            else if (S_ISREG(info.st_mode) && dot && strcmp(dot, ending) == 0)
                ok = take(inner, name, out);
        }
        free(entries[i]);
    }
    free(entries);
    return ok;
}

/* ---- icons ---- */

static bool take_icon(const char *path, const char *folder, const char *out) {
    static const png_color black = {0, 0, 0};
    png_image png = {.version = PNG_IMAGE_VERSION};
    char to[PATH + 300], name[256];
    if (!png_image_begin_read_from_file(&png, path))
        return true; /* a damaged icon is no loss */
    png.format = PNG_FORMAT_RGB;
    uint8_t *pixels = malloc(PNG_IMAGE_SIZE(png));
    bool ok = true;
    if (pixels && png_image_finish_read(&png, &black, pixels, 0, NULL) &&
        varied(pixels, (int)PNG_IMAGE_SIZE(png))) {
        snprintf(to, sizeof to, "%.700s/icons/%.200s", out, folder);
        stem(path, name);
        ok = make_folder(to);
        snprintf(to, sizeof to, "%.700s/icons/%.200s/%s.png", out, folder, name);
        ok = ok && write_png(to, (int)png.width, (int)png.height, true, pixels);
    }
    png_image_free(&png);
    free(pixels);
    return ok;
}

/* ---- textures: GIMP's .pat: header length, version 1, width, height, channels, "GPAT", name, then
 * the pixels; numbers big endian ---- */

static uint32_t big_endian(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static bool cut_patches(const uint8_t *pixels, int width, int height, int channels,
                        const char *to) {
    uint8_t patch[PATCH * PATCH * 3];
    char path[PATH + 320];
    uint32_t state = 12345; /* places by Lehmer's generator, the same for each pattern */
    for (int n = 0; n < PATCHES; n++) {
        state = (uint32_t)((uint64_t)state * 48271 % 2147483647);
        int left = (int)(state % (uint32_t)(width - PATCH + 1));
        state = (uint32_t)((uint64_t)state * 48271 % 2147483647);
        int top = (int)(state % (uint32_t)(height - PATCH + 1));
        for (int y = 0; y < PATCH; y++)
            for (int x = 0; x < PATCH; x++)
                for (int c = 0; c < 3; c++)
                    patch[(y * PATCH + x) * 3 + c] =
                        pixels[((size_t)(top + y) * (size_t)width + (size_t)(left + x)) *
                                   (size_t)channels +
                               (size_t)(channels >= 3 ? c : 0)];
        if (!varied(patch, PATCH * PATCH * 3))
            continue;
        snprintf(path, sizeof path, "%s-%02d.png", to, n);
        if (!write_png(path, PATCH, PATCH, true, patch))
            return false;
    }
    return true;
}

static bool take_pattern(const char *path, const char *folder, const char *out) {
    uint8_t header[24];
    char to[PATH], name[256];
    bool ok = true;
    FILE *file = fopen(path, "rb");
    if (!file)
        return true;
    uint8_t *pixels = NULL;
    if (fread(header, 1, sizeof header, file) == sizeof header &&
        memcmp(header + 20, "GPAT", 4) == 0) {
        uint32_t start = big_endian(header), width = big_endian(header + 8),
                 height = big_endian(header + 12), channels = big_endian(header + 16);
        bool usable = width >= PATCH && height >= PATCH && width < 8192 && height < 8192 &&
                      channels >= 1 && channels <= 4;
        size_t size = usable ? (size_t)width * height * channels : 0;
        pixels = usable ? malloc(size) : NULL;
        if (pixels && fseek(file, (long)start, SEEK_SET) == 0 &&
            fread(pixels, 1, size, file) == size) {
            snprintf(to, sizeof to, "%.700s/textures/%.200s", out, folder);
            stem(path, name);
            ok = make_folder(to);
            snprintf(to, sizeof to, "%.500s/textures/%.100s/%.200s", out, folder, name);
            ok = ok && cut_patches(pixels, (int)width, (int)height, (int)channels, to);
        }
    }
    free(pixels);
    fclose(file);
    return ok;
}

static bool make_textures(const char *out) {
    static const char *const folders[] = {"/usr/share/gimp/2.0/patterns",
                                          "/usr/share/gimp/3.0/patterns"};
    bool ok = true;
    for (size_t i = 0; ok && made == 0 && i < sizeof folders / sizeof *folders; i++)
        ok = walk(folders[i], ".pat", take_pattern, out);
    return ok;
}

static bool make_icons(const char *out) {
    return walk("/usr/share/icons/Tango/32x32", ".png", take_icon, out);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name, *packages;
        bool (*make)(const char *out);
    } sets[] = {{"glyphs", "fonts-dejavu-core and fonts-liberation", make_glyphs},
                {"icons", "tango-icon-theme", make_icons},
                {"textures", "gimp-data", make_textures}};
    if (argc != 2 || strlen(argv[1]) > 500) {
        fprintf(stderr, "usage: demo-data OUT\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        made = 0;
        if (!sets[i].make(argv[1]))
            return 1;
        if (made == 0) {
            fprintf(stderr, "demo-data: nothing found for %s: is the package %s installed?\n",
                    sets[i].name, sets[i].packages);
            return 1;
        }
        printf("%s: %d images\n", sets[i].name, made);
    }
    return 0;
}
