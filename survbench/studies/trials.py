"""A study that processes share: optuna's journal of its finished trials, and a lock for each trial that runs.

A trial's settings follow from the study's seed, its number and the values of earlier generations, so that neither the
number of processes nor their deaths change them. What a trial computes is in tuning.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from survbench.console import note
from survbench.errors import BadConfig, BadFile
from survbench.files import lock

__all__ = ["GENERATION", "SharedStudy", "replayed"]

GENERATION = 8  # trials that know the values of all generations before their own, and of none beside them
COMPARED = 5  # pruning compares with at least this many complete trials
VERSION = 2  # of what the journal holds
_FIX = "choose another --name for this one, or delete that folder"


class SharedStudy:
    """Trials of one question, in a folder.

    Parameters
    ----------
    question : plain values that define the study; a study of another question in the same folder is refused.
    space : parameter -> optuna distribution.
    default : settings of trial 0; None samples them like the others'.
    seed : of the sampler.

    Raises
    ------
    BadConfig : the folder holds trials of another question or of another version.
    BadFile : its journal cannot be read, or the numbers of its trials are impossible.
    """

    def __init__(
        self,
        folder: Path,
        question: Mapping[str, Any],
        space: Mapping[str, BaseDistribution],
        *,
        default: Mapping[str, Any] | None,
        seed: int,
    ) -> None:
        self.folder, self.default, self.seed = folder, default, seed
        self.space = dict(sorted(space.items()))  # parameters are sampled in this order
        sampled = {"space": {k: distribution_to_json(d) for k, d in self.space.items()}, "sampler_seed": seed}
        self._journal = _open(folder, {"journal_version": VERSION, **sampled, **question})

    def finished(self) -> dict[int, FrozenTrial]:
        """Trials that are complete, pruned or failed, by number, in the order in which they ended."""
        return {t.user_attrs["number"]: t for t in self._journal.get_trials(deepcopy=False)}

    def history(self) -> list[FrozenTrial]:
        """The finished trials in the order of their numbers, up to the first that is not."""
        finished = self.finished()
        return [finished[number] for number in takewhile(finished.__contains__, count())]

    @contextmanager
    def reserve(self, trials: int) -> Iterator[int | None]:
        """Number of a trial that no other process runs while the context lasts; a dead process's trial is free.

        None where other processes run all that could be run now: a generation begins when the one before is finished.

        Parameters
        ----------
        trials : of the whole study, finished ones included.
        """
        finished = self.finished()
        left = [number for number in range(trials) if number not in finished]
        with ExitStack() as locks:
            for number in left:
                if number // GENERATION > left[0] // GENERATION:
                    break
                locked = locks.enter_context(lock(self.folder / "claims" / str(number), wait=False))
                if locked and number not in self.finished():
                    yield number
                    return
            yield None

    def ask(self, number: int) -> optuna.Trial:
        """Trial of this number with its settings; what it reports is compared with trials of earlier generations.

        Those of its generation that have lower numbers are sampled before it, so that the sampler keeps away from them.
        """
        finished, first = self.finished(), number - number % GENERATION
        pruner = optuna.pruners.MedianPruner(n_startup_trials=COMPARED)
        study = replayed((finished[earlier] for earlier in range(first)), pruner=pruner)
        if first == 0 and self.default is not None:
            study.enqueue_trial(dict(self.default), user_attrs={"default": True})
        for sampled in range(first, number + 1):
            (seed,) = np.random.SeedSequence(self.seed, spawn_key=(sampled,)).generate_state(1)
            study.sampler = optuna.samplers.TPESampler(n_startup_trials=GENERATION, seed=int(seed))
            trial = study.ask(self.space)
        trial.set_user_attr("number", number)
        return trial

    def record(self, trial: optuna.Trial, value: float | None = None, state: TrialState | None = None) -> None:
        """Write how a trial ended into the journal: a value, or that it was pruned or failed.

        Nothing is written where another process, to which this one seemed dead, has finished the trial.
        """
        if trial.user_attrs["number"] not in self.finished():
            self._journal.add_trial(trial.study.tell(trial, value, state))


def replayed(trials: Iterable[FrozenTrial], **parts: Any) -> optuna.Study:
    """An optuna study in memory that has these trials.

    Parameters
    ----------
    trials : in the order in which the study sees them.
    parts : of the study, such as its pruner.
    """
    study = optuna.create_study(**parts)
    study.add_trials(trials)
    return study


def _open(folder: Path, question: Mapping[str, Any]) -> optuna.Study:
    journal, plain = folder / "journal.log", json.loads(json.dumps(question, default=list))
    with lock(folder / "opening"):
        try:
            storage = JournalStorage(JournalFileBackend(str(journal), _Lock(journal)))
            study = optuna.create_study(storage=storage, study_name="study", load_if_exists=True)
            if not study.user_attrs:
                study.set_user_attr("question", plain)
            known = study.user_attrs.get("question", {})
            differing = [key for key in {**plain, **known} if known.get(key) != plain.get(key)]
            trials = study.get_trials(deepcopy=False)
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise _unreadable(journal, error) from None
    if differing:
        raise BadConfig(f"{folder} holds trials of another question: {differing[0]} differs", _FIX)
    numbers = [trial.user_attrs.get("number") for trial in trials if trial.state.is_finished()]
    if not _possible(numbers) or len(numbers) < len(trials):
        raise _unreadable(journal, "their numbers are missing, repeated or out of order")
    return study


def _possible(numbers: Sequence[Any]) -> bool:
    """Whether trials can have ended in this order: each once, and none before all earlier generations had."""
    ordered = all(type(n) is int and n // GENERATION == place // GENERATION for place, n in enumerate(numbers))
    return ordered and len(set(numbers)) == len(numbers)


def _unreadable(journal: Path, reason: object) -> BadFile:
    return BadFile(f"{journal} cannot be read as trials ({reason})", _FIX)


class _Lock(JournalFileOpenLock):
    """The journal's: free when its holder dies. A process that acquires it removes a half-written last line."""

    def __init__(self, journal: Path) -> None:
        self._path, self._locks = journal, ExitStack()

    def acquire(self) -> bool:
        with ExitStack() as locks:
            locks.enter_context(lock(self._path))
            content = self._path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if not content.startswith(b"{", whole) and content[whole:]:
                raise _unreadable(self._path, "its end is no line that was left half written")
            if content[whole:]:
                os.truncate(self._path, whole)
                note(f"dropped a line of {self._path} that was left half written")
            self._locks = locks.pop_all()
        return True

    def release(self) -> None:
        self._locks.close()
