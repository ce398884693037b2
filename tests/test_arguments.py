"""What callers in Python give by mistake is refused in words of ours, before anything is done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_runs import KEYS, make_run

import prdsim
from prdsim import analysis, datasets, figures
from prdsim.analysis import neuron_table, recording_of
from prdsim.analysis.comparison import compare
from prdsim.convergence.assess import converge
from prdsim.datasets import fetch
from prdsim.errors import ConfigError, DataError, PrdsimError, UnreadableConfigError
from prdsim.figures import Request
from prdsim.trajectory import repair_trajectory

NAN = float("nan")
X, Y = np.ones((9, 4)), np.ones((9, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("arguments")
    make_run(folder / "a.h5", diffusion=True)
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch) -> None:
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def names(folder) -> Iterator[dict[str, Any]]:
    """What the texts below name."""
    dataset = prdsim.load_dataset("digits", samples=8)
    with prdsim.open_trajectory(folder / "a.h5") as t:
        yield {
            **vars(analysis),
            **vars(datasets),
            **vars(fetch),
            **vars(figures),
            "compare": compare,
            "converge": converge,
            "repair_trajectory": repair_trajectory,
            "prdsim": prdsim,
            "Simulation": prdsim.Simulation,
            "resume": prdsim.resume,
            "run": lambda *arguments, **keys: prdsim.run(*arguments, **{**KEYS, **keys}),
            "KEYS": KEYS,
            "X": X,
            "Y": Y,
            "NAN": NAN,
            "np": np,
            "t": t,
            "r": recording_of(t),
            "request": Request((recording_of(t),)),
            "initial": dict(t.initial),
            "D": (dataset.X, dataset.Y),
        }


REFUSED = {
    # -- run and resume
    "run(5)": "config: must be a RunConfig, a mapping .*, or the path of a TOML file, got 5",
    "run({'widht': 3})": "widht: no such configuration key; did you mean width?",
    "run({5: 3})": "5: no such configuration key",
    "run('none.toml')": "none.toml: no such configuration file",
    "run('')": "config: must be the path of a file, got ''",
    "run(data=X)": r"data: must be a pair \(X, Y\) .*, got an array of shape \(9, 4\)",
    "run(data=np.ones((2, 4)))": "data: must be a pair .*, got an array of shape",
    "run(data=(X,))": "data: must be a pair",
    "run(data={'X': X, 'Y': Y})": "data: must be a pair",
    "run(data=('abc', 5))": "X of arrays must hold real numbers",
    "run(initial=5)": "initial: must be a mapping of U, V, W, a to arrays, got 5",
    "run(initial={})": "initial: must be a mapping",
    "run(initial={**initial, 'U': X})": r"initial U: must be an array \(7, 64\) .*, got an array",
    "run(initial={**initial, 'a': 'x'})": r"initial a: must be an array \(5,\) of real numbers",
    "run(resolved={})": "resolved: must be a Resolved, such as that of a Result, got {}",
    "run(stored_chart=5)": "stored_chart: must be a mapping",
    "run(stored_chart={'Q': 5}, chart='range')": r"must be Q \(64, r\) and R \(r, 10\)",
    "run(progress='yes')": "progress: must be true, false, or a .*Progress, got 'yes'",
    "run(stop=5)": "stop: must be an event, or a function without arguments, got 5",
    "run(observe=5)": "observe: must be a function of an Observation, or a .*, got 5",
    "run(observe=[5])": "observe: must be a function",
    "run(output=5)": "output: must be text, got 5",
    "resume(5)": "path: must be the path of a file, got 5",
    "resume('a.h5', steps='40')": "steps: must be an integer, got '40'",
    "resume('a.h5', True)": "steps: must be an integer, got True",
    "resume('a.h5', end_time=NAN)": "end_time: must be a finite number, got nan",
    "resume('a.h5', lock=3)": "lock: must be true or false, got 3",
    "resume('a.h5', accept_new_bits='y')": "accept_new_bits: must be true or false",
    "resume('a.h5', progress=3)": "progress: must be",
    "resume('a.h5', stop=3)": "stop: must be",
    "Simulation(5, *D)": "config: must be",
    "Simulation(KEYS, [1], D[1])": r"X: must be an array \(d_in, n\) of real numbers, got \[1\]",
    "Simulation(KEYS, D[0], D[1][:, :3])": "both need one sample a column",
    "Simulation(KEYS, *D, backend='numpy')": "backend: must be an instance of a backend",
    "Simulation(KEYS, *D, restart=5)": "restart: must be a RestartPoint, got 5",
    "Simulation(KEYS, *D).advance('5')": "steps: must be an integer, got '5'",
    "Simulation(KEYS, *D).advance(-1)": "steps: must be at least 0, got -1",
    "Simulation(KEYS, *D).observe('a')": "time: must be a number, got 'a'",
    # -- files, data, backends
    "prdsim.open_trajectory(None)": "path: must be the path of a file, got None",
    r"prdsim.open_trajectory('a\0')": "path: must be the path of a file",
    "t.to_xarray('snaps')": "group: must be one of snapshots, scalars, got 'snaps'",
    "repair_trajectory(5, 'b.h5')": "path: must be the path of a file",
    "repair_trajectory('a.h5', None)": "output: must be the path of a file",
    "load_dataset(5)": "dataset: must be text, got 5",
    "load_dataset('digits', samples=5.5)": "samples: must be an integer, got 5.5",
    "load_dataset('digits', seed='x')": "seed: must be an integer, got 'x'",
    "load_dataset('digits', split=3)": "split: must be one of train, test, got 3",
    "load_dataset('mnist', data_dir=5)": "data_dir: must be text, got 5",
    "load_dataset('synthetic', outputs=2.5)": "outputs: must be an integer",
    "load_dataset('synthetic', correlation_length='a')": "correlation_length: must be a number",
    "from_arrays(X, Y, samples='a')": "samples: must be an integer",
    "from_arrays(X, Y, grid='ab')": "grid of arrays must hold real numbers",
    "available_datasets(5)": "data_dir: must be the path",
    "check_dataset('mnist', data_dir=5)": "data_dir: must be the path",
    "fetch_dataset(5)": 'no files to fetch or check for "5"',
    "prdsim.get_backend(5)": "backend 5: no such backend",
    "prdsim.get_backend('numpy', precision='half')": "precision: must be one of float64,",
    "prdsim.get_backend('numpy', threads='2')": "threads: must be an integer, got '2'",
    # -- analysis
    "history('a.h5')": "source: must be an open trajectory, a recording, or arrays .*, got 'a.h5'",
    "history(t, 5)": "groups: must be a sequence of names, got 5",
    "history(t, [5])": "5: no such group of measures",
    "history(t, 'distance')": "distance: no such group of measures; did you mean distances?",
    "history(t, 'rank', snapshots=['a'])": "snapshot: must be an integer, got 'a'",
    "history(t, 'rank', progress=True)": "progress: must be a function that wraps a loop",
    "recording_of(t.U, t.V, time=[0, 1, 2, 3, NAN])": "time holds NaN or infinity",
    "recording_of([[1], [1, 2]], Y)": "U is not an array: its rows differ in length",
    "recording_of(t.U, t.V, grid=5)": "grid: must be a sequence of rows and columns",
    "recording_of(t.U, t.V, config=5)": "config: must be",
    "r.at(99)": "there is no snapshot 99: they are 0 to 4",
    "r.nearest('a')": "time: must be a number",
    "neuron_table(t, 99)": "there is no snapshot 99",
    "subspace_table(5)": "source: must be",
    "forces_of(5)": "source: must be",
    "growth_of(5)": "source: must be",
    "scaling_like(5)": "source: must be",
    "by_label(5)": "recordings: must be a sequence of recordings of runs, got 5",
    "open_recording(5).__enter__()": "path: must be",
    "compare([t, 5])": "source: must be",
    "compare([t, t], time='x')": "time: must be a number",
    "compare([t, t], groups=5)": "groups: must be",
    "converge(5)": "path: must be",
    "converge('a.h5', accuracy='x')": "accuracy: must be a number, got 'x'",
    "converge('a.h5', time=NAN)": "time: must be a finite number, got nan",
    "converge('a.h5', say=5)": "say: must be a function of a line of text, got 5",
    # -- figures
    "draw('filters', t, count=0)": "count: must be at least 1, got 0",
    "draw('filters', t, count=2.5)": "count: must be an integer, got 2.5",
    "draw('filters', t, neurons=[])": "neurons: must be a sequence of indices.*, got",
    "draw('filters', t, neurons='all')": "neurons: must be one of displacement, random, got 'all'",
    "draw('filters', t, neurons=[1, 'a'])": "neurons: must be an integer, got 'a'",
    "draw('filters', t, neurons=[99])": "there is no neuron 99: they are 0 to 6",
    "draw('filters', t, times=[NAN])": "times: must be a finite number, got nan",
    "draw('filters', t, times=5.0)": "times: must be a sequence of numbers, not empty, got 5.0",
    "draw('filters', t, seed=-1)": "seed: must be at least 0, got -1",
    "draw('input', t, sample='a')": "sample: must be an integer",
    "draw('filters', t, embedding='umap')": "embedding: must be one of pca, tsne, got 'umap'",
    "draw('filters', t, log_time='no')": "log_time: must be true or false",
    "draw('filters', t, progress=5)": "progress: must be a function",
    "draw('filters', t, cuont=3)": "cuont: no such option of a figure; did you mean count?",
    "draw('filters', 'a.h5')": "sources: must be a sequence of open trajectories or recordings",
    "draw(5, t)": "5: no such figure; choose from distances, ",
    "write('filters', 5, 'x.png')": "request: must be a Request, got 5",
    "write('filters', request, 5)": "path: must be the path of a file",
    "write('filters', request, 'x.png', dpi=0)": "dpi: must be greater than 0, got 0",
}


@pytest.mark.parametrize("call", REFUSED)
def test_what_cannot_be_meant_is_refused(call, names, folder):
    with pytest.raises(PrdsimError, match=REFUSED[call]) as caught:
        eval(call, names)
    assert type(caught.value) in (ConfigError, UnreadableConfigError, DataError)
    assert str(caught.value).count("\n") == 0
    assert [path.name for path in folder.iterdir()] == ["a.h5"]


def test_what_can_be_meant_is_accepted(names, tmp_path):
    t = names["t"]
    (tmp_path / "run.toml").write_text("dataset = 'digits'\nsamples = 4\nwidth = 3\nsteps = 2\n")
    path = str(tmp_path / "b.h5")
    result = prdsim.run(str(tmp_path / "run.toml"), backend="numpy", output=path, width=np.int64(2))
    assert result.state["U"].shape == (2, 64)
    with pytest.raises(ConfigError, match=r"run\.toml"):
        prdsim.run(tmp_path / "run.toml", output=tmp_path / "run.toml", force=True)
    one, several = prdsim.history(t, "distances"), prdsim.history(t, ["distances"])
    assert one.values.keys() == several.values.keys()
    for neurons in ([1, 2], np.array([1, 2]), range(1, 3)):
        assert Request((recording_of(t),), neurons=neurons).chosen_neurons().tolist() == [1, 2]
    assert recording_of(t.U, t.V, config=KEYS).config == prdsim.RunConfig(**KEYS)


def test_objects_are_shown_briefly_and_notebooks_get_a_table(names, folder):
    t, recording = names["t"], names["r"]
    with prdsim.Simulation(KEYS, *names["D"]) as simulation:
        shown = [simulation]
    result = prdsim.run(KEYS, steps=1, output=folder / "c.h5")
    (folder / "c.h5").unlink()
    history = prdsim.history(t, "distances")
    dataset = prdsim.load_dataset("digits", samples=3)
    tables = [result, t, recording, dataset, result.config, history]
    shown += [*tables, recording.at(0), neuron_table(t), names["request"], compare([t, t])]
    for each in shown:
        assert 10 < len(repr(each)) < 400, type(each)
        assert "\n" not in repr(each)
        assert "array(" not in repr(each)
    for each in tables:
        assert each._repr_html_().startswith("<table>"), type(each)
        assert len(each._repr_html_()) < 3000
    assert "discretization error not assessed" in repr(result)
    assert "not assessed" in result._repr_html_()
    script = recording_of(t.U, t.V, name="<script>")
    assert "<script>" not in script._repr_html_()


@pytest.mark.parametrize("keys", [{}, {"preset": "poster", "seed": 3}, {"steps": 5}, KEYS])
def test_the_repr_of_a_configuration_makes_it_again(keys):
    config = prdsim.RunConfig(**keys)
    again = eval(repr(config), {"RunConfig": prdsim.RunConfig})
    assert again == config
    assert again.to_json() == config.to_json()
