"""What a client knows of itself, and what the server says of itself.

Usage: python server_status.py [PORT PORT_OUT]
"""

import sys

from bert_serving.client import BertClient

PORT, PORT_OUT = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (5555, 5556)

with BertClient(port=PORT, port_out=PORT_OUT, show_server_config=True, timeout=10000) as bc:
    bc.encode(["one", "two"])

    print("this client")
    for name in ("client_version", "num_request", "num_pending_request", "timeout"):
        print("%20s = %s" % (name, bc.status[name]))

    print("the server")
    for name in ("server_version", "num_worker", "max_seq_len", "pooling_strategy"):
        print("%20s = %s" % (name, bc.server_config[name]))
    statistic = bc.server_status["statistic"]
    for name in ("num_data_request", "num_total_seq", "num_total_client"):
        print("%20s = %s" % (name, statistic[name]))
