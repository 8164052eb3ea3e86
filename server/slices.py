"""Long texts in slices, many texts in groups, so that what is made of them at a time takes bounded
memory. Pure.
"""

from __future__ import annotations

import re
from typing import Any, Iterator, List, Optional, Sequence, Tuple

__all__ = [
    "GROUP_CHARACTERS",
    "LONGEST_SLICE",
    "SLICE_CHARACTERS",
    "Span",
    "groups_of",
    "kept",
    "slices_of",
]

#: Where something lies in a text: its first character, and the one after its last.
Span = Tuple[int, int]
#: Those of a slice, but for the word at its end: as many as usually are enough for a sequence.
SLICE_CHARACTERS = 2**13
#: Those of a group. The Rust library takes up to 600 bytes for each.
GROUP_CHARACTERS = 2**16
#: Without white space or punctuation in so many characters, a slice ends anywhere.
LONGEST_WORD = 2**18
LONGEST_SLICE = SLICE_CHARACTERS + LONGEST_WORD
# Before any of these a word ends, whatever else the text has: they are no control characters, are
# kept by folding, and no accent becomes one with them. There are others, but these come often.
BEFORE = r"\t\n\r \u3000-\u3002\uff01\uff0c\uff1f"
IDEOGRAPHS = r"\u4e00-\u9fff"
# What Python looks beyond to see whether a sigma is at the end of its word isn't among the second.
PUNCTUATION, NOT_IN_WORDS = r"!-/:-@\[-`{-~", r"!-&(-\-/;-@\[-\]_{-~"


def slices_of(text: str, is_plain: bool, split_chinese: bool, sigma: bool) -> List[Span]:
    """Consecutive slices of ``text``, whose words are together those of the text.

    ``is_plain``: it consists of visible ASCII characters and white space, and then a word may be
    of any length, which may make a slice longer than LONGEST_SLICE; in other texts one of more
    than LONGEST_WORD characters may become two.
    ``split_chinese``: ideographs are words; ``sigma``: what is a final one is decided later.
    """
    if len(text) <= SLICE_CHARACTERS:
        return [(0, len(text))]
    edge = re.compile(
        "[%s%s%s]"
        % (BEFORE, NOT_IN_WORDS if sigma else PUNCTUATION, IDEOGRAPHS if split_chinese else "")
    )
    longest = len(text) if is_plain else LONGEST_WORD
    slices = []
    start = 0
    while len(text) - start > SLICE_CHARACTERS:
        least = start + SLICE_CHARACTERS
        most = min(least + longest, len(text))
        found = edge.search(text, least, most)
        stop = found.start() if found else most
        slices.append((start, stop))
        start = stop
    slices.append((start, len(text)))
    return slices


def groups_of(texts: Sequence[str]) -> Iterator[List[str]]:
    """All texts in their order, several at a time if they have at most GROUP_CHARACTERS."""
    group: List[str] = []
    size = 0
    for text in texts:
        if group and size + len(text) > GROUP_CHARACTERS:
            yield group
            group, size = [], 0
        group.append(text)
        size += len(text)
    if group:
        yield group


def kept(tokens: List[Any], most: Optional[int], left: bool) -> List[Any]:
    """The first ``most`` tokens, all if it is None; the last ones if ``left``."""
    if most is None or len(tokens) <= most:
        return tokens
    return tokens[len(tokens) - most :] if left else tokens[:most]
