from __future__ import annotations

import numpy as np
import pytest

from prdsim.physics.randomness import Stream, generator, uniforms

MASK = (1 << 64) - 1
# Published known answers of Philox4x64-10 (Random123): counter, key, output.
KNOWN_ANSWERS = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
    ),
    (
        (MASK, MASK, MASK, MASK),
        (MASK, MASK),
        (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
    ),
    (
        (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]


def philox4x64_10(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        left, right = c0 * 0xD2E7470EE14C6C93, c2 * 0xCA5A826395121157
        c0, c1 = (right >> 64) ^ c1 ^ k0, right & MASK
        c2, c3 = (left >> 64) ^ c3 ^ k1, left & MASK
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
    return c0, c1, c2, c3


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_reference_reproduces_published_vectors(counter, key, expected):
    assert philox4x64_10(counter, key) == expected


@pytest.mark.parametrize(
    ("seed", "step", "update"),
    # The corners borrow across words when NumPy's counter is set one below the first block.
    [(0, 0, 0), (0, 0, 1), (7, 1, 0), (7, 12, 3), (2**64 - 1, 10**9, 4), (2**63 - 1, 2**40, 0)],
)
def test_uniforms_are_the_documented_function_of_the_counter(seed, step, update):
    stream = Stream.PENALTY_POINTS
    expected = [
        (philox4x64_10((p, update, step, 0), (seed, stream))[0] >> 11) * 2.0**-53 for p in range(9)
    ]
    assert uniforms(seed, stream, step, update, 9).tolist() == expected


def test_uniforms_are_written_to_out():
    out = np.full(5, np.nan)
    assert uniforms(3, Stream.PENALTY_POINTS, 2, 1, 5, out=out) is out
    assert np.array_equal(out, uniforms(3, Stream.PENALTY_POINTS, 2, 1, 5))


def test_fewer_samples_are_the_beginning_of_more():
    few, many = (uniforms(1, Stream.PENALTY_POINTS, 4, 0, n) for n in (1, 100))
    assert few[0] == many[0]


def test_every_word_of_key_and_counter_matters():
    arguments = [(0, 5, 0, 0), (1, 5, 0, 0), (0, 6, 0, 0), (0, 5, 1, 0), (0, 5, 0, 1)]
    draws = {
        tuple(uniforms(seed, Stream(stream), step, update, 3))
        for seed, stream, step, update in arguments
    }
    assert len(draws) == len(arguments)


def test_uniforms_look_uniform():
    e = uniforms(11, Stream.PENALTY_POINTS, 0, 0, 100_000)
    assert e.min() >= 0.0
    assert e.max() < 1.0
    # Five standard errors of the mean, and of the second moment, of 100,000 uniform numbers.
    assert abs(e.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / 1e5)
    assert abs(np.mean(e**2) - 1 / 3) < 5 * np.sqrt(4 / 45 / 1e5)


def test_generator_depends_on_seed_and_stream_alone():
    def draw(seed, stream):
        return generator(seed, stream).standard_normal(4).tolist()

    assert draw(5, Stream.INITIAL_U) == draw(5, Stream.INITIAL_U)
    assert draw(5, Stream.INITIAL_U) != draw(5, Stream.INITIAL_V)
    assert draw(5, Stream.INITIAL_U) != draw(6, Stream.INITIAL_U)


def test_generator_has_the_documented_key():
    state = generator(2**64 - 1, Stream.KRYLOV_START).bit_generator.state["state"]
    assert state["key"].tolist() == [2**64 - 1, int(Stream.KRYLOV_START)]


def test_stream_numbers_never_change():
    assert {stream.name: int(stream) for stream in Stream} == {
        "INITIAL_U": 1,
        "INITIAL_V": 2,
        "INITIAL_W": 3,
        "INITIAL_A": 4,
        "PENALTY_POINTS": 5,
        "OBSERVED_PENALTY_POINTS": 6,
        "SAMPLE_SELECTION": 7,
        "SYNTHETIC_INPUTS": 8,
        "SYNTHETIC_TEST_INPUTS": 9,
        "SYNTHETIC_TEACHER": 10,
        "KRYLOV_START": 11,
        "TWINS": 12,
        "FORCING": 13,
        "SHUFFLED_SAMPLES": 14,
        "GROUP_DEVIATIONS": 15,
    }
