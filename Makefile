# Each target installs what it needs, given Python >= 3.11 with venv, make and a package index.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint requirements.txt
ARGS ?=
FAST := not slow and not server and not training and not system and not heavy
LOWEST ?= .venv-lowest
# The container image: its variant (cpu or cuda) and its name.
VARIANT ?= cpu
RAY ?=
IMAGE ?= localhost/dynrefer:$(VARIANT)$(if $(RAY),-ray)

# For the tests and benchmarks: as `set_thread_environment` in service/__init__.py sets them for the commands.
export GOMP_SPINCOUNT ?= 10000
export OPENBLAS_NUM_THREADS ?= 1

# The GPU check: device, and size of the model.
DEVICE ?= cuda
PRESET ?= flan-t5-xl
# In an unpacked bundle (make gpu-bundle) the packages come from its wheels, and torch from the machine's own Python.
WHEELS := $(wildcard wheels/*.whl)

.PHONY: help serve serve-replicas test test-integrations test-label-studio test-fast test-lowest check format package bench docs playground playground-check vendor art image image-test sbom lock clean contract fuzz soak soak-scale attacks audit gpu-check gpu-bundle

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "the venv module is missing: install python3-venv"; exit 1; }

$(VENV)/.serve: pyproject.toml requirements.txt | $(BIN)/python
	@echo "Installing the service (torch included: this takes a minute or a few)"
	@$(PIP) --editable '.[serve]'
	@touch $@

$(VENV)/.dev: pyproject.toml requirements.txt | $(BIN)/python
	@echo "Installing the service with its tools (torch included: this takes a minute or a few)"
	@$(PIP) --editable '.[dev,train,evaluate]'
	@touch $@ $(VENV)/.serve $(VENV)/.docs $(VENV)/.ray

$(VENV)/.ray: pyproject.toml requirements.txt | $(VENV)/.serve
	@$(PIP) --editable '.[ray]'
	@touch $@

# The service too: the page about Python is read from its code.
$(VENV)/.docs: pyproject.toml requirements.txt | $(VENV)/.serve
	@$(PIP) --editable '.[docs]'
	@touch $@

# torch stays the one of requirements.txt: an older build for this machine cannot be had everywhere.
$(LOWEST)/.dev: pyproject.toml $(VENV)/.dev
	@echo "Installing the lowest versions (torch included: this takes a minute or a few)"
	@$(PYTHON) -m venv $(LOWEST)
	@grep '^torch==' requirements.txt > $(LOWEST)/torch.txt
	@$(BIN)/uv pip compile --quiet --resolution lowest-direct --override $(LOWEST)/torch.txt --no-header --no-annotate \
		--extra dev --extra train --extra evaluate pyproject.toml --output-file $(LOWEST)/lowest.txt
	@$(LOWEST)/bin/python -m pip --disable-pip-version-check install --quiet --constraint $(LOWEST)/lowest.txt \
		--editable '.[dev,train,evaluate]'
	@touch $@

serve: $(VENV)/.serve ## run the service with the embedded model on http://127.0.0.1:8000
	$(BIN)/dynrefer serve $(ARGS)

serve-replicas: $(VENV)/.ray ## run the service with two replicas of the embedded model on Ray, on http://127.0.0.1:8000
	$(BIN)/dynrefer serve --engine ray --replicas 2 $(ARGS)

test: $(VENV)/.dev ## run all tests but those of test-integrations, about half an hour on two cores
	$(BIN)/python -m pytest -m "not heavy" $(ARGS)

test-integrations: $(VENV)/.dev ## test with the large programs that integrations are for (Label Studio, FiftyOne, X-AnyLabeling), each installed into an environment of its own
	$(BIN)/python -m pytest -m heavy tests/service/integrations $(ARGS)

test-label-studio: $(VENV)/.dev ## start the real Label Studio, and have it predict and be corrected through the service
	$(BIN)/python -m pytest -m heavy tests/service/integrations/label_studio $(ARGS)

test-fast: $(VENV)/.dev ## run the tests that need neither training nor many processes, under two minutes
	$(BIN)/python -m pytest -m "$(FAST)" $(ARGS)

# Without the record: its numbers belong to the versions of requirements.txt, and Pillow 12 resizes crops otherwise than 13.
test-lowest: $(LOWEST)/.dev ## run the fast tests with the lowest versions that pyproject.toml allows, in an environment of its own
	$(LOWEST)/bin/python -m pytest -m "$(FAST)" --ignore tests/recorded $(ARGS)

check: $(VENV)/.dev ## lint, format, types, direction of imports, container files, chart
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_imports.py
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker/compose*.yaml
	$(BIN)/helm lint --strict --quiet docker/helm/dynrefer

format: $(VENV)/.dev ## rewrite the code in the agreed format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

package: $(VENV)/.dev ## build wheel and sdist into dist, install each outside the checkout and describe an image with it
	$(BIN)/python -m tests.packaging.installed

bench: $(VENV)/.dev ## time the model, its views and its start on this machine, about twelve minutes; writes benchmarks/results
	$(BIN)/python -m benchmarks.quick

gpu-check: $(if $(WHEELS),.packages/.installed,$(VENV)/.serve) ## check the full model on a GPU, at most twelve minutes, no network (DEVICE=cpu PRESET=medium tries it without one)
	$(if $(WHEELS),PYTHONPATH=.:.packages $(PYTHON),PYTHONPATH=. $(BIN)/python) -m benchmarks.gpu_check --device $(DEVICE) --preset $(PRESET) $(ARGS)

gpu-bundle: $(VENV)/.serve ## prepare build/gpu-bundle.tar.xz for a machine with a GPU, torch and no network
	PYTHONPATH=. $(BIN)/python -m benchmarks.gpu_check.bundle $(ARGS)

.packages/.installed: $(WHEELS)
	@$(PYTHON) -m pip --disable-pip-version-check install --quiet --no-index --no-deps --upgrade --target .packages $(WHEELS)
	@touch $@

docs: $(VENV)/.docs ## build the documentation site into build/docs, and check its links; no network
	@rm -rf build/docs
	PYTHONPATH=. $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html -c docs/site -d build/doctrees . build/docs
	@echo "build/docs/index.html"

art: $(VENV)/.dev ## install the artwork packages (needs npm) where dynrefer evaluate looks for them: DYNREFER_ART_CACHE, else ~/.cache/dynrefer/art
	$(BIN)/python -m dynrefer.workbench.scenes.artwork install

APP := service/playground/app

# `npm ci` installs exactly the lock file; no package may run a script of its own.
$(APP)/node_modules/.installed: $(APP)/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing: install Node.js 20 or newer (Debian: npm)"; exit 1; }
	@cd $(APP) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

playground: $(APP)/node_modules/.installed ## build the page at / into service/playground/static (needs npm; the result is committed)
	cd $(APP) && npm run --silent types && npm run --silent lint && npm run --silent build

playground-check: $(APP)/node_modules/.installed ## check types and style of the page's sources, and that the committed bundle is what they build
	cd $(APP) && npm run --silent types && npm run --silent lint && npm run --silent verify

vendor: $(VENV)/.dev ## fetch the documentation readers (Swagger UI, Redoc) that the service ships again (needs npm)
	$(BIN)/python -m tests.service.playground.vendored

image: ## build the container image with buildah, without an image registry (needs root on Debian; VARIANT=cuda, RAY=yes)
	PYTHON=$(PYTHON) docker/build_local.sh $(IMAGE) --build-arg VARIANT=$(VARIANT) --build-arg RAY=$(RAY)

image-test: $(VENV)/.dev image ## build the image, then test it in containers set up as in production
	IMAGE=$(IMAGE) $(BIN)/python -m pytest docker/test_image.py $(ARGS)

sbom: image ## copy the bill of materials (CycloneDX) and the licence report out of the image, into build/inventory
	mkdir -p build/inventory
	container=$$(buildah from $(IMAGE)) && cp -r "$$(buildah mount $$container)"/usr/share/doc/dynrefer/. build/inventory/; buildah rm $$container >/dev/null
	@ls -l build/inventory

lock: $(VENV)/.dev ## resolve the versions and hashes of the image's Python packages again
	$(BIN)/python docker/lock.py

contract: $(VENV)/.dev ## have schemathesis test the running service with 2000 examples per operation
	$(BIN)/python -m tests.service.api.contract --examples 2000

fuzz: $(VENV)/.dev ## send damaged images and requests to the running service for a few minutes
	$(BIN)/python -m benchmarks.fuzz
	$(BIN)/python -m benchmarks.fuzz_images

soak: $(VENV)/.dev ## put the running service under load for a quarter of an hour; prints its table
	@$(PIP) --editable '.[load]'
	$(BIN)/python -m benchmarks.soak --json benchmarks/results/soak.json

soak-scale: $(VENV)/.dev ## put two replicas on Ray under mixed traffic with a fault every minute, for an hour (ARGS="--minutes 5" for five minutes)
	$(BIN)/python -m benchmarks.scale_soak $(ARGS)

attacks: $(VENV)/.dev ## attack the running service and measure what each attack costs, about twenty minutes
	$(BIN)/python -m benchmarks.attacks $(ARGS)

audit: $(VENV)/.dev ## known vulnerabilities of the versions that requirements.txt names
	@$(PIP) pip-audit
	$(BIN)/pip-audit --requirement requirements.txt --no-deps --disable-pip

clean: ## remove the environment, the caches and what was built
	rm -rf $(VENV) $(LOWEST) .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
