"""How the C library hands memory back to the system.

glibc returns every block of 32 MiB or more at once, so a training step that frees its logits has the kernel clear the
same pages again for the next. On two CPU cores that was 40 % of SASRec's time (docs/LOG.md).
"""

import ctypes

# malloc.h of glibc; no other C library has `mallopt`.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process keep the memory it frees, up to 2 GiB of it, for what it allocates next."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, LARGEST)
