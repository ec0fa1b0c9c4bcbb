/* list, show, rm. */
#include "app/internal.h"

#include <string.h>

#define SHORT_ID 12

static void print_row(const json_t *document) {
    const char *name = json_text(document, "filename");
    const char *date = json_text(document, "date_added");
    printf("%.*s  %-10s %5lld pages  %.10s  ", SHORT_ID, json_text(document, "doc_id"),
           json_text(document, "status"), (long long)json_number(document, "page_count"), date);
    print_text(stdout, name, strlen(name));
    putchar('\n');
}

int command_list(const struct command *self, int argc, char **argv, struct settings *settings) {
    bool json = take_flag(&argc, argv, "--json"), bad = false;
    const char *n = take_value(&argc, argv, "-n", &bad);
    const char *sort = take_value(&argc, argv, "--sort", &bad);
    if (bad)
        return usage_error(self, "an option lacks its value");
    if (!check_arguments(self, &argc, argv, 0, 1))
        return EXIT_USAGE;
    struct arena *arena = arena_new(0);
    const char *target = arena_printf(arena, "/documents?limit=%s&sort_by=%s&search=%s",
                                      http_escape(arena, n ? n : "50"),
                                      http_escape(arena, sort ? sort : "newest_first"),
                                      http_escape(arena, argc > 1 ? argv[1] : ""));
    struct session session;
    struct error err;
    json_t *reply = NULL;
    bool ok = session_open(&session, settings, &err) &&
              session_call(&reply, &session, "GET", target, NULL, &err);
    session_close(&session);
    arena_free(arena);
    if (!ok)
        return failed(&err);
    if (json) {
        print_json(reply);
        return EXIT_OK;
    }
    size_t i;
    json_t *document, *documents = json_object_get(reply, "documents");
    json_array_foreach(documents, i, document) print_row(document);
    fprintf(stderr, "%zu of %lld documents\n", json_array_size(documents),
            (long long)json_number(reply, "total"));
    json_decref(reply);
    return EXIT_OK;
}

static void print_fact(const char *name, const char *text) {
    if (!*text)
        return;
    printf("%-10s ", name);
    print_text(stdout, text, strlen(text));
    putchar('\n');
}

static void print_document(const json_t *document) {
    print_fact("id", json_text(document, "doc_id"));
    print_fact("file", json_text(document, "filename"));
    print_fact("title", json_text(document, "title"));
    print_fact("author", json_text(document, "author"));
    print_fact("format", json_text(document, "format"));
    print_fact("status", json_text(document, "status"));
    print_fact("added", json_text(document, "date_added"));
    print_fact("warning", json_text(document, "warning"));
    print_fact("error", json_text(json_object_get(document, "error"), "message"));
    printf("%-10s %lld pages, %lld passages, %lld bytes\n", "size",
           (long long)json_number(document, "page_count"),
           (long long)json_number(document, "chunk_count"),
           (long long)json_number(document, "size_bytes"));
}

/* The document's Markdown, through the server or from the folder. */
static bool print_markdown(struct session *session, const char *doc_id, struct error *err) {
    if (session->corpus) {
        struct document *doc;
        if (!corpus_load(&doc, session->corpus, doc_id, err))
            return false;
        struct buf text = {0};
        doc_write_markdown(&text, doc);
        fwrite(text.data, 1, text.len, stdout);
        buf_fini(&text);
        doc_free(doc);
        return true;
    }
    char target[SHA256_HEX + 32];
    snprintf(target, sizeof target, "/documents/%s/markdown", doc_id);
    struct http_reply reply;
    if (!http_client_call(&reply, session->client, "GET", target, NULL, err))
        return false;
    bool ok = reply.status == 200;
    if (ok)
        fwrite(reply.body, 1, reply.len, stdout);
    else
        error_set(err, ERROR_INPUT, "%s",
                  json_text(json_object_get(reply.json, "error"), "message"));
    http_reply_fini(&reply);
    return ok;
}

int command_show(const struct command *self, int argc, char **argv, struct settings *settings) {
    bool json = take_flag(&argc, argv, "--json");
    bool markdown = take_flag(&argc, argv, "--markdown");
    if (!check_arguments(self, &argc, argv, 1, 1))
        return EXIT_USAGE;
    struct session session;
    struct error err;
    char doc_id[SHA256_HEX + 1], target[SHA256_HEX + 32];
    json_t *reply = NULL;
    bool ok = session_open(&session, settings, &err) &&
              session_find_id(doc_id, &session, argv[1], &err);
    if (ok && markdown) {
        ok = print_markdown(&session, doc_id, &err);
    } else if (ok) {
        snprintf(target, sizeof target, "/documents/%s", doc_id);
        ok = session_call(&reply, &session, "GET", target, NULL, &err);
    }
    session_close(&session);
    if (!ok)
        return failed(&err);
    if (json && reply) {
        print_json(reply);
    } else if (reply) {
        print_document(reply);
        json_decref(reply);
    }
    return EXIT_OK;
}

int command_rm(const struct command *self, int argc, char **argv, struct settings *settings) {
    bool json = take_flag(&argc, argv, "--json");
    if (!check_arguments(self, &argc, argv, 1, -1))
        return EXIT_USAGE;
    struct session session;
    struct error err;
    int status = EXIT_OK;
    if (!session_open(&session, settings, &err)) {
        session_close(&session);
        return failed(&err);
    }
    json_t *replies = json_array();
    for (int i = 1; i < argc; i++) {
        char doc_id[SHA256_HEX + 1], target[SHA256_HEX + 32];
        json_t *reply;
        bool ok = session_find_id(doc_id, &session, argv[i], &err);
        if (ok) {
            snprintf(target, sizeof target, "/documents/%s", doc_id);
            ok = session_call(&reply, &session, "DELETE", target, NULL, &err);
        }
        if (!ok) {
            status = failed(&err);
            continue;
        }
        if (!json) {
            const char *name = json_text(reply, "filename");
            printf("removed %.*s  ", SHORT_ID, doc_id);
            print_text(stdout, name, strlen(name));
            putchar('\n');
        }
        json_array_append_new(replies, reply);
    }
    session_close(&session);
    if (json)
        print_json(json_pack("{s:o}", "removed", replies));
    else
        json_decref(replies);
    return status;
}
