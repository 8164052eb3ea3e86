"""Models with random weights, of any size and in either layout, to measure with.

``python -m bert_serving.benchmarks.random_model DIR --layout google`` makes BERT-base. What a model
computes is meaningless; how long it takes, and in how much memory, is that of a trained one.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

from bert_serving.graph_opt.config import BertConfig
from bert_serving.graph_opt.sources.huggingface import huggingface_name
from bert_serving.graph_opt.variables import variable_shapes

__all__ = ["BERT_BASE", "LAYOUTS", "write_model"]

BERT_BASE = BertConfig(
    vocab_size=30522,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
)
LAYOUTS = ("huggingface", "google")
#: As BERT's weights are initialized.
STANDARD_DEVIATION = 0.02


def write_model(
    directory: Path, config: BertConfig = BERT_BASE, layout: str = "huggingface", seed: int = 0
) -> Path:
    """Write config, vocabulary and weights; returns the directory.

    Google's layout needs TensorFlow, which writes the checkpoint.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "vocab.txt").write_text("\n".join(vocabulary(config.vocab_size)), encoding="utf-8")
    weights = random_weights(config, seed)
    if layout == "google":
        write_json(directory / "bert_config.json", asdict(config))
        _write_checkpoint(directory / "bert_model.ckpt", weights)
        return directory
    from safetensors.numpy import save_file

    write_json(directory / "config.json", dict(asdict(config), model_type="bert"))
    renamed = {
        # Hugging Face's dense kernels are [outputs, inputs].
        huggingface_name(name): np.ascontiguousarray(array.T) if _is_kernel(name) else array
        for name, array in weights.items()
    }
    save_file(renamed, str(directory / "model.safetensors"))
    return directory


def random_weights(config: BertConfig, seed: int) -> Dict[str, np.ndarray]:
    """Google's name -> float32 array: normal weights, layer norms that change nothing."""
    random = np.random.RandomState(seed)
    weights = {}
    for name, shape in variable_shapes(config).items():
        if name.endswith(("/gamma", "/beta")):
            weights[name] = np.full(shape, name.endswith("/gamma"), np.float32)
        else:
            weights[name] = random.standard_normal(shape).astype(np.float32) * STANDARD_DEVIATION
    return weights


def vocabulary(size: int) -> List[str]:
    """The special tokens, printable ASCII, and words to fill up."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = [chr(code) for code in range(33, 127)]
    tokens += characters + ["##" + character for character in characters]
    tokens += ["word%d" % number for number in range(size - len(tokens))]
    return tokens[:size]


def write_json(path: Path, values: Dict[str, object]) -> None:
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")


def _is_kernel(name: str) -> bool:
    return name.endswith("/kernel")


def _write_checkpoint(prefix: Path, weights: Dict[str, np.ndarray]) -> None:
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default(), tf.Session() as session:
        # Fed, for a constant of this size doesn't fit into a graph of TensorFlow.
        feeds = {}
        for name, array in weights.items():
            value = tf.placeholder(array.dtype, array.shape)
            variable = tf.get_variable(name, initializer=value, use_resource=False)
            feeds[variable.initializer] = {value: array}
        for initializer, feed in feeds.items():
            session.run(initializer, feed)
        tf.train.Saver().save(session, str(prefix), write_meta_graph=False)


def main(argv: Optional[List[str]] = None) -> int:
    """Write a model with random weights; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bert_serving.benchmarks.random_model")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--layout", choices=LAYOUTS, default="huggingface")
    parser.add_argument("--layers", type=int, default=BERT_BASE.num_hidden_layers)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    config = BertConfig(**dict(asdict(BERT_BASE), num_hidden_layers=args.layers))
    print(write_model(args.directory, config, args.layout, args.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
