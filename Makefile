# Thin names for scripts/, which say what each does.
.PHONY: serve test check bench fuzz test-tf1 chaos

serve:
	scripts/serve

# "make test TF1=" demands a Python 3.7; otherwise the tests on it, and those with a server of
# bert-as-service 1.10, are skipped where there is none.
TF1 = --if-found

test:
	BERT_SERVING_TEST_ORIGINAL=$(if $(TF1),$(BERT_SERVING_TEST_ORIGINAL),demanded) scripts/test
	scripts/test-tf1 $(TF1)

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
