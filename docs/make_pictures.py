"""Make the README's pictures: the same generator with and without diffusion, on MNIST.

    python docs/make_pictures.py FOLDER_OF_MNIST

The folder holds MNIST's test part (t10k-images-idx3-ubyte.gz and the labels). Runs two simulations
of the preset "poster" (about three minutes on two cores) and writes docs/pictures/*.png.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np

import prdsim

mpl.use("Agg")

import matplotlib.pyplot as plt

PICTURES = Path(__file__).parent / "pictures"
RUNS = {"without diffusion": False, "with diffusion": True}
FILTERS = 24


def main(data_dir: str) -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        trajectories = {
            label: prdsim.open_trajectory(
                prdsim.run(
                    preset="poster",
                    dataset="mnist",
                    split="test",
                    data_dir=data_dir,
                    diffusion=diffusion,
                    output=f"{folder}/{diffusion}.h5",
                    progress=True,
                ).path
            )
            for label, diffusion in RUNS.items()
        }
        draw_filters(trajectories, PICTURES / "filters.png")
        draw_distances(trajectories, PICTURES / "distances.png")


def draw_filters(trajectories: dict[str, prdsim.Trajectory], path: Path) -> None:
    """Draw u_j(t) - u_j(0) at the last step, for the same neurons in both runs."""
    changes = {label: run.U[-1] - run.U[0] for label, run in trajectories.items()}
    moved = sum(np.linalg.norm(change, axis=1) for change in changes.values())
    neurons = np.sort(np.argsort(-moved)[:FILTERS])
    limit = np.quantile(np.abs([change[neurons] for change in changes.values()]), 0.99)
    figure, axes = plt.subplots(2, 1, figsize=(10, 4.2), layout="constrained")
    for axis, (label, change) in zip(axes, changes.items(), strict=True):
        image = axis.imshow(mosaic(change[neurons], 2), cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(f"{label}: mean distance {np.linalg.norm(change, axis=1).mean():.2f}")
        axis.set_axis_off()
    figure.colorbar(image, ax=axes, label=r"entries of $u_j(t) - u_j(0)$", shrink=0.8)
    figure.savefig(path, dpi=100)


def mosaic(filters: np.ndarray, rows: int) -> np.ndarray:
    """Lay 28 x 28 images out in rows, with a line of nothing between them."""
    framed = np.full((len(filters), 30, 30), np.nan)
    framed[:, 1:-1, 1:-1] = filters.reshape(-1, 28, 28)
    return framed.reshape(rows, -1, 30, 30).transpose(0, 2, 1, 3).reshape(rows * 30, -1)


def draw_distances(trajectories: dict[str, prdsim.Trajectory], path: Path) -> None:
    """Draw the mean distances of both layers from their initial values over time."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    names = (
        (r"hidden layer, mean of $\|u_j(t) - u_j(0)\|$", "distance_U_mean"),
        (r"top layer, mean of $\|v_j(t) - v_j(0)\|$", "distance_V_mean"),
    )
    for axis, (title, name) in zip(axes, names, strict=True):
        for label, run in trajectories.items():
            axis.plot(run.scalars["time"], run.scalars[name], label=label)
        axis.set(title=title, xlabel="time t", ylabel="distance")
        axis.legend()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
