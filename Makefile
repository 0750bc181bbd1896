# The commands of a developer. `make help` lists them.
SHELL := /bin/sh
GO    ?= go
ARGS  ?=
IMAGE ?= ghcr.io/holdfast-io/holdfast:0.1.0

GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
BUF      := github.com/bufbuild/buf/cmd/buf@v1.75.0

.DEFAULT_GOAL := help
.PHONY: help demo dev test chaos bench-smoke lint generate check-generated build chart image postgres spin

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: postgres build ## sell real orders over two databases, kill a lock holder, recount
	bin/holdfast demo $(ARGS)

dev: postgres build ## run everything on this machine until Ctrl-C
	bin/holdfast dev $(ARGS)

# A process with the race detector waits a second before it ends, for races that others may
# still come upon; tests start hundreds that do nothing any more by then.
RACE := GORACE="atexit_sleep_ms=10 $$GORACE"

test: postgres spin ## run all tests, with the race detector
	$(RACE) $(GO) test -race -timeout 15m $(ARGS) ./...

chaos: postgres ## run the tests that break processes; minutes
	$(RACE) $(GO) test -race -timeout 15m -tags chaos $(ARGS) ./deploy/chaos/...

bench-smoke: postgres build ## sell in every way for a moment; fails when one errs or an audit does
	bin/holdfast bench --smoke $(ARGS)

lint: ## run the linters
	$(GO) run $(GOLANGCI) run
	cd helm && $(GO) run $(GOLANGCI) run
	$(GO) run $(BUF) lint
	$(GO) mod tidy -diff

generate: ## make the generated code anew
	$(GO) run $(BUF) generate

check-generated: generate ## fail when the generated code is not current
	@changed=$$(git status --porcelain -- api); test -z "$$changed" || \
		{ echo "generated code is not current; run make generate and commit:"; echo "$$changed"; exit 1; }

build: ## build bin/holdfast
	$(GO) build -o bin/holdfast ./cmd/holdfast

chart: ## test the chart: lint, what it renders, what it refuses
	$(GO) test -C helm ./...
	$(GO) tool -C helm/unittest helm-unittest --strict ../holdfast

image: ## build the container image
	docker build -f deploy/Dockerfile -t $(IMAGE) .

postgres: # installs Postgres server binaries where there are none
	@deploy/local/install-postgres.sh

spin: # installs the model checker where there is none
	@worker/model/install-spin.sh
