from __future__ import annotations

import subprocess
import sys

import bert_serving.client as package
from bert_serving.client import (
    aio,
    arguments,
    async_exchange,
    base,
    calls,
    checks,
    client,
    concurrent,
    connection,
    exchange,
    facts,
    feeder,
    inbound,
    parts,
    progress,
    protocol,
    responses,
    streams,
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
        "AsyncBertClient",
        "ConcurrentBertClient",
        "Response",
        "BertServingError",
        "ConnectionFailed",
        "RequestTimeout",
        "ProtocolError",
        "ModelChanged",
        "VersionMismatch",
        "NotSupported",
        "ClientClosed",
        "ClientForked",
        "PoolExhausted",
        "ServerError",
        "BadRequest",
        "TextTooLong",
        "DeadlineExceeded",
        "Overloaded",
        "ShuttingDown",
        "WorkerFailed",
        "InternalError",
    ]
    for name in package.__all__:
        assert hasattr(package, name)
    assert not hasattr(package, "NoSuchClient")


def test_all_of_modules() -> None:
    assert client.__all__ == ["BertClient"]
    assert concurrent.__all__ == ["ConcurrentBertClient"]
    assert connection.__all__ == ["Connection"]
    assert exchange.__all__ == ["Exchange"]
    assert feeder.__all__ == ["BatchFeeder", "feed_batches"]
    assert aio.__all__ == ["AsyncBertClient"]
    assert async_exchange.__all__ == ["AsyncExchange", "AsyncInbox"]
    assert base.__all__ == ["ClientBase"]
    names = ["Call", "as_seconds", "call_of", "command", "seconds_of", "shortened"]
    assert calls.__all__ == names
    assert inbound.__all__ == ["deliver_frames"]
    assert parts.__all__ == ["RowsToCome", "assemble"]
    assert progress.__all__ == ["take_with_progress"]
    assert streams.__all__ == ["AsyncPartIterator", "PartIterator"]
    for module in (arguments, checks, facts, protocol, responses):
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
        "tqdm",
        "asyncio",
    }
    assert not any(name.startswith("bert_serving.server") for name in output)
