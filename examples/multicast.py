"""One client encodes, several receivers get the vectors: all who subscribe to its identity do.

Usage: python multicast.py [PORT PORT_OUT]

A receiver may be another process on another machine. It needs pyzmq and numpy only.
"""

import json
import sys
import threading

import numpy as np
import zmq

from bert_serving.client import BertClient

PORT, PORT_OUT = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (5555, 5556)
NUM_RECEIVER, NUM_REQUEST = 2, 3
SECONDS = 30
#: A request's number, other than any that the client uses.
QUESTION = b"1000000"

context = zmq.Context()
everybody_listens = threading.Barrier(NUM_RECEIVER + 1)
lines = []


def receive(identity, number):
    """Get what the client with this identity gets."""
    sender, receiver = context.socket(zmq.PUSH), context.socket(zmq.SUB)
    receiver.setsockopt(zmq.SUBSCRIBE, identity)
    receiver.setsockopt(zmq.RCVTIMEO, SECONDS * 1000)
    receiver.connect("tcp://localhost:%d" % PORT_OUT)
    # Whatever comes tells that the subscription has reached the server. It may take longer than
    # the question, whose answer then goes to the others only: so ask again.
    sender.connect("tcp://localhost:%d" % PORT)
    while not receiver.poll(200):
        sender.send_multipart([identity, b"SHOW_CONFIG", QUESTION, b"0"])
    everybody_listens.wait(SECONDS)

    count = 0
    while count < NUM_REQUEST:
        frames = receiver.recv_multipart()
        if len(frames) != 4:
            continue  # an answer to a question
        info = json.loads(frames[1])
        vectors = np.frombuffer(frames[2], dtype=info["dtype"]).reshape(info["shape"])
        count += 1
        lines.append("receiver %d, batch %d: %s" % (number, count, vectors.shape))
    sender.close()
    receiver.close()


with BertClient(port=PORT, port_out=PORT_OUT) as bc:
    threads = [
        threading.Thread(target=receive, args=(bc.identity, number))
        for number in range(NUM_RECEIVER)
    ]
    for thread in threads:
        thread.start()
    everybody_listens.wait(SECONDS)
    for number in range(NUM_REQUEST):
        bc.encode(["sentence %d" % number, "the other one"])
    for thread in threads:
        thread.join()
print("\n".join(sorted(lines)))
context.term()
