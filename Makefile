# Two commands do everything on a fresh machine: `make demo` and `make test`. Both set themselves up.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
# the first Python here that the lock is made for
PY ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell $(name) -c \
  'import sys; assert (3, 11) <= sys.version_info[:2] <= (3, 13); print(sys.executable)' 2>/dev/null)))
BIN := .venv/bin
OUT ?= runs/demo
SEED ?= 0
# tests run on two cores, one thread each
WORKERS := $(shell nproc | awk '{ print ($$1 > 1) ? 2 : 1 }')
export PYTHONHASHSEED := 0

.PHONY: help setup demo demo-seeds test test-faults test-kill test-audit test-browser bench-explorer large volume-figures coverage memory memory-volume packages house bench gpu sync conflicts hooks export readme pictures pictures-train notebooks pytest docs lock lab clean

help:            ## this page
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# gpu: the lock as it is; cpu: PyTorch for CPUs from its own index, without hashes, and none of CUDA's libraries
TORCH ?= gpu
CPU_LOCK = awk '/^[^ \#]/ { keep = !/^(nvidia-|cuda-|triton==)/; bare = /^torch(vision)?==/ } keep && !(bare && /--hash/) { if (bare) sub(/ *\\$$/, ""); print }' requirements.lock

$(BIN)/.stamp: requirements.lock setup.py settings.ini
	@echo "Setting up .venv (about a minute with a good connection, once)"
	@test -x $(BIN)/python || test -n "$(PY)" || { echo "No Python 3.11, 3.12 or 3.13 found; install one, or name it: make PY=/path/to/python3.12"; exit 2; }
	test -x $(BIN)/python || $(PY) -m venv .venv || { rm -rf .venv; echo "Python has no venv here; on Debian and Ubuntu: apt-get install python3-venv"; exit 2; }
	$(BIN)/python -m pip install -q --disable-pip-version-check uv==0.13.8
	$(if $(filter cpu,$(TORCH)),$(CPU_LOCK) > .venv/cpu.lock)
	$(BIN)/uv pip sync -q --python $(BIN)/python --compile-bytecode $(if $(filter cpu,$(TORCH)),--torch-backend cpu .venv/cpu.lock,requirements.lock)
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

setup: $(BIN)/.stamp  ## the virtual environment, from the hashed lock (TORCH=cpu: 1.5 GB instead of 6, without CUDA)

demo: $(BIN)/.stamp  ## phantom CT -> three one-shot models -> report.html
	$(BIN)/covid-workbench demo --out $(OUT) --seed $(SEED)

demo-seeds: $(BIN)/.stamp  ## the demo for three seeds, mean and spread (about 45 minutes)
	for seed in 0 1 2; do $(BIN)/covid-workbench demo --out runs/demo-seed$$seed --seed $$seed; done
	$(BIN)/covid-workbench demo --summarise runs/demo-seed0 runs/demo-seed1 runs/demo-seed2

test: $(BIN)/.stamp sync notebooks pytest  ## package in step with notebooks, notebooks run, tests pass

SOURCES = nbs/*.ipynb nbs/*/*.ipynb README.md $$(find covid_workbench tests docs -name "*.py" -o -name "*.js" -o -name "*.css" | sort)

# what a merge leaves behind: markers of git at the start of a line or of a cell's text; nbdev_merge sets them in backticks
MARKERS := '^(<<<<<<<|=======|>>>>>>>)|(^|[^\\])"`?(<<<<<<< |>>>>>>> )|(^|[^\\])"`={7}`"'

conflicts:       ## fails where a notebook holds the conflict markers of a merge
	@if grep -lE $(MARKERS) nbs/*.ipynb nbs/*/*.ipynb; then echo "these notebooks hold conflict markers of a merge: choose between the cells and delete the markers"; exit 1; fi

hooks: $(BIN)/.stamp  ## readable merges of notebooks in this clone, whether or not its environment is activated
	git config merge.nbdev-merge.name "cells of notebooks"
	git config merge.nbdev-merge.driver "'$(abspath $(BIN))/nbdev_merge' %O %A %B %P"
	@! git config --local --get-all include.path '^\.\./\.gitconfig$$' > /dev/null || git config --local --unset-all include.path '^\.\./\.gitconfig$$'
	@attributes=$$(git rev-parse --git-path info/attributes); mkdir -p "$$(dirname "$$attributes")"; \
	grep -qsF '*.ipynb merge=nbdev-merge' "$$attributes" || echo '*.ipynb merge=nbdev-merge' >> "$$attributes"
	@hook=$$(git rev-parse --git-path hooks/post-merge); \
	if grep -qsx nbdev_trust "$$hook"; then printf '#!/bin/sh\nexec "%s/nbdev_trust"\n' '$(abspath $(BIN))' > "$$hook"; fi

sync: $(BIN)/.stamp  ## export, format and check everything; fails where something was not in step
	@$(MAKE) -s conflicts
	@before=$$(cat $(SOURCES) | sha256sum); \
	$(MAKE) -s export readme; \
	after=$$(cat $(SOURCES) | sha256sum); \
	if [ "$$before" != "$$after" ]; then echo "notebooks, package and README were out of step or not formatted: they are now, look at git diff and commit"; exit 1; fi
	@$(BIN)/ruff check -q nbs tests docs setup.py covid_workbench
	@echo "notebooks, package and README are in step, formatted and checked"

export: $(BIN)/.stamp  ## formatted notebooks -> package
	$(BIN)/ruff check -q --fix-only nbs tests docs setup.py
	$(BIN)/ruff format -q nbs tests docs setup.py
	$(BIN)/oxfmt --write covid_workbench
	$(BIN)/nbdev_export
	@$(BIN)/python docs/index_of_names.py
	$(BIN)/nbdev_clean

readme: $(BIN)/.stamp  ## nbs/index.ipynb -> README.md
	$(BIN)/jupyter nbconvert --log-level ERROR --to markdown --stdout --RegexRemovePreprocessor.patterns='["^#\\| *hide"]' --RegexRemovePreprocessor.enabled=True nbs/index.ipynb \
	| awk '/^```$$/ && !code { print "```python"; code = 1; next } /^```/ { code = !code } { gsub(/\]\(images\//, "](nbs/images/"); print }' > README.md.part
	mv README.md.part README.md

pictures: $(BIN)/.stamp  ## the pictures of notebooks and README, drawn from the phantom into nbs/images
	cd nbs/images && ../../$(BIN)/python -m draw

pictures-train: $(BIN)/.stamp  ## the same, after training the small model of two of them anew (about 2 minutes)
	cd nbs/images && ../../$(BIN)/python -m draw --train

notebooks: $(BIN)/.stamp  ## every notebook runs top to bottom
	OMP_NUM_THREADS=1 timeout 1800 $(BIN)/nbdev_test --n_workers $(WORKERS) --do_print --timing

pytest: $(BIN)/.stamp
	OMP_NUM_THREADS=1 timeout 2400 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --ignore=tests/heavy --ignore=tests/browser tests

TRIES ?= 2000

test-faults: $(BIN)/.stamp  ## hostile inputs by rule over every command, in two processes (about 7 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults --seed $(SEED) --tries $(TRIES) --processes $(WORKERS)

test-kill: $(BIN)/.stamp  ## a hundred kills at random moments over train, evaluate, demo and studies (about 25 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s tests/heavy/test_kill.py tests/heavy/test_kill_study.py

test-audit: $(BIN)/.stamp  ## faults planted in 200 small data sets, and what the audit finds of them (about 10 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.heavy.audit_planted --seed $(SEED) --processes $(WORKERS)

test-browser: $(BIN)/.stamp .venv-browser/.stamp  ## the explorers in JupyterLab and Chromium (about 10 minutes)
	command -v chromium chromium-browser google-chrome > /dev/null || { $$(test $$(id -u) = 0 || echo sudo) apt-get update -qq && $$(test $$(id -u) = 0 || echo sudo) apt-get install -y -qq chromium; }
	.venv-browser/bin/python -m pytest -q --rootdir=tests/browser --confcutdir=tests/browser tests/browser

.venv-browser/.stamp: tests/browser/requirements.lock $(BIN)/.stamp
	test -x .venv-browser/bin/python || $(BIN)/python -m venv --without-pip .venv-browser
	$(BIN)/uv pip sync -q --python .venv-browser/bin/python tests/browser/requirements.lock
	touch $@

packages: $(BIN)/.stamp  ## wheels of the lock for every system and Python; the wheel of the sdist in real environments (6 GB each)
	$(BIN)/python tests/heavy/packages.py

house: $(BIN)/.stamp  ## rooms, imports and lengths of cells, functions, classes and lines
	@$(BIN)/python tests/house.py .

bench-explorer: $(BIN)/.stamp  ## how fast the explorer opens and answers, and its memory over 1,000 slices
	$(BIN)/python tests/heavy/bench_explorer.py

large: $(BIN)/.stamp  ## 61,782 slices: table, survey, first 100 steps, 1,000 slices scored, explorers, within 8 GB (about 15 minutes)
	$(BIN)/python tests/heavy/large.py

volume-figures: $(BIN)/.stamp  ## ResNext+ on a phantom: the small preset over three seeds beside its bars (about 25 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python tests/heavy/volume_figures.py

coverage: $(BIN)/.stamp  ## how often 95 % intervals over 10 to 200 patients hold the truth, for every figure (about 6 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python tests/heavy/coverage.py

memory: $(BIN)/.stamp  ## memory over 500 training steps and 2,000 scored slices (about 5 minutes)
	$(BIN)/python tests/heavy/memory_flat.py

memory-volume: $(BIN)/.stamp  ## peak memory of a step of ResNext+ on 50 slices of 224 x 224, beside the estimate (about 5 minutes, 8 GB)
	$(BIN)/python tests/heavy/volume_memory.py

bench: $(BIN)/.stamp  ## speed, memory, operators and waits on this CPU beside the plain path and the goals (about 10 minutes)
	$(BIN)/covid-workbench bench --what all --precision bf16 --threads $(WORKERS)
	$(BIN)/covid-workbench bench --what eval --protocol default --threads $(WORKERS)

gpu: $(BIN)/.stamp  ## the same on a GPU, with its throughput beside goals, roofline and backbone alone (about 10 minutes)
	$(BIN)/covid-workbench bench --device cuda --what all --precision bf16 --protocol default --batch 64
	$(BIN)/covid-workbench bench --device cuda --what eval --precision bf16 --protocol default --batch 64 --backbone resnet50

docs: $(BIN)/.stamp  ## the documentation site in _docs: every notebook executed on the phantom (about 7 minutes, then seconds)
	$(BIN)/python docs/build.py

lock: $(BIN)/.stamp  ## requirements.lock from settings.ini
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --extra notebook --extra volumes --extra cluster --extra dev --extra docs setup.py -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url tests/browser/requirements.in -o tests/browser/requirements.lock

lab: $(BIN)/.stamp  ## the explorers in JupyterLab, on the newest run (loopback, token on)
	$(BIN)/covid-workbench lab $(RUNS)

clean:           ## remove what the commands made (not your runs)
	rm -rf .venv .venv-browser build _docs *.egg-info
