# What a checkout can do, on a machine with Python >= 3.11, make and git, and nothing else. `make` alone lists it.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/setup-done
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
PACKAGES := node_modules/.package-lock.json
NODE := slides/$(PACKAGES) docs/site/$(PACKAGES)
CHECKED := lib tests docs notebooks slides

# A prompt is anybody's sentence, with quotes, dollars and backslashes in it. $(value) takes it as it was typed, and the
# environment carries it past the shell's quoting. PROMPT and OUT stay behind: make would expand their dollars.
OUT ?= drawing.png
export ATELIER_PROMPT := $(value PROMPT)
export ATELIER_OUT := $(value OUT)
unexport PROMPT OUT

# An environment knows its own folder by name: it outlives neither a move of the checkout nor the Python it came from.
ifneq (yes,$(shell test "$$(cat $(READY) 2>/dev/null)" = "$$(pwd)" && $(BIN)/python -c "" 2>/dev/null && echo yes))
.PHONY: $(READY)
endif

.PHONY: help setup draw serve lab test test-all notebooks slides site bench pictures lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## make .venv with everything in it (PYTHON=... names another Python)

$(READY): requirements.txt pyproject.toml
	@if test -e $(READY) && test "$$(cat $(READY))" != "$$(pwd)"; then rm -rf $(VENV); fi; rm -f $(READY)
	@suitable() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }; \
	if suitable $(BIN)/python && $(BIN)/python -c 'import pip' 2>/dev/null; then exit 0; fi; \
	if test -n "$(PYTHON)"; then set -- "$(PYTHON)"; else set -- $(CANDIDATES); fi; \
	for python; do if suitable "$$python"; then break; fi; python=; done; \
	if test -z "$$python"; then \
		echo "Atelier needs Python 3.11 or newer, and this is none: $$*." \
			"Install one, or name one with PYTHON=/path/to/python3." >&2; \
		exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$python lacks the venv module, which makes .venv. On Debian and Ubuntu: sudo apt install" \
			"$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; \
		exit 1; \
	fi; \
	echo "Making .venv with $$("$$python" --version)"; \
	"$$python" -m venv --clear $(VENV)
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.txt > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	@$(BIN)/python -m uv pip install --python $(BIN)/python --require-hashes -r requirements.txt
	@$(BIN)/python -m uv pip install --python $(BIN)/python --no-deps --editable .
	@pwd > $(READY)

draw: setup ## draw PROMPT="..." into OUT=drawing.png
	@if test -z "$$ATELIER_PROMPT"; then \
		echo 'There is nothing to draw: say what, as in  make draw PROMPT="the Eiffel tower landing on the moon"' >&2; \
		exit 1; \
	fi
	@$(BIN)/atelier draw --out "$$ATELIER_OUT" -- "$$ATELIER_PROMPT"

serve: setup ## serve the page with the DRAW button
	$(BIN)/atelier serve --browse

lab: setup ## open JupyterLab on the lessons
	$(BIN)/python -m jupyter lab --notebook-dir=notebooks

test: setup ## style, types, every test that needs Python only, every lesson
	$(BIN)/python -m ruff check $(CHECKED)
	$(BIN)/python -m ruff format --check $(CHECKED)
	$(BIN)/python -m ty check --python $(VENV) $(CHECKED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope --nbval-lax --nbval-current-env notebooks

test-all: test $(NODE) ## and the page, JupyterLab, the deck, the site and an imitation of Colab
	$(BIN)/python -m pytest tests/browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/slides
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/site
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/colab

notebooks: setup ## build and execute the lessons; LESSON=2d builds one, REPO=owner/name stamps the course's home
	$(BIN)/python notebooks/source/tools/build_lessons.py $(LESSON) $(if $(REPO),--repo "$(REPO)")

slides: setup slides/$(PACKAGES) ## draw the deck's figures and build it; needs Node and chromium
	$(BIN)/python slides/figures.py
	$(BIN)/python slides/deck.py

site: setup docs/site/$(PACKAGES) ## build the lessons, the reference and the gallery as a site; needs Node
	$(BIN)/python docs/site/make_site.py

%/$(PACKAGES): %/package-lock.json
	cd $* && npm ci --no-progress --ignore-scripts

bench: setup ## time the library, side by side with the reference implementations
	$(BIN)/python -m pytest tests/bench -p no:xdist -s

pictures: setup ## make the pictures of the documentation; one is of the page, and needs chromium
	$(BIN)/python docs/pictures.py
	$(BIN)/python docs/page.py

lock: setup ## renew requirements.txt: the newest releases inside pyproject.toml's ranges, with their hashes
	$(BIN)/python -m uv lock --upgrade --quiet
	$(BIN)/python -m uv export --quiet --no-header --no-emit-project --no-annotate --all-extras \
		--format requirements.txt --output-file requirements.txt

clean: ## remove .venv and all caches; runs/ and drawings stay
	rm -rf $(VENV) build lib/*.egg-info .pytest_cache .ruff_cache .hypothesis uv.lock
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
