/* The program: settings, then one command. */
#include "app/internal.h"

#include <locale.h>
#include <signal.h>
#include <string.h>

static const struct command commands[] = {
    {"serve", "serve", "run the server and its web page",
     "Serves until Ctrl-C or SIGTERM. Waiting jobs are taken up again at the next start.\n"
     "Settings come from flags, environment and --config FILE; `docusearch help settings` lists "
     "them.\n",
     command_serve, false},
    {"add", "add PATH… [--json] [--quiet]", "read files and folders into the corpus",
     "Folders are walked; hidden files and types that are not supported are left out.\n"
     "  --quiet   no progress\n"
     "  --json    the outcome as JSON on standard output\n",
     command_add, false},
    {"search", "search QUERY… [--json] [-n N] [--mode MODE]", "ask the corpus",
     "Words, \"exact phrases\", prefix*, -without.\n"
     "  -n N          at most N results (10)\n"
     "  --mode MODE   hybrid, visual, text or lexical (hybrid)\n"
     "  --type TYPE   only this type or group: pdf, docx, office, text, images …\n"
     "  --explain     also what each stage gave to a result\n"
     "  --exact       score every page and passage in full, whatever SEARCH_RECALL says\n"
     "  --json        the server's reply as JSON\n",
     command_search, true},
    {"list", "list [TEXT] [--json] [-n N] [--sort SORT]", "list documents",
     "  TEXT          part of a file name or title\n"
     "  -n N          at most N, of 100 (50)\n"
     "  --sort SORT   newest_first, oldest_first, name_asc or name_desc\n",
     command_list, false},
    {"show", "show ID [--json] [--markdown]", "show a document",
     "  ID           the id, or its first 8 digits or more\n"
     "  --markdown   its text as Markdown\n",
     command_show, false},
    {"rm", "rm ID… [--json]", "remove documents", "  ID   the id, or its first 8 digits or more\n",
     command_rm, false},
    {"jobs", "jobs [cancel ID | retry ID] [--json] [--state STATE]", "list, cancel, retry jobs",
     "  --state STATE   queued, processing, completed, failed or cancelled\n", command_jobs, false},
    {"check", "check [--json]", "look over this machine and the data folder",
     "Device, sandbox, converters, disk, port: what is there, what is not, and what to do.\n",
     command_check, false},
    {"embed",
     "embed [--model NAME|FOLDER] (--image FILE | --query TEXT | --passage TEXT)… [--verbose]",
     "turn texts and pictures into vectors",
     "Prints JSON: {\"model\",\"space\",\"dim\",\"vectors\"}, or with several inputs "
     "{\"inputs\":[…]} of the\n"
     "same. Needs no server and no data folder. Texts go to TEXT_MODEL, pictures to MODEL_NAME.\n"
     "  --model NAME            another model, by name or folder, for all inputs\n"
     "  --base FOLDER           the base model's folder, for an adapter\n"
     "  --passages-from FILE    one passage a line; - is standard input\n"
     "  --verbose               device, load time and inputs a second on standard error\n",
     command_embed, false},
    {"pull", "pull [NAME…] [--revision REVISION | --from FOLDER] [--json] [--quiet]",
     "fetch models",
     "Fetches models from the hub (HF_ENDPOINT) into MODELS_DIR, checked, going on where an\n"
     "earlier pull stopped; what is there, in huggingface_hub's cache too, stays as it is.\n"
     "  NAME                  owner/name; without one TEXT_MODEL, not the larger MODEL_NAME\n"
     "  --revision REVISION   a branch, tag or commit (main)\n"
     "  --from FOLDER         take the model's files from a folder instead, as NAME\n"
     "  --quiet               no progress\n",
     command_pull, false},
    {"models", "models [--json]", "list models, and what the settings point to",
     "Complete and half fetched ones, of MODELS_DIR and of huggingface_hub's cache.\n",
     command_models, false},
    {"reindex",
     "reindex [--missing | --all | --model NAME | --store PLACE | --cancel] [--json] [--quiet]",
     "embed documents again",
     "From their stored pages and passages, without reading them again. Searches go on meanwhile;\n"
     "a server that is started again goes on where it was.\n"
     "  --missing      documents without vectors of the models in use (the default)\n"
     "  --all          every document, each replaced at once\n"
     "  --model NAME   every document by another model, which is used once none is missing\n"
     "  --store PLACE  nothing is embedded: chroma, own documents into ChromaDB, each looked at;\n"
     "                 or index, the vectors of others' documents from there into the data folder\n"
     "  --cancel       end the run that is under way\n"
     "  --json         the last state as JSON on standard output\n"
     "  --quiet        no progress\n",
     command_reindex, false},
    {"rm-model", "rm-model NAME… [--json]", "remove fetched models",
     "Removes from MODELS_DIR; huggingface_hub's cache is left alone.\n", command_rm_model, false},
    {"export", "export DIR [--json] [--quiet]", "put documents and vectors into a folder",
     "Documents, metadata and vectors of one moment, while a server goes on; jobs, settings and\n"
     "models are left out. DIR is made, or an earlier export in it brought up to date. Files are\n"
     "hard links where DIR is on the data folder's file system: a backup goes onto another disk.\n"
     "Of other workers' documents it has what is here: what is shown and searched, and, after\n"
     "`reindex --store index`, their vectors; originals and pictures are with their worker.\n"
     "  --json    the outcome as JSON on standard output\n"
     "  --quiet   no progress\n",
     command_export, false},
    {"import", "import DIR [--json] [--quiet]", "take in what export has put into a folder",
     "Checks every file of the export first. Documents that are here already stay as they are, so\n"
     "that the same command goes on with what was cut off. Into an empty data folder it is the\n"
     "restore of a backup. With CHROMA_HOST set other workers' documents come from there instead.\n"
     "  --json    the outcome as JSON on standard output\n"
     "  --quiet   no progress\n",
     command_import, false},
    {"hook", "hook [--map FROM=TO]… [--deadline SECONDS] [EVENT]",
     "tell the server what Copyparty did",
     "For Copyparty's hooks, as `--xau f,t60,j,,docusearch,hook`, likewise --xad, --xar, --xbr\n"
     "and --xac, and `--xiu j,i5,,docusearch,hook`; deploy/copyparty.conf has them all.\n"
     "  EVENT                the event as JSON, or a path; else standard input has them\n"
     "  --map FROM=TO        what paths begin with at Copyparty and at the server; repeatable,\n"
     "                       beside HOOK_PATH_MAP\n"
     "  --deadline SECONDS   how long the server is tried, below the hook line's tN (50)\n"
     "The server is at WORKER_HOST and WORKER_PORT; its key comes from API_KEY_FILE or API_KEY.\n",
     command_hook, false},
};

/* What takes neither settings nor a data folder. */
static const struct command plain_commands[] = {
    {"version", "version", "print the version", "", NULL, false},
    {"help", "help [COMMAND | settings]",
     "say what there is; `help COMMAND`, `help settings` say more", "", NULL, false},
};

static void print_summaries(FILE *out, const struct command *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        fprintf(out, "  %-8s %s\n", list[i].name, list[i].summary);
}

static void print_help(FILE *out) {
    fputs("docusearch: search your documents, natively\n\n"
          "usage: docusearch COMMAND [ARGUMENTS] [SETTINGS]\n\n",
          out);
    print_summaries(out, commands, BASE_COUNT(commands));
    print_summaries(out, plain_commands, BASE_COUNT(plain_commands));
    fputs("\nA command goes through the server that runs on the data folder; without one it opens "
          "the\nfolder itself.\n",
          out);
}

static int help_command(const struct command *command) {
    printf("usage: docusearch %s\n\n%s\n", command->usage, command->summary);
    if (*command->help)
        printf("\n%s", command->help);
    return EXIT_OK;
}

static const struct command *find_in(const struct command *list, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].name, name) == 0)
            return &list[i];
    }
    return NULL;
}

static const struct command *find_command(const char *name) {
    return find_in(commands, BASE_COUNT(commands), name);
}

static int help(int argc, char **argv) {
    if (argc < 2) {
        print_help(stdout);
        return EXIT_OK;
    }
    if (strcmp(argv[1], "settings") == 0) {
        struct buf text = {0};
        settings_help(&text);
        fputs(text.data, stdout);
        buf_fini(&text);
        return EXIT_OK;
    }
    const struct command *command = find_command(argv[1]);
    if (!command)
        command = find_in(plain_commands, BASE_COUNT(plain_commands), argv[1]);
    if (command)
        return help_command(command);
    fprintf(stderr, "docusearch: no command '%s'; `docusearch help` lists them\n", argv[1]);
    return EXIT_USAGE;
}

static int run_command(const struct command *command, int argc, char **argv) {
    if (take_flag(&argc, argv, "--help") || take_flag(&argc, argv, "-h"))
        return help_command(command);
    struct settings settings;
    struct error err;
    if (!settings_load(&settings, &argc, argv, &err)) {
        fprintf(stderr, "docusearch: %s\n", err.text);
        return EXIT_USAGE;
    }
    /* A command's own lines say what happened; the log joins them only where it is asked for. */
    if (command->run != command_serve && !settings.log_file && settings.log_level == LOG_INFO)
        settings.log_level = LOG_ERROR;
    int status;
    if (!log_open(settings.log_level, settings.log_json, settings.log_file, &err))
        status = failed(&err);
    else
        status = command->run(command, argc, argv, &settings);
    settings_fini(&settings);
    return status;
}

static int run(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return help(argc - 1, argv + 1);
    if (strcmp(name, "version") == 0 || strcmp(name, "--version") == 0) {
        puts("docusearch " DOCUSEARCH_VERSION);
        return EXIT_OK;
    }
    const struct command *command = find_command(name);
    if (!command) {
        fprintf(stderr, "docusearch: no command '%s'; `docusearch help` lists them\n", name);
        return EXIT_USAGE;
    }
    return run_command(command, argc - 1, argv + 1);
}

int main(int argc, char **argv) {
    if (argc >= 2 && strcmp(argv[1], "reader-child") == 0)
        return read_child_main(argc, argv);
    setlocale(LC_CTYPE, "C.UTF-8");
    signal(SIGPIPE, SIG_IGN);
    int status = run(argc, argv);
    bool lost = fflush(stdout) != 0 || ferror(stdout); /* the latter: while a long text was made */
    if (lost && status == EXIT_OK)
        status = EXIT_FAILED;
    return status;
}
