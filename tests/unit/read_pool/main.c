/* Tests of the reader pool. The pool's children are this same program. */
#include "tests.h"

#include "read/read.h"

#include <string.h>

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "reader-child") == 0)
        return read_child_main(argc, argv);
    return run_detect_tests() + run_wire_tests() + run_pool_tests() + run_pixels_tests();
}
