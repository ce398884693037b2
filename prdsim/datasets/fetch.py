"""Fetching the data sets of the manifest, and checking the files that are present.

A file gets its name only when all of it is on disk and its SHA-256 is right.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal, TextIO

from prdsim.datasets import idx
from prdsim.datasets.download import Wanted, check_mirror, disk_errors, download
from prdsim.errors import ConfigError, DataError, did_you_mean
from prdsim.files.small import make_folder, not_left_empty

_NOT_A_FILE = "it is not a file"


@dataclass(frozen=True)
class FileStatus:
    """The state of one file of the manifest.

    Attributes:
        dataset: Name of the data set.
        file: Name of the file.
        state: "ok": size and SHA-256 are right. "wrong": they are not, or it cannot be read.
            "unverified": an uncompressed file, for which the manifest has no checksum.
        path: Location of the file; None if it is missing.
        reason: The fault, or None.
        belongs_to: The other data set of the manifest that contains this file, or None.
        fetched: Whether it has just been downloaded.
    """

    dataset: str
    file: str
    state: Literal["ok", "missing", "wrong", "unverified"]
    path: Path | None = None
    reason: str | None = None
    belongs_to: str | None = None
    fetched: bool = False


def fetch_dataset(
    name: str,
    *,
    data_dir: str | Path | None = None,
    mirror: str | None = None,
    force: bool = False,
    stream: TextIO | None = None,
) -> list[FileStatus]:
    """Download the missing files of a data set; return the state of all its files.

    Files go to the folder ``name`` in ``data_dir``, in PRDSIM_DATA_DIR or in the user's cache,
    whichever is given first; or into ``data_dir`` or PRDSIM_DATA_DIR itself, if correct files of
    the set are there. Proxies are taken from http_proxy, https_proxy and no_proxy.

    Args:
        name: A data set of the manifest.
        data_dir: Folder for data sets; created if it is missing.
        mirror: URL of a folder to download from, instead of the manifest's mirrors.
        force: Replace existing files that are wrong.
        stream: Stream on which progress is shown; None for silence.

    Raises:
        DataError: A file cannot be downloaded, saved or verified, or a wrong one has its name. A
            wrong file never gets a name that it did not have before.
        ConfigError: The name is not in the manifest, ``mirror`` is not the URL of a folder, or the
            folder's name is that of a file.
    """
    all_wanted = _all_wanted(name)
    mirrors = idx.manifest()[name]["mirrors"] if mirror is None else [mirror]
    mirrors = [check_mirror(url) for url in mirrors]
    folder = _folder(name, all_wanted, data_dir)
    files = [_examine(name, wanted, folder) for wanted in all_wanted]
    for file in files:
        _require_replaceable(file, force)
    with disk_errors("create the folder", folder):
        new = make_folder(folder)
    with not_left_empty(new):
        for i, wanted in enumerate(all_wanted):
            if files[i].state == "ok":
                continue
            path = folder / wanted.name
            served_by = download(path, wanted, mirrors, force=force, stream=stream)
            mirrors.sort(key=lambda url: url != served_by)  # it probably has the others too
            files[i] = FileStatus(name, wanted.name, "ok", path, fetched=True)
    return files


def check_dataset(name: str, *, data_dir: str | Path | None = None) -> list[FileStatus]:
    """Compare size and SHA-256 of each file of a data set, if present, to the manifest.

    Files are searched for as `load_dataset` does: in the folder ``name`` of ``data_dir``, of
    PRDSIM_DATA_DIR and of the user's cache, and in those folders themselves.

    Raises:
        ConfigError: The name is not in the manifest.
        DataError: ``data_dir`` is not a folder.
    """
    all_wanted = _all_wanted(name)
    with disk_errors("read", idx.data_roots(data_dir)[0]):
        folders = idx.search_folders(name, data_dir)
        return [_find(name, wanted, folders) for wanted in all_wanted]


def _all_wanted(name: str) -> list[Wanted]:
    """Every file of a data set."""
    manifest = idx.manifest()
    if name not in manifest:
        ships = "it comes with prdsim" if name in ("synthetic", "digits") else "unknown"
        hint = did_you_mean(str(name), manifest) or f"choose from {', '.join(manifest)}"
        raise ConfigError(f'no files to fetch or check for "{name}": {ships}; {hint}')
    return [Wanted(file, **known) for file, known in manifest[name]["files"].items()]


def _folder(name: str, all_wanted: list[Wanted], data_dir: str | Path | None) -> Path:
    """The folder in which the files of a data set belong."""
    root = idx.data_roots(data_dir)[0]
    own = root / name
    with disk_errors("read", own):
        if own.exists():
            return own
    flat = any(_examine(name, wanted, root).state == "ok" for wanted in all_wanted)
    return root if flat else own


def _examine(name: str, wanted: Wanted, folder: Path) -> FileStatus:
    """The state of the file in a folder."""
    path = folder / wanted.name
    status = FileStatus(name, wanted.name, "wrong", path)
    try:
        if path.exists() and not path.is_file():  # reading a pipe would block
            return replace(status, reason=_NOT_A_FILE)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except (FileNotFoundError, NotADirectoryError):
        return FileStatus(name, wanted.name, "missing")
    except OSError as error:
        return replace(status, reason=f"it cannot be read: {error.strerror}")
    if sha256 == wanted.sha256:
        return replace(status, state="ok")
    if (other := idx.other_owner(name, sha256)) is not None:
        return replace(status, reason=f"it belongs to {other}", belongs_to=other)
    if size != wanted.size:
        return replace(status, reason=f"it has {size} bytes, not {wanted.size}")
    return replace(status, reason=f"its SHA-256 is {sha256[:12]}..., not {wanted.sha256[:12]}...")


def _find(name: str, wanted: Wanted, folders: list[Path]) -> FileStatus:
    """The state of the file in the first folder that has it."""
    for folder, file in product(folders, idx.spellings(wanted.name)):
        status = replace(_examine(name, replace(wanted, name=file), folder), file=wanted.name)
        # Two data sets with the same file names may share a root: another set's file is wrong only
        # in a folder of this set's own name.
        if status.belongs_to is not None and folder.name != name:
            continue
        uncompressed = folder / file.removesuffix(".gz")
        if status.state == "missing" and uncompressed.is_file():
            reason = f"uncompressed: the manifest lists only {wanted.name}"
            return replace(status, state="unverified", path=uncompressed, reason=reason)
        if status.state != "missing":
            return status
    return FileStatus(name, wanted.name, "missing")


def _require_replaceable(file: FileStatus, force: bool) -> None:
    if file.state == "wrong" and not (force and file.reason != _NOT_A_FILE):
        raise DataError(
            f"{file.path} exists, but {file.reason}.\n"
            "Move it away, replace it with --force, or name another folder with --data-dir"
        )
