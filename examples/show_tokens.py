"""The tokens that the server makes of a sentence, and sentences that are tokens already.

Usage: python show_tokens.py [PORT PORT_OUT]

The server sends tokens when it is started with -show_tokens_to_client.
"""

import sys

import numpy as np

from bert_serving.client import BertClient

PORT, PORT_OUT = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (5555, 5556)

with BertClient(port=PORT, port_out=PORT_OUT) as bc:
    sentences = ["hello world", "have a good day!"]
    vectors, tokens = bc.encode(sentences, show_tokens=True)
    for vector, pieces in zip(vectors, tokens):
        print("%s: %s" % (vector.shape, " ".join(pieces)))

    # The same without [CLS] and [SEP], which the server adds again. A token that isn't in the
    # model's vocabulary counts as [UNK].
    tokenized = [pieces[1:-1] for pieces in tokens]
    again = bc.encode(tokenized, is_tokenized=True)
    print("tokenized: %s, the same: %s" % (again.shape, np.allclose(vectors, again, atol=1e-4)))

    vectors, tokens = bc.encode([["a", "qwertz"]], is_tokenized=True, show_tokens=True)
    print("unknown: %s" % " ".join(tokens[0]))
