"""Word pieces to sequences, as 1.10 does it: what is too long is cut, special tokens go around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from bert_serving.server.slices import Span, kept

__all__ = ["Encoded", "EncodedTexts", "Pieces", "SequenceMaker", "TextTooLong", "merge"]

#: Of both texts of a pair; the second one is empty where there is none.
Pieces = Tuple[List[int], List[int]]
#: Special tokens lie nowhere.
NOWHERE: List[Span] = [(0, 0)]


class TextTooLong(ValueError):
    """A text has more tokens than a sequence may have, and must not be cut.

    ``index`` is its place among the texts; ``length`` and ``limit`` count the special tokens too.
    """

    def __init__(self, index: int, length: int, limit: int) -> None:
        super().__init__(
            "text %d has %d tokens with the special ones, and %d is the limit; make it shorter, "
            "or allow to truncate it" % (index, length, limit)
        )
        self.index = index
        self.length = length
        self.limit = limit


class Encoded(NamedTuple):
    """One text, ready for the model."""

    features: np.ndarray  # int32 [3, length]: token ids, segment ids, attention mask
    #: Tokens of both texts before truncation, without special tokens; ``max_length`` at most, for
    #: more make no difference and needn't be counted.
    wanted_length: int
    is_pair: bool


@dataclass(frozen=True)
class EncodedTexts(Sequence[Encoded]):
    """Texts as columns: their features lie in one array, in any order.

    An array for each text would take longer to make than all else.
    """

    features: np.ndarray  # int32 [3, tokens]: as of Encoded, of all texts
    starts: List[int]  # where each text's features begin
    lengths: List[int]
    wanted: List[int]  # see Encoded
    pairs: List[bool]
    truncated: List[int]  # the places of the texts that were cut, in ascending order
    #: A text's tokens in the characters of that text, (0, 0) for special ones; None: not asked for.
    offsets: Optional[List[List[Span]]] = None

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Any:
        """A text; slices aren't supported."""
        start = self.starts[index]
        features = self.features[:, start : start + self.lengths[index]]
        return Encoded(features, self.wanted[index], self.pairs[index])


class SequenceMaker:
    """Makes sequences of at most ``max_length`` tokens, which is 4 or more.

    ``mask_special``: the model doesn't look at special tokens. ``left``, where methods have it:
    what is too long loses its first tokens rather than its last.
    """

    def __init__(self, cls_id: int, sep_id: int, max_length: int, mask_special: bool) -> None:
        self._cls, self._sep = [cls_id], [sep_id]
        self._most = max_length
        self._mask_special = mask_special

    def make(self, texts: Sequence[Pieces], left: bool, bare: bool = False) -> EncodedTexts:
        """``bare``: put no special tokens around a text that is no pair."""
        most = self._most
        room = most if bare else most - 2
        ids: List[int] = []
        seconds: List[Tuple[int, int]] = []  # where in ``ids`` each second text lies
        special: List[int] = []  # where the special tokens are
        starts: List[int] = []
        lengths: List[int] = []
        wanted: List[int] = []
        pairs: List[bool] = []
        truncated: List[int] = []
        for number, (first, second) in enumerate(texts):
            start = len(ids)
            length = len(first) + len(second)
            starts.append(start)
            wanted.append(min(length, most))
            if second:
                pairs.append(True)
                if length > most - 3:
                    truncated.append(number)
                    first, second = _cut_pair(first, second, most - 3, left)
                boundary = start + len(first) + 2
                ids += self._cls + first + self._sep + second + self._sep
                seconds.append((boundary, len(ids)))
                special += (start, boundary - 1, len(ids) - 1)
            else:
                pairs.append(False)
                if length > room:
                    truncated.append(number)
                    first = kept(first, room, left)
                if bare:
                    ids += first
                else:
                    ids += self._cls + first + self._sep
                    special += (start, len(ids) - 1)
            lengths.append(len(ids) - start)
        features = np.empty((3, len(ids)), np.int32)
        features[0], features[1], features[2] = ids, 0, 1
        for start, stop in seconds:
            features[1, start:stop] = 1
        if self._mask_special:
            features[2, special] = 0
        return EncodedTexts(features, starts, lengths, wanted, pairs, truncated)

    def make_together(self, pieces: List[int], left: bool) -> EncodedTexts:
        """Of texts that aren't pairs: by a few calls for all of them.

        ``pieces`` has the ids of [SEP] and [CLS] between two texts, and [SEP] nowhere else.
        """
        most = self._most
        ids = np.array(self._cls + pieces + self._sep, np.int32)
        ends = np.flatnonzero(ids == self._sep[0])
        starts = np.concatenate(([0], ends[:-1] + 1))
        lengths = ends - starts + 1
        wanted = np.minimum(lengths - 2, most)
        truncated: List[int] = []
        if lengths.max() > most:
            truncated = np.flatnonzero(lengths > most).tolist()
            places = np.arange(len(ids)) - np.repeat(starts, lengths)
            if left:
                kept = places > np.repeat(np.maximum(lengths - most, 0), lengths)
                kept[starts] = True
            else:
                kept = places < most - 1
                kept[ends] = True
            ids, lengths = ids[kept], np.minimum(lengths, most)
            starts = np.cumsum(lengths) - lengths
            ends = starts + lengths - 1
        features = np.empty((3, len(ids)), np.int32)
        features[0], features[1], features[2] = ids, 0, 1
        if self._mask_special:
            features[2, starts] = features[2, ends] = 0
        starts, lengths, wanted = starts.tolist(), lengths.tolist(), wanted.tolist()
        return EncodedTexts(features, starts, lengths, wanted, [False] * len(starts), truncated)

    def spans(self, first: List[Span], second: List[Span], left: bool) -> List[Span]:
        """What :meth:`make` does to ids, done to where they lie: the spans of a sequence."""
        if not second:
            return NOWHERE + kept(first, self._most - 2, left) + NOWHERE
        first, second = _cut_pair(first, second, self._most - 3, left)
        return NOWHERE + first + NOWHERE + second + NOWHERE


def merge(*parts: Tuple[Sequence[int], EncodedTexts]) -> EncodedTexts:
    """All texts in the order of their numbers, which stand beside them; without offsets."""
    texts: List[Tuple[int, int, int, int, bool]] = []
    truncated: List[int] = []
    tokens = 0
    for numbers, one in parts:
        starts = [tokens + start for start in one.starts]
        texts += zip(numbers, starts, one.lengths, one.wanted, one.pairs)
        truncated += [numbers[place] for place in one.truncated]
        tokens += one.features.shape[1]
    _, starts, lengths, wanted, pairs = map(list, zip(*sorted(texts)))
    features = np.concatenate([one.features for _, one in parts], axis=1)
    return EncodedTexts(features, starts, lengths, wanted, pairs, sorted(truncated))


def _cut_pair(
    first: List[Any], second: List[Any], most: int, left: bool
) -> Tuple[List[Any], List[Any]]:
    """What is left if token after token goes from the longer of the two, and from the second if
    they are equal.
    """
    if len(first) + len(second) <= most:
        return first, second
    # The shorter one stays whole, unless both are longer than half of what is kept.
    keep = min(len(first), max(most - len(second), (most + 1) // 2))
    return kept(first, keep, left), kept(second, most - keep, left)
