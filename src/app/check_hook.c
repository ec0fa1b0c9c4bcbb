/* Does the hook work, run as Copyparty runs it: by the whole path that the Copyparty over the
 * uploads folder was started with, else found through PATH; the event as its last argument, its
 * settings from the environment? */
#include "app/check.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE "5" /* seconds that the hook may take */

extern char **environ;

#ifdef __linux__
#define MAX_ARGUMENTS ((size_t)1 << 20) /* bytes */

/* "f,t60,j,,/usr/bin/docusearch,hook" names a program by its whole path. */
static bool program_of(char out[PATH_MAX], const char *line) {
    const char *name = strstr(line, ",,/"), *end = name ? strstr(name + 2, ",hook") : NULL;
    if (!end || (end[5] && end[5] != ',') || end - (name + 2) >= PATH_MAX)
        return false;
    snprintf(out, PATH_MAX, "%.*s", (int)(end - (name + 2)), name + 2);
    return access(out, X_OK) == 0;
}

/* "FOLDER::rwmd" is a volume of that folder. */
static bool is_volume(const char *argument, const char *folder) {
    size_t len = strcspn(argument, ":");
    char real[PATH_MAX], *path = mem_printf("%.*s", (int)len, argument);
    bool same = argument[0] == '/' && argument[len] == ':' && realpath(path, real) &&
                strcmp(real, folder) == 0;
    mem_free(path);
    return same;
}

/* The hook's program in a process's arguments, which lie one after another, if one of them is a
 * volume of the folder. */
static bool look_into(char out[PATH_MAX], const char *arguments, size_t len, const char *folder) {
    bool named = false, volume = false;
    for (size_t at = 0; at < len; at += strlen(arguments + at) + 1) {
        named = named || program_of(out, arguments + at);
        volume = volume || is_volume(arguments + at, folder);
    }
    return named && volume;
}

/* The Copyparty that this user runs over the uploads folder. */
static bool find_started(char out[PATH_MAX], const char *uploads_dir) {
    char folder[PATH_MAX];
    bool found = false;
    DIR *proc = realpath(uploads_dir, folder) ? opendir("/proc") : NULL;
    for (struct dirent *entry = proc ? readdir(proc) : NULL; entry && !found;
         entry = readdir(proc)) {
        struct stat st;
        struct error ignored;
        char *arguments = NULL;
        size_t len = 0;
        if (!isdigit((unsigned char)entry->d_name[0]) ||
            fstatat(dirfd(proc), entry->d_name, &st, 0) != 0 || st.st_uid != geteuid())
            continue;
        char *path = mem_printf("/proc/%s/cmdline", entry->d_name);
        if (file_read(&arguments, &len, path, MAX_ARGUMENTS, &ignored))
            found = look_into(out, arguments, len, folder);
        mem_free(arguments);
        mem_free(path);
    }
    if (proc)
        closedir(proc);
    return found;
}
#else
static bool find_started(char out[PATH_MAX], const char *uploads_dir) {
    (void)out;
    (void)uploads_dir;
    return false;
}
#endif

/* The program that a hook line's `docusearch` is; false: none. */
static bool find_program(char out[PATH_MAX]) {
    const char *path = getenv("PATH");
    while (path && *path) {
        size_t n = strcspn(path, ":");
        struct stat st;
        int len = snprintf(out, PATH_MAX, "%.*s/docusearch", (int)n, path);
        if (n > 0 && len < PATH_MAX && stat(out, &st) == 0 && S_ISREG(st.st_mode) &&
            access(out, X_OK) == 0)
            return true;
        path += n + (path[n] == ':');
    }
    return false;
}

/* ---- running it ----------------------------------------------------------------------------- */

/* What Copyparty's environment would say of the server, were it started beside it. */
static char **environment(struct arena *arena, const struct checking *c) {
    const struct settings *settings = c->settings;
    const char *host = settings->worker_host, *colon = NULL, *url = c->session.url;
    char *of_url = NULL;
    int port = settings->worker_port > 0 ? settings->worker_port : 8002;
    if (url && strncmp(url, "http://", 7) == 0 && (colon = strrchr(url, ':')) != NULL) {
        of_url = arena_strndup(arena, url + 7, (size_t)(colon - url - 7));
        host = of_url;
        port = (int)strtol(colon + 1, NULL, 10);
    }
    size_t n = 0, kept = 0;
    while (environ[n])
        n++;
    char **out = arena_alloc(arena, (n + 4) * sizeof *out);
    for (size_t i = 0; i < n; i++) {
        if (strncmp(environ[i], "WORKER_HOST=", 12) != 0 &&
            strncmp(environ[i], "WORKER_PORT=", 12) != 0)
            out[kept++] = environ[i];
    }
    out[kept++] = arena_printf(arena, "WORKER_HOST=%s", host);
    out[kept++] = arena_printf(arena, "WORKER_PORT=%d", port);
    /* A key that was given by a flag, here, is not known there. */
    if (settings->api_key && !getenv("API_KEY") && !getenv("API_KEY_FILE") &&
        !getenv("DOCUSEARCH_CONFIG"))
        out[kept++] = arena_printf(arena, "API_KEY=%s", settings->api_key);
    return out;
}

/* The first line that it says; what comes after is read and dropped. */
static void read_line(char line[256], int fd) {
    char block[1024];
    size_t len = 0;
    ssize_t n;
    while ((n = read(fd, block, sizeof block)) > 0 || (n < 0 && errno == EINTR)) {
        for (ssize_t i = 0; i < n && len < 255; i++)
            line[len++] = block[i];
    }
    line[len] = '\0';
    line[strcspn(line, "\n")] = '\0';
    line[utf8_cut(line, strlen(line), 255)] = '\0';
}

/* Its exit status, -1: it could not be run. */
static int run_hook(char said[256], const char *program, const char *event, char **env) {
    const char *const argv[] = {"docusearch", "hook", "--deadline", DEADLINE, event, NULL};
    posix_spawn_file_actions_t actions;
    int ends[2], status = 0, rc;
    pid_t pid;
    said[0] = '\0';
    if (pipe(ends) != 0)
        return -1;
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    rc = posix_spawn(&pid, program, &actions, NULL, (char *const *)argv, env);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (rc == 0)
        read_line(said, ends[0]);
    else
        snprintf(said, 256, "%s", strerror(rc));
    close(ends[0]);
    while (rc == 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return rc == 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- the finding ---------------------------------------------------------------------------- */

void check_hook(struct checking *c) {
    char program[PATH_MAX], said[256];
    bool started = find_started(program, c->settings->uploads_dir);
    if (!started && !find_program(program)) {
        check_finding(c, VERDICT_NOTE, "hook", "docusearch is not on the PATH",
                      "for Copyparty: put it there, or write its whole path into the hook lines; "
                      "else a hook is passed over without a word");
        return;
    }
    struct arena *arena = arena_new(0);
    /* A server is asked whether it takes the key; without one, the event is of a file that hooks
     * ignore. */
    const char *event = c->session.client ? "{\"src\":\"check\"}"
                                          : "{\"ap\":\"/.hist/check\",\"src\":\"xau.check\"}";
    int status = run_hook(said, program, event, environment(arena, c));
    if (status == 0 && !*said)
        check_say(c, VERDICT_OK, "hook", "", "%s%s%s", program,
                  started ? ", of the running Copyparty" : "",
                  c->session.client ? ", reaches the server" : "");
    else
        check_say(c, VERDICT_WRONG, "hook",
                  "it has WORKER_HOST, WORKER_PORT, API_KEY_FILE and HOOK_PATH_MAP from its "
                  "environment: correct them where Copyparty runs",
                  "%s hook: exit status %d: %s", program, status, said);
    arena_free(arena);
}
