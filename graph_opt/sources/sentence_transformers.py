"""What a sentence-transformers model says about pooling, normalization and length.

``modules.json`` lists the modules; a Pooling module's directory has a ``config.json`` with
``pooling_mode_*`` flags (until version 5) or one ``pooling_mode``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from bert_serving.graph_opt.errors import ModelError
from bert_serving.graph_opt.sources.model import ModelDefaults, read_json

__all__ = ["read_defaults"]

MODULES = "modules.json"
LENGTHS = "sentence_bert_config.json"

_MODES = {
    "cls": "CLS_TOKEN",
    "cls_token": "CLS_TOKEN",
    "lasttoken": "LAST_TOKEN",
    "max": "REDUCE_MAX",
    "max_tokens": "REDUCE_MAX",
    "mean": "REDUCE_MEAN",
    "mean_tokens": "REDUCE_MEAN",
}


def read_defaults(directory: Path) -> ModelDefaults:
    """The defaults of a model directory; none where there is no ``modules.json``.

    What can't be followed is explained in ``unsupported``.

    Raises:
        ModelError: a file can't be read or parsed.
    """
    path = directory / MODULES
    if not path.is_file():
        return ModelDefaults()
    modules = read_json(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelError("%s holds no list of modules" % path)
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
    max_seq_len = _max_seq_len(directory)
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        message = "%s lists the modules %s; only Transformer, Pooling and Normalize are supported"
        return ModelDefaults(
            max_seq_len=max_seq_len, unsupported=message % (path, ", ".join(kinds) or "(none)")
        )
    pooling_file = directory / str(modules[1].get("path", "")) / "config.json"
    modes = _pooling_modes(pooling_file)
    if len(modes) != 1 or modes[0] not in _MODES:
        message = (
            "%s asks for the pooling %s; only one of mean, max, cls and lasttoken is supported"
        )
        return ModelDefaults(
            max_seq_len=max_seq_len,
            unsupported=message % (pooling_file, " and ".join(modes) or "(none)"),
        )
    return ModelDefaults(
        pooling_strategy=_MODES[modes[0]],
        pooling_layers=(-1,),
        normalize=kinds[2:] == ["Normalize"],
        max_seq_len=max_seq_len,
    )


def _pooling_modes(path: Path) -> List[str]:
    values = _object(path)
    named = values.get("pooling_mode")
    if isinstance(named, str):
        return [named]
    if isinstance(named, list):
        return [str(mode) for mode in named]
    prefix = "pooling_mode_"
    return [key[len(prefix) :] for key, on in values.items() if key.startswith(prefix) and on]


def _max_seq_len(directory: Path) -> Optional[int]:
    path = directory / LENGTHS
    if not path.is_file():
        return None
    value = _object(path).get("max_seq_length")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError("%s: max_seq_length must be a positive integer, not %r" % (path, value))
    return value


def _object(path: Path) -> Mapping[str, Any]:
    values: Dict[str, Any] = read_json(path)
    if not isinstance(values, dict):
        raise ModelError("%s holds no JSON object" % path)
    return values
