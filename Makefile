# Each target does all its own set-up in .venv, and skips what is done.
VENV := .venv
PYTHON := $(VENV)/bin/python
BACKENDS := jax tensorflow torch

# An accelerator asks for its own build of JAX; a CPU for the pinned packages.
ifneq ($(shell command -v nvidia-smi 2>/dev/null),)
  DEMO_BACKEND := jax
  DEMO_PACKAGES := "jax[cuda12]"
else
  # The fastest of the three on a CPU, and a dependency of keras-hub anyway.
  DEMO_BACKEND := tensorflow
  DEMO_PACKAGES := -c constraints.txt
endif
KERAS_BACKEND ?= $(DEMO_BACKEND)

export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test test-large lint format clean

demo: $(VENV)/demo.stamp
	rm -rf runs/demo
	KERAS_BACKEND=$(KERAS_BACKEND) $(VENV)/bin/keras-simple-diffusion train \
	  --data digits --preset uvit_digits_16 --minutes 6.5 --output runs/demo
	@echo "Look at the pictures: runs/demo/samples.png"

test: lint $(addprefix test-,$(BACKENDS))

test-%: $(VENV)/tests.stamp
	KERAS_BACKEND=$* $(PYTHON) -m pytest -q -n 2 $(PYTEST_ARGUMENTS)

test-large: PYTEST_ARGUMENTS += --run-large
test-large: test

lint: $(VENV)/tests.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/tests.stamp
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(VENV)/bin/python:
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install -q --upgrade pip

$(VENV)/demo.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PYTHON) -m pip install -q -e . $(DEMO_PACKAGES)
	touch $@

$(VENV)/tests.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PYTHON) -m pip install -q -c constraints.txt \
	  -e ".[jax,tensorflow,torch,dev]"
	touch $@ $(VENV)/demo.stamp

clean:
	rm -rf $(VENV) runs
