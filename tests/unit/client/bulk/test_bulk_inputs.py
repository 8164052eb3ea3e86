from __future__ import annotations

import csv
import gzip
import json
import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, Iterator, List, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.client.bulk import text_input
from bert_serving.client.bulk.errors import BulkError, InputError, UsageError
from bert_serving.client.bulk.inputs import fingerprint, input_format, open_source
from bert_serving.client.bulk.rows import START, Position, Row, batches, is_blank

#: Without half characters, which no file holds.
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
WITHOUT_BREAKS = TEXT.filter(lambda text: "\n" not in text and not text.endswith("\r"))


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """One for all examples of hypothesis, which write the same names again."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(
    path: Path, start: Position = START, column: Optional[str] = None, delimiter: str = ","
) -> List[Row]:
    source = open_source(path, input_format(path, None), column, delimiter)
    with closing(source):
        rows = list(source.rows(start))
        assert source.consumed() == source.total
        return rows


def texts_of(*args: Any, **options: Any) -> List[Optional[str]]:
    return [row.text for row in read(*args, **options)]


def check_every_position(path: Path) -> None:
    """From behind each row the rest can be read."""
    rows = read(path)
    for number, row in enumerate(rows):
        assert read(path, row.end) == rows[number + 1 :]


# -------------------------------------------------------------------------------------- text


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
def test_lines(tmp_path: Path, suffix: str) -> None:
    data = "one\r\ntwo \u2028\x0b\x85 still\n\nvier: ä\rb".encode()
    path = write(tmp_path / ("in" + suffix), data)
    rows = read(path)
    assert [row.text for row in rows] == ["one", "two \u2028\x0b\x85 still", "", "vier: ä\rb"]
    assert [row.line for row in rows] == [1, 2, 3, 4]
    assert rows[0].end == Position(5, 1)
    assert rows[-1].end == Position(len(data), 4)
    check_every_position(path)


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
def test_no_lines(tmp_path: Path, data: bytes) -> None:
    assert read(write(tmp_path / "in.txt", data)) == []


def test_a_mark_of_the_byte_order_is_no_text(tmp_path: Path) -> None:
    path = write(tmp_path / "in.txt", b"\xef\xbb\xbfa\nb\n")
    assert texts_of(path) == ["a", "b"]
    check_every_position(path)


@given(st.lists(WITHOUT_BREAKS), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", ".gz"]))
def test_any_lines(directory: Path, texts: List[str], end: str, suffix: str) -> None:
    data = "".join(text + end for text in texts).encode("utf-8")
    if data.startswith(b"\xef\xbb\xbf"):
        data = b"\n" + data
        texts = ["", *texts]
    path = write(directory / ("any.txt" + suffix), data)
    assert texts_of(path) == texts
    check_every_position(path)


def test_what_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "in.txt", b"fine\ncaf\xe9 au lait\n")
    with pytest.raises(InputError, match=r"line 2 is not UTF-8: byte 0xe9 at place 3 .*iconv"):
        read(path)


def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_input, "MAX_LINE_BYTES", 100)
    assert texts_of(write(tmp_path / "in.txt", b"a" * 99 + b"\n")) == ["a" * 99]
    with pytest.raises(InputError, match="line 1 is longer than"):
        read(write(tmp_path / "in.txt", b"a" * 101))


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:40] + b"x" * 40])
def test_broken_gzip(tmp_path: Path, damage: Any) -> None:
    data = b"".join(b"line %d\n" % number for number in range(1000))
    path = tmp_path / "in.txt.gz"
    path.write_bytes(damage(gzip.compress(data)))
    with pytest.raises(BulkError, match=r"can't read .*in\.txt\.gz behind line \d+"):
        read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"can't read .*none\.txt: No such file"):
        read(tmp_path / "none.txt")


# --------------------------------------------------------------------------------- JSON lines


def test_json_lines(tmp_path: Path) -> None:
    data = '{"text": "a\\nb", "id": 1}\r\n"plain"\n{"text": null}\n\n{"text": "\\ud83d\\ude00"}'
    path = write(tmp_path / "in.jsonl", data.encode())
    assert texts_of(path) == ["a\nb", "plain", None, "", "\U0001f600"]
    check_every_position(path)


@given(st.lists(st.one_of(st.none(), TEXT)), st.booleans())
def test_any_json_lines(directory: Path, texts: List[Optional[str]], ascii_only: bool) -> None:
    lines = [json.dumps({"n": 1, "body": text}, ensure_ascii=ascii_only) + "\n" for text in texts]
    path = write(directory / "any.jsonl", "".join(lines).encode("utf-8"))
    assert texts_of(path, column="body") == texts


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"body": "a", "id": 3}', r"line 2 has no 'text', but 'body', 'id': name one by --column"),
        ("{}", r"line 2 has no 'text', but nothing"),
        ('{"text": 5}', r"line 2: 'text' must be a string, but is 5"),
        ('{"text": ["a"]}', r"line 2: 'text' must be a string, but is \['a'\]"),
        ("7", "line 2 must be a JSON object or a string, but is 7"),
        ("{", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ('"half \\ud83d"', r"line 2 has half a character \(\\ud83d at place 5\)"),
    ],
)
def test_wrong_json_lines(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "in.jsonl", ('"fine"\n%s\n' % line).encode())
    with pytest.raises(InputError, match=message):
        read(path)


# ---------------------------------------------------------------------------------------- CSV


def test_csv(tmp_path: Path) -> None:
    data = 'id,text\r\n1,"a ""b"",\r\nc"\r\n\r\n2,d\n3,'
    for suffix in ("", ".gz"):
        path = write(tmp_path / ("in.csv" + suffix), data.encode())
        rows = read(path)
        assert [row.text for row in rows] == ['a "b",\r\nc', "d", ""]
        assert [row.line for row in rows] == [2, 5, 6]
        check_every_position(path)


def test_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "in.csv", b"a;b\n1;2\n")
    assert texts_of(path, column="b", delimiter=";") == ["2"]
    assert texts_of(write(tmp_path / "one.csv", b"whatever\nx\n")) == ["x"]
    assert texts_of(write(tmp_path / "none.csv", b"whatever\n")) == []


@given(st.lists(st.tuples(TEXT, TEXT)), st.sampled_from(",;\t"))
def test_any_csv(directory: Path, rows: List[Any], delimiter: str) -> None:
    rows = [[cell.replace("\0", "") for cell in row] for row in rows]
    path = directory / "any.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([["id", "text"], *rows])
    assert texts_of(path, delimiter=delimiter) == [text for _, text in rows]
    for row in read(path, delimiter=delimiter)[:3]:
        assert len(read(path, row.end, delimiter=delimiter)) < len(rows)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "is empty: a CSV file needs a header"),
        ("a,b\n", "has no column 'text', but 'a', 'b': name one by --column"),
        ("text,text\n", "has more than one column 'text'"),
    ],
)
def test_wrong_headers(tmp_path: Path, data: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(write(tmp_path / "in.csv", data.encode()))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2,b,c", "line 3 has 3 fields, but the header has 2"),
        ("2", "line 3 has 1 fields"),
        ('2,"b', "line 3 can't be read as CSV"),
        ('2,"b"c', "line 3 can't be read as CSV"),
    ],
)
def test_wrong_csv_lines(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "in.csv", ("id,text\n1,a\n%s\n" % line).encode())
    with pytest.raises(InputError, match=message):
        read(path)


# ------------------------------------------------------------------------------------ Parquet


def write_parquet(path: Path, group: int = 3, **columns: Any) -> Path:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(arrow.table(columns), str(path), row_group_size=group)
    return path


def test_parquet(tmp_path: Path) -> None:
    texts = ["a", None, "", "d", "e", "f", "g"]
    path = write_parquet(tmp_path / "in.parquet", id=list(range(7)), text=texts)
    rows = read(path)
    assert [row.text for row in rows] == texts
    assert [row.line for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    check_every_position(path)


def test_other_columns_of_strings(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    values = arrow.array(["a", "b", "a"])
    for column in (values.dictionary_encode(), values.cast(arrow.large_string())):
        path = write_parquet(tmp_path / "in.parquet", text=column, other=[1, 2, 3])
        assert texts_of(path) == ["a", "b", "a"]


def test_parquet_without_rows(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    assert read(write_parquet(tmp_path / "in.parquet", a=arrow.array([], arrow.string()))) == []


def test_wrong_parquet(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", text=[1, 2], body=["a", "b"])
    with pytest.raises(UsageError, match=r"'text' of .* must have strings, but has int64"):
        read(path)
    with pytest.raises(UsageError, match=r"no column 'c', but 'text', 'body'"):
        read(path, column="c")
    with pytest.raises(UsageError, match=r"can't read .* as Parquet"):
        read(write(tmp_path / "in.parquet", b"PAR1 or not"))


# ------------------------------------------------------------------------------------ formats


def test_formats() -> None:
    assert input_format(Path("a.b/c.d.TXT"), None) == "txt"
    assert input_format(Path("a.csv.gz"), None) == "csv"
    assert input_format(Path("a.log"), "txt") == "txt"
    for name in ("a.log", "a", "a.gz", "a.npy"):
        with pytest.raises(UsageError, match="--input_format"):
            input_format(Path(name), None)
    with pytest.raises(UsageError, match="compressed inside"):
        input_format(Path("a.parquet.gz"), None)


def test_fingerprints(tmp_path: Path) -> None:
    path = write(tmp_path / "in.txt", b"a\n")
    before = fingerprint(path)
    assert before == fingerprint(path)
    os.utime(str(path), ns=(0, 0))
    assert before != fingerprint(path)
    with pytest.raises(UsageError, match="is not a file"):
        fingerprint(tmp_path)
    with pytest.raises(UsageError, match="can't read"):
        fingerprint(tmp_path / "none")


# ------------------------------------------------------------------------------------ batches


def test_batches(tmp_path: Path) -> None:
    path = write(tmp_path / "in.txt", b"".join(b"text %d\n" % number for number in range(5)))
    source = open_source(path, "txt", None, ",")
    with closing(source):
        found = list(batches(source, START, 2, "error"))
        assert [batch.texts for batch in found] == [
            ["text 0", "text 1"],
            ["text 2", "text 3"],
            ["text 4"],
        ]
        assert [(batch.first_line, batch.end.line) for batch in found] == [(1, 2), (3, 4), (5, 5)]
        assert list(batches(source, found[0].end, 2, "error")) == found[1:]


def test_long_texts_make_short_batches(tmp_path: Path) -> None:
    path = write(tmp_path / "in.txt", b"".join(b"a" * 300_000 + b"\n" for _ in range(9)))
    source = open_source(path, "txt", None, ",")
    with closing(source):
        assert [len(batch.texts) for batch in batches(source, START, 512, "error")] == [4, 4, 1]


@pytest.mark.parametrize(
    ("line", "message"),
    [('""', "line 2 is blank: ''"), ('" \\t"', "line 2 is blank"), ('{"text":null}', "null")],
)
def test_blank_texts(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "in.jsonl", ('"fine"\n%s\n' % line).encode())
    source = open_source(path, "jsonl", None, ",")
    with closing(source):
        with pytest.raises(InputError, match=message + ".*--blank zero"):
            list(batches(source, START, 8, "error"))
        (batch,) = batches(source, START, 8, "zero")
    assert batch.filled() == ["fine"]
    assert is_blank(batch.texts[1])
