"""Make trajectory-v3.h5 and trajectory-v3-times.h5, files that every later prdsim must still read.

And continue. Never made again once released: a new format version gets new files, and those of
versions 1 and 2 were made like that by their own. The run in them was interrupted at step 13 of
24; the first is recorded at steps, the second at times.
"""

from __future__ import annotations

import sys
from pathlib import Path

from synthetic_run import SCALAR_TIMES, SNAPSHOT_TIMES, continue_run, layout

from prdsim.trajectory import FORMAT_VERSION, TrajectoryWriter

if __name__ == "__main__":
    folder, force = Path(__file__).parent, "--force" in sys.argv
    target = folder / f"trajectory-v{FORMAT_VERSION}.h5"
    with TrajectoryWriter.create(target, layout(), force=force) as writer:
        continue_run(writer, stop=5)
    with TrajectoryWriter.open(target) as writer:
        writer.session({"at": "2026-11-26T00:00:00+00:00", "step": 5, "versions": {"numpy": "2.0"}})
        continue_run(writer, stop=13)
    plans = {"snapshot_plan": SNAPSHOT_TIMES, "scalar_plan": SCALAR_TIMES}
    target = folder / f"trajectory-v{FORMAT_VERSION}-times.h5"
    with TrajectoryWriter.create(target, layout(**plans), force=force) as writer:
        continue_run(writer, *plans.values(), stop=13)
