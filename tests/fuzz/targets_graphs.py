"""Target: TensorFlow's graphs, from the file through every pass to ONNX."""

from __future__ import annotations

import json
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, List, Tuple

from fuzz.container import Entry, pack, unpack, write_files
from fuzz.engine import Target
from fuzz.formats import mutate_container
from fuzz.targets_models import google_seeds

from bert_serving.graph_opt.defaults import resolve_options
from bert_serving.graph_opt.errors import GraphOptError
from bert_serving.graph_opt.passes.freeze import freeze
from bert_serving.graph_opt.pipeline import build, optimize, pipeline_for
from bert_serving.graph_opt.sources import read_model
from bert_serving.graph_opt.sources.tf_graph import read_tf_graph
from bert_serving.graph_opt.targets import write

__all__ = ["TARGETS"]

DATA = Path(__file__).resolve().parents[1] / "unit" / "graph_opt" / "data"
NAMES = "names.json"
PRECISIONS = ("fp32", "fp16", "int8")
#: Each with the names that its tests use.
GRAPHS: Tuple[Tuple[str, List[str], List[str]], ...] = (
    ("graphs/frozen.pb", ["x"], ["y"]),
    ("graphs/frozen.pbtxt", ["x"], ["y"]),
    ("graphs/cond_v1.meta", ["x=IteratorGetNext:1"], ["logits"]),
    ("graphs/cond_v2.meta", ["x=IteratorGetNext:1"], ["logits:0"]),
    ("graphs/functions.meta", ["x"], ["y"]),
    ("graphs/other.meta", ["ids"], ["rows"]),
    ("graphs/parts.meta", ["ids"], ["rows"]),
    ("graphs/variables.meta", ["x", "ids"], ["probabilities"]),
    ("graphs/whole.meta", ["ids"], ["rows"]),
    ("training/dropouts.meta", ["x"], ["out"]),
    ("training/loop.meta", ["x"], ["out"]),
)


def run(data: bytes) -> None:
    """Read a graph with the names given, optimize it, and write it."""
    entries = unpack(data)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_files(entries, directory)
        graph = read_tf_graph(_path(entries, directory), *_names(entries))
        # The precision is any one, and the same for the same input.
        for target in _targets():
            passes = pipeline_for(PRECISIONS[len(data) % len(PRECISIONS)], target)
            write(optimize(graph, passes)[0], directory / "out", target)


def _targets() -> List[str]:
    return ["onnx", "pb"] if find_spec("onnx") else ["pb"]


def _path(entries: List[Entry], directory: Path) -> Path:
    for name, _ in entries:
        if name.endswith((".meta", ".pb", ".pbtxt")):
            return directory if name.startswith("saved_model") else directory / name
    return directory


def _names(entries: List[Entry]) -> Any:
    try:
        inputs, outputs = json.loads(dict(entries)[NAMES].decode("ascii"))
        if all(isinstance(one, str) for one in inputs + outputs):
            return inputs, outputs
    except (KeyError, ValueError, TypeError, RecursionError):
        pass
    return None, None


def seeds() -> List[bytes]:
    found = []
    for place, inputs, outputs in GRAPHS:
        path = DATA / place
        files = [path] + sorted(path.parent.glob(path.stem + ".index"))
        files += sorted(path.parent.glob(path.stem + ".data-*"))
        entries = [(NAMES, json.dumps([inputs, outputs]).encode("ascii"))]
        found.append(pack(entries + [(one.name, one.read_bytes()) for one in files]))
    found.append(pack([("frozen.pb", (DATA / "graphs" / "frozen.pb").read_bytes())]))
    saved = DATA / "graphs" / "saved_model"
    found.append(
        pack(
            [
                (str(path.relative_to(saved)), path.read_bytes())
                for path in sorted(saved.rglob("*"))
                if path.is_file()
            ]
        )
    )
    return found + [_bert()]


def _bert() -> bytes:
    """A model of two layers as TensorFlow would have it: most passes find something in it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_files(unpack(google_seeds()[0]), directory)
        source = read_model(directory)
        graph, _ = freeze(build(source, resolve_options(source)))
        write(graph, directory / "bert.pb", "pb")
        names = [list(graph.inputs), list(graph.outputs)]
        content = (directory / "bert.pb").read_bytes()
    return pack([(NAMES, json.dumps(names).encode("ascii")), ("bert.pb", content)])


TARGETS = (Target("graph", run, (GraphOptError,), seeds, mutate_container),)
