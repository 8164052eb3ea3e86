"""Targets: the frames of requests, as a server reads them, and of replies, as a client does."""

from __future__ import annotations

import json
from typing import List, Tuple

import numpy as np
from fuzz.container import pack, unpack
from fuzz.engine import Target
from fuzz.formats import mutate_container

from bert_serving.client.calls import Call
from bert_serving.client.errors import BertServingError
from bert_serving.client.frames import decode_request, encode_texts, parse_texts
from bert_serving.client.parts import RowsToCome, assemble
from bert_serving.client.protocol import Details, MalformedMessage, Part, Timings, VectorsReply
from bert_serving.client.reply_frames import (
    decode_reply,
    error_frames,
    info_frames,
    vectors_frames,
)
from bert_serving.client.requests import Taken
from bert_serving.client.responses import part_of, response_of

__all__ = ["TARGETS"]

REQUEST = ("identity", "payload.json", "id.txt", "rows.txt", "header.json")
ROWS = 2
HEADERS = (
    {},
    {"timeout": 1.5, "again": True, "normalize": False},
    {"pooling_strategy": "REDUCE_MEAN", "pooling_layer": [-1, -2], "truncate": "left"},
    {"dtype": "float16", "tokens": True, "offsets": True, "stream": True, "truncate": False},
)


def run_request(data: bytes) -> None:
    """Read a request, and answer what is wrong with it."""
    try:
        request = decode_request([content for _, content in unpack(data)])
        if not request.is_command:
            parse_texts(request)
    except MalformedMessage as error:
        if error.identity is None or error.request_id is None:
            return
        decode_reply(error_frames(error.identity, error.request_id, "bad_request", str(error)))


def request_seeds() -> List[bytes]:
    payloads = (
        (encode_texts(["a text", "another \u0130\u03a3"]), {}),
        (encode_texts([["a", "text"], ["b"]]), {}),
        (encode_texts([["a", "b"], ["c", "d"]]), {"pairs": True}),
        (b"SHOW_CONFIG", {}),
        (b"CANCEL", {}),
    )
    found = []
    for payload, more in payloads:
        frames = [b"client-1", payload, b"7", b"2"]
        found.append(_packed(REQUEST, frames))
        for header in HEADERS:
            content = json.dumps(dict(header, **more)).encode("ascii")
            found.append(_packed(REQUEST, frames + [content]))
    return found


def run_reply(data: bytes) -> None:
    """Read replies, and make of them what the caller of a client gets."""
    frames = [content for _, content in unpack(data)]
    parts = []
    to_come = RowsToCome(ROWS)
    for start in range(0, len(frames), 4):
        reply = decode_reply(frames[start : start + 4])
        taken = Taken(reply.request_id, reply, Call(b"", rows=ROWS, unit_length=True))
        if isinstance(reply, VectorsReply) and reply.part is not None:
            part_of(taken, "list")
            part_of(taken, "ndarray")
            reply = to_come.fresh(reply)
            parts.append(reply)
        else:
            response_of(taken, "list")
            response_of(taken, "ndarray")
    if parts and not to_come.missing:
        whole = assemble(parts, ROWS)
        assert len(whole.array) == ROWS


def reply_seeds() -> List[bytes]:
    vectors = np.arange(8, dtype=np.float32).reshape(2, 4)
    details = Details(12, (1,), Timings(0.1, 0.2, 0.3, 0.6), model="0123456789abcdef")
    offsets = b"[[[0,0],[0,1],[0,0]],[[0,0],[2,5],[0,0]]]"
    tokens = b'[["[CLS]","a","[SEP]"],["[CLS]","b","[SEP]"]]'
    replies = (
        vectors_frames(b"client-1", 7, vectors),
        vectors_frames(b"client-1", 7, vectors.astype(np.float16), tokens, details),
        vectors_frames(b"c", 7, vectors.reshape(2, 2, 2), tokens, details, None, offsets),
        vectors_frames(b"c", 7, vectors, None, details, Part([1, 0], True)),
        vectors_frames(b"c", 7, vectors[:0], None, details, Part([], True)),
        info_frames(b"client-1", 7, b'{"protocol":2,"max_seq_len":25}'),
        error_frames(b"client-1", 7, "overloaded", "too much waits", 0.5),
    )
    half = vectors_frames(b"c", 7, vectors[:1], b'[["a"]]', details, Part([1], False))
    other = vectors_frames(b"c", 7, vectors[1:], b'[["a"]]', details, Part([0], True))
    stream = [half + other, half + other + other]
    return [
        _packed(_reply_names(len(frames)), [bytes(one) for one in frames])
        for frames in list(replies) + stream
    ]


def _reply_names(count: int) -> Tuple[str, ...]:
    names = ("topic", "info.json", "array.bin", "id.txt")
    return names[:2] + names[3:] if count == 3 else names * (count // 4)


def _packed(names: Tuple[str, ...], frames: List[bytes]) -> bytes:
    return pack(list(zip(names, frames)))


TARGETS = (
    Target("request", run_request, (MalformedMessage,), request_seeds, mutate_container),
    Target("reply", run_reply, (MalformedMessage, BertServingError), reply_seeds, mutate_container),
)
