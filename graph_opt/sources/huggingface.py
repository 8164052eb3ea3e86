"""Hugging Face's layout: ``config.json``, ``vocab.txt`` and ``model.safetensors``.

Tensors get Google's names. A Linear's weight is stored [out, in], a dense kernel is [in, out], so
weights are transposed.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from bert_serving.graph_opt.config import BertConfig
from bert_serving.graph_opt.errors import ModelError
from bert_serving.graph_opt.files import is_file
from bert_serving.graph_opt.graph import Variable
from bert_serving.graph_opt.sources.model import ModelSource, TokenizerOptions, read_json
from bert_serving.graph_opt.sources.safetensors_file import read_safetensors
from bert_serving.graph_opt.sources.sentence_transformers import read_defaults
from bert_serving.graph_opt.sources.vocabulary import find_vocabulary
from bert_serving.graph_opt.variables import (
    HEAD_BIAS,
    HEAD_WEIGHTS,
    check_variables,
    variable_shapes,
)

__all__ = ["CONFIG", "huggingface_name", "read_huggingface"]

CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLED = "pytorch_model.bin"
_CLASSIFIER = "BertForSequenceClassification"


def read_huggingface(directory: Path) -> ModelSource:
    """Read a BERT in Hugging Face's layout; its tensors stay in the files.

    Raises:
        ModelError: a file is missing or damaged, the weights don't fit the config, or the model
            isn't a BERT encoder.
    """
    config_file = directory / CONFIG
    values = read_json(config_file)
    config = BertConfig.from_json(_bert_only(values, config_file), str(config_file))
    vocab_file = find_vocabulary(directory)
    stored, files = _weights(directory)
    variables = _renamed(config, stored, files[0])
    variables.update(_head(values, stored))
    check_variables(config, variables, str(files[0]), str(config_file))
    return ModelSource(
        layout="huggingface",
        directory=directory,
        config=config,
        vocab_file=vocab_file,
        variables=variables,
        files=(config_file,) + files,
        tokenizer=_tokenizer(directory),
        defaults=read_defaults(directory),
    )


def huggingface_name(name: str) -> str:
    """Google's variable name as transformers' BertModel has it, without the prefix ``bert.``."""
    name = re.sub(r"^bert/", "", name)
    name = re.sub(r"layer_(\d+)", r"layer.\1", name)
    name = re.sub(r"/kernel$|/gamma$|_embeddings$", lambda end: _ENDS[end.group()], name)
    return name.replace("/beta", "/bias").replace("/", ".")


_ENDS = {"/kernel": "/weight", "/gamma": "/weight", "_embeddings": "_embeddings/weight"}


def _bert_only(values: Any, config_file: Path) -> Mapping[str, Any]:
    """The config, if it is a BERT encoder's."""
    if not isinstance(values, dict):
        raise ModelError("%s holds no JSON object" % config_file)
    kind = values.get("model_type")
    if kind is None:  # as transformers wrote it until 2019
        names = _architectures(values)
        kind = "bert" if names and all(name.startswith("Bert") for name in names) else None
    if kind != "bert":
        raise ModelError("%s: model_type is %r; only 'bert' can be served" % (config_file, kind))
    positions = values.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise ModelError(
            "%s: position_embedding_type is %r; only 'absolute' can be served"
            % (config_file, positions)
        )
    if values.get("is_decoder"):
        raise ModelError("%s: is_decoder is set; only encoders can be served" % config_file)
    return values


def _architectures(values: Mapping[str, Any]) -> List[str]:
    """The names of the classes that the model was saved from; none if they are no list."""
    names = values.get("architectures")
    return [str(name) for name in names] if isinstance(names, list) else []


def _weights(directory: Path) -> Tuple[Dict[str, Variable], Tuple[Path, ...]]:
    """The stored tensors, and the files that they are in."""
    single, index = directory / _WEIGHTS, directory / _INDEX
    if single.is_file():
        return read_safetensors(single), (single,)
    if index.is_file():
        return _sharded(directory, index)
    if (directory / _PICKLED).is_file():
        raise ModelError(
            "%s has its weights in %s only, a pickle, which isn't loaded because it can run any"
            " code; convert it to %s, e.g. with transformers:"
            " AutoModel.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True)"
            % (directory, _PICKLED, _WEIGHTS)
        )
    raise ModelError("%s has neither %s nor %s" % (directory, _WEIGHTS, _INDEX))


def _sharded(directory: Path, index: Path) -> Tuple[Dict[str, Variable], Tuple[Path, ...]]:
    values = read_json(index)
    places = values.get("weight_map") if isinstance(values, dict) else None
    if not isinstance(places, dict) or not places:
        raise ModelError("%s has no weight_map" % index)
    names = sorted({str(place) for place in places.values()})
    stored: Dict[str, Variable] = {}
    for name in names:
        if Path(name).name != name:
            raise ModelError("%s names a file outside its directory: %r" % (index, name))
        if not is_file(directory / name):
            raise ModelError("%s is missing; %s needs it" % (directory / name, index))
        stored.update(read_safetensors(directory / name))
    return stored, (index,) + tuple(directory / name for name in names)


def _renamed(
    config: BertConfig, stored: Mapping[str, Variable], weights: Path
) -> Dict[str, Variable]:
    variables = {}
    for name in variable_shapes(config):
        found = _find(stored, huggingface_name(name))
        if found is None:
            continue
        if found.dtype.kind != "f":
            raise ModelError(
                "%s: the tensor %r isn't stored as floating-point numbers of 16, 32 or 64 bits"
                % (weights, found.name)
            )
        shape, load = found.shape, found.load
        if name.endswith("/kernel"):
            shape, load = shape[::-1], partial(_transposed, found)
        variables[name] = Variable(name, shape, np.dtype("float32"), load)
    return variables


def _head(values: Mapping[str, Any], stored: Mapping[str, Variable]) -> Dict[str, Variable]:
    """A sequence classifier's head; other models' are called the same and do something else."""
    architectures = _architectures(values) or [_CLASSIFIER]
    head = {}
    for name, ours in (("classifier.weight", HEAD_WEIGHTS), ("classifier.bias", HEAD_BIAS)):
        found = stored.get(name)
        if _CLASSIFIER in architectures and found is not None and found.dtype.kind == "f":
            head[ours] = Variable(ours, found.shape, np.dtype("float32"), found.load)
    return head


def _find(stored: Mapping[str, Variable], name: str) -> Optional[Variable]:
    """A tensor under its name, a checkpoint's prefix, or the names of before 2019."""
    legacy = name.replace("LayerNorm.weight", "LayerNorm.gamma")
    legacy = legacy.replace("LayerNorm.bias", "LayerNorm.beta")
    for candidate in (name, "bert." + name, legacy, "bert." + legacy):
        if candidate in stored:
            return stored[candidate]
    return None


def _transposed(variable: Variable) -> np.ndarray:
    return variable.load().T


def _tokenizer(directory: Path) -> TokenizerOptions:
    path = directory / "tokenizer_config.json"
    values = read_json(path) if path.is_file() else {}
    if not isinstance(values, dict):
        raise ModelError("%s holds no JSON object" % path)
    return TokenizerOptions(
        lowercase=_flag(path, values, "do_lower_case", True),
        strip_accents=_flag(path, values, "strip_accents", None),
        tokenize_chinese_chars=bool(_flag(path, values, "tokenize_chinese_chars", True)),
    )


def _flag(
    path: Path, values: Mapping[str, Any], key: str, default: Optional[bool]
) -> Optional[bool]:
    value = values.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ModelError("%s: %s must be true or false, not %r" % (path, key, value))
    return value
