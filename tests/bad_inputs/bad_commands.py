"""Bad words of a command line, and folders and names of files that a command cannot use."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from unittest.mock import patch

from bad_theme import Theme

from fsdbev.config.overrides import apply_overrides
from fsdbev.d2.config import LazyConfig
from fsdbev.utils.folder_lock import locked_folder
from fsdbev.utils.plain_file import check_file_names

THEME = Theme(
    "Command lines",
    "Overrides `key=value` of a config, and the folders that a command writes to. A training, an "
    "evaluation, a preparation or a demo is the only one that writes to its output folder; the "
    "lock of a process that died is taken over.",
)
TRAIN = Path(__file__).resolve().parents[2] / "configs" / "common" / "train.py"


def override(text: str):
    return apply_overrides(LazyConfig.load(str(TRAIN)), [text]).train


@THEME.handled(
    "a path with commas, brackets, spaces or letters that are not ASCII",
    "an option for text takes it as it is; `~` is the home folder",
)
def _(folder):
    for path in ("/data/a,b", "/data/nu(1)", "/data/my set", "/data/数据"):
        assert override(f"train.output_dir={path}").output_dir == path
    assert override("train.output_dir=~/x").output_dir == str(Path.home() / "x")


@THEME.refused(
    "text with a comma that is no path",
    "it must read key=value, or 'key=\"a,b\"'; a list is 'key=[a,b]'",
)
def _(folder):
    override("train.output_dir=a,b")


@THEME.refused(
    "such a path in a list, without quotes", "it must read key=value, or 'key=\"a,b\"'; …"
)
def _(folder):
    override("train.hooks=[/data/nu(1)]")


@THEME.refused("text for a number", "train.max_iter takes int, got '1(2)' (str)")
def _(folder):
    override("train.max_iter=1(2)")


@THEME.refused(
    "an unknown key", "unknown key 'train.outputdir'; the nearest key is 'train.output_dir'"
)
def _(folder):
    override("train.outputdir=/data/nu(1)")


@THEME.refused(
    "an output folder that another process writes to",
    "out: process … on … is writing there; wait for it, or stop it and run again, or choose "
    "another train.output_dir",
    BlockingIOError,
)
def _(folder):
    with (
        locked_folder(folder / "out", ""),
        locked_folder(folder / "out", "choose another train.output_dir"),
    ):
        pass


@THEME.refused(
    "an output folder that cannot be written",
    "out: can't be written (…); choose another train.output_dir",
    PermissionError,
)
def _(folder):
    (folder / "out").touch()
    with locked_folder(folder / "out", "choose another train.output_dir"):
        pass


@THEME.refused(
    "a path that is not UTF-8", "'/data/f\\udcfcr': is not UTF-8; rename the file or folder"
)
def _(folder):
    with patch.object(sys, "argv", [os.fsdecode(b"/data/f\xfcr")]):
        check_file_names()


@THEME.refused(
    "a locale of another encoding",
    "this locale's file names are ascii, but must be UTF-8; run it with PYTHONUTF8=1 in the "
    "environment",
)
def _(folder):
    with patch.object(sys, "getfilesystemencoding", return_value="ascii"):
        check_file_names()
