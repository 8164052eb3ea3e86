"""Targets: model directories in both layouts, and the index of a checkpoint by itself."""

from __future__ import annotations

import json
import struct
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Tuple

import numpy as np
from fuzz.container import Entry, pack, unpack, write_files
from fuzz.engine import Target
from fuzz.formats import mutate_container, table
from fuzz.mutators import varint

from bert_serving.graph_opt.config import BertConfig
from bert_serving.graph_opt.defaults import resolve_options
from bert_serving.graph_opt.errors import GraphOptError
from bert_serving.graph_opt.pipeline import build
from bert_serving.graph_opt.sources import read_model
from bert_serving.graph_opt.sources.crc32c import masked_crc32c
from bert_serving.graph_opt.sources.huggingface import huggingface_name
from bert_serving.graph_opt.sources.tensor_bundle import read_bundle
from bert_serving.graph_opt.variables import variable_shapes
from bert_serving.server.errors import ServerError
from bert_serving.server.tokenization import Tokenizer, TokenizerSettings, read_vocabulary

__all__ = ["TARGETS"]

SIZES = {
    "vocab_size": 8,
    "hidden_size": 4,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 4,
    "max_position_embeddings": 8,
    "type_vocab_size": 2,
}
VOCABULARY = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\n##b\n.\n"
Arrays = Dict[str, np.ndarray]


def run_model(data: bytes) -> None:
    """Do with a directory what a start of the server does with it, weights included."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_files(unpack(data), directory)
        source = read_model(directory)
        vocabulary = read_vocabulary(source.vocab_file)
        Tokenizer(vocabulary, TokenizerSettings(8)).encode(["a b"], False)
        graph = build(source, resolve_options(source))
        for variable in graph.variables.values():
            assert variable.load().shape == variable.shape


def run_bundle(data: bytes) -> None:
    """Read an index, and every tensor that it names."""
    with tempfile.TemporaryDirectory() as name:
        write_files(unpack(data), Path(name))
        bundle = read_bundle(Path(name) / "model.ckpt")
        for variable in bundle.variables.values():
            if variable.dtype.kind != "V":
                assert variable.load().shape == variable.shape


def _arrays() -> Arrays:
    config = BertConfig.from_json(SIZES, "")
    return {
        name: np.full(shape, number, np.float32)
        for number, (name, shape) in enumerate(variable_shapes(config).items())
    }


def _safetensors(arrays: Arrays) -> bytes:
    header: Dict[str, Any] = {"__metadata__": {"format": "pt"}}
    content = b""
    for name, array in arrays.items():
        stored = array.T if name.endswith("/kernel") else array
        end = len(content) + array.nbytes
        header[huggingface_name(name)] = {
            "dtype": "F32",
            "shape": list(stored.shape),
            "data_offsets": [len(content), end],
        }
        content += stored.tobytes()
    text = json.dumps(header).encode("ascii")
    return struct.pack("<Q", len(text)) + text + content


def _field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def _shape(sizes: Iterable[int]) -> bytes:
    return b"".join(_field(2, b"\x08" + varint(size)) for size in sizes)


def checkpoint(arrays: Arrays, prefix: str) -> List[Entry]:
    """The files of a checkpoint."""
    pairs: List[Tuple[bytes, bytes]] = [(b"", b"\x08\x01\x1a\x02\x08\x01")]
    content = b""
    for name, array in sorted(arrays.items()):
        octets = array.tobytes()
        pairs.append((name.encode("ascii"), _entry(array.shape, len(content), octets)))
        content += octets
    return [(prefix + ".index", table(pairs)), (prefix + ".data-00000-of-00001", content)]


def _entry(shape: Iterable[int], offset: int, octets: bytes) -> bytes:
    return b"\x08\x01%s\x20%s\x28%s\x35%s" % (
        _field(2, _shape(shape)),
        varint(offset),
        varint(len(octets)),
        struct.pack("<I", masked_crc32c(octets)),
    )


def sliced_checkpoint(prefix: str) -> List[Entry]:
    """A tensor of [4, 2] in two slices."""
    from bert_serving.graph_opt.sources.tensor_slices import TensorSlice

    content = np.arange(8, dtype=np.float32).tobytes()
    pairs = [(b"", b"\x08\x01")]
    slices = b""
    for start in (0, 2):
        extents = _field(1, (b"\x08\x02" if start else b"") + b"\x10\x02") + _field(1, b"")
        slices += _field(7, extents)
        key = TensorSlice(((start, 2), (0, None))).key("t")
        pairs.append((key, _entry((2, 2), start * 8, content[start * 8 : start * 8 + 16])))
    pairs.append((b"t", b"\x08\x01" + _field(2, _shape((4, 2))) + slices))
    return [(prefix + ".index", table(sorted(pairs))), (prefix + ".data-00000-of-00001", content)]


def huggingface_seeds() -> List[bytes]:
    config = dict(SIZES, model_type="bert", architectures=["BertModel"], layer_norm_eps=1e-12)
    legacy = {key: value for key, value in config.items() if key != "model_type"}
    weights = _safetensors(_arrays())
    header_end = 8 + struct.unpack("<Q", weights[:8])[0]
    names = json.loads(weights[8:header_end].decode("ascii"))
    shards = {"weight_map": {name: "a.safetensors" for name in names if name != "__metadata__"}}
    tokenizer = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
    modules = [
        {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    pooling = {"word_embedding_dimension": 4, "pooling_mode_mean_tokens": True}
    plain: List[Entry] = [("vocab.txt", VOCABULARY), ("tokenizer_config.json", _json(tokenizer))]
    st: List[Entry] = [
        ("modules.json", _json(modules)),
        ("1_Pooling/config.json", _json(pooling)),
        ("sentence_bert_config.json", _json({"max_seq_length": 8})),
    ]
    single: List[Entry] = [("model.safetensors", weights)]
    sharded: List[Entry] = [
        ("model.safetensors.index.json", _json(shards)),
        ("a.safetensors", weights),
    ]
    return [
        pack([("config.json", _json(config))] + plain + single),
        pack([("config.json", _json(config))] + plain + st + single),
        pack([("config.json", _json(legacy))] + plain + sharded),
    ]


def google_seeds() -> List[bytes]:
    state = (
        b'model_checkpoint_path: "/x/model.ckpt-7"\nall_model_checkpoint_paths: "model.ckpt-7"\n'
    )
    config: List[Entry] = [("bert_config.json", _json(SIZES)), ("vocab.txt", VOCABULARY)]
    return [
        pack(config + checkpoint(_arrays(), "bert_model.ckpt")),
        pack(config + [("checkpoint", state)] + checkpoint(_arrays(), "model.ckpt-7")),
    ]


def bundle_seeds() -> List[bytes]:
    few = {name: array for name, array in _arrays().items() if "embeddings" in name}
    few["scalar"] = np.array(3, np.float32)
    few["empty"] = np.zeros((0, 4), np.float32)
    return [pack(checkpoint(few, "model.ckpt")), pack(sliced_checkpoint("model.ckpt"))]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("ascii")


def _target(name: str, run: Callable[[bytes], None], seeds: Callable[[], List[bytes]]) -> Target:
    return Target(name, run, (GraphOptError, ServerError), seeds, mutate_container)


TARGETS = (
    _target("huggingface", run_model, huggingface_seeds),
    _target("google", run_model, google_seeds),
    _target("bundle", run_bundle, bundle_seeds),
)
