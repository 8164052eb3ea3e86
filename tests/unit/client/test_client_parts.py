from __future__ import annotations

from dataclasses import replace
from typing import Any, List, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.client import ModelChanged, ProtocolError
from bert_serving.client.parts import RowsToCome, assemble
from bert_serving.client.protocol import Details, Part, Timings, VectorsReply
from bert_serving.client.streams import PartIterator


def part_of(rows: List[int], is_last: bool = False, width: Optional[int] = None) -> VectorsReply:
    """A part whose vectors, tokens, offsets and truncated rows tell the row."""
    array = np.array(rows, np.float32)[:, None]
    if width is not None:
        array = np.repeat(array[:, None], width, axis=1)
    return VectorsReply(
        1,
        array,
        [["row %d" % row] for row in rows],
        Details(
            9,
            tuple(row for row in rows if row % 2),
            Timings(0, 0, 0, 1),
            [[[row, row + 1]] for row in rows],
            {row: "row %d is poison" % row for row in rows if row % 3 == 0},
        ),
        Part(rows, is_last),
    )


def check(reply: VectorsReply) -> None:
    assert reply.part is not None
    expected = part_of(reply.part.rows, reply.part.is_last)
    np.testing.assert_array_equal(reply.array, expected.array)
    assert (reply.tokens, reply.details) == (expected.tokens, expected.details)


@given(st.lists(st.lists(st.integers(0, 9), unique=True), max_size=8))
def test_every_row_is_fresh_once(parts: List[List[int]]) -> None:
    rows = RowsToCome(10)
    seen: List[int] = []
    for part in parts:
        reply = rows.fresh(part_of(part))
        check(reply)
        assert reply.part is not None
        seen += reply.part.rows
        assert rows.missing == 10 - len(seen)
    assert sorted(seen) == sorted({row for part in parts for row in part})


def test_a_part_that_is_all_new_is_not_copied() -> None:
    reply = part_of([3, 1])
    assert RowsToCome(4).fresh(reply) is reply


def test_without_tokens_and_details() -> None:
    rows = RowsToCome(4)
    plain = VectorsReply(1, np.zeros((2, 3)), "", None, Part([0, 1], False))
    rows.fresh(plain)
    again = rows.fresh(VectorsReply(1, np.ones((2, 3)), "", None, Part([1, 2], False)))
    assert (again.tokens, again.details, again.part) == ("", None, Part([2], False))


@pytest.mark.parametrize("row", [-1, 4])
def test_rows_that_the_request_does_not_have(row: int) -> None:
    with pytest.raises(ProtocolError, match="row %d of a request that has 4" % row):
        RowsToCome(4).fresh(part_of([row]))


def of_model(reply: VectorsReply, model: Optional[str]) -> VectorsReply:
    assert reply.details is not None
    return replace(reply, details=reply.details._replace(model=model))


def test_rows_of_another_model() -> None:
    rows = RowsToCome(4)
    rows.fresh(of_model(part_of([0, 1]), "old"))
    rows.fresh(of_model(part_of([1, 2]), "old"))
    with pytest.raises(ModelChanged, match=r"old one \(old\), .* new one \(new\); .* ask again"):
        rows.fresh(of_model(part_of([0, 3]), "new"))
    assert rows.missing == 1


def test_a_server_that_does_not_tell_its_model() -> None:
    rows = RowsToCome(4)
    for number, model in enumerate([None, "a", None, "a"]):
        rows.fresh(of_model(part_of([number]), model))
    assert rows.missing == 0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 9), unique=True))))
def test_rows_are_of_one_model(parts: List[Any]) -> None:
    rows = RowsToCome(10)
    for model, numbers in parts:
        part = of_model(part_of(numbers), model)
        if model == parts[0][0]:
            assert rows.fresh(part).details.model == model  # type: ignore[union-attr]
        else:
            with pytest.raises(ModelChanged):
                rows.fresh(part)


@given(st.permutations(range(7)), st.integers(1, 7))
def test_assemble(order: List[int], size: int) -> None:
    starts = range(0, 7, size)
    parts = [part_of(order[start : start + size], start + size >= 7) for start in starts]
    whole = assemble(parts, 7)
    assert whole.part is None
    np.testing.assert_array_equal(whole.array, np.arange(7)[:, None])
    assert whole.tokens == [["row %d" % row] for row in range(7)]
    assert whole.details is not None
    assert whole.details.offsets == [[[row, row + 1]] for row in range(7)]
    assert whole.details.truncated == (1, 3, 5)
    assert whole.details.num_tokens == 9


def test_assemble_token_vectors_of_different_lengths() -> None:
    whole = assemble([part_of([2, 1], width=3), part_of([0], width=2), part_of([], True)], 3)
    assert whole.array.shape == (3, 3, 1)
    np.testing.assert_array_equal(whole.array[:, :, 0], [[0, 0, 0], [1, 1, 1], [2, 2, 2]])


@pytest.mark.parametrize("shape", [(1, 3), (1, 2, 2), (1,)])
def test_parts_that_do_not_fit_together(shape: Any) -> None:
    arrays = [np.zeros((1, 2)), np.zeros(shape)]
    parts = [
        VectorsReply(1, array, "", None, Part([row], row == 1)) for row, array in enumerate(arrays)
    ]
    with pytest.raises(ProtocolError, match="don't fit together"):
        assemble(parts, 2)


def test_assemble_without_tokens() -> None:
    parts = [VectorsReply(1, np.zeros((1, 2)), "", None, Part([row], row == 1)) for row in (0, 1)]
    whole = assemble(parts, 2)
    assert (whole.tokens, whole.details) == ("", None)


def test_assemble_one_whole_reply() -> None:
    whole = VectorsReply(1, np.zeros((1, 2)))
    assert assemble([whole], 1) is whole


def test_iterator_ends_once() -> None:
    ended: List[Any] = []
    source = iter([1, 2])
    parts = PartIterator(lambda: next(source), lambda: ended.append(1))
    assert list(parts) == [1, 2]
    parts.close()
    del parts
    assert ended == [1]
