"""Time and memory of ``bert-serving-optimize``: ``python -m bert_serving.benchmarks.optimizer``.

Makes BERT-base with random weights in both layouts and optimizes it in processes of their own. The
peak memory is the largest resident set of the process (Linux only); the self-check's engine runs in
another one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List, Optional

from bert_serving.benchmarks.random_model import BERT_BASE, LAYOUTS, write_model
from bert_serving.benchmarks.startup import describe_machine
from bert_serving.graph_opt.pipeline import PRECISIONS
from bert_serving.graph_opt.targets import TARGETS
from bert_serving.graph_opt.variables import variable_shapes

__all__ = ["main"]


def main(argv: Optional[List[str]] = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bert_serving.benchmarks.optimizer", description=__doc__)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=LAYOUTS)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS[:2])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--check", action="store_true", help="with the self-check")
    args = parser.parse_args(argv)
    weights = 4 * sum(_size(shape) for shape in variable_shapes(BERT_BASE).values())
    print(json.dumps(dict(describe_machine(), weights=weights), indent=1))
    print("\n| layout | target | precision | s | peak memory / weights | bytes / weights |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "optimized").mkdir()
        for layout in args.layouts:
            model = write_model(Path(scratch) / layout, layout=layout)
            for target in args.targets:
                for precision in args.precisions:
                    out = Path(scratch) / "optimized" / ("model." + target)
                    flags = ["--target", target, "--precision", precision]
                    flags += [] if args.check else ["--no-check"]
                    found = measure([str(model), "-o", str(out)] + flags)
                    written = _remove(out.parent)
                    print(
                        "| %s | %s | %s | %.1f | %.2f | %.2f |"
                        % (
                            layout,
                            target,
                            precision,
                            found["seconds"],
                            found["bytes"] / weights,
                            written / weights,
                        ),
                        flush=True,
                    )
    return 0


#: Not by getrusage: what that tells of a process includes its parent's peak before the exec.
_RUN = """
import sys
from bert_serving.graph_opt.cli import main
status = main(sys.argv[1:])
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(peak[0])
sys.exit(status)
"""


def measure(arguments: List[str]) -> Dict[str, float]:
    """Run the command; returns seconds and the peak of its resident memory in bytes."""
    command = [sys.executable, "-c", _RUN] + arguments
    began = time.monotonic()
    finished = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    seconds = time.monotonic() - began
    if finished.returncode:
        raise SystemExit("failed: " + " ".join(arguments))
    return {"seconds": seconds, "bytes": 1024 * int(finished.stdout.split()[-1])}


def _size(shape: tuple) -> int:
    size = 1
    for dimension in shape:
        size *= dimension
    return size


def _remove(directory: Path) -> int:
    """Remove what was written; returns how many bytes it had."""
    total = 0
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        else:
            total += path.stat().st_size
            path.unlink()
    return total


if __name__ == "__main__":
    sys.exit(main())
