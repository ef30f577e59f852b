"""What a benchmark ran on."""

import platform
from pathlib import Path


def machine() -> str:
    """Processor and system."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, {platform.system()}"
