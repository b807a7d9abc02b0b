"""Suite `statistics`: the Cox loss, concordance and its bootstrap beside scikit-survival and torchsurv."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.errors import NotInstalled
from benchmarks.rounds import Contestant, Race, Work
from survbench.evaluation.compare import bootstrap_cindex
from survbench.evaluation.metrics import harrell, uno
from survbench.training.objectives import Cox

__all__ = ["statistics"]

RESAMPLES = 1000

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def statistics(patients: Sequence[int]) -> Iterator[Race]:
    """Four statistics at each number of patients, small ones first."""
    for count in sorted(patients):
        sample = _sample(count)
        yield _race(count, "Cox loss", 1, {"survbench": _cox, "torchsurv": _torchsurv_cox}, sample)
        ours, theirs = {"survbench": _harrell}, {"scikit-survival": _sksurv_harrell, "torchsurv": _torchsurv_harrell}
        yield _race(count, "C-index", 2, ours | theirs, sample)
        yield _race(count, "Uno's C", 2, {"survbench": _uno, "scikit-survival": _sksurv_uno}, sample)
        ours, theirs = {"survbench": _bootstrap}, {"scikit-survival": _loop, "torchsurv": _torchsurv_bootstrap}
        yield _race(count, f"bootstrap of C, {RESAMPLES:,} resamples", 2, ours | theirs, sample)


def _race(count: int, name: str, growth: float, makers: Mapping[str, Callable[[Sample], Work]], sample: Sample) -> Race:
    contestants = [
        Contestant(name=library, prepare=partial(make, sample), growth=growth) for library, make in makers.items()
    ]
    return Race(suite="statistics", cell={"statistic": name, "n": count}, contestants=contestants, size=count)


def _sample(count: int) -> Sample:
    """time (months, one decimal, so with ties), event (40 % died), risk."""
    rng = np.random.default_rng(0)
    risk = rng.normal(size=count)
    time = np.round(rng.exponential(40 * np.exp(-risk)) + 0.1, 1)
    return time, rng.random(count) < 0.4, risk


def _tensors(sample: Sample) -> tuple[Tensor, Tensor, Tensor]:
    time, event, risk = sample
    return torch.from_numpy(time).float(), torch.from_numpy(event), torch.from_numpy(risk).float()


def _cox(sample: Sample) -> Work:
    """Loss and gradient, Efron's ties."""
    time, event, risk = _tensors(sample)
    logits, objective = risk.unsqueeze(1).requires_grad_(), Cox()

    def work() -> None:
        logits.grad = None
        objective.loss(logits, time, event).backward()

    return work


def _torchsurv_cox(sample: Sample) -> Work:
    try:
        from torchsurv.loss.cox import neg_partial_log_likelihood
    except ImportError as error:
        raise NotInstalled("torchsurv") from error
    time, event, risk = _tensors(sample)
    risk.requires_grad_()
    warnings.filterwarnings("ignore", "Ties in")  # it tells of every call that it handles ties

    def work() -> None:
        risk.grad = None
        neg_partial_log_likelihood(risk, event, time, ties_method="efron").backward()

    return work


def _harrell(sample: Sample) -> Work:
    return lambda: _nothing(harrell(*sample))


def _sksurv_harrell(sample: Sample) -> Work:
    from sksurv.metrics import concordance_index_censored

    time, event, risk = sample
    return lambda: _nothing(concordance_index_censored(event, time, risk))


def _torchsurv_harrell(sample: Sample) -> Work:
    index, (time, event, risk) = _torchsurv_index(), _tensors(sample)
    return lambda: _nothing(index(risk, event, time))


def _uno(sample: Sample) -> Work:
    time, event, risk = sample
    horizon = float(np.quantile(time, 0.8))
    return lambda: _nothing(uno(time, event, time, event, risk, horizon))


def _sksurv_uno(sample: Sample) -> Work:
    from sksurv.metrics import concordance_index_ipcw
    from sksurv.util import Surv

    time, event, risk = sample
    outcome, horizon = Surv.from_arrays(event, time), float(np.quantile(time, 0.8))
    return lambda: _nothing(concordance_index_ipcw(outcome, outcome, risk, tau=horizon))


def _bootstrap(sample: Sample) -> Work:
    time, event, risk = sample
    return lambda: _nothing(bootstrap_cindex(time, event, risk[None], RESAMPLES))


def _loop(sample: Sample) -> Work:
    """The only way that scikit-survival offers: resample and compute again."""
    from sksurv.metrics import concordance_index_censored

    time, event, risk = sample

    def work() -> None:
        rng = np.random.default_rng(0)
        for _ in range(RESAMPLES):
            rows = rng.integers(len(time), size=len(time))
            concordance_index_censored(event[rows], time[rows], risk[rows])

    return work


def _torchsurv_bootstrap(sample: Sample) -> Work:
    index, (time, event, risk) = _torchsurv_index(), _tensors(sample)
    index(risk, event, time)
    return lambda: _nothing(index.confidence_interval(method="bootstrap", n_bootstraps=RESAMPLES))


def _torchsurv_index() -> Any:
    try:
        from torchsurv.metrics.cindex import ConcordanceIndex
    except ImportError as error:
        raise NotInstalled("torchsurv") from error
    return ConcordanceIndex()


def _nothing(_: object) -> None:
    """What was computed is of no interest here."""
