.DEFAULT_GOAL := help
.PHONY: help check test race lint bench quickstart servers

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

check: ## what CI runs
	./.ci/run

test: ## all tests that need no server
	go test ./...

race: ## the same under the race detector
	go test -race ./...

lint: ## gofmt and go vet, and golangci-lint where it is installed
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	@if command -v golangci-lint >/dev/null; then golangci-lint run; else echo "golangci-lint is not installed: skipped"; fi

servers: ## installs and starts the real servers of the integration tests, see docs/testing.md
	./scripts/servers up

bench: ## the benchmarks beside the peers, six runs each
	cd bench && go test -run '^$$' -bench . -count 6 ./...

quickstart: ## the main job, on simulators
	go run ./examples/quickstart
