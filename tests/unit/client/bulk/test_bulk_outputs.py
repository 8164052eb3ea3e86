from __future__ import annotations

import io
import json
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any, List, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.client.bulk.errors import OutputError, UsageError
from bert_serving.client.bulk.files import Paths
from bert_serving.client.bulk.npy import HEADER_BYTES, npy_header
from bert_serving.client.bulk.outputs import OUTPUT_FORMATS, open_output, output_format

VECTORS = np.linspace(-1, 1, 21).reshape(7, 3)
TEXTS: List[Optional[str]] = ["a", "b\nc", "\u2028ä\U0001f600", None, "", 'q"', "g"]


def write(path: Path, dtype: str = "float32", keep: bool = False, **options: Any) -> Path:
    kind = output_format(path)
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    vectors = options.get("vectors", VECTORS).astype(dtype)
    paths = Paths(path)
    with closing(open_output(paths, kind, dtype, keep)) as output:
        output.begin({}, 3)
        output.append(vectors[:2], TEXTS[:2])
        sizes = output.sizes()
        output.append(vectors[2:], TEXTS[2:])
        # As after an interruption: what came behind a commit goes, and comes again.
        output.begin(sizes, 3)
        output.append(vectors[2:], TEXTS[2:])
        output.sync()
        output.finish(len(vectors), 3)
    paths.clean_up()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    return path


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_npy(tmp_path: Path, dtype: str) -> None:
    path = write(tmp_path / "out.npy", dtype)
    for mode in (None, "r"):
        found = np.load(str(path), mmap_mode=mode)  # type: ignore[call-overload]
        assert found.dtype == np.dtype(dtype)
        assert np.array_equal(found, VECTORS.astype(dtype))


@given(st.integers(0, 10**18), st.integers(1, 10**9), st.sampled_from(["float32", "float16"]))
def test_headers(rows: int, dimension: int, dtype: str) -> None:
    header = npy_header(rows, dimension, np.dtype(dtype))
    assert len(header) == HEADER_BYTES
    file = io.BytesIO(header)
    assert np.lib.format.read_magic(file) == (1, 0)
    found = np.lib.format.read_array_header_1_0(file)
    assert found == ((rows, dimension), False, np.dtype(dtype).newbyteorder("<"))


def test_npz(tmp_path: Path) -> None:
    path = write(tmp_path / "out.npz")
    with np.load(str(path)) as archive:
        assert list(archive) == ["embeddings"]
        assert np.array_equal(archive["embeddings"], VECTORS.astype("f4"))
    with zipfile.ZipFile(str(path)) as members:
        assert members.testzip() is None


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_json_lines(tmp_path: Path, dtype: str, keep: bool) -> None:
    path = write(tmp_path / "out.jsonl", dtype, keep)
    rows = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    found = np.array([row["embedding"] for row in rows]).astype(dtype)
    assert np.array_equal(found, VECTORS.astype(dtype))
    assert [row.get("text", 0) for row in rows] == (TEXTS if keep else [0] * 7)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@given(bits=st.integers(0, 2**32 - 1))
def test_every_number_comes_back(dtype: str, bits: int) -> None:
    size = np.dtype(dtype).itemsize
    number = np.frombuffer(bits.to_bytes(4, "little")[:size], dtype)[0]
    if np.isfinite(number):
        digits = {"float32": "%.9g", "float16": "%.5g"}[dtype]
        assert np.dtype(dtype).type(json.loads(digits % float(number))) == number


def test_what_json_has_no_number_for(tmp_path: Path) -> None:
    vectors = np.where(VECTORS > 0.9, np.nan, VECTORS)
    with pytest.raises(OutputError, match="NaN or infinity"):
        write(tmp_path / "out.jsonl", vectors=vectors)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("group_bytes", [1, 24, 10**6])
def test_parquet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_bytes: int, keep: bool
) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    from bert_serving.client.bulk import parquet_output

    monkeypatch.setattr(parquet_output, "GROUP_BYTES", group_bytes)
    path = write(tmp_path / "out.parquet", keep=keep)
    with closing(parquet.ParquetFile(str(path))) as file:
        assert file.metadata.num_row_groups == {1: 7, 24: 4, 10**6: 1}[group_bytes]
        table = file.read()
    assert table.column_names == (["text"] if keep else []) + ["embedding"]
    assert table.schema.field("embedding").type.list_size == 3
    assert table.schema.field("embedding").type.value_type == arrow.float32()
    assert np.array_equal(table["embedding"].to_pylist(), VECTORS.astype("f4"))
    if keep:
        assert table["text"].to_pylist() == TEXTS


def test_long_texts_end_a_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no more of them than that are in memory, however short the vectors are."""
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    from bert_serving.client.bulk import parquet_output

    monkeypatch.setattr(parquet_output, "GROUP_BYTES", 100)
    lengths = [1, 97, 1, 300, 40, 40, 40, 5, *[0] * 20]
    texts: List[Optional[str]] = ["x" * length for length in lengths]
    vectors = np.arange(3.0 * len(texts), dtype="f4").reshape(-1, 3)
    files = []
    for batch in (1, 3, len(texts)):
        paths = Paths(tmp_path / ("%d.parquet" % batch))
        with closing(open_output(paths, "parquet", "float32", True)) as output:
            output.begin({}, 3)
            for start in range(0, len(texts), batch):
                output.append(vectors[start : start + batch], texts[start : start + batch])
            output.finish(len(texts), 3)
        files.append(paths.out)
    with closing(parquet.ParquetFile(str(files[0]))) as file:
        groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
        table = file.read()
    # With quotes and a line break each, three bytes; the last ones have the vectors' bound.
    assert [group.num_rows for group in groups] == [2, 2, 3, 8, 8, 5]
    assert table["text"].to_pylist() == texts
    assert np.array_equal(table["embedding"].to_pylist(), vectors)
    assert len({path.read_bytes() for path in files}) == 1


def test_parquet_of_float16(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    try:
        path = write(tmp_path / "out.parquet", "float16")
    except UsageError as error:
        assert "use --dtype float32" in str(error)  # noqa: PT017 - as old versions of pyarrow do
        return
    found = parquet.read_table(str(path))["embedding"].to_pylist()
    assert np.array_equal(np.array(found, "f2"), VECTORS.astype("f2"))


@pytest.mark.parametrize("kind", OUTPUT_FORMATS)
def test_no_rows(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    paths = Paths(tmp_path / ("out." + kind))
    with closing(open_output(paths, kind, "float32", False)) as output:
        output.begin({}, 3)
        output.finish(0, 3)
    if kind == "npy":
        assert np.load(str(paths.out)).shape == (0, 3)
    assert paths.out.exists()


@pytest.mark.parametrize("kind", OUTPUT_FORMATS)
def test_numbers_too_large_for_the_type(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    paths = Paths(tmp_path / ("out." + kind))
    try:
        output = open_output(paths, kind, "float16", False)
    except UsageError:
        return  # an old pyarrow
    with closing(output):
        output.begin({}, 1)
        with pytest.raises(OutputError, match="too large for float16: use --dtype float32"):
            output.append(np.array([[1e6]], "f4"), ["a"])


def test_formats() -> None:
    assert output_format(Path("a.b.NPY")) == "npy"
    for name in ("a", "a.txt", "npy"):
        with pytest.raises(UsageError, match=r"must end in \.npy, \.npz, \.parquet, \.jsonl"):
            output_format(Path(name))
