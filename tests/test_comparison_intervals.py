"""tools/comparison: 95 % intervals over seeds and scenes, and the plot that shows them."""

import statistics

import numpy as np
import pytest
from comparison import plot
from comparison.bootstrap import interval


def test_interval_over_seeds_and_draws():
    def run(mean, *draws):
        return {"metrics": {"mAP": mean}, "draws": {"mAP": " ".join(map(str, draws))}}

    draws = [0.4, 0.6] * 100
    one = {"0": run(0.5, *draws)}
    found = interval(one, "mAP")
    assert found == {"mean": 0.5, "half": pytest.approx(1.96 * 0.1, rel=1e-3), "seeds": ["0"]}
    # A shift that all draws share is certain, however wide the draws are.
    shifted = {"0": run(0.6, *(d + 0.1 for d in draws)), "1": run(0.9, *draws)}
    found = interval(shifted, "mAP", one)
    assert found["mean"] == pytest.approx(0.1) and found["half"] == pytest.approx(0, abs=1e-9)
    assert found["seeds"] == ["0"] and interval({"2": one["0"]}, "mAP", one) is None
    # Seeds that differ: t of three degrees of freedom is 3.182.
    seeds = {str(s): run(v, *[v] * 50) for s, v in enumerate((0.1, 0.2, 0.3, 0.4))}
    found = interval(seeds, "mAP")
    expected = 3.182 * statistics.stdev((0.1, 0.2, 0.3, 0.4)) / 2
    assert (found["mean"], found["half"]) == (
        pytest.approx(0.25),
        pytest.approx(expected, rel=1e-3),
    )


def test_the_interval_covers_the_truth():
    """Of means of seeds and scenes around 0, 95 % of the intervals have 0 inside."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        scene = rng.normal(0, 0.02)  # what all seeds share: the draws spread around the mean
        found = {
            str(seed): {
                "metrics": {"mAP": mean},
                "draws": {"mAP": " ".join(map(str, mean + spread))},
            }
            for spread in [rng.normal(0, 0.02, 100)]
            for seed, mean in enumerate(scene + rng.normal(0, 0.02, 3))
        }
        value = interval(found, "mAP")
        inside += abs(value["mean"]) < value["half"]
    assert 0.93 < inside / 400 <= 1.0


def test_plot_of_every_seed_in_the_given_order():
    def found(mean):
        return {"mean": mean, "half": 0.1}

    configs = [
        {
            "name": name,
            "values": {"mAP": values, "NDS": [2 * value for value in values]},
            "intervals": {"mAP": found(0.2), "NDS": found(0.4)},
        }
        for name, values in (("a", [0.1, 0.3]), ("b", [0.2]))
    ]
    settings = {"iterations": 40, "batch": 2, "data": "v1.0-synth"}
    content = {"configs": configs, "pairs": [], "settings": settings}
    left, right = plot.draw(content).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["a", "b"]
    assert left.yaxis_inverted()  # the first is on top
    for axes, factor in ((left, 1), (right, 2)):
        dots = [dots.get_offsets().tolist() for dots in axes.collections[::2]]
        assert dots == [
            [[pytest.approx(10 * factor), 0], [pytest.approx(30 * factor), 0]],
            [[pytest.approx(20 * factor), 1]],
        ]
        [[start, end]] = axes.collections[1].get_segments()
        assert end[0] - start[0] == pytest.approx(20)
    content["pairs"] = [{"name": "b", "over": "a", "mAP": found(0.05), "NDS": None}]
    figure = plot.draw(content)
    assert [label.get_text() for label in figure.axes[2].get_yticklabels()] == ["b over a"]
    assert [text.get_text() for text in figure.axes[2].texts] == ["+5.0"]
