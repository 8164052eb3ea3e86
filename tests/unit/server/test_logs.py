from __future__ import annotations

import io
import logging
import re
import sys
from typing import Iterator, Optional

import pytest

from bert_serving.server import logs
from bert_serving.server.logs import Complaints, colors_wanted, log_bug, set_up_logging, stage

ESCAPE = "\x1b["


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_is_left_as_it_was() -> Iterator[None]:
    logger = logging.getLogger("bert_serving")
    before = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.level, logger.propagate = before


@pytest.fixture
def logger() -> logging.Logger:
    return logging.getLogger("bert_serving.server.anything")


def replace_stderr(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, no_color: Optional[str] = None
) -> io.StringIO:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    return stream


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch, logger: logging.Logger) -> None:
    stream = replace_stderr(monkeypatch, Terminal())
    assert colors_wanted()
    set_up_logging("WORKER-0")
    logger.info("ready")
    assert ESCAPE in stream.getvalue()
    assert "WORKER-0" in stream.getvalue()


def test_no_colours_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, logger: logging.Logger
) -> None:
    stream = replace_stderr(monkeypatch, io.StringIO())
    set_up_logging("SINK")
    logger.error("lost")
    assert re.fullmatch(r"\d\d:\d\d:\d\d SINK +error: lost\n", stream.getvalue())


def test_no_colours_if_the_user_wants_none(
    monkeypatch: pytest.MonkeyPatch, logger: logging.Logger
) -> None:
    stream = replace_stderr(monkeypatch, Terminal(), no_color="1")
    assert not colors_wanted()
    set_up_logging("SINK")
    logger.warning("slow")
    assert "warning: slow" in stream.getvalue()
    assert ESCAPE not in stream.getvalue()


def test_an_empty_no_color_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """https://no-color.org: "when present and not an empty string"."""
    replace_stderr(monkeypatch, Terminal(), no_color="")
    assert colors_wanted()


def test_a_child_is_told_whether_its_parent_has_a_terminal(
    monkeypatch: pytest.MonkeyPatch, logger: logging.Logger
) -> None:
    stream = replace_stderr(monkeypatch, io.StringIO())
    set_up_logging("SINK", use_color=True)
    logger.warning("slow")
    assert ESCAPE in stream.getvalue()


def test_details_only_if_wanted(monkeypatch: pytest.MonkeyPatch, logger: logging.Logger) -> None:
    stream = replace_stderr(monkeypatch, io.StringIO())
    set_up_logging("VENTILATOR")
    logger.debug("hidden")
    set_up_logging("VENTILATOR", verbose=True)
    logger.debug("shown")
    assert "hidden" not in stream.getvalue()
    assert stream.getvalue().count("shown") == 1


def test_a_stage_tells_its_time_and_remarks(
    monkeypatch: pytest.MonkeyPatch, logger: logging.Logger
) -> None:
    stream = replace_stderr(monkeypatch, io.StringIO())
    set_up_logging("SERVER")
    with stage(logger, "graph") as current:
        current.remark("cached")
        current.remark("12 layers")
    assert re.search(r"graph: cached, 12 layers \(\d+\.\d\d s\)", stream.getvalue())


def test_a_stage_that_failed_says_nothing(
    monkeypatch: pytest.MonkeyPatch, logger: logging.Logger
) -> None:
    stream = replace_stderr(monkeypatch, io.StringIO())
    set_up_logging("SERVER")
    with pytest.raises(ValueError, match="damaged"), stage(logger, "graph"):
        raise ValueError("damaged")
    assert stream.getvalue() == ""


def test_a_bug_tells_where_it_is_and_what_it_says_only_if_wanted(
    monkeypatch: pytest.MonkeyPatch, logger: logging.Logger
) -> None:
    def fail() -> None:
        raise KeyError("a user's text")

    for verbose in (False, True):
        stream = replace_stderr(monkeypatch, io.StringIO())
        set_up_logging("VENTILATOR", verbose=verbose)
        try:
            fail()
        except KeyError as error:
            log_bug(logger, "can't do it", error)
        said = stream.getvalue()
        assert "error: can't do it: KeyError" in said
        assert "in fail" in said
        assert ("a user's text" in said.replace('raise KeyError("a user', "")) == verbose


def test_complaints_are_few_and_tell_of_the_others(
    monkeypatch: pytest.MonkeyPatch, logger: logging.Logger
) -> None:
    stream = replace_stderr(monkeypatch, io.StringIO())
    set_up_logging("SINK")
    now = 100.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    complaints = Complaints(logger)
    for _ in range(5):
        complaints.warn("nonsense came")
    assert stream.getvalue().count("warning: nonsense came") == 1
    now += Complaints.EVERY
    complaints.warn("nonsense came")
    assert "nonsense came; and 4 like it since the last one" in stream.getvalue()
