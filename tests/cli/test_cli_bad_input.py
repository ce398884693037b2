"""What bad input gets: one clear error, the right exit code, and nothing lost."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from support import names
from support_cli import TINY, assert_refused
from support_runs import damage

import prdsim
from prdsim.running.simulation import Simulation

USAGE, DATA, BACKEND, DIVERGED = 2, 3, 4, 5


# -- configuration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--smaples", 5], ["--smaples", "--samples"]),
        (["--set", "smaples=5"], ["smaples", "did you mean samples?"]),
        (["--set", "samples"], ["--set samples", "key=value"]),
        (["--set", "=5"], ["--set =5", "key=value"]),
        (["--samples", "many"], ["samples", "must be an integer", "many"]),
        (["--samples", "2.5"], ["samples", "must be an integer"]),
        (["--samples", ""], ["samples", "must be an integer"]),
        (["--set", "diffusion=yes"], ["diffusion", "true or false"]),
        (["--samples", 0], ["samples", "at least 1", "got 0"]),
        (["--width", -3], ["width", "at least 1", "-3"]),
        (["--step-size", "nan"], ["step_size", "finite"]),
        (["--step-size", -1], ["step_size", "greater than 0"]),
        (["--step-size", "fast"], ["step_size", "a positive number or auto"]),
        (["--end-time", "inf"], ["end_time", "finite"]),
        (["--width", 10**30], ["width", "at most"]),
        (["--correlation-length", "1e308"], ["correlation_length", "0 to 1e+06 pixels"]),
        (["--critic", "gan"], ["critic", "wgan-gp", "minimax"]),
        (["--trainable", "U,X"], ["trainable", "U,V,W,a"]),
        (["--snapshots", "often"], ["snapshots", "geometric:COUNT", "every:STEPS"]),
        (["--snapshots", "times:every:0"], ["snapshots", "times:every:TIME", "times:every:0.5"]),
        (["--scalars", "times:geometric:1"], ["scalars", "at least 2 rows"]),
        (["--scalars", "times:every:0.5"], ["scalars", "needs an end_time besides the steps"]),
        (["--scalars-every", 5], ["--scalars-every", "--scalars"]),
        (["--integrator", "rk4", "--penalty-points", "random"], ["penalty_points", "gd"]),
        (["--penalty-points", "gauss:0"], ["penalty_points", "gauss:K with K from 1 to 64"]),
        (["--critic-step-size", 0.1], ["critic_step_size", "gd", "bs23", "critic_rate"]),
        (["--backend", "nunba"], ["nunba", "did you mean numba?"]),
        (["--backend", "fortran"], ["fortran", "no such backend"]),
        (["--backend", "numpy:1"], ["numpy has no devices"]),
        (["--backend", "cupy:x"], ["the device must be a number"]),
        (["missing.toml"], ["missing.toml", "no such configuration file"]),
        (["--threads", 0], ["threads", "at least 1"]),
        (["--dataset", "mnits"], ["mnits", "mnist"]),
        (["--trainable", "W,a", "--diffusion"], ["step_size auto", "U and V frozen"]),
    ],
    ids=lambda value: "_".join(map(str, value)).replace("/", "") if len(value) < 6 else None,
)
def test_a_bad_setting_is_refused(run, tmp_path, arguments, words):
    answer = run("run", *TINY, *arguments)
    code = DATA if {"mnits", "missing.toml"} & set(arguments) else USAGE
    assert_refused(answer, code, *words)
    assert not list(tmp_path.glob("*.h5"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("smaples = 5\n", ["smaples", "did you mean samples?", "c.toml"]),
        ('samples = "5"\n', ["samples", "must be an integer", "c.toml"]),
        ("samples = \n", ["c.toml", "not valid TOML"]),
        ("[network]\nwidth = 3\n", ["c.toml", "[network]", "flat"]),
        ("samples = 5\nsamples = 6\n", ["c.toml", "not valid TOML"]),
        ("a." * 25_000 + "a = 1", ["c.toml", "not valid TOML: line 1 has more than 100 dots"]),
        ("x = " + "[" * 90_000, ["c.toml", "not valid TOML: it is nested too deeply"]),
        ("seed = " + "9" * 5000, ["c.toml", "not valid TOML: it holds a number that no key can"]),
    ],
)
def test_a_bad_configuration_file_is_refused(run, tmp_path, text, words):
    (tmp_path / "c.toml").write_text(text)
    assert_refused(run("run", "c.toml"), USAGE, *words)


def test_a_configuration_file_may_not_be_readable(run, tmp_path):
    (tmp_path / "c.toml").mkdir()
    assert_refused(run("run", "c.toml"), DATA, "c.toml", "cannot be read")
    (tmp_path / "d.toml").write_bytes(b"\xff\xfe\x00")
    assert_refused(run("run", "d.toml"), USAGE, "d.toml", "not valid TOML")


LONG = "--steps 2000000000 --scalars every:1000000"
WARM_UP = "--integrator gd --diffusion --critic-warmup"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("--width 1000000000", USAGE, ["GB of memory", "are free", "--width"]),
        ("--samples 1000000000", USAGE, ["1000000000", "GB"]),
        ("--steps 2000000000 --scalars every:1", USAGE, ["2,000,000,000 rows"]),
        (f"{LONG} --snapshots every:1", USAGE, ["2,000,000,000 rows"]),
        (f"{LONG} --snapshots geometric:99999999", USAGE, ["99,999,999 rows"]),
        ("--end-time 50 --scalars times:every:1e-9", USAGE, ["1e-09", "50,000,000,000 rows"]),
        ("--snapshots geometric:1000000000000000", USAGE, ["1,000,000,000,000,000 rows"]),
        ("--end-time 1 --scalars times:every:1e-300", USAGE, ["1e-300", "rows are planned"]),
        ("--end-time 50 --snapshots times:geometric:99999999", USAGE, ["99,999,997 rows"]),
        ("--end-time 1 --scalars times:every:5e-324", USAGE, ["inf rows are planned"]),
        ("--end-time 1 --snapshots times:geometric:1000000000000000", USAGE, ["999,999,998 rows"]),
        ("--threads 1000000000", USAGE, ["threads: must be at most 4096"]),
        ("--critic-steps 1000000000", USAGE, ["critic_steps: must be at most 10000"]),
        (f"{WARM_UP} 1e300", USAGE, ["critic_warmup 1e+300", "updates", "lower it"]),
        ("--critic-width 2000000000", USAGE, ["lower --critic-width (now 2000000000)", "GB"]),
        ("--init-scale 1e308", USAGE, ["U at t = 0", "not finite in float64", "--init-scale"]),
        ("--init-scale 1e39 --precision float32", USAGE, ["not finite in float32"]),
        ("--steps 4000000 --snapshots every:1", DATA, ["a.h5", "GB", "free"]),
        ("--end-time 50 --snapshots times:every:1e-5", DATA, ["a.h5", "GB", "free"]),
    ],
)
def test_enormous_sizes_are_refused_with_the_number(run, tmp_path, arguments, code, words):
    """At once: nobody could wait for what is asked."""
    answer = run("run", *TINY, *arguments.split(), "-o", "a.h5")
    assert answer.code == code, answer.err
    for word in words:
        assert word in answer.err, answer.err
    assert not list(tmp_path.iterdir())


# -- backends --------------------------------------------------------------------------------------


def test_cupy_without_a_device_says_what_is_missing(run):
    answer = run("run", *TINY, "--backend", "cupy")
    assert_refused(answer, BACKEND, "backend cupy")
    assert len(answer.err.splitlines()) == 2


def test_tf32_is_refused_on_the_cpu(run):
    assert_refused(run("run", *TINY, "--precision", "tf32"), BACKEND, "tf32", "cupy")


# -- data ------------------------------------------------------------------------------------------


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """A folder with a made-up MNIST of 12 images."""
    folder = tmp_path / "data"
    folder.mkdir()
    images = np.arange(12 * 28 * 28).reshape(12, 28, 28).astype(np.uint8)
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(images))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(12, dtype=np.uint8) % 10))
    return folder


def run_mnist(run, folder):
    return run("run", *TINY, "--dataset", "mnist", "--split", "test", "--data-dir", folder)


def test_a_made_up_mnist_runs(run, mnist):
    assert run_mnist(run, mnist).code == 0


def test_missing_data_are_refused(run, tmp_path):
    assert_refused(run_mnist(run, tmp_path / "nowhere"), DATA, "no folder", "nowhere", "--data-dir")
    (tmp_path / "empty").mkdir()
    assert_refused(run_mnist(run, tmp_path / "empty"), DATA, "mnist", "t10k-images", "--data-dir")


def broken_gzip(content: bytes) -> bytes:
    packed = bytearray(gzip.compress(content))
    packed[len(packed) // 2] ^= 0xFF
    return bytes(packed)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content[:-100], ["is truncated"]),
        (lambda _: b"<html>not found</html>" * 100, ["IDX"]),
        (broken_gzip, ["damaged gzip file"]),
    ],
    ids=["truncated", "another format", "broken gzip"],
)
def test_damaged_data_are_refused(run, mnist, change, words):
    path = mnist / "t10k-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    assert_refused(run_mnist(run, mnist), DATA, path.name, *words)


def test_images_and_labels_of_different_length_are_refused(run, mnist):
    labels = np.zeros(11, dtype=np.uint8)
    (mnist / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    assert_refused(run_mnist(run, mnist), DATA, "12", "11")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda X: X.__setitem__((3, 2), np.nan), ["3"]),
        (lambda X: X.__setitem__((4, 1), np.inf), ["4"]),
        (lambda X: X.__setitem__(5, 0.0), ["5", "norm"]),
    ],
    ids=["nan", "inf", "zero"],
)
def test_a_users_bad_numbers_are_refused(run, tmp_path, change, words):
    X = np.random.default_rng(0).standard_normal((9, 4))
    change(X)
    np.savez(tmp_path / "mine.npz", X=X, y=np.arange(9) % 2)
    answer = run("run", *TINY, "--samples", 9, "--dataset", "mine.npz")
    assert_refused(answer, DATA, "mine.npz", *words)


def test_a_users_good_numbers_run(run, tmp_path):
    X = np.random.default_rng(0).standard_normal((9, 4))
    np.savez(tmp_path / "mine.npz", X=X, y=np.arange(9) % 2)
    assert run("run", *TINY, "--dataset", "mine.npz").code == 0


def test_more_samples_than_there_are_are_refused(run):
    assert_refused(run("run", "--dataset", "digits", "--samples", 5000), DATA, "1437", "5000")


# -- output ----------------------------------------------------------------------------------------


def test_an_output_that_exists_is_kept(run, tmp_path):
    (tmp_path / "a.h5").write_text("precious")
    assert_refused(run("run", *TINY, "-o", "a.h5"), USAGE, "a.h5 exists", "--force")
    assert (tmp_path / "a.h5").read_text() == "precious"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("nowhere/a.h5", ["nowhere", "does not exist"]),
        ("file/a.h5", ["file"]),
        ("/proc/a.h5", ["/proc"]),
        ("n" * 300, ["File name too long"]),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
def test_an_output_that_cannot_be_made_is_refused(run, tmp_path, output, words):
    (tmp_path / "file").write_text("")
    assert_refused(run("run", *TINY, "-o", output), DATA, *words)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("force", [[], ["--force"]], ids=["", "force"])
def test_an_output_that_is_no_regular_file_is_never_replaced(run, tmp_path, force):
    """A pipe here; as root, /dev/null and disks would be no safer."""
    os.mkfifo(tmp_path / "a.h5")
    assert_refused(run("run", *TINY, "-o", "a.h5", *force), DATA, "a.h5 is a device or a pipe")
    (tmp_path / "link.h5").symlink_to("a.h5")
    assert_refused(
        run("run", *TINY, "-o", "link.h5", *force), DATA, "link.h5 is a device or a pipe"
    )
    assert (tmp_path / "a.h5").is_fifo()
    assert len(list(tmp_path.iterdir())) == 2


# -- trajectories ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "a.h5"
    prdsim.run(samples=8, width=6, steps=20, backend="numpy", output=str(path))
    return path


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copy(finished, tmp_path / "a.h5"))


@pytest.mark.parametrize("command", ["inspect", "resume"])
def test_what_is_no_trajectory_is_refused(run, tmp_path, command):
    assert_refused(run(command, "missing.h5"), DATA, "missing.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    assert_refused(run(command, "text.h5"), DATA, "text.h5")
    (tmp_path / "empty.h5").write_bytes(b"")
    assert_refused(run(command, "empty.h5"), DATA, "empty.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["U"] = np.zeros(3)
    assert_refused(run(command, "foreign.h5"), DATA, "foreign.h5", "not a prdsim trajectory")
    assert_refused(run(command, "."), DATA)
    os.mkfifo(tmp_path / "pipe.h5")
    assert_refused(run(command, "pipe.h5"), DATA, "pipe.h5 is a device or a pipe")


@pytest.mark.parametrize("command", ["inspect", "resume"])
def test_a_truncated_or_newer_trajectory_is_refused(run, copy, command):
    with h5py.File(copy, "r+") as file:
        file.attrs["format_version"] = 99
    assert_refused(run(command, copy), DATA, "99", "prdsim")
    os.truncate(copy, copy.stat().st_size - 1)
    assert_refused(run(command, copy), DATA, "a.h5")


def test_a_damaged_trajectory_is_found(run, copy):
    damage(copy, "U")
    answer = run("inspect", "--check", copy)
    assert answer.code == DATA
    assert "damaged" in answer.out
    assert "snapshot" in answer.out


def test_a_finished_run_is_not_resumed_without_more_steps(run, copy):
    assert_refused(run("resume", copy), USAGE, "finished at step 20", "--steps")
    assert_refused(run("resume", copy, "--steps", 20), USAGE, "finished at step 20")
    assert_refused(run("resume", copy, "--steps", 5), USAGE, "planned for 20")
    assert_refused(run("resume", copy, "--steps", 0), USAGE, "--steps")
    assert_refused(run("resume", copy, "--end-time", 9), USAGE, "planned by steps; give --steps")


def test_a_finished_run_is_not_resumed_without_a_later_time(run):
    assert run("run", *TINY[:4], "--backend", "numpy", "--end-time", 2, "-o", "a.h5").code == 0
    assert_refused(run("resume", "a.h5"), USAGE, "finished at time 2", "--end-time T with T > 2 c")
    assert_refused(run("resume", "a.h5", "--end-time", 2), USAGE, "finished at time 2")
    assert_refused(
        run("resume", "a.h5", "--end-time", 1.5), USAGE, "planned for 2.0; give a later end"
    )
    assert_refused(run("resume", "a.h5", "--end-time", 0), USAGE, "--end-time")
    assert_refused(run("resume", "a.h5", "--steps", 10**6), USAGE, "finished at time 2")
    assert run("resume", "a.h5", "--end-time", 3).code == 0


@pytest.mark.parametrize("change", ["seed", "empty", "missing"])
def test_a_changed_run_is_neither_resumed_nor_shown(run, copy, change):
    with h5py.File(copy, "r+") as file:
        config = json.loads(file.attrs["config"])
        config = {**config, "seed": 1} if change == "seed" else {}
        file.attrs.modify("config", np.bytes_(json.dumps(config, sort_keys=True).encode()))
        if change == "missing":
            del file.attrs["config"]
    assert_refused(run("resume", copy, "--steps", 30), DATA, "a.h5")
    assert_refused(run("inspect", copy), DATA, "a.h5", "does not match its checksum")


# -- divergence ------------------------------------------------------------------------------------


def first_bad_step(config: prdsim.RunConfig) -> int:
    dataset = prdsim.load_dataset("synthetic", samples=config.samples, seed=config.seed)
    with Simulation(config, dataset.X, dataset.Y) as simulation:
        while simulation.non_finite_array() is None:
            simulation.advance()
        return simulation.step


@pytest.mark.parametrize("diffusion", [False, True])
def test_a_diverging_run_names_the_step_and_keeps_what_was_good(run, tmp_path, diffusion):
    keys = {"samples": 8, "width": 6, "integrator": "gd", "steps": 500, "step_size": 60.0}
    keys |= {"diffusion": diffusion, "critic_step_size": 0.01}
    step = first_bad_step(prdsim.RunConfig(backend="numpy", **keys))
    assert step > 1
    flag = "--diffusion" if diffusion else "--no-diffusion"
    settings = ("--integrator", "gd", "--steps", 500, "--step-size", 60, flag)
    settings += ("--critic-step-size", 0.01)
    answer = run("run", *TINY, *settings, "-o", "a.h5")
    *notes, announced, first, second = [x for x in answer.err.splitlines() if "  step " not in x]
    without = "note: critic_step_size has no effect on U and V without diffusion"
    assert notes == ([] if diffusion else [without])
    words = "with diffusion (D = 1, wgan-gp)" if diffusion else "without diffusion"
    assert announced.startswith(f"synthetic, {words}; 6 neurons, 8 samples")
    assert answer.code == DIVERGED
    assert f"is not finite from step {step} on (to blame: step_size)" in first
    assert second == "a.h5 holds the run up to there; try --step-size 0.13"
    with prdsim.open_trajectory(tmp_path / "a.h5") as trajectory:
        assert trajectory.status == "diverged"
        assert trajectory.stop_step == step
        assert trajectory.step[-1] < step
        assert np.isfinite(trajectory.U[-1]).all()
        assert trajectory.check() == []
    assert f"at step {step} of 500" in run("inspect", "a.h5").out
    assert_refused(run("resume", "a.h5"), DIVERGED, "diverged at step", "--step-size")


def test_a_loss_that_overflows_is_a_divergence(run, tmp_path):
    arguments = ["--dataset", "digits", "--integrator", "gd", "--step-size", 10, "--diffusion"]
    answer = run("run", *TINY, *arguments, "--scalars", "every:1", "-o", "a.h5")
    assert (answer.code, answer.out) == (DIVERGED, "")
    *_, first, second = answer.err.splitlines()
    reason = "the supervised loss L_sup is not finite at step 1 (to blame: step_size)"
    assert first == f"prdsim: diverged: {reason}"
    assert second == "a.h5 holds the run up to there; try --step-size 0.052"
    assert names(tmp_path) == ["a.h5"]
    content = (tmp_path / "a.h5").read_bytes()
    shown = run("inspect", "a.h5", "--check")
    assert shown.code == 0
    assert f"diverged ({reason}) at step 1" in shown.out
    assert "all checksums hold" in shown.out
    assert run("resume", "a.h5").code == DIVERGED
    assert (tmp_path / "a.h5").read_bytes() == content


def test_a_diverging_critic_is_told_from_a_diverging_generator(run):
    settings = ("--integrator", "gd", "--diffusion", "--critic-step-size", 1e6)
    answer = run("run", *TINY, *settings, "-o", "a.h5")
    assert answer.code == DIVERGED
    assert answer.err.endswith("; try --critic-step-size 0.026\n")  # beta = 1


# -- the unexpected --------------------------------------------------------------------------------


def test_an_internal_error_is_reported_without_a_traceback(run, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a slip")

    monkeypatch.setattr("prdsim.running.runner.run", broken)
    answer = run("run", *TINY)
    assert answer.code == 1
    assert "internal error: ZeroDivisionError: a slip" in answer.err


def test_unknown_commands_are_usage_errors(run):
    answer = run("rum")
    assert answer.code == USAGE
    assert "No such command" in answer.err
    assert sys.argv == ["prdsim", "rum"]
