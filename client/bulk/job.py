"""One file from beginning to end: checks, the server, the run."""

from __future__ import annotations

import argparse
import contextlib
import time
from dataclasses import replace
from typing import Callable, Iterator, Optional

from bert_serving.client.bulk.arguments import VECTOR_FLAGS, encode_options
from bert_serving.client.bulk.display import Display
from bert_serving.client.bulk.errors import BulkError, UsageError
from bert_serving.client.bulk.files import Paths, remove
from bert_serving.client.bulk.inputs import fingerprint, input_format, open_source
from bert_serving.client.bulk.outputs import Output, open_output, output_format
from bert_serving.client.bulk.pipeline import in_order
from bert_serving.client.bulk.rows import Source, batches
from bert_serving.client.bulk.run import Run
from bert_serving.client.bulk.service import Address, ServerEncoder, connected, started
from bert_serving.client.bulk.state import State, differences, load, model_identity

__all__ = ["Job"]


class Job:
    """What the command was told to do. ``say`` shows a line to the user.

    ``paths`` are its files. ``goes_on``: if it ended now, the same command would go on from there.
    """

    def __init__(self, args: argparse.Namespace, say: Callable[[str], None], bar: bool) -> None:
        self._args = args
        self._say = say
        self._bar = bar
        self._kind = input_format(args.input, args.input_format)
        self._out_kind = output_format(args.output)
        self.paths = Paths(args.output)
        self._before: Optional[State] = None  # what was found of an earlier run
        self.goes_on = False

    def run(self) -> None:
        """Do it. Raises BulkError; what was done until then stays, for the next run."""
        args = self._args
        now = State(fingerprint(args.input), self._options())
        before = self._before = None if args.restart else load(self.paths.progress)
        self._check_output(before)
        if before is not None:
            self._check_same(before, now)
            if before.complete:
                self._finish(before)
                return
        source = open_source(args.input, self._kind, args.column, args.delimiter)
        with contextlib.closing(source):
            # Zeros may follow now where the run so far would have ended with an error.
            self._encode(source, now if before is None else replace(before, options=now.options))

    def _options(self) -> dict:
        names = ("column", "delimiter", "blank", "dtype", "keep") + VECTOR_FLAGS
        options = {name: getattr(self._args, name) for name in names}
        return dict(options, input_format=self._kind)

    def _check_output(self, before: Optional[State]) -> None:
        out, paths = self._args.output, self.paths
        if not out.parent.is_dir():
            raise UsageError("the directory %s doesn't exist: make it first" % out.parent)
        if out.is_dir():
            raise UsageError("%s is a directory" % out)
        if out.exists() and self._args.input.samefile(out):
            raise UsageError("%s is both input and output" % out)
        # A complete run only has to clean up behind itself.
        if out.exists() and not self._args.overwrite and not (before and before.complete):
            raise UsageError("%s exists: replace it by --overwrite, or name another" % out)
        if before is None and not self._args.restart:
            for path in (paths.partial, paths.texts):
                # An empty one is left by a run that was ended as it began.
                if path.exists() and path.stat().st_size:
                    raise UsageError(
                        "%s is there, but %s, which would say what it is, isn't: move it away, or "
                        "begin anew by --restart" % (path, paths.progress)
                    )

    def _check_same(self, before: State, now: State) -> None:
        found = differences(before, now)
        if found:
            raise UsageError(
                "%s is of a run that this can't go on with: %s; give the same input, flags and "
                "model, or begin anew by --restart" % (self.paths.progress, "; ".join(found))
            )

    # ---------------------------------------------------------------------------------- running

    def _encode(self, source: Source, state: State) -> None:
        args = self._args
        with self._output(state) as run_of, self._server() as encoder:
            model = model_identity(encoder.config, encoder.dimension())
            self._check_same(state, replace(state, model=model))
            state = replace(state, model=model)
            run = run_of(state)
            run.begin()
            self.goes_on = True
            if state.rows:
                self._say(f"going on behind row {state.rows:,d}")
            display = Display(source.total, state, time.monotonic, self._say, self._bar)
            with contextlib.closing(display):
                parts = batches(source, state.position, args.batch_size, args.blank)
                results = in_order(parts, encoder, args.window, model["dimension"], source.unit)
                run.write(results, display.show)
            self._check_unchanged(run)
            run.finish()
        self._say("wrote %s: %s" % (args.output, display.summary(run.state)))
        if run.state.truncated:
            self._say(
                f"{run.state.truncated:,d} texts were longer than the server takes, and were cut"
            )

    def _finish(self, state: State) -> None:
        """Only the output is to be made of what is encoded."""
        if not self.paths.partial.exists():
            self._already_done()
            return
        with self._output(state) as run_of:
            run = run_of(state)
            run.begin()
            self.goes_on = True
            run.finish()
        self._say(f"wrote {self._args.output}: {state.rows:,d} rows")

    def _already_done(self) -> None:
        if not self.paths.out.exists():
            raise UsageError(
                "%s says that %s was finished, but neither it nor %s is there: begin anew by "
                "--restart" % (self.paths.progress, self.paths.out, self.paths.partial)
            )
        self.paths.clean_up()
        self._say("%s was finished already" % self.paths.out)

    @contextlib.contextmanager
    def _output(self, state: State) -> Iterator[Callable[[State], Run]]:
        """The output's files, which from here on are this process's only."""
        args = self._args
        output = open_output(self.paths, self._out_kind, args.dtype, args.keep)
        with contextlib.ExitStack() as stack:
            stack.callback(output.close)
            stack.callback(self._leave_no_trace, output)
            self._check_found()
            yield lambda state: Run(
                self.paths, output, state, args.checkpoint_seconds, time.monotonic
            )

    def _check_found(self) -> None:
        """Now that no other process can have the files: one may have gone on with them, or have
        finished, since they were looked at. Raises UsageError.
        """
        if not self._args.restart and load(self.paths.progress) != self._before:
            raise UsageError(
                "another process has written %s meanwhile: give the command again" % self.paths.out
            )
        self._check_output(self._before)

    def _leave_no_trace(self, output: Output) -> None:
        """Remove empty files, if it didn't come so far that they are needed."""
        if not self.goes_on and not any(output.sizes().values()):
            remove(self.paths.partial)
            remove(self.paths.texts)

    @contextlib.contextmanager
    def _server(self) -> Iterator[ServerEncoder]:
        args = self._args
        with contextlib.ExitStack() as stack:
            if args.start:
                address = stack.enter_context(started(args.server_words, args.quiet))
            else:
                address = Address(args.ip or "localhost", args.port or 5555, args.port_out or 5556)
            yield stack.enter_context(
                connected(address, args.timeout, encode_options(args), args.keys, args.server_key)
            )

    def _check_unchanged(self, run: Run) -> None:
        """Rows that were read at different times may not be of the same file."""
        try:
            is_same = fingerprint(self._args.input) == run.state.input
        except UsageError:  # it is gone
            is_same = False
        if not is_same:
            self.goes_on = False
            raise BulkError(
                "%s was changed while it was read: begin anew by --restart" % self._args.input
            )
