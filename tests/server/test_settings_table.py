"""Every setting, what it does, and the tests that see it done."""

import inspect
import re
import subprocess

import test_search_stages
import test_settings as of
import test_settings_chroma as chroma
from running import PROGRAM

# CONTRACTS.md, section 2.
PROMISED = """
    DEVICE DEVICE_STRICT MODEL_NAME MODEL_PRECISION TEXT_MODEL MODELS_DIR HF_ENDPOINT HF_HOME
    HF_TOKEN HF_HUB_OFFLINE CHROMA_HOST CHROMA_PORT CHROMA_TENANT CHROMA_DATABASE CHROMA_TOKEN CHROMA_SSL
    VISUAL_COLLECTION TEXT_COLLECTION BATCH_SIZE_VISUAL BATCH_SIZE_TEXT TEXT_CHUNK_SIZE
    TEXT_CHUNK_OVERLAP PAGE_RENDER_DPI WORKER_HOST WORKER_PORT DATA_DIR UPLOADS_DIR INGEST_ROOTS
    MAX_FILE_SIZE_MB MAX_PAGES SUPPORTED_FORMATS API_KEY API_KEY_FILE LOG_LEVEL LOG_FORMAT LOG_FILE
""".split()

# variable -> the effect that is seen, where.
TABLE = {
    "DOCUSEARCH_CONFIG": ("its lines act below variables and flags", of.test_order_of_authority),
    "DATA_DIR": ("the database lies there", of.test_data_dir),
    "UPLOADS_DIR": ("/process reads there", of.test_uploads_dir_and_ingest_roots),
    "INGEST_ROOTS": ("/process reads there, and only there", of.test_uploads_dir_and_ingest_roots),
    "HOOK_PATH_MAP": ("a path of Copyparty's is found here", of.test_hook_path_map),
    "WORKER_HOST": ("it answers there, and not elsewhere", of.test_worker_host),
    "WORKER_PORT": ("it answers there; a taken one is told", of.test_worker_port),
    "TEXT_CHUNK_SIZE": ("no passage has more words", of.test_text_chunk_size_and_overlap),
    "TEXT_CHUNK_OVERLAP": ("passages share that many", of.test_text_chunk_size_and_overlap),
    "PAGE_RENDER_DPI": ("pictures are that many pixels wide and high", of.test_page_render_dpi),
    "MAX_FILE_SIZE_MB": ("one byte more is refused", of.test_max_file_size_mb),
    "MAX_PAGES": ("one page more is not read", of.test_max_pages),
    "SUPPORTED_FORMATS": ("others are refused, these listed", of.test_supported_formats),
    "OCR_LANGUAGES": ("/health tells of them", of.test_ocr_languages),
    "WORKER_THREADS": ("that many jobs run at once", of.test_worker_threads),
    "MAX_QUEUE": ("uploads past it get 429", of.test_max_queue),
    "API_KEY": ("401 without it", of.test_api_key),
    "API_KEY_FILE": ("401 without what stands in it", of.test_api_key_file),
    "INSECURE": ("it listens beyond this machine without a key",
                 of.test_a_host_beyond_this_machine_needs_a_key_or_insecure),
    "CORS_ORIGIN": ("that origin's pages may call, others not", of.test_cors_origin),
    "MODEL_NAME": ("/health names that model of pages", of.test_text_model_and_model_name),
    "TEXT_MODEL": ("/health names that model of passages", of.test_text_model_and_model_name),
    "MODEL_PRECISION": ("models compute so; it is part of the space's name",
                        of.test_model_precision),
    "QUERY_PROMPT": ("a question's vectors change", of.test_query_prompt_and_batch_size_visual),
    "BATCH_SIZE_VISUAL": ("that many pictures a batch", of.test_query_prompt_and_batch_size_visual),
    "BATCH_SIZE_TEXT": ("that many texts a batch", of.test_batch_sizes),
    "MODELS_DIR": ("fetched models lie and are found there", of.test_models_dir_and_the_hub),
    "HF_ENDPOINT": ("models are fetched from there", of.test_models_dir_and_the_hub),
    "HF_TOKEN": ("a guarded model opens with it", of.test_models_dir_and_the_hub),
    "HF_HUB_OFFLINE": ("no request is made", of.test_models_dir_and_the_hub),
    "HF_HOME": ("a model in its cache is used in place", of.test_hf_home),
    "INDEX_POOL_FACTOR": ("pooled vectors take more room",
                          test_search_stages.test_index_settings_choose_what_is_kept),
    "INDEX_CODE_BITS": ("pooled vectors take less and more room",
                        test_search_stages.test_index_settings_choose_what_is_kept),
    "INDEX_FULL_VECTORS": ("they are kept or not",
                           test_search_stages.test_index_settings_choose_what_is_kept),
    "SEARCH_RECALL": ("less of it scores fewer, 1 all",
                      test_search_stages.test_search_recall_chooses_how_many_are_scored),
    "CHROMA_HOST": ("requests arrive there; rows are in it", chroma.test_chroma_host_and_port),
    "CHROMA_PORT": ("requests arrive there", chroma.test_chroma_host_and_port),
    "CHROMA_TENANT": ("rows are there, none elsewhere", chroma.test_chroma_tenant_and_database),
    "CHROMA_DATABASE": ("rows are there, none elsewhere", chroma.test_chroma_tenant_and_database),
    "CHROMA_TOKEN": ("every request bears it", chroma.test_chroma_token),
    "CHROMA_SSL": ("requests go over TLS, to whom the system trusts", chroma.test_chroma_ssl),
    "VISUAL_COLLECTION": ("pages are in collections so named",
                          chroma.test_visual_and_text_collection),
    "TEXT_COLLECTION": ("passages are in the collection so named",
                        chroma.test_visual_and_text_collection),
    "DEVICE": ("models run there, or why not is told", of.test_device),
    "DEVICE_STRICT": ("a device that is not there ends it", of.test_device_strict),
    "LOG_LEVEL": ("lines below it are not written", of.test_log_level),
    "LOG_FORMAT": ("lines are JSON", of.test_log_format),
    "LOG_FILE": ("lines are in it, and not on standard error", of.test_log_file),
}


def test_every_setting_has_its_line():
    done = subprocess.run([PROGRAM, "help", "settings"], capture_output=True, text=True)
    assert done.returncode == 0
    rows = [re.match(r" {2}(?:--[a-z-]+)? +([A-Z][A-Z_]+) ", line)
            for line in done.stdout.splitlines()[1:] if line.startswith("  ")]
    known = [row[1] for row in rows if row]
    assert len(known) > 40
    assert sorted(known) == sorted(TABLE)
    assert set(PROMISED) <= set(TABLE)


def test_the_tests_in_the_table_set_what_they_show():
    for variable, (effect, test) in TABLE.items():
        assert effect and test.__name__.startswith("test_")
        source = inspect.getsource(test) + "".join(
            str(mark.args) for mark in getattr(test, "pytestmark", []))
        # Chroma's address is given by the server that the test was given.
        given = ("chroma.settings" in source) and variable in ("CHROMA_HOST", "CHROMA_PORT")
        assert given or re.search(rf"\b{variable}\b", source), (variable, test.__name__)
