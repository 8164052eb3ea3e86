"""Texts of the lengths that were asked for."""

from __future__ import annotations

from pathlib import Path
from typing import List

import numpy as np
import pytest

from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.workloads import (
    Workload,
    make_workload,
    one_token_words,
    parse_lengths,
    token_range,
)
from bert_serving.server.tokenization import Tokenizer, TokenizerSettings

WORDS = ["the", "cat", "sat", "mat", "word7", "2019"]
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "##s", "Cat", "[unused1]", "don't", "ü", "."] + WORDS
VOCABULARY = {token: number for number, token in enumerate(TOKENS)}
LONGEST = 40
TOKENIZER = Tokenizer(VOCABULARY, TokenizerSettings(max_length=LONGEST))


def workload(text: str, words_file: str = "") -> Workload:
    return make_workload(text, VOCABULARY, TOKENIZER, LONGEST, words_file)


def lengths_of(texts: List[str]) -> List[int]:
    return [one.features.shape[1] for one in TOKENIZER.encode(texts, False)]


def test_words_are_single_tokens() -> None:
    assert one_token_words(VOCABULARY) == sorted(WORDS)
    for word in WORDS:
        assert lengths_of([word]) == [3]


def test_a_vocabulary_without_words() -> None:
    with pytest.raises(BenchmarkError, match="file:PATH"):
        one_token_words({"[UNK]": 0, "##a": 1})


def test_fixed_lengths_are_exact() -> None:
    batches = workload("fixed:32").batches(3, 5, 1)
    assert [len(batch.texts) for batch in batches] == [5, 5, 5]
    assert {length for batch in batches for length in lengths_of(batch.texts)} == {32}
    assert [batch.tokens for batch in batches] == [160] * 3


def test_uniform_lengths_take_every_value() -> None:
    texts = workload("uniform:6-32").batches(1, 3000, 1)[0].texts
    assert set(lengths_of(texts)) == set(range(6, 33))


def test_lognormal_lengths_have_their_mean_and_a_tail() -> None:
    lengths = parse_lengths("lognormal:20")
    assert lengths is not None
    drawn = lengths.draw(50_000, np.random.RandomState(1), longest=512)
    assert drawn.mean() == pytest.approx(20, rel=0.02)
    assert np.median(drawn) < 18
    assert drawn.max() > 80


def test_lognormal_lengths_are_cut_at_the_longest() -> None:
    batch = workload("lognormal:20").batches(1, 500, 1)[0]
    lengths = lengths_of(batch.texts)
    assert max(lengths) == LONGEST
    assert batch.tokens == sum(lengths)


def test_the_seed_decides() -> None:
    first = workload("lognormal:20").batches(4, 8, 1, 2)
    assert first == workload("lognormal:20").batches(4, 8, 1, 2)
    assert first != workload("lognormal:20").batches(4, 8, 1, 3)


def test_a_file_gives_all_its_texts_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "texts"
    lines = ["the cat %d" % number for number in range(10)]
    path.write_text("\n\n".join(lines) + "\n  \n", encoding="utf-8")
    batches = workload("file:%s" % path).batches(4, 5, 1)
    texts = [text for batch in batches for text in batch.texts]
    assert sorted(texts[:10]) == sorted(texts[10:]) == sorted(lines)
    assert batches[0].tokens == sum(lengths_of(batches[0].texts))


def test_long_texts_of_a_file_count_as_they_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_text("cat " * 100, encoding="utf-8")
    assert workload("file:%s" % path).batches(1, 2, 1)[0].tokens == 2 * LONGEST


def test_a_file_without_texts(tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_text("\n \n")
    with pytest.raises(BenchmarkError, match="no text"):
        workload("file:%s" % path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"can't read .*nowhere"):
        workload("file:%s" % (tmp_path / "nowhere"))


def test_a_file_of_bytes(tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_bytes(b"abc\xff")
    with pytest.raises(BenchmarkError, match="byte 3"):
        workload("file:%s" % path)


def test_words_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_text("The CAT, unknown cat")
    texts = workload("fixed:20", str(path)).batches(1, 50, 1)[0].texts
    assert set(" ".join(texts).split()) == {"the", "cat"}


def test_a_file_without_words_of_the_model(tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_text("nothing known")
    with pytest.raises(BenchmarkError, match="none of the words"):
        workload("fixed:20", str(path))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fixed",
        "fixed:",
        "fixed:x",
        "fixed:2",
        "fixed:-5",
        "uniform:5",
        "uniform:9-6",
        "uniform:2-6",
    ]
    + ["lognormal:0", "lognormal:1e3", "file:", "zipf:3", "fixed:32 "],
)
def test_what_names_no_workload(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be|lengths must"):
        parse_lengths(text)


@pytest.mark.parametrize("text", ["fixed:41", "uniform:6-41"])
def test_longer_texts_than_the_server_takes(text: str) -> None:
    with pytest.raises(BenchmarkError, match="41 tokens, but the server cuts them at 40"):
        workload(text)


def test_token_range() -> None:
    assert token_range(workload("fixed:10").batches(3, 4, 1)) == (10.0, 12)
