"""Writing a frozen graph as an ONNX model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Mapping, Optional, Tuple

import numpy as np

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.files import PathLike, replacing
from bert_serving.graph_opt.graph import Graph
from bert_serving.graph_opt.targets.onnx_ops import Emission, OnnxNode, emit_nodes

__all__ = ["IR_VERSION", "OPSET", "write_onnx"]

# The oldest onnxruntime supported, 1.17, reads operator sets up to 20 and IR versions up to 9.
OPSET = 17
IR_VERSION = 8

# Larger models keep their tensors in a second file, which onnxruntime maps into memory instead of
# copying: BERT-base takes 360 MB instead of 650 and half the time to load, and worker processes
# share the pages. (Beyond 2**31 bytes protobuf would demand it anyway.)
SINGLE_FILE_LIMIT = 16 * 1000 * 1000
_ALIGNMENT = 64
# Shapes and axes stay in the model: whoever infers shapes needs to see them.
_EXTERNAL_MINIMUM = 1024

# Field numbers of onnx.proto, all length-delimited: ModelProto.graph, GraphProto.initializer,
# TensorProto.raw_data.
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9

# The inputs of BERT and what they share: ids, masks and types of one batch.
_BATCH_INPUTS = ("input_ids", "input_mask", "input_type_ids")
_BATCH = ("batch", "sequence")

# TensorProto.DataType of onnx.proto.
_ELEMENT_TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint32": 12,
    "uint64": 13,
    "bfloat16": 16,
}


def write_onnx(
    graph: Graph, path: PathLike, single_file_limit: int = SINGLE_FILE_LIMIT
) -> Tuple[Path, ...]:
    """Write a graph without variables to ``path``; returns the files written, the model first.

    Constants of more than ``single_file_limit`` bytes in all go to a second file, ``PATH.data``.
    Tensors are written one after the other: memory for one at a time is needed. Dimensions that
    BERT's inputs leave open are called batch and sequence. Nothing is left behind on an error.

    Raises:
        UnsupportedOp: an operation has no translation.
        GraphError: a variable that isn't frozen, or an operation used in a way ONNX can't say.
        OSError: the file can't be written.
    """
    if graph.variables:
        raise GraphError("the graph still has variables: freeze it first")
    target = Path(path)
    emission = emit_nodes(graph)
    tensors = emission.initializers
    total = sum(value.nbytes for value in tensors.values())
    external = {
        name: value
        for name, value in tensors.items()
        if total > single_file_limit and value.nbytes >= _EXTERNAL_MINIMUM
    }
    data = target.with_name(target.name + ".data")
    inside = {name: value for name, value in tensors.items() if name not in external}
    if not external:
        _write_model(target, _model(graph, emission, data.name, {}), inside)
        return (target,)
    with replacing(data) as file:
        places = {name: _write_aligned(file, value) for name, value in external.items()}
        # A full disk is to show before the model is in place.
        file.flush()
        _write_model(target, _model(graph, emission, data.name, places), inside)
    return (target, data)


def _write_model(target: Path, model: Any, tensors: Mapping[str, np.ndarray]) -> None:
    with replacing(target) as file:
        file.write(model.SerializeToString())
        for name, value in tensors.items():
            _write_initializer(file, name, value)


def _write_initializer(file: BinaryIO, name: str, value: np.ndarray) -> None:
    """Append ``graph { initializer { ... } }``.

    Protobuf merges a field that occurs again into what it has, so the tensors needn't be in memory
    together, as they would be in one message.
    """
    header = _tensor(name, value).SerializeToString()
    raw = _delimited(_RAW_DATA, value.nbytes)
    tensor = _delimited(_INITIALIZER, len(header) + len(raw) + value.nbytes)
    size = len(tensor) + len(header) + len(raw) + value.nbytes
    file.write(_delimited(_GRAPH, size) + tensor + header + raw)
    file.write(_octets(value))


def _write_aligned(file: BinaryIO, value: np.ndarray) -> Tuple[int, int]:
    """Append a tensor at an aligned offset; returns offset and length."""
    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
    offset = file.tell()
    file.write(_octets(value))
    return offset, value.nbytes


def _octets(value: np.ndarray) -> Any:
    """The bytes of an array in C order, little-endian, as a buffer."""
    # bfloat16 knows no byte order but the machine's.
    dtype = value.dtype if value.dtype.kind == "V" else value.dtype.newbyteorder("<")
    array = np.ascontiguousarray(value, dtype)
    return array.reshape(-1).view(np.uint8).data


def _delimited(field: int, size: int) -> bytes:
    """Tag and length of a length-delimited protobuf field."""
    octets = bytearray([field << 3 | 2])
    while size > 0x7F:
        octets.append(size & 0x7F | 0x80)
        size >>= 7
    octets.append(size)
    return bytes(octets)


def _tensor(name: str, value: np.ndarray) -> Any:
    """A TensorProto without its data."""
    import onnx

    return onnx.TensorProto(name=name, data_type=_element_type(value.dtype), dims=value.shape)


def _element_type(dtype: Any) -> int:
    name = dtype.name
    if name not in _ELEMENT_TYPES:
        raise GraphError("ONNX models can't hold tensors of the dtype %s here" % name)
    return _ELEMENT_TYPES[name]


def _model(
    graph: Graph,
    emission: Emission,
    location: str,
    places: Mapping[str, Tuple[int, int]],
) -> Any:
    """The ModelProto with only those initializers whose data lie in the other file."""
    from onnx import helper

    inputs = [
        helper.make_tensor_value_info(
            name,
            _element_type(emission.dtypes[name]),
            _dimensions(name, graph[name].attrs.get("shape")),
        )
        for name in graph.inputs
    ]
    outputs = [
        helper.make_tensor_value_info(
            name, _element_type(emission.dtypes[name]), _open_dimensions(emission, name)
        )
        for name in dict.fromkeys(graph.outputs)
    ]
    nodes = [_node(node) for node in emission.nodes]
    proto = helper.make_graph(nodes, "bert", inputs, outputs)
    for name, (offset, length) in places.items():
        tensor = _tensor(name, emission.initializers[name])
        tensor.data_location = tensor.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        proto.initializer.append(tensor)
    return helper.make_model(
        proto,
        producer_name="bert-serving",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )


def _open_dimensions(emission: Emission, name: str) -> Optional[List[str]]:
    """A name for each dimension of an output; None where their number isn't known."""
    rank = emission.ranks.get(name)
    return None if rank is None else _names(name, rank)


def _dimensions(name: str, shape: Optional[Tuple[Optional[int], ...]]) -> Optional[List[Any]]:
    """An input's dimensions, the open ones by name.

    onnxruntime takes what has one name for one size, and gives the memory of one array to another
    of the same shape. So only what is equal by contract has a name in common.
    """
    if shape is None:
        return None
    shared = _BATCH if name in _BATCH_INPUTS and len(shape) == len(_BATCH) else ()
    return [
        size if size is not None else (shared or _names(name, len(shape)))[axis]
        for axis, size in enumerate(shape)
    ]


def _names(name: str, rank: int) -> List[str]:
    return ["%s_%d" % (name, axis) for axis in range(rank)]


def _node(node: OnnxNode) -> Any:
    from onnx import helper

    attrs: Dict[str, Any] = {
        key: _element_type(value) if isinstance(value, np.dtype) else value
        for key, value in node.attrs.items()
    }
    return helper.make_node(node.op, node.inputs, node.outputs, name=node.outputs[0], **attrs)
