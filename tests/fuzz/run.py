"""The command behind ``scripts/fuzz``: each target in a process of its own, which may die.

    python -m fuzz.run --seconds 60 --seed 1            all targets
    python -m fuzz.run --inputs 500 reply graph         some
    python -m fuzz.run --replay FILE reply              one input, with the traceback

Findings are kept in build/fuzz/TARGET; the exit status is 1 if there are any.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from fuzz.engine import Finding, Fuzzer, Summary, Target, name_of

#: Module -> its targets; a module is imported in the process that runs one of them.
MODULES: Dict[str, Sequence[str]] = {
    "fuzz.targets_frames": ("request", "reply"),
    "fuzz.targets_tokenizer": ("tokenizer",),
    "fuzz.targets_models": ("huggingface", "google", "bundle"),
    "fuzz.targets_graphs": ("graph",),
    "fuzz.targets_bulk": ("texts", "parquet", "progress"),
    "fuzz.targets_http": ("http",),
}
NAMES = [name for names in MODULES.values() for name in names]
KEEP = Path(__file__).resolve().parents[2] / "build" / "fuzz"


def main(argv: Optional[List[str]] = None) -> int:
    """Returns the exit status."""
    args = _parser().parse_args(argv)
    chosen = args.targets or NAMES
    if args.child:
        return _child(target_named(chosen[0]), args)
    if args.replay is not None:
        target_named(chosen[0]).run(args.replay.read_bytes())
        return 0
    return max([_parent(name, args) for name in chosen])


def target_named(name: str) -> Target:
    """The target; imports what it tests."""
    (module,) = (module for module, names in MODULES.items() if name in names)
    (target,) = (one for one in import_module(module).TARGETS if one.name == name)
    return target


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=float, help="how long to fuzz each target")
    parser.add_argument("--inputs", type=int, help="how many inputs to make for each")
    parser.add_argument("--seed", type=int, default=0, help="another one makes other inputs")
    parser.add_argument("--blind", action="store_true", help="don't look for new lines: faster")
    parser.add_argument("--keep", type=Path, default=KEEP, help="where findings go")
    parser.add_argument("--replay", type=Path, help="run this input only")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


def _parent(name: str, args: argparse.Namespace) -> int:
    """Run a target in a process, and keep the input that it dies of, if it does."""
    keep = args.keep / name
    keep.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "fuzz.run", "--child", name, "--keep", str(args.keep)]
    command += ["--seed", str(args.seed)] + (["--blind"] if args.blind else [])
    for option in ("seconds", "inputs"):
        value = getattr(args, option)
        command += [] if value is None else ["--" + option, str(value)]
    status = subprocess.call(command)
    current = keep / "current"
    if status not in (0, 1):
        finding = Finding("died with status %d" % status, current.read_bytes(), "")
        (keep / name_of(finding)).write_bytes(finding.data)
        print("%s: the process %s" % (name, finding.where), flush=True)
    if current.exists():
        current.unlink()
    return 0 if status == 0 else 1


def _child(target: Target, args: argparse.Namespace) -> int:
    warnings.simplefilter("ignore")
    keep = args.keep / target.name
    fuzzer = Fuzzer(target, args.seed, keep / "current", guided=not args.blind)
    fuzzer.fuzz(args.inputs, args.seconds)
    _tell(target.name, fuzzer.summary, keep)
    return 1 if fuzzer.summary.findings else 0


def _tell(name: str, summary: Summary, keep: Path) -> None:
    print(
        "%s: %d inputs, %d lines, the slowest took %.2f s, %d findings"
        % (name, summary.inputs, summary.lines, summary.slowest, len(summary.findings))
    )
    if summary.slowest > 1:
        (keep / "slowest").write_bytes(summary.slowest_input)
    for finding in summary.findings.values():
        path = keep / name_of(finding)
        path.write_bytes(finding.data)
        print("  %s: %s\n%s" % (finding.where, path, finding.report))
    sys.stdout.flush()


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
