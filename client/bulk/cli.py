"""The command bert-serving-encode.

Exit status: 0 if the output is complete; 1 if the run failed, 130 if the user interrupted it, and
then the same command goes on; 2 if it can't run as asked.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from typing import Any, Iterator, List, Optional

from bert_serving.client.bulk.arguments import parse
from bert_serving.client.bulk.errors import BulkError
from bert_serving.client.bulk.job import Job

__all__ = ["main"]


def main(argv: Optional[List[str]] = None) -> int:
    """Run bert-serving-encode; returns the exit status."""
    job: Optional[Job] = None
    try:
        with _ended_as_by_ctrl_c():
            args = parse(sys.argv[1:] if argv is None else argv)
            bar = not args.quiet and sys.stderr.isatty()
            job = Job(args, (lambda line: None) if args.quiet else _say, bar)
            job.run()
    except BulkError as error:
        _say("error: %s" % error)
        status = error.status
    except KeyboardInterrupt:
        _say("interrupted")
        status = 130
    else:
        return 0
    if job is not None and job.goes_on:
        _say(
            "what was encoded is kept in %s: the same command%s goes on from there"
            % (job.paths.partial, ", without --restart," if args.restart else "")
        )
    return status


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Also the end by SIGTERM is orderly, and stops a server that was started."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Any = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
