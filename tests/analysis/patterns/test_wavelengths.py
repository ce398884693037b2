"""Where wavelengths come from: not from the dynamics, but from the data."""

from __future__ import annotations

import numpy as np
import pytest

import prdsim
from prdsim.analysis.patterns.order import radial_spectrum
from prdsim.analysis.stability.growth import growth_of
from prdsim.config import RunConfig
from prdsim.datasets import load_dataset
from prdsim.errors import ConfigError

RINGS = (4, 7, 14)
GRID = (28, 28)


def peak(filters: np.ndarray) -> int:
    """The ring with the largest mean power."""
    return 1 + int(np.argmax(radial_spectrum(filters, GRID)[1].mean(axis=0)))


@pytest.mark.parametrize(("k_u", "k_v"), [(1.0, 1.0), (0.1, 5.0), (0.0, 2.0), (3.0, 0.5)])
def test_coupled_morphogens_grow_fastest_where_all_are_alike(k_u, k_v):
    """The formula is the matrix's eigenvalue, and largest at L = 0."""
    sigma, rates = 0.8, []
    for L in np.linspace(0.0, 20.0, 101):
        matrix = [[-k_u * L, sigma], [sigma, -k_v * L]]
        rate = -(k_u + k_v) * L / 2 + np.hypot((k_u - k_v) * L / 2, sigma)
        assert np.linalg.eigvalsh(matrix)[-1] == pytest.approx(rate, rel=1e-12)
        rates.append(rate)
    assert np.argmax(rates) == 0
    slopes = np.diff(rates) / 0.2
    assert np.all(slopes <= -min(k_u, k_v) + 1e-12)


@pytest.mark.parametrize("ring", [1, *RINGS])
def test_inputs_of_a_ring_have_no_other_wavelength(ring):
    X = load_dataset("synthetic", samples=30, spectrum=f"ring:{ring}").X.T
    power = radial_spectrum(X, GRID)[1].mean(axis=0)
    assert np.argmax(power) == ring - 1
    assert power.sum() - power[ring - 1] < 1e-25 * power[ring - 1]
    other = load_dataset("synthetic", samples=10, spectrum=f"ring:{ring}").X.T
    assert np.array_equal(other, X[:10]), "fewer are the first of more"


@pytest.mark.parametrize("bad", ["ring:0", "ring:15", "ring:", "ring:1.5", "disc:3", ""])
def test_other_spectra_are_refused(bad):
    with pytest.raises(ConfigError, match="spectrum"):
        RunConfig(spectrum=bad)
    with pytest.raises(ConfigError, match="spectrum"):
        load_dataset("synthetic", samples=3, spectrum=bad)
    with pytest.raises(ConfigError, match="give one of the two"):
        RunConfig(spectrum="ring:3", correlation_length=2.0)


@pytest.mark.parametrize("diffusion", [False, True])
@pytest.mark.parametrize("ring", RINGS)
def test_patterns_have_the_wavelength_of_the_data(tmp_path, ring, diffusion):
    """The formed pattern, and what grows: the peak of ||C_j e_k|| over modes k."""
    keys = {"spectrum": f"ring:{ring}", "samples": 24, "width": 12, "critic_width": 12}
    keys |= {"end_time": 5.0, "diffusion": diffusion, "snapshots": "times:geometric:3"}
    result = prdsim.run(**keys, threads=1, output=str(tmp_path / "run.h5"))
    with prdsim.open_trajectory(result.path) as run:
        formed = run.U[-1] - run.U[0]
        growth = growth_of(run)
        parts = growth.couplings(run.U[-1], run.V[-1], run.W[-1], run.a[-1])
        C = np.concatenate([x for _, x in parts.matrices(parts.drive)]) @ growth.Q.T
    assert abs(peak(formed) - ring) <= 1
    assert abs(peak(C.reshape(-1, 784)) - ring) <= 1
