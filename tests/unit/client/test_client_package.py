from __future__ import annotations

import subprocess
import sys

import bert_serving.client as package
from bert_serving.client import (
    checks,
    client,
    concurrent,
    connection,
    exchange,
    feeder,
    protocol,
    responses,
)

SHOW_MODULES = """
import sys, numpy, zmq
before = set(sys.modules)
import bert_serving.client
print("\\n".join(sorted(set(sys.modules) - before)))
"""


def test_all() -> None:
    assert package.__all__ == [
        "__version__",
        "BertClient",
        "ConcurrentBertClient",
        "Response",
        "BertServingError",
        "ConnectionFailed",
        "RequestTimeout",
        "ProtocolError",
        "VersionMismatch",
        "ClientClosed",
        "ClientForked",
        "PoolExhausted",
        "ServerError",
        "BadRequest",
        "DeadlineExceeded",
        "ShuttingDown",
        "WorkerFailed",
        "InternalError",
    ]
    for name in package.__all__:
        assert hasattr(package, name)


def test_all_of_modules() -> None:
    assert client.__all__ == ["BertClient"]
    assert concurrent.__all__ == ["ConcurrentBertClient"]
    assert connection.__all__ == ["Connection"]
    assert exchange.__all__ == ["Exchange"]
    assert feeder.__all__ == ["BatchFeeder"]
    assert responses.__all__ == ["Response", "response_of", "info_of", "concatenate"]
    for module in (checks, protocol):
        for name in module.__all__:
            assert hasattr(module, name)


def test_import_loads_only_what_it_needs() -> None:
    output = subprocess.run(
        [sys.executable, "-c", SHOW_MODULES],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    ).stdout.split()
    assert "bert_serving.client.client" in output
    # What numpy and pyzmq don't bring along is the package itself and the standard library.
    standard = {"uuid", "_uuid", "__future__", "platform", "_posixsubprocess", "subprocess"}
    if hasattr(sys, "stdlib_module_names"):
        standard |= set(sys.stdlib_module_names)
        foreign = [
            name
            for name in output
            if name.split(".")[0] not in standard
            and name.split(".")[0] not in ("numpy", "zmq")
            and name != "bert_serving"
            and not name.startswith("bert_serving.client")
        ]
        assert foreign == []
    roots = {name.split(".")[0] for name in output}
    assert not roots & {
        "tokenizers",
        "onnx",
        "onnxruntime",
        "termcolor",
        "tensorflow",
        "safetensors",
    }
    assert not any(name.startswith("bert_serving.server") for name in output)
