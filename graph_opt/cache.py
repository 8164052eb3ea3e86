"""Optimized graphs on disk, found again by what they were made from.

A graph's key is the SHA-256 of the contents of the model's files, the options, the form that it is
made in, and the code of this package: whatever could change the result changes the key. Under
``<cache>/graphs/<key>/`` lie the model and ``meta.json``, which lists its files with their sizes.
An entry is made in a directory of its own and renamed when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from bert_serving.graph_opt.digests import sha256_of
from bert_serving.graph_opt.errors import GraphOptError, OptionError
from bert_serving.graph_opt.files import PathLike, atomic_write, locked, user_cache_dir
from bert_serving.graph_opt.heads import check_head
from bert_serving.graph_opt.pipeline import PassReport, Report, build, optimize, pipeline_for
from bert_serving.graph_opt.pooling import GraphOptions, output_dimension
from bert_serving.graph_opt.sources.model import ModelSource
from bert_serving.graph_opt.targets import write

__all__ = [
    "Artifact",
    "Form",
    "build_artifact",
    "cached_graph",
    "content_of",
    "entry_directory",
    "lookup",
    "sha256_of",
    "user_cache_dir",
]

META = "meta.json"
# What engines load; a SavedModel is for others, who say where they want it.
MODEL_FILES = {"onnx": "model.onnx", "pb": "model.pb"}

# No graph takes this long to write.
_ABANDONED_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Form:
    """For what a graph is made: ``target`` is "onnx" or "pb", the rest as in ``pipeline_for``.

    Raises:
        OptionError: an unknown target.
    """

    target: str = "onnx"
    precision: str = "fp32"
    device: str = "cpu"
    packed: bool = False

    def __post_init__(self) -> None:
        if self.target not in MODEL_FILES:
            raise OptionError("target %r isn't one of %s" % (self.target, ", ".join(MODEL_FILES)))


@dataclass(frozen=True)
class Artifact:
    """A graph on disk. ``hit``: it was there already. ``dimension``: components of a vector."""

    path: Path
    directory: Path
    hit: bool
    dimension: int
    report: Report


DEFAULT_FORM = Form()


def cached_graph(
    source: ModelSource,
    options: GraphOptions,
    form: Form = DEFAULT_FORM,
    *,
    directory: Optional[PathLike] = None,
) -> Artifact:
    """The optimized graph of a model, from the cache or made now.

    ``directory`` is the cache's, :func:`user_cache_dir` by default.

    Raises:
        OptionError: an option that the model can't satisfy, or an unknown precision or device.
        ModelError: a file of the model is damaged.
        GraphOptError: the cache can't be written.
    """
    found = lookup(source, options, form, directory=directory)
    return found or build_artifact(source, options, form, directory=directory)


def lookup(
    source: ModelSource,
    options: GraphOptions,
    form: Form = DEFAULT_FORM,
    *,
    directory: Optional[PathLike] = None,
) -> Optional[Artifact]:
    """The cached graph, or None if there is none or it is damaged. Loads no format library.

    Raises:
        GraphOptError: as :func:`cached_graph`, but the cache needn't be writable.
    """
    entry = entry_directory(source, options, form, directory)
    return _read_entry(entry, form.target, hit=True)


def build_artifact(
    source: ModelSource,
    options: GraphOptions,
    form: Form = DEFAULT_FORM,
    *,
    directory: Optional[PathLike] = None,
) -> Artifact:
    """Make the graph and put it into the cache, in place of an entry that is damaged.

    Raises:
        GraphOptError: as :func:`cached_graph`.
    """
    pipeline = pipeline_for(form.precision, form.target, form.device, form.packed)
    entry = entry_directory(source, options, form, directory)
    graph, report = optimize(build(source, options), pipeline)
    temporary = entry.with_name(".%s.%s" % (entry.name, uuid.uuid4().hex))
    try:
        temporary.mkdir(parents=True)
        _sweep(entry.parent)
        files = _write_target(graph, temporary, form.target)
        meta = {
            "form": asdict(form),
            "options": asdict(options),
            "dimension": output_dimension(source.config, options),
            "files": {path.name: path.stat().st_size for path in files},
            "passes": [asdict(one) for one in report.passes],
        }
        atomic_write(temporary / META, json.dumps(meta, indent=1))
        _install(temporary, entry, form.target)
    except OSError as error:
        raise GraphOptError(
            "can't write the optimized graph to %s: %s; free some space, or name another directory"
            " in the environment variable BERT_SERVING_CACHE"
            % (entry.parent, error.strerror or error)
        ) from error
    finally:
        shutil.rmtree(str(temporary), ignore_errors=True)
    artifact = _read_entry(entry, form.target, hit=False)
    if artifact is None:
        raise GraphOptError("the optimized graph in %s was damaged as it was written" % entry)
    return artifact


def _sweep(directory: Path) -> None:
    """Remove what writers that were killed left behind."""
    for path in directory.glob(".*"):
        try:
            abandoned = time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
        except FileNotFoundError:
            continue  # its writer finished just now
        if abandoned:
            shutil.rmtree(str(path), ignore_errors=True)


def _install(temporary: Path, entry: Path, target: str) -> None:
    """Move a finished entry to its place, unless another writer was faster.

    A directory replaces an empty one only, so a damaged entry is removed first. One writer does
    this at a time: another one could remove what the first has just put there.
    """
    with locked(entry.parent.with_suffix(".lock")):
        if _read_entry(entry, target, hit=True) is None:
            shutil.rmtree(str(entry), ignore_errors=True)
            os.rename(str(temporary), str(entry))


def _write_target(graph: Any, directory: Path, target: str) -> Tuple[Path, ...]:
    return write(graph, directory / MODEL_FILES[target], target)


def entry_directory(
    source: ModelSource, options: GraphOptions, form: Form, directory: Optional[PathLike]
) -> Path:
    """Where the graph of a model lies in the cache, or would: it tells the content of all that
    decides it.

    Raises:
        OptionError: an option that the model can't satisfy.
    """
    options.check_layers(source.config)
    check_head(source, options.pooling_strategy, options.num_labels)
    cache = Path(directory) if directory else user_cache_dir()
    content = content_of(source, options, cache)
    identity = dict(content, form=asdict(form), code=_code_digest())
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode("utf-8")).hexdigest()
    return cache / "graphs" / key


def content_of(
    source: ModelSource, options: GraphOptions, directory: Optional[PathLike]
) -> Dict[str, Any]:
    """What is computed by a model's graph, in whatever form and by whatever version of this package
    it is made: plain values, which are equal for equal files and options.

    Raises:
        GraphOptError: a file can't be read.
    """
    return {
        "files": [[path.name, sha256_of(path, directory)] for path in source.files],
        "layout": source.layout,
        "options": asdict(options),
    }


@lru_cache(maxsize=None)
def _code_digest() -> str:
    """SHA-256 of this package's source files."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode("utf-8") + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _read_entry(entry: Path, target: str, hit: bool) -> Optional[Artifact]:
    """The entry, if its description can be read and its files have the sizes it says."""
    try:
        meta: Dict[str, Any] = json.loads((entry / META).read_text(encoding="utf-8"))
        complete = MODEL_FILES[target] in meta["files"] and all(
            (entry / name).stat().st_size == size for name, size in meta["files"].items()
        )
        report = Report(tuple(PassReport(**_as_tuples(one)) for one in meta["passes"]))
        dimension = int(meta["dimension"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Absent, or damaged: either way it must be made.
        return None
    if not complete:
        return None
    return Artifact(entry / MODEL_FILES[target], entry, hit, dimension, report)


def _as_tuples(fields: Dict[str, Any]) -> Dict[str, Any]:
    """Undo what JSON does to tuples."""
    return {name: _frozen(value) for name, value in fields.items()}


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value
