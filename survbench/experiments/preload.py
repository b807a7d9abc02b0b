"""The process from which those that run jobs divide, loading what they share while the command loads it too."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from multiprocessing import forkserver
from multiprocessing.context import BaseContext

__all__ = ["context_for", "load_ahead"]

_SHARED = [  # the latter ones are what a job would otherwise import late
    "survbench.experiments.workers",
    "fvcore.nn",
    "sklearn.model_selection",
    "sksurv.linear_model.coxph",
    "sksurv.metrics",
]


def context_for(device: str) -> BaseContext:
    """How processes begin that compute on a kind of device.

    CUDA cannot be used in a process that divided from one in which anything has touched it, and on the GPU machine
    where this was tried something that is loaded beforehand does.
    """
    return multiprocessing.get_context("spawn" if device == "cuda" else "forkserver")


def load_ahead() -> None:
    """Begin, unless that was done before; returns at once.

    Loading takes seconds, and a Ctrl-C meanwhile is the command's business.
    """
    forkserver.set_forkserver_preload(_SHARED)
    if threading.current_thread() is not threading.main_thread():
        forkserver.ensure_running()
        return
    answer = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the new process inherits
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, answer)
