"""A batch as the workers get it, and as graphs want it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Collection, Dict

import numpy as np

__all__ = ["Features", "takes_packed"]

#: An input that only graphs on packed tokens have: see graph_opt's pass ``unpad``.
_SLOTS = "slots"
_NAMES = ("input_ids", "input_type_ids", "input_mask")


@dataclass(frozen=True)
class Features:
    """Rows of at least one token each, one after another without padding.

    ``tokens``: int32 [3, tokens], token ids, segment ids and attention mask; ``lengths``: int32
    [rows].
    """

    tokens: np.ndarray
    lengths: np.ndarray

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @property
    def starts(self) -> np.ndarray:
        """Place of each row's first token among all, [rows]."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def positions(self) -> np.ndarray:
        """Place of each token in its row, [tokens]."""
        return np.arange(self.tokens.shape[1]) - np.repeat(self.starts, self.lengths)

    @property
    def valid(self) -> np.ndarray:
        """Bool [rows, longest]: where there is a token rather than padding."""
        return np.arange(self.lengths.max()) < self.lengths[:, None]

    def feeds(self, inputs: Collection[str]) -> Dict[str, np.ndarray]:
        """The arrays for a graph with these inputs, all int32: padded, or packed if it takes that.

        Padded places hold 0 in padded arrays.
        """
        valid = self.valid
        if takes_packed(inputs):
            feeds = self._packed(valid)
        else:
            padded = np.zeros((3,) + valid.shape, np.int32)
            padded[:, valid] = self.tokens
            feeds = dict(zip(_NAMES, padded))
        return {name: array for name, array in feeds.items() if name in inputs}

    def _packed(self, valid: np.ndarray) -> Dict[str, np.ndarray]:
        feeds = dict(zip(_NAMES, self.tokens))
        feeds["input_mask"] = np.zeros(valid.shape, np.int32)
        feeds["input_mask"][valid] = self.tokens[2]
        # Where there is padding, the row's last token: of its own row, so that nothing depends on
        # the company.
        steps = np.minimum(np.arange(valid.shape[1]), self.lengths[:, None] - 1)
        feeds[_SLOTS] = (self.starts[:, None] + steps).ravel().astype(np.int32)
        feeds["places"] = np.flatnonzero(valid).astype(np.int32)
        feeds["positions"] = self.positions.astype(np.int32)
        return feeds


def takes_packed(inputs: Collection[str]) -> bool:
    """Whether a graph with these inputs takes batches without padding."""
    return _SLOTS in inputs
