from __future__ import annotations

from dataclasses import replace
from typing import Any, Iterator

import pytest
from support import free_ports
from unit.server.fakes import Running, Spawner
from unit.server.support import Hub

from bert_serving.server.preparing import decode_args
from bert_serving.server.reloading import Reload
from bert_serving.server.spec import ServiceSpec


@pytest.fixture
def up(hub: Hub, spawner: Spawner, socket_directory: str) -> Iterator[Running]:
    """A service that is up, and was asked to load its model again."""
    made = Running(hub, spawner, socket_directory, "-http_port", str(free_ports()[0]))
    made.make_ready()
    made.supervisor.reload()
    made.step_until(lambda: "reload.0" in spawner.started)
    yield made
    made.close()


def reload_of(running: Running) -> Reload:
    reload = running.supervisor._reload
    assert reload is not None
    return reload


def is_over(running: Running) -> bool:
    return running.supervisor._reload is None


def prepared(running: Running, model: str = "another") -> ServiceSpec:
    """The preparation has made that model ready; what the ventilator is told of it."""
    spec = replace(running.supervisor._team.spec, model=model)
    running.report("reload.0", "prepared", spec=spec.to_json())
    running.step_until(lambda: running.link("ventilator.0").poll(0))
    told = running.told("ventilator.0")
    assert told.pop("command") == "load"
    return ServiceSpec.from_json(told["spec"])


def switch(running: Running) -> ServiceSpec:
    """Everything goes well until new requests go to the new model."""
    spec = prepared(running)
    running.report("ventilator.0", "loaded")
    running.step_until(lambda: "worker-1.1" in running.spawner.started)
    running.make_ready("worker-0.1", "worker-1.1")
    assert running.told("ventilator.0") == {"command": "switch"}
    return spec


def test_the_same_flags_are_read_again(up: Running) -> None:
    assert decode_args(up.spawner.args) == up.supervisor._args


def test_new_requests_go_to_the_new_model_once_all_its_workers_are_ready(
    up: Running, log: Any
) -> None:
    spec = prepared(up)
    assert spec.model == "another"
    assert spec.generation == 2
    assert "worker-0.1" not in up.spawner.started, "the ventilator has to be ready first"
    up.report("ventilator.0", "loaded")
    up.step_until(lambda: "worker-1.1" in up.spawner.started)
    assert up.spawner.specs["worker-0.1"] == spec
    up.make_ready("worker-0.1")
    up.step()
    assert not reload_of(up).is_switched
    up.make_ready("worker-1.1")
    assert up.told("ventilator.0") == {"command": "switch"}
    assert up.told("http.0") == {"command": "reload", "spec": spec.to_json()}
    assert "info: new requests go to another, generation 2" in log.text
    # The old workers are there until the ventilator needs them no longer.
    assert up.is_ready("worker-0.0")
    up.report("ventilator.0", "generation_over")
    for name in ("worker-0.0", "worker-1.0"):
        while up.link(name).poll(0) or up.step() is None:
            if up.link(name).poll(0):
                break
        assert up.told(name) == {"command": "stop"}
        up.process(name).status = 0
    up.step_until(lambda: is_over(up))
    up.step()
    names = [child.identity for child in up.processes.of()]
    assert sorted(names) == ["http.0", "sink.0", "ventilator.0", "worker-0.1", "worker-1.1"]
    assert up.supervisor._team.spec == spec


def test_old_workers_are_replaced_while_they_are_needed(up: Running) -> None:
    switch(up)
    up.process("worker-0.0").status = -9
    up.step_until(lambda: "worker-0.2" in up.spawner.started)
    assert up.told("ventilator.0")["worker"] == "worker-0.0"
    assert up.spawner.specs["worker-0.2"].generation == 1
    up.process("worker-0.1").status = -9
    up.step_until(lambda: "worker-0.3" in up.spawner.started)
    assert up.spawner.specs["worker-0.3"].generation == 2


def test_an_old_worker_that_does_not_stop_is_killed(up: Running) -> None:
    switch(up)
    up.report("ventilator.0", "generation_over")
    up.step_until(lambda: reload_of(up)._deadline)
    reload_of(up)._deadline = 0.1  # it is over
    up.step_until(lambda: is_over(up))
    assert up.child("worker-0.0") is None
    assert len(up.processes.of("worker")) == 2


@pytest.mark.parametrize("how", ["refused", "dead", "ventilator", "worker", "dead worker"])
def test_a_bad_model_is_refused(up: Running, how: str, log: Any) -> None:
    if how == "refused":
        up.report("reload.0", "failed", message="no model at /models/x")
        up.step_until(lambda: is_over(up))
        up.process("reload.0").status = 1
        reason = "no model at /models/x"
    elif how == "dead":
        up.process("reload.0").status = -9
        reason = "reload was ended by signal SIGKILL"
    else:
        prepared(up)
        reason = "the vocabulary is damaged"
        if how == "ventilator":
            up.report("ventilator.0", "load_failed", message=reason)
        else:
            up.report("ventilator.0", "loaded")
            up.step_until(lambda: "worker-1.1" in up.spawner.started)
            up.make_ready("worker-0.1")
            if how == "worker":
                up.report("worker-1.1", "failed", message="out of memory")
                reason = "worker-1 can't load it: out of memory"
            else:
                up.process("worker-1.1").status = -11
                reason = "worker-1 was ended by signal SIGSEGV while it loaded the model"
    up.step_until(lambda: is_over(up))
    up.step()
    assert "error: the model stays as it was: " + reason in log.text
    assert up.told("ventilator.0") == {"command": "unload"}
    up.step_until(lambda: len(up.processes.of()) == 5)
    assert up.is_ready("worker-0.0")
    assert up.supervisor._team.spec.generation == 1
    assert "worker-0.2" not in up.spawner.started, "nothing takes their place"


def test_a_lost_pipeline_has_it_begin_anew(up: Running, log: Any) -> None:
    prepared(up)
    up.process("sink.0").status = -9
    up.step_until(lambda: "worker-0.1" in up.spawner.started)
    assert is_over(up)
    assert "the model stays as it was: ventilator or sink were lost" in log.text
    assert "reload.1" not in up.spawner.started
    up.make_ready("sink.1", "ventilator.1", "worker-0.1")
    up.step_until(lambda: "reload.1" in up.spawner.started)
    assert up.spawner.specs["worker-0.1"].generation == 1


def test_a_lost_pipeline_after_the_switch_comes_back_with_the_new_model(up: Running) -> None:
    switch(up)
    up.process("ventilator.0").status = -9
    up.step_until(lambda: "ventilator.1" in up.spawner.started)
    assert is_over(up)
    assert not up.supervisor._reload_again
    assert up.spawner.specs["ventilator.1"].generation == 2
    workers = [child.identity for child in up.processes.of("worker")]
    assert [up.spawner.specs[name].generation for name in workers] == [2, 2]


def test_asked_twice_it_is_done_twice(up: Running) -> None:
    up.report("ventilator.0", "reload")
    up.step_until(lambda: up.supervisor._reload_again)
    up.report("reload.0", "failed", message="half copied")
    up.step_until(lambda: "reload.1" in up.spawner.started)
    assert not up.supervisor._reload_again


def test_a_stop_ends_it(up: Running, log: Any) -> None:
    up.supervisor.stop()
    up.step_until(lambda: is_over(up))
    assert "the model stays as it was: the service stops" in log.text
    up.supervisor.reload()
    up.step()
    assert is_over(up)
    assert "warning: the model isn't loaded again: the service starts or stops" in log.text


def test_workers_that_are_to_end_are_no_loss(up: Running, log: Any) -> None:
    """Also when the service stops meanwhile."""
    switch(up)
    up.report("ventilator.0", "generation_over")
    up.step_until(lambda: reload_of(up)._deadline)
    up.supervisor.stop()
    up.step()
    for name in ("worker-0.0", "worker-1.0"):
        up.process(name).status = 0
    up.step_until(lambda: is_over(up))
    assert "error" not in log.text


def test_old_workers_finish_when_the_service_stops(up: Running) -> None:
    switch(up)
    up.supervisor.stop()
    up.step()
    up.step()
    assert up.is_ready("worker-0.0")
    assert not is_over(up)


def test_no_room_for_the_processes(up: Running, log: Any) -> None:
    prepared(up)
    up.spawner.fails = True
    up.report("ventilator.0", "loaded")
    up.step_until(lambda: is_over(up))
    up.supervisor.reload()
    up.step_until(lambda: log.wait_for("no more processes") and is_over(up))


def test_an_http_process_from_before_is_told(up: Running) -> None:
    up.process("http.0").status = -9
    up.step_until(lambda: "http.1" in up.spawner.started)
    spec = switch(up)
    up.make_ready("http.1")
    assert up.told("http.1") == {"command": "reload", "spec": spec.to_json()}
