/* Taking a command's options out of its arguments, and complaining of the rest. */
#include "app/internal.h"

#include <string.h>

static void remove_at(int *argc, char **argv, int i, int n) {
    for (int k = i; k + n <= *argc; k++)
        argv[k] = argv[k + n];
    *argc -= n;
}

/* Options end at "--". */
static int end_of_options(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0)
            return i;
    }
    return argc;
}

bool take_flag(int *argc, char **argv, const char *option) {
    bool there = false;
    for (int i = 1; i < end_of_options(*argc, argv);) {
        if (strcmp(argv[i], option) == 0) {
            remove_at(argc, argv, i, 1);
            there = true;
        } else {
            i++;
        }
    }
    return there;
}

const char *take_value(int *argc, char **argv, const char *option, bool *bad) {
    const char *value = NULL;
    size_t n = strlen(option);
    for (int i = 1; i < end_of_options(*argc, argv);) {
        if (strcmp(argv[i], option) == 0) {
            if (i + 1 >= *argc) {
                *bad = true;
                return NULL;
            }
            value = argv[i + 1];
            remove_at(argc, argv, i, 2);
        } else if (n > 2 && strncmp(argv[i], option, n) == 0 && argv[i][n] == '=') {
            value = argv[i] + n + 1;
            remove_at(argc, argv, i, 1);
        } else {
            i++;
        }
    }
    return value;
}

bool check_arguments(const struct command *self, int *argc, char **argv, int min, int max) {
    int end = end_of_options(*argc, argv);
    for (int i = 1; i < end; i++) {
        bool option = argv[i][0] == '-' && argv[i][1] != '\0';
        if (option && (!self->dashes || argv[i][1] == '-')) {
            usage_error(self, "unknown option '%s'", argv[i]);
            return false;
        }
    }
    if (end < *argc)
        remove_at(argc, argv, end, 1);
    int n = *argc - 1;
    if (n < min || (max >= 0 && n > max)) {
        usage_error(self, n < min ? "too few arguments" : "too many arguments");
        return false;
    }
    return true;
}

int usage_error(const struct command *self, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "docusearch %s: ", self->name);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\nusage: docusearch %s\n", self->usage);
    va_end(args);
    return EXIT_USAGE;
}

int failed(const struct error *err) {
    fputs("docusearch: ", stderr);
    print_text(stderr, err->text, strlen(err->text));
    fputc('\n', stderr);
    return EXIT_FAILED;
}
