"""Functionals against the width, their limit and the rate of approach; the kernel limit beside.

    python benchmarks/infinite_width.py -o width.json      # about 10 minutes on two cores

Digits, 32 samples, init_scale 1, to t = 10, without diffusion and with it (critic as wide), m from
64 to 16,384, seeds, two tolerances. Without diffusion the prediction of infinitely wide networks is
known: for unit inputs at angles theta, from the Z(0) of the draw,

    dZ/dt = (Y - Z) Theta,   2 pi d_out Theta = 2 (pi - theta) cos theta + sin theta

and u_j moves by s sum_p (v_j . int E_p dt) 1{u_j(0) . x_p >= 0} x_p.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from pages import table
from scipy.linalg import eigh
from scipy.optimize import curve_fit

from prdsim.config import RunConfig
from prdsim.datasets.configured import load_data
from prdsim.running.simulation import Simulation

WIDTHS = (64, 256, 1024, 4096, 16384)
TOLERANCES = (1e-4, 1e-5)
END = 10.0
FUNCTIONALS = ("loss_sup", "moved", "flipped")
"""L_sup; sqrt(m) times the mean distance of u_j; sqrt(m) times the share of gates flipped."""


def config_of(m: int, seed: int, rtol: float, *, diffusion: bool) -> RunConfig:
    return RunConfig(
        dataset="digits", samples=32, width=m, critic_width=m, seed=seed, rtol=rtol, end_time=END,
        diffusion=diffusion, init_scale=1.0,
    )  # fmt: skip


def kernel(X: np.ndarray, d_out: int) -> np.ndarray:
    """Theta (n, n) of unit inputs X (d_in, n)."""
    cosines = np.clip(X.T @ X, -1.0, 1.0)
    theta = np.arccos(cosines)
    return (2.0 * cosines * (np.pi - theta) + np.sin(theta)) / (2.0 * np.pi * d_out)


def in_the_limit(X: np.ndarray, E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E(t) and its time integral at the end, from E(0) (d_out, n)."""
    rates, modes = eigh(kernel(X, len(E)))
    decay = np.exp(-rates * END)
    return (E @ modes * decay) @ modes.T, (E @ modes * ((1.0 - decay) / rates)) @ modes.T


def limit_of(config: RunConfig, X: np.ndarray, Y: np.ndarray) -> dict[str, float]:
    """The functionals of an infinitely wide network with this draw's Z(0), U(0) and V(0)."""
    with Simulation(config, X, Y) as simulation:
        U, V = (simulation.initial[name].astype(float) for name in "UV")
    s, A = 1.0 / np.sqrt(V.size), U @ X
    end, integral = in_the_limit(X, Y - s * V @ np.maximum(A, 0.0))
    change = s * ((V.T @ integral) * (A >= 0.0)) @ X.T
    return {
        "loss_sup": float(np.sum(end**2)) / 2.0,
        "moved": float(np.linalg.norm(change, axis=1).mean() * np.sqrt(len(U))),
        "flipped": float(np.mean((A + change @ X >= 0.0) != (A >= 0.0)) * np.sqrt(len(U))),
    }


def found_by(config: RunConfig, X: np.ndarray, Y: np.ndarray) -> dict[str, float]:
    with Simulation(config, X, Y) as simulation:
        U = simulation.initial["U"].astype(float)
        while not simulation.finished:
            simulation.advance(100)
        row, now = simulation.observe(END), simulation.weights(END)["U"]
    flipped = np.mean((now @ X >= 0.0) != (U @ X >= 0.0))
    root = np.sqrt(len(U))
    return {
        "loss_sup": row["loss_sup"],
        "moved": float(np.linalg.norm(now - U, axis=1).mean() * root),
        "flipped": float(flipped * root),
    }


def fitted(widths: np.ndarray, means: np.ndarray, errors: np.ndarray) -> dict[str, float]:
    """f(m) = f_inf + c m^-p, with the standard errors of f_inf and p; NaN if it does not fit."""

    def curve(m: np.ndarray, limit: float, c: float, p: float) -> np.ndarray:
        return limit + c * (m / widths[0]) ** -p

    try:
        start = (means[-1], means[0] - means[-1], 0.5)
        best, covariance = curve_fit(
            curve, widths, means, start, sigma=errors, absolute_sigma=True, maxfev=10_000
        )
    except RuntimeError:
        return dict.fromkeys(("limit", "limit_error", "p", "p_error"), float("nan"))
    spread = np.sqrt(np.diag(covariance))
    return {"limit": best[0], "limit_error": spread[0], "p": best[2], "p_error": spread[2]}


def measured(seeds: int) -> list[dict[str, Any]]:
    rows = []
    for diffusion in (False, True):
        for m in WIDTHS:
            for seed in range(seeds):
                coarse, fine = (
                    config_of(m, seed, rtol, diffusion=diffusion) for rtol in TOLERANCES
                )
                data = load_data(fine)
                row: dict[str, Any] = {"diffusion": diffusion, "m": m, "seed": seed}
                row["coarse"], row["fine"] = (
                    found_by(config, data.X, data.Y) for config in (coarse, fine)
                )
                if not diffusion:
                    row["kernel"] = limit_of(fine, data.X, data.Y)
                rows.append(row)
            print(f"{'with' if diffusion else 'without'}, m = {m}", flush=True)
    return rows


def tabulated(rows: list[dict[str, Any]]) -> str:
    lines = []
    for diffusion in (False, True):
        ours = [row for row in rows if row["diffusion"] == diffusion]
        for name in FUNCTIONALS:
            means, errors, cells = [], [], []
            for m in WIDTHS:
                at = [row for row in ours if row["m"] == m]
                values = np.array([row["fine"][name] for row in at])
                step = np.max(np.abs(values - [row["coarse"][name] for row in at]) / values)
                means.append(values.mean())
                errors.append(values.std(ddof=1) / np.sqrt(len(values)))
                cells.append(f"{values.mean():.4g} ± {errors[-1]:.1g} ({step:.1%})")
            fit = fitted(np.array(WIDTHS, float), np.array(means), np.array(errors))
            cells += [f"{fit['limit']:.4g} ± {fit['limit_error']:.1g}"]
            cells += [f"{fit['p']:.2f} ± {fit['p_error']:.1g}"]
            side = "with" if diffusion else "without"
            lines.append([side, name, *cells])
            if not diffusion:
                lines.append(_beside_the_kernel(ours, name))
    return table(["", "", *(f"m = {m}" for m in WIDTHS), "limit", "p"], lines)


def _beside_the_kernel(rows: list[dict[str, Any]], name: str) -> list[str]:
    """The relative difference from the limit of the same draw, root mean square over seeds."""
    apart = []
    for m in WIDTHS:
        at = [row for row in rows if row["m"] == m]
        parts = [row["fine"][name] / row["kernel"][name] - 1.0 for row in at]
        apart.append(float(np.sqrt(np.mean(np.square(parts)))))
    (slope, _), covariance = np.polyfit(np.log(WIDTHS), np.log(apart), 1, cov=True)
    p = f"{-slope:.2f} ± {np.sqrt(covariance[0, 0]):.1g}"
    return ["", "from the kernel limit", *(f"{value:.2%}" for value in apart), "0", p]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    rows = measured(options.seeds)
    options.output.write_text(json.dumps(rows, indent=1) + "\n")
    print(tabulated(rows))


if __name__ == "__main__":
    main()
