.PHONY: check test fmt schema bench

check:  ## what a merge must pass: format, lint, types, import contracts, drift of the schemas, tests
	.ci/check

test:
	uv run pytest

fmt:
	uv run ruff format .
	uv run ruff check --fix .

schema:  ## write the committed schemas anew: schema.graphql and migrations/schema.txt
	uv run python -c 'from api.schema import print_schema; print(print_schema(), end="")' > schema.graphql
	ANJUAN_WRITE_SCHEMA=1 uv run pytest -q tests/migrations/test_schema.py

bench:  ## ratios, with machine, fsync and seed
	uv run python -m tests.benchmarks
