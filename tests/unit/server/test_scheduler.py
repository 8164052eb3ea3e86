"""The scheduler under a fake clock, by examples and by arbitrary interleavings of events.

``Bench`` keeps its own books, and checks after every event what must always hold.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Set, Tuple

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from unit.server.scheduler_bench import Bench, handles_in

from bert_serving.client.protocol import ErrorKind
from bert_serving.server.crew import GRACE
from bert_serving.server.holding import MOST_FAILURES
from bert_serving.server.scheduler import MOST_FAILED
from bert_serving.server.work import (
    Batch,
    Cancelled,
    ClientGone,
    Completed,
    Failed,
    Forgotten,
    Rejected,
    Tick,
    Unfit,
    WorkDone,
    WorkerLost,
    WorkFailed,
)

# ---------------------------------------------------------------------------------- batches


def test_rows_of_different_requests_share_a_batch() -> None:
    bench = Bench(rows=8)
    bench.join()
    first = bench.open(1)
    others = [bench.open(2, client=b"client %d" % i) for i in range(3)]
    bench.done()
    assert handles_in(bench.batches[1][1]) == others
    assert len(bench.batches[1][1].rows) == 6
    bench.done()
    assert bench.end_of(first) == Completed(first)
    assert [bench.end_of(handle) for handle in others] == [Completed(h) for h in others]


def test_a_request_larger_than_a_batch_is_split() -> None:
    bench = Bench(rows=4)
    bench.join()
    handle = bench.open(10)
    while bench.held[b"w0"]:
        assert bench.end_of(handle) is None
        bench.done()
    assert [len(batch.rows) for _, batch in bench.batches] == [4, 4, 2]
    assert bench.end_of(handle) == Completed(handle)


def test_the_token_budget_counts_padding() -> None:
    bench = Bench(rows=100, tokens=300)
    bench.join()
    bench.open(10, [100] * 10)
    assert [row.index for row in bench.batches[0][1].rows] == [0, 1, 2]


def test_a_row_above_the_token_budget_goes_alone() -> None:
    bench = Bench(rows=100, tokens=300)
    bench.join()
    bench.open(3, [500, 500, 500])
    assert [row.index for row in bench.batches[0][1].rows] == [0]


def test_rows_of_like_length_are_grouped() -> None:
    bench = Bench(rows=4)
    bench.join()
    bench.open(8, [100, 10, 100, 10, 100, 10, 100, 10])
    bench.done()
    bench.done()
    assert [[row.index for row in batch.rows] for _, batch in bench.batches] == [
        [0, 2, 4, 6],
        [1, 3, 5, 7],
    ]


def test_small_requests_share_a_batch_whatever_their_length_if_padding_is_free() -> None:
    bench = Bench(rows=100, tokens=300, padding_weight=0.0)
    bench.join()
    bench.open(1)
    for length in (100, 10, 90, 5, 95):
        bench.open(1, [length], client=b"client %d" % length)
    bench.done()
    assert [row.length for row in bench.batches[1][1].rows] == [100, 10, 90, 5, 95]


def test_a_small_request_whose_length_does_not_fit_is_the_first_of_the_next_batch() -> None:
    bench = Bench(rows=4, small_rows=2)
    bench.join()
    bench.open(1)
    for length in (100, 10, 100, 100):
        bench.open(1, [length])
    bench.done()
    bench.open(1, [10])
    bench.done()
    lengths = [[row.length for row in batch.rows] for _, batch in bench.batches]
    assert lengths == [[8], [100, 100, 100], [10, 10]]


def test_rows_arrive_in_chunks_while_the_first_are_computed() -> None:
    bench = Bench(rows=4)
    bench.join()
    handle = bench.open(6, tokenized=False)
    bench.tokenize(handle, [8] * 3)
    bench.done()
    assert bench.end_of(handle) is None
    bench.tokenize(handle, [8] * 3)
    bench.done()
    assert bench.end_of(handle) == Completed(handle)


# ----------------------------------------------------------------------------------- order


def test_a_small_request_passes_a_large_one_after_one_batch() -> None:
    bench = Bench(rows=4, small_rows=2)
    bench.join()
    bench.open(100)
    bench.now += 0.1
    small = bench.open(1)
    bench.now += 0.1
    bench.done()
    assert handles_in(bench.batches[1][1])[-1] == small
    bench.done()
    assert bench.end_of(small) == Completed(small)


def test_requests_of_like_size_are_served_in_turn() -> None:
    bench = Bench(rows=4)
    bench.join()
    large = [bench.open(12, client=b"client %d" % i) for i in range(3)]
    for _ in range(8):
        bench.now += 0.01
        bench.done()
    served = [handles_in(batch) for _, batch in bench.batches]
    assert served[:3] == [[handle] for handle in large]
    assert served[3:6] == [[handle] for handle in large]


def serve_a_stream_of_small_requests(bench: Bench, seconds: float) -> List[int]:
    """A worker that small requests alone keep busy, with a batch every 10 ms."""
    small = []
    for _ in range(int(seconds / 0.01)):
        bench.now += 0.01
        small.append(bench.open(1))
        bench.done()
    return small


def test_a_stream_of_small_requests_does_not_starve_a_large_one() -> None:
    bench = Bench(rows=1, small_rows=2, aging=0.5)
    bench.join()
    bench.open(1)  # the worker is busy when the large request comes
    large = bench.open(5)
    serve_a_stream_of_small_requests(bench, 2.0)
    assert bench.end_of(large) is None, "the small ones pass it; without that, nothing is tested"
    serve_a_stream_of_small_requests(bench, 0.6)
    assert bench.end_of(large) == Completed(large)


def test_a_large_request_keeps_small_ones_waiting_for_one_batch_at_most() -> None:
    bench = Bench(rows=1, small_rows=2, aging=0.5)
    bench.join()
    bench.open(1000)
    small = serve_a_stream_of_small_requests(bench, 1.0)
    waiting = [handle for handle in small if bench.end_of(handle) is None]
    # One for the batch under way and one for each time that the large one had its turn.
    assert len(waiting) <= 4


# ---------------------------------------------------------------------------- what ends early


def test_a_deadline_drops_rows_that_wait() -> None:
    bench = Bench(rows=2)
    bench.join()
    bench.open(2)
    late = bench.open(2, timeout=1.0)
    bench.advance(0.9)
    assert bench.end_of(late) is None
    bench.advance(0.1)
    end = bench.end_of(late)
    assert isinstance(end, Failed)
    assert end.kind == ErrorKind.DEADLINE
    bench.done()
    assert len(bench.batches) == 1
    assert bench.scheduler.waiting_rows == 0


def test_a_deadline_that_passed_while_nothing_happened_is_seen_before_dispatch() -> None:
    bench = Bench(rows=2)
    bench.join()
    bench.open(2)
    late = bench.open(2, timeout=1.0)
    bench.now += 5.0
    bench.done()
    assert isinstance(bench.end_of(late), Failed)
    assert len(bench.batches) == 1


def test_a_completed_request_has_no_deadline_any_more() -> None:
    bench = Bench()
    bench.join()
    handle = bench.open(1, timeout=1.0)
    bench.done()
    bench.advance(10.0)
    assert bench.end_of(handle) == Completed(handle)


def test_a_client_that_is_gone_takes_its_rows_along() -> None:
    bench = Bench(rows=2)
    bench.join()
    running = bench.open(2, client=b"gone")
    queued = bench.open(2, client=b"gone")
    other = bench.open(2, client=b"here")
    bench.send(ClientGone(b"gone"))
    assert bench.end_of(running) == Forgotten(running)
    assert bench.end_of(queued) == Forgotten(queued)
    assert bench.scheduler.waiting_rows == 2
    bench.done()
    assert handles_in(bench.batches[1][1]) == [other]
    bench.done()
    assert bench.end_of(other) == Completed(other)


def test_a_rejected_request_fails_and_its_later_rows_are_ignored() -> None:
    bench = Bench()
    bench.join(credits=0)
    handle = bench.open(4, tokenized=False)
    bench.tokenize(handle, [8, 8])
    bench.send(Rejected(handle, ErrorKind.BAD_REQUEST, "text 3 has no tokens"))
    assert bench.end_of(handle) == Failed(handle, ErrorKind.BAD_REQUEST, "text 3 has no tokens")
    bench.tokenize(handle, [8])
    assert bench.scheduler.waiting_rows == 0
    assert bench.scheduler.open_requests == 0
    bench.send(Rejected(handle, ErrorKind.BAD_REQUEST, "again"))


def test_fail_all_ends_every_open_request() -> None:
    bench = Bench(rows=1)
    bench.join()
    bench.open(1)
    bench.done()
    open_handles = [bench.open(2), bench.open(1), bench.open(3, tokenized=False)]
    actions = bench.scheduler.fail_all(ErrorKind.SHUTTING_DOWN, "stopping")
    assert actions == [Failed(h, ErrorKind.SHUTTING_DOWN, "stopping") for h in open_handles]
    assert bench.scheduler.open_requests == 0
    assert bench.scheduler.waiting_rows == 0
    assert bench.scheduler.fail_all(ErrorKind.SHUTTING_DOWN, "again") == []


# ----------------------------------------------------------------------------------- fairness


def serve(bench: Bench, batches: int) -> Dict[bytes, int]:
    """Compute batches of 10 ms each; rows computed of each client."""
    served: Dict[bytes, int] = {}
    for _ in range(batches):
        bench.now += 0.01
        for row in bench.done().rows:
            client = bench.requests[row.request].client
            served[client] = served.get(client, 0) + 1
    return served


def test_a_client_with_many_requests_gets_no_more_than_one_with_one() -> None:
    bench = Bench(rows=4)
    bench.join(credits=0)
    for _ in range(50):
        bench.open(8, client=b"greedy")
    for number in range(3):
        bench.open(200, client=b"modest %d" % number)
    bench.join()
    served = serve(bench, 80)
    assert len(served) == 4
    assert max(served.values()) - min(served.values()) <= 2 * 4


def test_users_of_a_client_share_as_clients_do_and_leave_with_it() -> None:
    bench = Bench(rows=4)
    bench.join(credits=0)
    greedy = [bench.open(8, client=b"front end", user="greedy") for _ in range(50)]
    modest = bench.open(200, client=b"front end", user="modest")
    bench.join()
    served = {"greedy": 0, "modest": 0}
    for _ in range(40):
        bench.now += 0.01
        for row in bench.done().rows:
            served["modest" if row.request == modest else "greedy"] += 1
    assert abs(served["greedy"] - served["modest"]) <= 2 * 4
    bench.send(ClientGone(b"front end"))
    assert bench.end_of(modest) == Forgotten(modest)
    assert all(bench.requests[handle].ended is not None for handle in greedy)
    assert bench.scheduler.waiting_rows == 0


def test_small_requests_bring_their_client_ahead_of_others_but_not_for_ever() -> None:
    bench = Bench(rows=4, tokens=32, small_rows=2)
    bench.join(credits=0)
    for _ in range(400):
        bench.open(1, client=b"in pieces")
    bench.open(400, client=b"in one")
    bench.join()
    served = serve(bench, 4)
    assert served.get(b"in one", 0) <= 2 * 4
    served = serve(bench, 80)
    assert abs(served[b"in one"] - served[b"in pieces"]) <= 4 * 4


def test_rows_count_by_their_tokens() -> None:
    bench = Bench(rows=100, tokens=100)
    bench.join(credits=0)
    bench.open(100, [50] * 100, client=b"long")
    bench.open(500, [10] * 500, client=b"short")
    bench.join()
    served = serve(bench, 40)
    assert abs(served[b"long"] * 50 - served[b"short"] * 10) <= 200


def test_a_client_that_comes_later_is_not_repaid_for_its_absence() -> None:
    bench = Bench(rows=4)
    bench.join()
    bench.open(400, client=b"early")
    serve(bench, 50)
    bench.open(400, client=b"late")
    served = serve(bench, 40)
    assert abs(served[b"early"] - served[b"late"]) <= 2 * 4


def test_a_client_is_not_starved_by_ever_new_ones() -> None:
    """Small requests of new clients fill every batch, and each of them has priority."""
    bench = Bench(rows=4, small_rows=2, aging=0.5)
    bench.join()
    bench.open(4)
    large = bench.open(8, client=b"large")
    newcomers = 0
    while bench.end_of(large) is None:
        for _ in range(6):
            newcomers += 1
            bench.open(1, client=b"newcomer %d" % newcomers)
        bench.now += 0.01
        bench.done()
        assert bench.now < 100.0 + 2 * (0.5 + 0.04) + 0.05
    assert bench.now > 100.4, "small ones passed it; without that, nothing is tested"


def test_padding_on_a_fixed_trace() -> None:
    """200 rows of log-normal lengths from 4 clients; first come first served pads to 58 %."""
    bench = Bench(rows=256, tokens=400)
    bench.join(credits=0)
    lengths = np.clip(np.random.RandomState(0).lognormal(2.8, 0.6, 200), 3, 128).astype(int)
    for number in range(4):
        part = lengths[number::4].tolist()
        bench.open(len(part), part, client=b"client %d" % number)
    bench.join()
    bench.finish()
    batches = [[row.length for row in batch.rows] for _, batch in bench.batches]
    padded = sum(len(one) * max(one) for one in batches)
    assert sum(map(sum, batches)) == lengths.sum()
    assert 1 - lengths.sum() / padded < 0.12
    assert len(batches) <= 1.5 * np.ceil(lengths.sum() / 400)


# --------------------------------------------------------------------------- what goes wrong


def test_rows_of_a_lost_worker_run_again_elsewhere_each_request_alone() -> None:
    bench = Bench(rows=4)
    bench.join(credits=0)
    first, second = bench.open(2), bench.open(2)
    bench.join(b"w1")
    assert handles_in(bench.batches[0][1]) == [first, second]
    bench.join(b"w2", credits=4)
    bench.lose(b"w1")
    bench.done(b"w2")
    bench.done(b"w2")
    again = [batch for worker, batch in bench.batches if worker == b"w2"]
    assert [handles_in(batch) for batch in again] == [[first], [second]]
    assert [(batch.attempt, batch.suspect) for batch in again] == [(2, True), (2, True)]
    assert bench.end_of(first) == Completed(first)
    assert bench.end_of(second) == Completed(second)


def test_all_that_a_lost_worker_computed_counts_as_an_attempt() -> None:
    bench = Bench(rows=1)
    bench.join(b"w1", credits=3, streams=2)
    handles = [bench.open(1), bench.open(1), bench.open(1)]
    bench.lose(b"w1")
    bench.join(b"w2", credits=3)
    bench.finish()
    attempts = {handles_in(batch)[0]: batch.attempt for _, batch in bench.batches[3:]}
    assert [attempts[handle] for handle in handles] == [2, 2, 1]


def test_all_batches_of_a_lost_worker_run_again() -> None:
    bench = Bench(rows=1)
    bench.join(b"w1", credits=3)
    handle = bench.open(3)
    assert len(bench.lose(b"w1")) == 3
    assert bench.scheduler.waiting_rows == 3
    bench.join(b"w2")
    for _ in range(3):
        bench.done(b"w2")
    assert bench.end_of(handle) == Completed(handle)


def test_a_request_whose_batches_fail_every_time_gets_an_error_of_its_first_row() -> None:
    bench = Bench(rows=100)
    bench.join()
    handle = bench.open(100)
    while bench.end_of(handle) is None:
        bench.fail(message="EngineError: no")
    end = bench.end_of(handle)
    assert isinstance(end, Failed)
    assert end.kind == ErrorKind.WORKER_FAILED
    assert end.message == "text 0 can't be computed: it failed 5 times, at last: EngineError: no"
    assert [len(batch.rows) for _, batch in bench.batches] == [100, 100, 7, 1, 1]


def test_a_request_whose_workers_all_die_gets_an_error() -> None:
    bench = Bench()
    handle = bench.open(1)
    for attempt in range(2):
        bench.join(b"w%d" % attempt)
        bench.lose(b"w%d" % attempt, "worker %d was killed" % attempt)
    end = bench.end_of(handle)
    assert isinstance(end, Failed)
    assert "failed 2 times, at last: worker 1 was killed" in end.message


@pytest.mark.parametrize("kills", [True, False])
@pytest.mark.parametrize("partial", [True, False])
def test_a_poisonous_row_is_found(partial: bool, kills: bool) -> None:
    bench = Bench(rows=300)
    bench.only_poison_fails = True
    bench.join(credits=0)
    others = [bench.open(5, client=b"%d" % number) for number in range(4)]
    poisoned = bench.open(256, partial=partial)
    bench.requests[poisoned].poisonous = {17}
    bench.finish(kills)
    assert [bench.end_of(handle) for handle in others] == [Completed(h) for h in others]
    failures = bench.requests[poisoned].failures
    assert (failures[17], failures[255]) == (5, 2), "and the second one only in company"
    if partial:
        assert bench.end_of(poisoned) == Completed(poisoned)
        assert bench.requests[poisoned].given_up == {17}
    else:
        end = bench.end_of(poisoned)
        assert isinstance(end, Failed)
        assert "text 17 can't be computed" in end.message


def test_a_partial_request_of_which_nothing_is_left_fails() -> None:
    bench = Bench(rows=300)
    bench.join()
    few, many = bench.open(2, partial=True), bench.open(200, partial=True)
    bench.requests[few].poisonous = {0, 1}
    bench.requests[many].poisonous = set(range(100))
    bench.finish()
    assert isinstance(bench.end_of(few), Failed)
    assert isinstance(bench.end_of(many), Failed)
    assert len(bench.requests[many].given_up) == MOST_FAILED


def test_what_a_lost_worker_had_not_begun_runs_again_as_it_is() -> None:
    bench = Bench(rows=4)
    bench.join(b"w1", credits=2)
    bench.open(4)
    other = bench.open(2)
    bench.lose(b"w1")
    bench.join(b"w2", credits=4)
    batch = bench.done(b"w2")
    assert (handles_in(batch), batch.attempt, batch.suspect) == ([1], 2, True)
    batch = bench.done(b"w2")
    assert (handles_in(batch), batch.attempt, batch.suspect) == ([other], 1, False)


def test_a_batch_that_never_left_has_not_failed() -> None:
    bench = Bench()
    bench.join(b"w1")
    bench.open(1)
    (batch,) = bench.held.pop(b"w1").values()
    bench.send(WorkerLost(b"w1", "no route", unsent=batch.batch_id))
    bench.join(b"w2")
    assert [(one.attempt, one.suspect) for _, one in bench.batches] == [(1, False), (1, False)]


def test_with_too_little_memory_batches_are_halved() -> None:
    bench = Bench(rows=100, tokens=80)
    bench.join()
    handle = bench.open(10)
    bench.run_out_of_memory()
    assert bench.scheduler.limits.tokens == 40
    assert [len(batch.rows) for _, batch in bench.batches] == [10, 5]
    bench.run_out_of_memory()
    assert bench.scheduler.limits.tokens == 20
    bench.finish()
    assert bench.end_of(handle) == Completed(handle)
    assert [len(batch.rows) for _, batch in bench.batches] == [10, 5, 3, 2, 5]
    assert {batch.attempt for _, batch in bench.batches} == {1}


def test_a_row_that_needs_too_much_memory_by_itself_is_given_up() -> None:
    bench = Bench()
    bench.join()
    handle = bench.open(2)
    while bench.end_of(handle) is None:
        bench.run_out_of_memory()
    end = bench.end_of(handle)
    assert isinstance(end, Failed)
    assert end.message == "text 0 can't be computed: it failed 2 times, at last: out of memory"


def test_a_worker_that_takes_too_long_is_told_once_and_gets_nothing() -> None:
    bench = Bench(rows=1, worker_timeout=60.0)
    bench.join(b"w1", credits=2)
    bench.open(1)
    bench.now += 59.0
    assert bench.send(Tick()) == []
    bench.now += 2.0
    assert bench.send(Tick()) == [Unfit(b"w1", "it has computed a batch for 61 s")]
    assert bench.send(Tick()) == []
    bench.open(1)
    assert len(bench.batches) == 1
    bench.done(b"w1")
    assert len(bench.batches) == 2, "it goes on after all"


def test_a_worker_that_fails_always_is_told_and_gets_nothing() -> None:
    bench = Bench(rows=1)
    bench.join(b"bad")
    handles = [bench.open(1) for _ in range(9)]
    for _ in range(MOST_FAILURES):
        assert bench.send(Tick()) == []
        bench.fail(b"bad")
    assert bench.send(Tick()) == [Unfit(b"bad", "10 batches in a row failed there")]
    assert bench.send(Tick()) == []
    while bench.held[b"bad"]:
        bench.fail(b"bad")
    assert [isinstance(bench.end_of(handle), Failed) for handle in handles].count(True) == 5
    bench.lose(b"bad")
    bench.finish()
    assert isinstance(bench.end_of(handles[-1]), Completed)


def test_requests_get_errors_when_there_has_been_no_worker_for_long() -> None:
    bench = Bench()
    early = bench.open(1)
    bench.advance(10 * GRACE)
    assert bench.end_of(early) is None, "the first worker may take its time"
    bench.join()
    bench.finish()
    bench.lose(b"last")
    bench.lose(b"w0", "it was killed")
    waiting = bench.open(2)
    bench.advance(GRACE - 0.1)
    assert bench.end_of(waiting) is None
    bench.advance(0.2)
    refused = bench.open(1)
    for handle in (waiting, refused):
        end = bench.end_of(handle)
        assert isinstance(end, Failed)
        assert end.kind == ErrorKind.WORKER_FAILED
        assert "no worker is running: it was killed" in end.message
    bench.join(b"w1")
    served = bench.open(1)
    bench.done(b"w1")
    assert bench.end_of(served) == Completed(served)


def test_requests_get_errors_when_no_worker_can_start() -> None:
    bench = Bench()
    waiting = bench.open(1)
    bench.lose_at_start(b"w0", "it exited with status 1")
    bench.advance(GRACE - 0.1)
    bench.lose_at_start(b"w1", "it was killed")
    assert bench.end_of(waiting) is None
    bench.advance(0.2)
    end = bench.end_of(waiting)
    assert isinstance(end, Failed)
    assert end.kind == ErrorKind.WORKER_FAILED
    assert "no worker is running: it was killed" in end.message
    bench.join(b"w2")
    served = bench.open(1)
    bench.done(b"w2")
    assert bench.end_of(served) == Completed(served)


def test_one_request_that_fails_does_not_spoil_those_in_its_batch() -> None:
    bench = Bench()
    bench.join(credits=0)
    good, poison = bench.open(2), bench.open(2)
    bench.join(b"w1")
    bench.fail(b"w1")
    while bench.held[b"w1"]:
        batch = next(iter(bench.held[b"w1"].values()))
        if poison in handles_in(batch):
            bench.fail(b"w1")
        else:
            bench.done(b"w1")
    assert bench.end_of(good) == Completed(good)
    assert isinstance(bench.end_of(poison), Failed)


def test_a_request_that_kills_workers_does_not_spoil_those_queued_behind_it() -> None:
    bench = Bench(rows=1)
    bench.join(b"w1", credits=2)
    poison, good = bench.open(1), bench.open(1)
    bench.lose(b"w1")
    bench.join(b"w2", credits=2)
    bench.lose(b"w2")
    bench.join(b"w3", credits=2)
    bench.finish()
    assert isinstance(bench.end_of(poison), Failed)
    assert bench.end_of(good) == Completed(good)


def test_a_request_that_ended_is_not_run_again() -> None:
    bench = Bench(rows=4)
    bench.join(b"w1", credits=0)
    gone, here = bench.open(1, client=b"gone"), bench.open(1, client=b"here")
    bench.join(b"w2")
    bench.send(ClientGone(b"gone"))
    bench.fail(b"w2")
    assert handles_in(bench.batches[-1][1]) == [here]
    bench.done(b"w2")
    assert bench.end_of(gone) == Forgotten(gone)
    assert bench.end_of(here) == Completed(here)


def test_a_cancelled_request_is_dropped_before_it_is_computed() -> None:
    bench = Bench(rows=1)
    bench.join()
    running, queued, other = bench.open(1), bench.open(1), bench.open(1)
    bench.send(Cancelled(queued))
    bench.send(Cancelled(running))
    assert bench.end_of(queued) == Forgotten(queued)
    assert bench.end_of(running) == Forgotten(running)
    assert bench.send(Cancelled(running)) == []
    bench.done()
    bench.done()
    assert bench.end_of(other) == Completed(other)
    assert [handles_in(batch) for _, batch in bench.batches] == [[running], [other]]


def test_it_is_known_how_many_batches_each_worker_holds() -> None:
    bench = Bench(rows=1)
    bench.join(b"w1", credits=2)
    bench.join(b"w2")
    assert bench.scheduler.running() == {b"w1": 0, b"w2": 0}
    for _ in range(3):
        bench.open(1)
    assert bench.scheduler.running() == {b"w1": 2, b"w2": 1}
    bench.lose(b"w1")
    assert bench.scheduler.running() == {b"w2": 1}


def test_rows_waiting_to_run_again_are_dropped_with_their_client() -> None:
    bench = Bench()
    bench.join()
    handle = bench.open(2)
    bench.lose()
    assert bench.scheduler.waiting_rows == 2
    bench.send(ClientGone(b"client"))
    assert bench.scheduler.waiting_rows == 0
    bench.join()
    assert len(bench.batches) == 1
    assert bench.end_of(handle) == Forgotten(handle)


@pytest.mark.parametrize("late", [WorkDone, WorkFailed])
def test_a_late_answer_of_a_lost_worker_is_ignored(late: Any) -> None:
    bench = Bench()
    bench.join(b"w1")
    handle = bench.open(2)
    (batch,) = bench.lose(b"w1")
    bench.join(b"w2")
    extra = ("too late",) if late is WorkFailed else ()
    assert bench.send(late(b"w1", batch.batch_id, *extra)) == []
    assert bench.send(late(b"w2", batch.batch_id, *extra)) == []
    assert bench.end_of(handle) is None
    bench.done(b"w2")
    assert bench.end_of(handle) == Completed(handle)


def test_losing_an_unknown_worker_changes_nothing() -> None:
    bench = Bench()
    assert bench.send(WorkerLost(b"nobody", "gone")) == []


# ------------------------------------------------------------------------- any interleaving


class Interleavings(RuleBasedStateMachine):
    """Any order of events; the bench checks each step."""

    @initialize(
        rows=st.integers(1, 5),
        tokens=st.integers(1, 60),
        small_rows=st.integers(0, 3),
        aging=st.sampled_from([0.0, 0.5]),
        padding_weight=st.sampled_from([0.0, 0.3, 1.0]),
        ahead=st.sampled_from([0.2, 1.0]),
        split_tokens=st.sampled_from([0, 1, 20, 60]),
        worker_timeout=st.sampled_from([0.0, 0.4, 5.0]),
        only_poison_fails=st.booleans(),
    )
    def start(
        self,
        rows: int,
        tokens: int,
        small_rows: int,
        aging: float,
        padding_weight: float,
        ahead: float,
        split_tokens: int,
        worker_timeout: float,
        only_poison_fails: bool,
    ) -> None:
        self.bench = Bench(
            rows, tokens, small_rows, aging, padding_weight, ahead, split_tokens, worker_timeout
        )
        self.bench.only_poison_fails = only_poison_fails
        self.lost: List[Tuple[bytes, int]] = []
        self.joined = 0

    def _open_handles(self) -> List[int]:
        return [h for h, request in self.bench.requests.items() if request.ended is None]

    def _busy(self) -> List[bytes]:
        return sorted(worker for worker, batches in self.bench.held.items() if batches)

    @rule(
        total=st.integers(1, 9),
        client=st.sampled_from([b"a", b"b", b"c"]),
        timeout=st.one_of(st.none(), st.sampled_from([0.0, 0.3, 1.0])),
        partial=st.booleans(),
        poisonous=st.one_of(st.just(set()), st.sets(st.integers(0, 8), max_size=9)),
    )
    def open(
        self,
        total: int,
        client: bytes,
        timeout: Optional[float],
        partial: bool,
        poisonous: Set[int],
    ) -> None:
        bench = self.bench
        handle = bench.open(total, client=client, timeout=timeout, tokenized=False, partial=partial)
        bench.requests[handle].poisonous = poisonous

    @precondition(lambda self: self.bench.requests)
    @rule(data=st.data())
    def tokenize(self, data: Any) -> None:
        """Also for requests that have ended: the tokenizer may not know yet."""
        waiting = [h for h, r in self.bench.requests.items() if r.tokenized < r.total]
        if waiting:
            handle = data.draw(st.sampled_from(waiting))
            missing = self.bench.requests[handle].total - self.bench.requests[handle].tokenized
            lengths = st.lists(st.integers(1, 40), min_size=1, max_size=missing)
            self.bench.tokenize(handle, data.draw(lengths))

    @rule(credits=st.integers(0, 5), streams=st.integers(1, 3))
    def join(self, credits: int, streams: int) -> None:
        self.joined += 1
        self.bench.join(b"worker %d" % self.joined, credits, streams)

    def _may_fail(self, batch: Batch) -> bool:
        """Also when nothing but poison is to be given up, anything may fail by itself once."""
        bench = self.bench
        return (
            not bench.only_poison_fails
            or bench.is_poisonous(batch)
            or not any(
                bench.requests[row.request].failures_alone.get(row.index) for row in batch.rows
            )
        )

    @precondition(lambda self: self._busy())
    @rule(data=st.data(), answer=st.sampled_from(["done", "done", "done", "fail", "memory"]))
    def answer(self, data: Any, answer: str) -> None:
        bench = self.bench
        worker = data.draw(st.sampled_from(self._busy()))
        stream = data.draw(st.integers(0, bench.computing(worker) - 1))
        batch = list(bench.held[worker].values())[stream]
        if answer == "memory" and self._may_fail(batch):
            bench.run_out_of_memory(worker, stream)
        elif bench.is_poisonous(batch) or (answer == "fail" and self._may_fail(batch)):
            bench.fail(worker, stream)
        else:
            bench.done(worker, stream)

    @precondition(lambda self: self.bench.held)
    @rule(data=st.data())
    def lose(self, data: Any) -> None:
        bench = self.bench
        worker = data.draw(st.sampled_from(sorted(bench.held)))
        begun = list(bench.held[worker].values())[: bench.computing(worker)]
        if all(map(self._may_fail, begun)):
            self.lost += [(worker, batch.batch_id) for batch in bench.lose(worker)]

    @precondition(lambda self: self.lost)
    @rule(data=st.data(), failed=st.booleans())
    def answer_late(self, data: Any, failed: bool) -> None:
        worker, batch_id = data.draw(st.sampled_from(self.lost))
        if failed:
            assert self.bench.send(WorkFailed(worker, batch_id, "late")) == []
        else:
            assert self.bench.send(WorkDone(worker, batch_id)) == []

    @precondition(lambda self: self._open_handles())
    @rule(data=st.data())
    def reject(self, data: Any) -> None:
        handle = data.draw(st.sampled_from(self._open_handles()))
        self.bench.send(Rejected(handle, ErrorKind.INTERNAL, "no"))
        assert isinstance(self.bench.end_of(handle), Failed)

    @precondition(lambda self: self.bench.requests)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        """Also what has ended: the client may not know yet."""
        handle = data.draw(st.sampled_from(sorted(self.bench.requests)))
        was_open = self.bench.requests[handle].ended is None
        self.bench.send(Cancelled(handle))
        assert not was_open or self.bench.end_of(handle) == Forgotten(handle)

    @rule(client=st.sampled_from([b"a", b"b", b"c"]))
    def leave(self, client: bytes) -> None:
        self.bench.send(ClientGone(client))
        for request in self.bench.requests.values():
            assert request.client != client or request.ended is not None

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 2.0, GRACE, 1000.0]))
    def wait(self, seconds: float) -> None:
        self.bench.advance(seconds)

    @invariant()
    def books_agree(self) -> None:
        bench = self.bench
        still_open = [one for one in bench.requests.values() if one.ended is None]
        assert bench.scheduler.open_requests == len(still_open)

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        self.bench.finish(kills=self.joined % 2 == 0)
        for request in self.bench.requests.values():
            assert isinstance(request.ended, (Completed, Failed, Forgotten))
        assert self.bench.scheduler.open_requests == 0
        assert self.bench.scheduler.waiting_rows == 0


Interleavings.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestInterleavings = Interleavings.TestCase
