# The commands of a checkout. They need Python >= 3.11, make and git. `make` alone lists them.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/setup-done
DEVELOPER := $(VENV)/developer-done
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
PACKAGES := node_modules/.package-lock.json
NODE := slides/$(PACKAGES) docs/site/$(PACKAGES) tests/browser/$(PACKAGES)
CHECKED := lib tests docs notebooks slides
PIP := $(BIN)/python -m uv pip install --python $(BIN)/python
EXPORT := $(BIN)/python -m uv export --quiet --no-header --no-emit-project --no-annotate --format requirements.txt
LEARNER := --extra lessons --extra page --extra published

# A prompt may contain quotes, dollars and backslashes. $(value) takes it as it was typed, and an environment variable
# passes it on without the shell's quoting. PROMPT and OUT themselves are not exported: make would expand their dollars.
OUT ?= drawing.png
export ATELIER_PROMPT := $(value PROMPT)
export ATELIER_OUT := $(value OUT)
unexport PROMPT OUT

# An environment contains the path of its folder and of its Python: if either has changed, it is made again.
ifneq (yes,$(shell test "$$(cat $(READY) 2>/dev/null)" = "$$(pwd)" && $(BIN)/python -c "" 2>/dev/null && echo yes))
.PHONY: $(READY)
endif

.PHONY: help setup develop draw serve lab check test test-all matrix claims recheck notebooks slides site space bench gpu soak pictures lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## make .venv with what drawing and the lessons need (PYTHON=... names another Python; TORCH=cpu: without CUDA)

$(READY): requirements.txt pyproject.toml
	@if test -e $(READY) && test "$$(cat $(READY))" != "$$(pwd)"; then rm -rf $(VENV); fi; rm -f $(READY)
	@suitable() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }; \
	if suitable $(BIN)/python && $(BIN)/python -c 'import pip' 2>/dev/null; then exit 0; fi; \
	if test -n "$(PYTHON)"; then set -- "$(PYTHON)"; else set -- $(CANDIDATES); fi; \
	for python; do if suitable "$$python"; then break; fi; python=; done; \
	if test -z "$$python"; then \
		echo "Atelier needs Python 3.11 or newer, but none was found among: $$*." \
			"Install it, or give its path with PYTHON=/path/to/python3." >&2; \
		exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$python lacks the venv module, which makes .venv. On Debian and Ubuntu: sudo apt install" \
			"$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; \
		exit 1; \
	fi; \
	echo "Making .venv with $$("$$python" --version)"; \
	"$$python" -m venv --clear $(VENV)
	@sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.txt > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	@if test -n "$(TORCH)"; then \
		sed -nE 's/^(triton|cuda-[a-z-]+|nvidia-[a-z0-9-]+)==.*/\1/p' requirements.txt > $(VENV)/cuda.txt; \
		$(PIP) --torch-backend "$(TORCH)" $$(sed -nE 's/^(torch(vision)?==[^ ]+).*/\1/p' requirements.txt); \
	fi
	@$(PIP) --require-hashes $(if $(TORCH),--excludes $(VENV)/cuda.txt) -r requirements.txt
	@$(PIP) --no-deps --editable .
	@pwd > $(READY)

$(DEVELOPER): $(READY) requirements-dev.txt
	@$(PIP) --require-hashes $(if $(wildcard $(VENV)/cuda.txt),--excludes $(VENV)/cuda.txt) -r requirements-dev.txt
	@touch $(DEVELOPER)

develop: $(DEVELOPER) ## add to .venv what the tests, the deck and the site need

draw: setup ## draw PROMPT="..." into OUT=drawing.png
	@if test -z "$$ATELIER_PROMPT"; then \
		echo 'There is nothing to draw: say what, as in  make draw PROMPT="the Eiffel tower landing on the moon"' >&2; \
		exit 1; \
	fi
	@$(BIN)/atelier draw --out "$$ATELIER_OUT" -- "$$ATELIER_PROMPT"

serve: setup ## serve the page with the DRAW button
	$(BIN)/atelier serve --browse

lab: setup ## open JupyterLab on the lessons
	$(BIN)/python -m jupyter lab --config=notebooks/source/lab/jupyter_config.py

check: develop ## style, types and the rules of the repository, in less than a minute
	$(BIN)/python -m ruff check $(CHECKED)
	$(BIN)/python -m ruff format --check $(CHECKED)
	$(BIN)/python -m ty check --python $(VENV) $(CHECKED)
	$(BIN)/python -m pytest -q tests/test_environment.py tests/test_house.py tests/test_release.py

test: develop ## style, types, every test that needs Python only, every lesson
	$(BIN)/python -m ruff check $(CHECKED)
	$(BIN)/python -m ruff format --check $(CHECKED)
	$(BIN)/python -m ty check --python $(VENV) $(CHECKED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope --nbval-lax --nbval-current-env --ignore=notebooks/build notebooks

BUILDS_SITE := tests/site/test_draw_engine.py# first, because the other tests of the site wait for the build
test-all: test $(NODE) ## and the page, JupyterLab, the deck, the site and an imitation of Colab
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		$(BUILDS_SITE) tests/colab tests/browser tests/slides $(filter-out $(BUILDS_SITE),$(wildcard tests/site/test_*.py))

matrix: develop ## run the Linux legs of the test workflow, each in an environment of its own; LEG=3.11-highest runs one
	$(BIN)/python tests/matrix.py $(if $(LEG),--leg $(LEG))

recheck: develop ## measure the claims of lessons with other seeds; LESSON=4 for one, OFFSET=1000
	$(BIN)/python notebooks/source/tools/rerun_claims.py $(LESSON) $(if $(OFFSET),--offset $(OFFSET))

notebooks: develop ## build and execute the lessons; LESSON=2d builds one, REPO=owner/name stamps the course's home
	$(BIN)/python notebooks/source/tools/build_lessons.py $(LESSON) $(if $(REPO),--repo "$(REPO)")

slides: develop slides/$(PACKAGES) ## draw the deck's figures and build it; needs Node and chromium
	$(BIN)/python slides/figures.py
	$(BIN)/python slides/deck.py
	$(BIN)/python slides/kit.py

claims: setup ## run the experiments whose stored results are missing (hours); OFFSET=1000: with other seeds, for recheck
	@OMP_NUM_THREADS=1 $(if $(OFFSET),ATELIER_SEED_OFFSET=$(OFFSET)) $(BIN)/python notebooks/source/tools/run_experiments.py

site: develop docs/site/$(PACKAGES) ## build the lessons, the reference and the gallery as a site; needs Node
	$(BIN)/python docs/site/make_site.py

%/$(PACKAGES): %/package-lock.json
	cd $* && npm ci --no-progress --ignore-scripts

space: setup ## make the files of a Hugging Face Space in build/space
	$(BIN)/python docs/space/make_space.py

bench: develop docs/site/$(PACKAGES) ## time the library, side by side with the reference implementations
	$(BIN)/python -m pytest tests/bench -p no:xdist -s

gpu: develop ## run what only a GPU can show, results in build/gpu; ONLY="mega lesson", MINUTES=; REHEARSE=1: on the CPU
	$(BIN)/python tests/gpu/on_gpu.py $(if $(REHEARSE),--rehearse) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(ONLY),--only $(ONLY))

soak: develop ## attack the library for an hour, or MINUTES=; goes on where it was, results in docs/SOAK.md
	OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python tests/soak/soak.py $(if $(MINUTES),--minutes $(MINUTES))

pictures: develop ## make the pictures of the documentation; one is of the page, and needs chromium
	$(BIN)/python docs/pictures.py
	$(BIN)/python docs/page.py

lock: develop ## renew the pins: the newest releases inside pyproject.toml's ranges, with their hashes
	$(BIN)/python -m uv lock --upgrade --quiet
	$(EXPORT) $(LEARNER) --no-dev --output-file requirements.txt
	$(EXPORT) --all-extras --all-groups --output-file requirements-dev.txt

clean: ## remove .venv and all caches; runs/ and drawings stay
	rm -rf $(VENV) build lib/*.egg-info .pytest_cache .ruff_cache .hypothesis uv.lock
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
