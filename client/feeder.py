"""A thread that takes batches from a generator and sends them, for BertClient.encode_async."""

from __future__ import annotations

import threading
import warnings
from typing import Callable, Generator, Iterable, Optional

from bert_serving.client.calls import Call
from bert_serving.client.exchange import Exchange
from bert_serving.client.protocol import Texts, VectorsReply
from bert_serving.client.requests import Inbox, Taken

__all__ = ["BatchFeeder", "feed_batches"]

#: How many batches are kept sent and not yet taken by the consumer.
ASYNC_WINDOW = 1024
#: How long stop() waits for a batch generator that is busy, in seconds.
STOP_SECONDS = 10.0


class BatchFeeder:
    """Calls ``send`` with each batch until it returns False, then ``finish``, in a thread.

    At most ``max_num_batch`` batches are taken; None or 0: all. What the generator or ``send``
    raises is kept for :meth:`raise_failure`.
    """

    def __init__(
        self,
        batches: Iterable[Texts],
        max_num_batch: Optional[int],
        send: Callable[[Texts], bool],
        finish: Callable[[], None],
    ) -> None:
        self._batches = batches
        self._max_num_batch = max_num_batch
        self._send = send
        self._finish = finish
        self._failure: Optional[BaseException] = None
        # A daemon, for a generator that never returns mustn't keep the process from its exit.
        self._thread = threading.Thread(target=self._run, name="bert-client-feeder", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for count, texts in enumerate(self._batches, 1):
                if not self._send(texts) or count == self._max_num_batch:
                    break
        except BaseException as error:
            self._failure = error
        finally:
            self._finish()

    def raise_failure(self) -> None:
        """Raise what ended the thread early, if anything did."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def stop(self) -> None:
        """Wait for the thread, which ends with the batch that it is at.

        ``send`` must return False by now. A generator that doesn't return within STOP_SECONDS
        can't be interrupted: that is warned of, and the thread ends when it does.
        """
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            warnings.warn(
                "encode_async has ended, but its batch generator has been busy for %.0f s; the "
                "thread that runs it ends with its next batch" % STOP_SECONDS,
                RuntimeWarning,
            )


def feed_batches(
    exchange: Exchange,
    batches: Iterable[Texts],
    max_num_batch: Optional[int],
    call_of: Callable[[Texts], Call],
    seconds: Optional[float],
    heir: Inbox,
) -> Generator[Taken, None, None]:
    """Yield the reply to every batch, sent by a thread, in order of arrival.

    Each reply is waited for as long as ``seconds``. What is under way when a reply can't be had is
    ``heir``'s afterwards; when the iterator is closed early, it is dropped.
    """
    inbox = Inbox(is_open=True)
    feeder = BatchFeeder(
        batches,
        max_num_batch,
        lambda texts: exchange.feed(inbox, call_of(texts), ASYNC_WINDOW),
        lambda: exchange.close_inbox(inbox),
    )
    failed = False
    try:
        while True:
            taken = exchange.next_reply(inbox, seconds)
            if taken is None:
                break
            # The caller raises it then, and this ends at the yield.
            failed = not isinstance(taken.reply, VectorsReply)
            yield taken
        feeder.raise_failure()
    except Exception:
        failed = True
        raise
    finally:
        # Closed first: from then on the feeder sends nothing that would be left behind.
        exchange.close_inbox(inbox)
        if failed:
            exchange.hand_over(inbox, heir)
        exchange.forget(inbox)
        feeder.stop()
