"""Send now and fetch later: the server computes while this program does something else.

Usage: python fetch_later.py [PORT PORT_OUT]
"""

import sys

import numpy as np

from bert_serving.client import BertClient

PORT, PORT_OUT = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (5555, 5556)

BATCHES = [["row %d of batch %d" % (row, batch) for row in range(5)] for batch in range(8)]

bc = BertClient(port=PORT, port_out=PORT_OUT)

for texts in BATCHES:
    bc.encode(texts, blocking=False)
print("sent %d batches" % len(BATCHES))

# As they come; an id tells which of the requests it was.
results = {response.id: response.embedding for response in bc.fetch()}
print("fetched %d batches, %d rows" % (len(results), sum(map(len, results.values()))))

for texts in BATCHES:
    bc.encode(texts, blocking=False)

# All at once, in the order of sending.
vectors = bc.fetch_all(concat=True)
in_order = np.concatenate([results[key] for key in sorted(results)])
print("all: %s, the same: %s" % (vectors.shape, np.allclose(vectors, in_order, atol=1e-4)))
print("nothing is left: %s" % (bc.fetch_all() is None))
bc.close()
