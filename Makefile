# Each target does all its own set-up in .venv, and skips what is done.
VENV := .venv
PYTHON := $(VENV)/bin/python
BACKENDS := jax tensorflow torch

# With a GPU the demo runs on JAX; on a CPU on TensorFlow, the fastest there.
ifneq ($(shell command -v nvidia-smi 2>/dev/null),)
  KERAS_BACKEND ?= jax
  ACCELERATOR := "jax[cuda12]"
else
  KERAS_BACKEND ?= tensorflow
endif
EMOJI := --prompt "man astronaut" --prompt "woman farmer" \
  --prompt "grinning face" --prompt "raised hand light skin tone" \
  --prompt "woman dark skin tone blond hair" --prompt "couple with heart" \
  --prompt "man firefighter dark skin tone" \
  --prompt "man office worker medium skin tone"
DEMO_STAMP := $(VENV)/demo-$(KERAS_BACKEND).stamp

export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test test-app test-export test-large test-newest bench-quick lint \
  format notebooks docs clean

demo: $(DEMO_STAMP)
	rm -rf runs/demo
	KERAS_BACKEND=$(KERAS_BACKEND) $(VENV)/bin/keras-simple-diffusion train \
	  --data vehicles --minutes 6 --output runs/demo
	KERAS_BACKEND=$(KERAS_BACKEND) $(VENV)/bin/keras-simple-diffusion generate \
	  --model emoji $(EMOJI) --output runs/demo/emoji.png
	@echo "Look at the images: runs/demo/samples.png, runs/demo/emoji.png"

test: lint $(addprefix test-,$(BACKENDS)) test-app test-export docs

test-%: $(VENV)/tests.stamp
	KERAS_BACKEND=$* $(PYTHON) -m pytest -q -n 2 --dist loadfile \
	  $(PYTEST_ARGUMENTS)

# The newest Python, JAX and NumPy that passed.
PYTHON_NEWEST ?= python3.12
NEWEST := .venv-newest
test-newest: $(NEWEST)/tests.stamp
	KERAS_BACKEND=jax $(NEWEST)/bin/python -m pytest -q -n 2 --dist loadfile \
	  --one-backend $(PYTEST_ARGUMENTS)

# Gradio, OpenVINO and the exporters have needs of their own, so that they are
# installed beside .venv, which they see. Gradio leaves event loops to Python's
# collector.
APP := .venv-app
test-app: $(APP)/tests.stamp
	KERAS_BACKEND=torch $(APP)/bin/python -m pytest -q tests/app \
	  -W ignore::pytest.PytestUnraisableExceptionWarning $(PYTEST_ARGUMENTS)
	KERAS_BACKEND=torch $(APP)/bin/python -m pytest -q \
	  tests/backend/openvino_test.py tests/notebooks_test.py \
	  $(PYTEST_ARGUMENTS)

test-export: $(APP)/tests.stamp
	KERAS_BACKEND=tensorflow $(APP)/bin/python -m pytest -q tests/export \
	  $(PYTEST_ARGUMENTS)

test-large: PYTEST_ARGUMENTS += --run-large
test-large: test

# Training step and forward pass beside the networks written by hand, and what
# moved since the committed figures. Nothing else should run meanwhile.
CONTENDERS := twin torch,twin jax,ours jax,ours tensorflow,ours torch
bench-quick: $(VENV)/tests.stamp
	for task in train forward; do \
	  $(PYTHON) benchmarks/contest.py --task $$task --rounds 5 \
	    --contenders "$(CONTENDERS)" --compare docs/performance.jsonl; \
	done
	$(PYTHON) benchmarks/precision.py --rounds 3 --compare docs/precision.jsonl
	$(PYTHON) benchmarks/memory.py --against b37015d --kinds kept \
	  --presets uvit_small_64 --compare docs/memory.jsonl
	$(PYTHON) benchmarks/startup.py --against 62b1785 --rounds 2 \
	  --jobs import --compare docs/performance_startup.jsonl

lint: $(VENV)/tests.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/tests.stamp
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(VENV)/bin/python:
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install -q --upgrade pip

$(DEMO_STAMP): $(VENV)/bin/python pyproject.toml constraints.txt
	$(PYTHON) -m pip install -q -c constraints.txt \
	  -e ".[$(KERAS_BACKEND)]" $(ACCELERATOR)
	touch $@

$(VENV)/tests.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PYTHON) -m pip install -q -c constraints.txt \
	  -e ".[jax,tensorflow,torch,dev]"
	touch $@

$(NEWEST)/tests.stamp: pyproject.toml constraints-newest.txt
	$(PYTHON_NEWEST) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install -q --upgrade pip
	$(NEWEST)/bin/python -m pip install -q -c constraints-newest.txt \
	  -e ".[jax,tests]"
	touch $@

$(APP)/tests.stamp: $(VENV)/tests.stamp
	python3 -m venv $(APP)
	echo "import site; site.addsitedir('$$($(PYTHON) -c \
	  'import site; print(site.getsitepackages()[0])')')" \
	  > $$($(APP)/bin/python -c \
	  'import site; print(site.getsitepackages()[0])')/tests.pth
	$(APP)/bin/python -m pip install -q gradio==6.31.0 \
	  playwright==1.65.2 tf2onnx==1.17.0 onnx==1.23.2 onnxruntime==1.32.0 \
	  openvino==2026.4.1 nbformat==5.11.1 nbclient==0.11.0 \
	  ipykernel==7.4.0
	touch $@

# The site, in site/, which works from disk and loads nothing from elsewhere.
DOCS := .venv-docs
docs: $(DOCS)/docs.stamp
	$(DOCS)/bin/python tools/write_site.py
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build -q
	$(DOCS)/bin/python tools/check_site.py

# The help of the commands needs typer only, and signatures ruff.
$(DOCS)/docs.stamp: constraints.txt
	python3 -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install -q -c constraints.txt typer rich ruff \
	  mkdocs-material==9.8.2 "mkdocstrings[python]==1.0.8"
	touch $@

# The guides as notebooks.
notebooks: $(VENV)/bin/python
	$(PYTHON) tools/write_notebooks.py

clean:
	rm -rf $(VENV) $(NEWEST) $(APP) $(DOCS) build site runs
