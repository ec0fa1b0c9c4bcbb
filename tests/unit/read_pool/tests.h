/* The groups of this program; each returns how many of its tests failed. */
#ifndef DOCUSEARCH_TESTS_UNIT_READ_POOL_H
#define DOCUSEARCH_TESTS_UNIT_READ_POOL_H

int run_detect_tests(void);
int run_wire_tests(void);
int run_pool_tests(void);
int run_pixels_tests(void);

#endif
