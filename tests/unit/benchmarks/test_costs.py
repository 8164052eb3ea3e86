from __future__ import annotations

from pathlib import Path
from typing import List

import numpy as np
import pytest

from bert_serving.benchmarks.cost_table import MOST_TOKENS, ROUNDS, measure, save, shapes
from bert_serving.benchmarks.costs import (
    MEASURED,
    CostModel,
    CostTable,
    Sample,
    fit,
    read_tables,
    relative_errors,
)
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.progress import Progress

TRUE = CostModel(True, (2e-3, 6e-5, 2e-5, 1e-7, 1e-5))


def table_of(model: CostModel, name: str = "made up") -> CostTable:
    samples = []
    for lengths in shapes(0, 128):
        shape = (len(lengths), int(lengths.sum()), int(lengths.max()))
        samples.append(Sample(*shape, model.seconds(*shape)))
    return CostTable(name, model.packed, {"cpu": "none"}, samples)


def test_the_formula_is_found_again() -> None:
    table = table_of(TRUE)
    model = fit(table)
    assert np.abs(relative_errors(model, table)).max() < 0.01
    assert model.padding_weight == pytest.approx(0.25, abs=0.02)
    assert model.call_tokens == pytest.approx(25, rel=0.05)


def test_a_padded_engine_pays_for_padding_as_for_tokens() -> None:
    model = fit(table_of(CostModel(False, (2e-3, 0.0, 8e-5, 1e-7, 0.0))))
    assert model.padding_weight == 1.0
    assert model.seconds(10, 100, 50) == model.seconds(10, 400, 50)


def test_no_coefficient_is_negative() -> None:
    samples = [Sample(rows, 10 * rows, 10, 1.0) for rows in (1, 2, 4, 8)]
    model = fit(CostTable("constant", True, {}, samples))
    assert min(model.coefficients) >= 0


def test_shapes_are_bounded_and_seeded() -> None:
    batches = shapes(3, 100)
    assert all(lengths.min() >= 3 and lengths.max() <= 100 for lengths in batches)
    assert all(len(lengths) * lengths.max() <= MOST_TOKENS for lengths in batches)
    again = shapes(3, 100)
    assert all((one == other).all() for one, other in zip(batches, again))
    assert len({len(lengths) for lengths in batches}) == 8


def test_the_best_of_several_runs_is_taken() -> None:
    now = [0.0]
    durations = iter([3.0, 5.0, 1.0, 6.0] + [9.0] * 2 * ROUNDS)
    ran: List[int] = []

    def run(lengths: np.ndarray) -> None:
        ran.append(len(lengths))
        now[0] += next(durations)

    batches = [np.array([4, 6]), np.array([5])]
    samples = measure(run, batches, Progress(False), lambda: now[0])
    assert samples == [Sample(2, 10, 6, 1.0), Sample(1, 5, 5, 5.0)]
    assert ran == [2, 1] * ROUNDS


def test_a_table_is_added_to_a_file_or_replaced_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "tables.json"
    save(table_of(TRUE, "one"), path)
    save(table_of(TRUE, "other"), path)
    shorter = CostTable("one", False, {}, [Sample(1, 2, 3, 0.5)])
    save(shorter, path)
    tables = read_tables(path)
    assert list(tables) == ["one", "other"]
    assert tables["one"] == shorter


@pytest.mark.parametrize("text", ["[{}]", "{", "[1]"])
def test_a_file_that_holds_no_tables_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tables.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BenchmarkError, match=r"tables\.json"):
        read_tables(path)


def test_the_formula_fits_the_tables_that_come_with_the_package() -> None:
    for table in read_tables(MEASURED).values():
        assert table.machine["cores"] > 0
        assert np.median(np.abs(relative_errors(fit(table), table))) < 0.1
