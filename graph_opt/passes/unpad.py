"""Compute nothing for padding: all but attention on the tokens of a batch, one after another.

Before, with as many tokens in each row as in the longest::

    input_ids [b, s] -> embeddings, dense layers, layer norms on [b*s, h] -> ... -> pooling

After::

    input_ids [tokens] -> embeddings, dense layers, layer norms on [tokens, h]
                                          |                            ^
                                          v                            |
                                  Gather by slots [b*s, h]      Gather by places
                                          |                            |
                                          +---> attention [b, s] ------+

and vectors of single tokens come out as [tokens, h]. The placeholders change with it, all but
``input_mask``, which stays int [b, s] with 0 at padding:

* ``input_ids``, ``input_type_ids``: int [tokens];
* ``positions``: int32 [tokens], the place of each token in its row;
* ``places``: int32 [tokens], row * s + position, which is its place in the padded batch;
* ``slots``: int32 [b*s], for each place in the padded batch the token that is there, and where
  there is padding, any token.

What the padded places of a tensor hold changes from the vectors of padding to those of some token.
That is the pass's contract: a row's result doesn't depend on how far it is padded, so the graph
masks whatever it mixes tokens by. A tensor that was multiplied by the mask, or chosen by it, is
padded only where it was so before.

Which operations work on packed tokens is said in ``tokens.py``. Before any other the rows are
padded again.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from bert_serving.graph_opt.graph import Graph, Node, output_index
from bert_serving.graph_opt.passes.dimensions import Dim
from bert_serving.graph_opt.passes.matching import Edit, plain
from bert_serving.graph_opt.passes.packing import PLACES, POSITIONS, SLOTS, Packing
from bert_serving.graph_opt.passes.result import Rewritten
from bert_serving.graph_opt.passes.rows import Rows, operand_demands
from bert_serving.graph_opt.passes.shape_rules import BATCH
from bert_serving.graph_opt.passes.shapes import Shapes
from bert_serving.graph_opt.passes.tokens import BY_PLACE, PACKED, WHOLE, Tokens, operand_forms

__all__ = ["unpad"]

IDS, MASK, TYPES = "input_ids", "input_mask", "input_type_ids"
_PRODUCTS = ("BatchMatMul", "BatchMatMulV2", "MatMul")


class _Plan(NamedTuple):
    """Which nodes are computed packed, from what forms of their operands.

    ``masked``: those of them whose padded places would matter; ``readers``: nodes that aren't
    packed but can read packed operands as they are.
    """

    packed: Dict[str, List[int]]
    masked: Set[str]
    readers: Set[str]


def unpad(graph: Graph) -> Rewritten:
    """The graph on packed tokens, or as it is if it has nothing to gain.

    Raises:
        GraphError: a malformed graph.
    """
    obstacle = _obstacle(graph)
    if obstacle:
        return Rewritten(graph, (obstacle,))
    length = Dim(1, ("%s:1" % IDS,))
    others = {"%s:1" % name: length for name in (MASK, TYPES) if name in graph}
    shapes = Shapes(graph, others)
    tokens = Tokens(shapes, Dim(1, (BATCH,)), length, {})
    plan = _settled_plan(tokens)
    count = sum(graph[name].op in _PRODUCTS for name in plan.packed)
    if not count:
        return Rewritten(graph, ("no product is of tokens and weights: nothing is packed",))
    edit = Edit(graph)
    packed = tokens._replace(packed=plan.packed)
    packing = Packing(edit, packed, MASK)
    for node in graph.topological():
        if node.name in plan.packed:
            edit.replace(packing.node(node, plan.packed[node.name]))
        elif node.name in plan.readers:
            edit.replace(packing.reader(node))
        elif any(map(packed.is_packed, node.data_inputs)):
            inputs = [
                packing.padded(tensor) if packed.is_packed(tensor) else tensor
                for tensor in node.inputs
            ]
            edit.replace(node.with_inputs(inputs))
    changed = edit.graph()
    added = [name for name in (POSITIONS, PLACES, SLOTS) if name in changed]
    result = Graph(changed, changed.outputs, changed.variables, (*graph.inputs, *added))
    return Rewritten(result, _notes(graph, plan, count))


def _obstacle(graph: Graph) -> str:
    """Why a graph can't be packed; nothing if it may be."""
    for name in (IDS, MASK):
        if name not in graph.inputs:
            return "there is no input %s" % name
    for name in (IDS, MASK, TYPES):
        if name in graph and graph[name].attrs.get("shape") != (None, None):
            return "the input %s isn't [batch, sequence] with both open" % name
    for name in (POSITIONS, PLACES, SLOTS):
        if name in graph:
            return "there is a node %s already" % name
    return ""


def _notes(graph: Graph, plan: _Plan, count: int) -> Tuple[str, ...]:
    notes = ["%d products on packed tokens" % count]
    for output in graph.outputs:
        if plain(output) in plan.packed:
            notes.append("%s: a vector a token, packed" % output)
    return tuple(notes)


def _settled_plan(tokens: Tokens) -> _Plan:
    """The plan in which nothing is padded again whose padded places matter."""
    left_alone: Set[str] = set()
    while True:
        plan = _plan(tokens, left_alone)
        culprits = _culprits(tokens.shapes.graph, plan)
        if not culprits:
            return plan
        left_alone |= culprits


def _plan(tokens: Tokens, left_alone: Set[str]) -> _Plan:
    plan = _Plan({}, set(), set())
    tokens = tokens._replace(packed=plan.packed)
    graph = tokens.shapes.graph
    for node in graph.topological():
        if node.name in (IDS, TYPES):
            plan.packed[node.name] = []
            continue
        if node.name in left_alone:
            continue
        forms = operand_forms(tokens, node)
        if forms is None and _is_entry(tokens, plan, node):
            plan.packed[node.name] = [BY_PLACE, WHOLE]
        elif forms is not None:
            plan.packed[node.name] = forms
            if any(_is_masked(tokens, plan, *one) for one in zip(node.data_inputs, forms)):
                plan.masked.add(node.name)
        elif _reads_packed(tokens, plan, node):
            plan.readers.add(node.name)
    return plan


def _is_entry(tokens: Tokens, plan: _Plan, node: Node) -> bool:
    """Whether a node multiplies weights by rows that come from packed tokens, each from its own."""
    if node.op not in _PRODUCTS:
        return False
    left, right = node.data_inputs
    weights = tokens.shapes.shape(right)
    transposed = node.attrs.get("transpose_a") or node.attrs.get("adj_x")
    if transposed or weights is None or len(weights) != 2 or not all(dim.known for dim in weights):
        return False
    return tokens.inner(node.name) is not None and _is_of_tokens(tokens, plan, left)


def _is_masked(tokens: Tokens, plan: _Plan, tensor: str, form: int) -> bool:
    """Whether the padded places of an operand matter."""
    if form == PACKED:
        return plain(tensor) in plan.masked
    return form == BY_PLACE and not _is_of_tokens(tokens, plan, tensor)


def _is_of_tokens(tokens: Tokens, plan: _Plan, tensor: str) -> bool:
    """Whether each row of a padded tensor comes from the packed rows of the same token.

    What it takes from other tokens, as attention does, may be masked; what it takes from its own
    may not: then its padded places would hold what the mask put there.
    """
    shapes = tokens.shapes
    axes = tokens.axes(shapes.shape(tensor))
    if not axes:
        return False
    rows = Rows(1, tokens.length) if axes == 2 else Rows(0, tokens.length, tokens.rows)
    waiting, seen = [(tensor, rows)], set()
    while waiting:
        tensor, rows = one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        if output_index(tensor):
            return False
        if plain(tensor) in plan.packed:
            place = tokens.axes(shapes.shape(tensor)) - 1
            if plain(tensor) in plan.masked or rows.axis != place:
                return False
            continue
        node = shapes.graph[tensor]
        demands = operand_demands(shapes, node, rows)
        if demands is None or not any(demands):
            return False
        waiting += [(name, rows) for name, rows in zip(node.data_inputs, demands) if rows]
    return True


def _reads_packed(tokens: Tokens, plan: _Plan, node: Node) -> bool:
    """Whether a node can read its first operand packed: for its shape, or to choose some tokens."""
    if node.op not in ("GatherNd", "GatherV2", "Shape"):
        return False
    operand, others = node.data_inputs[0], node.data_inputs[1:]
    if not tokens.is_packed(operand) or any(map(tokens.is_packed, others)):
        return False
    if node.op == "Shape":
        return True
    if tokens.axes(tokens.shapes.shape(operand)) != 2 or plain(operand) in plan.masked:
        return False
    if node.op == "GatherNd":
        indices = tokens.shapes.shape(others[0])
        return bool(indices) and indices is not None and indices[-1] == Dim(2)
    is_along_rows = tokens.shapes.numbers(others[1]) == [1] and not node.attrs.get("batch_dims")
    return is_along_rows and tokens.shapes.numbers(others[0]) is not None


def _culprits(graph: Graph, plan: _Plan) -> Set[str]:
    """Nodes that bring the mask into what is then padded again."""
    waiting: List[str] = []
    for node in graph:
        forms: Optional[List[int]] = plan.packed.get(node.name)
        if node.name not in plan.readers:
            waiting += [
                plain(tensor)
                for index, tensor in enumerate(node.data_inputs)
                if plain(tensor) in plan.masked and (forms is None or forms[index] != PACKED)
            ]
    culprits: Set[str] = set()
    seen: Set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        operands = [
            plain(tensor)
            for tensor, form in zip(graph[name].data_inputs, plan.packed[name])
            if form == PACKED and plain(tensor) in plan.masked
        ]
        waiting += operands
        if not operands or BY_PLACE in plan.packed[name]:
            culprits.add(name)
    return culprits
