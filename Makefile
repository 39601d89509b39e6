# What a developer runs. Every target installs what it needs by scripts/deps,
# on a machine that has only Go, make and apt. Tests that need root fail
# without it; none is skipped.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
CACHE   := $(or $(V6NET_CACHE),/var/cache/v6net)
LDFLAGS := -s -w -X main.version=$(VERSION)
# More flags for the tests of every floor, as in: make netns TESTFLAGS='-run Router -v'
TESTFLAGS ?=

.PHONY: all build plugin packages test unit netns crash soak fuzz engine crowd vm bench bench-ndproxy generate lint rules vuln demo fmt clean

all: build

# --- the program and the plugin ----------------------------------------------

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/v6net ./cmd/netavark-v6net

# A folder for `docker plugin create NAME build/plugin`. The empty folders are
# where the engine mounts things.
plugin: build
	scripts/deps plugin
	rm -rf build/plugin
	install -D -m 755 bin/v6net build/plugin/rootfs/usr/bin/v6net
	scripts/plugin-iptables build/plugin/rootfs
	install -m 644 config.json build/plugin/config.json
	mkdir -p build/plugin/rootfs/{dev,etc,proc,run/docker/plugins,sandboxes,sys,sysctl/net,tmp,var/lib/v6net}

# .deb and .rpm, in build/packages, and that two builds make the same bytes.
packages:
	scripts/deps packages
	scripts/packages
	scripts/packages-content
	scripts/packages-again

# --- tests, one target a floor ------------------------------------------------

test: unit netns engine vm

# No privileges, race detector.
unit:
	scripts/deps unit
	$(GO) test -race -timeout 20m $(TESTFLAGS) ./...

# Real kernel, namespaces as hosts and routers: every package with such tests, those
# first that take longest. They wait for most of their time, so that more run at once
# than there are processors.
netns: need-root
	scripts/deps netns
	dirs="$$(grep -rlE --include='*_test.go' '^//go:build netns$$' . | xargs -r -n1 dirname | sort -u)"
	[[ -n $$dirs ]] || { echo 'make netns: no package has tests with the build tag netns' >&2; exit 1; }
	first='^./(internal/kernel/nft|test/crash|cmd/v6net)$$'
	dirs="$$(grep -E "$$first" <<<"$$dirs"; grep -vE "$$first" <<<"$$dirs")"
	$(GO) test -race -tags netns -timeout 20m -p 4 -parallel 9 $(TESTFLAGS) $$dirs

# The daemon, killed before every change that it makes in every operation; one point
# alone: V6NET_CRASH='bridge/join/7' make crash. `make netns` does some of them.
crash: need-root
	scripts/deps netns
	V6NET_CRASH_EVERY="$${V6NET_CRASH_EVERY:-1}" $(GO) test -tags netns -count=1 -timeout 90m -run CrashMatrix -v $(TESTFLAGS) ./test/crash

# Networks and containers come, go, are renumbered and killed at random for twenty
# minutes; what a seed did once more: V6NET_SEED=17 make soak.
soak: need-root
	scripts/deps netns
	V6NET_SOAK="$${V6NET_SOAK:-20m}" $(GO) test -tags netns -count=1 -timeout 60m -run Soak -v $(TESTFLAGS) ./test/crash

# Real Docker engines, Podman and the managed plugin, side by side, each in namespaces
# of its own: a test waits for most of its time, and they take about half of two processors'.
# What is not about an engine of Docker runs beside them: Podman and systemd, the
# documentation's commands and the packages. TestNetworks, which takes longest, is done
# in halves: what NETWORKS and MODES name, and a part that neither does is done by both.
# A test whose name no pattern knows is one of each engine's others.
NETWORKS := main_path|sources|options|duplicate_addresses|refusals|several_networks|IPv6_only|advertisements
MODES    := macvlan|ipvlan|examples|parallel
ENGINES := $(or $(V6NET_ENGINES),20.10 26.1)

engine: need-root plugin
	scripts/deps engine packages
	scripts/packages "$$($(GO) env GOARCH)"
	scripts/packages-content
	scripts/packages-again ours
	scripts/previous
	cmp bin/v6net "build/packages/$$($(GO) env GOARCH)/v6net" # the plugin's program is the same, built twice
	run() { V6NET_ENGINES=$$1 $(GO) test -race -tags engine -count=1 -timeout 40m $(TESTFLAGS) "$${@:2}"; }
	tests="$$($(GO) test -race -tags engine -list . ./test/engine | grep ^Test)"
	# but PATTERN are the tests that have not this in their names, for -skip.
	but() { grep -vE "$$1" <<<"$$tests" | paste -sd'|' | sed 's/.*/^(&)$$/'; }
	failed=
	# By itself: it sees to it that an engine leaves nothing on the machine.
	run '$(ENGINES)' ./internal/testengine/... || failed+=' testengine'
	declare -A running
	for engine in $(ENGINES); do
		run $$engine -skip "$$(but '^TestNetworks$$')|^TestNetworks$$/./^($(MODES))$$" ./test/engine & running[$$engine-networks]=$$!
		run $$engine -skip "$$(but '^TestNetworks$$')|^TestNetworks$$/./^($(NETWORKS))$$" ./test/engine & running[$$engine-modes]=$$!
		run $$engine -skip '^TestNetworks$$|Podman|Systemd|Firewalld|Docs|Packages' ./test/engine & running[$$engine]=$$!
	done
	run $(lastword $(ENGINES)) -skip "$$(but '^TestPodmanAsDocker$$')" ./test/engine & running[podman-as-docker]=$$!
	run $(lastword $(ENGINES)) -skip "$$(but 'Podman|Systemd|Firewalld')|^TestPodmanAsDocker$$" ./test/engine & running[podman]=$$!
	run $(firstword $(ENGINES)) -skip "$$(but 'Docs|Packages')" ./test/engine & running[docs]=$$!
	for part in "$${!running[@]}"; do
		wait $${running[$$part]} || failed+=" $$part"
	done
	[[ ! -e build/previous/shallow ]] || echo 'make engine: NO MIGRATION OF THE JOURNAL WAS TESTED: the history is cut off (git fetch --unshallow)' >&2
	[[ ! $$failed ]] || { echo "make engine: failed:$$failed" >&2; exit 1; }

# Two hundred containers started and removed at once, and the engine killed at random among
# fifty that start and stop, which `make engine` does with fewer.
crowd: need-root plugin
	scripts/deps engine
	V6NET_PARALLEL="$${V6NET_PARALLEL:-200}" V6NET_CROWD="$${V6NET_CROWD:-50}" V6NET_ENGINES='$(or $(V6NET_ENGINES),26.1)' \
		$(GO) test -tags engine -count=1 -timeout 90m -v -run '^TestNetworks$$/./^parallel$$|^TestEngineIsKilledAmongContainers$$' $(TESTFLAGS) ./test/engine

# The newest engines on a stock kernel, each in a VM of its own. What they say is
# kept in build/vm.*, too. All that a part can: make vm VM_PARTS=29 TESTFLAGS='-run .'
# with V6NET_VM_TIMEOUT=2h. Each mode's throughput beside Docker's own driver of that
# mode: make vm VM_PARTS=throughput.
VM_PARTS ?= 28.5 29 podman

vm: plugin
	scripts/deps vm
	CGO_ENABLED=0 $(GO) test -c -ldflags '-s -w' -tags engine,vm -o build/vm/engine.test ./test/engine
	CGO_ENABLED=0 $(GO) test -c -ldflags '-s -w' -tags netns,vm -o build/vm/link.test ./internal/kernel/link
	CGO_ENABLED=0 $(GO) test -c -ldflags '-s -w' -tags netns,vm -o build/vm/ndbpf.test ./internal/kernel/ndbpf
	[[ ' $(VM_PARTS) ' != *' throughput '* ]] || CGO_ENABLED=0 $(GO) test -c -ldflags '-s -w' -tags bench -o build/vm/bench.test ./test/bench
	failed=
	declare -A running
	for part in $(VM_PARTS); do
		V6NET_VM_NAME=$$part scripts/vm test/vm/run $$part $(TESTFLAGS) & running[$$part]=$$!
	done
	for part in "$${!running[@]}"; do
		wait $${running[$$part]} || failed+=" $$part"
	done
	[[ ! $$failed ]] || { echo "make vm: failed:$$failed" >&2; exit 1; }

# Measurements beside named peers. All of them, which take 40 minutes, write docs/benchmarks/README.md;
# a part (TESTFLAGS='-run TestBench/daemon') is printed. V6NET_BENCH_NETWORKS=300 makes a smaller scale. Slow is no failure.
bench: need-root plugin
	scripts/deps bench
	scripts/deps ndproxy
	if [[ '$(TESTFLAGS)' ]]; then
		$(GO) test -tags bench -count=1 -timeout 90m -v $(TESTFLAGS) ./test/bench
		exit
	fi
	rm -f build/bench-ndproxy.md build/bench-ndproxy.svg
	$(GO) test -tags bench -count=1 -timeout 20m -v ./test/bench/ndproxy
	V6NET_BENCH_PAGES=docs/benchmarks $(GO) test -tags bench -count=1 -timeout 90m -v ./test/bench

# The NDP proxy beside ndppd and the kernel's; docs/benchmarks/ndproxy.md.
bench-ndproxy: need-root build
	scripts/deps ndproxy
	$(GO) test -tags bench -count=1 -timeout 20m -v $(TESTFLAGS) ./test/bench/ndproxy

# The NDP proxy's eBPF objects, which are committed.
generate:
	scripts/deps generate
	$(GO) generate ./internal/kernel/ndbpf

.PHONY: need-root
need-root:
	@((EUID == 0)) || { echo 'make: this floor makes network namespaces and must be run as root' >&2; exit 1; }

# Every fuzz target for so long; their seeds run with `make unit`. One alone: FUZZ=FuzzHandler.
FUZZTIME ?= 20s

fuzz:
	FUZZTIME=$(FUZZTIME) scripts/fuzz $(FUZZ)

# --- the rest -----------------------------------------------------------------

lint:
	scripts/deps lint
	$(CACHE)/bin/golangci-lint run --build-tags netns,engine,vm ./...

# The alerts for Prometheus, and their tests; and that the dashboard's queries are PromQL.
rules:
	scripts/deps rules
	mkdir -p build
	jq '[.panels[].targets[].expr | gsub("\\$$__rate_interval"; "5m")] | to_entries | {groups: [{name: "dashboard", rules: map({record: "panel:\(.key)", expr: .value})}]}' \
		packaging/grafana/v6net.json >build/dashboard.rules.json
	promtool check rules packaging/prometheus/v6net.rules.yml build/dashboard.rules.json
	promtool test rules packaging/prometheus/v6net.test.yml

vuln:
	scripts/deps vuln
	$(CACHE)/bin/govulncheck ./...

demo: need-root plugin
	scripts/deps demo
	scripts/demo

fmt:
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')

clean:
	rm -rf bin build
