"""Errors that a user can mend: one line with what is wrong, what is expected, and what to do.

The command line prints the message and exits with code 2. Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

__all__ = [
    "BadConfig",
    "BadExpression",
    "BadFeatures",
    "BadFile",
    "BadFolds",
    "BadLabels",
    "BadModel",
    "MissingFile",
    "ModalityDenied",
    "SurvbenchError",
    "TrainingFailed",
    "UnknownName",
]


class SurvbenchError(Exception):
    """Base of all errors that a user can mend.

    Parameters
    ----------
    what : the file, patient or key, its value, and what is expected.
    fix : what to do about it; appended to the message.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        self.what = " ".join(what.split())
        self.fix = " ".join(fix.split())
        super().__init__(f"{self.what}. {self.fix}" if self.fix else self.what)


class MissingFile(SurvbenchError):
    """A file or folder that was named does not exist."""


class BadFile(SurvbenchError):
    """A file exists but cannot be read as what it should be."""


class BadLabels(SurvbenchError):
    """Survival times, events or patients that cannot be right."""


class BadFeatures(SurvbenchError):
    """Patch features that cannot be used: wrong width, NaN, wrong rank."""


class BadExpression(SurvbenchError):
    """Expression values, genes or pathways that cannot be used."""


class BadFolds(SurvbenchError):
    """Folds that overlap, leave patients out or name unknown ones."""


class BadConfig(SurvbenchError):
    """A setting that does not exist or has an impossible value."""


class BadModel(SurvbenchError):
    """A model that cannot be imported or does not keep the interface."""


class UnknownName(SurvbenchError):
    """A model, cohort, preset or objective that nobody registered."""


class ModalityDenied(SurvbenchError, AttributeError):
    """A model used a modality that it was not granted (protocol rule 8)."""


class TrainingFailed(SurvbenchError):
    """Training could not go on, for example because the loss became NaN."""
