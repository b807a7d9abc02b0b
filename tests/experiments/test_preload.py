"""Processes are loaded ahead without getting in the way of Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from survbench.experiments.preload import load_ahead

INTERRUPTED = """
import os, signal, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from survbench.experiments.preload import load_ahead

if __name__ == "__main__":
    load_ahead()
    try:
        time.sleep(0.5)  # the other process is loading by now
        os.killpg(0, signal.SIGINT)  # as a terminal does
        time.sleep(60)
    except KeyboardInterrupt:
        pass
    with ProcessPoolExecutor(1, get_context("forkserver")) as pool:
        print(pool.submit(abs, -7).result())
"""


def test_ctrl_c_reaches_the_command_and_not_the_process_that_loads(tmp_path: Path) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, start_new_session=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "7"), done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_signal_does_is_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    load_ahead()
    load_ahead()
    assert signal.getsignal(signal.SIGINT) is before
