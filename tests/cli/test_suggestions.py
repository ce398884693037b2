"""What users of other programs type: letters of the paper, names of devices and data sets."""

from __future__ import annotations

import pytest
from support import names
from support_cli import TINY, assert_refused

import prdsim

USAGE, FILE = 2, 3


def test_the_papers_letters_are_options(run, tmp_path):
    assert run("run", "-n", 9, "-m", 4, *TINY[4:], "-o", "a.h5").code == 0
    with prdsim.open_trajectory(tmp_path / "a.h5") as trajectory:
        assert (trajectory.config["samples"], trajectory.config["width"]) == (9, 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--gpu"], "No such option '--gpu'; did you mean --backend cupy?"),
        (["run", "--cuda"], "did you mean --backend cupy?"),
        (["run", *TINY[:4], "--backend", "gpu"], "'gpu': no such backend; did you mean cupy?"),
        (["run", *TINY[:4], "--backend", "CUDA:1"], "did you mean cupy?"),
        (["run", "mnist"], "mnist: no such configuration file; did you mean --dataset mnist?"),
        (["run", "MNIST"], "did you mean --dataset mnist?"),
        (["run", "fashion_mnist"], "did you mean --dataset fashion-mnist?"),
        (["bench", "digits"], "did you mean --set dataset=digits?"),
        (["run", "other"], "other: no such configuration file"),
    ],
)
def test_what_was_meant_is_suggested(run, tmp_path, arguments, words):
    assert_refused(run(*arguments), USAGE, words)
    assert names(tmp_path) == []


def test_a_file_may_have_the_name_of_a_data_set_and_a_folder_is_none(run, tmp_path):
    (tmp_path / "mnist").mkdir()
    assert_refused(run("run", "mnist"), USAGE, "did you mean --dataset mnist?")
    assert_refused(run("run", "a" * 9000), FILE, "cannot be read (File name too long)")
    (tmp_path / "digits").write_text("width = 0\n")
    assert_refused(run("run", "digits"), USAGE, "width: must be at least 1")
