"""What the ventilator has for one model: how texts become tokens, and which worker gets them."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

from bert_serving.server.batching import BatchLimits
from bert_serving.server.engines.echo import vocabulary as echo_vocabulary
from bert_serving.server.intake import Intake
from bert_serving.server.scheduler import Scheduler
from bert_serving.server.spec import ServiceSpec
from bert_serving.server.tokenization import Tokenizer, read_vocabulary

__all__ = ["Generation", "vocabulary_of"]


class Generation:
    """A request belongs to one generation from its acceptance to its end, and so do workers."""

    def __init__(self, spec: ServiceSpec, vocabulary: Dict[str, int]) -> None:
        self.spec = spec
        limits = BatchLimits(spec.max_batch_size, spec.token_budget, spec.padding_weight)
        self.scheduler = Scheduler(
            limits,
            spec.priority_batch_size,
            split_tokens=spec.engine.split_tokens,
            worker_timeout=spec.worker_timeout,
        )
        self.intake = Intake(Tokenizer(vocabulary, spec.tokenizer))

    @property
    def number(self) -> int:
        return self.spec.generation

    def close(self) -> None:
        self.intake.close()


def vocabulary_of(spec: ServiceSpec) -> Dict[str, int]:
    """The service's vocabulary. Raises an exception of graph_opt or OSError."""
    return echo_vocabulary() if spec.vocabulary is None else read_vocabulary(Path(spec.vocabulary))
