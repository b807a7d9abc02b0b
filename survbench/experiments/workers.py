"""Processes that run jobs, each one job at a time, each with its own way of dying: none takes another with it.

A process is sent a job without its data, loads the cohort itself and keeps it; features stay one memory map for all.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from functools import lru_cache
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch

from survbench import console
from survbench.data.cohort import Cohort, load_cohort
from survbench.data.root import DataRoot
from survbench.errors import SurvbenchError
from survbench.experiments.execute import Outcome, run_job
from survbench.experiments.job import Job
from survbench.experiments.preload import load_ahead
from survbench.training.device import cpu_threads
from survbench.training.fit import EpochReport

__all__ = ["Errand", "Worker", "hired", "sensible_workers"]

GIGABYTES_EACH = 3  # of memory, for `auto`
LONGEST = 1500  # characters of a message; a datagram arrives whole or not at all, also when its sender is killed

Hear = Callable[[int, Mapping[str, Any]], None]
"""Called with the number of a worker and `{say, style}` or `{epoch, epochs, text}`, from a thread."""


def sensible_workers(device: torch.device) -> int:
    """One per core that this process may use and per 3 GB of memory; on an accelerator one."""
    if device.type != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = Path("/sys/fs/cgroup")  # a container's share of its machine
    with suppress(OSError, ValueError):
        quota, period = (limits / "cpu.max").read_text().split()
        cores = min(cores, -(-int(quota) // int(period)))
    with suppress(OSError, ValueError):
        memory = min(memory, int((limits / "memory.max").read_text()))
    return max(1, min(cores, memory // (GIGABYTES_EACH << 30)))


@dataclass(frozen=True)
class Errand:
    """A job as it is sent: its data by name. id : of the job; where it comes out another one, something has changed."""

    root: Path
    cohort: str
    endpoint: str
    parts: Mapping[str, Any]
    id: str

    @classmethod
    def of(cls, job: Job) -> Errand:
        parts = {field.name: getattr(job, field.name) for field in fields(Job) if field.name != "cohort"}
        return cls(job.cohort.folder.path.resolve().parent, job.cohort.name, job.cohort.endpoint, parts, job.id)

    def job(self) -> Job:
        """The job with its data.

        Raises
        ------
        SurvbenchError : code or data are no longer those it was planned with.
        """
        made = Job(cohort=_cohort(self.root, self.cohort, self.endpoint), **self.parts)
        if made.id != self.id:
            raise SurvbenchError("code or data changed since the command began", "give the same command again")
        return made


@lru_cache(maxsize=2)  # jobs come cohort by cohort
def _cohort(root: Path, name: str, endpoint: str) -> Cohort:
    return load_cohort(DataRoot.open(root), name, endpoint)


class Worker:
    """One process, replaced when it dies.

    A pool of one each, because a process that is killed breaks its pool: the jobs of the others would be lost with it.
    """

    def __init__(self, number: int, voice: socket.socket, threads: int | None) -> None:
        self.number = number
        self._context = multiprocessing.get_context("forkserver")
        load_ahead()
        self._about = (voice, number, threads)
        self._hire()

    def _hire(self) -> None:
        self._pool = ProcessPoolExecutor(1, self._context, _begin, self._about)
        self._process = self._pool.submit(os.getpid)

    def give(self, job: Job, out: Path, device: torch.device) -> Future[Outcome]:
        """Have a job run; BrokenProcessPool is the answer where the process dies."""
        return self._pool.submit(_perform, Errand.of(job), out, device)

    def replace(self) -> None:
        """Put a new process in the place of a dead one."""
        self._pool.shutdown()
        self._hire()

    def dismiss(self, *, at_once: bool) -> None:
        """End the process; what it has begun goes on from its last epoch another time."""
        if at_once:
            with suppress(Exception):  # it may be dead already
                os.kill(self._process.result(), signal.SIGTERM)
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def hired(number: int, threads: int | None, hear: Hear) -> Iterator[list[Worker]]:
    """So many workers, who are gone afterwards however that comes about."""
    ear, voice = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener = threading.Thread(target=_listen, args=(ear, hear), daemon=True)
    listener.start()
    workers: list[Worker] = []
    at_once = True
    try:
        for index in range(number):
            workers.append(Worker(index, voice, threads))  # noqa: PERF401, whoever is there must be dismissed
        yield workers
        at_once = False
    finally:
        for worker in workers:
            worker.dismiss(at_once=at_once)
        voice.send(b"")
        listener.join()
        ear.close()
        voice.close()


def _listen(ear: socket.socket, hear: Hear) -> None:
    while message := ear.recv(1 << 16):
        number, content = json.loads(message)
        hear(number, content)


_speak: Callable[..., None]
_for_life = ExitStack()


def _begin(voice: socket.socket, number: int, threads: int | None) -> None:
    """Set a new process up: the parent alone answers Ctrl-C, and no process outlives it."""
    global _speak
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()

    def speak(**content: Any) -> None:
        with suppress(OSError):  # nobody listens any more
            voice.send(json.dumps([number, content]).encode())

    _speak = speak
    console.speak_through(lambda text, style: speak(say=text[:LONGEST], style=style))
    _for_life.enter_context(cpu_threads(threads))


def _end_with(parent: int) -> None:
    connection.wait([parent])
    os._exit(1)


def _perform(errand: Errand, out: Path, device: torch.device) -> Outcome:
    job = errand.job()

    def report(epoch: EpochReport) -> None:
        _speak(text=epoch.told(job.title), epoch=epoch.epoch, epochs=epoch.epochs)

    return run_job(job, out, device, report)
