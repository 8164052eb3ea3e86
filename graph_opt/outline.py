"""A graph in outline: its parts and their blocks, by the scopes that are in the names of nodes.

A graph of thousands of nodes becomes some dozens of blocks. Layers in a row that are built alike
become one part that says how many it stands for. What no output needs, and isn't a part of the
network by its name, is there for training.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Set, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node, node_of

__all__ = ["Block", "Outline", "Part", "outline", "TRAINING_PARTS"]

Place = Tuple[str, str]  # part, block
Edge = Tuple[Place, Place]

#: What only training needs, in the order in which it is drawn.
TRAINING_PARTS = (
    "loss and labels",
    "gradients",
    "optimizer",
    "saver",
    "summaries",
    "initializers",
)

_LAYER = re.compile(r"(?:^|/)layer_(\d+)(?=/|$)")
_LAYER_BLOCKS = ("attention/self", "attention/output", "intermediate", "output")
_GLUE = ("shapes and mask", "shapes and mask")
_NETWORK = ("embeddings", "pooler", "pooling")
_ORDER = ("inputs", "shapes and mask", "embeddings", "layers", "pooler", "pooling", "output")
_SLOT = re.compile(r"/(adam_[mv]|Adam|Momentum|RMSProp|Adagrad|LAMB)(_\d+)?(/|$)")
_VARIABLES = ("VariableV2", "Variable", "VarHandleOp")


@dataclass(frozen=True)
class Block:
    """Nodes of one scope: how many of each operation, and the bytes of their weights."""

    name: str
    ops: Mapping[str, int]
    nbytes: int

    @property
    def nodes(self) -> int:
        return sum(self.ops.values())


@dataclass(frozen=True)
class Part:
    """Blocks that belong together. ``repeats``: so many in a row, of these blocks each."""

    name: str
    blocks: Tuple[Block, ...]
    repeats: int = 1
    training: bool = False


@dataclass(frozen=True)
class Outline:
    """``edges`` maps pairs of (part, block) to the number of tensors between them."""

    nodes: int
    nbytes: int
    parts: Tuple[Part, ...]
    edges: Mapping[Tuple[Place, Place], int]


def outline(graph: Graph) -> Outline:
    """Group the nodes, and merge layers that are alike."""
    needed = _needed(graph)
    places = {node.name: _place(node, node.name in needed, graph.outputs) for node in graph}
    for node in graph:
        if places[node.name] == _GLUE and node.op in ("Reshape", "Identity"):
            # Between the layers: what it reshapes says where it belongs.
            source = places[node_of(node.data_inputs[0])]
            places[node.name] = _GLUE if source[0] == "inputs" else source
    nbytes: Counter = Counter()
    ops: Dict[Place, Counter] = {}
    edges: Counter = Counter()
    for node in graph:
        place = places[node.name]
        ops.setdefault(place, Counter())[node.op] += 1
        nbytes[place] += _bytes(graph, node)
        for tensor in node.data_inputs:
            source = places[node_of(tensor)]
            if source != place:
                edges[(source, place)] += 1
    grouped: Dict[str, List[Block]] = {}
    for (part, name), counts in ops.items():
        block = Block(name, dict(counts.most_common()), nbytes[(part, name)])
        grouped.setdefault(part, []).append(block)
    parts = [
        Part(name, tuple(sorted(blocks, key=_block_order)), training=name in TRAINING_PARTS)
        for name, blocks in sorted(grouped.items(), key=_part_order)
    ]
    merged, names = _merge(parts)
    renamed: Counter = Counter()
    for (source, target), count in edges.items():
        here, there = [(names.get(part, part), block) for part, block in (source, target)]
        renamed[(here, there)] += count
    return Outline(len(graph), graph.nbytes(), tuple(merged), dict(renamed))


def _needed(graph: Graph) -> Set[str]:
    """Nodes that the outputs need."""
    found: Set[str] = set()
    waiting = [node_of(tensor) for tensor in graph.outputs]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(node_of(tensor) for tensor in graph[name].data_inputs)
    return found


def _place(node: Node, needed: bool, outputs: Sequence[str]) -> Place:
    """The part and the block that a node belongs to."""
    if not needed:
        part = _training_part(node)
        if part:
            return part, part
    if node.op == "Placeholder":
        return "inputs", "inputs"
    layer = _LAYER.search(node.name)
    if layer:
        rest = node.name[layer.end() + 1 :]
        known = [name for name in _LAYER_BLOCKS if (rest + "/").startswith(name + "/")]
        return "layer %d" % int(layer.group(1)), known[0] if known else "other"
    scopes = node.name.split("/")
    for name in _NETWORK:
        if name in scopes[:-1]:
            return name, name
    if scopes[0] == "bert":
        return _GLUE
    if len(scopes) == 1 and node.op not in _VARIABLES and node.name not in map(node_of, outputs):
        return _GLUE
    return "output", scopes[0]


def _training_part(node: Node) -> str:
    """Which of ``TRAINING_PARTS`` a node is in that no output needs; "" for unused layers."""
    scopes = node.name.split("/")
    if scopes[0] in ("gradients", "clip_by_global_norm", "global_norm"):
        return "gradients"
    if scopes[0] == "save" or node.op in ("SaveV2", "RestoreV2", "MergeV2Checkpoints"):
        return "saver"
    if "Summary" in node.op:
        return "summaries"
    if _SLOT.search(node.name):
        return "optimizer"
    if "Initializer" in scopes or scopes[-1] == "Assign" or scopes[0].startswith("init"):
        return "initializers"
    if scopes[0].startswith("checkpoint_initializer"):
        return "initializers"
    if scopes[0] == "loss" or node.op == "Placeholder":
        return "loss and labels"
    # What has no scope of its own is most often the arithmetic of a hand-written optimizer.
    return "" if len(scopes) > 1 and scopes[0] in ("bert",) + _NETWORK else "optimizer"


def _bytes(graph: Graph, node: Node) -> int:
    if node.op == "Const":
        return int(np.asarray(node.attrs["value"]).nbytes)
    return graph.variables[node.name].nbytes if node.name in graph.variables else 0


def _block_order(block: Block) -> int:
    """Those of a layer as they are computed; others, after them, in graph order."""
    known = block.name in _LAYER_BLOCKS
    return _LAYER_BLOCKS.index(block.name) if known else len(_LAYER_BLOCKS)


def _part_order(item: Tuple[str, List[Block]]) -> Tuple[int, int]:
    name = item[0]
    if name in TRAINING_PARTS:
        return len(_ORDER), TRAINING_PARTS.index(name)
    if name.startswith("layer "):
        return _ORDER.index("layers"), int(name.split()[1])
    return _ORDER.index(name), 0


def _merge(parts: Sequence[Part]) -> Tuple[List[Part], Dict[str, str]]:
    """Join layers in a row that are alike; also returns old name -> new name."""
    runs: List[List[Part]] = []
    for part in parts:
        alike = runs and part.name.startswith("layer ") and runs[-1][-1].blocks == part.blocks
        if alike:
            runs[-1].append(part)
        else:
            runs.append([part])
    merged: List[Part] = []
    names: Dict[str, str] = {}
    for run in runs:
        name = run[0].name
        if len(run) > 1:
            name = "layers %s to %s" % (name.split()[1], run[-1].name.split()[1])
        names.update((part.name, name) for part in run)
        merged.append(Part(name, run[0].blocks, len(run), run[0].training))
    return merged, names
