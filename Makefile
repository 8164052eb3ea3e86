# Thin names for scripts/, which say what each does.
.PHONY: serve test check bench test-tf1

serve:
	scripts/serve

# "make test TF1=" demands a Python 3.7; otherwise the tests on it are skipped where there is none.
TF1 = --if-found

test:
	scripts/test
	scripts/test-tf1 $(TF1)

check:
	scripts/check

bench:
	scripts/bench

test-tf1:
	scripts/test-tf1
