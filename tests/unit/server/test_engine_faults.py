from __future__ import annotations

import os
import signal
from typing import List, Tuple

import numpy as np
import pytest

from bert_serving.server.engines import faults
from bert_serving.server.engines.base import Features
from bert_serving.server.engines.echo import EchoEngine, vocabulary
from bert_serving.server.engines.faults import VARIABLE, Faults
from bert_serving.server.errors import EngineError
from bert_serving.server.spec import EngineSpec

SPEC = EngineSpec("echo", None, 8, False, 1, 0.5)


def features_of(*texts: str) -> Features:
    known = vocabulary()
    ids = [known[one] for text in texts for one in text]
    return Features(np.array([ids] * 3, np.int32), np.array(list(map(len, texts)), np.int32))


def engine(monkeypatch: pytest.MonkeyPatch, setting: str) -> EchoEngine:
    monkeypatch.setenv(VARIABLE, setting)
    made = EchoEngine()
    made.load(SPEC, -1)
    return made


def test_a_fault_strikes_batches_with_its_character_only(monkeypatch: pytest.MonkeyPatch) -> None:
    echo = engine(monkeypatch, "~=raise ^=shape")
    assert echo.encode(features_of("ab", "c")).shape == (2, 8)
    assert echo.encode(features_of("ab", "^")).shape == (1, 8)
    with pytest.raises(EngineError, match="told to fail"):
        echo.encode(features_of("ab", "c~"))


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    echo = engine(monkeypatch, "~=memory ^=crowd")
    with pytest.raises(MemoryError):
        echo.encode(features_of("~"))
    with pytest.raises(MemoryError, match="2 rows"):
        echo.encode(features_of("^", "a"))
    assert echo.encode(features_of("^")).shape == (1, 8)


@pytest.mark.parametrize(
    ("name", "number"),
    [("kill", signal.SIGKILL), ("segv", signal.SIGSEGV), ("stop", signal.SIGSTOP)],
)
def test_signals(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: List[Tuple[int, int]] = []
    monkeypatch.setattr(faults.os, "kill", lambda *args: sent.append(args))
    engine(monkeypatch, "~=" + name).encode(features_of("~"))
    assert sent == [(os.getpid(), number)]


@pytest.mark.parametrize("setting", ["~", "~=no", "long=kill", "=kill"])
def test_a_setting_that_means_nothing(setting: str) -> None:
    with pytest.raises(EngineError, match=VARIABLE):
        Faults(setting, vocabulary())


def test_there_are_none_unless_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    made = EchoEngine()
    made.load(SPEC, -1)
    assert made.encode(features_of("~^")).shape == (1, 8)
