# The targets that people and CI use. Those that need root ask for it by sudo.
#
#   make build        the programs, in bin
#   make install      the same, with systemd units, completion and man pages, below PREFIX
#   make demo         shows what Porthole does, on a private daemon
#   make test         everything: tools, lints, unit tests, end-to-end tests
#   make hostile      attacks the engine in all known ways, and tells what came of it
#   make load         500 containers, 2,000 cycles, 200 clients that follow, and what each costs
#   make soak         all kinds of work for 20 minutes; dist/soak.md tells what the daemon held
#   make crash        kills the daemon 200 times under a load, ends or fails it at each point of a durable write, takes
#                     what it lives on, and counts what is lost
#   make fuzz         random bytes for all that reads such of others, FUZZTIME (10m) each, JOBS (2) at once
#   make bpf          makes the eBPF objects anew, after a change of their C
#   make bench        side by side with the newest Docker Engine; BENCH="-n 10 -only run -markdown" are options
#   make stock        the core of it on Debian's kernel, with AppArmor, in QEMU; downloads the kernel, and needs long without KVM
#   make lint unit e2e conform uml compose buildx oci test-images clean
#   make release      archives for publication, with lists of their modules and checksums, in dist
#   make reproducible makes the release twice, elsewhere, and compares
#   make race         looks for data races in packages and programs; needs gcc, and hours; RACE=REGEXP picks parts
#   make vuln         looks for known vulnerabilities; needs their database

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

# sudo leaves out what a user has put on the path.
export PATH := $(PATH):/usr/local/go/bin
export CGO_ENABLED := 0

PREFIX ?= /usr/local
DESTDIR ?=
BINDIR := $(PREFIX)/bin
UNITDIR ?= /etc/systemd/system
IMAGES ?= /var/cache/porthole-test-images/images

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
# The time of the commit, so that the same source gives the same binary.
BUILT ?= $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.built=$(BUILT)
GOBUILD := go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

GOTOOL := go tool -modfile=tools/go.mod

.PHONY: release reproducible vuln race build toolbox install man demo test lint unit e2e conform uml stock hostile load soak crash fuzz bpf compose buildx delve oci test-images test-tools bench clean check-go FORCE

build: bin/porthole bin/porthole-build bin/portholed bin/porthole-shim bin/porthole-oci

check-go:
	@bash tools/check-machine.sh go

bin/portholed: toolbox

# Go knows best whether anything has to be built.
bin/%: check-go FORCE
	@$(GOBUILD) -o $@ ./cmd/$*

# The image porthole/toolbox, which portholed embeds.
toolbox: check-go
	@sh tools/build-toolbox.sh

install: build man
	@DESTDIR='$(DESTDIR)' BINDIR='$(BINDIR)' UNITDIR='$(UNITDIR)' bash contrib/install.sh

# Pages for man(1), of what the command line says of itself.
man: check-go
	@go run ./internal/cli/manual/generate -man bin/man

demo: build
	@bash contrib/demo.sh

test: build
	@bash test/run.sh

lint: check-go
	@bash tools/lint.sh

unit e2e conform uml stock hostile crash: build
	@bash test/run.sh $@

load: export PORTHOLE_TEST_LOAD_CYCLES ?= 2000
load: build
	@bash test/run.sh load

soak: export PORTHOLE_TEST_SOAK ?= 20m
soak: export PORTHOLE_TEST_REPORT ?= $(CURDIR)/dist/soak.md
soak: build
	@mkdir -p dist
	@bash test/run.sh load

# Needs clang-14, llvm-14 and libbpf-dev of Debian 12. The objects are committed.
bpf: check-go
	@go generate ./internal/linux/witness ./internal/linux/calltrace

compose buildx delve oci:
	@sh test/$@/build.sh

test-tools:
	@bash tools/as-root.sh bash tools/install-test-tools.sh

test-images:
	@bash tools/as-root.sh test/images/make-images.sh -u '$(IMAGES)'

release reproducible vuln: check-go
	@bash tools/$@.sh

# RACE picks parts by a regular expression, as internal/network$ or test/script, and RUN tests of them.
race: check-go
	@RACE='$(value RACE)' RUN='$(value RUN)' bash tools/race.sh

FUZZTIME ?= 10m
JOBS ?= 2

# FUZZ picks targets by a regular expression, as internal/pcap.FuzzRead.
fuzz: build
	@bash tools/as-root.sh env FUZZTIME='$(FUZZTIME)' JOBS='$(JOBS)' FUZZ='$(FUZZ)' bash tools/fuzz.sh

bench: build
	@bash tools/as-root.sh bash bench/run.sh $(BENCH)

clean:
	rm -rf bin dist internal/toolbox/rootfs/bin
