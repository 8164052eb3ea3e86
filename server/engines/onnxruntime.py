"""ONNX Runtime, on the CPU or on an NVIDIA GPU."""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue
from typing import Any, Dict, List, Sequence, Tuple, Union

import numpy as np

from bert_serving.server.engines.base import GraphEngine, LoadedGraph
from bert_serving.server.engines.prepacking import is_prepacked, prepacked
from bert_serving.server.errors import EngineError
from bert_serving.server.spec import EngineSpec

__all__ = ["OnnxRuntimeEngine"]

#: Measured: with less, single sentences take longer; with more, batches do, where cores are shared.
SPIN_MICROSECONDS = "100"
#: Fusions of ONNX Runtime whose kernels do a part of the work on one thread, or in an older way: an
#: addition of its own is faster.
SLOWER_ON_CPUS = ("MatMulAddFusion", "BiasGeluFusion")
#: With more threads than this a stream has several: batches of a stream with one would take long.
MOST_STREAMS = 8


class OnnxRuntimeEngine(GraphEngine):
    """Runs each graph in one session, and one or more for its streams."""

    def fitted(self, spec: EngineSpec, device: int) -> Path:
        assert spec.graph is not None
        if device >= 0:
            return Path(spec.graph)
        options = _options(_import(), spec.threads, device)
        return prepacked(Path(spec.graph), options, SLOWER_ON_CPUS)

    def most_streams(self, spec: EngineSpec, device: int) -> int:
        # Weights that every session has for itself would take too much memory.
        shares_weights = device < 0 and self._is_fitted(spec)
        return min(spec.threads, MOST_STREAMS) if shares_weights else 1

    def _open(self, spec: EngineSpec, device: int, output: str) -> LoadedGraph:
        return _Sessions(spec, device)

    def _is_fitted(self, spec: EngineSpec) -> bool:
        return spec.graph is not None and is_prepacked(Path(spec.graph))


class _Sessions(LoadedGraph):
    """One for all threads, and for streams one each, or one for all that computes on the caller's
    thread.
    """

    def __init__(self, spec: EngineSpec, device: int) -> None:
        self._whole = _session(spec, spec.threads, device)
        if device >= 0 and "CUDAExecutionProvider" not in self._whole.get_providers():
            raise EngineError(
                "ONNX Runtime can't use GPU %d; check its CUDA libraries, or use -cpu" % device
            )
        self.inputs = {node.name for node in self._whole.get_inputs()}
        self._idle: "SimpleQueue[Any]" = SimpleQueue()
        if spec.streams == 1:
            self._idle.put(self._whole)
            return
        threads = spec.threads // spec.streams
        session = _session(spec, threads, device)
        for number in range(spec.streams):
            self._idle.put(
                session if threads == 1 or number == 0 else _session(spec, threads, device)
            )

    def run(
        self, outputs: Sequence[str], feeds: Dict[str, np.ndarray], is_alone: bool
    ) -> List[np.ndarray]:
        if is_alone:
            return _arrays(self._whole, outputs, feeds)
        session = self._idle.get()
        try:
            return _arrays(session, outputs, feeds)
        finally:
            self._idle.put(session)

    def close(self) -> None:
        self._whole, self._idle = None, SimpleQueue()


def _session(spec: EngineSpec, threads: int, device: int) -> Any:
    onnxruntime = _import()
    options = _options(onnxruntime, threads, device)
    assert spec.graph is not None
    try:
        return onnxruntime.InferenceSession(
            spec.graph,
            options,
            providers=_providers(spec, device),
            disabled_optimizers=SLOWER_ON_CPUS if device < 0 else None,
        )
    except Exception as error:  # its exceptions have no root of their own
        raise EngineError(
            "ONNX Runtime can't load %s: %s. If the file is damaged, remove its directory, and "
            "it is made anew" % (spec.graph, error)
        ) from error


def _arrays(session: Any, outputs: Sequence[str], feeds: Dict[str, np.ndarray]) -> List[np.ndarray]:
    try:
        arrays: List[np.ndarray] = session.run(list(outputs), feeds)
    except Exception as error:  # as above
        raise EngineError("ONNX Runtime failed: %s" % error) from error
    return arrays


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            "the engine onnxruntime is not installed (%s); pip install onnxruntime" % error
        ) from error
    onnxruntime.set_default_logger_severity(3)  # errors; its warnings concern its developers
    return onnxruntime


def _options(onnxruntime: Any, threads: int, device: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Hardly two batches have the same shape, and a plan would be kept for each.
    options.enable_mem_pattern = False
    # The softmax of masked places is next to nothing, below what CPUs compute at full speed: with
    # it, padding made mixed batches take up to 1.4 times as long.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    if device < 0:
        # Threads that wait without sleeping are soon at the next operation, but take the cores from
        # the service's other processes: they do so between operations only, not between batches.
        # Releases that don't know how to spin for a time spin as long as they do.
        options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)
        options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _providers(spec: EngineSpec, device: int) -> List[Union[str, Tuple[str, Any]]]:
    if device < 0:
        return ["CPUExecutionProvider"]
    cuda: Dict[str, Any] = {"device_id": device}
    total = _gpu_memory(device)
    if total is not None:
        cuda["gpu_mem_limit"] = int(total * spec.gpu_memory_fraction)
    return [("CUDAExecutionProvider", cuda), "CPUExecutionProvider"]


def _gpu_memory(device: int) -> Union[int, None]:
    """Bytes of memory of a GPU; None if it can't be asked."""
    try:
        import pynvml
    except ImportError:
        return None
    pynvml.nvmlInit()
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(device)).total)
    finally:
        pynvml.nvmlShutdown()
