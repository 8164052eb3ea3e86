"""Google's layout: ``bert_config.json``, ``vocab.txt`` and a TensorFlow 1 checkpoint.

Fine-tuned checkpoints have more in them: a classifier's head is kept, optimizer slots are ignored.
Google's "gelu" is taken as the erf form, which is what bert-as-service computes.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Dict, Mapping, Optional

import numpy as np

from bert_serving.graph_opt.config import BertConfig
from bert_serving.graph_opt.errors import ModelError
from bert_serving.graph_opt.files import is_file
from bert_serving.graph_opt.graph import Variable
from bert_serving.graph_opt.sources.model import ModelSource, read_json
from bert_serving.graph_opt.sources.tensor_bundle import read_bundle
from bert_serving.graph_opt.sources.vocabulary import find_vocabulary
from bert_serving.graph_opt.variables import (
    HEAD_BIAS,
    HEAD_WEIGHTS,
    check_variables,
    variable_shapes,
)

__all__ = ["DEFAULT_NAME", "read_tf_checkpoint"]

#: That of the checkpoints that Google published.
DEFAULT_NAME = "bert_model.ckpt"


def read_tf_checkpoint(
    directory: Path, config_name: str, ckpt_name: str, tuned_directory: Optional[Path] = None
) -> ModelSource:
    """Read a model in Google's layout; its tensors stay in the files.

    ``tuned_directory`` holds the checkpoint of a fine-tuned model, whose config and vocabulary are
    those in ``directory``. Training numbers its checkpoints: where there is none of the default
    name, the newest is taken, by the file ``checkpoint`` that TensorFlow keeps beside them. A name
    of the caller's own choice is meant.

    Raises:
        ModelError: a file is missing or damaged, or the weights don't fit the config.
    """
    config_file = directory / config_name
    config = BertConfig.from_json(read_json(config_file), str(config_file))
    vocab_file = find_vocabulary(directory)
    prefix = _prefix(tuned_directory or directory, ckpt_name)
    bundle = read_bundle(prefix)
    variables = _wanted(config, bundle.variables, str(prefix))
    check_variables(config, variables, str(prefix), str(config_file))
    return ModelSource(
        layout="google",
        directory=directory,
        config=config,
        vocab_file=vocab_file,
        variables=variables,
        files=(config_file,) + bundle.files,
    )


def _prefix(directory: Path, ckpt_name: str) -> Path:
    """The checkpoint's path without ``.index``."""
    named = directory / ckpt_name
    state = directory / "checkpoint"
    if ckpt_name != DEFAULT_NAME or Path(str(named) + ".index").exists() or not state.is_file():
        return named
    # CheckpointState in text form (tensorflow/python/training/checkpoint_state.proto). Paths may be
    # absolute, and of the machine that trained: what counts is the name.
    text = state.read_text(encoding="utf-8", errors="replace")
    newest = re.search(r'^model_checkpoint_path: "(?:.*/)?([^"/]+)"', text, re.MULTILINE)
    if newest is None or not is_file(directory / (newest.group(1) + ".index")):
        return named
    return directory / newest.group(1)


def _wanted(config: BertConfig, stored: Mapping[str, Variable], prefix: str) -> Dict[str, Variable]:
    wanted = {}
    for name in tuple(variable_shapes(config)) + (HEAD_WEIGHTS, HEAD_BIAS):
        if name not in stored:
            continue
        variable = stored[name]
        if variable.dtype.kind != "f":
            if name in (HEAD_WEIGHTS, HEAD_BIAS):
                continue  # no classifier's, and nothing that the encoder needs
            raise ModelError(
                "%s: the tensor %r isn't stored as floating-point numbers of 16, 32 or 64 bits"
                % (prefix, name)
            )
        wanted[name] = Variable(
            name, variable.shape, np.dtype("float32"), partial(_as_float32, variable)
        )
    return wanted


def _as_float32(variable: Variable) -> np.ndarray:
    return np.asarray(variable.load(), np.dtype("float32"))
