# make demo | test | lint | lock | clean        ARGS="..." goes on to the command

.DEFAULT_GOAL := help
.PHONY: help demo test lint lock clean

UV ?= uv
COMPILE = $(UV) pip compile --quiet --generate-hashes --python-version 3.11 --no-emit-package torch \
          --custom-compile-command "make lock"

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 8

demo:  ## install what is needed and run the demo into demo-run/
	./run.sh demo $(ARGS)

test:  ## run the tests
	./run.sh test $(ARGS)

lint:  ## style, types and the one-way rooms
	./run.sh lint

# An old lock is deleted first, because uv would keep its pins. POT is held at 0.9.6.post1: 6 MB, where the
# next release is 185 MB for the same functions. torch.txt takes part in the resolution and is left out of
# the result; with a CUDA build of it the lock would fill with nvidia packages, so that is checked.
lock:  ## make the lock files anew (needs uv; see CONTRIBUTING.md)
	rm -f requirements.lock requirements-test.lock requirements-lint.lock
	echo 'POT==0.9.6.post1' | $(COMPILE) pyproject.toml --group build -c torch.txt -c - -o requirements.lock
	$(COMPILE) --group test -c requirements.lock -c torch.txt -o requirements-test.lock
	$(COMPILE) --group lint -c requirements.lock -c requirements-test.lock -c torch.txt -o requirements-lint.lock
	@! grep -nE '^(nvidia-|torch==|triton|-)' requirements*.lock || \
	  { echo 'make lock: these lines do not belong in a lock; was a CUDA build of torch resolved?' >&2; exit 1; }

clean:  ## remove the environment, caches and the demo's run
	rm -rf .venv build dist demo-run .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
