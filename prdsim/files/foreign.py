"""Files that others wrote: nothing is followed out of the file, and nothing waits.

An HDF5 file can name other files: by external and soft links, external storage and virtual data
sets. All of these are refused before a dataset is opened or read, and so is what is no regular
file, for opening a pipe waits for its writer.
"""

from __future__ import annotations

import math
import os
import stat
import zlib
from pathlib import Path
from typing import Any, BinaryIO

DEFLATE_RATIO = 1032
"""No byte of a gzip file, or of a zip file as NumPy writes it, becomes more bytes than these."""
_CHECKSUM_BYTES = 4  # of the filter fletcher32, which may be compressed along
_PIECE = 1 << 20
_MOST_UNWRITTEN = 1000  # chunks
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


class ForeignFileError(Exception):
    """A file, or an item in it, that is not read; its text is the message to show.

    No `PrdsimError`: each reader raises its own error from it.
    """


def require_regular_file(path: Path) -> None:
    """Raise `ForeignFileError` for a folder, pipe, socket or device; `OSError` if it is missing."""
    _require_regular(path, path.stat().st_mode)


def open_regular_file(path: Path, buffering: int = -1) -> BinaryIO:
    """Open a regular file for reading, without ever waiting; raises as `require_regular_file`."""
    require_regular_file(path)  # opening alone acts on some devices

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)  # it may have been replaced by a pipe since

    file: BinaryIO = open(path, "rb", buffering, opener=opener)  # noqa: SIM115
    try:
        _require_regular(path, os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    return file


def plain_group(group: Any, name: str) -> Any:
    """Return the group at ``name`` below an h5py group; raises as `plain_dataset`."""
    import h5py

    return h5py.Group(_follow_hard_links(group, name, h5py.h5o.TYPE_GROUP))


def plain_dataset(group: Any, name: str) -> Any:
    """Return the dataset at ``name``, such as "restart/U", below an h5py group or file.

    Its numbers are bool, integer or float, and all within the file; nothing has been read yet.

    Raises:
        KeyError: There is no such name.
        ForeignFileError: A link of the path is not a hard link; it is not a dataset; it is empty,
            virtual or in external storage; it needs a filter that is missing here; or it holds
            texts, compounds, references, or items of variable length.
    """
    import h5py

    found = _follow_hard_links(group, name, h5py.h5o.TYPE_DATASET)
    what = _what(group, name)
    _require_own_storage(what, found.get_create_plist())
    dataset = h5py.Dataset(found)
    try:
        dtype = dataset.dtype
    except TypeError as error:  # a type that has no equivalent in NumPy
        raise ForeignFileError(f"{what} must hold real numbers: {error}") from None
    if dataset.shape is None:
        raise ForeignFileError(f"{what} is empty: it has no shape")
    if dtype.kind not in "biuf" or dtype.subdtype is not None:
        raise ForeignFileError(f"{what} must hold real numbers, but has type {dtype}")
    return dataset


def declared_bytes(dataset: Any) -> int:
    """Return the bytes that reading all of a plain dataset takes: the array and one chunk."""
    chunk = math.prod(dataset.chunks) if dataset.chunks else 0
    return int((dataset.size + chunk) * dataset.dtype.itemsize)


def require_written(dataset: Any) -> None:
    """Refuse chunks that were never written, unless they are few: reading millions takes minutes.

    Raises `ForeignFileError`.
    """
    if not dataset.chunks:
        return
    pairs = zip(dataset.shape, dataset.chunks, strict=True)
    declared = math.prod(-(-length // piece) for length, piece in pairs)
    written = dataset.id.get_num_chunks()
    if declared - written > _MOST_UNWRITTEN:
        raise ForeignFileError(
            f"{dataset.name.strip('/')} of {dataset.file.filename} is incomplete: "
            f"{written} of {declared} chunks were written"
        )


def require_true_chunks(dataset: Any, available: int) -> None:
    """Refuse chunks that hold more than they declare, if reading one could take all the memory.

    HDF5 inflates a chunk to its end, however long that is. Raises `ForeignFileError`.
    """
    from h5py import h5z

    properties = dataset.id.get_create_plist()
    codes = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if h5z.FILTER_DEFLATE not in codes:
        return
    what = f"{dataset.name.strip('/')} of {dataset.file.filename}"
    if codes.count(h5z.FILTER_DEFLATE) > 1:
        raise ForeignFileError(f"{what} is compressed twice: write it with gzip or uncompressed")
    large: list[tuple[int, ...]] = []

    def note(chunk: Any) -> None:
        if chunk.size * DEFLATE_RATIO > available:
            large.append(chunk.chunk_offset)

    dataset.id.chunk_iter(note)
    declared = math.prod(dataset.chunks) * dataset.dtype.itemsize
    for offset in large:
        skipped, content = dataset.id.read_direct_chunk(offset)
        if skipped & 1 << codes.index(h5z.FILTER_DEFLATE):
            continue  # stored as it is
        if _inflates_beyond(content, declared + _CHECKSUM_BYTES):
            raise ForeignFileError(f"{what} is damaged: a chunk holds more than it declares")


def _inflates_beyond(content: bytes, limit: int) -> bool:
    inflater, count = zlib.decompressobj(), 0
    try:
        while content and not inflater.eof and count <= limit:
            count += len(inflater.decompress(content, _PIECE))
            content = inflater.unconsumed_tail
    except zlib.error:
        pass  # HDF5 stops there, too
    return count > limit


def _require_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((kind for matches, kind in _KINDS if matches(mode)), "a device")
        raise ForeignFileError(f"{path} is {kind}, not a file")


def _what(group: Any, name: str) -> str:
    path = "/".join(filter(None, [group.name.strip("/"), name]))
    return f"{path} of {group.file.filename}"


def _follow_hard_links(group: Any, name: str, kind: int) -> Any:
    """Open the object at ``name``, of the given kind, through groups and hard links alone."""
    from h5py import h5d, h5g, h5l, h5o

    here = group.id
    parts = name.split("/")
    for depth, part in enumerate(parts, 1):
        what, encoded = _what(group, "/".join(parts[:depth])), part.encode()
        if encoded not in here:
            raise KeyError(name)
        if here.links.get_info(encoded).type != h5l.TYPE_HARD:
            raise ForeignFileError(
                f"{what} is a soft or external link: only what is in the file itself is read; "
                "copy the data into it"
            )
        wanted = kind if depth == len(parts) else h5o.TYPE_GROUP
        if h5o.get_info(here, encoded).type != wanted:
            article = "an array" if wanted == h5o.TYPE_DATASET else "a group"
            raise ForeignFileError(f"{what} is not {article}")
        here = (h5d.open if wanted == h5o.TYPE_DATASET else h5g.open)(here, encoded)
    return here


def _require_own_storage(what: str, properties: Any) -> None:
    """Refuse data that are in other files, or compressed by a filter that is missing here."""
    from h5py import h5d, h5z

    if properties.get_layout() == h5d.VIRTUAL:
        raise ForeignFileError(
            f"{what} is a virtual dataset, whose data are in other files: copy the data into it"
        )
    if properties.get_layout() not in (h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED):
        raise ForeignFileError(f"{what} has a storage layout that is unknown here")
    if properties.get_external_count() > 0:
        raise ForeignFileError(
            f"{what} is in external storage, which is another file: copy the data into it"
        )
    for i in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(i)
        if not h5z.filter_avail(code):
            raise ForeignFileError(
                f"{what} is compressed by filter {code} ({name.decode(errors='replace')}), which "
                "is not installed: write it with gzip or uncompressed"
            )
