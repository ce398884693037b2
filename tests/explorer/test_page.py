"""The page in text: what it says of runs is what their files say, and texts stay texts."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_runs import (
    At,
    arrays_of,
    keys_of_run,
    make_diverged,
    make_interrupted,
    make_killed,
    make_pair,
    make_run,
    opened,
)

import prdsim
from prdsim.analysis import history, recording_of
from prdsim.analysis.comparison import compare
from prdsim.convergence.assess import converge
from prdsim.errors import ConfigError, DataError
from prdsim.explorer import content_of, html_page, read_attached

HOSTILE = "<script>alert(1)</script>"


@dataclass
class Parsed(html.parser.HTMLParser):
    """The elements of a page: names, attributes, and the texts of scripts and of cells by table."""

    text: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    words: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._inside: list[str] = []
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(tag)
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if self._inside and tag == self._inside[-1]:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data
        else:
            self.words += data


def page_of(*paths: Path, **options: Any) -> str:
    with opened(paths) as runs:
        return html_page(content_of(runs, **options))


def data_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1]  # type: ignore[index]
    )
    return found


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> list[Path]:
    return make_pair(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def text(pair) -> str:
    return page_of(*pair)


# -- what it says ----------------------------------------------------------------------------------


def test_the_table_holds_the_numbers_of_a_comparison(pair, text):
    with opened(pair) as runs:
        expected = compare(runs).table().columns
    found = re.findall(r'<tr><th scope="row" title="(\w+)">.*?((?:<td.*?</td>)+)</tr>', text)
    assert [name for name, _ in found] == list(expected["measure"])
    for side, column in enumerate(("without diffusion: mean", "with diffusion: mean")):
        cells = [re.findall(r'data-value="([^"]*)"', row) for _, row in found]
        told = [float(row[side]) if row else np.nan for row in cells]
        wanted = np.array(expected[column], dtype=float)
        both = np.isfinite(wanted) & np.array([len(row) == 2 for row in cells])
        assert both.sum() > 50
        assert np.array(told)[both].tolist() == wanted[both].tolist()


def test_curves_are_the_history_and_the_scalars(pair, text):
    data = data_of(text)
    with opened(pair) as runs:
        for run, shown in zip(runs, data["runs"], strict=True):
            assert shown["name"] == run.name
            np.testing.assert_allclose(shown["time"], run.time, rtol=1e-4)
            for name, values in history(run).values.items():
                found = np.array(shown["curves"][name], dtype=float)
                np.testing.assert_allclose(found, values, rtol=1e-4)
            assert run.scalars is not None
            losses = shown["scalars"]["loss_sup"]
            np.testing.assert_allclose(losses, run.scalars["loss_sup"], rtol=1e-4)
            norms = np.linalg.norm(run.U[-1] - run.U[0], axis=1)
            np.testing.assert_allclose(shown["distances"]["U"][-1], norms, rtol=1e-4)
    names = [name for names in data["groups"].values() for name in names]
    assert len(names) == len(set(names))
    assert {"distance_U_mean", "loss_sup", "alignment_U", "morans_i_change"} <= set(names)
    assert set(names) <= set(data["names"])


def test_no_more_snapshots_neurons_or_rows_than_asked_for(pair):
    data = data_of(page_of(*pair, count=3, snapshots=2))
    assert len(data["neurons"]) == 3
    assert all(len(run["time"]) == 2 for run in data["runs"])
    assert [run["time"][-1] for run in data["runs"]] == [1.0, 1.0]


def test_the_discretization_error_stands_beside_the_numbers(tmp_path):
    keys = {"integrator": "heun", "step_size": 0.05, "steps": 4, "diffusion": True}
    path = make_run(tmp_path / "run.h5", **keys)
    assert "discretization: not assessed" in page_of(path)
    report = converge(path).report
    assert report is not None
    text = page_of(path)
    assert f"discretization: {report.words()}" in Parsed(text).words.replace("\n", " ")
    errors = data_of(text)["errors"]
    assert {"distance_U_mean", "loss_sup"} <= set(errors)
    assert errors["distance_U_mean"].startswith(
        f"{100 * report.by_name['distance_U_mean'].error:.1g}"[:1]
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_interrupted, "interrupted at step 10 of 20"),
        (make_killed, "killed: shown up to step"),
        (make_diverged, "diverged at step"),
    ],
)
def test_runs_that_did_not_finish_say_so(make, words, tmp_path):
    text = page_of(make(tmp_path / "run.h5"))
    assert re.search(rf"run is not finished: {words}", text)
    assert ("start a new run with --" in text) == (make is make_diverged)


def test_a_run_that_is_being_written_is_shown_as_far_as_it_is(tmp_path):
    path, pages = tmp_path / "run.h5", []
    prdsim.run(
        **keys_of_run(diffusion=True),
        output=str(path),
        progress=At(10, lambda: pages.append(page_of(path))),
    )
    assert "run is not finished: being written: shown up to step" in pages[0]
    assert 2 <= len(data_of(pages[0])["runs"][0]["time"]) < 5


def test_runs_of_arrays_and_of_inputs_without_a_grid_have_pages(pair):
    arrays = {**arrays_of(pair[0]), "grid": None}
    data = data_of(html_page(content_of([recording_of(**arrays)])))
    assert data["grid"] == [1, 64]
    assert data["tiles"] == [7, 1]
    assert "spectra" not in data["runs"][0]


def test_seeds_are_curves_and_the_first_of_each_label_has_pictures(tmp_path):
    paths = make_pair(tmp_path, seeds=2, steps=5)
    text = page_of(*paths)
    data = data_of(text)
    assert [run["pictured"] for run in data["runs"]] == [True, False, True, False]
    assert text.count('class="frames"') == 2
    assert "2 runs without diffusion" in text


def test_runs_that_cannot_be_beside_each_other(pair, tmp_path):
    with pytest.raises(ConfigError, match="7 and 9 neurons have no filters in common"):
        page_of(pair[0], make_run(tmp_path / "wide.h5", width=9))
    with pytest.raises(ConfigError, match="name at least one run"):
        content_of([])
    with pytest.raises(ConfigError, match="snapshots: must be"):
        page_of(*pair, snapshots=1)


def test_more_than_a_browser_holds_is_refused(pair, monkeypatch):
    monkeypatch.setattr("prdsim.explorer.content._MOST_NUMBERS", 1000)
    with pytest.raises(ConfigError, match="lower --count or --snapshots"):
        page_of(*pair)


# -- tables of other commands ----------------------------------------------------------------------


def test_tables_of_files_stand_on_the_page(pair, tmp_path):
    file = tmp_path / "growth.json"
    rows = [{"time": 0.5 * k, "sigma": 1.0 / (k + 1), "words": "up", "count": k} for k in range(3)]
    rows[1]["sigma"] = None
    file.write_text(json.dumps({"run": "with", "snapshots": rows, "snapshots_notes": ["a note"]}))
    text = page_of(*pair, attached=read_attached(file))
    words = Parsed(text).words
    for expected in ("snapshots (growth.json)", "a note", "0.33333", "up"):
        assert expected in words
    curves = re.search(r'id="attached">(.*?)</script>', text)
    assert curves is not None
    assert json.loads(curves[1]) == [{"time": [0.0, 0.5, 1.0], "sigma": [1.0, None, 1.0 / 3]}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[1, 2]", "holds no table"),
        ('{"rows": [1, 2]}', "holds no table"),
        ('{"rows": [{}]}', "holds no table"),
        ('{"rows": [{"a": 1}, {"b": 1}]}', "holds no table"),
        ('{"rows": [{"a": NaN}]}', "NaN is not JSON"),
        (json.dumps({"rows": [{"a": 1}] * 1001}), "more than 1000 rows"),
    ],
)
def test_files_without_tables_are_explained(content, message, tmp_path):
    file = tmp_path / "table.json"
    file.write_text(content)
    with pytest.raises(DataError, match=message):
        read_attached(file)


@pytest.mark.parametrize(
    ("times", "values", "drawn"),
    [
        ("[0, 1, 2]", "[0.5, 0.5, null]", True),
        ("[0, 1, 2]", "[0.5, 1e999, 0.5]", True),
        ("[0, 2, 1]", "[0.5, 0.5, 0.5]", False),
        ("[0, null, 1]", "[0.5, 0.5, 0.5]", False),
        ("[0, 1, 2]", '[0.5, "x", 0.5]', False),
        ("[0, 1, 2]", "[true, false, true]", False),
    ],
)
def test_curves_of_files_need_times_that_ascend_and_numbers(times, values, drawn, pair, tmp_path):
    pairs = zip(_items(times), _items(values), strict=True)
    rows = [f'{{"time": {time}, "value": {value}}}' for time, value in pairs]
    file = tmp_path / "table.json"
    file.write_text(f'{{"rows": [{", ".join(rows)}]}}')
    text = page_of(pair[0], attached=read_attached(file))
    assert ("no curves are drawn" in text) is not drawn
    assert ('"value": [' in text) is drawn


def _items(text: str) -> list[str]:
    return text.strip("[]").split(", ")


def test_names_that_are_no_text_can_be_shown(pair, tmp_path):
    copy = Path(os.fsdecode(bytes(tmp_path) + b"/bad\xff.h5"))
    shutil.copy(pair[0], copy)
    file = tmp_path / "table.json"
    file.write_text('{"rows": [{"a": "\\ud800"}]}')
    text = page_of(copy, attached=read_attached(file))
    assert "bad\\udcff" in text
    text.encode()


def test_missing_files_and_folders_of_tables_are_explained(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_attached(tmp_path / "none.json")
    with pytest.raises(DataError, match="is a folder"):
        read_attached(tmp_path)


# -- safety ----------------------------------------------------------------------------------------


def test_nothing_is_requested_and_only_our_programs_run(text):
    parsed = Parsed(text)
    for tag, attributes in parsed.tags:
        assert not any(name.startswith("on") for name in attributes), attributes
        assert "style" not in attributes
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    policy = next(a["content"] for t, a in parsed.tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    kinds = [
        attributes.get("type") for tag, attributes in parsed.tags if tag in ("script", "style")
    ]
    for kind, script in zip(kinds, parsed.scripts, strict=True):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert (f"'sha256-{digest}'" in policy) == (kind is None)


def test_names_with_script_in_them_stay_text(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    data = folder / f"{HOSTILE.replace('/', '')}.npz"
    rng = np.random.default_rng(0)
    np.savez(data, X=rng.random((12, 4)), y=np.arange(12) % 3, grid=(2, 2))
    run = folder / "<img src=x onerror=alert(2)>.h5"
    make_run(run, dataset=str(data), data_dir=None)
    file = tmp_path / f"{HOSTILE.replace('/', '')}.json"
    rows = [{"time": 1.0, f"{HOSTILE}": 2.0, "x": HOSTILE}]
    file.write_text(json.dumps({HOSTILE: rows, f"{HOSTILE}_notes": [HOSTILE], "run": HOSTILE}))
    plain, hostile = (
        page_of(make_run(tmp_path / "b.h5")),
        page_of(run, attached=read_attached(file)),
    )
    assert HOSTILE in Parsed(hostile).words
    assert "<img src=x onerror=alert(2)>" in Parsed(hostile).words

    def elements(text: str, *names: str) -> list[str]:
        return [tag for tag, _ in Parsed(text).tags if tag in names]

    assert len(elements(hostile, "script")) == len(elements(plain, "script"))
    assert len(elements(hostile, "img")) == 1
    assert data_of(hostile)["runs"][0]["name"] == "<img src=x onerror=alert(2)>"
