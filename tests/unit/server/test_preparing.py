from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path
from typing import Any, Iterator

import pytest
from support import port_flags
from unit.server.support import FakeLink

from bert_serving.server.arguments import get_args_parser
from bert_serving.server.errors import StartupError
from bert_serving.server.preparing import Preparation, decode_args, encode_args
from bert_serving.server.spec import ServiceSpec


@pytest.fixture(autouse=True)
def _signals_are_left_alone() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize("flags", [[], ["-max_seq_len", "NONE", "-num_worker", "3", "-cpu"]])
def test_flags_travel_as_json(flags: Any) -> None:
    args = get_args_parser().parse_args(flags)
    assert decode_args(json.loads(json.dumps(encode_args(args)))) == args


def test_paths_travel_as_text() -> None:
    args = argparse.Namespace(model_dir=Path("/models/x"), cpu=True)
    assert decode_args(json.loads(json.dumps(encode_args(args)))).model_dir == "/models/x"


def prepare(link: FakeLink, *flags: str) -> Preparation:
    args = get_args_parser().parse_args(port_flags() + list(flags))
    return Preparation(link, encode_args(args))  # type: ignore[arg-type]


def test_a_model_that_cannot_be_served(link: FakeLink, tmp_path: Any) -> None:
    with pytest.raises(StartupError, match="nothing"):
        prepare(link, "-model_dir", str(tmp_path / "nothing")).run()


def test_an_order_to_end(link: FakeLink, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: Any, **__: Any) -> ServiceSpec:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it goes on")

    monkeypatch.setattr("bert_serving.server.preparation.prepare", busy)
    prepare(link).run()
