#include "tests.h"

int run_writer_tests(void) {
    return 0;
}
