"""Entry point of the process that runs an optimized graph in its engine, for the check.

``python -m bert_serving.graph_opt.check_engine`` reads a JSON object from standard input: path,
target, device, inputs, outputs, batches, directory. From the directory it reads ``feeds-N.npz``
(``input_0``, ...), and puts there ``results-N.npz`` (``output_0``, ...) and ``answer.json``, which
names the engine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from bert_serving.graph_opt.graph import node_of, output_index

__all__ = ["main"]

Feeds = Mapping[str, np.ndarray]
Runner = Callable[[Feeds], List[np.ndarray]]


def main() -> int:
    """Run every batch; an error of the engine ends the process with a traceback."""
    order = json.load(sys.stdin)
    directory = Path(order["directory"])
    load = _load_onnx if order["target"] == "onnx" else _load_tensorflow
    run, engine = load(order)
    for number in range(order["batches"]):
        with np.load(str(directory / ("feeds-%d.npz" % number))) as data:
            feeds = {name: data["input_%d" % i] for i, name in enumerate(order["inputs"])}
        results = run(feeds)
        arrays: Dict[str, Any] = {
            "output_%d" % index: _storable(one) for index, one in enumerate(results)
        }
        np.savez(str(directory / ("results-%d.npz" % number)), **arrays)
    (directory / "answer.json").write_text(json.dumps({"engine": engine}), encoding="utf-8")
    return 0


def _storable(array: Any) -> np.ndarray:
    """As it is, but bfloat16, which files of numpy can't say, as float32."""
    array = np.asarray(array)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _load_onnx(order: Mapping[str, Any]) -> Tuple[Runner, str]:
    import onnxruntime

    wanted = ["CPUExecutionProvider"]
    if order["device"] == "gpu" and "CUDAExecutionProvider" in (
        onnxruntime.get_available_providers()
    ):
        wanted.insert(0, "CUDAExecutionProvider")
    session = onnxruntime.InferenceSession(order["path"], providers=wanted)
    # "tensor(int32)" and the like.
    kinds = {"float": "float32", "double": "float64"}
    dtypes = {}
    for one in session.get_inputs():
        kind = one.type[len("tensor(") : -1]
        dtypes[one.name] = np.dtype(kinds.get(kind, kind))

    def run(feeds: Feeds) -> List[np.ndarray]:
        fed = {name: feeds[name].astype(dtype) for name, dtype in dtypes.items()}
        results: List[np.ndarray] = session.run(None, fed)
        return results

    device = session.get_providers()[0].replace("ExecutionProvider", "")
    return run, "onnxruntime %s (%s)" % (onnxruntime.__version__, device)


def _load_tensorflow(order: Mapping[str, Any]) -> Tuple[Runner, str]:
    import tensorflow

    tf = tensorflow.compat.v1
    graph = tf.Graph()
    # Without the rewriting at the first run. It copies all weights (5 GB in all for BERT-base, 2.6
    # without), and on CPUs with AVX-512 puts approximations in (TensorFlow 2.21 is then off by 7e-4
    # in float32): it is the file that is checked here.
    config = tf.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = -1
    session = tf.Session(graph=graph, config=config)
    with graph.as_default():
        if order["target"] == "savedmodel":
            fetches = _load_saved_model(tf, session, order)
        else:
            definition = tf.GraphDef()
            definition.ParseFromString(Path(order["path"]).read_bytes())
            tf.import_graph_def(definition, name="")
            del definition
            fetches = [_tensor(graph, name) for name in order["outputs"]]
    placeholders = [
        operation.outputs[0]
        for operation in graph.get_operations()
        if operation.type == "Placeholder"
    ]

    def run(feeds: Feeds) -> List[np.ndarray]:
        fed: Dict[Any, np.ndarray] = {
            tensor: feeds[node_of(tensor.name)].astype(tensor.dtype.as_numpy_dtype)
            for tensor in placeholders
            if node_of(tensor.name) in feeds
        }
        results: List[np.ndarray] = session.run(fetches, fed)
        return results

    device = "GPU" if order["device"] == "gpu" and tf.test.is_gpu_available() else "CPU"
    return run, "TensorFlow %s (%s)" % (tensorflow.__version__, device)


def _load_saved_model(tf: Any, session: Any, order: Mapping[str, Any]) -> Sequence[Any]:
    """The tensors that the served signature names, in the order of the outputs asked for."""
    meta = tf.saved_model.load(session, ["serve"], order["path"])
    served = meta.signature_def["serving_default"]
    available = {node_and_index(info.name): info.name for info in served.outputs.values()}
    return [
        session.graph.get_tensor_by_name(available[node_and_index(name)])
        for name in order["outputs"]
    ]


def node_and_index(tensor: str) -> Tuple[str, int]:
    """``("a", 0)`` for both ``"a"`` and ``"a:0"``."""
    return node_of(tensor), output_index(tensor)


def _tensor(graph: Any, name: str) -> Any:
    return graph.get_tensor_by_name("%s:%d" % node_and_index(name))


if __name__ == "__main__":
    sys.exit(main())
