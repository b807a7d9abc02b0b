"""The process from which those of tasks are forked, and what these do; local.py starts it, nothing imports it.

It has imported libraries and nothing else: no plug-in, no cohort, no torch operation, and it has one thread.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from multiprocessing.connection import Connection
from pkgutil import resolve_name
from threading import Thread
from typing import Any, NoReturn

from survbench.console import relay_lines
from survbench.experiments.execute import run_spec
from survbench.experiments.executors import gpu_admission
from survbench.experiments.executors.local import FORK
from survbench.experiments.job import JobSpec
from survbench.experiments.versions import code_version, package_versions
from survbench.training.device import cpu_threads
from survbench.training.fit import EpochReport

__all__ = ["main"]

LATE = (  # what jobs would import otherwise
    *("filelock", "fvcore.nn", "pyarrow.dataset", "pyarrow.parquet", "torch_geometric.data"),
    *("sklearn.model_selection", "sksurv.linear_model.coxph", "sksurv.metrics"),
)


def main(control: int) -> None:
    """Answer each request on a socket, which brings the channel of a task, until the socket's other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the user's process alone answers Ctrl-C
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for name in LATE:
        import_module(name)
    package_versions(), code_version()  # remembered, as are the libraries that have threads
    with cpu_threads(1):
        gc.collect()
    gc.freeze()  # so that collections in a child don't copy what it shares with the server
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for children
    requests = socket.socket(fileno=control)
    while True:
        request, channels, _, _ = socket.recv_fds(requests, 1, 1)
        if not request:
            return
        if request != FORK or not os.fork():
            break
        os.close(channels[0])
    requests.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.set_inheritable(channels[0], False)
    _work(Connection(channels[0]))


def _work(channel: Connection) -> NoReturn:
    """Do the task that the first message describes, in the folder, path and environment of the user's process."""

    def tell(**message: Any) -> None:
        with suppress(OSError):  # nobody listens any more
            channel.send_bytes(json.dumps(message).encode())

    def end_with_parent() -> None:
        channel.poll(None)
        os._exit(1)

    relay_lines(lambda text, style: tell(say=(text, style)))
    tell(pid=os.getpid())
    last: dict[str, Any]
    try:
        request = json.loads(channel.recv_bytes())
        Thread(target=end_with_parent, daemon=True).start()
        os.chdir(request["folder"])
        sys.path[:] = request["path"]
        os.environ.clear()
        os.environ.update(request["environment"])
        last = {"result": TASKS[request["task"]](request["arguments"], tell)}
    except BaseException as error:  # whatever a model does, the answer is a line
        last = {"error": f"{type(error).__name__}: {error}"}
    for stream in filter(None, (sys.stdout, sys.stderr)):  # none where the user closed it
        stream.flush()
    tell(**last)
    os._exit(0)


def run_job(arguments: Mapping[str, Any], tell: Callable[..., None]) -> dict[str, Any]:
    """Run the job of a spec, and tell of its epochs and of what it holds of a device."""
    spec = JobSpec(**arguments)

    def report(epoch: EpochReport) -> None:
        shown = {"description": epoch.told(spec.title), "completed": epoch.epoch, "total": epoch.epochs}
        tell(progress=shown, memory=gpu_admission.device_memory(spec.device))

    outcome = run_spec(spec, report)
    tell(memory=gpu_admission.device_memory(spec.device))  # others may have ended before they needed what they need
    return asdict(outcome)


TASKS = {
    "job": run_job,
    "calibrate": resolve_name("survbench.experiments.forecast:calibrate_task"),
    "measure": resolve_name("survbench.profiling:measure_task"),  # of a room above, so by name
}
