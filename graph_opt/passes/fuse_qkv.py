"""Multiply a tensor once by what it is multiplied by several times, e.g. for query, key and value.

Before::

    query = MatMul(hidden, kernel_q) + bias_q
    key   = MatMul(hidden, kernel_k) + bias_k
    value = MatMul(hidden, kernel_v) + bias_v

After, with the kernels and the biases put side by side::

    query, key, value = Split(MatMul(hidden, kernel) + bias)

or SplitV where the widths differ. Kernels must be constants, and either all products of a group
have a constant bias or none has one.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.passes.matching import Edit, Readers, constant_of, plain, source
from bert_serving.graph_opt.passes.result import Rewritten

__all__ = ["fuse_qkv"]

_SUMS = ("Add", "AddV2", "BiasAdd")


class _Dense(NamedTuple):
    """A product, its kernel as [in, out], and the bias that is added to it if it is a constant."""

    product: Node
    kernel: np.ndarray
    bias: Optional[np.ndarray]
    result: str

    @property
    def width(self) -> int:
        """Columns of the result."""
        return int(self.kernel.shape[1])


def fuse_qkv(graph: Graph) -> Rewritten:
    """The graph with products of one tensor and several constant kernels fused."""
    readers, edit = Readers(graph), Edit(graph)
    groups: Dict[Tuple[str, bool, bool, bool], List[_Dense]] = {}
    for node in graph:
        dense = _dense(graph, readers, node)
        if dense is not None:
            flags = (bool(node.attrs.get("transpose_a")), bool(node.attrs.get("transpose_b")))
            key = (source(graph, node.data_inputs[0]),) + flags + (dense.bias is not None,)
            groups.setdefault(key, []).append(dense)
    notes: List[str] = []
    tensors = [key[0] for key in groups]
    for key, group in groups.items():
        if len(group) > 1:
            _fuse(edit, key[0], group)
        elif tensors.count(key[0]) > 1:
            notes.append(
                "%s: differs from the other products of %s in its bias or in what is transposed"
                % (group[0].product.name, key[0])
            )
    return Rewritten(edit.graph() if edit.touched else graph, tuple(notes))


def _dense(graph: Graph, readers: Readers, node: Node) -> Optional[_Dense]:
    if node.op != "MatMul":
        return None
    kernel = constant_of(graph, node.data_inputs[1])
    if kernel is None or constant_of(graph, node.data_inputs[0]) is not None:
        return None
    if node.attrs.get("transpose_b"):
        kernel = kernel.T
    reader = readers.only(node.name)
    if reader is not None and reader.op in _SUMS:
        left, right = map(plain, reader.data_inputs)
        bias = constant_of(graph, right if left == node.name else left)
        if bias is not None and bias.shape == (kernel.shape[1],):
            return _Dense(node, kernel, bias, reader.name)
    return _Dense(node, kernel, None, node.name)


def _fuse(edit: Edit, tensor: str, group: List[_Dense]) -> None:
    first = group[0].product
    dtype = np.dtype(first.attrs["T"])
    anchor = first.name
    name = _common_scope([dense.result for dense in group]) + "fused"
    kernel = np.concatenate([dense.kernel for dense in group], axis=1)
    flags = {"transpose_a": bool(first.attrs.get("transpose_a")), "transpose_b": False}
    inputs = (tensor, edit.constant(anchor, kernel, dtype, name + "/kernel"))
    result = edit.add(anchor, "MatMul", inputs, dict(flags, T=dtype), name + "/MatMul")
    biases = [dense.bias for dense in group if dense.bias is not None]
    if biases:
        bias = edit.constant(anchor, np.concatenate(biases), dtype, name + "/bias")
        attrs = {"T": dtype, "data_format": "NHWC"}
        result = edit.add(anchor, "BiasAdd", (result, bias), attrs, name + "/BiasAdd")
    split = _split(edit, anchor, result, [dense.width for dense in group], dtype, name)
    for index, dense in enumerate(group):
        part = "%s:%d" % (split, index) if index else split
        edit.redirect(dense.result, part, dtype)


def _split(
    edit: Edit, anchor: str, tensor: str, widths: List[int], dtype: np.dtype, name: str
) -> str:
    axis = edit.constant(anchor, 1, np.int32, name + "/split/axis")
    attrs = {"T": dtype, "num_split": len(widths)}
    if len(set(widths)) == 1:
        return edit.add(anchor, "Split", (axis, tensor), attrs, name + "/split")
    sizes = edit.constant(anchor, widths, np.int32, name + "/split/sizes")
    attrs["Tlen"] = np.dtype("int32")
    return edit.add(anchor, "SplitV", (tensor, sizes, axis), attrs, name + "/split")


def _common_scope(names: List[str]) -> str:
    """The innermost scope that all names are in, with its slash."""
    common: List[str] = []
    for parts in zip(*[name.split("/")[:-1] for name in names]):
        if len(set(parts)) > 1:
            break
        common.append(parts[0] + "/")
    return "".join(common)
