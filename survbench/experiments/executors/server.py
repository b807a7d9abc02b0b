"""The process from which those of tasks are forked, and how these begin; local.py starts it, nothing imports it.

It has imported libraries and nothing else: no plug-in, no cohort, no torch operation, and it has one thread.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any, NoReturn

from survbench.console import relay_lines
from survbench.experiments.executors.local import FORK
from survbench.experiments.versions import code_version, package_versions
from survbench.training.device import cpu_threads

__all__ = ["main"]

LATE = (  # what each task would import otherwise
    *("survbench.experiments.execute", "survbench.experiments.forecast", "survbench.complexity.measure"),
    *("filelock", "fvcore.nn", "pyarrow.dataset", "pyarrow.parquet", "torch_geometric.data"),
    *("sklearn.model_selection", "sksurv.linear_model.coxph", "sksurv.metrics"),
)


def main(control: int) -> None:
    """Serve the requests on a socket, each with the channel of a task, until the other end of the socket is closed."""
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
    """Run the task of the second message in the folder, import path and environment of the first one."""

    def send(**message: Any) -> None:
        with suppress(OSError):  # the user's process has ended
            channel.send(message)

    def end_with_parent() -> None:
        channel.poll(None)
        os._exit(1)

    relay_lines(lambda text, style: send(line=(text, style)))
    send(pid=os.getpid())
    last: dict[str, Any]
    try:
        folder, sys.path[:], environment = channel.recv()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        task, argument = channel.recv()
        Thread(target=end_with_parent, daemon=True).start()
        last = {"result": task(argument, send)}
    except BaseException as error:  # whatever a model raises, the last message is a line
        last = {"error": f"{type(error).__name__}: {error}"}
    for stream in filter(None, (sys.stdout, sys.stderr)):  # none where the user closed it
        stream.flush()
    send(**last)
    os._exit(0)
