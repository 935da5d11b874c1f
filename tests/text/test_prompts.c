/* Class lists, templates and prompts. */
#include "check.h"

#include "base/file.h"
#include "base/memory.h"
#include "text/prompts.h"
#include "text/tokenizer.h"

static void write_text(const char *path, const char *text) {
    CHECK_OK(npi_file_write(path, text, strlen(text)));
}

static void built_in_lists_are_imagenet(void **state) {
    (void)state;
    npi_class_list all, some;
    CHECK_OK(npi_class_list_open("imagenet-1k", &all));
    CHECK_OK(npi_class_list_open("imagenet-100", &some));
    assert_int_equal(all.count, 1000);
    assert_int_equal(some.count, 100);
    assert_string_equal(all.names[0], "tench");
    assert_string_equal(all.folders[0], "n01440764");
    assert_string_equal(all.names[657], "missile");
    assert_string_equal(all.names[744], "missile");
    assert_string_equal(all.folders[999], "n15075141");
    /* the first and the last of ImageNet-100 by index are 10 and 992 */
    assert_string_equal(some.folders[0], all.folders[10]);
    assert_string_equal(some.names[99], all.names[992]);
    int at = 0;
    for (int i = 0; i < 1000; i++) {
        assert_true(i == 0 || strcmp(all.folders[i - 1], all.folders[i]) < 0);
        if (at < 100 && strcmp(some.folders[at], all.folders[i]) == 0)
            assert_string_equal(some.names[at++], all.names[i]);
    }
    assert_int_equal(at, 100);
    npi_class_list_clear(&all);
    npi_class_list_clear(&some);
    for (const char *const *name = npi_class_lists(); *name; name++) {
        CHECK_OK(npi_class_list_open(*name, &all));
        npi_class_list_clear(&all);
    }
}

static void lists_are_read_from_files(void **state) {
    (void)state;
    char *folder = check_folder();
    const char *path = check_path(folder, "classes.txt");
    npi_class_list list;
    write_text(path, "\xEF\xBB\xBFtench\n\n  great white shark \r\ncaf\xC3\xA9");
    CHECK_OK(npi_class_list_open(path, &list));
    assert_int_equal(list.count, 3);
    assert_string_equal(list.names[0], "tench");
    assert_string_equal(list.names[1], "great white shark");
    assert_string_equal(list.names[2], "caf\xC3\xA9");
    assert_null(list.folders);
    npi_class_list_clear(&list);
    write_text(path, "n1\tmissile\nn2\tmissile\n");
    CHECK_OK(npi_class_list_open(path, &list));
    assert_int_equal(list.count, 2);
    assert_string_equal(list.names[1], "missile");
    assert_string_equal(list.folders[1], "n2");
    npi_class_list_clear(&list);
    const struct {
        const char *text, *message;
    } cases[] = {
        {"", "no class names"},
        {"\n \n", "no class names"},
        {"a\nb\na\n", "two classes have the name 'a'"},
        {"x\ta\nx\tb\n", "two classes have the folder 'x'"},
        {"a\nx\tb\n", "line 2: a folder and a name, unlike"},
        {"x\ta\n\nb\n", "line 3: a name without a folder, unlike"},
        {"a\n\tb\n", "line 2: expected a name"},
        {"a\t\n", "line 1: expected a name"},
        {"a\tb\tc\n", "line 1: expected a name"},
        {"a\ncaf\xE9\n", "line 2: byte 3 (0xe9) is not UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text(path, cases[i].text);
        CHECK_FAILS(npi_class_list_open(path, &list), NPOS_BAD_DATA, cases[i].message);
        assert_int_equal(list.count, 0);
    }
    CHECK_OK(npi_file_write(path, "a\0b\n", 4));
    CHECK_FAILS(npi_class_list_open(path, &list), NPOS_BAD_DATA, "byte 1 (0x00)");
    CHECK_FAILS(npi_class_list_open("imagenet-2k", &list), NPOS_NOT_FOUND, "imagenet-2k");
    assert_non_null(strstr(npos_error_hint(), "imagenet-100"));
    CHECK_FAILS(npi_class_list_open("./imagenet-1k", &list), NPOS_NOT_FOUND, "no such file");
    check_remove(folder);
}

static void folders_of_a_set_are_named(void **state) {
    (void)state;
    char *folders[] = {"n01440764", "snow_leopard", "n3", "2cv"}, *strange[] = {"cat", "n99999999"},
         *numbers[] = {"0", "1"};
    static const char *const names[] = {"tench", "snow leopard", "n3", "2cv"};
    npi_class_list list;
    CHECK_OK(npi_class_list_of(folders, 4, &list));
    assert_int_equal(list.count, 4);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(list.folders[i], folders[i]);
        assert_string_equal(list.names[i], names[i]);
    }
    npi_class_list_clear(&list);
    CHECK_FAILS(npi_class_list_of(strange, 2, &list), NPOS_UNSUPPORTED,
                "'n99999999' is a WordNet id that ImageNet-1k lacks");
    CHECK_FAILS(npi_class_list_of(numbers, 2, &list), NPOS_UNSUPPORTED, "'0' is a number");
}

static void prompts_are_templates_with_names(void **state) {
    (void)state;
    char *folder = check_folder(), *prompt;
    const char *path = check_path(folder, "templates.txt");
    npi_templates templates;
    CHECK_OK(npi_templates_open(NULL, &templates));
    assert_int_equal(templates.count, 18);
    assert_string_equal(templates.text[0], "a photo of a {}.");
    assert_string_equal(templates.text[7], "a photo of a small {}.");
    assert_string_equal(templates.text[10], "a blurry photo of the {}.");
    CHECK_OK(npi_prompt(templates.text[17], "great white shark", &prompt));
    assert_string_equal(prompt, "a photo of the big great white shark.");
    npi_free(prompt);
    npi_templates_clear(&templates);
    write_text(path, "{}{} {\n\n a {}\n");
    CHECK_OK(npi_templates_open(path, &templates));
    assert_int_equal(templates.count, 2);
    CHECK_OK(npi_prompt(templates.text[0], "{}", &prompt));
    assert_string_equal(prompt, "{}{} {");
    npi_free(prompt);
    CHECK_OK(npi_prompt(templates.text[1], "", &prompt));
    assert_string_equal(prompt, "a ");
    npi_free(prompt);
    npi_templates_clear(&templates);
    write_text(path, "a {}\na photo\n");
    CHECK_FAILS(npi_templates_open(path, &templates), NPOS_BAD_DATA, "line 2: no {} in 'a photo'");
    write_text(path, "\n");
    CHECK_FAILS(npi_templates_open(path, &templates), NPOS_BAD_DATA, "no templates");
    CHECK_FAILS(npi_templates_open("/nowhere", &templates), NPOS_NOT_FOUND, "no such file");
    check_remove(folder);
}

/* All 18,000 prompts of ImageNet-1k fit the model, with room to spare. */
static void imagenets_prompts_are_short(void **state) {
    (void)state;
    npi_tokenizer *words;
    npi_class_list list;
    npi_templates templates;
    int32_t row[NPI_CLIP_CONTEXT];
    int longest = 0;
    CHECK_OK(npi_tokenizer_open(check_path(check_source(), "tests/golden/words"), &words));
    CHECK_OK(npi_class_list_open("imagenet-1k", &list));
    CHECK_OK(npi_templates_open(NULL, &templates));
    for (int c = 0; c < list.count; c++)
        for (int t = 0; t < templates.count; t++) {
            char *prompt;
            int used;
            CHECK_OK(npi_prompt(templates.text[t], list.names[c], &prompt));
            CHECK_OK(npi_tokenizer_row(words, prompt, NPI_CLIP_CONTEXT, false, row, &used));
            npi_free(prompt);
            longest = used > longest ? used : longest;
        }
    assert_in_range(longest, 12, 24);
    npi_tokenizer_close(words);
    npi_class_list_clear(&list);
    npi_templates_clear(&templates);
}

static void failing_allocations_leave_nothing(void **state) {
    (void)state;
    char *folder = check_folder();
    const char *path = check_path(folder, "classes.txt");
    write_text(path, "x\ta {}\ny\tb {}\nz\tc {}\n");
    const char *const lists[] = {path, "imagenet-100"};
    size_t before = npi_memory_now();
    for (int i = 0; i < 2; i++) {
        npos_status status = NPOS_OUT_OF_MEMORY;
        for (int n = 1; status == NPOS_OUT_OF_MEMORY; n++) {
            npi_class_list list;
            npi_templates templates;
            npi_memory_fail_after(n);
            status = npi_class_list_open(lists[i], &list);
            if (status == NPOS_OK) {
                npi_class_list_clear(&list);
                status = npi_templates_open(i ? NULL : path, &templates);
                npi_templates_clear(&templates);
            }
            assert_int_equal(npi_memory_now(), before);
            assert_in_range(n, 1, 500);
        }
        npi_memory_fail_after(0);
        assert_int_equal(status, NPOS_OK);
    }
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_in_lists_are_imagenet),
        cmocka_unit_test(lists_are_read_from_files),
        cmocka_unit_test(folders_of_a_set_are_named),
        cmocka_unit_test(prompts_are_templates_with_names),
        cmocka_unit_test(imagenets_prompts_are_short),
        cmocka_unit_test(failing_allocations_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
