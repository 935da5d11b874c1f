/* The tokenizer: OpenAI's ids for 5,000 texts from each kind of file, and files that are not what they should
 * be. */
#include "check.h"

#include <jansson.h>
#include <zlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

static const char *golden(const char *name) {
    return check_path(check_source(), name);
}

static const char *const list_path = "tests/golden/words/bpe_simple_vocab_16e6.txt.gz";

/* ---- OpenAI's ids ---------------------------------------------------------------------------------- */

static void same_ids(const npi_tokenizer *words, const char *line) {
    json_error_t error;
    json_t *row = json_loads(line, JSON_ALLOW_NUL, &error);
    if (!row)
        fail_msg("%s: %s", line, error.text);
    json_t *text = json_array_get(row, 0), *expected = json_array_get(row, 1);
    int32_t *ids;
    int64_t count;
    CHECK_OK(npi_tokenizer_encode(words, json_string_value(text), json_string_length(text), &ids,
                                  &count));
    bool same = count == (int64_t)json_array_size(expected);
    for (int64_t i = 0; same && i < count; i++)
        same = ids[i] == json_integer_value(json_array_get(expected, (size_t)i));
    if (!same)
        fail_msg("%s: %lld other ids, the first is %d", line, (long long)count,
                 count > 0 ? ids[0] : -1);
    npi_free(ids);
    json_decref(row);
}

static void check_golden(const char *path) {
    static char line[1 << 16];
    npi_tokenizer *words;
    CHECK_OK(npi_tokenizer_open(path, &words));
    assert_int_equal(npi_tokenizer_size(words), 49408);
    assert_int_equal(npi_tokenizer_start(words), 49406);
    assert_int_equal(npi_tokenizer_end(words), 49407);
    gzFile file = gzopen(golden("tests/golden/words/texts.jsonl.gz"), "rb");
    assert_non_null(file);
    int rows = 0;
    for (; gzgets(file, line, sizeof line); rows++)
        same_ids(words, line);
    assert_int_equal(rows, 5000);
    assert_int_equal(gzclose(file), Z_OK);
    npi_tokenizer_close(words);
}

static void ids_are_openais(void **state) {
    (void)state;
    check_golden(golden(list_path));
    check_golden(golden("tests/golden/words")); /* the folder */
}

/* *text = OpenAI's list unpacked. */
static char *unpacked(void) {
    static char text[1 << 20];
    gzFile file = gzopen(golden(list_path), "rb");
    assert_non_null(file);
    int size = gzread(file, text, sizeof text - 1);
    assert_true(size > 500000);
    text[size] = '\0';
    assert_int_equal(gzclose(file), Z_OK);
    return text;
}

static void give_id(json_t *vocab, const char *token, int id) {
    assert_int_equal(json_object_set_new(vocab, token, json_integer(id)), 0);
}

/* All bytes, inside and at the end of words, in the order of OpenAI's table. */
static json_t *byte_tokens(void) {
    json_t *vocab = json_object();
    int id = 0;
    for (int others = 0; others < 2; others++)
        for (int byte = 0; byte < 256; byte++) {
            char token[16] = "";
            int length = npi_byte_letter(byte, token);
            if ((byte < 0x21 || (byte >= 0x7F && byte <= 0xA0) || byte == 0xAD) != others)
                continue;
            token[length] = '\0';
            give_id(vocab, token, id);
            strcat(token, "</w>");
            give_id(vocab, token, 256 + id++);
        }
    assert_int_equal(id, 256);
    return vocab;
}

static void write_json(const char *path, json_t *value) {
    assert_int_equal(json_dump_file(value, path, JSON_COMPACT), 0);
    json_decref(value);
}

static json_t *tokenizer_json(json_t *vocab, json_t *merges) {
    return json_pack("{s:[{s:i,s:s}],s:{s:s,s:s,s:o,s:o}}", "added_tokens", "id", 49407, "content",
                     "<|endoftext|>", "model", "type", "BPE", "end_of_word_suffix", "</w>", "vocab",
                     vocab, "merges", merges);
}

/* Hugging Face's files of the same vocabulary: vocab.json and merges.txt, tokenizer.json with merges as
 * strings and as pairs. */
static void all_files_give_the_same_ids(void **state) {
    (void)state;
    char *folder = check_folder(), *text = unpacked();
    json_t *vocab = byte_tokens(), *strings = json_array(), *pairs = json_array();
    char *line = strchr(text, '\n') + 1;
    CHECK_OK(npi_format(&text, "#version: 0.2\n%s", line));
    CHECK_OK(npi_file_write(check_path(folder, "merges.txt"), text, strlen(text)));
    npi_free(text);
    for (int id = 512; *line; id++) {
        char *blank = strchr(line, ' '), *end = strchr(line, '\n'), both[256];
        *end = '\0';
        json_array_append_new(strings, json_string(line));
        *blank = '\0';
        json_array_append_new(pairs, json_pack("[s,s]", line, blank + 1));
        snprintf(both, sizeof both, "%s%s", line, blank + 1);
        give_id(vocab, both, id);
        line = end + 1;
    }
    give_id(vocab, "<|startoftext|>", 49406);
    json_t *without_end = json_copy(vocab);
    give_id(vocab, "<|endoftext|>", 49407);
    write_json(check_path(folder, "strings.json"), tokenizer_json(json_incref(vocab), strings));
    write_json(check_path(folder, "pairs.json"), tokenizer_json(without_end, pairs));
    write_json(check_path(folder, "vocab.json"), vocab);
    check_golden(folder);
    check_golden(check_path(folder, "merges.txt"));
    check_golden(check_path(folder, "vocab.json"));
    check_golden(check_path(folder, "strings.json"));
    check_golden(check_path(folder, "pairs.json"));
    check_remove(folder);
}

/* ---- rows ------------------------------------------------------------------------------------------- */

/* Writes vocab.json and merges.txt into a folder: all bytes, start, end and what the merges make. */
static void write_small(const char *folder, const char *const *merges, const char *heading) {
    json_t *vocab = byte_tokens();
    FILE *file = fopen(check_path(folder, "merges.txt"), "w");
    assert_non_null(file);
    fputs(heading, file);
    for (int i = 0; merges[i]; i++) {
        char both[64];
        const char *blank = strchr(merges[i], ' ');
        fprintf(file, "%s\n", merges[i]);
        snprintf(both, sizeof both, "%.*s%s", (int)(blank - merges[i]), merges[i], blank + 1);
        if (!json_object_get(vocab, both))
            give_id(vocab, both, 512 + i);
    }
    assert_int_equal(fclose(file), 0);
    give_id(vocab, "<|startoftext|>", 600);
    give_id(vocab, "<|endoftext|>", 601);
    write_json(check_path(folder, "vocab.json"), vocab);
}

static void rows_begin_end_and_are_filled(void **state) {
    (void)state;
    char *folder = check_folder();
    npi_tokenizer *words;
    int32_t row[6];
    int used;
    write_small(folder, (const char *[]){"c a", "ca t</w>", NULL}, "#version: 0.2\n");
    CHECK_OK(npi_tokenizer_open(folder, &words));
    assert_int_equal(npi_tokenizer_size(words), 602);
    assert_non_null(strstr(npi_tokenizer_path(words), "vocab.json"));
    CHECK_OK(npi_tokenizer_row(words, "Cat cats", 6, false, row, &used));
    assert_memory_equal(row, ((int32_t[]){600, 513, 512, 't' - '!', 's' - '!' + 256, 601}),
                        sizeof row);
    assert_int_equal(used, 6);
    CHECK_OK(npi_tokenizer_row(words, "", 6, false, row, &used));
    assert_memory_equal(row, ((int32_t[]){600, 601, 0, 0, 0, 0}), sizeof row);
    assert_int_equal(used, 2);
    CHECK_FAILS(npi_tokenizer_row(words, "cat cat cat cat cat", 6, false, row, &used),
                NPOS_INVALID_ARGUMENT, "has 5 tokens, at most 4");
    CHECK_OK(npi_tokenizer_row(words, "cat cat cat cat cat", 6, true, row, NULL));
    assert_memory_equal(row, ((int32_t[]){600, 513, 513, 513, 513, 601}), sizeof row);
    CHECK_FAILS(npi_tokenizer_row(words, "", 1, true, row, NULL), NPOS_INVALID_ARGUMENT,
                "1 tokens");
    CHECK_FAILS(npi_tokenizer_row(words, "caf\xe9", 6, true, row, NULL), NPOS_BAD_DATA,
                "byte 3 (0xe9)");
    npi_tokenizer_close(words);
    check_remove(folder);
}

/* A merge made by two ways: all pairs of one rank go before the pairs that they make, as in Python. */
static void one_rank_goes_everywhere_first(void **state) {
    (void)state;
    char *folder = check_folder();
    npi_tokenizer *words;
    int32_t *ids;
    int64_t count;
    /* "abcabc!": a bc and a bc both become abc by the last merge, though abc a would have come earlier */
    const char *const merges[] = {"b c", "x y", "ab c", "abc a", "a bc", NULL};
    write_small(folder, merges, "");
    json_t *vocab = json_load_file(check_path(folder, "vocab.json"), 0, NULL);
    give_id(vocab, "ab", 590);
    write_json(check_path(folder, "vocab.json"), vocab);
    CHECK_OK(npi_tokenizer_open(folder, &words));
    CHECK_OK(npi_tokenizer_encode(words, "abcabcq", 7, &ids, &count));
    assert_int_equal(count, 3);
    assert_int_equal(ids[0], 514);
    assert_int_equal(ids[1], 514);
    npi_free(ids);
    npi_tokenizer_close(words);
    check_remove(folder);
}

/* A word of a million letters takes moments, not hours, and a text of nested references is refused. */
static void hostile_texts_end(void **state) {
    (void)state;
    enum { LONG = 1 << 20 };
    npi_tokenizer *words;
    int32_t *ids;
    int64_t count;
    char *text;
    CHECK_OK(npi_tokenizer_open(golden(list_path), &words));
    CHECK_OK(npi_alloc(&text, LONG, 1, "text"));
    memset(text, 'a', LONG);
    CHECK_OK(npi_tokenizer_encode(words, text, LONG, &ids, &count));
    assert_in_range(count, LONG / 64, LONG / 2);
    npi_free(ids);
    memset(text, 0xCC, LONG); /* U+030C and U+030C ... */
    for (int i = 1; i < LONG; i += 2)
        text[i] = (char)(i % 4 == 1 ? 0x8C : 0xA3);
    CHECK_OK(npi_tokenizer_encode(words, text, LONG, &ids, &count));
    npi_free(ids);
    for (int i = 0; i < LONG; i++)
        text[i] = i == 0 ? '&' : "amp;"[(i - 1) % 4];
    CHECK_FAILS(npi_tokenizer_encode(words, text, LONG, &ids, &count), NPOS_BAD_DATA, "64 levels");
    npi_free(text);
    npi_tokenizer_close(words);
}

/* ---- wrong files -------------------------------------------------------------------------------------- */

static void check_refused(const char *path, npos_status status, const char *text) {
    npi_tokenizer *words;
    CHECK_FAILS(npi_tokenizer_open(path, &words), status, text);
    assert_null(words);
}

static void wrong_lists_are_refused(void **state) {
    (void)state;
    char *folder = check_folder();
    const char *path = check_path(folder, "list.txt");
    const struct {
        const char *text, *message;
    } cases[] = {
        {"", "0 merges, expected at least 48894"},
        {"#version\ni n\nt h\n", "2 merges"},
        {"#version\ni n\nth\n", "line 3: 'th', expected two symbols"},
        {"#version\ni n m\n", "line 2: 'i n m', expected two"},
        {"#version\n n\n", "line 2: ' n'"},
        {"#version\ni n\n\nt h\n", "line 3: ''"},
        {"#version\ni n\ni n\n", "line 3: token 'in' is there twice, with ids 512 and 513"},
    };
    check_refused(path, NPOS_NOT_FOUND, "list.txt: no such file");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_OK(npi_file_write(path, cases[i].text, strlen(cases[i].text)));
        check_refused(path, NPOS_BAD_DATA, cases[i].message);
    }
    /* a merge of what is no token */
    char *text = unpacked();
    memcpy(strstr(text, "t h\n"), "t\xC5\x83", 3);
    CHECK_OK(npi_file_write(path, text, strlen(text)));
    check_refused(path, NPOS_BAD_DATA, "line 3: ");
    /* cut short */
    char *packed;
    size_t size;
    CHECK_OK(npi_file_read(golden(list_path), &packed, &size));
    CHECK_OK(npi_file_write(path, packed, size / 2));
    check_refused(path, NPOS_BAD_DATA, "list.txt");
    packed[size / 2] = (char)(packed[size / 2] ^ 1);
    CHECK_OK(npi_file_write(path, packed, size));
    check_refused(path, NPOS_BAD_DATA, "list.txt");
    npi_free(packed);
    check_remove(folder);
}

static void wrong_merges_and_vocabularies_are_refused(void **state) {
    (void)state;
    char *folder = check_folder();
    const char *const merges[] = {"c a", "ca t</w>", NULL};
    check_refused(folder, NPOS_NOT_FOUND, "no tokenizer in this folder");
    CHECK_OK(npi_file_write(check_path(folder, "vocab.json"), "{}", 2));
    check_refused(folder, NPOS_NOT_FOUND, "has vocab.json, but not merges.txt");
    CHECK_OK(npi_file_write(check_path(folder, "merges.txt"), "#version: 0.2\n", 14));
    check_refused(folder, NPOS_BAD_DATA, "0 tokens, and '\xC4\x80' is not one of them");
    write_small(folder, merges, "#version: 0.2\nc b\n");
    check_refused(folder, NPOS_BAD_DATA, "merges.txt: line 2: a merge of 'c' and 'b', but what");
    write_small(folder, merges, "cb a\n");
    check_refused(folder, NPOS_BAD_DATA, "line 1: a merge of 'cb' and 'a', but 'cb' is no token");
    write_small(folder, merges, "c a\n");
    check_refused(folder, NPOS_BAD_DATA, "line 2: a merge of 'c' and 'a' for the second time");
    write_small(folder, merges, "");
    json_t *vocab = json_load_file(check_path(folder, "vocab.json"), 0, NULL);
    give_id(vocab, "zz", 601);
    write_json(check_path(folder, "vocab.json"), vocab);
    check_refused(folder, NPOS_BAD_DATA, "both have id 601");
    const struct {
        const char *text, *message;
    } cases[] = {
        {"[]", "expected an object"},
        {"{\"a\": \"b\"}", "token 'a' has an id that is no"},
        {"{\"a\": -1}", "id -1, expected"},
        {"{\"a\": 99999999}", "id 99999999, expected"},
        {"{\"a\": 1, \"a\": 2}", "line 1"},
        {"{\"\": 1}", "a token is empty"},
        {"{\"a\": 1", "line 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_OK(
            npi_file_write(check_path(folder, "vocab.json"), cases[i].text, strlen(cases[i].text)));
        check_refused(folder, NPOS_BAD_DATA, cases[i].message);
    }
    check_remove(folder);
}

static void a_models_tokenizer_is_found(void **state) {
    (void)state;
    char *folder = check_folder();
    const char *model = check_path(folder, "ViT-B-16.pt");
    npi_tokenizer *words;
    CHECK_FAILS(npi_tokenizer_open_for(model, &words), NPOS_NOT_FOUND, "no such file or folder");
    CHECK_OK(npi_file_write(model, "PK", 2));
    CHECK_FAILS(npi_tokenizer_open_for(model, &words), NPOS_NOT_FOUND, "no tokenizer in this");
    assert_non_null(strstr(npos_error_hint(), "bpe_simple_vocab_16e6.txt.gz"));
    write_small(folder, (const char *[]){"c a", NULL}, "");
    CHECK_OK(npi_tokenizer_open_for(model, &words));
    CHECK_OK(npi_tokenizer_check(words, 602));
    CHECK_FAILS(npi_tokenizer_check(words, 49408), NPOS_SHAPE_MISMATCH,
                "vocab.json has ids below 602, but the model's token table has 49408 rows");
    npi_tokenizer_close(words);
    CHECK_OK(npi_tokenizer_open_for(folder, &words));
    npi_tokenizer_close(words);
    check_remove(folder);
}

static void wrong_tokenizer_json_is_refused(void **state) {
    (void)state;
    char *folder = check_folder();
    const char *path = check_path(folder, "tokenizer.json");
#define MODEL "{\"model\": {\"type\": \"BPE\", \"end_of_word_suffix\": \"</w>\", "
    const struct {
        const char *text, *message;
    } cases[] = {
        {"{}", "model.type is ''"},
        {"{\"model\": {\"type\": \"WordPiece\"}}", "model.type is 'WordPiece', expected 'BPE'"},
        {"{\"model\": {\"type\": \"BPE\"}}", "model.end_of_word_suffix is ''"},
        {MODEL "\"vocab\": {}}}", "model.merges is no list"},
        {MODEL "\"merges\": []}}", "model.vocab: expected an object"},
        {MODEL "\"vocab\": {}, \"merges\": [1]}}", "model.merges[0]: expected two symbols"},
        {MODEL "\"vocab\": {}, \"merges\": [[\"a\"]]}}", "model.merges[0]: expected two symbols"},
        {MODEL "\"vocab\": {\"a\": 1}, \"merges\": [\"a b\"]}}", "'b' is no token"},
        {MODEL "\"vocab\": {\"a\": 1}, \"merges\": []}, \"added_tokens\": [{\"id\": 2}]}",
         "added token 0 lacks"},
        {MODEL "\"vocab\": {\"a\": 1}, \"merges\": []}, \"added_tokens\": [{\"id\": 2, "
               "\"content\": \"a\"}]}",
         "added token 'a' has id 2, but the vocabulary says 1"},
        {MODEL "\"vocab\": {\"a\": 1}, \"merges\": []}}", "1 tokens, and"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_OK(npi_file_write(path, cases[i].text, strlen(cases[i].text)));
        check_refused(folder, NPOS_BAD_DATA, cases[i].message);
    }
    check_remove(folder);
}

static void failing_allocations_leave_nothing(void **state) {
    (void)state;
    char *folder = check_folder();
    write_small(folder, (const char *[]){"c a", "ca t</w>", NULL}, "");
    size_t before = npi_memory_now();
    npos_status status = NPOS_OUT_OF_MEMORY;
    for (int n = 1; status == NPOS_OUT_OF_MEMORY; n++) {
        npi_tokenizer *words;
        int32_t row[8];
        npi_memory_fail_after(n);
        status = npi_tokenizer_open(folder, &words);
        if (status == NPOS_OK) {
            status = npi_tokenizer_row(words, "e\xCC\x81&amp; ca\xEF\xAC\x81", 8, true, row, NULL);
            npi_tokenizer_close(words);
        }
        assert_int_equal(npi_memory_now(), before);
        assert_in_range(n, 1, 200);
    }
    npi_memory_fail_after(0);
    assert_int_equal(status, NPOS_OK);
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_openais),
        cmocka_unit_test(all_files_give_the_same_ids),
        cmocka_unit_test(rows_begin_end_and_are_filled),
        cmocka_unit_test(one_rank_goes_everywhere_first),
        cmocka_unit_test(hostile_texts_end),
        cmocka_unit_test(wrong_lists_are_refused),
        cmocka_unit_test(wrong_merges_and_vocabularies_are_refused),
        cmocka_unit_test(a_models_tokenizer_is_found),
        cmocka_unit_test(wrong_tokenizer_json_is_refused),
        cmocka_unit_test(failing_allocations_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
