#ifndef TEST_HTTP_H
#define TEST_HTTP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/http.h"

int test_message(void);
int test_guard(void);
int test_multipart(void);
int test_server(void);
int test_client(void);
int test_download(void);

#endif
