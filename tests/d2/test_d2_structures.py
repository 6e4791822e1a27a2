"""``Instances``. Runs on the built-in and on Detectron2."""

import copy
import pickle

import pytest
import torch

from fsdbev.d2.structures import Instances


class Track:
    """A user's field type: has a length, can be indexed and concatenated, has no ``to``."""

    def __init__(self, names):
        self.names = list(names)

    def __len__(self):
        return len(self.names)

    def __getitem__(self, item):
        return Track(self.names[item])

    @staticmethod
    def cat(tracks):
        return Track(sum((track.names for track in tracks), []))


@pytest.fixture
def three():
    return Instances((4, 6), scores=torch.tensor([0.1, 0.2, 0.3]), tags=["a", "b", "c"])


def test_fields_are_attributes(three):
    assert three.image_size == (4, 6)
    assert three.tags == ["a", "b", "c"]
    three.classes = torch.tensor([1, 2, 3])
    assert three.get("classes") is three.classes
    assert three.has("classes") and not three.has("boxes")
    assert list(three.get_fields()) == ["scores", "tags", "classes"]
    three.remove("classes")
    assert not three.has("classes")
    with pytest.raises(AttributeError, match="boxes"):
        _ = three.boxes


def test_all_fields_have_one_length(three):
    assert len(three) == 3
    with pytest.raises((AssertionError, ValueError)):
        three.classes = torch.zeros(2)
    with pytest.raises((TypeError, NotImplementedError)):
        iter(three)
    for item in (3, -4):
        with pytest.raises(IndexError):
            three[item]
    three.remove("scores")
    three.remove("tags")
    with pytest.raises((TypeError, NotImplementedError)):
        len(three)
    three.classes = torch.zeros(2)  # the first field sets the length
    assert len(three) == 2


@pytest.mark.parametrize(
    ("item", "scores"),
    [
        (0, [0.1]),
        (-1, [0.3]),
        (slice(1, None), [0.2, 0.3]),
        (slice(0, 0), []),
        (torch.tensor([2, 0]), [0.3, 0.1]),
        (torch.tensor([False, True, False]), [0.2]),
    ],
)
def test_indexing_selects_from_every_field(three, item, scores):
    if torch.is_tensor(item):  # a list cannot be indexed by one
        three.tags = torch.arange(3)
    selected = three[item]
    assert selected.scores.tolist() == pytest.approx(scores)
    assert len(selected.tags) == len(scores)
    assert selected.image_size == (4, 6)
    assert len(three) == 3


def test_to_moves_the_fields_with_a_to(three):
    double = three.to(torch.float64)
    assert double.scores.dtype == torch.float64
    assert double.tags == three.tags
    assert three.scores.dtype == torch.float32


def test_cat(three):
    three.track = Track("xyz")
    result = Instances.cat([three, three[:1]])
    assert result.scores.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.1])
    assert result.tags == ["a", "b", "c", "a"]
    assert result.track.names == ["x", "y", "z", "x"]
    assert result.image_size == (4, 6)
    with pytest.raises((AssertionError, ValueError)):
        Instances.cat([three, Instances((9, 9), scores=torch.zeros(1), tags=["d"])])
    with pytest.raises(ValueError, match="range"):
        Instances.cat([Instances((1, 1), ids=range(2))] * 2)


def test_copies_and_pickles(three):
    for copied in (copy.deepcopy(three), pickle.loads(pickle.dumps(three))):
        copied.scores[0] = 9
        assert copied.tags == ["a", "b", "c"] and copied.image_size == (4, 6)
    assert three.scores[0] != 9
