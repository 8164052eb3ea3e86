"""Writes what a pipeline gives, and commits from time to time how far it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Iterable

from bert_serving.client.bulk.errors import OutputError
from bert_serving.client.bulk.files import Paths, write_durably
from bert_serving.client.bulk.outputs import Output
from bert_serving.client.bulk.pipeline import Encoded
from bert_serving.client.bulk.state import State, save

__all__ = ["Run"]


class Run:
    """One output on its way. ``state`` is what is written; it is committed every ``interval``
    seconds of ``clock``, and when the run ends, however it does.
    """

    def __init__(
        self,
        paths: Paths,
        output: Output,
        state: State,
        interval: float,
        clock: Callable[[], float],
    ) -> None:
        self.state = state
        self._paths = paths
        self._output = output
        self._interval = interval
        self._clock = clock

    def begin(self) -> None:
        """Bring the files to the state. Raises UsageError, and OutputError."""
        if not self.state.rows:
            # Before the files, so that there are none that nobody knows of.
            write_durably(self._paths.progress, save(self.state))
        self._output.begin(dict(self.state.sizes), self.state.model["dimension"])

    def write(self, results: Iterable[Encoded], show: Callable[[State], None]) -> None:
        """Write all ``results``; ``show`` is called with each new state.

        What is raised leaves everything that was written committed, except if it can't be.
        """
        committed_at = self._clock()
        try:
            for batch, vectors, truncated in results:
                self._output.append(vectors, batch.texts)
                self.state = self.state.after(batch, self._output.sizes(), truncated)
                show(self.state)
                if self._clock() - committed_at >= self._interval:
                    self.commit()
                    committed_at = self._clock()
        except OutputError:
            raise
        except BaseException:
            self.commit()
            raise

    def commit(self) -> None:
        """Return when the state is on the disk, with the rows that it counts."""
        self._output.sync()
        write_durably(self._paths.progress, save(self.state))

    def finish(self) -> None:
        """Put the output in its place and remove everything else."""
        if not self.state.complete:
            self.state = replace(self.state, complete=True)
            self.commit()
        self._output.finish(self.state.rows, self.state.model["dimension"])
        self._paths.clean_up()
