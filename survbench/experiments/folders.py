"""Where everything below the folder of results is, how its files are named, and whether they are as they were written.

The only module that knows a file's name. What the files must hold is in schema.py, what is made of them in results.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from survbench.errors import BadFile, SurvbenchError
from survbench.experiments import schema
from survbench.files import digest, file_digest, write_json

if TYPE_CHECKING:
    from survbench.data.cohort import Cohort
    from survbench.experiments.job import Job

AGAIN = "delete the folder and run the job again"
MANIFEST, RECORD = "manifest.json", "job.json"
PREDICTIONS, METRICS, HISTORY = "predictions.parquet", "metrics.json", "history.parquet"
FITTED, WEIGHTS = "fitted.json", "model.safetensors"
VALIDATION, VALIDATED = "external_validation.json", "external_validation.parquet"
FIRST_VALIDATION, FIRST_VALIDATED = "external.json", "predictions.parquet"  # of the first edition
T = TypeVar("T")


@dataclass(frozen=True)
class Unreadable:
    """A folder or file that is no usable record, and why."""

    path: Path
    reason: str


def _place(job: Job) -> Path:
    task = f"{job.cohort.name}-{job.cohort.endpoint}-{job.scheme}"
    return Path(job.card.name, task, f"fold{job.fold.index}-seed{job.seed}-{job.id[:10]}")


def result_folder(job: Job, out: Path) -> Path:
    """Where the result is once it is done; see `JobResult.is_done`."""
    return out / "jobs" / _place(job)


def failure_file(job: Job, out: Path) -> Path:
    """Where a failure is recorded."""
    place = out / "failures" / _place(job)
    return place.with_name(f"{place.name}.json")


def scratch_folder(job: Job, out: Path) -> Path:
    """Where checkpoints are while the job is not done."""
    return out / "scratch" / job.id[:16]


def stages_folder(out: Path) -> Path:
    """Where trained stages are kept for other jobs."""
    return out / "stages"


def tune_folder(out: Path) -> Path:
    """Where studies of settings are kept."""
    return out / "tune"


def validation_folder(job: Job, cohort: Cohort, out: Path) -> Path:
    """Where the predictions of a job's model for another cohort are."""
    identity = digest([job.id, cohort.content_hash])
    task = f"{job.cohort.name}-to-{cohort.name}-{cohort.endpoint}-{job.scheme}"
    return out / "external" / job.card.name / task / f"fold{job.fold.index}-seed{job.seed}-{identity[:10]}"


def seal(folder: Path, identifier: str) -> None:
    """Write the manifest: a digest of every file, and the id of the job."""
    files = {file.name: file_digest(file) for file in sorted(folder.iterdir()) if file.name != MANIFEST}
    write_json(folder / MANIFEST, {"format": schema.SCHEMA, "id": identifier, "sha256": files})


def digests_of(folder: Path, job: object) -> Mapping[str, str]:
    """Digests by the name of the file, from the manifest.

    Raises
    ------
    BadFile : they are not those of the job with this id.
    """
    try:
        content = schema.read_json(folder / MANIFEST)
        identifier, digests = content["id"], {str(name): str(value) for name, value in content["sha256"].items()}
    except FileNotFoundError:
        raise BadFile(f"{folder} has no {MANIFEST}", AGAIN) from None
    except schema.MALFORMED:
        raise BadFile(f"{folder / MANIFEST} is no list of digests", AGAIN) from None
    if identifier != job:
        raise BadFile(f"{folder / MANIFEST} is of another job than the record beside it", AGAIN)
    return digests


def check(path: Path, digests: Mapping[str, str]) -> None:
    """Raise BadFile for a file that is not as it was written."""
    if not path.is_file():
        raise BadFile(f"{path} is missing", AGAIN)
    if digests.get(path.name) != file_digest(path):
        raise BadFile(f"{path.name} was altered after it was written ({path})", AGAIN)


@contextmanager
def readable(path: Path) -> Iterator[Path]:
    """Raise BadFile for whatever a decoder trips over in a damaged file."""
    try:
        yield path
    except SurvbenchError:
        raise
    except Exception as error:
        raise BadFile(f"{path} cannot be read ({schema.one_line(error)})", AGAIN) from None


def read_table(path: Path) -> pd.DataFrame:
    """A table; BadFile where it is damaged."""
    with readable(path):
        return pd.read_parquet(path)


def read_record(file: Path, path: Path, build: Callable[[Path, Mapping[str, Any], bool, float], T]) -> T | Unreadable:
    """What is built from a JSON record.

    Parameters
    ----------
    file : the record.
    path : the folder that it describes, or the file itself.
    build : called with `path`, what the record holds, whether it is of the first edition, and when it was written.
    """
    try:
        content = schema.read_json(file)
        first = schema.is_first_edition(content)
        if path.is_dir():
            if (path / MANIFEST).is_file():
                check(file, digests_of(path, content.get("job" if file.name == VALIDATION else "id")))
            elif not first:
                raise ValueError(f"the folder has no {MANIFEST}, so nothing says that its files are as written")
        return build(path, content, first, file.stat().st_mtime)
    except FileNotFoundError as error:
        return Unreadable(path, f"it has no {Path(str(error.filename)).name}")
    except BadFile as error:
        return Unreadable(path, str(error))
    except schema.MALFORMED as error:
        return Unreadable(path, f"{file.name} cannot be used: {schema.one_line(error)}")
