"""Take the branch that inference takes, where ``tf.cond`` of TensorFlow 1 leaves both in the graph.

Before::

    is_training -> pred_id --+
                             |      +-- :1 -> dropout -> ... --+
    x ------------------> Switch ---+                          Merge -> y
                                    +-- :0 -> Identity --------+

After::

    x -> Identity -> Identity -> Identity -> y

A Switch sends its input to one of two outputs, and what reads the other one doesn't run: it is
*dead*, and so is whatever reads a dead tensor or has a control input from a dead node (constants of
a branch have one). Merge gives the one input that isn't dead and, as ``:1``, its number. Dead nodes
are removed; Switch and Merge become identities. Select and SelectV2 go the same way.

The predicate must be known: computed from constants, from the default of a placeholder that isn't
among the graph's declared inputs, or from the learning phase (see ``learning_phase``). Branches
decided by data, or by a placeholder whose name doesn't say what it means, are left alone, and so
are loops (``tf.while_loop``).
"""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Set

import numpy as np

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node, node_of
from bert_serving.graph_opt.passes.known_values import KnownValues
from bert_serving.graph_opt.passes.learning_phase import without_learning_phase
from bert_serving.graph_opt.passes.matching import plain
from bert_serving.graph_opt.passes.navigation import (
    constant,
    declared_inputs,
    identity,
    needed_nodes,
    past_identities,
    unique_name,
)
from bert_serving.graph_opt.passes.result import Rewritten

__all__ = ["resolve_conditionals"]

_SWITCH = ("RefSwitch", "Switch")
_MERGE = ("Merge", "RefMerge")
_SELECT = ("Select", "SelectV2")
_NEXT = ("NextIteration", "RefNextIteration")
_ENTER = ("Enter", "RefEnter")
_INT32 = np.dtype("int32")


def resolve_conditionals(graph: Graph) -> Rewritten:
    """The graph with every branch taken that doesn't depend on data.

    Raises:
        GraphError: an output lies in a branch that inference doesn't take, or no node gives it.
    """
    graph, notes = without_learning_phase(graph)
    # What a Merge gives may decide the next branch.
    while True:
        resolved = _resolve(graph)
        if resolved is None:
            return Rewritten(graph, notes + tuple(_left_alone(graph)))
        graph = resolved


def _resolve(graph: Graph) -> Optional[Graph]:
    """The graph with the branches resolved whose predicates are known; None if there are none."""
    known = KnownValues(graph)
    taken = _taken_branches(graph, known)
    chosen = _chosen_operands(graph, known)
    if not taken and not chosen:
        return None
    dead = _Dead(graph, taken)
    for tensor in graph.outputs:
        if tensor in dead:
            raise GraphError(
                "the output %r is in a branch that isn't taken at inference: choose one outside it"
                % tensor
            )
    second = _read_second_outputs(graph)
    nodes: List[Node] = []
    for node in graph:
        if node.name in dead.nodes:
            continue
        if node.name in taken:
            tensor = node.data_inputs[0]
            dtypes = (node.attrs.get("T"),) * 2
            nodes.append(_passing_on(node, tensor, tensor, dtypes, node.name in second))
        elif node.name in chosen:
            nodes.append(identity(node, chosen[node.name]))
        elif node.op in _MERGE and any(tensor in dead for tensor in node.inputs):
            nodes.extend(_merged(graph, node, dead, node.name in second))
        else:
            nodes.append(node)
    names = {node.name for node in nodes}
    variables = {name: value for name, value in graph.variables.items() if name in names}
    return graph.replaced(nodes=nodes, variables=variables)


def _taken_branches(graph: Graph, known: KnownValues) -> Dict[str, int]:
    """Name of a Switch -> the number of the output that gives a value."""
    taken = {}
    for node in graph:
        if node.op in _SWITCH:
            predicate = known.scalar(node.data_inputs[1])
            if predicate is not None:
                taken[node.name] = int(bool(predicate))
    return taken


def _chosen_operands(graph: Graph, known: KnownValues) -> Dict[str, str]:
    """Name of a Select -> the operand that it always gives."""
    chosen = {}
    for node in graph:
        predicate = known.get(node.data_inputs[0]) if node.op in _SELECT else None
        if predicate is None or not predicate.size or predicate.min() != predicate.max():
            continue
        left, right = node.data_inputs[1:]
        operand, other = (left, right) if predicate.min() else (right, left)
        # SelectV2 broadcasts: the operand must be known to have as many dimensions as the result.
        value = known.get(other)
        scalars = predicate.ndim == 0 and value is not None and value.ndim == 0
        if node.op == "Select" or scalars:
            chosen[node.name] = operand
    return chosen


class _Dead:
    """The nodes and tensors without a value, given which output of some switches has one."""

    def __init__(self, graph: Graph, taken: Dict[str, int]) -> None:
        self._graph = graph
        self._tensors = {name if branch else name + ":1" for name, branch in taken.items()}
        self.nodes: Set[str] = set()
        readers = graph.consumers()
        waiting = [reader for name in taken for reader in readers[name]]
        while waiting:
            node = waiting.pop()
            if node.name not in self.nodes and self._dies(node):
                self.nodes.add(node.name)
                waiting.extend(readers[node.name])

    def __contains__(self, tensor: str) -> bool:
        return node_of(tensor) in self.nodes or plain(tensor) in self._tensors

    def _dies(self, node: Node) -> bool:
        if node.op not in _MERGE:
            return any(tensor in self for tensor in node.inputs)
        # A loop that is never entered has no next iteration.
        entries = [name for name in node.data_inputs if self._graph[name].op not in _NEXT]
        return bool(entries) and all(tensor in self for tensor in entries)


def _read_second_outputs(graph: Graph) -> Set[str]:
    """Names of the nodes whose output 1 is read, or is an output of the graph."""
    tensors = [tensor for node in graph for tensor in node.data_inputs] + list(graph.outputs)
    return {node_of(tensor) for tensor in tensors if tensor.endswith(":1")}


def _passing_on(node: Node, first: str, second: str, dtypes: tuple, both: bool) -> Node:
    """An identity of two tensors in place of a node; of the first one if nobody reads the other."""
    if not both:
        return identity(node, first)
    attrs = {"T": dtypes} if None not in dtypes else {}
    control = [name for name in node.inputs if name.startswith("^")]
    return Node(node.name, "IdentityN", (first, second, *control), attrs)


def _merged(graph: Graph, node: Node, dead: _Dead, both: bool) -> List[Node]:
    """What becomes of a Merge that has a dead input."""
    control = [name for name in node.inputs if name.startswith("^") and name not in dead]
    numbered = enumerate(node.data_inputs)
    alive = {number: tensor for number, tensor in numbered if tensor not in dead}
    numbers = np.array(list(alive), np.int32)
    dtypes = (node.attrs.get("T"), _INT32)
    number_name = unique_name(graph, node.name + "/value_index")
    if len(alive) == 1:
        (tensor,) = alive.values()
        merged = _passing_on(node.with_inputs(control), tensor, number_name, dtypes, both)
        return [constant(number_name, numbers.reshape(())), merged] if both else [merged]
    # Which of those alive it will be is decided by data.
    rest = Node(
        unique_name(graph, node.name + "/alive"), node.op, tuple(alive.values()), node.attrs
    )
    rest = rest.with_attrs(N=len(alive))
    table = constant(unique_name(graph, node.name + "/numbers"), numbers)
    axis = constant(unique_name(graph, node.name + "/axis"), np.array(0, np.int32))
    gather = dict(dict.fromkeys(("Tparams", "Tindices", "Taxis"), _INT32), batch_dims=0)
    number = Node(number_name, "GatherV2", (table.name, rest.name + ":1", axis.name), gather)
    node = node.with_inputs(control)
    return [rest, table, axis, number, _passing_on(node, rest.name, number.name, dtypes, both)]


def _left_alone(graph: Graph) -> List[str]:
    """Why there are still branches and loops in what the outputs need."""
    needed = needed_nodes(graph)
    inputs = declared_inputs(graph)
    notes: Dict[str, None] = {}
    for node in graph:
        if node.name not in needed:
            continue
        if node.op in _ENTER:
            frame = node.attrs.get("frame_name", node.name)
            frame = frame.decode("utf-8") if isinstance(frame, bytes) else frame
            notes["%s: a loop, left alone" % frame] = None
        elif node.op in _SWITCH:
            predicate = graph[past_identities(graph, node.data_inputs[1])]
            if predicate.op != "LoopCond":
                notes["%s: %s" % (predicate.name, _reason(predicate, inputs))] = None
    return list(notes)


def _reason(predicate: Node, inputs: Sequence[str]) -> str:
    if predicate.op == "Placeholder" and inputs and predicate.name not in inputs:
        return "a placeholder that isn't fed and whose name doesn't say what it means, left alone"
    return "a condition that depends on data, left alone"
