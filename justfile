# The verbs of this repository; each is a line or two to run by hand as well.

set shell := ["bash", "-euo", "pipefail", "-c"]

# What is in .venv goes first, where there is one
export PATH := justfile_directory() / ".venv/bin" + ":" + env("PATH")

# Older engines build with cache mounts only when told to
export DOCKER_BUILDKIT := "1"
export COMPOSE_DOCKER_CLI_BUILD := "1"

# Asked anew in each recipe, so that those without Docker need none
compose := "$(docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)"
exec := compose + " exec $(test -t 0 || echo -T)"

# Show the verbs
list:
    @{{ just_executable() }} --justfile {{ justfile() }} --list --unsorted

# Start PostgreSQL, the migrations and the service, and wait until it answers
up:
    #!/usr/bin/env bash
    set -euo pipefail
    {{ compose }} up --detach --build
    url=http://$({{ compose }} port app 8000)
    for _ in {1..60}; do
      if curl --fail --silent --output /dev/null --max-time 3 "$url/readyz"; then
        printf '\nready on %s; look at:\n' "$url"
        printf "  curl '%s'\n" "$url/data?page=1&page_size=10" "$url/health" "$url/stats"
        printf '  %s in a browser, or `just logs`, `just db-shell`, `just down`\n' "$url/docs"
        exit 0
      fi
      sleep 1
    done
    {{ compose }} ps
    {{ compose }} logs --tail 30
    echo "just up: $url/readyz does not answer after a minute; the reason should be above" >&2
    exit 1

# Stop them; the rows stay
down:
    @{{ compose }} down --remove-orphans

# Follow the logs of the containers
logs *services:
    @{{ compose }} logs --follow --tail 100 {{ services }}

# A shell in the service's container
shell:
    @{{ exec }} app bash

# psql in the database's container: `just db-shell`, `just db-shell -c 'SELECT 1'`
[positional-arguments]
db-shell *arguments:
    @{{ exec }} db psql --username etl --dbname etl "$@"

# Build the image
build:
    docker build --tag etl-river .

# Remove the containers, the rows in their database, and what builds and checks left behind
clean:
    rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
    find app tests migrations -name __pycache__ -type d -prune -exec rm -rf {} +
    @if command -v docker >/dev/null; then {{ compose }} down --volumes --remove-orphans; fi

# The service on its sample sources, in a database of its own: no Docker, no network
demo *options:
    etl demo {{ options }}

# Run all tests, or those named: `just test -k lease`
[positional-arguments]
test *arguments:
    pytest "$@"

# Without a database or a network
[positional-arguments]
test-unit *arguments:
    pytest tests/unit "$@"

# With a real PostgreSQL and real HTTP
[positional-arguments]
test-integration *arguments:
    pytest tests/integration "$@"

# With real processes and real signals
[positional-arguments]
test-acceptance *arguments:
    pytest tests/acceptance "$@"

# Kill, crash, stop and soak, for hours: `just prove-long`, `KILLS=50 just prove-long` for less; docs/reliability.md has the figures
prove-long:
    etl prove --demo --kills 100000
    etl prove --demo --edges sockets --kills "${KILLS:-100000}"
    SOAK_MINUTES="${SOAK_MINUTES:-20}" pytest -m long --timeout 7200 tests/reliability

# Up, down and up again, with rows in place
[positional-arguments]
test-migration *arguments:
    pytest tests/migration "$@"

# Read everything, change nothing: lint, types, the rules of the house
check: lint
    pytest -q tests/unit/test_house_rules.py

# Lint, format and types; changes nothing
lint:
    ruff check
    ruff format --check
    mypy

# Write what lint can mend by itself
fix:
    ruff check --fix
    ruff format

# Resolve requirements.lock anew, to the newest versions (needs uv)
lock:
    uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 --extra embedded --extra dev \
      --no-emit-index-url --custom-compile-command 'just lock' --output-file requirements.lock pyproject.toml

# Measure floor and ours side by side, and write docs/performance.md (`just bench load --rows 100000` for a part)
bench *arguments="all":
    python -m benchmarks {{ arguments }}
