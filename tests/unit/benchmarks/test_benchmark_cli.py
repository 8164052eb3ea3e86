"""The command: modes, missing packages, exit status."""

from __future__ import annotations

from typing import List

import pytest

from bert_serving.benchmarks import cli
from bert_serving.benchmarks.arguments import get_benchmark_parser
from bert_serving.benchmarks.errors import BenchmarkError


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ([], "experiments"),
        (["-load"], "load"),
        (["-preset", "article"], "load"),
        (["--engine-only"], "engine_only"),
        (["-memory"], "memory"),
    ],
)
def test_modes(words: List[str], mode: str) -> None:
    assert cli.mode_of(get_benchmark_parser().parse_args(words)) == mode


def test_a_preset_of_another_mode() -> None:
    args = get_benchmark_parser().parse_args(["-memory", "-preset", "article"])
    with pytest.raises(BenchmarkError, match="-preset article is a load"):
        cli.mode_of(args)


def test_missing_packages_are_named_with_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    with pytest.raises(BenchmarkError, match=r"matplotlib.*bert-serving\[benchmark\].*-no_plots"):
        cli.check_installed(plots=True, bars=True)
    with pytest.raises(BenchmarkError, match=r"tqdm.*bert-serving\[benchmark\].*-no_progress"):
        cli.check_installed(plots=False, bars=True)
    cli.check_installed(plots=False, bars=False)


def test_an_error_is_shown_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-load", "-engine", "echo"]) == 2
    assert capsys.readouterr().err.startswith("error: -load needs -rate")


def test_an_interruption_has_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupt)
    assert cli.main([]) == 130
