"""An existing TensorFlow 1 graph, usually one for training, as a graph with lazily read variables.

It may be a ``.meta`` with its checkpoint beside it, a frozen GraphDef (``.pb``), or a SavedModel of
TensorFlow 1.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Set

from bert_serving.graph_opt.errors import GraphError, ModelError, OptionError
from bert_serving.graph_opt.files import PathLike
from bert_serving.graph_opt.graph import Graph, Node, Variable, node_of
from bert_serving.graph_opt.signatures import check_inputs
from bert_serving.graph_opt.sources.saved_model import is_saved_model, read_saved_model
from bert_serving.graph_opt.sources.tensor_bundle import Bundle, read_bundle
from bert_serving.graph_opt.sources.tf_files import TfFile, checkpoint_prefix, read_graph_file
from bert_serving.graph_opt.sources.tf_functions import inline_functions
from bert_serving.graph_opt.sources.tf_interface import apply_inputs, choose, replaced_outputs
from bert_serving.graph_opt.sources.tf_variables import VARIABLES, find_variable, saved_places

__all__ = ["read_tf_graph"]


def read_tf_graph(
    path: PathLike,
    inputs: Optional[Sequence[str]] = None,
    outputs: Optional[Sequence[str]] = None,
    checkpoint: Optional[PathLike] = None,
) -> Graph:
    """Read a graph with all that is in it; tensors of a checkpoint stay in their files.

    ``inputs`` name the tensors that are fed when the model is served. One that isn't a placeholder
    is replaced by one, and ``new=old`` gives it another name. ``outputs`` name the tensors to
    compute. A SavedModel's signature is what is used where none are named. ``checkpoint`` is the
    prefix of the checkpoint where that isn't the one beside the graph. Calls of functions that the
    outputs need are inlined.

    Raises:
        ModelError: a file is missing, damaged, or of another model than the checkpoint.
        OptionError: inputs or outputs aren't named, or aren't in the graph.
    """
    target = Path(path)
    file = read_saved_model(target) if is_saved_model(target) else read_graph_file(target)
    if checkpoint is not None:
        file = replace(file, checkpoint=checkpoint_prefix(Path(checkpoint)))
    try:
        interface = choose(file, inputs, outputs)
        wanted = replaced_outputs(interface)
        nodes = apply_inputs(file, file.nodes, interface)
        nodes = inline_functions(nodes, wanted, file.functions, file.op_defs)
        for node in nodes:
            check_inputs(node)
        graph = Graph(nodes, wanted, inputs=[name for name, _ in interface.inputs])
        needed = _needed(graph)
    except GraphError as error:
        raise ModelError("%s: %s" % (target, error)) from error
    unread = [name for name in graph.inputs if name not in needed]
    if unread:
        raise OptionError(
            "%s: the outputs %s don't depend on the inputs %s"
            % (target, ", ".join(wanted), ", ".join(unread))
        )
    return _with_variables(graph, file, needed)


def _needed(graph: Graph) -> Set[str]:
    """Names of the nodes that the outputs are computed from."""
    needed: Set[str] = set()
    waiting = [node_of(tensor) for tensor in graph.outputs]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(node_of(tensor) for tensor in graph[name].data_inputs)
    return needed


def _with_variables(graph: Graph, file: TfFile, needed: Set[str]) -> Graph:
    """The graph with those variables that the checkpoint holds; the needed ones must be there."""
    nodes = [node for node in graph if node.op in VARIABLES]
    first = next((node.name for node in nodes if node.name in needed), None)
    bundle = _bundle(file, first)
    if bundle is None:
        return graph
    try:
        places = saved_places(graph.nodes, file.restore_op)
    except GraphError as error:
        raise ModelError("%s: its saver is damaged: %s" % (file.path, error)) from error
    variables: Dict[str, Variable] = {}
    for node in nodes:
        try:
            variables[node.name] = find_variable(node, places, bundle)
        except GraphError as error:
            if node.name in needed:
                raise ModelError(
                    "the variable %r of %s doesn't fit the checkpoint %s: %s; are they of the same"
                    " model?" % (node.name, file.path, file.checkpoint, error)
                ) from error
    return graph.replaced(nodes=_shaped(graph, variables), variables=variables)


def _bundle(file: TfFile, first: Optional[str]) -> Optional[Bundle]:
    """The checkpoint; None if no variable is needed. ``first`` is one that is."""
    if first is None:
        return None
    if file.checkpoint is None:
        raise ModelError(
            "%s isn't frozen: its variable %r is in a checkpoint; name that, or freeze the graph"
            % (file.path, first)
        )
    try:
        return read_bundle(file.checkpoint)
    except ModelError as error:
        raise ModelError("%s (%s needs it)" % (error, file.path)) from error


def _shaped(graph: Graph, variables: Mapping[str, Variable]) -> List[Node]:
    """The nodes, where a variable whose shape the graph leaves open has that of its value."""
    return [
        node.with_attrs(shape=variables[node.name].shape)
        if node.name in variables and node.attrs.get("shape") != variables[node.name].shape
        else node
        for node in graph
    ]
