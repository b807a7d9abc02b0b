"""A study that several processes share and that survives being killed: optuna's journal, with claims on its trials.

Which trial is whose is settled under one lock, and a trial belongs to a process as long as that process lives. What a
killed process had begun is given, with the same parameters, to whoever asks next.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from survbench.errors import BadConfig

__all__ = ["SharedStudy"]

_OVER = (TrialState.COMPLETE, TrialState.PRUNED)


class _Lock:
    """A lock that the system frees when its holder dies; whoever gets it cuts off a line that was left half written."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self._handle: IO[bytes] | None = None

    def acquire(self) -> bool:
        handle = self.journal.with_suffix(".lock").open("ab")
        fcntl.flock(handle, fcntl.LOCK_EX)
        self._handle = handle
        self._trim()
        return True

    def release(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def _trim(self) -> None:
        if not self.journal.exists():
            return
        with self.journal.open("r+b") as content:
            size = content.seek(0, os.SEEK_END)
            tail = min(size, 1 << 16)
            content.seek(size - tail)
            block = content.read()
            if block and not block.endswith(b"\n"):
                content.truncate(size - tail + block.rfind(b"\n") + 1)


class SharedStudy:
    """Trials of one question, in a folder.

    Parameters
    ----------
    task : what the trials are about; another question in the same folder is refused.
    space : parameter -> optuna distribution. seed : of the sampler; the n-th trial draws from (seed, n).
    """

    def __init__(
        self,
        folder: Path,
        task: Mapping[str, Any],
        space: Mapping[str, BaseDistribution],
        *,
        seed: int,
        pruner: optuna.pruners.BasePruner,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.space, self.seed = folder, dict(space), seed
        self.worker = uuid.uuid4().hex
        self._alive = (folder / f".worker-{self.worker}").open("w")
        fcntl.flock(self._alive, fcntl.LOCK_EX)
        try:
            self.study = self._open(folder / "journal.log", task, pruner)
        except BaseException:
            self.close()
            raise

    def _open(self, journal: Path, task: Mapping[str, Any], pruner: optuna.pruners.BasePruner) -> optuna.Study:
        with self._settled():
            storage = JournalStorage(JournalFileBackend(str(journal), _Lock(journal)))  # type: ignore[arg-type]
            study = optuna.create_study(
                storage=storage, study_name="study", direction="minimize", pruner=pruner, load_if_exists=True
            )
            known = study.user_attrs.get("task")
            if known is None:
                study.set_user_attr("task", dict(task))
            elif known != dict(task):
                differing = sorted(k for k in {*known, *task} if known.get(k) != task.get(k))
                raise BadConfig(
                    f"{journal.parent} holds trials of another question: {differing[0]} differs",
                    "give this one its own --name",
                )
            return study

    def enqueue_first(self, settings: Mapping[str, Any]) -> None:
        """Ask for these settings before any other, once."""
        with self._settled():
            if not self.study.get_trials(deepcopy=False):
                self.study.enqueue_trial(dict(settings), user_attrs={"default": True})

    def claim(self, wanted: int) -> optuna.Trial | None:
        """The next trial; None where `wanted` are over or under way. Trials of the dead come first."""
        with self._settled():
            self._bury()
            trials = self.study.get_trials(deepcopy=False)
            if sum(_counts(t) or t.state is TrialState.RUNNING for t in trials) >= wanted:
                return None
            self.study.sampler = optuna.samplers.TPESampler(seed=hash((self.seed, len(trials))) % 2**32)
            trial = self.study.ask(fixed_distributions=self.space)
            trial.set_user_attr("worker", self.worker)
            return trial

    def finished(self) -> list[FrozenTrial]:
        """Trials that count, in their order: complete, pruned, or failed of themselves."""
        return [t for t in self.study.get_trials(deepcopy=False) if _counts(t)]

    def close(self) -> None:
        """Say goodbye; what this process had begun and not told is free for others."""
        self._alive.close()
        (self.folder / f".worker-{self.worker}").unlink(missing_ok=True)

    def _bury(self) -> None:
        """Trials of processes that are gone: failed, and asked again with the same parameters."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not self._lives(trial.user_attrs.get("worker", "")):
                self.study.tell(trial.number, state=TrialState.FAIL)
                if trial.params:
                    default = {"default": True} if trial.user_attrs.get("default") else {}
                    self.study.enqueue_trial(trial.params, user_attrs={**default, "again": trial.number})

    def _lives(self, worker: str) -> bool:
        if worker == self.worker:
            return True
        file = self.folder / f".worker-{worker}"
        if not worker or not file.exists():
            return False
        with file.open("r+") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        file.unlink(missing_ok=True)
        return False

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """One process at a time."""
        with (self.folder / ".claims.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _counts(trial: FrozenTrial) -> bool:
    return trial.state in _OVER or (trial.state is TrialState.FAIL and "error" in trial.user_attrs)
