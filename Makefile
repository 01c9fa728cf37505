# SPDX-License-Identifier: Apache-2.0
# Every target does its own set-up: a virtual environment in .venv, CPU PyTorch, and the package itself.

PYTHON      ?= python3
VENV        ?= .venv
# Where CPU builds of PyTorch come from when the configured package index has none.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN         := $(VENV)/bin
PIP         := $(BIN)/python -m pip --disable-pip-version-check -q
STAMP       := $(VENV)/.ready

.PHONY: bench-quality demo test lint types contracts vectors bench interop interop-full fuzz soak verify-release sbom requirements
.PHONY: setup clean help native native-check native-sanitize native-neon native-fuzz

help:            ## Show the targets.
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+:  +##' $(MAKEFILE_LIST) | sed 's/:.*##/:/'

setup: $(STAMP)  ## Make the virtual environment and install everything.

# PyTorch first and by its CPU build: the default Linux wheel brings gigabytes of CUDA that nothing here uses.
# bitsandbytes without dependencies: it would ask for a CUDA build of PyTorch again.
$(STAMP): pyproject.toml setup.py constraints.txt Makefile $(wildcard native/*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(PIP) install "$$(grep '^torch==' constraints.txt)" || \
	$(PIP) install --index-url $(TORCH_INDEX) "$$(grep '^torch==' constraints.txt)"
	$(PIP) install -c constraints.txt -e '.[dev,demo]'
	$(PIP) install --no-deps "$$(grep '^bitsandbytes==' constraints.txt)"
	touch $@

demo: $(STAMP)   ## Weigh, sign and admit a real encoder; flip one bit of it; watch the deployment halt.
	HF_HUB_OFFLINE=1 $(BIN)/python examples/demo.py

test: $(STAMP)   ## All tests, vectors and attacks included.
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -n auto --dist loadfile

lint: $(STAMP)   ## Style and formatting.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## Strict typing.
	$(BIN)/mypy

contracts: $(STAMP)  ## The floors of ARCHITECTURE.md.
	$(BIN)/lint-imports

vectors: $(STAMP)  ## The test vectors of every format alone.
	$(BIN)/python -m pytest -q tests/vectors

bench: $(STAMP)  ## Measure; results go to benchmarks/results, the table to benchmarks/README.md.
	$(PIP) install -c constraints.txt -e '.[bench]'
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/digest.py
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/environment.py
	$(BIN)/python benchmarks/codec.py
	$(BIN)/python benchmarks/seal.py $(addprefix --cosign ,$(wildcard build/interop/cosign/root/usr/bin/cosign))

bench-quality: $(STAMP)  ## Quality of packs beside other quantizers; MODELS=folder of models, LLAMA=folder made by benchmarks/peers/get_llama.sh.
	$(PIP) install -c constraints.txt -e '.[bench]'
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/quality.py peers --models $(MODELS) --llama $(LLAMA)/bin
	mkdir -p build/quality
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/quality.py packs --models $(MODELS) --work build/quality

INTEROP := build/interop

interop: $(STAMP)  ## Put every format to tools of others: each must refuse what we refuse. CI=1: none may be missing.
	$(PIP) install -c constraints.txt -e '.[interop]'
	mkdir -p $(INTEROP) && cp interop/package.json interop/package-lock.json $(INTEROP)/
	-npm ci --prefix $(INTEROP) --no-audit --no-fund --loglevel=error || npm ci --prefix $(INTEROP) --no-audit --no-fund
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q interop $(if $(CI),--must-run) $(RECORD)

interop-full:    ## The same with cosign, fetched from a newer Debian suite; results go to interop/results.
	-interop/get_cosign.sh $(INTEROP)/cosign
	$(MAKE) interop RECORD='--results interop/results'

verify-release: $(STAMP)  ## Build wheel and sdist twice, in different conditions, and compare them bit for bit.
	$(BIN)/python tools/release.py verify

sbom: $(STAMP)   ## Write the SBOM of this version (CycloneDX 1.6) to dist/.
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python tools/sbom.py --out dist

requirements: $(STAMP)  ## Write the requirements into the SOUP datasheet, and the matrix of requirements and tests.
	$(BIN)/python tools/requirements.py

fuzz: $(STAMP)   ## Fuzz every parser for a moment, from a fixed seed.
	$(PIP) install -c constraints.txt -e '.[fuzz]'
	$(BIN)/python -m fuzz --runs 2000 --seconds 30 --jobs 2

native: $(STAMP)  ## Build the compiled codec again, in place.
	$(BIN)/python setup.py -q build_ext --inplace

NATIVE      := $(filter-out native/module.c,$(wildcard native/*.c))
CHECKS      := $(NATIVE) native/checks/check_codec.c native/checks/fuzz_decode.c
CORPUS      := native/checks/golden.bin $(wildcard native/checks/corpus/*)
STRICT      := -std=c11 -O3 -Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Wpedantic -Werror
CLANG       := $(shell command -v clang)
CROSS       ?= aarch64-linux-gnu-gcc
QEMU        ?= qemu-aarch64-static

native-check: $(STAMP)  ## The C codec: no warnings, known answers by every path of this CPU, damaged chunks.
	mkdir -p build/native
	for file in native/*.c; do $(CC) $(STRICT) -fPIC $$($(BIN)/python -c \
	  'import sysconfig; print("-isystem", sysconfig.get_path("include"))') -c $$file -o build/native/object.o || exit 1; done
	$(if $(CLANG),for file in $(CHECKS); do $(CLANG) $(STRICT) -c $$file -o build/native/object.o || exit 1; done)
	$(CC) $(STRICT) $(CHECKS) -o build/native/check
	@build/native/check 20 $(CORPUS)

native-sanitize:  ## The same under the address and undefined-behaviour sanitizers.
	mkdir -p build/native
	$(CC) -std=c11 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all $(CHECKS) -o build/native/sanitize
	@build/native/sanitize 20 $(CORPUS)

native-neon:     ## The same for 64-bit ARM, cross-compiled, under qemu-user.
	mkdir -p build/native
	$(CROSS) -static $(STRICT) $(CHECKS) -o build/native/neon
	@$(QEMU) build/native/neon 5 $(CORPUS)

native-fuzz:     ## Fuzz the C decoder with libFuzzer for SECONDS=3600; new inputs go to build/native/corpus.
	mkdir -p build/native/corpus
	clang -std=c11 -O2 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined $(NATIVE) \
	  native/checks/fuzz_decode.c -o build/native/fuzz
	build/native/fuzz build/native/corpus native/checks/corpus -max_len=2048 -max_total_time=$(SECONDS) \
	  -print_final_stats=1 -artifact_prefix=build/native/

SECONDS     ?= 3600
soak: $(STAMP)   ## Fuzz every parser for an hour each (SECONDS=3600); keep corpora and results, write fuzz/README.md.
	$(PIP) install -c constraints.txt -e '.[fuzz]'
	$(BIN)/python -m fuzz --seconds $(SECONDS) --jobs 2 --record

clean:           ## Remove what the targets made.
	rm -rf $(VENV) build dist demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis
