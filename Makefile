# make run: set up .venv and run the whole road once.   make test: lint, types, tests.   make report: reports/.
# Another interpreter: make run PYTHON=python3.12

PYTHON ?= python3
PROFILE ?= quick
BIN := .venv/bin
STAMP := .venv/.installed
PIP := -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install run test picture report lock clean

help:
	@echo "make run      set up .venv, run every notebook at the quick profile, track the sample video"
	@echo "make test     lint, types and tests"
	@echo "make picture  draw docs/rally.webp again, with the shipped networks (needs ffmpeg)"
	@echo "make report   the report of model versions in reports/ (REPORT='--bench FILE' adds to it)"
	@echo "make lock     renew requirements.lock (make lock UPGRADE=--upgrade moves the pins)"
	@echo "make clean    remove .venv and the caches (runs/ stays)"

run: $(STAMP)
	@$(BIN)/shuttle run --profile $(PROFILE)

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist worksteal

install: $(STAMP)

# What was measured lies beside the weights; the notebooks are run once, at the quick profile, if they were not.
report: $(STAMP)
	@test -f runs/report/09_compare_versions.ipynb || $(BIN)/shuttle run --profile quick --out runs/report
	$(BIN)/shuttle report --out reports --runs runs/report $(REPORT)

# The README's moving picture: five seconds of the sample video with its track.
picture: $(STAMP)
	@command -v ffmpeg > /dev/null || { echo "ffmpeg not found: apt install ffmpeg" >&2; exit 1; }
	$(BIN)/shuttle track samples/rally.mp4 --out runs/picture --overlay
	ffmpeg -v error -y -ss 0.8 -t 5 -i runs/picture/rally.mp4 -vf scale=800:-2:flags=lanczos \
	    -c:v libwebp_anim -loop 0 -quality 65 -compression_level 6 docs/rally.webp

# The stamp is written last, so an installation that was interrupted is taken up again.
$(STAMP): pyproject.toml requirements.lock
	@command -v $(PYTHON) > /dev/null || { \
	    echo "$(PYTHON) not found: install Python 3.11 or newer (apt install python3 python3-venv)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1):" \
	         "name another one, as in: make run PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
	    echo "$(PYTHON) cannot make virtual environments: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) install -r requirements.lock
	$(BIN)/python $(PIP) install --no-deps -e .
	@touch $@

# One file for every platform and Python from 3.11 on; pins already in the file are kept where they still fit.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python $(PIP) install --quiet uv
	UV_CUSTOM_COMPILE_COMMAND="make lock" .venv-lock/bin/uv pip compile pyproject.toml \
	    --universal --python-version 3.11 --extra dev --extra rtx --extra openvino --extra app --no-annotate --quiet $(UPGRADE) \
	    --output-file requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-lock .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
