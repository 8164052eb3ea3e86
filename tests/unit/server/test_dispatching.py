"""Dispatching, as the scheduler does it, under a fake clock."""

from __future__ import annotations

import pytest
from unit.server.scheduler_bench import Bench, handles_in

from bert_serving.server.work import Completed


def test_a_batch_has_a_number_of_its_own() -> None:
    bench = Bench(rows=1)
    bench.join(credits=3)
    bench.open(3)
    assert len({batch.batch_id for _, batch in bench.batches}) == 3


def test_nothing_is_dispatched_without_workers() -> None:
    bench = Bench()
    bench.open(3)
    assert bench.batches == []
    assert bench.scheduler.waiting_rows == 3
    bench.join()
    assert len(bench.batches) == 1
    assert bench.scheduler.waiting_rows == 0


def test_a_worker_gets_as_many_batches_as_it_has_credits() -> None:
    bench = Bench(rows=1)
    bench.join(credits=2)
    bench.open(5)
    assert len(bench.held[b"w0"]) == 2
    bench.done()
    assert len(bench.held[b"w0"]) == 2
    assert len(bench.batches) == 3


def test_a_worker_without_credit_gets_nothing() -> None:
    bench = Bench()
    bench.join(credits=0)
    bench.open(1)
    assert bench.batches == []


def test_the_worker_with_the_most_credit_is_served_first() -> None:
    bench = Bench(rows=1)
    bench.join(b"busy", credits=2)
    bench.open(1)
    bench.join(b"free", credits=2)
    bench.open(1)
    assert [worker for worker, _ in bench.batches] == [b"busy", b"free"]


def test_rows_that_run_again_come_first() -> None:
    bench = Bench(rows=1)
    bench.join(b"w1")
    first = bench.open(1)
    bench.open(1)
    bench.lose(b"w1")
    bench.join(b"w2")
    assert handles_in(bench.batches[-1][1]) == [first]


def test_a_suspect_is_computed_by_a_worker_that_holds_nothing_else() -> None:
    bench = Bench(rows=1)
    bench.join(b"w1", credits=2)
    bench.join(b"w2", credits=2)
    handles = [bench.open(1) for _ in range(6)]
    bench.lose(b"w2")
    bench.done(b"w1")
    assert len(bench.held[b"w1"]) == 1, "it gets nothing, so that it becomes free"
    bench.done(b"w1")
    (suspect,) = bench.held[b"w1"].values()
    assert suspect.suspect
    bench.done(b"w1")
    assert [batch.suspect for batch in bench.held[b"w1"].values()] == [False, False]
    bench.finish()
    assert [bench.end_of(handle) for handle in handles] == [Completed(h) for h in handles]


# -------------------------------------------------------------------------------- prefetching


def prefetching(seconds: float) -> Bench:
    """A bench whose worker is known to take so long for a batch, and begins with one now."""
    bench = Bench(rows=4, ahead=0.2)
    bench.join(credits=2)
    bench.open(4)
    bench.now += seconds
    bench.done()
    bench.open(4)
    return bench


def test_the_next_batch_is_sent_when_a_fifth_of_the_one_before_is_left() -> None:
    bench = prefetching(10.0)
    bench.open(4)
    wake_at = bench.scheduler.wake_at()
    assert wake_at == pytest.approx(bench.now + 8.0)
    bench.advance(7.9)
    assert len(bench.batches) == 2
    bench.advance(0.2)
    assert len(bench.batches) == 3


def test_a_small_request_that_comes_meanwhile_is_in_the_next_batch() -> None:
    bench = prefetching(10.0)
    bench.open(100)
    bench.advance(5.0)
    small = bench.open(1, client=b"other")
    bench.advance(4.0)
    assert small in handles_in(bench.batches[2][1])


def test_batches_of_milliseconds_are_sent_at_once() -> None:
    bench = prefetching(0.002)
    bench.open(4)
    assert len(bench.batches) == 3


def test_a_worker_that_ends_early_gets_its_batch_then() -> None:
    bench = prefetching(10.0)
    bench.open(4)
    bench.now += 1.0
    bench.done()
    assert len(bench.batches) == 3


def test_nothing_wakes_a_scheduler_without_rows_or_credit() -> None:
    bench = Bench(rows=4, ahead=0.2)
    assert bench.scheduler.wake_at() is None
    bench.open(9)
    assert bench.scheduler.wake_at() is None
    bench.join(credits=1)
    assert bench.scheduler.wake_at() is None


# ------------------------------------------------------------------------------------ streams


def test_a_worker_with_an_idle_stream_gets_a_batch_at_once() -> None:
    bench = Bench(rows=4, ahead=0.2)
    bench.join(credits=4, streams=2)
    bench.open(1)
    bench.open(1)
    assert [len(batch.rows) for _, batch in bench.batches] == [1, 1]
    bench.done(stream=1)
    bench.open(4)
    assert [len(batch.rows) for _, batch in bench.batches] == [1, 1, 4]


def test_the_next_batch_is_sent_when_the_first_of_the_streams_is_about_to_end() -> None:
    bench = Bench(rows=4, ahead=0.2)
    bench.join(credits=4, streams=2)
    bench.open(1)
    bench.advance(10.0)
    bench.done()
    bench.open(1)
    bench.advance(5.0)
    bench.open(1)  # the second stream begins when half of the first's batch is computed
    bench.open(1)
    assert len(bench.batches) == 3
    assert bench.scheduler.wake_at() == pytest.approx(bench.now + 3.0)
    bench.advance(3.1)
    assert len(bench.batches) == 4
    bench.open(1)
    assert bench.scheduler.wake_at() == pytest.approx(bench.now + 4.9), "for the other stream"


def test_what_waits_for_one_stream_is_not_limited_by_its_own_tokens() -> None:
    bench = Bench(rows=9, padding_weight=0.3)
    bench.open(2, [10, 14])
    bench.join()
    assert [len(batch.rows) for _, batch in bench.batches] == [2]


def test_what_waits_is_shared_by_idle_streams() -> None:
    bench = Bench(rows=9, split_tokens=16)
    bench.open(4)
    bench.join(credits=4, streams=2)
    assert [len(batch.rows) for _, batch in bench.batches] == [2, 2]
    assert not any(bench.alone.values())


def test_what_is_too_little_for_two_streams_is_computed_by_all_threads() -> None:
    bench = Bench(rows=9, split_tokens=17, ahead=0.2)
    bench.open(4)
    bench.join(credits=4, streams=2)
    assert [len(batch.rows) for _, batch in bench.batches] == [4]
    bench.advance(10.0)
    bench.done()
    bench.open(2)
    bench.open(2)
    assert [len(batch.rows) for _, batch in bench.batches] == [4, 2], "it waits"
    bench.advance(9.9)
    assert [len(batch.rows) for _, batch in bench.batches] == [4, 2, 2]
    assert all(bench.alone.values())
