"""Overrides that try to change a call, and any text as an override."""

import pytest
from hypothesis import given, settings, strategies as st
from omegaconf import DictConfig, OmegaConf
from torch import nn

from fsdbev.config.overrides import apply_overrides
from fsdbev.d2.config import LazyCall as L


def make_config():
    content = {
        "train": {"steps": 10, "lr": 0.5, "amp": False, "dir": "./o", "seed": None, "late": "???"},
        "sizes": [256, 704],
        "groups": [{"lr": 1}, {"lr": 2}],
        "anything": [],
        "model": L(nn.Linear)(in_features=2, out_features=3, bias=L(bool)()),
        "saved": {
            "_target_": "torch.nn.Sequential",
            "_args_": [],
            "_partial_": False,
            "dtype": {"_target_": "hydra.utils.get_object", "path": "torch.float32"},
            "part": {"_target_": "torch.nn.Linear", "in_features": 2, "bias": None},
        },
        "alias": "${saved.part}",
        "width": "${model.in_features}",
    }
    return DictConfig(content, flags={"allow_objects": True})


def calls_of(value, place=()):
    """Yields the place of every call and its target."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield ".".join(place), value["_target_"]
        for key, item in value.items():
            yield from calls_of(item, (*place, str(key)))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from calls_of(item, (*place, str(number)))


def texts_of(value):
    """Yields every key and every text of a config."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)
    elif isinstance(value, str):
        yield value


def check(overrides):
    """Returns whether overrides are accepted; checks that they add no call and no reference."""
    cfg = make_config()
    before = OmegaConf.to_container(cfg)
    try:
        changed = apply_overrides(cfg, overrides)
    except ValueError as error:
        assert str(error).startswith("override ")
        return False
    assert OmegaConf.to_container(cfg) == before
    after = OmegaConf.to_container(changed)
    known = dict(calls_of(before))
    assert all(known.get(place) == target for place, target in calls_of(after))
    references = {text for text in texts_of(before) if "${" in text}
    assert {text for text in texts_of(after) if "${" in text} <= references
    missing = list(texts_of(after)).count("???")
    assert missing <= list(texts_of(before)).count("???")
    return True


TARGET = "_target_"


@pytest.mark.parametrize(
    "overrides",
    [
        [f"model.{TARGET}=os.system"],
        [f"'model.{TARGET}'=os.system"],
        [f"model.'{TARGET}'=os.system"],
        [f"model.\\{TARGET}=os.system"],
        [f"model/{TARGET}=os.system"],
        [f"model[{TARGET}]=os.system"],
        [f"train.seed={{'{TARGET}': os.system}}"],
        [f'train.seed={{"{TARGET}": os.system}}'],
        [f"train.seed={{a: {{b: [[{{{TARGET}: os.system}}]]}}}}"],
        ["train.seed={}", f"train.seed={{{TARGET}: os.system}}"],
        ["train.seed={a: 1}", f"train.seed.{TARGET}=os.system"],
        ["train.seed={a: null}", f"train.seed.a={{{TARGET}: os.system}}"],
        ["model.bias=null", f"model.bias={{{TARGET}: os.system}}"],
        ["model=null", f"model={{{TARGET}: os.system, command: ls}}"],
        ["model=null", f"model.{TARGET}=os.system"],
        [f"anything=[[{{{TARGET}: os.system}}]]"],
        [f"groups.0={{{TARGET}: os.system}}"],
        [f"groups=[{{{TARGET}: os.system}}]"],
        [f"anything=extend_list({{{TARGET}: os.system}})"],
        [f"train.seed=choice({{{TARGET}: os.system}})"],
        [f"train.seed=json_str({{{TARGET}: os.system}})"],
        [f"alias={{{TARGET}: os.system}}"],
        [f"alias.{TARGET}=os.system"],
        ["saved.dtype=null", "saved.dtype={path: os.system, _target_: hydra.utils.get_object}"],
        ["train.dir=${oc.env:HOME}"],
        ["train.dir='${oc.env:HOME}'"],
        ["train.dir=\\${oc.env:HOME}"],
        ["train.dir='\\\\${oc.env:HOME}'"],
        ["train.seed={'${oc.env:HOME}': 1}"],
        ["train.seed={a: '${oc.env:HOME}'}"],
        ["anything=['x${oc.env:HOME}']"],
        ["train.dir=???"],
        ["train.seed=[1,???]"],
        ["train.seed={a: '???'}"],
        ["hydra.searchpath=[x]"],
        ["[" * 3000],
        ["train.seed=" + "[" * 3000],
        ["train.seed=" + "[" * 400 + "]" * 400],
        ["train.seed=" + "{a:" * 400 + "1" + "}" * 400],
        ["train.steps=" + "9" * 5000],
        ["train.seed=" + "9" * 5000],
        ["sizes." + "9" * 5000 + "=1"],
        ["sizes.²=1"],
        ["sizes.-1=1"],
        ["\x00=\x00"],
        ["\ud800=1"],
    ],
)
def test_no_way_to_change_what_is_called(overrides):
    assert not check(overrides), "it was accepted"


@pytest.mark.parametrize("key", ["_args_", "_partial_", "_recursive_", "_convert_", "＿target＿"])
def test_keys_with_a_meaning_for_other_code_are_not_added(key):
    assert not check([f"model.{key}=[os.system]"])
    assert not check([f"model={{{key}: [a]}}"])


PLACES = [
    "train.seed",
    "train.late",
    "train.dir",
    "train",
    "sizes",
    "sizes.0",
    "groups",
    "groups.1",
    "anything",
    "model",
    "model.bias",
    "saved",
    "saved.part",
    "saved.part.bias",
    "saved.dtype",
    "saved._args_",
    "alias",
    "width",
    "saved.part.bias.a",
    "train.seed.a",
]
WORDS = [TARGET, "'_target_'", "path", "os.system", "${a}", "$", "{", "null", "a", "???", "\\", "1"]
SCALARS = st.sampled_from(WORDS) | st.text(max_size=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.lists(st.tuples(SCALARS, inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f"{key}: {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=6,
)
OVERRIDES = st.one_of(
    st.tuples(st.sampled_from(PLACES), VALUES).map("=".join),
    st.tuples(
        st.sampled_from(PLACES), st.sampled_from([f".{TARGET}=", ".path=", "=", "@"]), VALUES
    ).map("".join),
    st.text(max_size=30),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(OVERRIDES, min_size=1, max_size=3))
def test_any_text_is_refused_or_changes_no_call(overrides):
    check(overrides)


def test_the_fuzzing_has_overrides_that_are_accepted():
    """The test above would pass for a function that refuses everything."""
    accepted = ["train.seed={a: [1]}", "model=null", "sizes=[1]", "train.dir=a", "width=4"]
    assert all(check([override]) for override in accepted)
    assert check(["train.seed={a: null}", "train.seed.a=[x]"])
