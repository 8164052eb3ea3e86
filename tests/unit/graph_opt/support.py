"""What several test modules of the graph optimizer need."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.config import BertConfig
from bert_serving.graph_opt.graph import Graph, Variable
from bert_serving.graph_opt.pipeline import GraphOptions
from bert_serving.graph_opt.sources.crc32c import masked_crc32c
from bert_serving.graph_opt.sources.model import ModelSource
from bert_serving.graph_opt.variables import variable_shapes

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
GOOGLE = GOLDEN / "tf1-tiny" / "model"
HUGGING_FACE = GOLDEN / "hf" / "hf-tiny"
CASES: List[Dict[str, Any]] = json.loads(
    (GOLDEN / "tf1-tiny" / "cases.json").read_text(encoding="utf-8")
)

TOLERANCE = 1e-4

SMALL = BertConfig(
    vocab_size=11,
    hidden_size=8,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=9,
)


def options_of(flags: List[str]) -> GraphOptions:
    """The graph's part of a 1.10 command line."""
    values: Dict[str, List[str]] = {}
    name = ""
    for flag in flags:
        if flag.startswith("-") and not flag[1:].isdigit():
            name = flag[1:]
            values[name] = []
        else:
            values[name].append(flag)
    return GraphOptions(
        pooling_strategy=values.get("pooling_strategy", ["REDUCE_MEAN"])[0],
        pooling_layers=tuple(int(layer) for layer in values.get("pooling_layer", ["-2"])),
        position_embeddings="no_position_embeddings" not in values,
    )


def golden_case(case: Mapping[str, Any]) -> Tuple[Dict[str, np.ndarray], np.ndarray]:
    """Feeds and expected vectors."""
    with np.load(str(GOLDEN / "tf1-tiny" / case["file"])) as data:
        return feeds_of(data["ids"], data["mask"], data["types"]), data["vectors"]


def feeds_of(ids: Any, mask: Any, types: Any = None) -> Dict[str, np.ndarray]:
    ids = np.asarray(ids, np.int32)
    types = np.zeros_like(ids) if types is None else types
    return {
        "input_ids": ids,
        "input_mask": np.asarray(mask, np.int32),
        "input_type_ids": np.asarray(types, np.int32),
    }


def random_variables(config: BertConfig, seed: int = 0) -> Dict[str, Variable]:
    random = np.random.RandomState(seed)
    return {
        name: held(name, random.standard_normal(shape).astype(np.float32))
        for name, shape in variable_shapes(config).items()
    }


def held(name: str, array: np.ndarray) -> Variable:
    """A variable whose value is in memory."""
    return Variable(name, array.shape, array.dtype, lambda: array)


def random_source(config: BertConfig = SMALL) -> ModelSource:
    """A model that is on no disk."""
    return ModelSource(
        layout="google",
        directory=Path("nowhere"),
        config=config,
        vocab_file=Path("nowhere/vocab.txt"),
        variables=random_variables(config),
        files=(),
    )


def small_batch() -> Dict[str, np.ndarray]:
    """Three texts, the last of one token, and a row of padding only."""
    mask = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]
    ids = [[2, 5, 6, 7, 3], [2, 9, 3, 0, 0], [4, 0, 0, 0, 0]]
    types = [[0, 0, 0, 1, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    return feeds_of(ids, mask, types)


def snapshot(graph: Graph) -> List[Tuple[Any, ...]]:
    """Everything in a graph by value, to see whether a pass touched its input."""
    nodes = [
        (node.name, node.op, node.inputs, {key: repr(value) for key, value in node.attrs.items()})
        for node in graph
    ]
    return nodes + [(graph.outputs, tuple(graph.variables))]


def ops(graph: Graph) -> Dict[str, int]:
    counts: Dict[str, int] = {}
    for node in graph:
        counts[node.op] = counts.get(node.op, 0) + 1
    return counts


def scalar_builder(value: float = 2.0) -> Tuple[GraphBuilder, str]:
    """A builder with a float placeholder "x" and a constant."""
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None,))
    return builder, builder.constant(value, "float32", "c")


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(octets + bytes([value]))


def _block(pairs: Sequence[Tuple[bytes, bytes]], compression: int = 0) -> bytes:
    """A block of a LevelDB table without shared prefixes, and its trailer."""
    body = b"".join(
        _varint(0) + _varint(len(key)) + _varint(len(value)) + key + value for key, value in pairs
    )
    body += struct.pack("<II", 0, 1) + bytes([compression])
    return body + struct.pack("<I", masked_crc32c(body))


def leveldb_table(pairs: Sequence[Tuple[bytes, bytes]], compression: int = 0) -> bytes:
    """A whole table of one block."""
    data = _block(pairs, compression)
    index = _block([(b"z", _varint(0) + _varint(len(data) - 5))])
    footer = _varint(0) + _varint(0) + _varint(len(data)) + _varint(len(index) - 5)
    magic = struct.pack("<Q", 0xDB4775248B80FB57)
    return data + index + footer.ljust(40, b"\0") + magic
