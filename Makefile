# Thin names for scripts/, which say what each does.
.PHONY: serve test check bench test-py37

serve:
	scripts/serve

test:
	scripts/test

check:
	scripts/check

bench:
	scripts/bench

test-py37:
	scripts/test-py37
