"""Before the processes start: the model is found, its graph optimized or taken from the cache."""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from bert_serving.graph_opt import cache
from bert_serving.graph_opt.pooling import GraphOptions
from bert_serving.graph_opt.sources import ModelSource, read_model
from bert_serving.server import engines, models, tuning
from bert_serving.server.devices import assign, cpu_threads, cuda_is_installed, list_gpus
from bert_serving.server.errors import StartupError
from bert_serving.server.logs import colors_wanted, stage
from bert_serving.server.making import make_graph, run_module
from bert_serving.server.model_fingerprint import computed_by, fingerprint_of
from bert_serving.server.model_flags import AUTO
from bert_serving.server.planning import (
    SequencePlan,
    plan_echo,
    plan_http,
    plan_model,
    precision_of,
    precision_remarks,
    reported_config,
    unheeded_flags,
)
from bert_serving.server.ports import check_ports
from bert_serving.server.security import exposure_remarks, plan_security
from bert_serving.server.spec import EngineSpec, ServiceSpec
from bert_serving.server.tokenization import read_vocabulary
from bert_serving.server.tuning import Tuning

__all__ = ["prepare"]

logger = logging.getLogger(__name__)

#: Tokens of a batch where nothing was measured: on CPUs what stays in the cache, on GPUs what keeps
#: them busy.
CPU_TOKENS, GPU_TOKENS = 1024, 16384
#: A token costs the echo engine next to nothing, a batch costs the service something.
ECHO_TOKENS = 16384
#: Batches that a worker holds for each of its streams unless -prefetch_size is named: one running,
#: one ready.
CREDITS = 2

#: What a token of padding costs, a real one being 1: where batches are packed, only attention and
#: what lies around it pay for it. See docs/scheduling.md.
PADDING_WEIGHTS = {"echo": 0.0, "packed": 0.2, "padded": 1.0}

_GPU_REMEDIES = {
    "onnxruntime": (
        "ONNX Runtime",
        "pip uninstall onnxruntime; pip install onnxruntime-gpu",
    ),
    "tensorflow": (
        "TensorFlow",
        "pip uninstall tensorflow-cpu; pip install 'tensorflow[and-cuda]', or on Python 3.7 "
        "tensorflow-gpu==1.15",
    ),
}


def prepare(
    args: argparse.Namespace, packed: bool = True, ports_are_ours: bool = False
) -> ServiceSpec:
    """Resolve everything that the user left open and make the graph ready.

    ``packed``: whether the graph is to be one for batches without padding; the other is there to
    compare with. ``ports_are_ours``: the service runs already, so its ports aren't free.

    Raises StartupError or graph_opt's errors, whose messages are for the user.
    """
    if not ports_are_ours:
        check_ports(args)
    http, security = plan_http(args), plan_security(args)
    engine, precision = engines.choose(args.engine), precision_of(args)
    devices = _devices(args, engine)
    on_gpu = max(devices) >= 0
    _warn(args, engine, precision, on_gpu)
    graph: Optional[str] = None
    layers_order: Optional[Dict[str, Any]] = None
    vocabulary: Optional[str] = None
    computed: Optional[Dict[str, Any]] = None
    if engine == "echo" and args.model_dir is None:
        plan, model = plan_echo(args), "echo"
        hidden_size = plan.dimension
    else:
        source, model = _find_model(args)
        plan = plan_model(args, source)
        hidden_size = source.config.hidden_size
        vocabulary = str(source.vocab_file)
        target = engines.ENGINES[engine].target
        if target is not None:
            form = cache.Form(target, precision, "gpu" if on_gpu else "cpu", packed)
            graph = str(_graph(args, source, plan, form))
            computed = computed_by(source, plan.graph, form, args.graph_tmp_dir)
            if not args.fixed_pooling:
                layers_order = _layers_order(args, source, _every_layer(plan.graph), form)
    engine_spec = EngineSpec(
        engine,
        graph,
        plan.dimension,
        plan.per_token,
        cpu_threads(args.num_worker),
        args.gpu_memory_fraction,
        args.xla,
        layers_order=layers_order,
        hidden_size=hidden_size,
    )
    fitted = _tuning(engine_spec, min(devices), plan.tokenizer.max_length)
    config = reported_config(
        args, plan, engine=engine, precision=precision, fp16=precision == "fp16"
    )
    padding_weight = PADDING_WEIGHTS["echo" if graph is None else "packed" if packed else "padded"]
    spec = _spec(
        args, plan, model, vocabulary, engine_spec, fitted, padding_weight, devices, config
    )
    fingerprint = fingerprint_of(spec, computed)
    return replace(spec, http=http, security=security, model_fingerprint=fingerprint)


def _devices(args: argparse.Namespace, engine: str) -> Tuple[int, ...]:
    """The device of each worker."""
    if engine == "echo":
        return (-1,) * args.num_worker
    gpus = [] if args.cpu else list_gpus()
    if gpus and not cuda_is_installed(engine):
        logger.warning(
            "this machine has a GPU, but the %s here is the one for CPUs: %s (or use -cpu)",
            *_GPU_REMEDIES[engine],
        )
        gpus = []
    return assign(args.num_worker, gpus, args.device_map, args.cpu)


def _warn(args: argparse.Namespace, engine: str, precision: str, on_gpu: bool) -> None:
    """Log what whoever named the flags may not expect."""
    remarks = unheeded_flags(args, engine, on_gpu) + precision_remarks(precision, engine, on_gpu)
    for remark in remarks + exposure_remarks(args):
        logger.warning(remark)
    if args.mask_cls_sep and args.pooling_strategy in ("SEP_TOKEN", "LAST_TOKEN"):
        logger.warning(
            "with -mask_cls_sep, %s is the last token that is not masked, as in 1.10",
            args.pooling_strategy,
        )


def _find_model(args: argparse.Namespace) -> Tuple[ModelSource, str]:
    with stage(logger, "model") as current:
        directory, name = models.resolve(args.model_dir, current.remark)
        source = read_model(
            directory,
            config_name=args.config_name,
            ckpt_name=args.ckpt_name,
            tuned_model_dir=args.tuned_model_dir,
        )
        _check_vocabulary(source)
        current.remarks.insert(0, name)
        newest = _newest_checkpoint(args, source)
        if newest is not None:
            current.remark("the newest checkpoint, %s" % newest)
    return source, name


def _newest_checkpoint(args: argparse.Namespace, source: ModelSource) -> Optional[str]:
    """The name of a checkpoint that was taken though another one was named."""
    stems = [path.stem for path in source.files if path.suffix == ".index"]
    return stems[0] if stems and stems[0] != args.ckpt_name else None


def _check_vocabulary(source: ModelSource) -> None:
    """Raise StartupError if the vocabulary can't be read or has ids that the model doesn't."""
    highest = max(read_vocabulary(source.vocab_file).values())
    if highest >= source.config.vocab_size:
        raise StartupError(
            "the vocabulary %s has %d tokens, but the model has embeddings for %d; is it that of "
            "another model?" % (source.vocab_file, highest + 1, source.config.vocab_size)
        )


def _graph(
    args: argparse.Namespace, source: ModelSource, plan: SequencePlan, form: cache.Form
) -> Path:
    """The optimized graph, from the cache or else made by a process that ends afterwards."""
    directory = Path(args.graph_tmp_dir) if args.graph_tmp_dir else None
    with stage(logger, "graph") as current:
        artifact = cache.lookup(source, plan.graph, form, directory=directory)
        if artifact is not None:
            current.remark("cached")
            return artifact.path
        path = make_graph(_order(args, source, plan.graph, form))
        current.remark("optimized")
        return path


def _order(
    args: argparse.Namespace, source: ModelSource, options: GraphOptions, form: cache.Form
) -> Dict[str, Any]:
    """What the optimizer's process reads."""
    return {
        "model_dir": str(source.directory),
        "config_name": args.config_name,
        "ckpt_name": args.ckpt_name,
        "tuned_model_dir": args.tuned_model_dir,
        "options": asdict(options),
        "form": asdict(form),
        "directory": args.graph_tmp_dir,
    }


def _layers_order(
    args: argparse.Namespace, source: ModelSource, options: GraphOptions, form: cache.Form
) -> Dict[str, Any]:
    """The same for a graph that is made later, of the files as they are now or not at all."""
    order = _order(args, source, options, form)
    entry = cache.entry_directory(source, options, form, args.graph_tmp_dir)
    return dict(order, entry=entry.name)


def _every_layer(options: GraphOptions) -> GraphOptions:
    """For the graph of requests that ask for another pooling; the same whatever the server's is."""
    return GraphOptions(every_layer=True, position_embeddings=options.position_embeddings)


def _tuning(engine: EngineSpec, device: int, max_length: int) -> Tuning:
    """The graph's form and the batches' size for this machine: found before, or else now."""
    if engine.graph is None:
        return Tuning(None, ECHO_TOKENS)
    if not tuning.is_worth_it(Path(engine.graph)):
        return Tuning(engine.graph, CPU_TOKENS if device < 0 else GPU_TOKENS)
    with stage(logger, "batches") as current:
        found = tuning.lookup(engine, device, max_length)
        how = "cached"
        if found is None:
            order = {"engine": asdict(engine), "device": device, "max_length": max_length}
            answer = run_module("tune", order, "is there enough memory to run the model?")
            if "error" in answer:
                raise StartupError(answer["error"])
            found = Tuning.from_json(answer)
            how = "measured"
        at_a_time = "" if found.streams == 1 else ", %d at a time" % found.streams
        current.remark("about %d tokens each%s" % (found.token_budget, at_a_time))
        current.remark(how)
    return found


def _spec(
    args: argparse.Namespace,
    plan: SequencePlan,
    model: str,
    vocabulary: Optional[str],
    engine: EngineSpec,
    fitted: Tuning,
    padding_weight: float,
    devices: Tuple[int, ...],
    config: Dict[str, Any],
) -> ServiceSpec:
    return ServiceSpec(
        host=args.host,
        port=args.port,
        port_out=args.port_out,
        num_worker=args.num_worker,
        devices=devices,
        credits=fitted.streams
        * (CREDITS if args.prefetch_size is AUTO else 1 + args.prefetch_size),
        max_batch_size=args.max_batch_size,
        token_budget=fitted.token_budget,
        padding_weight=padding_weight,
        priority_batch_size=args.priority_batch_size,
        max_queue_rows=args.max_queue_rows,
        max_queue_bytes=args.max_queue_mb * 1_000_000,
        max_reply_bytes=args.max_reply_mb * 1_000_000,
        max_client_share=args.max_client_share,
        request_timeout=args.request_timeout,
        show_tokens=args.show_tokens_to_client,
        vocabulary=vocabulary,
        tokenizer=plan.tokenizer,
        fixed_length=plan.fixed_length,
        engine=replace(
            engine,
            graph=fitted.graph,
            streams=fitted.streams,
            split_tokens=fitted.split_tokens,
        ),
        pooling=plan.pooling,
        model=model,
        config=config,
        verbose=args.verbose,
        use_color=colors_wanted(),
        worker_timeout=args.worker_timeout,
        drain_timeout=float(args.drain_timeout),
    )
