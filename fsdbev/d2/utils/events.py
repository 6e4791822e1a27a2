"""``detectron2.utils.events``, or its built-in replacement."""

from fsdbev.d2 import BACKEND

if BACKEND == "detectron2":
    from detectron2.utils.events import (
        EventStorage,
        EventWriter,
        TensorboardXWriter,
        get_event_storage,
        has_event_storage,
    )
else:
    from fsdbev.d2._builtin.events import (
        EventStorage,
        EventWriter,
        TensorboardXWriter,
        get_event_storage,
        has_event_storage,
    )

__all__ = [
    "EventStorage",
    "EventWriter",
    "TensorboardXWriter",
    "get_event_storage",
    "has_event_storage",
]
