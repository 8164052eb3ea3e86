"""The flags of bert-serving-encode; those behind ``--`` are bert-serving-start's."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, List, Optional

from bert_serving.client.bulk.errors import UsageError
from bert_serving.client.bulk.inputs import INPUT_FORMATS
from bert_serving.client.bulk.outputs import KEEPING_FORMATS, output_format
from bert_serving.client.bulk.rows import BLANKS
from bert_serving.client.version import __version__

__all__ = ["encode_options", "get_encode_parser", "parse"]

TRUNCATIONS = {"right": "right", "left": "left", "error": False}
#: Flags whose values go into the vectors as they are, by the server.
VECTOR_FLAGS = ("pooling_strategy", "pooling_layer", "normalize", "truncate")


def get_encode_parser() -> argparse.ArgumentParser:
    """The parser of ``bert-serving-encode``, without what stands behind ``--``."""
    parser = argparse.ArgumentParser(
        prog="bert-serving-encode",
        usage="%(prog)s INPUT -o OUT [flags] [--start [-- flags of bert-serving-start]]",
        description="Encode a file of texts by a server. An interrupted run goes on where it was "
        "when the same command is given again.",
    )
    parser.add_argument(
        "input", type=Path, metavar="INPUT", help="FILE.{txt,jsonl,csv}[.gz], .parquet"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="FILE.{npy,npz,parquet,jsonl}",
    )
    _add_input_flags(parser.add_argument_group("input"))
    _add_output_flags(parser.add_argument_group("output"))
    _add_vector_flags(
        parser.add_argument_group("vectors", "as the server computes them, if not named")
    )
    _add_server_flags(parser.add_argument_group("server"))
    _add(parser, "quiet", action="store_true", help="say nothing but errors")
    _add(parser, "version", action="version", version="%(prog)s " + __version__)
    return parser


def _add_input_flags(group: Any) -> None:
    _add(group, "input_format", choices=INPUT_FORMATS, help="default: by the name of INPUT")
    _add(
        group,
        "column",
        metavar="NAME",
        help="of CSV and Parquet, or key of JSON lines, that has the texts (default: text, or the "
        "only one)",
    )
    _add(
        group,
        "delimiter",
        type=_delimiter,
        default=",",
        metavar="CHARACTER",
        help=r"between the fields of CSV; \t is a tab (default: %(default)s)",
    )
    _add(
        group,
        "blank",
        choices=BLANKS,
        default="error",
        help="for a text that is missing or has only whitespace: end with an error, or write a "
        "vector of zeros (default: %(default)s)",
    )


def _add_output_flags(group: Any) -> None:
    _add(
        group,
        "dtype",
        choices=("float32", "float16"),
        default="float32",
        help="default: %(default)s",
    )
    _add(group, "keep", action="store_true", help="write the texts too (parquet, jsonl)")
    _add(group, "overwrite", action="store_true", help="replace OUT if it is there")
    _add(
        group, "restart", action="store_true", help="begin anew: drop what an earlier run has done"
    )
    _add(
        group,
        "checkpoint_seconds",
        type=_seconds,
        default=5.0,
        metavar="S",
        help="an interruption costs at most so many seconds of work (default: 5)",
    )


def _add_vector_flags(group: Any) -> None:
    _add(group, "pooling_strategy", type=str.upper, metavar="NAME", help="e.g. REDUCE_MEAN")
    _add(
        group,
        "pooling_layer",
        type=int,
        nargs="+",
        metavar="N",
        help="layers, e.g. -2; several are put together",
    )
    _add(group, "normalize", action="store_true", default=None, help="to unit length")
    _add(
        group,
        "truncate",
        choices=tuple(TRUNCATIONS),
        help="cut texts that are too long at this end, or end with an error (default: right)",
    )


def _add_server_flags(group: Any) -> None:
    _add(group, "ip", metavar="ADDRESS", help="default: localhost")
    _add(group, "port", type=_positive, metavar="PORT", help="default: 5555")
    _add(group, "port_out", type=_positive, metavar="PORT", help="default: 5556")
    _add(group, "keys", metavar="FILE", help="a client's key file, for a server with -curve")
    _add(
        group,
        "server_key",
        metavar="KEY",
        help="that server's public key or a file with it, if it isn't in that of --keys",
    )
    _add(
        group,
        "timeout",
        type=_positive,
        default=600_000,
        metavar="MS",
        help="milliseconds to wait for the next result (default: %(default)s)",
    )
    _add(
        group,
        "start",
        action="store_true",
        help="start a server for this run, with the flags behind --, and stop it at the end",
    )
    _add(
        group,
        "batch_size",
        type=_positive,
        default=512,
        metavar="ROWS",
        help="texts of a request (default: %(default)s)",
    )
    _add(
        group,
        "window",
        type=_positive,
        default=16,
        metavar="N",
        help="requests under way at a time (default: %(default)s)",
    )


def parse(words: List[str]) -> argparse.Namespace:
    """The arguments; ``server_words`` are those behind ``--``. Raises UsageError."""
    split = words.index("--") if "--" in words else len(words)
    args = get_encode_parser().parse_args(words[:split])
    args.server_words = words[split + 1 :]
    if args.server_words and not args.start:
        raise UsageError("the flags behind -- are for a server that --start starts: add --start")
    for name in ("ip", "port", "port_out"):
        if args.start and getattr(args, name) is not None:
            raise UsageError(
                "--%s is for a server that runs already: leave out it or --start" % name
            )
    if args.keep and output_format(args.output) not in KEEPING_FORMATS:
        raise UsageError("--keep is for %s" % " and ".join(KEEPING_FORMATS))
    if args.pooling_strategy == "NONE":
        raise UsageError("--pooling_strategy NONE gives no single vector of a text: name another")
    return args


def encode_options(args: argparse.Namespace) -> Dict[str, Any]:
    """What ``BertClient.encode`` is to be told beside the texts: only what isn't its default."""
    options: Dict[str, Any] = {}
    for name in VECTOR_FLAGS:
        if getattr(args, name) is not None:
            options[name] = getattr(args, name)
    if args.truncate is not None:
        options["truncate"] = TRUNCATIONS[args.truncate]
    if args.dtype != "float32":
        options["dtype"] = args.dtype
    return options


def _add(group: Any, name: str, **options: Any) -> None:
    """A flag in the spellings that all commands understand."""
    spellings = dict.fromkeys(("--" + name, "--" + name.replace("_", "-"), "-" + name))
    group.add_argument(*spellings, dest=name, **options)


def _positive(value: str) -> int:
    if not value.isdigit() or int(value) < 1:
        raise argparse.ArgumentTypeError("must be a whole number from 1 on, but is %r" % value)
    return int(value)


def _seconds(value: str) -> float:
    try:
        seconds: Optional[float] = float(value)
    except ValueError:
        seconds = None
    if seconds is None or not seconds >= 0:
        raise argparse.ArgumentTypeError("must be a number of seconds from 0 on, but is %r" % value)
    return seconds


def _delimiter(value: str) -> str:
    value = "\t" if value == "\\t" else value
    if len(value) != 1 or value in '"\r\n':
        raise argparse.ArgumentTypeError("must be a character, and no quote, but is %r" % value)
    return value
