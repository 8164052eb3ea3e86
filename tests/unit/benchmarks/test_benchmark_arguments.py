"""The benchmark's flags, beside all of the server's."""

from __future__ import annotations

from typing import Any, List

import pytest

from bert_serving.benchmarks.arguments import chosen, get_benchmark_parser
from bert_serving.benchmarks.service import server_args
from bert_serving.server.arguments import get_args_parser


def parse(*words: str) -> Any:
    return get_benchmark_parser().parse_args(list(words))


def test_the_server_gets_its_flags_and_no_others() -> None:
    own = server_args(parse("-model_dir", "m", "-num_worker", "3", "-load", "-rate", "5"))
    plain = get_args_parser().parse_args(["-model_dir", "m", "-num_worker", "3"])
    assert set(vars(own)) == set(vars(plain))
    assert (own.model_dir, own.num_worker) == ("m", 3)
    # AUTO is told apart by identity.
    assert own.max_seq_len is plain.max_seq_len


def test_free_ports_unless_they_are_named() -> None:
    own = server_args(parse())
    assert own.port != own.port_out
    assert 5555 not in (own.port, own.port_out)
    own = server_args(parse("-port", "7000", "-port_out", "7001"))
    assert (own.port, own.port_out) == (7000, 7001)


def test_changes_replace_flags() -> None:
    args = parse("-max_seq_len", "20")
    assert server_args(args, max_seq_len=30).max_seq_len == 30
    assert args.max_seq_len == 20


@pytest.mark.parametrize(
    "words",
    [
        ["-connect", "::1:5555"],
        ["-memory_limit", "6X"],
        ["-rate", "0"],
        ["-p99", "x"],
        ["-workload", "zipf:3"],
        ["-load", "-memory"],
        ["-preset", "novel"],
    ],
)
def test_what_is_refused(words: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(*words)
    assert words[0] in capsys.readouterr().err


def test_a_preset_holds_for_what_is_not_named() -> None:
    args = parse("-preset", "article")
    assert chosen(args, "workload", "lognormal:20") == "uniform:6-30"
    args = parse("-preset", "article", "-workload", "fixed:8")
    assert chosen(args, "workload", "lognormal:20") == "fixed:8"
    assert chosen(parse(), "workload", "lognormal:20") == "lognormal:20"
