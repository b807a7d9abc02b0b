"""What a figure was measured on: processor, versions, commit. No host name, no path."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from survbench.experiments.versions import installed, package_versions
from survbench.training.device import precision

__all__ = ["about", "commit", "today", "versions"]

PEERS = ("torchmil", "torchsurv")


def about(device: torch.device) -> dict[str, Any]:
    """Of the machine; how fast it multiplies matrices is in the rounds."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": precision(device),
        "threads": torch.get_num_threads(),
    }


def versions() -> dict[str, str]:
    """Of everything that is timed; `not installed` where it is not."""
    return {**package_versions(), **installed(PEERS)}


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def commit() -> str:
    """Of the checkout that is measured, with `+` where files differ from it; empty outside of one."""
    here = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except OSError:  # no git
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
