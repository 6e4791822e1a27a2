"""Names that 0.2 retired are found on the page "Renamed in 0.2" and nowhere else."""

import re
from pathlib import Path

import pytest
from documents import ROOT

PAGE = ROOT / "docs/renamed.md"
#: Files that name the old names on purpose.
NAMING = {"docs/renamed.md", "fsdbev/config/renamed.py", "tests/config/test_renamed.py"}
FOLDERS = ("fsdbev", "projects", "tools", "tests", "docs", "configs", "examples", ".github", ".ci")
RETIRED = """
    believe belief_sheet beliefs Beliefs CameraBelief Letters Splats perceive place_views
    paste_splats taking_part twins Moment moments_of_images moments_of_videos
    made_up made_up_samples made_up_drive whole_file own_process in_own_process
    alone_in newest_whole add_what_it_needs weights_beside_stand_ins finish_config wants_wandb
    sample_of frame_of annotations_of predictions_of SeenPoints to_front
    takes_combined_points ShortHistories RunFacts HALVES_OF_TRAIN TRUTH_ALONE trails_of pointless
    checkpoint_keeping_statistics keep_statistics arrays_of_submission exact_resampling
    fast_metrics lost_after stuck_after
""".split()


def files():
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    found += [path for path in ROOT.glob("*") if path.suffix in (".md", ".toml", ".cff", ".py")]
    return [path for path in found if path.suffix not in (".pyc", ".so", ".npz", ".jpg", ".png")]


@pytest.fixture(scope="module")
def words():
    """Every word of the project -> the files that it is in."""
    places: dict[str, set[str]] = {}
    for path in files():
        name = str(path.relative_to(ROOT))
        if name not in NAMING and path != Path(__file__):
            for word in re.findall(r"\w+", path.read_text(encoding="utf-8", errors="ignore")):
                places.setdefault(word, set()).add(name)
    return places


@pytest.mark.parametrize("name", RETIRED)
def test_a_retired_name_is_only_on_its_page(words, name):
    assert name not in words, f"{name} is in {sorted(words[name])}"
    assert re.search(rf"\b{name}\b", PAGE.read_text()) or name in ("Letters", "twins")


def test_the_words_are_read(words):
    assert {"ViewToBEV", "diagnostics_sheet", "frames_from_images"} <= words.keys()
