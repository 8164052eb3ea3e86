"""What every source gives: a model directory, read and checked, its tensors not yet loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Optional, Tuple

from bert_serving.graph_opt.config import BertConfig
from bert_serving.graph_opt.errors import ModelError
from bert_serving.graph_opt.graph import Variable

__all__ = ["ModelDefaults", "ModelSource", "TokenizerOptions", "read_json"]


@dataclass(frozen=True)
class TokenizerOptions:
    """How the model's texts were tokenized. None: the directory doesn't say, the caller decides."""

    lowercase: Optional[bool] = None
    strip_accents: Optional[bool] = None
    tokenize_chinese_chars: bool = True


@dataclass(frozen=True)
class ModelDefaults:
    """What the model's makers computed its vectors with. None: the directory doesn't say.

    ``unsupported`` explains why the makers' way can't be followed; whoever starts a server must
    then name a pooling strategy.
    """

    pooling_strategy: Optional[str] = None
    pooling_layers: Optional[Tuple[int, ...]] = None
    normalize: Optional[bool] = None
    max_seq_len: Optional[int] = None
    unsupported: Optional[str] = None


@dataclass(frozen=True)
class ModelSource:
    """A model directory. ``variables`` has Google's names; ``files`` decide what is computed."""

    layout: str  # "google" or "huggingface"
    directory: Path
    config: BertConfig
    vocab_file: Path
    variables: Mapping[str, Variable] = field(repr=False)
    files: Tuple[Path, ...]
    tokenizer: TokenizerOptions = TokenizerOptions()
    defaults: ModelDefaults = ModelDefaults()


def read_json(path: Path) -> Any:
    """Parse a JSON file of the model.

    Raises:
        ModelError: it can't be read, isn't UTF-8 or isn't JSON; names the file, and the position
            where there is one.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError("can't read %s: %s" % (path, error.strerror or error)) from error
    except UnicodeDecodeError as error:
        raise ModelError("%s isn't UTF-8 text: byte %d" % (path, error.start)) from error
    except json.JSONDecodeError as error:
        raise ModelError(
            "%s isn't JSON: %s at line %d, column %d" % (path, error.msg, error.lineno, error.colno)
        ) from error
    # A path with a NUL, a number of thousands of digits, or brackets nested as deep.
    except (ValueError, RecursionError) as error:
        raise ModelError("can't read %s: %s" % (str(path)[:1000], error)) from error
