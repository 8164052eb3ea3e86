"""Memory and speed of ``bert-serving-encode``: ``python -m bert_serving.benchmarks.bulk``.

Makes a file of texts and encodes it through a server of the echo engine, which computes no model,
so that the client and the plumbing are what is measured. The client is a process of its own, whose
peak memory is its largest resident set (Linux only). Exit status 1 if that is above the limit.
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

from bert_serving.benchmarks.startup import describe_machine, free_ports
from bert_serving.client.bulk.outputs import OUTPUT_FORMATS
from bert_serving.graph_opt.flags import add_flag, positive
from bert_serving.server import BertServer
from bert_serving.server.arguments import get_args_parser

__all__ = ["main"]

#: What the client may take, in MB.
LIMIT_MB = 300

WORDS = ("lorem", "ipsum", "dolor", "sit", "amet", "sed", "do")

#: Not by getrusage: what that tells of a process includes its parent's peak before the exec.
_RUN = """
import sys
from bert_serving.client.bulk.cli import main
status = main(sys.argv[1:])
from bert_serving.benchmarks.machine import memory_of
print(memory_of("self", "VmHWM"))
sys.exit(status)
"""


def main(argv: Optional[List[str]] = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bert_serving.benchmarks.bulk", description=__doc__)
    add_flag(parser, "rows", type=positive, default=1_000_000, help="default: %(default)s")
    add_flag(parser, "formats", nargs="+", choices=OUTPUT_FORMATS, default=["npy"])
    add_flag(parser, "num_worker", type=positive, default=2, help="default: %(default)s")
    args = parser.parse_args(argv)
    print(json.dumps(dict(describe_machine(), rows=args.rows), indent=1))
    print("\n| output | s | rows/s | peak memory of the client (MB) |\n|---|---|---|---|")
    peak = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        source = write_texts(Path(scratch) / "in.txt", args.rows)
        for kind in args.formats:
            out = Path(scratch) / ("out." + kind)
            found = measure(source, out, args.num_worker)
            out.unlink()
            peak = max(peak, found["mb"])
            row = (kind, found["seconds"], args.rows / found["seconds"], found["mb"])
            print("| %s | %.1f | %.0f | %.0f |" % row, flush=True)
    if peak >= LIMIT_MB:
        print("error: the client may take %d MB" % LIMIT_MB, file=sys.stderr)
        return 1
    return 0


def write_texts(path: Path, rows: int) -> Path:
    """A file of ``rows`` lines of 3 to 9 words."""
    with path.open("w", encoding="ascii") as file:
        for row in range(rows):
            words = ["row", str(row), *WORDS[: 1 + row % 7]]
            file.write(" ".join(words) + "\n")
    return path


def measure(source: Path, out: Path, num_worker: int) -> Dict[str, float]:
    """Encode ``source``: seconds of the whole command, and megabytes at its peak."""
    port, port_out = (str(number) for number in free_ports())
    flags = ["-engine", "echo", "-num_worker", str(num_worker)]
    args = get_args_parser().parse_args(flags + ["-port", port, "-port_out", port_out])
    command = [sys.executable, "-c", _RUN, str(source), "-o", str(out)]
    with BertServer(args):
        began = time.monotonic()
        finished = subprocess.run(
            [*command, "--port", port, "--port_out", port_out], stdout=subprocess.PIPE, check=False
        )
        seconds = time.monotonic() - began
    if finished.returncode:
        raise SystemExit("bert-serving-encode failed")
    return {"seconds": seconds, "mb": int(finished.stdout.split()[-1]) / 1e6}


if __name__ == "__main__":
    sys.exit(main())
