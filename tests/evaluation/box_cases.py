"""Arrays of boxes for tests of the metrics."""

import numpy as np

from fsdbev.evaluation.box_arrays import BoxArrays


def boxes(xy, sample=0, class_id=0, score=0.0):
    """Returns boxes of size 1 at ``xy``; the other arguments are one value or one per box."""
    xy = np.asarray(xy, float).reshape(-1, 2)
    count = len(xy)
    return BoxArrays(
        sample=np.broadcast_to(np.asarray(sample, np.int64), count),
        class_id=np.broadcast_to(np.asarray(class_id, np.int64), count),
        center=np.pad(xy, ((0, 0), (0, 1))),
        size=np.ones((count, 3)),
        rotation=np.tile([1.0, 0, 0, 0], (count, 1)),
        velocity=np.zeros((count, 2)),
        attribute=np.zeros(count, np.int64),
        score=np.broadcast_to(np.asarray(score, float), count),
    )
