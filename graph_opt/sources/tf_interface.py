"""The inputs and outputs of a TensorFlow graph, as its user names them."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from bert_serving.graph_opt.errors import OptionError
from bert_serving.graph_opt.graph import Node, node_of, output_index
from bert_serving.graph_opt.sources.tf_candidates import likely_inputs, likely_outputs
from bert_serving.graph_opt.sources.tf_files import TfFile
from bert_serving.graph_opt.tensor_proto import Shape

__all__ = ["Interface", "apply_inputs", "choose"]

_INDEX = re.compile("[0-9]{1,6}")
# Of what is compared with a name that isn't there.
_LONGEST_NAME, _MOST_NAMES = 500, 20000
PLACEHOLDERS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")


class Interface:
    """``inputs``: (name at inference, tensor) pairs. ``outputs``: tensors."""

    def __init__(self, inputs: Sequence[Tuple[str, str]], outputs: Sequence[str]) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)


def choose(
    file: TfFile, inputs: Optional[Sequence[str]], outputs: Optional[Sequence[str]]
) -> Interface:
    """Resolve the names given; those of a SavedModel's signature stand in for names not given.

    An input may be renamed: ``new=old``.

    Raises:
        OptionError: nothing says what the inputs and outputs are, or a name isn't in the graph; the
            message lists candidates.
    """
    nodes = {node.name: node for node in file.nodes}
    signed_inputs: Mapping[str, str] = file.signature.inputs if file.signature else {}
    signed_outputs: Mapping[str, str] = file.signature.outputs if file.signature else {}
    if not (inputs or signed_inputs) or not (outputs or signed_outputs):
        raise OptionError(_what_there_is(file))
    read = _read_outputs(nodes)
    pairs = []
    for text in inputs or ():
        new, equals, old = text.partition("=")
        tensor = _existing(file, nodes, signed_inputs, old if equals else text, "input")
        pairs.append((new if equals else _own_name(nodes, read, tensor), tensor))
    if not inputs:
        for name, tensor in signed_inputs.items():
            tensor = _existing(file, nodes, {}, tensor, "input")
            pairs.append((name if name not in nodes else _own_name(nodes, read, tensor), tensor))
    _check_names(file, nodes, pairs)
    chosen = [_existing(file, nodes, signed_outputs, one, "output") for one in outputs or ()]
    if not outputs:
        chosen = [_existing(file, nodes, {}, one, "output") for one in signed_outputs.values()]
    return Interface(pairs, list(dict.fromkeys(chosen)))


def apply_inputs(file: TfFile, nodes: Sequence[Node], interface: Interface) -> Tuple[Node, ...]:
    """The nodes with a Placeholder for each input, which is read in place of its tensor.

    Raises:
        OptionError: the dtype of a tensor isn't known.
    """
    by_name = {node.name: node for node in nodes}
    instead: Dict[str, str] = {}
    added: Dict[str, Node] = {}
    for name, tensor in interface.inputs:
        source = by_name[node_of(tensor)]
        if name == source.name and source.op == "Placeholder":
            continue
        dtype, shape = _described(file, source, output_index(tensor))
        added[name] = Node(name, "Placeholder", (), {"dtype": dtype, "shape": shape})
        instead[tensor] = name
    rest = [node for node in nodes if node.name not in added]
    return tuple(added.values()) + tuple(_reading(node, instead) for node in rest)


def replaced_outputs(interface: Interface) -> Tuple[str, ...]:
    """The outputs, where one may itself be an input with another name."""
    instead = {tensor: name for name, tensor in interface.inputs}
    return tuple(instead.get(tensor, tensor) for tensor in interface.outputs)


def _reading(node: Node, instead: Mapping[str, str]) -> Node:
    if not any(_plain(tensor) in instead for tensor in node.inputs):
        return node
    return node.with_inputs(instead.get(_plain(tensor), tensor) for tensor in node.inputs)


def _plain(tensor: str) -> str:
    return tensor[:-2] if tensor.endswith(":0") else tensor


def _existing(
    file: TfFile, nodes: Mapping[str, Node], signed: Mapping[str, str], text: str, kind: str
) -> str:
    """The tensor that a name means: ``"a:0"`` is ``"a"``.

    Raises:
        OptionError: there is none.
    """
    name, colon, index = text.partition(":")
    if name not in nodes and text in signed:
        return _existing(file, nodes, {}, signed[text], kind)
    if name not in nodes or (colon and not _INDEX.fullmatch(index)):
        near = _close_matches(name, nodes)
        near += [one for one in nodes if one.endswith("/" + name)][: 5 - len(near)]
        raise OptionError(
            "%s has no tensor %r to be an %s%s"
            % (
                file.path,
                text,
                kind,
                "; near it are %s" % ", ".join(dict.fromkeys(near)) if near else "",
            )
        )
    dtypes = file.op_defs.dtypes(nodes[name])
    if dtypes is not None and int(index or 0) >= len(dtypes):
        raise OptionError(
            "%s: the node %r (%s) has %d outputs, so %r can't be an %s"
            % (file.path, name, nodes[name].op, len(dtypes), text, kind)
        )
    return _plain(text)


def _close_matches(name: str, nodes: Mapping[str, Node]) -> List[str]:
    """Up to 5 names that are like ``name``; comparing takes as long as both are long."""
    some = [one for one in nodes if len(one) <= _LONGEST_NAME][:_MOST_NAMES]
    return get_close_matches(name, some, 5, 0.6) if len(name) <= _LONGEST_NAME else []


def _read_outputs(nodes: Mapping[str, Node]) -> Dict[str, Set[int]]:
    """Node -> which of its outputs others read."""
    found: Dict[str, Set[int]] = {}
    for node in nodes.values():
        for tensor in node.data_inputs:
            found.setdefault(node_of(tensor), set()).add(output_index(tensor))
    return found


def _own_name(nodes: Mapping[str, Node], read: Mapping[str, Set[int]], tensor: str) -> str:
    """The name of the placeholder for a tensor that isn't renamed."""
    name, index = node_of(tensor), output_index(tensor)
    siblings = read.get(name, set()) - {index}
    if index == 0 and not siblings:
        return name
    base = unique = "%s_%d" % (name, index)
    count = 0
    while unique in nodes:
        count += 1
        unique = "%s_%d" % (base, count)
    return unique


def _check_names(file: TfFile, nodes: Mapping[str, Node], pairs: Sequence[Tuple[str, str]]) -> None:
    seen: Dict[str, str] = {}
    for name, tensor in pairs:
        if name in seen:
            raise OptionError("the inputs %s and %s are both named %r" % (seen[name], tensor, name))
        seen[name] = tensor
        if not name or ":" in name or name.startswith("^"):
            raise OptionError("an input can't be named %r" % name)
        if name in nodes and node_of(tensor) != name:
            raise OptionError(
                "%s has another node named %r, so the input %s can't be renamed to it"
                % (file.path, name, tensor)
            )


def _described(file: TfFile, node: Node, index: int) -> Tuple[np.dtype, Shape]:
    """Dtype and shape of a tensor."""
    dtypes = file.op_defs.dtypes(node)
    dtype = dtypes[index] if dtypes is not None else None
    if not isinstance(dtype, np.dtype):
        raise OptionError(
            "%s: the type of the tensor %s:%d (%s) isn't known, so it can't be an input"
            % (file.path, node.name, index, node.op)
        )
    if node.op in PLACEHOLDERS:
        return dtype, node.attrs.get("shape")
    shapes = file.output_shapes.get(node.name, ())
    if node.op == "IteratorGetNext" and index >= len(shapes):
        shapes = node.attrs["output_shapes"]
    return dtype, shapes[index] if index < len(shapes) else None


def _what_there_is(file: TfFile) -> str:
    inputs = [
        "%s (%s, %s)" % ((tensor,) + _words(_described(file, node, output_index(tensor))))
        for tensor, node in likely_inputs(file)
    ]
    lines: List[str] = ["%s: name the inputs and outputs that are served" % file.path]
    lines.append("it has the inputs: %s" % (", ".join(inputs) or "none that are clearly such"))
    lines.append("likely outputs are: %s" % (", ".join(likely_outputs(file)) or "none"))
    return "; ".join(lines)


def _words(described: Tuple[np.dtype, Shape]) -> Tuple[str, str]:
    dtype, shape = described
    if shape is None:
        return str(dtype), "any shape"
    return str(dtype), "[%s]" % ", ".join("?" if size is None else str(size) for size in shape)
