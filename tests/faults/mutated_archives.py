"""Mutations behind a container's checksums: arrays in .npz files, IDX files in gzip."""

from __future__ import annotations

import functools
import gzip
import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from random import Random

import numpy as np

from faults.mutations import EXTREMES, ON_BYTES, mutated

_ODD_SHAPES = (
    "()", "(0,)", "(0, 6)", "(6, 0)", "(12,)", "(1, 72)", "(72, 1)", "(12, 6, 1)", "(-1, 6)",
    "(12, -6)", "(10**9, 10**9)", "(4294967296, 4294967296)", "(1000000000000, 6)",
    "(200000000, 6)", "(12.0, 6)", "(True, 6)", "('12', 6)", "12", "None", "[12, 6]", "(1,) * 99",
    "(1" + ", 1" * 70 + ")", "(" * 3000 + ")" * 3000, "(9" + "9" * 5000 + ", 6)",
)  # fmt: skip
_ODD_TYPES = (
    "'<f4'", "'>f8'", "'<f2'", "'<f16'", "'<c16'", "'|b1'", "'|i1'", "'<u8'", "'<U6'", "'|S8'",
    "'O'", "'|V8'", "'<M8[s]'", "'<m8[ns]'", "[('a', '<f8')]", "[('a', 'O')]", "'<U1000000000'",
    "'|V0'", "'<f0'", "'zz'", "None", "5", "('<f8', (2, 3))", "'f8,f8'", "''", "[]", "{}",
    "[" * 2000 + "]" * 2000, "b'<f8'",
)  # fmt: skip
_ODD_HEADERS = (
    "", "{", "{}", "[]", "1", "None", "{'descr': '<f8'}", "{1: 2}", "'a' * 9", "(" * 9000,
    "{" * 9000, "__import__('os').getcwd()", "\x1b[31m",
    "{'descr': '<f8', 'fortran_order': 0, 'shape': (12, 6)}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (12, 6), 'more': 1}", "-" * 9000 + "1",
)  # fmt: skip


def npy(header: str, data: bytes, version: int = 1, length: int | None = None) -> bytes:
    """Return the bytes of an .npy file with any text as its header."""
    text = header.encode(errors="surrogateescape") + b"\n"
    count = len(text) if length is None else length
    if version == 1 and count < 2**16:
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", count) + text + data
    return (
        b"\x93NUMPY"
        + bytes([version if version != 1 else 2, 0])
        + struct.pack("<I", count)
        + text
        + data
    )


def _odd_npy(rng: Random, content: bytes) -> bytes:
    """Change the header of an .npy file, or its values."""
    kind = rng.randrange(6)
    if kind == 0:
        return mutated(rng, content, (), ON_BYTES)
    if kind == 1:
        return npy(rng.choice(_ODD_HEADERS), content[128:])
    if kind == 2:
        length = rng.choice((0, 1, 2**16 - 1, 2**32 - 1, 2**31))
        return npy("{}", content[128:], version=rng.choice((1, 2, 3, 4, 255)), length=length)
    descr, shape, order = "'<f8'", "(12, 6)", "False"
    if rng.random() < 0.6:
        shape = rng.choice(_ODD_SHAPES)
    if rng.random() < 0.6:
        descr = rng.choice(_ODD_TYPES)
    if rng.random() < 0.2:
        order = rng.choice(("True", "0", "None", "'C'", "[]"))
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}"
    data = content[128:] if kind < 5 else _odd_values(rng, content[128:])
    return npy(header, data)


def _odd_values(rng: Random, data: bytes) -> bytes:
    odd = (np.nan, np.inf, -np.inf, 1e308, 1e-320, 0.0, 1e200, 1e39, -1.0)
    values = np.frombuffer(data[: len(data) // 8 * 8], "<f8").copy()
    if values.size:
        values[rng.randrange(values.size)] = rng.choice(odd)
        if rng.random() < 0.3:
            values[:] = rng.choice(odd)
    return values.tobytes()


def odd_npz(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    """Write the archive again, right in all its checksums, with odd members."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # an earlier mutator may have damaged it in any way
        return mutated(rng, content, (), ON_BYTES)
    names = list(members)
    kind = rng.randrange(8)
    target = io.BytesIO()
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", rng.choice(methods)) as archive:
        warnings.simplefilter("ignore")  # of two members of one name
        for name, data in members.items():
            if name == names[0] or rng.random() < 0.2:
                data = _odd_npy(rng, data)
            if kind == 0 and rng.random() < 0.5:
                continue
            if kind == 1:
                name = rng.choice(
                    (name, name.removesuffix(".npy"), "../" + name, "X.npy/", "y.npy", "X", ".npy")
                )
            archive.writestr(name, data)
            if kind == 2:
                break
    result = target.getvalue()
    return mutated(rng, result, (), ON_BYTES) if kind == 3 and rng.random() < 0.5 else result


def odd_directory(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    """Change a field of a zip header: flags, method, sizes, offsets."""
    signature = rng.choice((b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"))
    places = [i for i in range(len(content)) if content.startswith(signature, i)]
    if not places:
        return content
    at = rng.choice(places) + rng.randrange(4, 46)
    size = rng.choice((1, 2, 4))
    value = rng.choice((*EXTREMES, 8, 9, 12, 14, 93, 97, 99)) % 2 ** (8 * size)
    return content[:at] + value.to_bytes(size, "little") + content[at + size :]


@functools.cache
def _zeros(block: int = 1 << 20) -> bytes:
    return gzip.compress(bytes(block), 9)


def gzip_bomb(gigabytes: float, begin: bytes = b"") -> bytes:
    """Return a small gzip file of many zeros."""
    return gzip.compress(begin) + _zeros() * int(gigabytes * 1024)


def npz_bomb(gigabytes: float) -> bytes:
    """Return a small .npz file whose X holds many zeros, as its header says."""
    rows = int(gigabytes * 1024) * (1 << 20) // 48
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({rows}, 6)}}"
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("X.npy", "w", force_zip64=True) as member:
            member.write(npy(header, b""))
            left = rows * 48
            while left:
                left -= member.write(bytes(min(left, 1 << 22)))
        labels = io.BytesIO()
        np.save(labels, np.zeros(3))
        archive.writestr("Y.npy", labels.getvalue())
    return target.getvalue()


def idx_header(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:  # noqa: ARG001
    """Change a field of an IDX header."""
    if rng.random() < 0.3:
        at, new = rng.randrange(4), bytes([rng.choice((0, 1, 3, 8, 9, 13, 14, 255))])
    else:
        at = 4 + 4 * rng.randrange(3)
        new = struct.pack(
            ">I", rng.choice((0, 1, 2, 11, 13, 2**31 - 1, 2**31, 2**32 - 1, 65536, 10**9))
        )
    return content[:at] + new + content[at + len(new) :]


def behind_gzip(rng: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Mutate what a gzip file holds, and compress it again."""
    try:
        inner = gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return mutated(rng, content, others, ON_BYTES)
    inner = mutated(rng, inner, (), (*ON_BYTES, idx_header, idx_header, idx_header))
    if rng.random() < 0.1:
        inner = gzip.compress(inner)
    return gzip.compress(inner, rng.choice((0, 1, 9)))
