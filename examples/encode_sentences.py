"""Encode sentences, and see which are alike.

Usage: python encode_sentences.py [PORT PORT_OUT]
"""

import sys

import numpy as np

from bert_serving.client import BertClient

PORT, PORT_OUT = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (5555, 5556)

SENTENCES = [
    "the train to Geneva leaves at noon",
    "at noon the train leaves for Geneva",
    "how do I boil an egg?",
]

with BertClient(port=PORT, port_out=PORT_OUT) as bc:
    vectors = bc.encode(SENTENCES)
    print("shape: %s, dtype: %s" % (vectors.shape, vectors.dtype))

    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for sentence, row in zip(SENTENCES, unit @ unit.T):
        print(" ".join("%6.3f" % cosine for cosine in row), " ", sentence)

    # Two sentences as one sequence.
    pair = bc.encode(["is it a pair? ||| yes, it is one."])
    print("pair: %s" % (pair.shape,))

# Lists of numbers in place of an array.
with BertClient(port=PORT, port_out=PORT_OUT, output_fmt="list") as bc:
    print("list of %d numbers" % len(bc.encode(SENTENCES[:1])[0]))
