"""Jobs on this machine, each in a fresh process that a server of our own forks or, on CUDA and macOS, becomes.

What those processes do first is in server.py. The user's process is never forked: a fork lacks its threads. Light to
import.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Pipe, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from survbench.console import note, print_line, warn
from survbench.errors import BadConfig

if TYPE_CHECKING:
    from survbench.experiments.execute import Outcome
    from survbench.experiments.executors.gpu_admission import GpuAdmission
    from survbench.experiments.job import JobSpec
    from survbench.training.fit import EpochReport

__all__ = ["LocalExecutor", "Process", "TaskFailed", "call", "start_ahead"]

ATTEMPTS = 2  # of a job whose process is killed
SECONDS_TO_END = 5.0  # a process whose children hold its channel open is not waited for longer
KILLED = f"its process was killed {ATTEMPTS} times. is there enough memory? --workers 1"
TOO_LARGE = "try a smaller --set batch_size=..., and --workers 1 where other programs share the device"
FORKED = ("cpu",) if sys.platform != "darwin" else ()  # kinds of devices; a fork cannot use CUDA, say
FORK, BECOME = b"f", b"b"  # requests to the server, sent with the channel of a task
ENDS = {"result", "error"}  # of the last message of a process
_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
_ENVIRONMENT = {**_ONE_THREAD, "JE_ARROW_MALLOC_CONF": "background_thread:false"}  # of the server
_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from survbench.experiments.executors.server import main; main(int(sys.argv[1]))"
)
Task = Callable[[Any, Callable[..., None]], Any]
"""A function of a module: it is called with its argument and a function that sends a message by keywords."""

_server: tuple[subprocess.Popen[bytes], socket.socket] | None = None
_lock = threading.Lock()


def start_ahead() -> None:
    """Start the server unless there is one; returns at once, while it imports what jobs need."""
    _folder()
    with _lock:
        _running_server()


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError as error:
        raise BadConfig(f"the current folder cannot be used: {error.strerror}", "change to another one") from None


def _import_path() -> list[str]:
    """`sys.path` without what Python itself passes over."""
    return [str(place) for place in sys.path if isinstance(place, str | Path)]


def _running_server() -> tuple[subprocess.Popen[bytes], socket.socket]:
    global _server
    if _server is not None and _server[0].poll() is None:
        return _server
    if _server is not None:
        _server[1].close()
    control, remote = socket.socketpair()
    command = [sys.executable, "-P", "-c", _CODE, str(remote.fileno()), json.dumps(_import_path())]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited, until the server ignores it
    try:
        with remote:
            environment, keep = os.environ | _ENVIRONMENT, [remote.fileno()]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, pass_fds=keep)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    _server = process, control
    return _server


@atexit.register
def _end_server() -> None:
    if _server is not None:
        _server[1].close()
        _server[0].kill()
        _server[0].wait()


class TaskFailed(Exception):
    """A task raised an error or its process was killed, for the reason in the message."""


class Process:
    """A process that runs one task; it ends with the task, with `stop`, or with the process that started it.

    Parameters
    ----------
    task : what it runs.
    argument : of the task.
    device : on which the task computes.
    """

    def __init__(self, task: Task, argument: Any, device: str) -> None:
        global _server
        surroundings = _folder(), _import_path(), dict(os.environ)
        self.channel, remote = Pipe()
        self._forked = device.partition(":")[0] in FORKED
        with remote, _lock:
            self._server, control = _running_server()
            with suppress(OSError):  # it was just killed, and the channel is at its end
                socket.send_fds(control, [FORK if self._forked else BECOME], [remote.fileno()])
            if not self._forked:
                control.close()
                _server = None
        self._pid = None if self._forked else self._server.pid
        with suppress(OSError):
            self.channel.send(surroundings)
            self.channel.send((task, argument))

    def receive(self) -> dict[str, Any]:
        """Its next message; empty where it was killed."""
        try:
            message: dict[str, Any] = self.channel.recv()
        except (EOFError, OSError):
            self._pid = None
            return {}
        self._pid = message.get("pid", self._pid)
        if "line" in message:
            print_line(*message["line"])
        return message

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        if self._pid is not None:
            with suppress(EOFError, OSError):
                os.kill(self._pid, signal.SIGTERM)
                while self.channel.poll(SECONDS_TO_END):
                    self.channel.recv_bytes()
        self.channel.close()  # a process that has not begun ends there
        if not self._forked:
            self._server.wait()


def call(task: Task, argument: Any, device: str) -> Any:
    """The result of a task in a process of its own; see `Process`.

    Raises
    ------
    TaskFailed : it raised an error, or its process was killed.
    """
    process = Process(task, argument, device)
    try:
        while not (message := process.receive()).keys() & ENDS:
            if not message:
                raise TaskFailed("its process was killed")
    finally:
        process.stop()
    if "error" in message:
        raise TaskFailed(message["error"])
    return message["result"]


def run_and_report(spec: JobSpec, send: Callable[..., None]) -> Outcome:
    """The task of a job: it sends its epochs and the memory that it holds on its device."""
    from survbench.experiments.execute import run_spec
    from survbench.experiments.executors import gpu_admission

    def report(epoch: EpochReport) -> None:
        bar = {"description": epoch.describe(spec.title), "completed": epoch.epoch, "total": epoch.epochs}
        send(progress=bar, memory=gpu_admission.device_memory(spec.device))

    outcome = run_spec(spec, report)
    send(memory=gpu_admission.device_memory(spec.device))  # others may have ended before they needed what they need
    return outcome


class LocalExecutor:
    """Runs each job as soon as it is admitted.

    A job whose process is killed is tried once more and is then lost. One that finds the device full beside others
    waits until fewer run.

    Parameters
    ----------
    admission : decides how many may run.
    on_message : called with the slot of a job, below `admission.most`, and what a progress bar of rich should show;
        with nothing when the job has ended.
    """

    def __init__(self, admission: GpuAdmission, on_message: Callable[[int, Mapping[str, Any]], None]) -> None:
        self.admission, self.on_message = admission, on_message

    def run(self, specs: Sequence[JobSpec]) -> Generator[tuple[JobSpec, Outcome], None, None]:
        """See `Executor`."""
        waiting, killed, slots = list(specs), Counter[str](), list(range(self.admission.most))
        running: dict[Process, tuple[JobSpec, int]] = {}
        ended: list[tuple[JobSpec, Outcome]] = []
        try:
            while waiting or running or ended:
                while slots and (spec := self._next(waiting, [spec.task for spec, _ in running.values()])):
                    running[Process(run_and_report, spec, spec.device)] = spec, slots.pop()
                    self.admission.begin(spec.id, spec.model)
                    if waiting:
                        start_ahead()
                yield from ended  # while others run
                ended.clear()
                ready = wait([process.channel for process in running]) if running else []
                for process in [process for process in running if process.channel in ready]:
                    (spec, slot), message = running[process], process.receive()
                    if "progress" in message:
                        self.on_message(slot, message["progress"])
                    if "memory" in message:
                        self.admission.measure(spec.model, *message["memory"])
                    if message and not message.keys() & ENDS:
                        continue
                    process.stop()
                    slots.append(running.pop(process)[1])
                    self.on_message(slot, {})
                    outcome = self._outcome(spec, message, killed)
                    self.admission.end(spec.id)
                    if outcome is None:
                        waiting.insert(0, spec)
                    else:
                        ended.append((spec, outcome))
        finally:
            for process in running:
                process.stop()

    def _next(self, waiting: list[JobSpec], tasks: Collection[str]) -> JobSpec | None:
        """Take the first job, among those that fit, whose stages no other trains, or else the first that fits.

        Jobs of one task may share a stage, and the second would wait for it.
        """
        places = [place for place, spec in enumerate(waiting) if self.admission.fits(spec.id, spec.model)]
        free = (place for place in places if waiting[place].task not in tasks)
        return waiting.pop(next(free, places[0])) if places else None

    def _outcome(self, spec: JobSpec, last: Mapping[str, Any], killed: Counter[str]) -> Outcome | None:
        """What became of a job; None where it is to be tried again."""
        from survbench.experiments.execute import Outcome

        if not last:
            killed[spec.id] += 1
            if killed[spec.id] == ATTEMPTS:
                return Outcome("lost", KILLED)
            warn(f"the process that ran {spec.title} was killed; the job goes on in a new one")
            return None
        outcome: Outcome = Outcome("lost", last["error"]) if "error" in last else last["result"]
        if outcome.status != "crowded":
            return outcome
        if self.admission.may_retry(spec.id):
            note(f"{spec.title} found no memory left on {spec.device}; it goes on when fewer jobs run beside it")
            return None
        reason = f"no memory left on {spec.device} with no other job of this command beside it: {outcome.reason}"
        return Outcome("lost", f"{' '.join(reason.split()).rstrip('.')}. {TOO_LARGE}")
