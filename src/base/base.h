/* base: errors, memory, strings, buffers, log, files, threads, time, settings, JSON.
 *
 * The ground floor: every other module may include this header, and it includes none of theirs.
 * libc's quirks, libcrypto (SHA-256) and jansson (JSON) are seen here; `json_t` is part of this
 * face. Unless a function says otherwise it may be called from any thread. */
#ifndef DOCUSEARCH_BASE_H
#define DOCUSEARCH_BASE_H

#include <jansson.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BASE_PRINTF(format_i, args_i) __attribute__((format(printf, format_i, args_i)))
#define BASE_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- errors ------------------------------------------------------------------------------- */

enum error_kind {
    ERROR_INPUT = 1,   /* the caller's data is wrong */
    ERROR_MISSING,     /* the thing named is not there */
    ERROR_CONFLICT,    /* it is there already, or in a state that forbids this */
    ERROR_LIMIT,       /* a stated maximum would be passed */
    ERROR_UNSUPPORTED, /* a kind of thing we do not do */
    ERROR_BUSY,        /* try again later */
    ERROR_IO,          /* disk or network */
    ERROR_DEVICE,      /* accelerator */
    ERROR_INTERNAL,    /* our own fault */
};

/* Written only on failure. `code` is a word for programs ("password_required", "disk_full"), `text`
 * one lower-case line for people that says what is wrong and with what value. */
struct error {
    enum error_kind kind;
    char code[32];
    char text[256];
};

/* Both return false, so that `return error_set(…);` reads well. err may be NULL. Without a code,
 * the kind's own word is used: invalid, not_found, conflict, limit, unsupported, busy, io_error,
 * device_error, internal. Text is cut at its size on a UTF-8 boundary. */
bool error_set(struct error *err, enum error_kind kind, const char *format, ...) BASE_PRINTF(3, 4);
bool error_set_code(struct error *err, enum error_kind kind, const char *code, const char *format,
                    ...) BASE_PRINTF(4, 5);
/* From errno: ENOSPC and EDQUOT become ERROR_IO "disk_full", ENOENT ERROR_MISSING "not_found", the
 * rest ERROR_IO "storage_error"; text is "<what>: <strerror>". */
bool error_set_errno(struct error *err, int errnum, const char *format, ...) BASE_PRINTF(3, 4);
/* Puts one fact before the text: "page 14: …". */
void error_prefix(struct error *err, const char *format, ...) BASE_PRINTF(2, 3);

/* ---- memory ------------------------------------------------------------------------------- */

/* Small and ours: zeroed, never NULL (the process ends when the machine has no memory left). */
void *mem_alloc(size_t size_bytes);
char *mem_strdup(const char *text);
char *mem_printf(const char *format, ...) BASE_PRINTF(1, 2);
/* Reallocates such a block to n of them; what is added is not zeroed. */
void *mem_grow(void *block, size_t n, size_t size_bytes);
/* For sizes that come from a file, a client or a model: NULL when n * size overflows, passes
 * max_bytes, or cannot be had. Zeroed. mem_try_grow reallocates and zeroes nothing. */
void *mem_try(size_t n, size_t size_bytes, size_t max_bytes);
void *mem_try_grow(void *block, size_t n, size_t size_bytes, size_t max_bytes);
void mem_free(void *block); /* NULL is fine */

/* An arena is freed whole. Blocks of 64 KiB and more come from mmap and go back to the system.
 * One thread at a time. */
struct arena;
struct arena *arena_new(size_t max_bytes); /* 0: no maximum */
void arena_free(struct arena *arena);      /* NULL is fine */
/* Zeroed, 16-byte aligned, never NULL: ends the process past max_bytes. */
void *arena_alloc(struct arena *arena, size_t size_bytes);
void *arena_try(struct arena *arena, size_t n, size_t size_bytes); /* NULL past max_bytes */
char *arena_strdup(struct arena *arena, const char *text);
char *arena_strndup(struct arena *arena, const char *text, size_t len);
char *arena_printf(struct arena *arena, const char *format, ...) BASE_PRINTF(2, 3);
size_t arena_used(const struct arena *arena);

/* A growing byte buffer, always followed by a NUL that len does not count. Zero-initialise with
 * `struct buf b = {0}` (max 0: 1 GiB). Past max, or without memory, `failed` is set and further
 * appends do nothing: check once at the end. */
struct buf {
    char *data;
    size_t len, cap, max;
    bool failed;
};
void buf_append(struct buf *buf, const void *data, size_t len);
void buf_puts(struct buf *buf, const char *text);
void buf_putc(struct buf *buf, char c);
void buf_printf(struct buf *buf, const char *format, ...) BASE_PRINTF(2, 3);
void buf_clear(struct buf *buf);
char *buf_take(struct buf *buf); /* the bytes, now the caller's (mem_free); buf is empty again */
void buf_fini(struct buf *buf);

/* ---- text --------------------------------------------------------------------------------- */

/* Decodes one code point at text[*pos], moves *pos past it. Invalid bytes give U+FFFD and move by
 * one. Never reads past len. */
uint32_t utf8_next(const char *text, size_t len, size_t *pos);
size_t utf8_put(char out[4], uint32_t code_point); /* bytes written */
bool utf8_valid(const char *text, size_t len);
/* A copy in which every invalid byte and every NUL is U+FFFD. */
char *utf8_clean(struct arena *arena, const char *text, size_t len);
/* The largest n <= max that cuts no character of text in two. */
size_t utf8_cut(const char *text, size_t len, size_t max);
bool text_is_cjk(uint32_t code_point);   /* Han, kana, hangul: scripts written without spaces */
bool text_is_space(uint32_t code_point); /* Unicode White_Space */
bool text_is_word(uint32_t code_point);  /* letter, mark or number, of any script */
/* What a letter is searched as: compatibility forms resolved, case folded, accents and vowel points
 * of Latin, Greek, Cyrillic, Hebrew and Arabic dropped; Han, kana and hangul keep their marks.
 * Returns how many code points were written, 0 to 18 (0: a dropped mark). */
#define TEXT_FOLD_MAX 18
int text_fold(uint32_t out[TEXT_FOLD_MAX], uint32_t code_point);
/* Unicode's general category, two letters ("Lu", "Mn"); "Cn" where nothing is assigned. */
const char *text_category(uint32_t code_point);
uint32_t text_lower(uint32_t code_point); /* the simple mapping: one to one */
/* A normalization form (UAX #15) of text, invalid bytes as U+FFFD; *out_len is without the NUL. */
enum text_form { TEXT_NFC, TEXT_NFD, TEXT_NFKC, TEXT_NFKD };
char *text_normalize(size_t *out_len, struct arena *arena, enum text_form form, const char *text,
                     size_t len);
bool text_has_suffix(const char *text, const char *suffix); /* ASCII case folded */
/* Whole string as a number in [min, max]; else false, err says which. `name` is for the message. */
bool text_to_int(int64_t *out, const char *text, int64_t min, int64_t max, const char *name,
                 struct error *err);

/* ---- SHA-256 ------------------------------------------------------------------------------ */

#define SHA256_HEX 64
struct sha256;
struct sha256 *sha256_new(void);
void sha256_update(struct sha256 *hash, const void *data, size_t len);
void sha256_finish(char out[SHA256_HEX + 1], struct sha256 *hash); /* lower-case hex; frees hash */
void sha256_hex(char out[SHA256_HEX + 1], const void *data, size_t len);
bool sha256_is_hex(const char *text); /* exactly 64 lower-case hex digits */

/* ---- files -------------------------------------------------------------------------------- */

char *path_join(struct arena *arena, const char *dir, const char *name);
const char *path_name(const char *path);            /* borrowed: the part after the last '/' */
bool dir_make(const char *path, struct error *err); /* with parents, 0700; existing is fine */
bool dir_sync(const char *path, struct error *err); /* fsync of the folder itself */
/* The whole tree; never follows links; missing is fine. */
bool dir_remove(const char *path, struct error *err);
/* Temporary file beside it, fsync, rename, fsync of the folder. */
bool file_write_durable(const char *path, const void *data, size_t len, struct error *err);
/* Whole file, NUL-terminated; ERROR_LIMIT past max_bytes. data is the caller's (mem_free). */
bool file_read(char **data, size_t *len, const char *path, size_t max_bytes, struct error *err);
bool file_sha256(char out[SHA256_HEX + 1], int64_t *size_bytes, const char *path,
                 struct error *err);
/* git's id of the file as a blob: SHA-1 over "blob <size>", a NUL and the bytes. */
#define GIT_ID_HEX 40
bool file_git_id(char out[GIT_ID_HEX + 1], const char *path, struct error *err);
bool fd_write_all(int fd, const void *data, size_t len, struct error *err);
bool disk_free_bytes(int64_t *out, const char *path, struct error *err);

/* ---- time --------------------------------------------------------------------------------- */

/* For durations, deadlines and leases: setting the clock does not move it. */
int64_t time_mono_ms(void);
int64_t time_wall_ms(void); /* since 1970, UTC */
#define TIME_ISO 25
void time_iso(char out[TIME_ISO], int64_t wall_ms); /* 2026-11-22T04:41:43.123Z */
void time_sleep_ms(int64_t ms);

/* ---- threads ------------------------------------------------------------------------------ */

/* Locks are taken only in this order (a thread holding a lock takes only later ones); debug builds
 * assert it. */
enum lock_rank {
    LOCK_CORPUS = 1, /* corpus: workers, running jobs */
    LOCK_READ,       /* read: the pool of reader children */
    LOCK_STORE,      /* store: the one writer */
    LOCK_HTTP,       /* http: connections and streams */
    LOCK_EVENTS,     /* api: the ring of events */
    LOCK_METRICS,    /* base: counters */
    LOCK_LOG,
};
struct lock {
    pthread_mutex_t mutex;
    enum lock_rank rank;
};
void lock_init(struct lock *lock, enum lock_rank rank);
void lock_fini(struct lock *lock);
void lock_take(struct lock *lock);
void lock_drop(struct lock *lock);
struct signal_cond {
    pthread_cond_t cond; /* on the monotonic clock */
};
void cond_init(struct signal_cond *cond);
void cond_fini(struct signal_cond *cond);
/* False when deadline_ms (time_mono_ms; -1 none) passed first. */
bool cond_wait(struct signal_cond *cond, struct lock *lock, int64_t deadline_ms);
void cond_wake_all(struct signal_cond *cond);
struct thread;
/* All signals are blocked in it. */
bool thread_start(struct thread **out, const char *name, void (*run)(void *), void *arg,
                  struct error *err);
void thread_join(struct thread *thread); /* frees it; NULL is fine */
int cpu_count(void);                     /* processors this process may use */

/* ---- log ---------------------------------------------------------------------------------- */

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
/* path NULL: stderr. json: one object a line with time, level, message. Until called: text, info,
 * stderr. Control characters in messages are escaped, so that one message is one line. */
bool log_open(enum log_level level, bool json, const char *path, struct error *err);
/* The log's file anew, by its path: once it was moved away. The old one stays in use where that
 * cannot be. Nothing to do on stderr. */
bool log_reopen(struct error *err);
void log_write(enum log_level level, const char *format, ...) BASE_PRINTF(2, 3);
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

/* ---- metrics ------------------------------------------------------------------------------ */

/* Process-wide, fixed set, declared where it is counted; text in Prometheus' format.
 * labels is NULL or `stage="read"`; a family has at most 64 label sets. */
void metric_add(const char *family, const char *labels, const char *help, double amount);
void metric_set(const char *family, const char *labels, const char *help, double value); /* gauge */
void metric_forget(const char *family); /* its values so far, of things that may be gone */
/* Histogram of seconds with buckets 1 ms … 60 s. */
void metric_observe(const char *family, const char *labels, const char *help, double seconds);
void metric_write(struct buf *out);

/* ---- fault points ------------------------------------------------------------------------- */

/* In builds with -Dfault_points=true, DOCUSEARCH_FAULT="name:kill" ends the process with SIGKILL
 * here and "name:sleep" waits here 30 s; in others it is nothing. Names: received, renamed, queued,
 * parsed, chunked, embedded, committed, damaged, reembedded; reindex_noted, _loaded, _queued,
 * _switching, _switched, _dropped. */
#ifdef FAULT_POINTS
void fault_point(const char *name);
#else
#define fault_point(name) ((void)0)
#endif

#define DOCUSEARCH_VERSION "0.1.0"

#include "base/settings.h"

#endif
