"""Processes that run jobs, each one job at a time, each with its own way of dying: none takes another with it.

A process is sent a job without its data, loads the cohort itself and keeps it; features stay one memory map for all.
"""

from __future__ import annotations

import gc
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
from survbench.experiments.preload import context_for, load_ahead
from survbench.training.device import cpu_threads
from survbench.training.fit import EpochReport

__all__ = ["Errand", "Worker", "bearable_workers", "device_memory", "hired", "sensible_workers"]

GIGABYTES_EACH = 3  # of memory, for `auto`
CONTEXT = 600 << 20  # bytes of a CUDA device that a process takes beside its tensors: kernels, handles, stacks
LONGEST = 1500  # characters of a message; a datagram arrives whole or not at all, also when its sender is killed

Hear = Callable[[int, Mapping[str, Any]], None]
"""Called, from a thread, with the number of a worker and `{say, style}`, `{epoch, epochs, text}` or, where its job has
come to hold more of a CUDA device, `{model, device_bytes, free_bytes}` as in `device_memory`."""


def sensible_workers(device: torch.device) -> int:
    """As many as the machine bears; on an accelerator one."""
    return bearable_workers() if device.type == "cpu" else 1


def bearable_workers() -> int:
    """One per core that this process may use and per 3 GB of memory."""
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
    """One process, begun when there is a job for it; a new one, if need be, for each job.

    A pool of one each, because a process that is killed breaks its pool: the jobs of the others would be lost with it.
    """

    _pool: ProcessPoolExecutor | None = None
    _process: Future[int]

    def __init__(self, number: int, voice: socket.socket, threads: int) -> None:
        self.number = number
        load_ahead()
        self._about = (voice, number, threads)

    def _hire(self, device: torch.device) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(1, context_for(device.type), _begin, self._about)
        self._process = pool.submit(os.getpid)
        self._pool = pool
        return pool

    def give(self, job: Job, out: Path, device: torch.device) -> Future[Outcome]:
        """Have a job run; BrokenProcessPool is the answer where the process dies."""
        return (self._pool or self._hire(device)).submit(_perform, Errand.of(job), out, device)

    def dismiss(self, *, at_once: bool = False) -> None:
        """End the process, if there is one; what it has begun goes on from its last epoch another time."""
        if self._pool is None:
            return
        if at_once:
            with suppress(Exception):  # it may be dead already
                os.kill(self._process.result(), signal.SIGTERM)
        self._pool.shutdown(cancel_futures=True)
        self._pool = None


@contextmanager
def hired(number: int, threads: int, hear: Hear) -> Iterator[list[Worker]]:
    """So many workers, who are gone afterwards however that comes about."""
    ear, voice = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    workers = [Worker(index, voice, threads) for index in range(number)]
    listener = threading.Thread(target=_listen, args=(ear, hear), daemon=True)
    listener.start()
    at_once = True
    try:
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


def _begin(voice: socket.socket, number: int, threads: int) -> None:
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
    _release_memory(device)
    known = 0  # bytes

    def measure() -> None:
        nonlocal known
        held, free = device_memory(device)
        if held > known:
            known = held
            _speak(model=job.card.name, device_bytes=held, free_bytes=free)

    def report(epoch: EpochReport) -> None:
        _speak(text=epoch.told(job.title), epoch=epoch.epoch, epochs=epoch.epochs)
        measure()

    outcome = run_job(job, out, device, report)
    if outcome.status in ("done", "crowded"):  # others may have ended before they needed what they need
        measure()
    return outcome


def device_memory(device: torch.device) -> tuple[int, int]:
    """Bytes of a CUDA device: what this process held at most during its job, and what is free for anybody now.

    Zeros where that is not known: on other devices, and where nothing was done on this one.
    """
    if device.type != "cuda" or not torch.cuda.is_initialized():
        return 0, 0
    try:
        free, _ = torch.cuda.mem_get_info(device)
    except RuntimeError:  # the device may be too full to be asked
        return 0, 0
    return torch.cuda.max_memory_reserved(device) + CONTEXT, free


def _release_memory(device: torch.device) -> None:
    """Give back what the job before has left on a CUDA device, so that what is measured is the next one's own."""
    if device.type == "cuda" and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
