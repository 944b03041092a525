# `make help` lists the targets. On a fresh Debian machine with Go, gcc and
# make, `make demo` and `make test` are all there is to it.

GO ?= go
FUZZTIME ?= 10s
BENCHFLAGS ?=
TESTFLAGS ?=
INIT_BUDGET ?= 0.5

export GOFLAGS := $(GOFLAGS) -buildvcs=false
export CGO_ENABLED := 1

INIT := internal/sandbox/initelf/init
NET := internal/netprogram/program/gobuild-net
S3_SERVER := build/bin/versitygw
STATIC_TAGS := sqlite_omit_load_extension osusergo netgo
STATIC := -trimpath -tags '$(STATIC_TAGS)' -ldflags '-s -w -linkmode external -extldflags "-static"'

# Engines kill all processes of a build user before they give it to a builder,
# and the group of build users is the machine's: tests that build as root run
# one package after the other.
SERIAL := $(addprefix gobuild/,cmd/gobuild internal/conformance internal/goal internal/sandbox internal/store internal/store/gc)
PACKAGES = $(shell $(GO) list ./...)
ALONE = $(filter $(SERIAL),$(PACKAGES))
TOGETHER = $(filter-out $(SERIAL),$(PACKAGES))

# Parts of the program that it carries along.
PARTS := $(INIT) $(NET)

.PHONY: help build static $(NET) tools test-tools demo demo-clean test check gofmt vet staticcheck init-budget unit race fuzz torture bench golden cover clean

build: tools $(PARTS) ## build ./gobuild
	$(GO) build -o gobuild ./cmd/gobuild

static: tools $(PARTS) ## build ./gobuild as one static program
	$(GO) build $(STATIC) -o gobuild ./cmd/gobuild
	@printf 'gobuild: %s bytes\n' "$$(wc -c <gobuild)"

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The builders' init without a C library, which starts faster than the program
# that contains it. The build does without it where it cannot be made.
$(INIT): internal/sandbox/init.c internal/sandbox/freestanding.h
	-$(CC) -DFREESTANDING -O2 -Wall -Wextra -std=gnu11 -ffreestanding -static -nostdlib -fno-stack-protector \
		-fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns -Wl,--build-id=none -Wl,-z,noexecstack -s -o $@ $<

# The network program is static in any case, because it is executed inside
# sandboxes. Go knows whether there is something to do; a program that has not
# changed is left alone, and one that has is replaced at once.
$(NET): tools
	@mkdir -p build
	$(GO) build $(STATIC) -o build/gobuild-net ./cmd/gobuild-net
	@cmp -s build/gobuild-net $@ || { cp build/gobuild-net build/gobuild-net.new && mv build/gobuild-net.new $@; }

tools:
	@scripts/need.sh go=golang-go cc=gcc /usr/include/stdio.h=libc6-dev /usr/include/lzma.h=liblzma-dev

test-tools: tools $(S3_SERVER)
	@scripts/need.sh /usr/sbin/nft=nftables ip=iproute2 busybox=busybox-static nix-store=nix-bin nix-instantiate=nix-bin flock=util-linux /usr/sbin/sshd=openssh-server ssh=openssh-client

# The server for the tests of caches in S3. Versions are chosen, not found.
$(S3_SERVER): | tools
	GOBIN=$(CURDIR)/$(@D) $(GO) install github.com/versity/versitygw/cmd/versitygw@v1.8.0

demo: build ## build real software with gobuild, in ./demo-store
	demo/run.sh

demo-clean: ## delete ./demo-store
	demo/clean.sh

test: test-tools check ## install what the tests need, then check everything

check: gofmt vet staticcheck init-budget unit ## check everything with what is installed

gofmt:
	@files=$$(gofmt -l cmd internal) && if test -n "$$files"; then echo "not formatted: $$files" >&2; exit 1; fi

vet:
	$(GO) vet ./...

staticcheck:
	$(GO) tool staticcheck ./...

init-budget: build
	@scripts/init-budget.sh ./gobuild $(INIT_BUDGET)

unit: $(PARTS)
	$(GO) test $(TESTFLAGS) $(TOGETHER)
	$(GO) test $(TESTFLAGS) -p 1 -timeout 30m $(ALONE)

race: test-tools $(PARTS) ## run all tests with the race detector
	$(GO) test $(TESTFLAGS) -race $(TOGETHER)
	$(GO) test $(TESTFLAGS) -race -p 1 -timeout 60m $(ALONE)

fuzz: tools ## run every fuzz target for $FUZZTIME (10s)
	@scripts/fuzz.sh $(FUZZTIME)

torture: build test-tools ## kill gobuild and those who work for it 200 times while they fetch, repair and build
	GOBUILD_BIN=$(CURDIR)/gobuild GOBUILD_KILLS=200 $(GO) test -count=1 -timeout 30m ./internal/conformance -run '^TestKilled$$'

bench: build ## compare gobuild, Nix and the machine; BENCHFLAGS=-quick is faster
	$(GO) run ./internal/bench $(BENCHFLAGS)

golden: build ## rewrite the expected texts that tests compare with, and show what changed
	$(GO) test ./internal -run '^TestSettingsDocument$$' -update
	$(GO) test ./internal/sandbox -update
	GOLDEN=rewrite $(GO) test -count=1 ./internal/ui
	git diff --stat -- docs internal

cover: test-tools $(PARTS) ## measure what the tests reach, in build/cover.html
	@mkdir -p build
	$(GO) test -p 1 -timeout 60m -coverpkg=./cmd/...,./internal/... -coverprofile=build/cover.out ./...
	$(GO) tool cover -html=build/cover.out -o build/cover.html
	$(GO) tool cover -func=build/cover.out | tail -n 1

clean: ## delete what was built
	rm -rf gobuild build bench-out $(PARTS)
