"""Classes as data: names, groups of the detection head, source categories, attributes, ranges.

A :class:`ClassSet` is the only place that says which classes there are. ``model.classes`` of a
config is the source; frame index, data set metadata and checkpoint contain copies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

#: Evaluation range of a class that states none, metres from the ego vehicle.
DEFAULT_RANGE = 50.0


@dataclass(frozen=True)
class ClassGroup:
    """Classes of similar size, which share the branches of the head and non-maximum suppression.

    Suppression is by IoU of rotated boxes in BEV, or by distance if ``center_distance`` is given.

    Attributes:
        names: classes of the group.
        iou_threshold: boxes with a larger IoU are suppressed.
        dim_scale: factor on length and width before the IoU, one per class; None for 1 (Scale-NMS,
            BEVDet, arXiv:2112.11790, section 3.3). Enlarging small objects makes their duplicates
            overlap.
        center_distance: centers at this distance or less are suppressed, metres.

    Raises:
        ValueError: the group is empty, a number is out of range, or ``dim_scale`` does not have one
            entry per class.
    """

    names: tuple[str, ...]
    iou_threshold: float = 0.2
    dim_scale: tuple[float, ...] | None = None
    center_distance: float | None = None

    def __post_init__(self) -> None:
        names = [self.names] if isinstance(self.names, str) else self.names
        names = _names(names, "names of a group of classes")
        scale = (1.0,) * len(names) if self.dim_scale is None else tuple(map(float, self.dim_scale))
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "dim_scale", scale)
        # Not "<= 0": a NaN fails every comparison.
        if len(scale) != len(names) or not all(0 < s < float("inf") for s in scale):
            raise ValueError(
                f"group {list(names)} needs one positive dim_scale per class, got {list(scale)}"
            )
        if not 0 <= self.iou_threshold <= 1:
            raise ValueError(
                f"group {list(names)}: iou_threshold must be 0 to 1, got {self.iou_threshold}"
            )
        if self.center_distance is not None and not self.center_distance > 0:
            raise ValueError(
                f"group {list(names)}: center_distance must be positive, got {self.center_distance}"
            )


class ClassSet:
    """The classes that a model detects.

    Class ids are positions in ``names``. All arguments are plain values, so that a config, a JSON
    file and a checkpoint can contain them; :meth:`to_dict` returns them. Example::

        ClassSet(
            names=["vehicle", "cyclist", "person"],
            groups=[["vehicle"], {"names": ["cyclist", "person"], "dim_scale": [1.0, 4.5]}],
            categories={"vehicle": ["vehicle.car", "vehicle.truck"], "person": ["pedestrian"]},
            attributes={"vehicle": ["parked", "moving"]},
            ranges={"person": 40.0},
        )

    Args:
        names: classes in the order of their ids.
        groups: groups of the head, each a :class:`ClassGroup`, its arguments as a mapping, or only
            its names. By default each class is a group.
        categories: class -> categories of the source data that belong to it, such as nuScenes'
            ``vehicle.car``. A class without an entry has one category of its own name.
        attributes: class -> attributes of an object at rest and of a moving one. A class without an
            entry has none.
        static_attributes: attributes of objects that do not move; objects without an attribute
            count as static too. By default those at rest in ``attributes``.
        ranges: class -> largest distance from the ego vehicle at which it is evaluated, metres;
            ``DEFAULT_RANGE`` for a class without an entry.

    Raises:
        ValueError: names are empty or repeated; a class is in no group or in several; a category
            belongs to two classes; an argument names an unknown class; or a value is malformed.
    """

    def __init__(
        self,
        *,
        names: Sequence[str],
        groups: Sequence[ClassGroup | Mapping[str, Any] | Sequence[str]] | None = None,
        categories: Mapping[str, Sequence[str]] | None = None,
        attributes: Mapping[str, Sequence[str]] | None = None,
        static_attributes: Sequence[str] | None = None,
        ranges: Mapping[str, float] | None = None,
    ) -> None:
        self.names = _names(names, "names")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"classes must have different names, got {list(self.names)}")
        self.groups = tuple(map(_group, self.names if groups is None else groups))
        in_groups = [name for group in self.groups for name in group.names]
        if sorted(in_groups) != sorted(self.names):
            raise ValueError(
                f"every class must be in exactly one group: the classes are {list(self.names)}, "
                f"the groups have {in_groups}"
            )
        found = self._by_class(categories, "categories")
        self.categories = {n: _names(found.get(n, [n]), f"categories of {n}") for n in self.names}
        self._id_of_category: dict[str, int] = {}
        for class_id, name in enumerate(self.names):
            for category in self.categories[name]:
                if self._id_of_category.setdefault(category, class_id) != class_id:
                    other = self.names[self._id_of_category[category]]
                    raise ValueError(f"category {category!r} is in the classes {other} and {name}")
        found = self._by_class(attributes, "attributes")
        self.attributes = {n: _attributes(found.get(n, ("", "")), n) for n in self.names}
        at_rest = dict.fromkeys(rest for rest, _ in self.attributes.values() if rest)
        static = list(at_rest) if static_attributes is None else static_attributes
        self.static_attributes = _names(static, "static_attributes") if static else ()
        found = self._by_class(ranges, "ranges")
        self.ranges = {n: _range(found.get(n, DEFAULT_RANGE), n) for n in self.names}

    def _by_class(self, values: Mapping[str, Any] | None, argument: str) -> Mapping[str, Any]:
        if values is not None and not isinstance(values, Mapping):
            raise ValueError(f"{argument} must be a mapping by class, got {values!r}")
        unknown = [name for name in values or () if name not in self.names]
        if unknown:
            raise ValueError(
                f"{argument} has {unknown[0]!r}, but the classes are {list(self.names)}"
            )
        return values or {}

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClassSet) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.names, self.groups))

    def __repr__(self) -> str:
        return f"ClassSet({', '.join(self.names)})"

    @property
    def label_rules(self) -> dict[str, Any]:
        """The arguments that labels of a data set depend on, as JSON types."""
        rules = self.to_dict()
        return {key: rules[key] for key in ("names", "categories", "static_attributes")}

    @property
    def group_ids(self) -> list[list[int]]:
        """Class ids of each group, in the order of its names."""
        return [[self.names.index(name) for name in group.names] for group in self.groups]

    def id_of_category(self, category: str) -> int:
        """Returns the class id of a category of the source data, -1 if it belongs to no class."""
        return self._id_of_category.get(category, -1)

    def to_dict(self) -> dict[str, Any]:
        """Returns the arguments of the constructor as JSON types; ``ClassSet(**...)`` is equal."""
        return {
            "names": list(self.names),
            "groups": [
                {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(group).items()}
                for group in self.groups
            ],
            "categories": {name: list(values) for name, values in self.categories.items()},
            "attributes": {name: list(values) for name, values in self.attributes.items()},
            "static_attributes": list(self.static_attributes),
            "ranges": dict(self.ranges),
        }

    @classmethod
    def from_dict(cls, content: Any, where: str) -> ClassSet:
        """Builds the classes that a file contains.

        Args:
            content: a value like that of :meth:`to_dict`.
            where: name of the file, for the message.

        Raises:
            ValueError: the content is no such value.
        """
        try:
            return cls(**content)
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{where}: its classes can't be read ({error})") from error

    def check_labels(self, other: ClassSet, *, own: str, others: str, remedy: str) -> None:
        """Checks that labels of another class set mean the same, see :attr:`label_rules`.

        Args:
            other: classes of a data set.
            own: where these classes come from, such as "model.classes".
            others: where ``other`` comes from, such as the path of an index.
            remedy: last part of the error message.

        Raises:
            ValueError: they differ; the message lists both.
        """
        mine, theirs = self.label_rules, other.label_rules
        for rule, values in mine.items():
            if theirs[rule] != values:
                name = "classes" if rule == "names" else rule
                raise _difference(others, theirs[rule], own, values, name, remedy)


def _difference(
    others: str, theirs: Any, own: str, mine: Any, values: str, remedy: str
) -> ValueError:
    return ValueError(f"{others} has {values} {theirs}, but {own} has {mine}; {remedy}")


def _names(values: Any, argument: str) -> tuple[str, ...]:
    is_list = not isinstance(values, str | Mapping) and isinstance(values, Sequence)
    if not is_list or not values or not all(isinstance(v, str) and v for v in values):
        raise ValueError(f"{argument} must be a list of texts, got {values!r}")
    return tuple(values)


def _group(value: ClassGroup | Mapping[str, Any] | Sequence[str]) -> ClassGroup:
    if isinstance(value, ClassGroup):
        return value
    if not isinstance(value, Mapping):
        return ClassGroup(_names([value] if isinstance(value, str) else value, "a group"))
    try:
        return ClassGroup(**value)
    except TypeError as error:
        raise ValueError(f"a group of classes has the keys of ClassGroup: {error}") from error


def _attributes(values: Any, name: str) -> tuple[str, str]:
    is_pair = not isinstance(values, str) and isinstance(values, Sequence) and len(values) == 2
    if not is_pair or not all(isinstance(value, str) for value in values):
        raise ValueError(
            f"attributes of {name} must be two texts, at rest and moving, got {values!r}"
        )
    return tuple(values)


def _range(value: Any, name: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < float("inf"):
        raise ValueError(f"the range of {name} must be a positive number of metres, got {value!r}")
    return float(value)


_VEHICLE = ("vehicle.parked", "vehicle.moving")
_CYCLE = ("cycle.without_rider", "cycle.with_rider")
#: The ten classes of nuScenes' detection task with CenterPoint's six groups (arXiv:2006.11275), the
#: suppression of the release, and the ranges of the benchmark (docs/model.md, "Head, targets,
#: decoding").
NUSCENES_CLASSES = ClassSet(
    names=(
        "car",
        "truck",
        "construction_vehicle",
        "bus",
        "trailer",
        "barrier",
        "motorcycle",
        "bicycle",
        "pedestrian",
        "traffic_cone",
    ),
    groups=(
        ClassGroup(("car",)),
        ClassGroup(("truck", "construction_vehicle"), dim_scale=(0.7, 0.7)),
        ClassGroup(("bus", "trailer"), dim_scale=(0.4, 0.55)),
        ClassGroup(("barrier",), center_distance=1.0),
        ClassGroup(("motorcycle", "bicycle")),
        ClassGroup(("pedestrian", "traffic_cone"), iou_threshold=0.5, dim_scale=(4.5, 9.0)),
    ),
    categories={
        "car": ("vehicle.car",),
        "truck": ("vehicle.truck",),
        "construction_vehicle": ("vehicle.construction",),
        "bus": ("vehicle.bus.bendy", "vehicle.bus.rigid"),
        "trailer": ("vehicle.trailer",),
        "barrier": ("movable_object.barrier",),
        "motorcycle": ("vehicle.motorcycle",),
        "bicycle": ("vehicle.bicycle",),
        "pedestrian": (
            "human.pedestrian.adult",
            "human.pedestrian.child",
            "human.pedestrian.construction_worker",
            "human.pedestrian.police_officer",
        ),
        "traffic_cone": ("movable_object.trafficcone",),
    },
    attributes={
        "car": _VEHICLE,
        "truck": _VEHICLE,
        "construction_vehicle": _VEHICLE,
        "bus": ("vehicle.stopped", "vehicle.moving"),
        "trailer": _VEHICLE,
        "motorcycle": _CYCLE,
        "bicycle": _CYCLE,
        "pedestrian": ("pedestrian.standing", "pedestrian.moving"),
    },
    static_attributes=(
        "vehicle.parked",
        "vehicle.stopped",
        "cycle.without_rider",
        "pedestrian.standing",
        "pedestrian.sitting_lying_down",
    ),
    ranges={
        "motorcycle": 40.0,
        "bicycle": 40.0,
        "pedestrian": 40.0,
        "barrier": 30.0,
        "traffic_cone": 30.0,
    },
)

#: Split -> ending of the names of the versions that it belongs to. The version cannot be derived
#: from the scenes, since versions share some: v1.0-mini has scenes of ``train`` and of ``val``.
OFFICIAL_SPLITS = {
    "train": "trainval",
    "val": "trainval",
    "train_detect": "trainval",
    "train_track": "trainval",
    "mini_train": "mini",
    "mini_val": "mini",
    "test": "test",
}
#: The two halves of ``train``. All other splits of a version are disjoint.
TRAIN_HALVES = ("train_detect", "train_track")


def check_split_name(name: str, where: str) -> None:
    """Checks the name of a split that is not nuScenes' own.

    Args:
        name: name of the split; its index has the same name.
        where: the file or the option that it comes from, for the message.

    Raises:
        ValueError: it is the name of an official split, whose scenes it would not mean, or no plain
            file name.
    """
    if name in OFFICIAL_SPLITS:
        raise ValueError(f"{where}: {name!r} is an official split of nuScenes; choose another name")
    if not name or name in (".", "..") or set(name) & set("/\\"):
        raise ValueError(
            f"{where}: split {name!r} is used as a file name: it must not be empty or a path"
        )
