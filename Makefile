# Thin names for scripts/, which say what each does.
.PHONY: serve test test-slow test-tf1 check bench fuzz chaos

serve:
	scripts/serve

test:
	scripts/test

# Those that take long: processes that start, stop and are killed, limits, two hosts, a server of
# bert-as-service 1.10, packages, comparisons.
test-slow:
	scripts/test -m slow

check:
	scripts/check

bench:
	scripts/bench

fuzz:
	scripts/fuzz

test-tf1:
	scripts/test-tf1

# Random faults under load for an hour; CHAOS names other arguments.
CHAOS = --faults 1200 --wait 3 --seed $(shell date +%j)

chaos:
	scripts/chaos $(CHAOS)
