"""The server that is measured: one started here, or one that already runs."""

from __future__ import annotations

import argparse
import copy
import logging
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.startup import free_ports
from bert_serving.benchmarks.wire import Target, Wire
from bert_serving.benchmarks.workloads import Workload, make_workload
from bert_serving.graph_opt.errors import GraphOptError
from bert_serving.graph_opt.sources import read_model
from bert_serving.graph_opt.sources.vocabulary import find_vocabulary
from bert_serving.server import BertServer, models
from bert_serving.server.arguments import get_args_parser
from bert_serving.server.engines import echo
from bert_serving.server.errors import ServerError
from bert_serving.server.preparation import prepare
from bert_serving.server.spec import ServiceSpec
from bert_serving.server.tokenization import Tokenizer, TokenizerSettings, read_vocabulary

__all__ = ["ModelLimits", "Subject", "connected", "model_limits", "own_server", "prepared"]

#: The longest sequence of a server that names none: that of BERT.
LONGEST = 512


@dataclass(frozen=True)
class Subject:
    """A server, and what is needed to make texts for it.

    ``config`` is what it says of itself; ``spec`` is there for one that was started here.
    """

    target: Target
    vocabulary: Dict[str, int]
    tokenizer: Tokenizer
    longest: int
    config: Dict[str, Any]
    spec: Optional[ServiceSpec] = None

    def workload(self, text: str, words_file: str = "") -> Workload:
        """See :func:`make_workload`."""
        return make_workload(text, self.vocabulary, self.tokenizer, self.longest, words_file)


@dataclass(frozen=True)
class ModelLimits:
    """What the model has: encoder layers, and positions."""

    layers: int
    positions: int


def server_args(args: argparse.Namespace, **changes: Any) -> argparse.Namespace:
    """Only the server's flags of ``args``, some of them changed, with ports that are free."""
    known = vars(get_args_parser().parse_args([]))
    own = argparse.Namespace(**{name: copy.copy(getattr(args, name)) for name in known})
    for name, value in changes.items():
        setattr(own, name, value)
    free = free_ports()
    own.port = own.port or free[0]
    own.port_out = own.port_out or free[1]
    return own


@contextmanager
def own_server(args: argparse.Namespace, **changes: Any) -> Iterator[Subject]:
    """Start a server, wait until it is ready, and stop it after the block.

    ``changes`` are flags to replace. Raises BenchmarkError if it can't start.
    """
    own = server_args(args, **changes)
    with _server_errors():
        server = BertServer(own)
        if not args.verbose:
            logging.getLogger("bert_serving").setLevel(logging.WARNING)
        server.__enter__()
    try:
        spec = server.spec
        target = Target(spec.host, spec.port, spec.port_out, args.keys, args.server_key)
        with Wire(target, 1) as wire:
            config = dict(wire.wait_until_ready(args.wait_till_ready))
        yield _subject(target, spec, config)
    finally:
        server.close()


def _subject(target: Target, spec: ServiceSpec, config: Dict[str, Any]) -> Subject:
    vocabulary = (
        read_vocabulary(Path(spec.vocabulary)) if spec.vocabulary else dict(echo.vocabulary())
    )
    tokenizer = Tokenizer(vocabulary, spec.tokenizer)
    return Subject(target, vocabulary, tokenizer, spec.tokenizer.max_length, config, spec)


def prepared(args: argparse.Namespace, packed: bool = True, **changes: Any) -> ServiceSpec:
    """A service as it would run, its graph made, but not started. Raises BenchmarkError.

    With ``packed=False`` its graph is one for padded batches.
    """
    with _server_errors():
        return prepare(server_args(args, **changes), packed)


def model_limits(args: argparse.Namespace) -> Optional[ModelLimits]:
    """Of the model that ``args`` name; None if the engine echo runs without one.

    Raises BenchmarkError.
    """
    if args.engine == "echo" and args.model_dir is None:
        return None
    with _server_errors():
        directory, _ = models.resolve(args.model_dir, lambda remark: None)
        source = read_model(
            directory,
            config_name=args.config_name,
            ckpt_name=args.ckpt_name,
            tuned_model_dir=args.tuned_model_dir,
        )
    return ModelLimits(source.config.num_hidden_layers, source.config.max_position_embeddings)


@contextmanager
def _server_errors() -> Iterator[None]:
    try:
        yield
    except (ServerError, GraphOptError) as error:
        raise BenchmarkError(str(error)) from error


def connected(target: Target, args: argparse.Namespace) -> Subject:
    """A server that runs already, this project's or one of 1.10.

    Texts need the model's vocabulary: it is taken from ``-model_dir`` or from the directory that
    the server names, if that is on this machine. Raises BenchmarkError.
    """
    target = replace(target, keys=args.keys, server_key=args.server_key)
    with Wire(target, 1) as wire:
        config = dict(wire.wait_until_ready(args.wait_till_ready))
    vocabulary = _vocabulary_of(config, args.model_dir)
    longest = int(config.get("max_seq_len") or LONGEST)
    lowercase = bool(config.get("do_lower_case", True))
    settings = TokenizerSettings(max_length=longest, lowercase=lowercase)
    return Subject(target, vocabulary, Tokenizer(vocabulary, settings), longest, config)


def _vocabulary_of(config: Dict[str, Any], named: Optional[str]) -> Dict[str, int]:
    directory = named or config.get("model_dir")
    if directory is None and config.get("engine") == "echo":
        return dict(echo.vocabulary())
    with _server_errors():
        if directory is None and config.get("model") == models.DEFAULT_MODEL:
            directory = str(models.resolve(None, lambda remark: None)[0])
        if directory is None or not Path(directory).is_dir():
            raise BenchmarkError(
                "the server's model (%s) is not on this machine; name a directory with the same "
                "vocab.txt by -model_dir, for texts to be made of it" % directory
            )
        return read_vocabulary(find_vocabulary(Path(directory)))
