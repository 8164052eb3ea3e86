"""Sources: model directories, read without any engine."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from bert_serving.graph_opt.errors import ModelError
from bert_serving.graph_opt.files import PathLike
from bert_serving.graph_opt.sources.huggingface import CONFIG, read_huggingface
from bert_serving.graph_opt.sources.model import ModelDefaults, ModelSource, TokenizerOptions
from bert_serving.graph_opt.sources.tf_checkpoint import read_tf_checkpoint

__all__ = ["ModelDefaults", "ModelSource", "TokenizerOptions", "read_model"]


def read_model(
    model_dir: PathLike,
    *,
    config_name: str = "bert_config.json",
    ckpt_name: str = "bert_model.ckpt",
    tuned_model_dir: Optional[PathLike] = None,
) -> ModelSource:
    """Read a model directory in Google's or Hugging Face's layout; tensors stay in the files.

    Google's it is if ``config_name`` is there, Hugging Face's if ``config.json`` is.
    ``tuned_model_dir``, for Google's layout only, holds the checkpoint instead of ``model_dir``.

    Raises:
        ModelError: a file is missing or damaged, the weights don't fit the config, or the model
            isn't a BERT; the message names the file or tensor.
    """
    directory = Path(model_dir)
    tuned = Path(tuned_model_dir) if tuned_model_dir else None
    for path in (directory, tuned):
        if path is not None and not path.is_dir():
            raise ModelError("the model directory %s doesn't exist" % path)
    if (directory / config_name).is_file() and not _is_huggingface(directory, config_name):
        return read_tf_checkpoint(directory, config_name, ckpt_name, tuned)
    if (directory / CONFIG).is_file():
        if tuned is not None:
            raise ModelError(
                "tuned_model_dir is for models in Google's layout, and %s is in Hugging Face's:"
                " name the fine-tuned model's own directory as model_dir" % directory
            )
        return read_huggingface(directory)
    raise ModelError(
        "%s is no model directory: it has neither %s (Google's layout, beside vocab.txt and %s.*)"
        " nor %s (Hugging Face's, beside vocab.txt and model.safetensors)"
        % (directory, config_name, ckpt_name, CONFIG)
    )


def _is_huggingface(directory: Path, config_name: str) -> bool:
    """``-config_name config.json`` fits both layouts: weights in safetensors decide."""
    return config_name == CONFIG and any(directory.glob("*.safetensors*"))
