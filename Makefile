# Thin over CMake.  `make` builds; the other targets say what they do in `make help`.

PREFIX ?= /usr/local
BUILD ?= build$(if $(SAN),-$(SAN))
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
SAN ?=
CMAKE_FLAGS ?=

ninja := $(shell command -v ninja 2>/dev/null)
generator := $(if $(ninja),-G Ninja,-G "Unix Makefiles")
san_flags := $(if $(SAN),-DNPOS_SAN=$(SAN) -DCMAKE_BUILD_TYPE=RelWithDebInfo)

.PHONY: all help packages configure demo test check bench install fuzz docs format clean

all: configure ## build the program and the library
	cmake --build $(BUILD) -j $(JOBS)

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' Makefile
	@echo "SAN=asan|ubsan|tsan chooses sanitizers (build, test); BUILD= the folder; PREFIX=, DESTDIR= of install"

packages: ## install what the build needs from the distribution, where it is missing
	@scripts/install-packages

configure:
	@if [ ! -f $(BUILD)/CMakeCache.txt ]; then \
	    cmake -S . -B $(BUILD) $(generator) -DCMAKE_INSTALL_PREFIX=$(PREFIX) $(san_flags) $(CMAKE_FLAGS); fi

demo: ## install packages, build, train on Fashion-MNIST and open the report's place
	scripts/install-packages --demo
	$(MAKE) all
	scripts/demo

test: packages ## build and run all tests
	$(MAKE) all
	ctest --test-dir $(BUILD) --output-on-failure -j 2

check: ## all that CI runs
	.ci/run

bench: all ## how fast this machine does the work of npos
	$(BUILD)/npos bench

install: all ## into PREFIX (/usr/local), below DESTDIR
	DESTDIR="$(DESTDIR)" cmake --install $(BUILD) --prefix $(PREFIX)

fuzz: ## run each fuzz target for SECONDS_EACH (20) seconds; needs clang
	scripts/fuzz

docs: all ## write docs/cli.md anew from the help texts
	scripts/docs-cli $(BUILD)/npos >docs/cli.md

format: ## clang-format all sources in place
	git ls-files '*.c' '*.h' | xargs clang-format -i

clean: ## remove the build folder
	rm -rf $(BUILD)
