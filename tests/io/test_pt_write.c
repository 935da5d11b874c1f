/* npi_pt_write, read again by our reader with all its checks. */
#include "check.h"

#include "io/pt_file.h"
#include "io/pt_write.h"

static void reads_back(void **state) {
    (void)state;
    char *folder = check_folder();
    const char *path = check_path(folder, "state.pt");
    static const float a[] = {1, 2, 3, 4, 5, 6}, b[] = {-0.5f}, c[300] = {7};
    const npi_named_tensor tensors[] = {{"layer1.0.conv1.weight", NPI_F32, 2, {2, 3}, a},
                                        {"fc.bias", NPI_F32, 1, {1}, b},
                                        {"wide", NPI_F32, 4, {1, 3, 10, 10}, c}};
    npi_pt *file;
    CHECK_OK(npi_pt_write(path, tensors, 3));
    CHECK_OK(npi_pt_open(path, &file));
    assert_int_equal(npi_pt_count(file), 3);
    for (int i = 0; i < 3; i++) {
        const npi_named_tensor *seen = npi_pt_at(file, i);
        size_t count = 1;
        assert_string_equal(seen->name, tensors[i].name);
        assert_int_equal(seen->ndim, tensors[i].ndim);
        for (int d = 0; d < seen->ndim; d++) {
            assert_int_equal(seen->shape[d], tensors[i].shape[d]);
            count *= (size_t)seen->shape[d];
        }
        CHECK_OK(npi_pt_check(file, i));
        assert_non_null(seen->data); /* its elements lie in order */
        assert_memory_equal(seen->data, tensors[i].data, count * sizeof(float));
    }
    npi_pt_close(file);
    const npi_named_tensor other = {"pushed", NPI_I64, 1, {1}, a};
    CHECK_FAILS(npi_pt_write(path, &other, 1), NPOS_UNSUPPORTED, "only float32");
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
