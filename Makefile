# Thin: Meson builds, scripts do the rest. Each target installs what it needs first.
BUILD := build
TEST_BUILD := build-test

.PHONY: all setup setup-test build-test test demo lint format fuzz sanitize bench bench-models bench-search bench-shared install uninstall clean

all: setup $(BUILD)/build.ninja
	ninja -C $(BUILD) docusearch

setup:
	@scripts/setup.sh build

setup-test:
	@scripts/setup.sh test

$(BUILD)/build.ninja: | setup
	meson setup $(BUILD)

$(TEST_BUILD)/build.ninja: | setup-test
	meson setup $(TEST_BUILD) -Dfault_points=true

build-test: setup-test $(TEST_BUILD)/build.ninja
	ninja -C $(TEST_BUILD)

test: build-test
	@scripts/test.sh $(TEST_BUILD)

demo: all
	@scripts/demo.sh

# The source checks, and every warning clang has for us beside gcc's.
lint: setup-test
	python3 tests/source/check.py
	python3 tests/source/check_format.py
	[ -f build-lint/build.ninja ] || CC=clang meson setup build-lint
	ninja -C build-lint

format: setup-test
	clang-format -i $$(find src tests fuzz bench -name '*.[ch]')

# Every fuzz target for FUZZ_SECONDS each.
FUZZ_SECONDS := 60
fuzz: setup-test
	fuzz/run.sh $(FUZZ_SECONDS)

# The whole suite under AddressSanitizer with UndefinedBehaviorSanitizer, then under ThreadSanitizer.
sanitize: setup-test
	scripts/sanitize.sh asan tsan

bench: all
	bench/run.sh $(BUILD)

# The models beside PyTorch's; BENCH_PYTHON: an interpreter that has it. Takes an hour, quiet.
bench-models: all
	ninja -C $(BUILD) tests/kernel/test_gemm
	python3 bench/models.py $(BUILD) $(BENCH_MODELS)

# The index beside other late-interaction searches; BENCH_PYTHON: an interpreter that has them,
# BENCH_MINILM: the folder of all-MiniLM-L6-v2. Takes hours the first time, quiet, and 60 GB.
bench-search: all
	ninja -C $(BUILD) bench/bench_search
	python3 bench/search.py $(BUILD) $(BENCH_SEARCH)

# Vectors in a real ChromaDB beside the embedded index, with the tests' Python environment;
# BENCH_MINILM: the folder of all-MiniLM-L6-v2, without which the judged part is left out. Quiet.
bench-shared: all setup-test
	ninja -C $(BUILD) bench/bench_search bench/bench_shared
	.venv/bin/python bench/shared.py $(BUILD) $(BENCH_SHARED)

# The program, its manual page, bash's completion, the service and its log's rotation; DESTDIR, PREFIX
# and SYSCONFDIR say where to.
PREFIX := /usr/local
SYSCONFDIR := $(if $(filter /usr /usr/local,$(PREFIX)),/etc,$(PREFIX)/etc)
install: all
	meson configure $(BUILD) -Dprefix=$(PREFIX) -Dsysconfdir=$(SYSCONFDIR)
	ninja -C $(BUILD) docusearch deploy/docusearch.1
	DESTDIR="$(DESTDIR)" meson install --no-rebuild --strip -C $(BUILD)

# What the last install put there.
uninstall:
	ninja -C $(BUILD) uninstall

clean:
	rm -rf $(BUILD) $(TEST_BUILD) build-lint build-fuzz build-asan build-tsan
