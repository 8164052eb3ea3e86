from __future__ import annotations

import pytest

from bert_serving.server.engines.memory import is_out_of_memory
from bert_serving.server.errors import EngineError

ONNX = "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running "
ARENA = "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena::"

#: As the libraries write them.
MESSAGES = [
    ONNX + "MatMul node. Name:'' Status Message: " + ARENA + "AllocateRawInternal(size_t, bool, "
    "onnxruntime::Stream*) Failed to allocate memory for requested buffer of size 4915200000\n",
    ONNX + "Softmax node. Name:'s' Status Message: " + ARENA + "AllocateRawInternal(size_t, bool) "
    "Available memory of 1048576 is smaller than requested bytes of 8388608",
    ONNX + "MatMul node. Name:'' Status Message: std::bad_alloc",
    "CUDA failure 2: out of memory ; GPU=0 ; hostname=h ; expr=cudaMalloc((void**)&p, size); ",
    "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; expr=cublasCreate(&cublas_handle_); ",
    "OOM when allocating tensor with shape[256,12,512,512] and type float on "
    "/job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc",
    "2 root error(s) found.\n  (0) Resource exhausted: failed to allocate memory",
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 4831838208 bytes.",
    "Failed call to cudaMalloc: cudaErrorMemoryAllocation",
    "Unable to allocate 74.5 GiB for an array with shape (1000000, 10000) and data type float64",
    "[Errno 12] Cannot allocate memory",
]


@pytest.mark.parametrize("message", MESSAGES)
def test_the_libraries_words_for_too_little_memory(message: str) -> None:
    assert is_out_of_memory(EngineError("the engine failed: " + message))


def test_an_exception_may_say_it_by_its_type_or_by_its_cause() -> None:
    assert is_out_of_memory(MemoryError())
    error = EngineError("the engine failed")
    error.__cause__ = RuntimeError("CUDA error: out of memory")
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "message",
    [
        ONNX + "Gather node. Name:'' Status Message: indices element out of data bounds, idx=99",
        "CUDA failure 700: an illegal memory access was encountered ; GPU=0",
        "the engine returned an array of shape (3, 768), not (4, 768)",
        "no room for doubt",
    ],
)
def test_other_failures(message: str) -> None:
    assert not is_out_of_memory(EngineError(message))
