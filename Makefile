# pg_tenancy: `make` alone lists the targets. Everything that is built or downloaded lands below target/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# As with PGXS, PG_CONFIG alone names the installation, and its version follows; else PG does.
ifneq ($(filter command environment,$(origin PG_CONFIG)),)
PG := $(shell $(PG_CONFIG) --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
export PG_CONFIG
endif
PG ?= 15
DESTDIR ?=
LOADING ?= demand,session,shared
TESTS ?= all
CLUSTER ?= demo
FUZZ_SECONDS ?= 60
CARGO ?= cargo
CARGOFLAGS ?= $(if $(CI),--locked)
RECORD ?=
WHY ?=
export PG DESTDIR CARGO CARGOFLAGS WHY

VERSION := $(shell sed -n '0,/^version = /s/^version = "\(.*\)"/\1/p' Cargo.toml)
LIBRARY := target/build-$(PG)/pg_tenancy.so
PROGRAM := target/build-$(PG)/pg-tenancy-verify
SQL_DIR := target/sql
SQL := $(SQL_DIR)/pg_tenancy--$(VERSION).sql
SCRIPTS := $(addprefix sql/,$(shell grep -v '^\#' sql/order))
UPGRADES := $(wildcard sql/upgrade/*.sql)
RELEASED := $(wildcard sql/released/*.sql.gz)
DEBS ?= target/package
PACKAGE := pg_tenancy-$(VERSION)-pg$(PG)-$(shell uname -m)

CARGO_PG = tools/cargo.sh
CARGO_PG_FLAGS = --release --package pg_tenancy --features pg$(PG) --target-dir target/build $(CARGOFLAGS)
CORE := Cargo.toml Cargo.lock core/Cargo.toml $(shell find core/src -type f)
PRIVATE = PG_CONFIG="$$(tools/pg-config.sh --private)" DESTDIR=

.PHONY: help
help: ## list the targets
	@echo "pg_tenancy $(VERSION). PG=15 (default) to 18 chooses the Postgres version, PG_CONFIG=... an installation."
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

.PHONY: demo
demo: private ## set up, build, and show in a private Postgres what the extension does
	@LOADING=shared tools/cluster.sh fresh demo
	@eval "$$(tools/cluster.sh env demo)"; exec tools/demo.sh

.PHONY: test
test: private ## set up, build, and run every test (LOADING=demand,session,shared; TESTS=server, short; PG=18)
	@tools/setup.sh clients
	@LOADING=$(LOADING) TESTS=$(TESTS) tools/test.sh

.PHONY: check
check: private ## run one suite or test (ONE=pg_test/context/context.sql, ONE=context::a_name)
	@tools/check.sh $(ONE)

.PHONY: bench
bench: private ## set up, build, and measure in a private Postgres
	@tools/setup.sh instructions
	@tools/cluster.sh fresh bench
	@trap 'tools/cluster.sh stop bench' EXIT; eval "$$(tools/cluster.sh env bench)"; tools/bench.sh

.PHONY: instructions
instructions: private ## count instructions of operations, compare with benches/instructions.txt (RECORD=yes WHY='...')
	@tools/setup.sh instructions
	@tools/instructions.sh $(if $(RECORD),record,compare)

.PHONY: fuzz
fuzz: ## fuzz the readers of tokens, keys, bundles, packed events and sealed values (FUZZ_SECONDS=60)
	@tools/setup.sh build fuzz
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tools/fuzz.sh

.PHONY: setup
setup: ## install what is missing to build and test
	@tools/setup.sh build server

.PHONY: all build library
build: all
library: $(LIBRARY) $(SQL)
all: library $(PROGRAM) ## build the library and the SQL of the extension, and pg-tenancy-verify

# The versions share what they depend on, and cargo has one file for the libraries of all of them, which it would take
# for up to date after another version was built. Without line tables, which stand in a file beside it, where debuggers
# and backtraces look for them.
$(LIBRARY): $(CORE) files/Cargo.toml $(shell find src files/src -type f)
	@mkdir -p target/build $(@D)
	@exec 9>target/build/versions.lock && flock 9 \
	    && rm -f target/build/release/{,deps/}libpg_tenancy.so \
	    && (set -x; $(CARGO_PG) build --lib $(CARGO_PG_FLAGS) 9>&-) \
	    && cp target/build/release/libpg_tenancy.so $(@D)/libpg_tenancy.so
	@objcopy --only-keep-debug $(@D)/libpg_tenancy.so $@.debug
	@cd $(@D) && objcopy --strip-unneeded --add-gnu-debuglink=pg_tenancy.so.debug libpg_tenancy.so pg_tenancy.so
	@rm $(@D)/libpg_tenancy.so

# Static, so that it runs on an auditor's machine, whatever that has. It shares what the library is built of.
$(PROGRAM): $(CORE) verifier/Cargo.toml $(shell find verifier/src -type f)
	$(CARGO) rustc --release --package pg-tenancy-verify --bin pg-tenancy-verify --target-dir target/build \
	    $(CARGOFLAGS) -- -C target-feature=+crt-static
	@strip --strip-unneeded -o $@ target/build/release/pg-tenancy-verify

# Beside the script of this version those of earlier ones, which a dump of theirs is restored with.
$(SQL): Cargo.toml pg_tenancy.control sql/order $(SCRIPTS) $(UPGRADES) $(RELEASED)
	@grep -qx "default_version = '$(VERSION)'" pg_tenancy.control \
	    || { echo 'error: default_version in pg_tenancy.control is not the version in Cargo.toml' >&2; exit 1; }
	@rm -rf $(SQL_DIR) && mkdir -p $(SQL_DIR)
	@echo '\echo Use "CREATE EXTENSION pg_tenancy" to load this file. \quit' > $@
	@awk 'FNR == 1 { print "\n-- " FILENAME } 1' $(SCRIPTS) >> $@
	@$(foreach file,$(UPGRADES),cp $(file) $(SQL_DIR)/;)
	@$(foreach file,$(RELEASED),gunzip -c $(file) > $(SQL_DIR)/$(notdir $(file:.gz=));)

.PHONY: install
install: all ## install into the Postgres that PG_CONFIG names, below DESTDIR if given
	@tools/install.sh $(LIBRARY) $(SQL_DIR) $(PROGRAM)

.PHONY: uninstall
uninstall: ## take the installed files away again
	@tools/install.sh --uninstall

# `setup` comes before `library` even with make -j. The tests build the program for themselves.
.PHONY: private
private:
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory library
	@$(PRIVATE) tools/install.sh $(LIBRARY) $(SQL_DIR)

.PHONY: installcheck
installcheck: ## run the SQL suites against the running server that PGHOST, PGPORT, PGUSER name
	@tools/installcheck.sh

.PHONY: package
package: all ## make an installable tree and a .tar.gz of it below target/package
	@rm -rf target/package/$(PACKAGE)
	@DESTDIR=$(CURDIR)/target/package/$(PACKAGE) tools/install.sh $(LIBRARY) $(SQL_DIR) $(PROGRAM)
	@tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@$${SOURCE_DATE_EPOCH:-0} \
	    -czf target/package/$(PACKAGE).tar.gz -C target/package/$(PACKAGE) .
	@echo target/package/$(PACKAGE).tar.gz

.PHONY: deb
deb: all ## make Debian packages of the extension, its line tables and pg-tenancy-verify in target/package
	@tools/setup.sh deb
	@tools/deb.sh $(DEBS) $(LIBRARY) $(SQL_DIR) $(PROGRAM)

.PHONY: dist
dist: ## make the archive of the committed sources for PGXN in target/package
	@mkdir -p target/package
	@git archive --format zip --prefix pg_tenancy-$(VERSION)/ --output target/package/pg_tenancy-$(VERSION).zip HEAD
	@echo target/package/pg_tenancy-$(VERSION).zip

.PHONY: lint
lint: $(SQL) ## check format, clippy, licences and sources of dependencies, and the shell scripts
	@tools/setup.sh build lint
	$(CARGO) fmt --all --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	$(CARGO) fmt --check --manifest-path tests/clients/rust/Cargo.toml
	$(CARGO) clippy --all-targets $(CARGOFLAGS) -- -D warnings
	$(CARGO) clippy --manifest-path fuzz/Cargo.toml --target-dir target/fuzz -- -D warnings
	$(CARGO_PG) clippy --lib $(CARGO_PG_FLAGS) -- -D warnings
	@tools/lines.sh
	@tools/deny.sh
	@tools/pgspot.sh $(SQL)
	target/tools/hadolint/bin/hadolint Dockerfile
	shellcheck -x -P SCRIPTDIR tools/*.sh tools/demo/*.sh examples/keys/*.sh .ci/run

.PHONY: psql
psql: ## open psql on a private cluster (CLUSTER=demo)
	@tools/cluster.sh start $(CLUSTER)
	@eval "$$(tools/cluster.sh env $(CLUSTER))"; exec psql

.PHONY: stop
stop: ## stop the private clusters of this checkout
	@tools/cluster.sh stop

.PHONY: clean
clean: ## stop them, and delete everything that was built or downloaded
	@tools/cluster.sh destroy
	@if [[ -L target/server ]]; then rm -rf "$$(realpath target/server)"; fi
	rm -rf target
