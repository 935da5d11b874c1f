/* Downloads from a server that cuts, lies, redirects and changes its mind; unpacking; whole sets. */
#include "data/make_sets.h"

#if defined NPI_HAVE_CURL && defined NPI_HAVE_NETTLE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>

#include "data/bad_server.h"
#include "data/checksum.h"
#include "data/download.h"
#include "data/unpack.h"
#include "npos/npos.h"

enum { FILE_BYTES = 300000 };

static char folder[512], source[560];
static bad_server server;

/* md5 and sha256 of make_pattern(100, 1000, 3, 0), by md5sum and sha256sum */
static const char md5[] = "md5:1797f45b3d566729c04b57fbd8ed82f1",
                  sha256[] =
                      "sha256:9d80730145c724c02d4d6ea85643ea0f8c0adb49918611d4fd57b71f1e97544b";

static int setup(void **state) {
    (void)state;
    npi_image pattern = make_pattern(100, 1000, 3, 0);
    snprintf(folder, sizeof folder, "%s", check_folder());
    snprintf(source, sizeof source, "%s/source", folder);
    CHECK_OK(npi_make_folders(source));
    CHECK_OK(npi_file_write(check_path(source, "data.bin"), pattern.pixels, FILE_BYTES));
    CHECK_OK(npi_file_write(check_path(source, "empty.bin"), "", 0));
    CHECK_OK(npi_file_write(check_path(source, "tiny.bin"), "abc", 3));
    npi_image_clear(&pattern);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    check_remove(folder);
    return 0;
}

/* Each test has its server and the folder OUT. */
static int start(void **state) {
    (void)state;
    CHECK_OK(npi_make_folders(check_path(folder, "out")));
    server_start(&server, source);
    return 0;
}

static int stop(void **state) {
    (void)state;
    server_end(&server);
    check_remove(check_path(folder, "out"));
    return 0;
}

static npos_status get(const char *kind, const char *name, int64_t bytes, const char *checksum) {
    char url[256], path[600];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/%s/%s", server.port, kind, name);
    snprintf(path, sizeof path, "%s/out/%s", folder, name);
    npi_download d = {.url = url,
                      .path = path,
                      .bytes = bytes,
                      .checksum = checksum,
                      .tries = 4,
                      .pause = 0.01,
                      .stall = 1};
    return npi_download_file(&d);
}

static bool out_has(const char *name) {
    char path[600];
    snprintf(path, sizeof path, "%s/out/%s", folder, name);
    return npi_is_file(path);
}

/* The finished file is the server's, and nothing else is left. */
static void check_whole(void) {
    char *want, *got, path[600];
    size_t size, wanted;
    snprintf(path, sizeof path, "%s/out/data.bin", folder);
    CHECK_OK(npi_file_read(path, &got, &size));
    CHECK_OK(npi_file_read(check_path(source, "data.bin"), &want, &wanted));
    assert_int_equal(size, wanted);
    assert_memory_equal(got, want, size);
    assert_false(out_has("data.bin.part"));
    assert_false(out_has("data.bin.part.tag"));
    npi_free(got);
    npi_free(want);
    unlink(path);
}

static void files_come_whole(void **state) {
    (void)state;
    static const char *const kinds[] = {"good", "plain", "silent", "moved", "busy"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        server.requests = 0;
        CHECK_OK(get(kinds[i], "data.bin", FILE_BYTES, md5));
        check_whole();
        server.requests = 0;
        CHECK_OK(get(kinds[i], "data.bin", 0, NULL)); /* neither size nor checksum known */
        check_whole();
    }
    CHECK_OK(get("good", "data.bin", FILE_BYTES, sha256));
    check_whole();
    CHECK_OK(get("good", "empty.bin", 0, NULL));
    assert_true(out_has("empty.bin"));
    assert_false(out_has("empty.bin.part"));
}

static void cuts_are_joined(void **state) {
    (void)state;
    CHECK_OK(get("cut", "data.bin", FILE_BYTES, md5));
    assert_true(server.requests > 10); /* half of the rest each time */
    assert_int_equal(server.ranges, server.requests - 1);
    check_whole();
    CHECK_OK(get("cut", "data.bin", 0, NULL));
    check_whole();
    CHECK_OK(get("stalls", "tiny.bin", 3, NULL)); /* two bytes and silence, then the third */
    assert_true(out_has("tiny.bin"));
}

/* What came before is used, and used rightly. */
static void downloads_go_on(void **state) {
    (void)state;
    char part[600], *bytes;
    size_t size;
    CHECK_OK(npi_file_read(check_path(source, "data.bin"), &bytes, &size));
    snprintf(part, sizeof part, "%s/out/data.bin.part", folder);
    CHECK_OK(npi_file_write(part, bytes, 200000)); /* right: the rest is asked for */
    CHECK_OK(get("good", "data.bin", FILE_BYTES, md5));
    assert_int_equal(server.ranges, 1);
    assert_int_equal(server.requests, 1);
    check_whole();
    CHECK_OK(npi_file_write(part, bytes, FILE_BYTES)); /* all of it: nothing is asked for */
    CHECK_OK(get("good", "data.bin", FILE_BYTES, md5));
    assert_int_equal(server.requests, 1);
    check_whole();
    bytes[5] ^= 1; /* wrong: found by the checksum, all is got again */
    CHECK_OK(npi_file_write(part, bytes, 200000));
    CHECK_OK(get("good", "data.bin", FILE_BYTES, md5));
    assert_int_equal(server.requests, 3);
    check_whole();
    CHECK_OK(npi_file_write(part, bytes, 200000)); /* without a checksum it is not trusted */
    CHECK_OK(get("good", "data.bin", 0, NULL));
    assert_int_equal(server.requests, 4);
    assert_int_equal(server.ranges, 2);
    check_whole();
    CHECK_OK(npi_file_write(part, bytes, FILE_BYTES)); /* longer than it should be */
    CHECK_FAILS(get("good", "data.bin", 1000, NULL), NPOS_BAD_DATA,
                "has 300000 bytes, expected 1000");
    CHECK_OK(npi_file_write(part, bytes, FILE_BYTES)); /* and by the server's word */
    char tag[620];
    snprintf(tag, sizeof tag, "%s.tag", part);
    CHECK_OK(npi_file_write(tag, "\"v1\"", 4));
    CHECK_OK(get("good", "data.bin", 0, NULL));
    check_whole();
    npi_free(bytes);
}

static void versions_are_not_joined(void **state) {
    (void)state;
    /* each request is of a new version and cut: no two answers may be joined, so that it never ends well */
    CHECK_FAILS(get("changed", "data.bin", 0, NULL), NPOS_IO, "/changed/data.bin");
    assert_false(out_has("data.bin"));
    assert_int_equal(server.requests, 4); /* three that got no farther than the first */
    char part[600], *bytes;
    size_t size;
    snprintf(part, sizeof part, "%s/out/data.bin.part", folder);
    CHECK_OK(npi_file_read(part, &bytes, &size));
    assert_int_equal(size, FILE_BYTES / 2);
    npi_free(bytes);
}

static void liars_are_found(void **state) {
    (void)state;
    CHECK_FAILS(get("wrong", "data.bin", FILE_BYTES, md5), NPOS_BAD_DATA, "expected 1797f45b");
    assert_int_equal(server.requests, 2);
    assert_non_null(strstr(npos_error_hint(), "twice"));
    server.requests = 0;
    CHECK_OK(get("wrongonce", "data.bin", FILE_BYTES, md5));
    check_whole();
    CHECK_FAILS(get("long", "data.bin", FILE_BYTES, md5), NPOS_BAD_DATA,
                "has 300010 bytes, expected 300000");
    CHECK_FAILS(get("short", "data.bin", FILE_BYTES, md5), NPOS_BAD_DATA,
                "has 299990 bytes, expected 300000");
    CHECK_FAILS(get("long", "data.bin", 0, md5), NPOS_BAD_DATA, "expected 1797f45b");
    CHECK_FAILS(get("silent", "data.bin", 299999, NULL), NPOS_BAD_DATA,
                "more than the expected 299999");
    /* /hang never says how long the file is: only the known size shows that it is cut */
    CHECK_OK(get("hang", "data.bin", FILE_BYTES, md5));
    check_whole();
    CHECK_FAILS(get("good", "data.bin", FILE_BYTES, "crc:1"), NPOS_INVALID_ARGUMENT,
                "md5:... or sha256");
    assert_false(out_has("data.bin"));
}

static void refusals(void **state) {
    (void)state;
    CHECK_FAILS(get("good", "nothing.bin", 0, NULL), NPOS_NOT_FOUND, "answers 404");
    CHECK_FAILS(get("unknown", "data.bin", 0, NULL), NPOS_NOT_FOUND, "answers 404");
    assert_int_equal(server.requests, 2); /* 404 is not tried again */
    CHECK_FAILS(get("round", "data.bin", 0, NULL), NPOS_IO, "redirect");
    CHECK_FAILS(get("file", "data.bin", 0, NULL), NPOS_IO, "file");
    /* cut at the same place, without ranges: it gives up */
    server.requests = 0;
    CHECK_FAILS(get("plaincut", "data.bin", FILE_BYTES, md5), NPOS_IO, "at byte 150000");
    assert_int_equal(server.requests, 4);
    assert_true(out_has("data.bin.part"));
    /* a range that was not asked for starts anew and gives up in the end */
    CHECK_FAILS(get("elsewhere", "data.bin", FILE_BYTES + 1, md5), NPOS_BAD_DATA,
                "has 300000 bytes");
    CHECK_FAILS(get("good", "data.bin", (int64_t)1 << 60, md5), NPOS_BAD_DATA, "has 300000 bytes");
    assert_false(out_has("data.bin"));
    bad_server held = server;
    server.port = 1; /* nobody listens */
    CHECK_FAILS(get("good", "data.bin", 0, NULL), NPOS_IO, "127.0.0.1:1");
    server.port = held.port;
    CHECK_FAILS(npi_check_room(folder, (int64_t)1 << 60, "a giant"), NPOS_IO, "a giant needs");
    CHECK_FAILS(npi_check_room("not/there/at/all", (int64_t)1 << 60, "a giant"), NPOS_IO,
                "a giant needs");
    /* below a file there is no disk; of a path from the root the root's disk is asked, not /proc's,
     * which never has room */
    CHECK_FAILS(npi_check_room(check_path(source, "data.bin/below"), 1, "a byte"), NPOS_IO,
                "cannot ask");
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(chdir("/proc/self"), 0);
    npos_status status = npi_check_room("/not-there/at/all", 1, "a byte"),
                nothing = npi_check_room("not/there", 1, "a byte");
    assert_int_equal(fchdir(here), 0);
    close(here);
    CHECK_OK(status);
    assert_int_equal(nothing, NPOS_IO);
}

/* One that finds the part locked leaves it as it is. */
static void two_do_not_share_a_part(void **state) {
    (void)state;
    char part[600];
    snprintf(part, sizeof part, "%s/out/data.bin.part", folder);
    CHECK_OK(npi_file_write(part, "begun", 5));
    int other = open(part, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(other, LOCK_EX), 0);
    CHECK_FAILS(get("good", "data.bin", FILE_BYTES, md5), NPOS_IO, "another process");
    assert_int_equal(server.requests, 0);
    assert_true(out_has("data.bin.part"));
    close(other);
    CHECK_OK(get("good", "data.bin", FILE_BYTES, md5));
    check_whole();
}

static void another_range_is_not_used(void **state) {
    (void)state;
    char part[600], *bytes;
    size_t size;
    CHECK_OK(npi_file_read(check_path(source, "data.bin"), &bytes, &size));
    snprintf(part, sizeof part, "%s/out/data.bin.part", folder);
    CHECK_OK(npi_file_write(part, bytes, 200000));
    CHECK_OK(get("elsewhere", "data.bin", FILE_BYTES, md5));
    check_whole();
    npi_free(bytes);
}

static npos_status stop_at_once(void *context, int64_t done, int64_t total) {
    (void)context, (void)total;
    return done > 0 ? npi_fail(NPOS_INTERRUPTED, "stopped") : NPOS_OK;
}

static void a_stopped_one_stays(void **state) {
    (void)state;
    char url[256], path[600];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/stalls/data.bin", server.port);
    snprintf(path, sizeof path, "%s/out/data.bin", folder);
    npi_download d = {.url = url, .path = path, .progress = stop_at_once};
    assert_int_equal(npi_download_file(&d), NPOS_INTERRUPTED);
    assert_true(out_has("data.bin.part"));
    assert_false(out_has("data.bin"));
}

/* A limit on the size of files stands for a full disk: what fits stays as the part, and nothing else. */
static void a_full_disk(void **state) {
    (void)state;
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){100000, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    npos_status status = get("good", "data.bin", FILE_BYTES, md5);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, NPOS_IO);
    assert_non_null(strstr(npos_error_message(), "data.bin.part: cannot write"));
    assert_int_equal(server.requests, 1); /* trying again would not help */
    CHECK_OK(get("good", "data.bin", FILE_BYTES, md5));
    check_whole();
}

/* ---- unpacking ---- */

static int entries_of(const char *path) {
    int count = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        count += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return count;
}

static void pack_link(struct archive *a, const char *name, const char *to) {
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFLNK);
    archive_entry_set_symlink(entry, to);
    assert_true(archive_write_header(a, entry) >= ARCHIVE_WARN);
    archive_entry_free(entry);
}

static void archives_unpack_whole_or_not(void **state) {
    (void)state;
    static const char *const kinds[] = {"tar", "tar.gz", "tar.xz", "zip"};
    char path[600], to[600];
    snprintf(to, sizeof to, "%s/out", folder);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        snprintf(path, sizeof path, "%s/a.%s", folder, kinds[i]);
        struct archive *a = pack_open(path, kinds[i]);
        pack_bytes(a, "./set/x/1.txt", "one", 3);
        pack_bytes(a, "set/y/2.txt", "two", 3);
        pack_bytes(a, "other/3.txt", "left out", 8);
        pack_close(a);
        CHECK_OK(npi_unpack(path, to, "set", NULL, NULL));
        char *text;
        size_t size;
        CHECK_OK(npi_file_read(check_path(to, "set/y/2.txt"), &text, &size));
        assert_string_equal(text, "two");
        npi_free(text);
        assert_int_equal(entries_of(to), 1);
        CHECK_FAILS(npi_unpack(path, to, "set", NULL, NULL), NPOS_IO, "is there already");
        check_remove(check_path(to, "set"));
        CHECK_FAILS(npi_unpack(path, to, "sets", NULL, NULL), NPOS_BAD_DATA,
                    "no files in a folder 'sets'");
        assert_int_equal(truncate(path, 40), 0);
        npos_status status = npi_unpack(path, to, "set", NULL, NULL);
        assert_true(status == NPOS_BAD_DATA);
        assert_int_equal(entries_of(to), 0);
        unlink(path);
    }
    static const struct {
        const char *name, *error;
    } bad[] = {{"set/../../out.txt", "leads out"},
               {"/set/a.txt", "absolute"},
               {"set/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s.txt", "nested deeper"}};
    snprintf(path, sizeof path, "%s/bad.tar", folder);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct archive *a = pack_open(path, "tar");
        pack_bytes(a, "set/first.txt", "one", 3);
        pack_bytes(a, bad[i].name, "bad", 3);
        pack_close(a);
        CHECK_FAILS(npi_unpack(path, to, "set", NULL, NULL), NPOS_BAD_DATA, bad[i].error);
        assert_int_equal(entries_of(to), 0);
    }
    struct archive *a = pack_open(path, "tar");
    pack_link(a, "set/link", "/etc");
    pack_bytes(a, "set/link/passwd", "bad", 3);
    pack_close(a);
    CHECK_FAILS(npi_unpack(path, to, "set", NULL, NULL), NPOS_BAD_DATA, "neither file nor folder");
    a = pack_open(path, "tar");
    pack_bytes(a, "set/1.txt", "one", 3);
    pack_bytes(a, "set/1.txt", "two", 3);
    pack_close(a);
    CHECK_FAILS(npi_unpack(path, to, "set", NULL, NULL), NPOS_BAD_DATA, "comes twice");
    assert_int_equal(entries_of(to), 0);
    assert_int_equal(npi_unpack("not/there.tar", to, "set", NULL, NULL), NPOS_IO);
    /* what a killed process of the same number left is not in the way */
    a = pack_open(path, "tar");
    pack_bytes(a, "set/1.txt", "one", 3);
    pack_close(a);
    snprintf(path, sizeof path, "%s/out/.set-%ld/set", folder, (long)getpid());
    CHECK_OK(npi_make_folders(path));
    CHECK_OK(npi_file_write(check_path(path, "1.txt"), "left", 4));
    snprintf(path, sizeof path, "%s/bad.tar", folder);
    CHECK_OK(npi_unpack(path, to, "set", NULL, NULL));
    assert_true(out_has("set/1.txt"));
}

/* A hidden folder of a process that is gone is removed; one of a process that still unpacks, and others, stay. */
static void what_a_killed_one_left_is_removed(void **state) {
    (void)state;
    char path[600], to[600], held[700];
    snprintf(to, sizeof to, "%s/out", folder);
    snprintf(path, sizeof path, "%s/a.tar", folder);
    struct archive *a = pack_open(path, "tar");
    pack_bytes(a, "set/1.txt", "one", 3);
    pack_close(a);
    const char *folders[] = {".set.npos-killed/set/deep", ".set.npos-locked/set", ".set-backup/set",
                             ".set.npos-longer-name/set"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        CHECK_OK(npi_make_folders(check_path(to, folders[i])));
        snprintf(held, sizeof held, "%s/%s/1.txt", to, folders[i]);
        CHECK_OK(npi_file_write(held, "left", 4));
    }
    snprintf(held, sizeof held, "%s/.set.npos-locked", to);
    int fd = open(held, O_RDONLY | O_DIRECTORY);
    assert_true(fd >= 0 && flock(fd, LOCK_EX) == 0);
    CHECK_OK(npi_unpack(path, to, "set", NULL, NULL));
    assert_true(out_has("set/1.txt"));
    assert_false(npi_is_folder(check_path(to, ".set.npos-killed")));
    for (size_t i = 1; i < sizeof folders / sizeof *folders; i++)
        assert_true(npi_is_folder(check_path(to, folders[i])));
    close(fd);
    assert_int_equal(entries_of(to), 4); /* none of its own */
}

static void bombs_are_refused(void **state) {
    (void)state;
    char path[600], to[600], *zeros;
    size_t size = (size_t)90 << 20;
    snprintf(to, sizeof to, "%s/out", folder);
    snprintf(path, sizeof path, "%s/bomb.tar.gz", folder);
    CHECK_OK(npi_alloc(&zeros, size, 1, "zeros"));
    struct archive *a = pack_open(path, "tar.gz");
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "set/%d.bin", i);
        pack_bytes(a, name, zeros, size);
    }
    pack_close(a);
    npi_free(zeros);
    CHECK_FAILS(npi_unpack(path, to, "set", NULL, NULL), NPOS_BAD_DATA, "more than 100 times");
    assert_int_equal(entries_of(to), 0);
    unlink(path);
}

/* ---- whole sets ---- */

static npos_status fetch(const char *kind, const char *root, const char *name, char **said) {
    char mirror[128];
    size_t size;
    npos_data_fetch_options options;
    npos_data_fetch_options_init(&options);
    snprintf(mirror, sizeof mirror, "http://127.0.0.1:%d/%s", server.port, kind);
    options.root = root;
    options.names = &name;
    options.name_count = 1;
    options.mirror = mirror;
    options.out = open_memstream(said, &size);
    npos_status status = npos_data_fetch(&options);
    fclose(options.out);
    return status;
}

/* SUN has neither a published size nor a checksum: the mirror's small archive passes for it. */
static void a_set_lies_where_it_is_looked_for(void **state) {
    (void)state;
    char root[600], path[600], *said;
    snprintf(root, sizeof root, "%s/out", folder);
    snprintf(path, sizeof path, "%s/SUN.tar.gz", source);
    struct archive *a = pack_open(path, "tar.gz");
    pack_png(a, "SUN/images/1.png", 8, 3, 10);
    pack_png(a, "SUN/images/2.png", 8, 3, 20);
    pack_close(a);
    CHECK_OK(fetch("moved", root, "sun", &said));
    assert_non_null(strstr(said, "ImageNet_OOD_dataset/SUN, 2 images"));
    free(said);
    assert_true(npi_is_file(check_path(root, "ImageNet_OOD_dataset/SUN/images/2.png")));
    assert_int_equal(entries_of(check_path(root, "ImageNet_OOD_dataset")), 1);
    /* two of 10,000 images: it is not touched, and not taken for whole */
    CHECK_FAILS(fetch("good", root, "sun", &said), NPOS_BAD_DATA, "has 2 images, expected 10000");
    free(said);
    CHECK_FAILS(fetch("good", root, "imagenet", &said), NPOS_UNSUPPORTED,
                "imagenet cannot be fetched");
    assert_non_null(strstr(npos_error_hint(), "ILSVRC2012_img_train.tar"));
    free(said);
    CHECK_FAILS(fetch("good", root, "openood-cifar10", &said), NPOS_UNSUPPORTED, "OpenOOD");
    free(said);
    CHECK_FAILS(fetch("good", root, "sunn", &said), NPOS_INVALID_ARGUMENT, "no set 'sunn'");
    free(said);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_come_whole, start, stop),
        cmocka_unit_test_setup_teardown(cuts_are_joined, start, stop),
        cmocka_unit_test_setup_teardown(downloads_go_on, start, stop),
        cmocka_unit_test_setup_teardown(versions_are_not_joined, start, stop),
        cmocka_unit_test_setup_teardown(liars_are_found, start, stop),
        cmocka_unit_test_setup_teardown(refusals, start, stop),
        cmocka_unit_test_setup_teardown(two_do_not_share_a_part, start, stop),
        cmocka_unit_test_setup_teardown(another_range_is_not_used, start, stop),
        cmocka_unit_test_setup_teardown(a_stopped_one_stays, start, stop),
        cmocka_unit_test_setup_teardown(a_full_disk, start, stop),
        cmocka_unit_test_setup_teardown(archives_unpack_whole_or_not, start, stop),
        cmocka_unit_test_setup_teardown(what_a_killed_one_left_is_removed, start, stop),
        cmocka_unit_test_setup_teardown(bombs_are_refused, start, stop),
        cmocka_unit_test_setup_teardown(a_set_lies_where_it_is_looked_for, start, stop),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

#else

int main(void) {
    return 77; /* this build cannot download */
}
#endif
