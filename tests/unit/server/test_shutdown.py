from __future__ import annotations

from typing import Any, List

from hypothesis import given
from hypothesis import strategies as st

from bert_serving.server.shutdown import FLUSH_TIMEOUT, Order, Shutdown

TIMEOUT = 30.0


def told(shutdown: Shutdown) -> List[str]:
    return ["%s: %s" % order[:2] for order in shutdown.orders()]


def report(shutdown: Shutdown, event: str, now: float, **values: Any) -> None:
    shutdown.reported(dict(values, event=event), now)


def test_one_after_the_other() -> None:
    shutdown = Shutdown(TIMEOUT, True, 100.0)
    assert told(shutdown) == ["http: drain"]
    report(shutdown, "http_drained", 110.0)
    assert shutdown.orders() == [Order("ventilator", "drain", {"timeout": 20.0})]
    report(shutdown, "drained", 111.0, accepted=12)
    assert shutdown.orders() == [Order("sink", "flush", {"accepted": 12})]
    assert not shutdown.is_over
    report(shutdown, "flushed", 112.0)
    assert shutdown.is_over
    assert shutdown.remarks == []
    assert shutdown.orders() == []


def test_without_http() -> None:
    shutdown = Shutdown(TIMEOUT, False, 100.0)
    assert shutdown.orders() == [Order("ventilator", "drain", {"timeout": TIMEOUT})]


def test_http_gets_the_errors_of_what_had_no_time_left() -> None:
    shutdown = Shutdown(TIMEOUT, True, 0.0)
    shutdown.orders()
    shutdown.look(TIMEOUT)
    assert shutdown.orders() == [Order("ventilator", "drain", {"timeout": 0.0})]
    report(shutdown, "drained", TIMEOUT + 0.1, accepted=3)
    report(shutdown, "flushed", TIMEOUT + 0.2)
    assert not shutdown.is_over, "HTTP passes them on"
    report(shutdown, "http_drained", TIMEOUT + 0.3)
    assert shutdown.is_over
    assert shutdown.remarks == []


def test_every_wait_has_an_end() -> None:
    shutdown = Shutdown(TIMEOUT, True, 0.0)
    now, steps = 0.0, 0
    while not shutdown.is_over:
        now += TIMEOUT + FLUSH_TIMEOUT
        shutdown.look(now)
        steps += 1
        assert steps <= 4
    assert shutdown.remarks == ["the ventilator didn't finish in time"]


def test_replies_that_nobody_fetches() -> None:
    shutdown = Shutdown(TIMEOUT, False, 0.0)
    report(shutdown, "drained", 1.0, accepted=1)
    shutdown.look(1.0 + FLUSH_TIMEOUT - 0.1)
    assert not shutdown.is_over
    shutdown.look(1.0 + FLUSH_TIMEOUT)
    assert shutdown.is_over
    assert shutdown.remarks == ["some replies were not fetched in time"]


def test_a_dead_http_process_is_not_waited_for() -> None:
    shutdown = Shutdown(TIMEOUT, True, 0.0)
    told(shutdown)
    assert shutdown.has_http
    shutdown.lost_http(1.0)
    assert not shutdown.has_http
    assert told(shutdown) == ["ventilator: drain"]


EVENTS = st.one_of(
    st.sampled_from(["http_drained", "flushed", "ready", "look", "lose http"]),
    st.just("drained"),
)


@given(st.booleans(), st.lists(st.tuples(EVENTS, st.floats(0, 10)), max_size=30))
def test_orders_keep_their_order(has_http: bool, events: List[Any]) -> None:
    shutdown, now = Shutdown(TIMEOUT, has_http, 0.0), 0.0
    seen = told(shutdown)
    for event, later in events:
        now += later
        if event == "look":
            shutdown.look(now)
        elif event == "lose http":
            shutdown.lost_http(now)
        else:
            report(shutdown, event, now, accepted=1)
        seen += told(shutdown)
    whole = ["http: drain", "ventilator: drain", "sink: flush"]
    assert seen == (whole if has_http else whole[1:])[: len(seen)]
    assert not shutdown.is_over or seen[-1] == "sink: flush" or now >= TIMEOUT
