"""Write layer normalization in the one form that inference engines recognize.

Before, as ``tf.nn.moments`` with ``tf.nn.batch_normalization`` write it::

    variance = Mean(SquaredDifference(x, StopGradient(mean)))
    scale    = Rsqrt(variance + epsilon) * gamma
    y        = x * scale + (beta - mean * scale)

or any other sum and product that comes to the same, with or without gamma or beta::

    y = (x - mean) * Rsqrt(variance + epsilon)

After (:func:`bert_serving.graph_opt.layers.layer_norm`)::

    centered = x - Mean(x)
    y        = centered / Sqrt(Mean(Square(centered)) + epsilon) * gamma + beta

The mean is over the last axis only. Where the width is known, a missing gamma becomes ones and a
missing beta zeros: onnxruntime fuses nothing less than all four steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.passes.matching import (
    Edit,
    Readers,
    constant_of,
    plain,
    scalar_of,
    source,
)
from bert_serving.graph_opt.passes.polynomials import Expansion, Polynomial, inverse, upwards
from bert_serving.graph_opt.passes.result import Rewritten
from bert_serving.graph_opt.passes.shapes import Shapes

__all__ = ["layer_norm"]


@dataclass(frozen=True)
class _Moments:
    """Variance, inverse deviation and what they are made of; all names of tensors."""

    x: str
    mean: str
    variance: str
    epsilon: str
    deviation: str
    inverse: str  # the inverse of the deviation, as polynomials call it
    inside: Tuple[str, ...]


@dataclass(frozen=True)
class _LayerNorm:
    root: str
    moments: _Moments
    gamma: Optional[str]
    beta: Optional[str]
    inside: Tuple[str, ...]


def layer_norm(graph: Graph) -> Rewritten:
    """The graph with every layer normalization over the last axis in its canonical form.

    Raises:
        GraphError: a malformed graph.
    """
    shapes, readers, edit = Shapes(graph), Readers(graph), Edit(graph)
    notes: List[str] = []
    for node in graph:
        for moments in _moments(graph, shapes, readers, node, notes):
            found = _normalization(graph, shapes, readers, moments)
            if found is None:
                notes.append("%s: a variance, but no layer normalization" % node.name)
                continue
            leaks = readers.leaks(found.inside, found.root)
            if leaks:
                notes.append("%s: %s is read elsewhere" % (found.root, leaks[0]))
            elif not _is_canonical(graph, found):
                _write(edit, graph, shapes, found)
    return Rewritten(edit.graph() if edit.touched else graph, tuple(notes))


def _moments(
    graph: Graph, shapes: Shapes, readers: Readers, variance: Node, notes: List[str]
) -> Iterator[_Moments]:
    """What is computed from a node if that is a variance over the last axis."""
    if variance.op != "Mean":
        return
    parts = _deviations(graph, variance.data_inputs[0])
    if parts is None:
        return
    x, mean, inside = parts
    center = graph[mean]
    if center.op != "Mean" or source(graph, center.data_inputs[0]) != x:
        if center.op == "Mean":
            notes.append("%s: the mean that is subtracted is another tensor's" % variance.name)
        return
    if not all(_over_the_last_axis(shapes, node, x) for node in (center, variance)):
        notes.append("%s: not over the last axis alone, kept with length 1" % variance.name)
        return
    inside += (variance.name, center.name)
    for name in upwards(readers, variance.name, 3):
        shifted = graph[name]
        if shifted.op not in ("Add", "AddV2"):
            continue
        for operand, epsilon in (shifted.data_inputs, shifted.data_inputs[::-1]):
            if source(graph, operand) != variance.name or scalar_of(graph, epsilon) is None:
                continue
            for root in upwards(readers, name, 3):
                power = _root(graph, graph[root], name)
                if power:
                    yield _Moments(
                        x=x,
                        mean=mean,
                        variance=variance.name,
                        epsilon=epsilon,
                        deviation=root,
                        inverse=root if power < 0 else inverse(root),
                        inside=inside + (name, root),
                    )


def _deviations(graph: Graph, tensor: str) -> Optional[Tuple[str, str, Tuple[str, ...]]]:
    """x, mean and the nodes on the way, if a tensor is ``(x - mean) ** 2``."""
    name = source(graph, tensor)
    node = graph[name]
    inside: Tuple[str, ...] = (name,)
    operands = [source(graph, one) for one in node.data_inputs]
    if node.op == "SquaredDifference":
        pair = operands
    else:
        squared = (
            node.op == "Square"
            or (node.op == "Mul" and operands[0] == operands[1])
            or (node.op == "Pow" and scalar_of(graph, operands[1]) == 2)
        )
        if not squared or graph[operands[0]].op != "Sub":
            return None
        inside += (operands[0],)
        pair = [source(graph, one) for one in graph[operands[0]].data_inputs]
    for x, mean in (pair, pair[::-1]):
        if graph[mean].op == "Mean" and source(graph, graph[mean].data_inputs[0]) == x:
            return x, mean, inside
    return pair[0], pair[1], inside


def _over_the_last_axis(shapes: Shapes, node: Node, x: str) -> bool:
    axes = shapes.numbers(node.data_inputs[1])
    rank = shapes.rank(x)
    last = (-1,) if rank is None else (-1, rank - 1)
    return bool(
        node.attrs.get("keep_dims") and axes is not None and len(axes) == 1 and axes[0] in last
    )


def _root(graph: Graph, node: Node, shifted: str) -> int:
    """1 for the square root of a tensor, -1 for its inverse, 0 for anything else."""
    if not node.data_inputs or source(graph, node.data_inputs[0]) != shifted:
        return 0
    if node.op == "Pow":
        return {0.5: 1, -0.5: -1}.get(scalar_of(graph, node.data_inputs[1]) or 0, 0)
    return {"Sqrt": 1, "Rsqrt": -1}.get(node.op, 0)


def _normalization(
    graph: Graph, shapes: Shapes, readers: Readers, moments: _Moments
) -> Optional[_LayerNorm]:
    """The largest expression around the moments that is a layer normalization."""
    best: Optional[_LayerNorm] = None
    for name in upwards(readers, moments.deviation):
        expansion = Expansion(graph, (moments.x, moments.mean, moments.deviation))
        polynomial = expansion.of(name)
        if polynomial is None or name not in expansion.visited:
            continue
        weights = _weights(graph, shapes, moments, polynomial)
        if weights is None:
            continue
        gamma, beta = weights
        inside = expansion.visited | set(moments.inside)
        inside -= {one for one in inside if graph[one].op == "Const"}
        found = _LayerNorm(name, moments, gamma, beta, tuple(sorted(inside)))
        if best is None or _parameters(found) > _parameters(best):
            best = found
    return best


def _parameters(found: _LayerNorm) -> int:
    return (found.gamma is not None) + (found.beta is not None)


def _weights(
    graph: Graph, shapes: Shapes, moments: _Moments, polynomial: Polynomial
) -> Optional[Tuple[Optional[str], Optional[str]]]:
    """What scales and what shifts, if a polynomial is ``(x - mean) * inverse * gamma + beta``."""
    sides: Dict[str, Tuple[str, ...]] = {}
    beta: Optional[str] = None
    for term, coefficient in polynomial.items():
        rest = list(term)
        if moments.inverse in rest:
            rest.remove(moments.inverse)
            side = moments.x if moments.x in rest else moments.mean
            expected = 1.0 if side == moments.x else -1.0
            if side not in rest or side in sides or coefficient != expected:
                return None
            rest.remove(side)
            sides[side] = tuple(rest)
        elif beta is None and len(rest) == 1 and coefficient == 1.0:
            beta = rest[0]
        else:
            return None
    if len(sides) != 2 or len(set(sides.values())) != 1 or len(sides[moments.x]) > 1:
        return None
    gamma = sides[moments.x][0] if sides[moments.x] else None
    weights = [one for one in (gamma, beta) if one is not None]
    if not all(_is_weight(graph, shapes, one, moments.x) for one in weights):
        return None
    return gamma, beta


def _is_weight(graph: Graph, shapes: Shapes, tensor: str, x: str) -> bool:
    """Whether a tensor is a vector for the last axis, possibly under axes of length 1."""
    shape, rank = shapes.shape(tensor), shapes.rank(x)
    if shape is None or tensor.startswith("1/"):
        return False
    if len(shape) == 1:
        return True
    flat = all(dim.factor == 1 and dim.known for dim in shape[:-1])
    fits = rank is not None and 0 < len(shape) <= rank
    return fits and flat and constant_of(graph, tensor) is not None


def _is_canonical(graph: Graph, found: _LayerNorm) -> bool:
    if found.gamma is None or found.beta is None:
        return False
    moments = found.moments
    top = graph[found.root]
    scaled = graph[top.data_inputs[0]]
    ratio = graph[scaled.data_inputs[0]] if scaled.op == "Mul" else scaled
    centered = graph[ratio.data_inputs[0]] if ratio.op == "RealDiv" else ratio
    squared = graph[graph[moments.variance].data_inputs[0]]
    chain = (top.op, scaled.op, ratio.op, centered.op, graph[moments.deviation].op, squared.op)
    expected = ("AddV2", "Mul", "RealDiv", "Sub", "Sqrt", "Square")
    return chain == expected and [plain(one) for one in squared.data_inputs] == [centered.name]


def _write(edit: Edit, graph: Graph, shapes: Shapes, found: _LayerNorm) -> None:
    root, moments = found.root, found.moments
    mean = graph[moments.mean]
    dtype = np.dtype(mean.attrs["T"])
    attrs = {"T": dtype}

    def add(op: str, inputs: Tuple[str, ...], name: str) -> str:
        return edit.add(root, op, inputs, attrs, "%s/%s" % (root, name))

    centered = add("Sub", (moments.x, mean.name), "centered")
    squared = add("Square", (centered,), "squared")
    axis = edit.constant(root, [-1], np.int32, root + "/axis")
    axes = {"T": dtype, "Tidx": np.dtype("int32"), "keep_dims": True}
    variance = edit.add(root, "Mean", (squared, axis), axes, root + "/variance")
    shifted = add("AddV2", (variance, moments.epsilon), "shifted")
    normal = add("RealDiv", (centered, add("Sqrt", (shifted,), "deviation")), "normal")
    gamma = _vector(edit, graph, found, found.gamma, 1, dtype, shapes)
    beta = _vector(edit, graph, found, found.beta, 0, dtype, shapes)
    edit.replace(Node(root, "AddV2", (add("Mul", (normal, gamma), "scaled"), beta), attrs))


def _vector(
    edit: Edit,
    graph: Graph,
    found: _LayerNorm,
    tensor: Optional[str],
    neutral: int,
    dtype: np.dtype,
    shapes: Shapes,
) -> str:
    """One of gamma and beta as a vector; where there is none, what changes nothing."""
    name = "%s/%s" % (found.root, "gamma" if neutral else "beta")
    if tensor is None:
        shape = shapes.shape(found.moments.x)
        width = (shape[-1].factor,) if shape and shape[-1].known else ()
        return edit.constant(found.root, np.full(width, neutral), dtype, name)
    value = constant_of(graph, tensor)
    if value is None or value.ndim == 1:
        return tensor
    return edit.constant(found.root, value.reshape(-1), dtype, name)
