"""Targets: the inputs of the bulk encoder, and what an interrupted run left."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any, List

from fuzz.container import compressed, pack, unpack, write_files
from fuzz.engine import Target
from fuzz.formats import mutate_container
from fuzz.mutators import mutate_json

from bert_serving.client.bulk.errors import BulkError
from bert_serving.client.bulk.inputs import input_format, open_source
from bert_serving.client.bulk.rows import START, Position, batches
from bert_serving.client.bulk.state import State, differences, load, model_identity, save

__all__ = ["TARGETS"]

TEXTS = (
    ("in.txt", b"a text\nanother\r\n\n \xc3\xa9\xe2\x80\xa8x\nlast"),
    ("in.jsonl", b'{"text":"a","id":1}\n"b"\n{"text":null}\n\n{"text":"\\u00e9 \\ud83d\\ude00"}\n'),
    ("in.csv", b'id,text\n1,a\n2,"b ""c""\nd"\n\n3,\n'),
    ("in.csv", b"\xef\xbb\xbftext\na\nb\n"),
)


def run_input(data: bytes) -> None:
    """Read the first entry as an input, from the beginning, and from where a second begins."""
    entries = unpack(data)[:1]
    with tempfile.TemporaryDirectory() as name:
        write_files(entries, Path(name))
        for path in sorted(one for one in Path(name).rglob("*") if one.is_file()):
            kind = input_format(path, None)
            for start in (START, Position(len(data) // 2, 1)):
                source = open_source(path, kind, None, ",")
                try:
                    for batch in batches(source, start, 2, "zero"):
                        assert batch.consumed >= 0
                        batch.filled()
                finally:
                    source.close()


def text_seeds() -> List[bytes]:
    found = [pack([entry]) for entry in TEXTS]
    return found + [pack([(name + ".gz", compressed(content))]) for name, content in TEXTS[:3]]


def parquet_seeds() -> List[bytes]:
    import pyarrow
    import pyarrow.parquet

    found = []
    texts = ["a", "b", None, "\u00e9" * 20, ""] * 3
    for options in ({}, {"compression": "none"}, {"row_group_size": 4}, {"use_dictionary": False}):
        file = io.BytesIO()
        columns = {"id": list(range(len(texts))), "text": texts}
        pyarrow.parquet.write_table(pyarrow.table(columns), file, **options)
        found.append(pack([("in.parquet", file.getvalue())]))
    return found


def run_progress(data: bytes) -> None:
    """Read what a run left, and do with it what the next run does before it begins."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "out.npy.progress"
        path.write_bytes(data)
        before = load(path)
        assert before is not None
        now = _state()
        differences(before, now)
        assert before.position >= START
        assert before.rows + before.consumed + before.truncated >= 0
        assert all(size >= 0 for size in before.sizes.values())
        assert load_saved(path, before) == before


def load_saved(path: Path, state: State) -> Any:
    path.write_bytes(save(state))
    return load(path)


def _state(**changes: Any) -> State:
    values = {"size": 100, "mtime_ns": 5, "head_sha256": "ab"}
    options = {"column": None, "delimiter": ",", "blank": "error", "pooling_layer": [-1]}
    return State(values, options, model_identity({"model": "m", "max_seq_len": 25}, 4), **changes)


def progress_seeds() -> List[bytes]:
    return [
        save(_state()),
        save(_state(rows=2, offset=10, line=2, consumed=10, sizes={"partial": 160}, complete=True)),
        json.dumps({"format": 1, "input": {}, "options": {}}).encode("ascii"),
    ]


TARGETS = (
    Target("texts", run_input, (BulkError,), text_seeds, mutate_container),
    Target("parquet", run_input, (BulkError,), parquet_seeds, mutate_container),
    Target("progress", run_progress, (BulkError,), progress_seeds, mutate_json),
)
