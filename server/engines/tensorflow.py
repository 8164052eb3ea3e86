"""TensorFlow 1.15 and 2.x, on the CPU or on an NVIDIA GPU: a frozen graph in one session."""

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
from typing import Any, Dict, Iterator, Optional

import numpy as np

from bert_serving.server.devices import cuda_name
from bert_serving.server.engines.base import GraphEngine
from bert_serving.server.errors import EngineError
from bert_serving.server.spec import EngineSpec

__all__ = ["TensorFlowEngine"]

OUTPUT = "final_encodes"


class TensorFlowEngine(GraphEngine):
    """Runs the optimized graph through the API that TensorFlow 1.15 and 2.x share."""

    _session: Optional[Any] = None

    def load(self, spec: EngineSpec, device: int) -> None:
        assert spec.graph is not None
        with _silence():
            tensorflow = _import(device, spec.xla)
            self._tf = tensorflow.compat.v1
            graph = _read(self._tf, Path(spec.graph))
            self._session = self._tf.Session(graph=graph, config=_settings(self._tf, spec, device))
            if device >= 0 and not _has_gpu(self._session):
                raise EngineError(
                    "TensorFlow %s can't use GPU %d; check that the CUDA libraries that it was "
                    "built for are installed, or use -cpu" % (tensorflow.__version__, device)
                )
        self._per_token = spec.per_token
        self._inputs = [
            operation.name
            for operation in graph.get_operations()
            if operation.type == "Placeholder"
        ]
        self._output = _tensor(graph, OUTPUT)

    def _run(self, feeds: Dict[str, np.ndarray], is_alone: bool) -> np.ndarray:
        assert self._session is not None
        fed = {name + ":0": array for name, array in feeds.items()}
        try:
            vectors: np.ndarray = self._session.run(self._output, fed)
        except self._tf.errors.OpError as error:
            message = " ".join(str(error).split())  # of many lines
            raise EngineError("TensorFlow failed: %s" % message) from error
        return vectors

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


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


def _read(tf: Any, path: Path) -> Any:
    from google.protobuf.message import DecodeError

    definition, graph = tf.GraphDef(), tf.Graph()
    try:
        definition.ParseFromString(path.read_bytes())
        with graph.as_default():
            tf.import_graph_def(definition, name="")
        _tensor(graph, OUTPUT)
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
