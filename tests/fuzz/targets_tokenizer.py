"""Target: texts of any characters through the tokenizer, with every option."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, List, Tuple

from fuzz.engine import Target
from fuzz.mutators import mutate_bytes

from bert_serving.server.sequences import EncodedTexts, TextTooLong
from bert_serving.server.tokenization import Tokenizer, TokenizerSettings, padded_length

__all__ = ["TARGETS"]

LENGTH = 12
WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "the", "text", "s", "##s"),
    *("##ing", "##a", "##b", "##1", "0", "1", "2", ".", ",", "?", "!", "-", "'", "|", "|||", "##|"),
    *("\u4e2d", "\u03c3", "\u03c2", "i\u0307", "e", "\u00e9", "##\u00e9", "\U0001f600"),
    "\u03c3\u03bf\u03c6\u03bf\u03c2",
)
TRUNCATE = ("right", "left", False)
TEXTS = (
    "the text",
    "A b ||| C d",
    " ||| ",
    "\u03a3\u039f\u03a6\u039f\u03a3 \u0130stanbul \u00e9\u0301",
    "a\ud800b \udfff",
    "\u4e2d\u6587 \U0001f600\u200d\U0001f468 \u202e\u0000\ufffd\u0085",
    "x" * 150,
    "the " * 40,
    "[CLS] [SEP] ##s",
    "\u1e9e\ufb01\u0149\u01f0",
    "",
)


@lru_cache(maxsize=None)
def _tokenizer(flags: int) -> Tokenizer:
    settings = TokenizerSettings(
        LENGTH,
        lowercase=bool(flags & 1),
        strip_accents=(None, True, False, None)[flags >> 1 & 3],
        split_chinese=bool(flags & 8),
        mask_special=bool(flags & 16),
        no_special=bool(flags & 32),
        final_sigma=bool(flags & 64),
    )
    return Tokenizer({word: number for number, word in enumerate(WORDS)}, settings)


def run(data: bytes) -> None:
    """The first byte chooses the tokenizer, the second how to call it, the rest is text."""
    flags, how = data[:1] or b"\0", data[1:2] or b"\0"
    is_tokenized, pairs, offsets = bool(how[0] & 1), bool(how[0] & 2), bool(how[0] & 4)
    truncate = TRUNCATE[(how[0] >> 3) % 3]
    tokenizer = _tokenizer(flags[0] & 127)
    lines = data[2:].decode("utf-8", "surrogatepass" if how[0] & 128 else "replace").split("\n")
    texts: List[Any] = list(lines)
    if is_tokenized:
        texts = [line.split(" ") for line in lines]
    elif pairs:
        texts = [[line, lines[-number]] for number, line in enumerate(lines)]
    if is_tokenized and (pairs or offsets):
        pairs = offsets = False
    encoded = tokenizer.encode(texts, is_tokenized, pairs=pairs, truncate=truncate, offsets=offsets)
    _check(tokenizer, encoded, texts, pairs)


def _check(tokenizer: Tokenizer, encoded: EncodedTexts, texts: List[Any], pairs: bool) -> None:
    assert len(encoded) == len(texts)
    measured = []
    for row, text in enumerate(texts):
        one = encoded[row]
        assert one.features.shape == (3, encoded.lengths[row])
        assert encoded.lengths[row] <= LENGTH
        assert one.features.min(initial=0) >= 0
        assert one.features[1:].max(initial=0) <= 1
        assert len(tokenizer.tokens_of(one)) == encoded.lengths[row]
        measured.append((one.wanted_length, one.is_pair))
        if encoded.offsets is not None:
            _check_spans(encoded.offsets[row], encoded.lengths[row], text, pairs)
    assert padded_length(measured, 4, LENGTH, False) <= LENGTH


def _check_spans(spans: List[Tuple[int, int]], length: int, text: Any, pairs: bool) -> None:
    assert len(spans) == length
    longest = max(map(len, text)) if pairs else len(text)
    assert all(0 <= start <= stop <= longest for start, stop in spans), (spans, longest)


def seeds() -> List[bytes]:
    # Lone surrogates are bytes that only "surrogatepass" reads.
    texts = [text.encode("utf-8", "surrogatepass") for text in TEXTS]
    found = [bytes([number * 11 % 128, 128 | number]) + b"\n".join(texts) for number in range(64)]
    return found + [
        bytes([number * 37 % 128, 128 | number]) + texts[number % 11] for number in range(64)
    ]


def _mutate(rng: Any, data: bytes, pool: Any) -> bytes:
    kind = rng.random()
    if kind < 0.25:
        return bytes([rng.randrange(256), rng.randrange(256)]) + data[2:]
    if kind < 0.75:
        characters = "".join(
            chr(rng.choice((rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0x110000))))
            for _ in range(rng.randint(1, 8))
        )
        place = rng.randint(2, max(2, len(data)))
        return data[:place] + characters.encode("utf-8", "surrogatepass") + data[place:]
    return mutate_bytes(rng, data, pool)


TARGETS = (Target("tokenizer", run, (TextTooLong, UnicodeDecodeError), seeds, _mutate),)
