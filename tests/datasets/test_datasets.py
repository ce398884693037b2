"""The data sets known by name, and what load_dataset makes of any source."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from prdsim.datasets import Dataset, available_datasets, fingerprint, from_arrays, load_dataset
from prdsim.datasets.synthetic import random_fields, teach
from prdsim.errors import ConfigError, DataError

MNIST = Path(__file__).parents[2].parent / "shared" / "mnist"
needs_mnist = pytest.mark.skipif(
    not (MNIST / "t10k-images-idx3-ubyte.gz").is_file(), reason=f"no MNIST test part in {MNIST}"
)


def check_layout(dataset: Dataset, d_in: int, d_out: int, n: int) -> None:
    assert dataset.X.shape == (d_in, n)
    assert dataset.Y.shape == (d_out, n)
    for array in (dataset.X, dataset.Y):
        assert array.dtype == np.float64
        assert array.flags.c_contiguous
        assert np.isfinite(array).all()
    assert dataset.fingerprint == fingerprint(dataset.X, dataset.Y)


def norms(X: np.ndarray) -> np.ndarray:
    return np.linalg.norm(X, axis=0)


# ---------------------------------------------------------------------------------- synthetic


@pytest.mark.parametrize("correlation_length", [0.0, 3.0])
@pytest.mark.parametrize(("target", "d_out"), [("labels", 7), ("scalar", 1), ("inputs", 784)])
def test_synthetic_layout(target, d_out, correlation_length):
    dataset = load_dataset(
        "synthetic", samples=20, target=target, outputs=7, correlation_length=correlation_length
    )
    check_layout(dataset, 784, d_out, 20)
    assert dataset.grid == (28, 28)
    # One rounding of the norm and one of the quotient, each relative 2^-53, plus those of the sum.
    assert np.allclose(norms(dataset.X), 1.0, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5)])
def test_synthetic_of_one_sample_and_one_output(shape):
    outputs, n = shape
    check_layout(load_dataset("synthetic", samples=n, outputs=outputs), 784, outputs, n)


def test_synthetic_depends_on_seed_and_split_alone():
    first, again = (load_dataset("synthetic", samples=30, seed=4) for _ in range(2))
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != load_dataset("synthetic", samples=30, seed=5).fingerprint
    assert first.fingerprint != load_dataset("synthetic", samples=30, split="test").fingerprint


@pytest.mark.parametrize("correlation_length", [0.0, 3.0])
@pytest.mark.parametrize("target", ["labels", "scalar"])
def test_fewer_synthetic_samples_are_the_first_of_more(target, correlation_length):
    few, many = (
        load_dataset("synthetic", samples=n, target=target, correlation_length=correlation_length)
        for n in (5, 33)
    )
    assert np.array_equal(few.X, many.X[:, :5])
    assert np.array_equal(few.Y, many.Y[:, :5])


def test_synthetic_labels_use_all_classes():
    counts = load_dataset("synthetic", samples=2000).Y.sum(axis=1)
    assert counts.sum() == 2000
    assert counts.min() > 50  # a tenth would be 200; a teacher with a bias leaves classes empty


def test_teacher_has_unit_scale_whatever_the_scale_of_its_inputs():
    X = np.random.default_rng(0).standard_normal((500, 784))
    y = teach(X, 40, seed=1)
    # Over 40 outputs; their variances scatter by about sqrt(2 / 64) each, so by 0.03 together.
    assert abs(y.var() - 1.0) < 0.1
    assert np.allclose(teach(4.0 * X, 40, seed=1), y, rtol=0, atol=1e-12)


def test_train_and_test_parts_share_the_teacher():
    train, test = (
        load_dataset("synthetic", samples=200, split=split, target="scalar", normalize="none")
        for split in ("train", "test")
    )
    for part in (train, test):
        assert np.array_equal(part.Y, teach(np.ascontiguousarray(part.X.T), 1, seed=0))


def test_random_fields_have_the_stated_covariance():
    length, count = 2.0, 4000
    white = np.random.default_rng(2).standard_normal((count, 28, 28))
    fields = random_fields(white, length)
    for shift in [(0, 0), (0, 1), (2, 0), (3, 3), (0, 8)]:
        measured = np.mean(fields * np.roll(fields, shift, axis=(1, 2)))
        expected = np.exp(-(shift[0] ** 2 + shift[1] ** 2) / (2 * length**2))
        # 4000 fields with at least 28^2 / (4 pi l^2) = 15 independent cells each: standard error
        # below sqrt(2 / 60,000) = 0.006; five of them.
        assert abs(measured - expected) < 0.03


def test_random_fields_at_both_ends_of_the_correlation_length():
    white = np.random.default_rng(3).standard_normal((6, 28, 28))
    assert random_fields(white, 0.0) is white
    assert np.allclose(random_fields(white, 1e-9), white, rtol=0, atol=1e-12)
    flat = random_fields(white, 1e3)
    assert np.ptp(flat, axis=(1, 2)).max() < 1e-12
    assert np.isfinite(flat).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"correlation_length": -1.0}, "correlation_length"),
        ({"correlation_length": float("nan")}, "correlation_length"),
        ({"outputs": 0}, "outputs: must be at least 1, got 0"),
        ({"samples": 0}, "samples: must be at least 1, got 0"),
        ({"samples": None}, "need a number of samples"),
        ({"seed": -1}, "seed: must be at least 0, got -1"),
        ({"split": "valid"}, "split: must be one of train, test"),
        ({"normalize": "max"}, "normalize: must be one of unit, none"),
        ({"target": "label"}, "target: must be one of labels, scalar, inputs"),
    ],
)
def test_options_without_meaning(options, message):
    with pytest.raises(ConfigError, match=message):
        load_dataset("synthetic", **{"samples": 4, **options})


@pytest.mark.parametrize("option", ["samples", "outputs"])
def test_enormous_synthetic_data_are_refused_with_the_memory_they_need(option):
    with pytest.raises(ConfigError, match=r"needs .* GB of memory, but only .* available; lower"):
        load_dataset("synthetic", **{"samples": 100_000, option: 2**31 - 1})


# ------------------------------------------------------------------------------------- digits


def test_digits():
    dataset = load_dataset("digits", samples=None, normalize="none")
    check_layout(dataset, 64, 10, 1437)
    assert dataset.grid == (8, 8)
    assert dataset.X.min() == 0.0
    assert dataset.X.max() == 1.0
    assert np.array_equal(np.unique(dataset.Y), [0.0, 1.0])
    assert np.array_equal(dataset.Y.sum(axis=0), np.ones(1437))
    check_layout(load_dataset("digits", samples=None, split="test"), 64, 10, 360)


def test_digits_are_the_published_ones():
    parts = [
        load_dataset("digits", samples=None, split=s, normalize="none") for s in ("train", "test")
    ]
    counts = sum(part.Y.sum(axis=1) for part in parts)
    # Samples per class of the UCI test part (optdigits.names).
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_draws_are_seeded_nested_and_without_repetition():
    whole = load_dataset("digits", samples=None, seed=3)
    part = load_dataset("digits", samples=100, seed=3)
    assert np.array_equal(part.X, whole.X[:, :100])
    assert np.array_equal(part.Y, whole.Y[:, :100])
    assert not np.array_equal(part.X, load_dataset("digits", samples=100, seed=4).X)
    arrays = from_arrays(np.arange(50.0)[:, None], np.zeros(50), samples=None, normalize="none")
    assert not np.array_equal(arrays.X[0], np.arange(50))
    assert sorted(arrays.X[0]) == list(range(50))


def test_more_samples_than_there_are():
    with pytest.raises(DataError, match=r"test part has 360 samples, 361 were requested"):
        load_dataset("digits", samples=361, split="test")


# ------------------------------------------------------------------ targets and normalization


def test_scalar_targets_of_labels_span_minus_one_to_one():
    dataset = from_arrays(np.eye(4), np.array([0, 1, 2, 4]), target="scalar")
    assert sorted(dataset.Y[0]) == [-1.0, -0.5, 0.0, 1.0]
    assert dataset.Y.shape == (1, 4)


def test_a_subset_keeps_all_classes():
    labels = np.arange(50) % 10
    dataset = from_arrays(np.eye(50), labels, samples=3)
    assert dataset.Y.shape == (10, 3)
    drawn = dataset.X.argmax(axis=0)
    assert np.array_equal(dataset.Y.argmax(axis=0), labels[drawn])


def test_inputs_as_targets_are_the_normalized_inputs():
    dataset = from_arrays(3.0 * np.eye(4), target="inputs")
    assert np.array_equal(dataset.Y, dataset.X)
    assert not np.shares_memory(dataset.Y, dataset.X)
    assert np.array_equal(norms(dataset.X), np.ones(4))


def test_real_targets_are_used_as_they_are():
    X, Y = np.eye(3), np.array([[1.5, -2.0], [0.25, 1e-3], [7.0, 0.0]])
    dataset = from_arrays(X, Y, grid=(1, 3))
    order = dataset.X.argmax(axis=0)
    assert np.array_equal(dataset.Y, Y[order].T)
    assert dataset.grid == (1, 3)
    column = from_arrays(X, Y[:, 0], target="scalar")
    assert np.array_equal(column.Y, Y[order, :1].T)


def test_unit_normalization_spares_no_sample():
    X = np.diag([1e-140, 1.0, 1e140])
    assert np.array_equal(norms(from_arrays(X, np.zeros(3)).X), np.ones(3))
    assert np.array_equal(
        sorted(from_arrays(X, np.zeros(3), normalize="none").X.max(axis=0)), X.diagonal()
    )


def test_integers_of_any_kind_become_float64():
    for dtype in ("u1", ">i4", "f4", "?", "f2"):
        X = np.eye(3, dtype=dtype)
        check_layout(from_arrays(X, np.array([0, 1, 1], dtype="u1")), 3, 2, 3)


def test_fingerprint_is_that_of_the_content():
    X, Y = np.arange(6.0).reshape(2, 3), np.ones((1, 3))
    parts = [np.array(a.shape, "<i8").tobytes() + a.astype("<f8").tobytes() for a in (X, Y)]
    assert fingerprint(X, Y) == hashlib.sha256(b"".join(parts)).hexdigest()
    assert fingerprint(X, Y) == fingerprint(np.asfortranarray(X), Y)
    assert fingerprint(X, Y) != fingerprint(X.reshape(3, 2), Y)
    changed = X.copy()
    changed[1, 2] = np.nextafter(changed[1, 2], 6.0)
    assert fingerprint(X, Y) != fingerprint(changed, Y)


# ----------------------------------------------------------------------------------- bad arrays

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("X", "Y", "options", "message"),
    [
        ([[1.0, NAN], [1.0, 2.0]], [0, 1], {}, r"X of arrays holds nan at \[0, 1\]"),
        ([[1.0, 1.0], [INF, 2.0]], [0, 1], {}, r"X of arrays holds inf at \[1, 0\]"),
        ([[1.0], [2.0]], [0.0, -INF], {}, r"Y of arrays holds -inf at \[1\]"),
        (np.zeros((0, 3)), np.zeros(0), {}, r"X of arrays is empty: its shape is \(0 x 3\)"),
        (np.zeros((3, 0)), np.zeros(3), {}, r"X of arrays is empty: its shape is \(3 x 0\)"),
        (np.ones((3, 2)), np.zeros((3, 0)), {}, r"Y of arrays is empty"),
        ([1.0, 2.0], [0, 1], {}, r"X of arrays must be \(n, d_in\), one sample per row"),
        (np.ones((2, 2, 2)), [0, 1], {}, r"one sample per row, but is \(2 x 2 x 2\)"),
        ([[1.0], [2.0]], np.ones((2, 1, 1)), {}, r"Y of arrays must be \(n,\) or \(n, d_out\)"),
        (np.ones((784, 5)), np.ones((10, 5)), {}, r"\(784 x 5\) and Y is \(10 x 5\).*rows differ"),
        ([[1.0, 2.0], [1.0]], [0, 1], {}, "X of arrays is not an array: its rows differ"),
        ([["a"], ["b"]], [0, 1], {}, "X of arrays must hold real numbers"),
        ([[1j], [2.0]], [0, 1], {}, "X of arrays must hold real numbers.*complex128"),
        ([[1.0], [2.0]], ["cat", "dog"], {}, "Y of arrays must hold real numbers"),
        ([[1.0], [None]], [0, 1], {}, "X of arrays must hold real numbers.*object"),
        ([[1.0], [2.0]], [0, -3], {}, "label -3 of sample 1 of arrays is negative"),
        ([[1.0], [2.0]], [0, 10**15], {}, r"classes in Y of arrays: needs .* GB of memory"),
        ([[1.0], [2.0]], None, {}, 'has no Y: the only target without Y is "inputs"'),
        (
            [[1.0], [2.0]],
            np.ones((2, 3)),
            {"target": "scalar"},
            '"scalar" needs one output.* has 3',
        ),
        ([[1.0], [0.0]], [0, 1], {}, "sample 1 of arrays has norm 0 and cannot be scaled"),
        ([[1.0], [1e200]], [0, 1], {}, "sample 1 of arrays has norm inf and cannot be scaled"),
        ([[1.0], [2.0]], [0, 1], {"samples": 3}, "arrays has 2 samples, 3 were requested"),
        ([[1.0, 2.0]], [0], {"grid": (2, 2)}, "grid of arrays is 2 x 2, but X has 2 inputs"),
        ([[1.0, 2.0]], [0], {"grid": (2,)}, "grid of arrays must be two positive integers"),
        ([[1.0, 2.0]], [0], {"grid": (-1, -2)}, "grid of arrays must be two positive integers"),
    ],
)
def test_bad_arrays(X, Y, options, message):
    with pytest.raises(DataError, match=message) as caught:
        from_arrays(X, Y, **options)
    assert caught.value.exit_code == 3
    assert len(str(caught.value).splitlines()) <= 2


def test_extended_precision_is_refused_rather_than_cut_down():
    wide = np.ones((2, 2), dtype=np.longdouble)
    if wide.itemsize == 8:
        pytest.skip("long double is float64 here")
    with pytest.raises(DataError, match="up to 64 bits"):
        from_arrays(wide, [0, 1])


# ---------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", r'unknown data set "mnits": did you mean mnist\?'),
        ("Fashion_MNIST", r"did you mean fashion-mnist\?"),
        (
            "qqq",
            r"choose from synthetic, digits, mnist, fashion-mnist\. Your own files must end in",
        ),
    ],
)
def test_unknown_name(name, message):
    with pytest.raises(DataError, match=message):
        load_dataset(name)


@needs_mnist
def test_mnist():
    dataset = load_dataset("mnist", split="test", data_dir=MNIST, samples=500, normalize="none")
    check_layout(dataset, 784, 10, 500)
    assert dataset.grid == (28, 28)
    assert dataset.X.max() == 1.0
    assert "500 of 10000 samples" in dataset.description
    whole = load_dataset("mnist", split="test", data_dir=MNIST, samples=None)
    # The published numbers of the digits 0 to 9 among the 10,000 test images.
    assert whole.Y.sum(axis=1).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@needs_mnist
def test_mnist_is_not_taken_for_fashion_mnist():
    with pytest.raises(DataError, match="belongs to mnist, not to fashion-mnist"):
        load_dataset("fashion-mnist", split="test", data_dir=MNIST)


@needs_mnist
def test_available_datasets():
    synthetic, digits, mnist, fashion = available_datasets(MNIST)
    assert (synthetic.name, synthetic.location) == ("synthetic", "generated")
    assert (digits.location, digits.samples) == ("shipped", {"train": 1437, "test": 360})
    assert (mnist.name, mnist.location, mnist.samples["test"]) == ("mnist", str(MNIST), 10_000)
    assert fashion.name == "fashion-mnist"


def test_available_datasets_tells_what_to_do_about_the_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PRDSIM_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    mnist = available_datasets()[2]
    assert (mnist.name, mnist.location, mnist.samples) == ("mnist", None, {})
    assert mnist.hint == (
        "train and test not found: get it with `prdsim data fetch mnist`, or name the folder with "
        "--data-dir (data_dir)"
    )
