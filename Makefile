SHELL = bash -o pipefail
.DEFAULT_GOAL := help
.PHONY: help check test race watch lint fmt vuln servers bench fleet crash matrix mutants sizes quickstart

# The tools, as tools/go.mod pins them. The first use builds one, golangci-lint
# in about two minutes; Go's build cache keeps it.
TOOL = go tool -modfile=$(CURDIR)/tools/go.mod

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

check: ## what CI runs
	./.ci/run

test: ## all tests that need no server
	go test ./...

race: ## the same under the race detector
	go test -race ./...

watch: ## runs the tests of a package whenever one of its files is saved
	$(TOOL) gotestsum --watch

lint: ## linters, modernizers, go.mod and go.sum, in every module
	$(TOOL) golangci-lint run
	cd bench && $(TOOL) golangci-lint run --config ../.golangci.yml --disable bodyclose,revive,unparam,unused # peers are set up alike, whatever each needs
	go fix -diff ./...
	cd bench && go fix -diff ./...
	for m in . bench tools; do (cd $$m && go mod tidy -diff) || exit 1; done

fmt: ## formats and modernizes what can be mended without thought
	$(TOOL) golangci-lint fmt
	go fix ./...
	cd bench && go fix ./...

vuln: ## known vulnerabilities in what the code calls; needs the network
	@$(TOOL) govulncheck ./... || { status=$$?; \
	  test $$status = 3 || echo "make vuln: govulncheck could not run: it reads https://vuln.go.dev, or the copy that GOVULNDB names (GOVULNDB=file:///path)" >&2; \
	  exit $$status; }

servers: ## installs and starts the real servers of the integration tests, see docs/testing.md
	./scripts/servers up

bench: ## the benchmarks beside the peers, on one processor and two, and the medians of eight runs side by side
	@mkdir -p .cache
	cd bench && go test -c -o ../.cache/bench.test .
	for run in 1 2 3 4 5 6 7 8; do .cache/bench.test -test.run '^$$' -test.bench . -test.cpu 1,2 -test.benchtime 200ms; done | tee .cache/bench.txt
	$(TOOL) benchstat -col /lib .cache/bench.txt

bench-queue: ## the queue in a SQLite file beside bbolt, every commit synced, five interleaved rounds; needs strace, four minutes
	cd bench && go test -count 1 -timeout 30m -v ./queue -run TestTheQueueBesideBolt -rounds 5

backlog: ## 100,000 queued mails while one provider, or all of them, hang; six minutes
	@mkdir -p .cache
	cd bench && go test -c -o ../.cache/backlog.test ./backlog
	for workers in 8 64; do .cache/backlog.test -test.v -mails 100000 -workers $$workers || exit 1; done

fleet: ## the simulation of docs/fleet.md with every variant, which rewrites its figures; six minutes
	cd bench && go test -count 1 -timeout 30m -v ./fleet -update

crash: ## kills workers that deliver queued mail, 52 times and more, and prints what became of the mails; eight minutes
	./scripts/crash

matrix: ## payments in every situation that goes wrong, against both simulators, on PostgreSQL too where it is up; four minutes
	go test -count=1 -timeout 20m -v ./internal/matrix -full 2>&1 | grep -Ev '^ *(===|--- PASS)'

mutants: ## breaks the rules of payments one by one, in a copy, and checks that the test of each finds it; four minutes
	./scripts/mutants

sizes: ## what each package adds to a binary
	./scripts/sizes

quickstart: ## the main job, on simulators
	go run ./examples/quickstart
