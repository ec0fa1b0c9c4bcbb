/* tokenize TOKENIZER.JSON [--plain]: the ids of each line of standard input, a line each. In a line
 * "\n" stands for a line feed and "\\" for a backslash. --plain: without the template's tokens. */
#include "model/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t unescape(char *line, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (line[i] == '\\' && i + 1 < len) {
            i++;
            line[n++] = line[i] == 'n' ? '\n' : line[i];
        } else {
            line[n++] = line[i];
        }
    }
    return n;
}

int main(int argc, char **argv) {
    struct tokenizer *tokenizer;
    struct error err;
    bool special = !(argc > 2 && strcmp(argv[2], "--plain") == 0);
    if (argc < 2) {
        fprintf(stderr, "tokenize TOKENIZER.JSON [--plain]\n");
        return 2;
    }
    if (!tokenizer_open(&tokenizer, argv[1], &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    char *line = NULL;
    size_t room = 0;
    ssize_t len;
    while ((len = getline(&line, &room, stdin)) > 0) {
        struct arena *arena = arena_new(0);
        struct tokens tokens;
        size_t n = unescape(line, (size_t)len - (line[len - 1] == '\n'));
        tokenizer_encode(&tokens, arena, tokenizer, line, n, special, 0);
        for (int i = 0; i < tokens.n; i++)
            printf(i ? " %d" : "%d", tokens.ids[i]);
        putchar('\n');
        arena_free(arena);
    }
    free(line);
    tokenizer_close(tokenizer);
    return 0;
}
