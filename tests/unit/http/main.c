#include "test_http.h"

#include <signal.h>

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    return test_message() + test_guard() + test_multipart() + test_server() + test_client() +
           test_download();
}
