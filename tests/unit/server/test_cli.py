from __future__ import annotations

from typing import List

import pytest

from bert_serving.server.arguments import get_args_parser
from bert_serving.server.cli import usage_arguments


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], ""),
        (["-port", "7000"], "port=7000"),
        (["-port", "7000", "-port_out", "7001"], "port=7000, port_out=7001"),
        (["-host", "0.0.0.0"], ""),
        (["-host", "192.0.2.7", "-port_out", "7001"], "ip='192.0.2.7', port_out=7001"),
    ],
)
def test_how_a_client_finds_the_server(flags: List[str], expected: str) -> None:
    assert usage_arguments(get_args_parser().parse_args(flags)) == expected
