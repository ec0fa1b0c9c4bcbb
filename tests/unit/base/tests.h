/* The groups of test_base; each returns how many of its tests did not pass. */
#ifndef TESTS_BASE_H
#define TESTS_BASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

int run_memory_tests(void);
int run_text_tests(void);
int run_files_tests(void);
int run_thread_tests(void);
int run_log_tests(void);
int run_settings_tests(void);
int run_notify_tests(void);

/* A fresh folder under TMPDIR or /tmp (mem_free); temp_dir_drop removes it with its tree. */
char *temp_dir_make(void);
void temp_dir_drop(char *dir);
/* Runs fn in a forked child whose standard error is closed; returns the wait status. */
int run_forked(void (*fn)(void *), void *arg);

#endif
