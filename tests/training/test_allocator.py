"""Memory that a step frees is there for the next one."""

import subprocess
import sys

SCRIPT = """
import resource, sys
import numpy as np
from training.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
np.ones(1 << 24)  # 128 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    finished = subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True)
    return int(finished.stdout)


def test_a_large_block_is_used_again_without_page_faults() -> None:
    assert page_faults("keep") < 100
    assert page_faults("as it is") > 100  # else the measurement sees nothing, with pages of any size
