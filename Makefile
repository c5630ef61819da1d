# `make demo`, `make test`, `make install`, `make lint`, `make clean`; PYTHON=... picks the interpreter,
# TEST_WORKERS=... how many processes test.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TEST_WORKERS ?= 2
VENV := .venv
PY := $(VENV)/bin/python
# pip < 25.3 takes constraints of build environments from the first variable, later ones from the second.
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(PY) -m pip install --disable-pip-version-check

.PHONY: demo test install lint clean

demo: $(VENV)/.installed
	$(PY) tools/demo.py

test: $(VENV)/.installed-dev
	$(PY) -m pytest --numprocesses $(TEST_WORKERS) --dist worksteal

install: $(VENV)/.installed

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache facesr.egg-info build data/sample annotations/sample_train.txt work_dirs/naf_unet_sample work_dirs/srresnet_sample work_dirs/rrdbnet_sample work_dirs/sample_restored
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@test -n "$(PYTHON)" || { echo "error: no python3 found; install Python 3.10-3.13 or give PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
		{ echo "error: $(PYTHON) is not Python 3.10-3.13; give another with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml requirements.txt constraints.txt | $(PY)
	@# Python 3.13 needs help with mmcv-full's setup.py, which must run before torch is there.
	@if $(PY) -c 'import sys; sys.exit(sys.version_info < (3, 13))'; then \
		$(PIP) 'setuptools<81' wheel && \
		PYTHONPATH=tools/py313 $(PIP) --no-build-isolation --no-deps mmcv-full==1.7.2; \
	fi
	$(PIP) -r requirements.txt
	@# OpenCV's usual build needs the system's libGL, which bare machines lack; the headless one is the same without windows.
	@$(PY) -c 'import cv2' 2> /dev/null || $(PIP) --force-reinstall --no-deps \
		opencv-python-headless==$$($(PY) -c 'import importlib.metadata as m; print(m.version("opencv-python"))')
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(PIP) -r requirements-dev.txt
	touch $@
