"""The machine that a benchmark ran on, in words."""

import os
import platform
from pathlib import Path

import torch


def machine() -> str:
    """Cores, processor, Python, torch, and the GPU if there is one."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        processor = f"{names[0]} ({platform.machine()})" if names else processor
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{os.cpu_count()} cores of {processor}{gpu}; {versions}"
