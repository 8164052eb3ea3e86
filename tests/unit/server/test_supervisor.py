from __future__ import annotations

import os
import re
import time
from typing import Any, Iterator, List

import pytest
from support import PATIENCE, free_ports
from unit.server.fakes import Running, Spawner
from unit.server.support import Hub, echo_spec

from bert_serving.server import heartbeats, recovery, replacement, runtime
from bert_serving.server import supervisor as module
from bert_serving.server.arguments import get_args_parser
from bert_serving.server.errors import PipelineError, StartupError
from bert_serving.server.replacement import MOST_RESTARTS, YOUNG
from bert_serving.server.supervisor import Supervisor

ALL = ["sink.0", "ventilator.0", "worker-0.0", "worker-1.0"]


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is left has time to name its requests, and to be young, however slow a test is."""
    monkeypatch.setattr(recovery, "LAST_WORD_TIMEOUT", float(PATIENCE))
    monkeypatch.setattr(replacement, "YOUNG", float(PATIENCE))


@pytest.fixture
def with_http(hub: Hub, spawner: Spawner, socket_directory: str) -> Iterator[Running]:
    made = Running(hub, spawner, socket_directory, "-http_port", str(free_ports()[0]))
    yield made
    made.close()


# -------------------------------------------------------------------------------- starting


def test_ready_once_all_are(running: Running, spawner: Spawner) -> None:
    assert spawner.started == ALL
    running.make_ready(*ALL[:-1])
    running.step()
    assert running.was_ready == 0
    running.make_ready(ALL[-1])
    running.step()
    assert running.was_ready == 1


def test_why_a_process_cannot_start(running: Running) -> None:
    running.report("ventilator.0", "failed", message="Address already in use")
    with pytest.raises(StartupError, match="ventilator can't start: Address already in use"):
        running.step_until(lambda: False)


def test_the_last_word_of_a_process_is_read_after_it_has_exited(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAST_WORD_TIMEOUT", float(PATIENCE))
    running.process("sink.0").status = 1
    running.report("sink.0", "failed", message="no such host")
    # _watch() alone, as if the report had come just after the look at the sockets.
    with pytest.raises(StartupError, match="sink can't start: no such host"):
        running.supervisor._watch()


def test_a_process_that_dies_without_a_word(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAST_WORD_TIMEOUT", 0.0)
    running.process("worker-1.0").status = -9
    with pytest.raises(StartupError, match="worker-1 was ended by signal SIGKILL while it started"):
        running.step()


def test_nothing_is_left_of_a_start_that_fails(
    socket_directory: str, spawner: Spawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawner.fails = True
    monkeypatch.setenv("ZEROMQ_SOCK_TMP_DIR", socket_directory)
    supervisor = Supervisor(echo_spec(), get_args_parser().parse_args([]))
    with pytest.raises(OSError, match="no more processes"):
        supervisor.run(lambda: None)
    supervisor.close()
    assert os.listdir(socket_directory) == []


# -------------------------------------------------------------------------- losing workers


def test_a_dead_worker_is_told_of_and_replaced(running: Running, spawner: Spawner) -> None:
    running.make_ready()
    child = running.child("worker-0.0")
    assert child is not None
    child.ready_at = time.monotonic() - 2 * YOUNG  # it was well for a while
    lost = running.process("worker-0.0")
    lost.status = 3
    running.step()
    assert running.told("ventilator.0") == {
        "command": "worker_lost",
        "worker": "worker-0.0",
        "reason": "worker-0 exited with status 3",
    }
    assert lost.stdin.closed
    assert running.child("worker-0.0") is None
    assert spawner.started[len(ALL) :] == ["worker-0.1"]
    # What the lost one said last is nobody's; that another is ready is no second start.
    running.report("worker-0.0", "failed", message="late")
    running.make_ready("worker-0.1")
    running.step()
    assert running.was_ready == 1
    assert spawner.started[len(ALL) :] == ["worker-0.1"]


@pytest.mark.usefixtures("unhurried")
def test_one_that_cannot_start_is_waited_for(running: Running, spawner: Spawner, log: Any) -> None:
    running.make_ready()
    running.process("worker-0.0").status = 3
    running.step_until(lambda: "worker-0.1" in spawner.started)
    running.process("worker-0.1").status = 3
    running.step()
    assert "error: worker-0 exited with status 3; it is replaced in 1.0 s" in log.text
    assert spawner.started[-1] == "worker-0.1", "it is not replaced at once"
    running.supervisor._team.slots[0].restart_at = 0.0  # the time has come
    running.step()
    assert spawner.started[-1] == "worker-0.2"


def test_no_room_for_a_process(running: Running, spawner: Spawner, log: Any) -> None:
    running.make_ready()
    spawner.fails = True
    running.process("worker-0.0").status = 3
    running.supervisor._team.slots[0].early_deaths = 0
    running.step_until(lambda: running.supervisor._team.slots[0].early_deaths > 1)
    assert "error: can't start worker-0: no more processes; again in" in log.text
    spawner.fails = False
    running.supervisor._team.slots[0].restart_at = 0.0
    running.step()
    assert spawner.started[-1].startswith("worker-0.")


def test_a_worker_that_the_ventilator_takes_for_hung_is_killed(running: Running, log: Any) -> None:
    running.make_ready()
    running.report("ventilator.0", "hung", worker="worker-1.0", reason="a batch takes 60 s")
    running.step_until(lambda: running.child("worker-1.0") is None)
    assert running.told("ventilator.0")["reason"] == (
        "worker-1 hung and was killed: a batch takes 60 s"
    )


def test_a_worker_that_fails_later_is_no_end(running: Running, log: Any) -> None:
    running.make_ready()
    running.report("worker-1.0", "failed", message="out of memory")
    running.step_until(lambda: "error: worker-1 failed: out of memory" in log.text)


def test_a_silent_process_is_killed_and_replaced(
    running: Running, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats, "ASLEEP", float("inf"))  # however slow this test is
    running.make_ready()
    running.step()
    running.spawner.silent.add("worker-0.0")
    running.step()
    pulses = running.processes._heartbeats._pulses
    pulses["worker-0.0"].heard -= 100.0
    running.step_until(lambda: running.child("worker-0.0") is None)
    reason = running.told("ventilator.0")["reason"]
    assert re.match(r"worker-0 showed no sign of life for 1\d\d\.\d s and was killed$", reason)


def test_a_dead_http_process_is_replaced_and_no_worker_is_lost(
    with_http: Running, spawner: Spawner, log: Any
) -> None:
    assert spawner.started == [*ALL[:2], "http.0", *ALL[2:]]
    with_http.make_ready()
    with_http.process("http.0").status = -9
    with_http.step()
    assert "error: http was ended by signal SIGKILL; it is replaced" in log.text
    with_http.step_until(lambda: "http.1" in spawner.started)
    with_http.processes.tell("ventilator", "first")
    assert with_http.told("ventilator.0") == {"command": "first"}


def test_the_directory_is_looked_after(
    running: Running, socket_directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "TOUCH_INTERVAL", 0.0)
    os.utime(socket_directory, (1, 1))
    running.step()
    assert os.stat(socket_directory).st_mtime > 1


# ------------------------------------------------------------------------ losing the pipeline


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("role", ["sink", "ventilator"])
def test_without_one_all_are_started_again(
    with_http: Running, spawner: Spawner, role: str, log: Any
) -> None:
    running = with_http
    running.make_ready()
    before = {name: running.process(name) for name in ALL}
    running.process(role + ".0").status = -11
    running.step()
    left = {"sink": "ventilator.0", "ventilator": "sink.0"}[role]
    assert running.told(left) == {"command": "abandon"}
    assert len(spawner.started) == 5
    running.report(left, "abandoned", requests=[["me", 7]])
    running.step_until(lambda: len(spawner.started) == 9)
    assert "error: %s was ended by signal SIGSEGV; ventilator, sink" % role in log.text
    assert all(process.status is not None for process in before.values())
    assert running.told("http.0") == {"command": "pause"}
    assert sorted(spawner.started[5:]) == ["sink.1", "ventilator.1", "worker-0.1", "worker-1.1"]
    assert running.child("http.0") is not None, "it goes on"
    running.make_ready("sink.1", "ventilator.1", "worker-1.1")
    assert running.told("ventilator.1") == {"command": "lost", "requests": [["me", 7]]}
    running.step()
    assert running.told("http.0") == {"command": "resume"}
    assert running.was_ready == 1, "it is announced once"


@pytest.mark.usefixtures("unhurried")
def test_a_pipeline_that_is_lost_too_often_is_given_up(running: Running, spawner: Spawner) -> None:
    running.make_ready()
    for number in range(MOST_RESTARTS):
        running.process("sink.%d" % number).status = -9
        if number == 0:
            running.process("ventilator.0").status = -9  # nobody is left to be asked
        running.step_until(lambda number=number: "sink.%d" % (number + 1) in spawner.started)  # type: ignore[misc]
    running.process("ventilator.5").status = -9
    with pytest.raises(PipelineError, match="SIGKILL, after 5 restarts in a row that"):
        running.step()


def test_whoever_is_left_has_little_time(running: Running, spawner: Spawner) -> None:
    running.make_ready()
    running.process("ventilator.0").status = -9
    running.step()
    assert "ventilator.1" not in spawner.started
    running.step_until(lambda: "ventilator.1" in spawner.started)


def test_a_worker_s_back_off_outlasts_a_restart(running: Running, spawner: Spawner) -> None:
    running.make_ready()
    slot = running.supervisor._team.slots[1]
    slot.early_deaths = 10
    running.process("worker-1.0").status = 1
    running.step()
    running.process("sink.0").status = -9
    running.step()
    running.process("ventilator.0").status = -9  # it is asked no longer
    running.step()
    assert spawner.started[len(ALL) :] == ["sink.1", "ventilator.1", "worker-0.1"]
    assert slot.restart_at is not None


def test_an_http_process_that_starts_meanwhile_is_told(
    with_http: Running, spawner: Spawner
) -> None:
    with_http.make_ready()
    with_http.process("http.0").status = -9
    with_http.step_until(lambda: "http.1" in spawner.started)
    with_http.process("sink.0").status = -9
    with_http.step()
    with_http.make_ready("http.1")
    assert with_http.told("http.1") == {"command": "pause"}


# --------------------------------------------------------------------------------- stopping


@pytest.mark.parametrize(("at_once", "asked"), [(False, 1), (True, 2)])
def test_a_stop_is_noticed(running: Running, at_once: bool, asked: int) -> None:
    running.supervisor.stop(at_once)
    running.step()
    assert running.supervisor._stopping.asked == asked
    assert running.is_over(), "nothing was accepted yet"


def test_a_client_may_ask_for_it(running: Running) -> None:
    running.make_ready()
    running.report("ventilator.0", "terminate")
    running.step_until(lambda: running.supervisor._stopping.asked == 1)


def test_a_stop_after_the_end_is_nothing(running: Running) -> None:
    supervisor = running.supervisor
    running.processes.close()
    supervisor.close()
    supervisor.stop()
    supervisor.reload()
    supervisor.close()
    with pytest.raises(OSError):
        os.fstat(supervisor._bell.fd)


def test_draining_asks_one_after_the_other(with_http: Running, log: Any) -> None:
    with_http.make_ready()
    with_http.supervisor.stop()
    with_http.step()
    assert with_http.told("http.0") == {"command": "drain"}
    with_http.report("http.0", "http_drained")
    with_http.step_until(lambda: with_http.link("ventilator.0").poll(0))
    told = with_http.told("ventilator.0")
    assert told["command"] == "drain"
    assert 0.0 < told["timeout"] <= 30.0
    with_http.report("ventilator.0", "drained", accepted=12)
    with_http.step_until(lambda: with_http.link("sink.0").poll(0))
    assert with_http.told("sink.0") == {"command": "flush", "accepted": 12}
    with_http.report("sink.0", "flushed")
    with_http.step_until(with_http.is_over)
    assert "warning" not in log.text


def test_a_second_stop_ends_the_wait(running: Running) -> None:
    running.make_ready()
    running.supervisor.stop()
    running.step()
    assert not running.is_over()
    running.supervisor.stop()
    running.step()
    assert running.is_over()


@pytest.mark.usefixtures("unhurried")
def test_a_stop_waits_for_a_pipeline_that_is_started_again(
    running: Running, spawner: Spawner, log: Any
) -> None:
    """So that the requests that were lost get their error. Workers aren't needed for that."""
    running.make_ready()
    running.process("sink.0").status = -9
    running.step()
    running.supervisor.stop()
    running.step()
    assert not running.is_over()
    running.report("ventilator.0", "abandoned", requests=[["me", 7]])
    running.step_until(lambda: "ventilator.1" in spawner.started)
    running.make_ready("ventilator.1", "sink.1")
    assert running.told("ventilator.1") == {"command": "lost", "requests": [["me", 7]]}
    running.step()
    assert running.told("ventilator.1")["command"] == "drain"
    running.make_ready("worker-0.1")
    running.step()
    assert "answered again" not in log.text
    assert not running.is_over()
    running.supervisor.stop()
    running.step()
    assert running.is_over()


def test_workers_are_replaced_while_requests_are_finished(
    with_http: Running, spawner: Spawner
) -> None:
    with_http.make_ready()
    with_http.supervisor.stop()
    with_http.step()
    with_http.process("worker-0.0").status = -9
    with_http.process("http.0").status = -9
    with_http.step_until(lambda: "worker-0.1" in spawner.started)
    assert with_http.told("ventilator.0")["command"] == "worker_lost"
    with_http.step()
    assert with_http.told("ventilator.0")["command"] == "drain"
    assert "http.1" not in spawner.started


@pytest.mark.usefixtures("unhurried")
def test_a_pipeline_that_is_lost_meanwhile_is_started_again(
    with_http: Running, spawner: Spawner
) -> None:
    """HTTP, which is through by then, isn't asked twice; and the time goes on."""
    with_http.make_ready()
    with_http.supervisor.stop()
    with_http.step()
    assert with_http.told("http.0") == {"command": "drain"}
    with_http.report("http.0", "http_drained")
    with_http.step_until(lambda: with_http.link("ventilator.0").poll(0))
    first = with_http.told("ventilator.0")
    with_http.process("sink.0").status = -9
    with_http.step()
    assert with_http.told("ventilator.0") == {"command": "abandon"}
    with_http.report("ventilator.0", "abandoned", requests=[["me", 7]])
    with_http.step_until(lambda: "ventilator.1" in spawner.started)
    assert "http.1" not in spawner.started
    with_http.make_ready("ventilator.1", "sink.1")
    assert with_http.told("ventilator.1") == {"command": "lost", "requests": [["me", 7]]}
    with_http.step()
    again = with_http.told("ventilator.1")
    assert again["command"] == "drain"
    assert again["timeout"] < first["timeout"]
    assert with_http.told("http.0") == {"command": "pause"}
    assert not with_http.link("http.0").poll(0)
    with_http.report("ventilator.1", "drained", accepted=0)
    with_http.step_until(lambda: with_http.link("sink.1").poll(0))
    assert with_http.told("sink.1")["command"] == "flush"
    with_http.report("sink.1", "flushed")
    with_http.step_until(with_http.is_over)


def test_processes_end_in_the_direction_of_a_request(
    with_http: Running, monkeypatch: pytest.MonkeyPatch, log: Any
) -> None:
    running = with_http
    running.make_ready()
    running.process("worker-1.0").stubborn = True
    ended: List[List[str]] = []
    end = running.processes.end

    def note(children: Any, patience: float) -> Any:
        ended.append([child.name for child in children])
        return end(children, patience)

    monkeypatch.setattr(running.processes, "end", note)
    running.supervisor._end_all()
    assert ended == [[], ["http"], ["ventilator"], ["worker-0", "worker-1"], ["sink"]]
    for identity in [*ALL, "http.0"]:
        assert running.told(identity) == {"command": "stop"}
    assert "warning: worker-1 didn't stop and was killed" in log.text
