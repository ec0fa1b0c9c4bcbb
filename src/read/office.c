/* The converter child: LibreOffice, kept in this process (LibreOfficeKit) or started for each file
 * (soffice) where it cannot be. It sees the system's files read-only and one private folder:
 *
 *   profile/  its settings, written here: no macros, no updates of links, no first-start dialogue
 *   tmp/      TMPDIR and HOME
 *   job/      input.<extension>, and output.pdf once a file is converted
 *
 * Some files abort LibreOffice: the parent starts another child then. */
#include "read/child.h"

#include "sandbox/sandbox.h"

#define LOK_USE_UNSTABLE_API
#include <LibreOfficeKit/LibreOfficeKitInit.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_INPUT ((int64_t)4 << 30)
#define RESTART 81 /* soffice's exit status when a new profile wants it started again */
#define CPU_S 900  /* a document: behind the parent's deadline */

#ifdef FAULT_POINTS
/* "none": as if LibreOffice were not installed; "soffice": as if its kit would not start; "crash":
 * as if it crashed over every file; "hang": as if it never came back. */
static bool office_fault(const char *what) {
    const char *wanted = getenv("DOCUSEARCH_FAULT_OFFICE");
    return wanted && strcmp(wanted, what) == 0;
}
#else
#define office_fault(what) false
#endif

const char *office_program_dir(void) {
    static const char *const dirs[] = {
        "/usr/lib/libreoffice/program",
        "/usr/lib64/libreoffice/program",
        "/usr/local/lib/libreoffice/program",
        "/opt/libreoffice/program",
        "/Applications/LibreOffice.app/Contents/Frameworks",
    };
    char path[256];
    if (office_fault("none"))
        return NULL;
    for (size_t i = 0; i < BASE_COUNT(dirs); i++) {
        static const char *const files[] = {"soffice.bin", "libmergedlo.so", "libsofficeapp.so",
                                            "libsofficeapp.dylib"};
        for (size_t k = 0; k < BASE_COUNT(files); k++) {
            snprintf(path, sizeof path, "%s/%s", dirs[i], files[k]);
            if (access(path, R_OK) == 0)
                return dirs[i];
        }
    }
    return NULL;
}

#define ITEM(path, name, value)                                                                    \
    "<item oor:path=\"/org.openoffice." path "\"><prop oor:name=\"" name                           \
    "\" oor:op=\"fuse\"><value>" value "</value></prop></item>\n"

static const char settings_xml[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    "<oor:items xmlns:oor=\"http://openoffice.org/2001/registry\" "
    "xmlns:xs=\"http://www.w3.org/2001/XMLSchema\" "
    "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n" ITEM(
        "Office.Common/Security/Scripting", "MacroSecurityLevel",
        "3") ITEM("Office.Common/Security/Scripting", "DisableMacrosExecution", "true")
        ITEM("Office.Common/Security/Scripting", "BlockUntrustedRefererLinks",
             "true") ITEM("Office.Common/Security/Scripting", "CheckDocumentEvents",
                          "true") ITEM("Office.Common/Misc", "FirstRun", "false")
            ITEM("Office.Common/Misc", "ShowTipOfTheDay",
                 "false") ITEM("Office.Common/Save/Document", "CreateBackup",
                               "false") ITEM("Office.Recovery/RecoveryInfo", "Enabled", "false")
                ITEM("Office.Recovery/AutoSave", "Enabled",
                     "false") ITEM("Office.Writer/Content/Update", "Link",
                                   "2") ITEM("Office.WriterWeb/Content/Update", "Link",
                                             "2") ITEM("Office.Calc/Content/Update", "Link", "2")
                    ITEM("Office.Jobs/Jobs/org.openoffice.Office.Jobs:Job['UpdateCheck']/Arguments",
                         "AutoCheckEnabled", "false")
                        ITEM("Inet/Settings", "ooInetProxyType", "0") "</oor:items>\n";

static bool prepare_folder(const char *dir, struct error *err) {
    static const char *const folders[] = {"profile", "profile/user", "tmp", "job"};
    char path[4096];
    for (size_t i = 0; i < BASE_COUNT(folders); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, folders[i]);
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            return error_set_errno(err, errno, "%s", path);
    }
    snprintf(path, sizeof path, "%s/profile/user/registrymodifications.xcu", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(err, errno, "%s", path);
    bool fine = fd_write_all(fd, settings_xml, sizeof settings_xml - 1, err);
    close(fd);
    return fine;
}

struct converter {
    const char *dir, *program_dir;
    LibreOfficeKit *kit; /* NULL: soffice */
};

/* "file:///a%20b", in out. */
static const char *file_url(struct buf *out, const char *before, const char *path) {
    buf_clear(out);
    buf_printf(out, "%sfile://", before);
    for (; *path; path++) {
        unsigned char c = (unsigned char)*path;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     strchr("/-._~", c);
        if (plain)
            buf_putc(out, (char)c);
        else
            buf_printf(out, "%%%02X", c);
    }
    return out->data;
}

static void kit_version(char *out, size_t size, LibreOfficeKit *kit) {
    snprintf(out, size, "LibreOfficeKit");
    char *text = kit->pClass->getVersionInfo(kit);
    json_t *info = text ? json_loads(text, 0, NULL) : NULL;
    const char *version = json_string_value(json_object_get(info, "ProductVersion"));
    const char *extension = json_string_value(json_object_get(info, "ProductExtension"));
    if (version)
        snprintf(out, size, "LibreOfficeKit %s%s", version, extension ? extension : "");
    json_decref(info);
    free(text); /* LibreOffice's block */
}

static bool copy_input(int fd, const char *path, struct error *err) {
    unlink(path);
    int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0)
        return error_set_errno(err, errno, "%s", path);
    bool fine = true;
    char *block = mem_alloc(1 << 20);
    for (int64_t at = 0; fine && at < MAX_INPUT;) {
        ssize_t n = pread(fd, block, 1 << 20, at);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            fine = error_set_errno(err, errno, "reading the original");
        if (n > 0) {
            fine = fd_write_all(to, block, (size_t)n, err);
            at += n;
        }
    }
    mem_free(block);
    close(to);
    return fine;
}

static bool convert_by_kit(struct converter *converter, const char *in, const char *out,
                           struct error *err) {
    struct buf url = {0};
    LibreOfficeKit *kit = converter->kit;
    LibreOfficeKitDocument *doc = kit->pClass->documentLoadWithOptions(kit, file_url(&url, "", in),
                                                                       "Batch=true");
    if (!doc) {
        buf_fini(&url);
        char *why = kit->pClass->getError(kit);
        bool password = why && strcasestr(why, "password");
        if (password)
            error_set_code(err, ERROR_INPUT, "password_required", "the file is encrypted");
        else
            error_set_code(err, ERROR_INPUT, "corrupt", "LibreOffice: %s",
                           why && *why ? why : "the file cannot be loaded");
        if (why && kit->pClass->freeError)
            kit->pClass->freeError(why);
        return false;
    }
    bool fine = doc->pClass->saveAs(doc, file_url(&url, "", out), "pdf", NULL) != 0;
    doc->pClass->destroy(doc);
    buf_fini(&url);
    return fine ? true
                : error_set_code(err, ERROR_INPUT, "corrupt", "LibreOffice: no PDF can be made");
}

/* LibreOffice names what it writes by its input, beside which it is told to put it. */
static bool convert_by_program(struct converter *converter, const char *in, const char *out,
                               struct error *err) {
    char program[512], profile_dir[4200], outdir[4200], made[4200];
    struct buf profile = {0};
    snprintf(program, sizeof program, "%s/soffice.bin", converter->program_dir);
    snprintf(profile_dir, sizeof profile_dir, "%s/profile", converter->dir);
    file_url(&profile, "-env:UserInstallation=", profile_dir);
    snprintf(outdir, sizeof outdir, "%s/job", converter->dir);
    char *argv[] = {program,       profile.data, "--headless",    "--invisible",
                    "--norestore", "--nologo",   "--nolockcheck", "--convert-to",
                    "pdf",         "--outdir",   outdir,          (char *)in,
                    NULL};
    int status = 0;
    pid_t pid = -1;
    for (int n = 0; n == 0 || (n < 3 && WIFEXITED(status) && WEXITSTATUS(status) == RESTART); n++) {
        pid = fork();
        if (pid == 0) {
            execv(program, argv);
            _exit(127);
        }
        while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
            continue;
    }
    buf_fini(&profile);
    if (pid < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 127))
        return error_set_code(err, ERROR_MISSING, "converter_missing", "%s does not start",
                              program);
    snprintf(made, sizeof made, "%s/job/input.pdf", converter->dir);
    if (WIFSIGNALED(status))
        return error_set_code(err, ERROR_INTERNAL, "parser_crash", "soffice ended by signal %d",
                              WTERMSIG(status));
    if (rename(made, out) != 0)
        return error_set_code(err, ERROR_INPUT, "corrupt", "LibreOffice cannot convert the file");
    return true;
}

static bool convert(struct converter *converter, enum read_format format, int fd,
                    struct error *err) {
    char in[4200], out[4200];
    const char *extensions = read_format_lookup(format)->extensions;
    snprintf(in, sizeof in, "%s/job/input.%.*s", converter->dir, (int)strcspn(extensions, " "),
             extensions);
    snprintf(out, sizeof out, "%s/job/output.pdf", converter->dir);
    unlink(out);
    if (fd < 0)
        return error_set_code(err, ERROR_INTERNAL, "parser_crash", "no descriptor came");
    if (office_fault("crash"))
        raise(SIGSEGV);
    while (office_fault("hang"))
        time_sleep_ms(1000);
    sandbox_cpu_limit(CPU_S);
    bool fine = copy_input(fd, in, err) &&
                (converter->kit ? convert_by_kit(converter, in, out, err)
                                : convert_by_program(converter, in, out, err));
    unlink(in);
    return fine;
}

static bool start(struct converter *converter, struct wire_ready *ready, bool soffice,
                  struct error *err) {
    converter->program_dir = office_program_dir();
    if (!converter->program_dir)
        return error_set_code(err, ERROR_MISSING, "converter_missing",
                              "LibreOffice is not installed");
    const char *read_dirs[] = {converter->program_dir, NULL};
    struct sandbox_lock lock = {
        .kind = SANDBOX_CONVERTER,
        .private_dir = converter->dir,
        .read_dirs = read_dirs,
        .may_exec = soffice,
        .socket_dir = soffice ? "/tmp" : NULL, /* soffice insists on one, there */
    };
    umask(077);
    if (chdir(converter->dir) != 0)
        return error_set_errno(err, errno, "%s", converter->dir);
    if (!sandbox_lock(ready->level, &lock, err) || !prepare_folder(converter->dir, err))
        return false;
    if (soffice) {
        snprintf(ready->engine, sizeof ready->engine, "soffice");
        return true;
    }
    struct buf profile = {0};
    file_url(&profile, "", converter->dir);
    buf_puts(&profile, "/profile");
    if (!office_fault("soffice"))
        converter->kit = lok_init_2(converter->program_dir, profile.data);
    buf_fini(&profile);
    if (!converter->kit)
        return error_set_code(err, ERROR_MISSING, "converter_missing",
                              "LibreOfficeKit does not start");
    kit_version(ready->engine, sizeof ready->engine, converter->kit);
    return true;
}

int read_converter_main(const char *dir, bool soffice) {
    struct converter converter = {.dir = dir};
    struct wire_ready ready = {0};
    struct error err = {0};
    if (!start(&converter, &ready, soffice, &err)) {
        read_child_send_failed(&err);
        return 1;
    }
    read_child_send_ready(&ready);

    uint32_t type;
    uint8_t *payload;
    size_t len;
    int fd;
    while (sandbox_child_receive(&type, &payload, &len, &fd)) {
        enum read_format format;
        if (type != WIRE_CONVERT || !wire_get_format(&format, payload, len))
            return 1;
        mem_free(payload);
        bool fine = convert(&converter, format, fd, &err);
        if (fd >= 0)
            close(fd);
        if (fine)
            sandbox_child_send(WIRE_CONVERTED, NULL, 0, NULL, 0);
        else
            read_child_send_failed(&err);
        err = (struct error){0};
    }
    return 0;
}
