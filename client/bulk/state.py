"""What a run remembers, so that an interrupted one goes on: the file ``OUT.progress``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from bert_serving.client.bulk.errors import UsageError
from bert_serving.client.bulk.rows import Batch, Position

__all__ = ["State", "differences", "load", "model_identity", "save"]

FORMAT = 1
FINGERPRINT = "model_fingerprint"
#: What of a server's configuration decides the vectors, as far as it says it. The fingerprint says
#: it all, but a 1.10 server has none, and the others tell a user what is different.
MODEL_KEYS = (
    FINGERPRINT,
    "model",
    "model_dir",
    "tuned_model_dir",
    "ckpt_name",
    "engine",
    "precision",
    "max_seq_len",
    "max_length",
    "pooling_strategy",
    "pooling_layer",
    "normalize",
    "do_lower_case",
    "mask_cls_sep",
    "no_special_token",
    "no_position_embeddings",
)
#: Values of options that let only rows pass of which any other value makes the same.
STRICTEST = {"blank": "error", "truncate": "error"}


COUNTS = ("rows", "offset", "line", "consumed", "truncated")


@dataclass(frozen=True)
class State:
    """How far a run is, and of what; the first three decide the output.

    ``model`` is what the server said, with the ``dimension`` of its vectors; empty before it was
    asked. ``rows`` are written and counted in ``sizes``, the bytes of each file; ``offset`` and
    ``line`` are the input's position behind them. ``truncated`` texts were longer than the server
    takes. ``complete``: nothing but making the output of it is left.
    """

    input: Mapping[str, Any]
    options: Mapping[str, Any]
    model: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 0
    offset: int = 0
    line: int = 0
    consumed: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    truncated: int = 0
    complete: bool = False

    @property
    def position(self) -> Position:
        """Where the input is to be read on."""
        return Position(self.offset, self.line)

    def after(self, batch: Batch, sizes: Mapping[str, int], truncated: int) -> "State":
        """The state when ``batch`` is written too."""
        return replace(
            self,
            rows=self.rows + len(batch.texts),
            offset=batch.end.offset,
            line=batch.end.line,
            consumed=batch.consumed,
            sizes=sizes,
            truncated=self.truncated + truncated,
        )


def model_identity(config: Mapping[str, Any], dimension: int) -> Dict[str, Any]:
    """What of a server's configuration decides the vectors. It is like what JSON gives back."""
    found = {key: config[key] for key in MODEL_KEYS if key in config}
    return dict(found, dimension=dimension)


def save(state: State) -> bytes:
    """The content of the progress file."""
    return json.dumps(dict(asdict(state), format=FORMAT), indent=1).encode("ascii") + b"\n"


def load(path: Path) -> Optional[State]:
    """The state in a progress file; None if there is no such file. Raises UsageError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError("can't read %s: %s" % (path, error.strerror)) from error
    try:
        values = json.loads(data.decode("ascii"))
        if values.pop("format") != FORMAT:
            raise ValueError("it is of another version")
        return _checked(State(**values))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UsageError(
            "%s can't be read (%s): finish with the version that wrote it, or begin anew by "
            "--restart" % (path, error)
        ) from error


def _checked(state: State) -> State:
    """``state`` itself; raises ValueError for values that no run writes."""
    for name in ("input", "options", "model", "sizes"):
        values = getattr(state, name)
        if not isinstance(values, dict) or not all(map(_is_plain, values.values())):
            raise ValueError("its %s is no object of plain values" % name)
    numbers = {name: getattr(state, name) for name in COUNTS}
    numbers.update(state.sizes)
    if state.model:
        numbers["dimension"] = state.model.get("dimension")
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise ValueError("its %s is no number of something" % name)
    if not isinstance(state.complete, bool):
        raise ValueError("it says neither that it is complete nor that it isn't")
    if state.rows and not state.model:
        raise ValueError("it has rows of no model")
    return state


def _is_plain(value: Any) -> bool:
    """Whether a value is one, or a list of some: what is nested deep can't be shown or written."""
    values = value if isinstance(value, list) else [value]
    return all(one is None or isinstance(one, (str, int, float)) for one in values)


def differences(before: State, now: State) -> List[str]:
    """In what two runs differ, for a message; nothing if one can go on with the other."""
    found = []
    if before.input != now.input:
        found.append("the input has changed since")
    for name, value in now.options.items():
        old = before.options.get(name)
        # A run that would have ended with an error has no rows that another value changes.
        if old not in (value, STRICTEST.get(name, value)):
            found.append("--%s was %s and is %s" % (name, _shown(old), _shown(value)))
    # One of the two may not have asked a server yet.
    if before.model and now.model and not _is_same_model(before.model, now.model):
        for key in sorted({*before.model, *now.model}):
            old, new = before.model.get(key), now.model.get(key)
            if old != new:
                found.append("the server's %s was %s and is %s" % (key, _shown(old), _shown(new)))
    return found


def _is_same_model(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two servers give the same vectors. Where a model's files lie makes no difference,
    and an engine none that the fingerprint doesn't count.
    """
    if before.get(FINGERPRINT) and now.get(FINGERPRINT):
        keys = (FINGERPRINT, "dimension")  # of the vectors: a run may ask for other ones
        return all(before.get(key) == now.get(key) for key in keys)
    return before == now


def _shown(value: Any) -> str:
    return "not given" if value is None else str(value)
