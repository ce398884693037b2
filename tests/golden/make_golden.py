"""Make trajectory-v1.h5, the file that every later prdsim must still read and continue.

Never made again once released: a new format version gets a new file. The run in it was
interrupted at step 13 of 24.
"""

from __future__ import annotations

import sys
from pathlib import Path

from synthetic_run import continue_run, layout

from prdsim.trajectory import FORMAT_VERSION, TrajectoryWriter

if __name__ == "__main__":
    target = Path(__file__).parent / f"trajectory-v{FORMAT_VERSION}.h5"
    with TrajectoryWriter.create(target, layout(), force="--force" in sys.argv) as writer:
        continue_run(writer, stop=13)
