/* p-values among the ID images of a calibration, as they are stored and read again. */
#include "check.h"

#include "base/memory.h"
#include "jobs/calibration_file.h"

static void counted_among_id_images(void **state) {
    (void)state;
    char *folder = check_folder();
    double score[] = {3, 1, 2, 2};
    npi_run run = {.path = folder};
    npi_id_scores read;
    run.calibration = (npi_calibration){.score = (char *)"knn", .threshold = 0.1, .n = 4};
    CHECK_OK(npi_id_scores_read(&run, "knn", &read)); /* calibrated by an older npos */
    assert_int_equal(read.n, 0);
    CHECK_OK(npi_id_scores_write(&run, &run.calibration, score));
    CHECK_OK(npi_id_scores_read(&run, "msp", &read));
    assert_int_equal(read.n, 0);
    CHECK_OK(npi_id_scores_read(&run, "knn", &read));
    assert_int_equal(read.n, 4);
    assert_true(npi_id_p_value(&read, 0.5) == 1 / 5.0);
    assert_true(npi_id_p_value(&read, 1) == 2 / 5.0);
    assert_true(npi_id_p_value(&read, 2) == 4 / 5.0);
    assert_true(npi_id_p_value(&read, 2.5) == 4 / 5.0);
    assert_true(npi_id_p_value(&read, 9) == 1);
    npi_id_scores_clear(&read);
    run.calibration.threshold = 0.2; /* of another calibration */
    CHECK_OK(npi_id_scores_read(&run, "knn", &read));
    assert_int_equal(read.n, 0);
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(counted_among_id_images)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
