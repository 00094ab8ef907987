"""The supervisor, with real processes that are quick to start."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gitserver.supervisor import DidNotStart, Role, Supervisor

READY = "import os, sys, time, json; os.write(int(sys.argv[1]), json.dumps({'pid': os.getpid()}).encode() + b'\\n'); "


def role(program: str, name: str = "door", *, waits: bool = False) -> Role:
    """A child that runs *program*; ``sys.argv[1]`` is its ready descriptor, ``sys.argv[2]`` what it was bound to."""

    def command(bound: Mapping[str, object] | None, ready: int) -> list[str]:
        return [sys.executable, "-S", "-c", program, str(ready), str(bound or "")]

    return Role(name, command, waits)


def at_once(_bound: dict[str, dict[str, object]]) -> None:
    """What to do when ready: be told to stop."""
    os.kill(os.getpid(), signal.SIGTERM)


def after(delay_s: float, action: Callable[[], None]) -> None:
    """Do *action* from another thread, a little later."""
    threading.Timer(delay_s, action).start()


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def test_it_tells_the_bound_addresses_once_every_door_is_ready() -> None:
    told: list[dict[str, dict[str, object]]] = []
    roles = [role(READY + "time.sleep(60)", "one"), role(READY + "time.sleep(60)", "two")]

    def hear(bound: dict[str, dict[str, object]]) -> None:
        told.append(bound)
        at_once(bound)

    Supervisor(roles, hear, 5).run()

    assert [set(bound) for bound in told] == [{"one", "two"}]


def test_what_is_no_door_starts_when_the_doors_are_ready(tmp_path: Path) -> None:
    order = tmp_path / "order"
    write = f"open({str(order)!r}, 'a').write(sys.argv[0] + NAME); "
    door = READY.replace("import ", "import time; time.sleep(0.3); import ", 1) + write.replace("NAME", "'door '")
    worker = "import sys, os, signal; " + write.replace("NAME", "'worker '") + "os.kill(os.getppid(), signal.SIGTERM)"

    Supervisor([role(worker, "worker", waits=True), role(door + "time.sleep(60)")], lambda _: None, 5).run()

    assert order.read_text().replace("-c", "") == "door worker "


def test_a_child_that_ends_before_it_is_ready_ends_the_start_and_the_others() -> None:
    other: list[int] = []
    roles = [role(READY + "time.sleep(60)", "good"), role("import time; time.sleep(0.3); raise SystemExit(3)", "bad")]
    supervisor = Supervisor(roles, lambda _: None, 5)
    after(0.2, lambda: other.extend(child.process.pid for child in supervisor._children if child.process))

    with pytest.raises(DidNotStart, match="bad"):
        supervisor.run()

    assert other
    assert not any(alive(process) for process in other)


def test_a_crashed_child_is_started_again_at_once_on_the_address_it_had(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    program = (
        "import os, sys, time; "
        f"n = len(open({str(starts)!r}, 'a+').read() or '') ; f = open({str(starts)!r}, 'a'); "
        "f.write(sys.argv[2][:40] + '|' + str(time.monotonic()) + '\\n'); f.close(); "
        "os.write(int(sys.argv[1]), b'{\"port\": 4711}\\n'); "
        "time.sleep(0.1); "
        f"lines = open({str(starts)!r}).read().splitlines(); "
        "os.kill(os.getpid(), 9) if len(lines) < 2 else (os.kill(os.getppid(), 15), time.sleep(60))"
    )

    Supervisor([role(program)], lambda _: None, 5).run()

    first, second = (line.split("|") for line in starts.read_text().splitlines())
    assert (first[0], second[0]) == ("", "{'port': 4711}")
    assert float(second[1]) - float(first[1]) < 1


def test_a_child_that_crashes_again_and_again_is_given_a_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitserver.supervisor.BACK_OFF_S", (0.0, 0.0, 0.4))
    starts = tmp_path / "starts"
    program = READY + f"open({str(starts)!r}, 'a').write('{{}}\\n'.format(time.monotonic())); time.sleep(0.05)"
    after(0.9, lambda: os.kill(os.getpid(), signal.SIGTERM))

    Supervisor([role(program)], lambda _: None, 5).run()

    times = [float(line) for line in starts.read_text().splitlines()]
    assert 2 <= len(times) <= 5
    assert times[-1] - times[-2] >= 0.4


def test_stopping_lets_a_child_finish(tmp_path: Path) -> None:
    done = tmp_path / "done"
    finish = f"lambda *_: (time.sleep(0.3), open({str(done)!r}, 'w').write('finished'), sys.exit(0))"
    program = f"import signal, sys, time; signal.signal(15, {finish}); " + READY + "time.sleep(60)"

    Supervisor([role(program)], at_once, 5).run()

    assert done.read_text() == "finished"


def test_a_child_that_does_not_stop_is_killed_when_its_time_is_up() -> None:
    program = "import signal; signal.signal(15, signal.SIG_IGN); " + READY + "time.sleep(60)"
    began = time.monotonic()

    Supervisor([role(program)], at_once, 0.3).run()

    assert time.monotonic() - began < 5


def test_a_second_signal_stops_at_once() -> None:
    program = "import signal; signal.signal(15, signal.SIG_IGN); " + READY + "time.sleep(60)"
    began = time.monotonic()

    def stop_twice(bound: dict[str, dict[str, object]]) -> None:
        at_once(bound)
        after(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))

    Supervisor([role(program)], stop_twice, 30).run()

    assert time.monotonic() - began < 5


def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    child_file = tmp_path / "child"
    child = (
        "from gitserver.process import die_with_parent; import os, sys, time; die_with_parent(int(sys.argv[3])); "
        f"open({str(child_file)!r}, 'w').write(str(os.getpid())); "
        "os.write(int(sys.argv[1]), b'{}\\n'); time.sleep(60)"
    )
    parent = (
        "import os, sys; from gitserver.supervisor import Role, Supervisor; "
        f"command = lambda bound, ready: [sys.executable, '-c', {child!r}, str(ready), '', str(os.getpid())]; "
        "Supervisor([Role('door', command)], lambda _: None, 5).run()"
    )
    supervisor = os.posix_spawn(sys.executable, [sys.executable, "-c", parent], os.environ)
    wait_until(lambda: child_file.exists() and child_file.read_text() != "")

    os.kill(supervisor, signal.SIGKILL)
    os.waitpid(supervisor, 0)

    wait_until(lambda: not alive(int(child_file.read_text())) or _is_zombie(int(child_file.read_text())))


def _is_zombie(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True
