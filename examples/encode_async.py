"""Encode batches from a generator, in the background.

Usage: python encode_async.py [PORT PORT_OUT]
"""

import sys

from bert_serving.client import BertClient

PORT, PORT_OUT = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (5555, 5556)


def batches():
    """More than anybody wants."""
    number = 0
    while True:
        number += 1
        yield ["sentence %d of batch %d" % (row, number) for row in range(16)]


def tokenized():
    """Three batches of sentences that are split into tokens already."""
    for number in range(3):
        yield [["sentence", "number", str(number)], ["the", "end"]]


with BertClient(port=PORT, port_out=PORT_OUT) as bc:
    rows = 0
    # After the delay, 1.10's client stops as soon as it has all that was sent by then.
    for response in bc.encode_async(batches(), max_num_batch=10, delay=0.5):
        rows += response.embedding.shape[0]
        print("request %d: %s" % (response.id, response.embedding.shape))
    print("%d rows in all" % rows)

    for response in bc.encode_async(tokenized(), delay=0.5, is_tokenized=True):
        print("tokenized: %s" % (response.embedding.shape,))
