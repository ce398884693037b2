"""How large the page of `prdsim report` is, how soon it is shown, and how fast its slider moves.

    python benchmarks/report_page.py [--data-dir ../shared/mnist] [--runs FOLDER]

Two runs of the poster's preset on MNIST, without and with diffusion, to t = 20, 40 snapshots of 256
filters. Needs Chromium, and pip install -e '.[browser]'. Writes
benchmarks/results/<date>-report-page.json and prints it. ``--runs`` keeps the runs in a folder, and
takes those that are there. The browser draws without a graphics processor.

First view: from the start of the navigation until all that the page shows is drawn, in a running
browser, median of 5. Slider: moved once a frame through all snapshots, to and fro.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from prdsim.files.whole import write_whole
from prdsim.timing.machine import circumstances

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # the tests' browser

from support_browser import Page, browser, missing  # noqa: E402

RUNS = {"with": "--diffusion", "without": "--no-diffusion"}
SNAPSHOTS, VIEWS, LAPS = 40, 5, 5
MOST_MB, MOST_SECONDS, LEAST_FRAMES = 6.0, 2.0, 30.0

_MOVE = """
const at = document.getElementById('at'), last = Number(at.max), laps = arguments[0];
const begun = performance.now();
for (let lap = 0; lap < laps; lap++) {
  for (let k = 1; k <= last; k++) {
    at.value = lap % 2 ? last - k : k;
    at.dispatchEvent(new Event('input', { bubbles: true }));
    await frame();  // in which all is drawn
  }
}
return [laps * last, (performance.now() - begun) / 1000];
"""


def main() -> int:
    """Make the page, measure, write; 1 if it does not reach what is promised."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, default=ROOT.parent / "shared" / "mnist")
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if missing():
        print(missing(), file=sys.stderr)
        return 2
    found: dict[str, Any] = {"format": 1, **circumstances()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.runs or Path(temporary)
        folder.mkdir(exist_ok=True)
        paths = [made(folder / f"{name}.h5", RUNS[name], options.data_dir) for name in RUNS]
        page = Path(temporary) / "report.html"
        begun = time.perf_counter()
        command([*map(str, paths), "-o", str(page)], "report")
        found["made_s"] = time.perf_counter() - begun
        found["page_mb"] = page.stat().st_size / 1e6
        with browser() as shown:
            found["browser"] = shown.driver.capabilities["browserVersion"]
            found |= measured(shown, page.as_uri())
    holds = (
        found["page_mb"] < MOST_MB
        and found["first_view_s"] < MOST_SECONDS
        and found["frames_per_s"] >= LEAST_FRAMES
    )
    path = options.output or (
        ROOT / "benchmarks" / "results" / f"{datetime.now(UTC):%Y-%m-%d}-report-page.json"
    )
    write_whole(path, (json.dumps(found, indent=1) + "\n").encode(), force=True)
    print(json.dumps(found, indent=1))
    return 0 if holds else 1


def made(path: Path, side: str, data_dir: Path) -> Path:
    """Return a run's file, made unless it is there."""
    if not path.is_file():
        data = ["--dataset", "mnist", "--split", "test", "--data-dir", str(data_dir)]
        times = f"times:every:{20 / (SNAPSHOTS - 1):.12g}"
        keys = ["--preset", "poster", "--end-time", "20", "--snapshots", times, side]
        command([*data, *keys, "-o", str(path)], "run")
    return path


def command(words: list[str], verb: str) -> None:
    subprocess.run([sys.executable, "-m", "prdsim", verb, *words], check=True)


def measured(shown: Page, address: str) -> dict[str, Any]:
    """Open the page some times, and move its slider."""
    views = []
    for _ in range(VIEWS + 1):
        shown.open(address)
        views.append(shown.run("return performance.getEntriesByName('shown')[0].startTime;"))
    frames, seconds = shown.run(_MOVE, LAPS)
    return {
        "first_view_s": median(views[1:]) / 1e3,
        "first_views_s": [view / 1e3 for view in views],
        "frames": frames,
        "frames_per_s": frames / seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
