"""TensorFlow 1.15 and 2.x, on the CPU or on an NVIDIA GPU: frozen graphs, each in one session."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence

import numpy as np

from bert_serving.server.devices import cuda_name
from bert_serving.server.engines.base import GraphEngine, LoadedGraph
from bert_serving.server.errors import EngineError
from bert_serving.server.spec import EngineSpec

__all__ = ["TensorFlowEngine"]


class TensorFlowEngine(GraphEngine):
    """Runs optimized graphs through the API that TensorFlow 1.15 and 2.x share."""

    def _open(self, spec: EngineSpec, device: int, output: str) -> LoadedGraph:
        with _silence():
            return _Session(_import(device, spec.xla), spec, device, output)


class _Session(LoadedGraph):
    """A graph in a session of its own."""

    def __init__(self, tensorflow: Any, spec: EngineSpec, device: int, output: str) -> None:
        assert spec.graph is not None
        self._tf = tensorflow.compat.v1
        self._graph = _read(self._tf, Path(spec.graph), output)
        self._session = self._tf.Session(
            graph=self._graph, config=_settings(self._tf, spec, device)
        )
        if device >= 0 and not _has_gpu(self._session):
            self._session.close()
            raise EngineError(
                "TensorFlow %s can't use GPU %d; check that the CUDA libraries that it was "
                "built for are installed, or use -cpu" % (tensorflow.__version__, device)
            )
        self.inputs = [
            operation.name
            for operation in self._graph.get_operations()
            if operation.type == "Placeholder"
        ]

    def run(
        self, outputs: Sequence[str], feeds: Dict[str, np.ndarray], is_alone: bool
    ) -> List[np.ndarray]:
        fetched = [_tensor(self._graph, name) for name in outputs]
        fed = {name + ":0": array for name, array in feeds.items()}
        try:
            arrays: List[np.ndarray] = self._session.run(fetched, fed)
        except self._tf.errors.OpError as error:
            message = " ".join(str(error).split())  # of many lines
            raise EngineError("TensorFlow failed: %s" % message) from error
        return arrays

    def close(self) -> None:
        self._session.close()


@contextmanager
def _silence() -> Iterator[None]:
    """Hold back what is written to standard error, and let it out if there is an error.

    TensorFlow's libraries greet the terminal in lines that no level of its log keeps away, some
    called errors; they matter to who must find out why it doesn't work.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(terminal, said.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _import(device: int, xla: bool) -> Any:
    """TensorFlow, told to see no GPU but this one and to log nothing but errors.

    It looks at the environment when it is imported, and never again.
    """
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # that in which the GPUs were counted
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1" if device < 0 else cuda_name(device)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if xla and device < 0:
        flags = os.environ.get("TF_XLA_FLAGS", "")
        os.environ["TF_XLA_FLAGS"] = (flags + " --tf_xla_cpu_global_jit").strip()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow
        # At its end the interpreter would look for garbage in all of TensorFlow's modules, for a
        # second.
        atexit.register(gc.freeze)
    except ImportError as error:
        raise EngineError(
            "the engine tensorflow is not installed (%s); pip install 'bert-serving[tensorflow]'"
            % error
        ) from error
    except Exception as error:  # what releases of numpy or protobuf that don't fit make of it
        raise EngineError(
            "TensorFlow can't be imported: %s: %s; pip install 'bert-serving[tensorflow]' brings "
            "the releases of what it needs together" % (type(error).__name__, error)
        ) from error
    return tensorflow


def _read(tf: Any, path: Path, output: str) -> Any:
    from google.protobuf.message import DecodeError

    definition, graph = tf.GraphDef(), tf.Graph()
    try:
        definition.ParseFromString(path.read_bytes())
        with graph.as_default():
            tf.import_graph_def(definition, name="")
        _tensor(graph, output)
    except (OSError, DecodeError, ValueError, KeyError, tf.errors.OpError) as error:
        raise EngineError(
            "TensorFlow can't load %s: %s. If the file is damaged, remove its directory, and it is "
            "made anew" % (path, error)
        ) from error
    return graph


def _tensor(graph: Any, name: str) -> Any:
    return graph.get_tensor_by_name(name + ":0")


def _settings(tf: Any, spec: EngineSpec, device: int) -> Any:
    settings = tf.ConfigProto(
        intra_op_parallelism_threads=spec.threads,
        inter_op_parallelism_threads=1,
        device_count={"GPU": 0 if device < 0 else 1},
        allow_soft_placement=True,  # some operations, e.g. on shapes, are for CPUs only
    )
    settings.gpu_options.per_process_gpu_memory_fraction = spec.gpu_memory_fraction
    if spec.xla:
        settings.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.ON_1
    return settings


def _has_gpu(session: Any) -> bool:
    return any(device.device_type == "GPU" for device in session.list_devices())
