"""Threads that encode at the same time and share a ConcurrentBertClient.

Usage: python concurrent_threads.py [PORT PORT_OUT]
"""

import sys
import threading

import numpy as np

from bert_serving.client import BertClient, ConcurrentBertClient

PORT, PORT_OUT = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (5555, 5556)
NUM_THREAD, NUM_REQUEST = 5, 4

bc = ConcurrentBertClient(max_concurrency=NUM_THREAD, port=PORT, port_out=PORT_OUT)
results = {}


def work(thread):
    """Encode sentences that are this thread's own."""
    for request in range(NUM_REQUEST):
        texts = ["thread %d" % thread, "request %d" % request]
        results[thread, request] = bc.encode(texts)


threads = [threading.Thread(target=work, args=(number,)) for number in range(NUM_THREAD)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("%d requests answered" % len(results))

# Everybody got their own.
with BertClient(port=PORT, port_out=PORT_OUT) as check:
    of_thread = check.encode(["thread %d" % number for number in range(NUM_THREAD)])
    of_request = check.encode(["request %d" % number for number in range(NUM_REQUEST)])
right = [
    np.allclose(vectors, [of_thread[thread], of_request[request]], atol=1e-4)
    for (thread, request), vectors in results.items()
]
print("%d are right" % sum(right))
bc.close()
