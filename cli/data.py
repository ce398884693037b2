"""``prdsim data``."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from prdsim.errors import DataError
from prdsim.vocabulary import DOWNLOADED

from .choices import some
from .shared_options import HintingGroup
from .terminal import say

if TYPE_CHECKING:
    from prdsim.datasets.fetch import FileStatus

_data_dir = click.option(
    "--data-dir",
    metavar="FOLDER",
    help="folder that holds the data sets",
    shell_complete=some(files=()),
)
_downloaded = some(DOWNLOADED)
_as_json = click.option("--json", "as_json", is_flag=True, help="print JSON")


@click.group(name="data", cls=HintingGroup)
def command() -> None:
    """List, fetch and check the data sets.

    FOLDER defaults to the environment variable PRDSIM_DATA_DIR, else to the user's cache.
    """


@command.command(name="list")
@_data_dir
@_as_json
def list_datasets(data_dir: str | None, as_json: bool) -> int:
    """List the data sets and their locations."""
    from prdsim.datasets import available_datasets

    found = available_datasets(data_dir)
    if as_json:
        say(json.dumps([asdict(info) for info in found], indent=2, default=str))
        return 0
    for info in found:
        counts = ", ".join(f"{count} {part}" for part, count in info.samples.items())
        say(f"{info.name:15} {info.description}")
        say(f"{'':15} {info.location or 'not found'}{': ' + counts if counts else ''}")
        if info.hint:
            say(f"{'':15} {info.hint}")
    return 0


@command.command(name="fetch")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=_downloaded)
@_data_dir
@click.option("--mirror", metavar="URL", help="folder to download from, instead of the defaults")
@click.option("--force", is_flag=True, help="replace existing files that are wrong")
def fetch_datasets(
    names: tuple[str, ...], data_dir: str | None, mirror: str | None, force: bool
) -> int:
    """Download data sets by name, such as mnist or fashion-mnist.

    Each file's size and SHA-256 are checked before it gets its name. Correct files already present
    are not downloaded again. Proxies are taken from the environment variables http_proxy,
    https_proxy and no_proxy.
    """
    if mirror is not None and len(names) > 1:
        raise click.UsageError("--mirror is the folder of one data set: fetch one at a time")
    from prdsim.datasets.fetch import fetch_dataset
    from prdsim.files.stopping import StopByException
    from prdsim.progress import progress_stream

    stream = progress_stream()
    try:
        for name in dict.fromkeys(names):
            with StopByException():
                files = fetch_dataset(
                    name, data_dir=data_dir, mirror=mirror, force=force, stream=stream
                )
            folder = files[0].path.parent if files[0].path else None
            fetched = sum(file.fetched for file in files)
            say(
                f"{name}: {len(files)} files in {folder}, {fetched} downloaded, "
                f"{len(files) - fetched} already present; all have the right SHA-256"
            )
    except KeyboardInterrupt:
        say("complete files are kept; repeat the command to fetch the others", err=True)
        raise
    return 0


@command.command(name="check")
@click.argument("names", nargs=-1, metavar="[NAME...]", shell_complete=_downloaded)
@_data_dir
@_as_json
def check_datasets(names: tuple[str, ...], data_dir: str | None, as_json: bool) -> int:
    """Check size and SHA-256 of the downloaded data sets.

    Exit code 0 if every file found is correct and no file of a named set is missing; else 3.
    Without names all sets are checked, and missing files are only reported.
    """
    from prdsim.datasets import idx
    from prdsim.datasets.fetch import check_dataset

    files = [
        file
        for name in dict.fromkeys(names or idx.manifest())
        for file in check_dataset(name, data_dir=data_dir)
    ]
    if as_json:
        say(json.dumps([asdict(file) for file in files], indent=2, default=str))
    else:
        for file in files:
            where = "".join(f"  {part}" for part in (file.path, file.reason) if part)
            say(f"{file.dataset:15} {file.file:28} {file.state}{where}")
    _require_right(files, data_dir, missing_too=bool(names))
    return 0


def _require_right(files: list[FileStatus], data_dir: str | None, *, missing_too: bool) -> None:
    accepted = {"ok"} if missing_too else {"ok", "missing"}
    bad = [file for file in files if file.state not in accepted]
    if not bad:
        return
    counts = Counter(file.state for file in bad)
    found = ", ".join(f"{count} {state}" for state, count in counts.items())
    get = ["prdsim", "data", "fetch", *dict.fromkeys(file.dataset for file in bad)]
    get += ["--force"] if "wrong" in counts else []
    get += ["--data-dir", data_dir] if data_dir is not None else []
    raise DataError(f"of {len(files)} files, {found}: `{shlex.join(get)}` gets the right ones")
