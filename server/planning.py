"""From the flags and the model to what is served: every default resolved, every clash named.

Pure, but for a look at whether a package is installed, and at files with secrets.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Dict, List, Optional, Tuple

from bert_serving.graph_opt.defaults import POOLING_LAYERS, POOLING_STRATEGY, resolve_options
from bert_serving.graph_opt.heads import HEADS
from bert_serving.graph_opt.pooling import GraphOptions, output_dimension
from bert_serving.graph_opt.sources import ModelSource
from bert_serving.graph_opt.variables import has_pooler
from bert_serving.server.arguments import get_args_parser
from bert_serving.server.engines.echo import DIMENSION
from bert_serving.server.errors import StartupError
from bert_serving.server.model_flags import AUTO, POOLING_CODES
from bert_serving.server.security import http_security
from bert_serving.server.security_flags import UNTOLD_FLAGS
from bert_serving.server.spec import HttpSpec, PoolingSpec
from bert_serving.server.tokenization import TokenizerSettings

__all__ = [
    "SequencePlan",
    "plan_echo",
    "plan_http",
    "plan_model",
    "precision_of",
    "precision_remarks",
    "reported_config",
    "unheeded_flags",
]

#: 1.10's defaults.
GOOGLE_MAX_SEQ_LEN = 25
#: Longest sequence of the echo engine when it has no model to go by: that of BERT-base.
ECHO_MAX_SEQ_LEN = 512
#: Its layers, likewise.
ECHO_LAYERS = 12
#: What the extra "http" installs, by the names that are imported.
HTTP_PACKAGES = (
    "fastapi",
    "fastapi_offline",
    "orjson",
    "prometheus_client",
    "pydantic",
    "uvicorn",
)


@dataclass(frozen=True)
class SequencePlan:
    """How texts become sequences and sequences vectors."""

    tokenizer: TokenizerSettings
    fixed_length: bool  # token-level results are padded to the longest sequence allowed
    max_seq_len: Optional[int]  # as clients are told; None: the model's limit
    graph: GraphOptions
    dimension: int
    pooling: PoolingSpec

    @property
    def per_token(self) -> bool:
        """Whether there is a vector for every token instead of one for every text."""
        return self.graph.pooling_strategy == "NONE"


def plan_model(args: argparse.Namespace, source: ModelSource) -> SequencePlan:
    """The plan for a model directory; its own defaults hold for what the user didn't name.

    Raises StartupError, or graph_opt's errors for what the model doesn't have.
    """
    limit, reported, fixed = _lengths(args, source)
    options = resolve_options(
        source,
        pooling_strategy=_named(args.pooling_strategy),
        pooling_layers=_named(args.pooling_layer),
        normalize=_named(args.normalize),
        position_embeddings=not args.no_position_embeddings,
        num_labels=_named(args.num_labels),
    )
    own = source.tokenizer
    lowercase = own.lowercase is not False if args.do_lower_case is AUTO else args.do_lower_case
    tokenizer = TokenizerSettings(
        max_length=limit,
        lowercase=lowercase,
        # -cased_tokenization keeps accents too, as it did in 1.10.
        strip_accents=own.strip_accents if args.do_lower_case is AUTO else lowercase,
        split_chinese=own.tokenize_chinese_chars,
        mask_special=args.mask_cls_sep,
        no_special=args.no_special_token,
        final_sigma=source.layout == "google",
    )
    dimension = output_dimension(source.config, options)
    pooling = _pooling(args, options, source.config.num_hidden_layers, has_pooler(source.variables))
    fixed = fixed or args.fixed_embed_length
    return SequencePlan(tokenizer, fixed, reported, options, dimension, pooling)


def plan_echo(args: argparse.Namespace) -> SequencePlan:
    """The plan for the echo engine without a model."""
    named = None if args.max_seq_len is AUTO else args.max_seq_len
    tokenizer = TokenizerSettings(
        max_length=named or ECHO_MAX_SEQ_LEN,
        lowercase=args.do_lower_case is not False,
        mask_special=args.mask_cls_sep,
        no_special=args.no_special_token,
    )
    options = GraphOptions(
        pooling_strategy=_named(args.pooling_strategy) or POOLING_STRATEGY,
        pooling_layers=_named(args.pooling_layer) or POOLING_LAYERS,
    )
    fixed = named is not None or args.fixed_embed_length
    reported = None if args.max_seq_len is None else tokenizer.max_length
    named_layers = (max(layer + 1, -layer) for layer in options.pooling_layers)
    pooling = _pooling(args, options, max(ECHO_LAYERS, *named_layers), has_pooler=False)
    return SequencePlan(tokenizer, fixed, reported, options, DIMENSION, pooling)


def _pooling(
    args: argparse.Namespace, options: GraphOptions, num_layers: int, has_pooler: bool
) -> PoolingSpec:
    return PoolingSpec(
        options.pooling_strategy,
        options.pooling_layers,
        options.normalize,
        args.fixed_pooling,
        num_layers,
        # No model is computed by the engine echo.
        has_pooler and args.engine != "echo",
    )


def _lengths(args: argparse.Namespace, source: ModelSource) -> Tuple[int, Optional[int], bool]:
    """The longest sequence, what clients are told of it, and whether all are padded to it."""
    most = source.config.max_position_embeddings
    if args.max_seq_len is None:
        return most, None, False
    if args.max_seq_len is not AUTO:
        if args.max_seq_len > most and not args.no_position_embeddings:
            raise StartupError(
                "-max_seq_len %d is more than the %d positions that the model has embeddings "
                "for; use at most %d, or NONE" % (args.max_seq_len, most, most)
            )
        return args.max_seq_len, args.max_seq_len, True
    if source.layout == "google":
        length = min(GOOGLE_MAX_SEQ_LEN, most)
        return length, length, True
    length = min(source.defaults.max_seq_len or most, most)
    return length, length, False


def _named(value: Any) -> Any:
    """None where the user left a flag open."""
    return None if value is AUTO else value


def precision_of(args: argparse.Namespace) -> str:
    """What -precision and 1.10's -fp16 say together.

    Raises StartupError if they contradict each other, or this Python can't have the precision.
    """
    if args.precision is AUTO:
        return "fp16" if args.fp16 else "fp32"
    if args.fp16 and args.precision != "fp16":
        raise StartupError(
            "-fp16 and -precision %s contradict each other; name one of them" % args.precision
        )
    if args.precision == "bf16" and find_spec("ml_dtypes") is None:
        raise StartupError(
            "-precision bf16 needs the package ml_dtypes, which this Python (%s) doesn't have: "
            "pip install ml_dtypes (Python 3.9 or later), or choose fp16" % sys.executable
        )
    return str(args.precision)


def precision_remarks(precision: str, engine: str, on_gpu: bool) -> List[str]:
    """What to tell the user about a precision that isn't computed in."""
    computes = precision == "fp32" or (precision != "int8" and on_gpu)
    if precision == "int8" and engine == "onnxruntime" and not on_gpu:
        computes = True
    if computes or engine == "echo":
        return []
    return [
        "-precision %s makes the graph smaller, not faster: the engine %s computes in float32 "
        "from it on %s" % (precision, engine, "a GPU" if on_gpu else "a CPU")
    ]


def plan_http(args: argparse.Namespace) -> Optional[HttpSpec]:
    """What is served over HTTP; None: nothing.

    Raises StartupError if a package that it needs isn't installed.
    """
    if args.http_port is None:
        return None
    missing = [name for name in HTTP_PACKAGES if find_spec(name) is None]
    if missing:
        raise StartupError(
            "-http_port needs packages that this Python (%s) doesn't have (%s): "
            "pip install 'bert-serving[http]', or leave -http_port out"
            % (sys.executable, ", ".join(missing))
        )
    return HttpSpec(
        port=args.http_port,
        max_connect=args.http_max_connect,
        cors=args.cors,
        max_body=args.http_max_body << 20,
        max_rows=args.http_max_rows,
        timeout=float(args.http_timeout),
        **http_security(args),
    )


def reported_config(args: argparse.Namespace, plan: SequencePlan, **chosen: Any) -> Dict[str, Any]:
    """The flags as SHOW_CONFIG tells them, under 1.10's names and in its form.

    ``chosen`` are those that were left open and that the plan doesn't have.
    """
    config = {name: value for name, value in vars(args).items() if name not in UNTOLD_FLAGS}
    config.update(
        curve=args.curve is not None,
        max_seq_len=plan.max_seq_len,
        max_length=plan.tokenizer.max_length,
        do_lower_case=plan.tokenizer.lowercase,
        pooling_layer=list(plan.graph.pooling_layers),
        pooling_strategy=POOLING_CODES[plan.graph.pooling_strategy],
        pooling_strategy_name=plan.graph.pooling_strategy,
        normalize=plan.graph.normalize,
        num_labels=plan.graph.num_labels,
        **chosen,
    )
    return {name: None if value is AUTO else value for name, value in sorted(config.items())}


def unheeded_flags(args: argparse.Namespace, engine: str, on_gpu: bool) -> List[str]:
    """What to tell the user about flags that were named and won't have their effect."""
    defaults = vars(get_args_parser().parse_args([]))
    named = {name for name, value in vars(args).items() if value != defaults.get(name)}
    reasons: Dict[str, str] = {}
    if args.http_port is None:
        for name in sorted(defaults):
            if name == "cors" or (name.startswith("http_") and name != "http_port"):
                reasons[name] = "no HTTP is served without -http_port"
    if args.pooling_strategy not in HEADS:
        reasons["num_labels"] = "no classifier is served with this pooling strategy"
    if engine != "tensorflow":
        reasons["xla"] = "the engine %s has no XLA" % engine
    if not on_gpu:
        reasons["gpu_memory_fraction"] = "no worker computes on a GPU"
    if engine == "echo":
        for name in ("device_map", "fp16", "normalize", "num_labels", "precision"):
            reasons[name] = "the engine echo computes no model"
    return [
        "-%s has no effect: %s" % (name, reasons[name]) for name in sorted(named & set(reasons))
    ]
