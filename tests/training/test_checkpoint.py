"""Checkpoints: always a whole one, whatever was written before and wherever a kill strikes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from torch.serialization import get_crc32_options

from survbench.training.checkpoint import Progress, load_checkpoint, load_stage, save_checkpoint, save_stage


def numbered(epoch: int, size: int) -> Progress:
    return Progress(epoch=epoch, current={"weight": torch.full((size,), float(epoch))})


def check(folder: Path, epoch: int, size: int) -> None:
    progress = load_checkpoint(folder)
    assert progress is not None
    assert progress.current is not None
    assert progress.epoch == epoch
    assert torch.equal(progress.current["weight"], torch.full((size,), float(epoch)))


def test_the_last_of_many_is_read_whether_they_grow_or_shrink(tmp_path: Path) -> None:
    before = get_crc32_options()
    for epoch, size in enumerate((10, 5000, 5000, 3, 90_000, 1, 400)):
        save_checkpoint(tmp_path, numbered(epoch, size))
        check(tmp_path, epoch, size)
        save_stage(tmp_path, "teacher", {"weight": torch.full((size,), float(epoch))})
        assert torch.equal(load_stage(tmp_path, "teacher")["weight"], torch.full((size,), float(epoch)))
    assert get_crc32_options() == before  # of everything else that is saved


@pytest.mark.parametrize("step", ["open", "link", "replace", "unlink"])
def test_a_kill_at_any_step_leaves_the_last_whole_one(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for epoch in range(3):
        save_checkpoint(tmp_path, numbered(epoch, 1000))

    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        if step == "open":  # half way through the file
            patched.setattr(torch, "save", lambda content, file: (file.write(b"half"), kill()))
        elif step == "unlink":
            patched.setattr(Path, "unlink", kill)
        else:
            patched.setattr(os, step, kill)
        with pytest.raises(Killed):
            save_checkpoint(tmp_path, numbered(3, 1000))
    check(tmp_path, 2, 1000)
    for epoch in (4, 5, 6):
        save_checkpoint(tmp_path, numbered(epoch, 10 * epoch))
        check(tmp_path, epoch, 10 * epoch)


def test_a_kill_after_the_new_one_is_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, numbered(0, 1000))
    save_checkpoint(tmp_path, numbered(1, 1000))
    replace, calls = os.replace, []

    def second_is_killed(old: Path, new: Path) -> None:
        calls.append(new)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(old, new)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", second_is_killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, numbered(2, 500))
    check(tmp_path, 2, 500)
    save_checkpoint(tmp_path, numbered(3, 2000))
    check(tmp_path, 3, 2000)


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    for epoch in range(4):
        save_checkpoint(tmp_path, numbered(epoch, 100))
        check(tmp_path, epoch, 100)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # struck between `open` and `with`
def test_an_interrupt_while_writing_stays_an_interrupt(tmp_path: Path) -> None:
    """Ctrl-C at many moments of a save: never another error, which would be taken for the job's own."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        save_checkpoint(tmp_path, numbered(0, 10**6))
        for moment in range(1, 120):
            try:
                signal.setitimer(signal.ITIMER_REAL, moment * 5e-5)
                save_checkpoint(tmp_path, numbered(moment, 10**6))
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            assert load_checkpoint(tmp_path) is not None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted
