"""Reading a SavedModel directory of TensorFlow 1: ``saved_model.pb`` and ``variables/``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from bert_serving.graph_opt.errors import ModelError
from bert_serving.graph_opt.sources.tf_files import Signature, TfFile, from_meta_graph, parse
from bert_serving.graph_opt.tf_messages import SavedModel

__all__ = ["FILE", "is_saved_model", "read_saved_model"]

FILE = "saved_model.pb"
_TEXT = "saved_model.pbtxt"
_TAG = "serve"
_SIGNATURE = "serving_default"


def is_saved_model(path: Path) -> bool:
    """Whether a path is a SavedModel's directory, or the file in it."""
    return (path / FILE).is_file() or (path / _TEXT).is_file() or path.name == FILE


def read_saved_model(path: Path) -> TfFile:
    """The graph tagged "serve", or the only one; no tensor is read.

    Raises:
        ModelError: a file is missing or damaged, several graphs are there to choose from, or it
            was written by TensorFlow 2, whose models are programs rather than graphs.
    """
    directory = path.parent if path.name == FILE else path
    file = directory / FILE
    if not file.is_file() and (directory / _TEXT).is_file():
        raise ModelError("%s is in text form; save the model as %s" % (directory / _TEXT, FILE))
    saved = parse(SavedModel, file)
    meta = _serving(saved, file)
    if meta.object_graph_def:
        raise ModelError(
            "%s was saved by TensorFlow 2, as objects and functions; freeze its signature"
            " (convert_variables_to_constants_v2) and name the frozen .pb, or save it with"
            " tf.compat.v1.saved_model.simple_save" % file
        )
    return from_meta_graph(meta, file, directory / "variables" / "variables", _signature(meta))


def _serving(saved: Any, file: Path) -> Any:
    found = list(saved.meta_graphs)
    tagged = [meta for meta in found if _TAG in meta.meta_info_def.tags] or found
    if len(tagged) > 1:
        # A model may be there for CPUs and, with more tags, for TPUs.
        tagged = [meta for meta in tagged if list(meta.meta_info_def.tags) == [_TAG]]
    if len(tagged) != 1:
        tags = ["+".join(meta.meta_info_def.tags) or "none" for meta in found]
        raise ModelError(
            "%s holds %d graphs (tags: %s), and none is clearly the one to serve: save it with the"
            ' tag "%s"' % (file, len(found), ", ".join(tags) or "none", _TAG)
        )
    return tagged[0]


def _signature(meta: Any) -> Optional[Signature]:
    """The one named "serving_default", or the only one that has inputs."""
    signatures = {
        name: one for name, one in meta.signature_def.items() if one.inputs and one.outputs
    }
    chosen = signatures.get(_SIGNATURE)
    if chosen is None:
        if len(signatures) != 1:
            return None
        (chosen,) = signatures.values()
    inputs = {name: info.name for name, info in sorted(chosen.inputs.items())}
    outputs = {name: info.name for name, info in sorted(chosen.outputs.items())}
    if not all(inputs.values()) or not all(outputs.values()):
        return None  # sparse tensors, which have no name of their own
    return Signature(inputs, outputs)
