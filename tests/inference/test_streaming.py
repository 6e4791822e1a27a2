"""A stream gives the model's results on all frames of a sample and computes each frame once."""

from types import SimpleNamespace

import pytest
import torch
from stream_cases import IMAGE_SIZE, NUM_CAMERAS, Passes, Scene, small_model

from fsdbev.inference.streaming import StreamingPredictor, can_stream
from fsdbev.modeling import FSDBEV, ForegroundBranch


class Compared:
    """A stream and its model; each call compares their results.

    For a batch of several samples only the head's maps are compared, because rounding may change
    the order of the boxes.
    """

    def __init__(self, model, **options):
        self.model = model
        self.stream = StreamingPredictor(model, **options)
        self.passes = Passes(model)
        self._maps = []
        model.head.register_forward_hook(self._keep_maps)

    def _keep_maps(self, head, args, maps):
        self._maps.append(torch.cat([m.flatten() for task in maps for m in task.values()]))

    def __call__(self, *samples, given=None):
        """Returns the number of frames that the stream's image branch processed."""
        self._maps = []
        with torch.no_grad():
            expected = self.model(list(samples))
        self.passes.take()
        found = self.stream([{**s, "images": s["images"][:given]} for s in samples])
        count = self.passes.take()
        expected_maps, maps = self._maps
        torch.testing.assert_close(maps, expected_maps, rtol=1e-4, atol=1e-5)
        if len(samples) == 1:
            assert_same(found[0]["instances"], expected[0]["instances"])
        assert len(found) == len(samples)
        return count


def assert_same(found, expected):
    assert len(found) == len(expected) > 10
    assert torch.equal(found.pred_boxes_3d.tensor, expected.pred_boxes_3d.tensor)
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.pred_classes, expected.pred_classes)


@pytest.fixture
def two_frames():
    return Compared(small_model())


@pytest.mark.parametrize(("num_frames", "spacing"), [(1, 1), (2, 1), (2, 4), (3, 2)])
def test_every_frame_of_a_scene_once(num_frames, spacing):
    run = Compared(small_model(f"model.num_frames={num_frames}"), frame_spacing=spacing)
    scene = Scene("a", num_frames=num_frames, spacing=spacing)
    assert [run(scene.sample(n)) for n in range(7)] == [1] * 7


def test_a_model_without_enhancement():
    model = small_model(file="ablations/baseline.py")
    assert isinstance(model.msfe, ForegroundBranch)
    run = Compared(model)
    assert [run(Scene("a").sample(n)) for n in range(3)] == [1, 1, 1]


def drive(*numbers):
    """Returns batches of one sample each: key frames of scene a."""
    return [[("a", number)] for number in numbers]


#: (options, batches, numbers of computed frames). A batch lists scene and key frame of its samples,
#: and the other frames if they are not the previous ones.
DRIVES = {
    "starts in the middle": ({}, drive(5, 6, 7), [2, 1, 1]),
    # Only key frames are kept: the other two are available after two samples.
    "three frames start in the middle": ({"num_frames": 3}, drive(5, 6, 7, 8), [3, 2, 1, 1]),
    "linked across a gap": ({}, [*drive(0, 1), [("a", 3, [1])], *drive(4)], [1, 1, 1, 1]),
    "frame not of the stream": ({}, [*drive(0, 1), [("a", 3, [2])], *drive(4)], [1, 1, 2, 1]),
    "key frame replaces": ({}, [*drive(0, 1), [("a", 3, [3])], *drive(4)], [1, 1, 1, 1]),
    # Frame 5 needs frame 3, which was never processed.
    "gap": ({"spacing": 2}, drive(0, 1, 2, 4, 5, 6, 7), [1, 1, 1, 1, 2, 1, 1]),
    "jumps": ({}, drive(3, 4, 9, 10, 2, 3, 4, 5), [2, 1, 2, 1, 2, 1, 1, 1]),
    "repeated sample": ({}, drive(0, 1, 1, 1, 2), [1] * 5),
    "repeated frame": ({"num_frames": 3}, [[("a", 4, [3, 3])], [("a", 5, [4, 4])]], [2, 1]),
    "interleaved scenes": ({}, [[(name, n)] for n in range(3) for name in "abc"], [1] * 9),
    # Scene c replaces b, which was used before a.
    "least recently used scene": (
        {"max_scenes": 2},
        [[(name, n)] for name, n in zip("abacabac", (0, 0, 0, 0, 1, 1, 2, 1), strict=True)],
        [1, 1, 0, 1, 1, 2, 1, 2],
    ),
    # More scenes than are usually kept, in changing order.
    "batch of scenes": (
        {},
        [[(s, 0) for s in "abcdef"], [(s, 1) for s in "fedcba"], [("a", 2), ("c", 5)], [("c", 6)]],
        [6, 6, 3, 1],
    ),
    # A key frame that is an earlier frame of another sample is computed once, in any order.
    "batch of one scene": (
        {},
        [[("a", n) for n in batch] for batch in ((0, 1, 2), (3, 4, 5), (8, 7, 6), (8, 8))],
        [3, 3, 3, 2],  # frame 6 was the last one of its batch: 7 and 8 are dropped
    ),
}


@pytest.mark.parametrize(("options", "batches", "counts"), DRIVES.values(), ids=DRIVES)
def test_frames_computed_for_a_drive(options, batches, counts):
    num_frames, spacing = options.get("num_frames", 2), options.get("spacing", 1)
    model = small_model(f"model.num_frames={num_frames}")
    run = Compared(model, frame_spacing=spacing, max_scenes=options.get("max_scenes", 4))
    found = []
    for batch in batches:
        scenes = [Scene(name, num_frames=num_frames, spacing=spacing) for name, *_ in batch]
        links = [rest[0] if rest else None for _, _, *rest in batch]
        numbers = [number for _, number, *_ in batch]
        samples = zip(scenes, numbers, links, strict=True)
        found.append(run(*(scene.sample(n, earlier=link) for scene, n, link in samples)))
    assert found == counts


def test_tokens_of_frames_and_scenes(two_frames):
    a, b = Scene("a").sample(0), Scene("b").sample(0)
    a["frame_tokens"] = b["frame_tokens"] = ["x", "x"]  # equal tokens in different scenes
    assert [two_frames(a), two_frames(b), two_frames(a, b)] == [1, 1, 0]
    scene = Scene("c")
    without_tokens = [scene.sample(n) for n in (0, 1, 2)]
    for sample in without_tokens:
        del sample["frame_tokens"]
    assert [two_frames(sample) for sample in without_tokens] == [2, 2, 2]
    assert two_frames(without_tokens[1], scene.sample(1)) == 4
    assert two_frames(without_tokens[2], scene.sample(2)) == 3
    without_scene = [scene.sample(n) for n in range(3)]
    for sample in without_scene:
        del sample["scene_token"]
    assert [two_frames(sample) for sample in without_scene] == [1, 1, 1]  # all of one scene


def test_other_images_with_a_known_token(two_frames):
    """With another augmentation, for example: images are compared as well as tokens."""
    scene = Scene("a")
    changed = [scene.sample(n) for n in (1, 1, 2)]
    two_frames(scene.sample(0))
    changed[0]["images"][1, 0, 0, 0, 0] ^= 1
    assert two_frames(changed[0]) == 2
    assert two_frames(scene.sample(1)) == 1  # its previous frame was dropped, its key frame not
    changed[2]["images"] = changed[2]["images"].float()
    assert two_frames(changed[2]) == 2
    two_frames(scene.sample(5))
    changed[1]["images"][0] += 1
    assert two_frames(changed[1], scene.sample(2)) == 4


def test_samples_without_the_images_of_earlier_frames():
    run = Compared(small_model("model.num_frames=3"))
    scene = Scene("a", num_frames=3)
    assert run(scene.sample(0), given=1) == 1  # the key frame replaces the others
    assert [run(scene.sample(n), given=1) for n in (1, 2, 3)] == [1, 1, 1]
    assert run(scene.sample(5), scene.sample(4), given=1) == 2
    assert run(scene.sample(7), given=2) == 2


def test_missing_images_that_are_needed(two_frames):
    stream, scene = two_frames.stream, Scene("a")
    with pytest.raises(
        ValueError,
        match="sample 'a-4' has images of 1 of 2 frames, and the stream has no frame 'a-3' of "
        "scene 'a' .* give its images too",
    ):
        stream([scene.sample(4, given=1)])
    stream([scene.sample(3)])
    other = scene.sample(4, given=1)
    other["image_aug"] = other["image_aug"] + 1e-6
    with pytest.raises(ValueError, match="no frame 'a-3'"):
        stream([other])
    smaller = scene.sample(4, given=1)
    smaller["images"] = smaller["images"][..., :32]
    with pytest.raises(ValueError, match="no frame 'a-3'"):
        stream([smaller])
    assert two_frames(scene.sample(4), given=1) == 1
    without_tokens = scene.sample(5, given=1)
    del without_tokens["frame_tokens"]
    with pytest.raises(ValueError, match="no frame None"):
        stream([without_tokens])


def test_samples_may_be_overwritten_or_arrays(two_frames):
    scene = Scene("a")
    sample = scene.sample(0)
    two_frames(sample)
    sample["images"].zero_()
    sample["image_aug"].zero_()
    assert two_frames(scene.sample(1), given=1) == 1
    for n in (2, 3):
        arrays = {k: v.numpy() if torch.is_tensor(v) else v for k, v in scene.sample(n).items()}
        arrays["ego2global"] = torch.from_numpy(arrays["ego2global"])
        assert two_frames(arrays) == 1


def load_same(model):
    model.load_state_dict(model.state_dict())


def assign(model):
    state = small_model(seed=1).state_dict()
    model.load_state_dict(state, assign=True)


def step(model):
    torch.optim.SGD(model.parameters(), lr=0.0).step()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    torch.optim.SGD(model.parameters(), lr=1e-3).step()


def average(model):
    with torch.no_grad():
        torch._foreach_lerp_(list(model.parameters()), [p + 1 for p in model.parameters()], 1e-3)


def statistics(model):
    model.backbone.bn1.running_mean += 0.1


def convert(model):
    model.double().float()


@pytest.mark.parametrize("change", [load_same, assign, step, average, statistics, convert])
def test_a_change_of_the_weights_drops_all_frames(two_frames, change):
    scene = Scene("a")
    two_frames(scene.sample(0))
    change(two_frames.model)
    assert two_frames(scene.sample(1)) == 2
    assert two_frames(scene.sample(2)) == 1


def test_training_or_a_reset_drops_all_frames(two_frames):
    stream, scene = two_frames.stream, Scene("a")
    two_frames(scene.sample(0))
    assert stream.training is two_frames.model.training is False
    names = {f"model.{name}" for name in two_frames.model.state_dict()}
    assert set(stream.state_dict()) == names
    stream.train()
    assert two_frames.model.training
    with pytest.raises(ValueError, match="training mode"):
        stream([scene.sample(1)])
    stream.eval()
    assert two_frames(scene.sample(1)) == 2
    two_frames.model.train()
    with pytest.raises(ValueError, match="training mode"):
        stream([scene.sample(2)])
    two_frames.model.eval()
    stream.reset()
    assert two_frames(scene.sample(2)) == 2


def test_half_precision(two_frames):
    """Features are kept in autocast's precision and not used in another one."""
    scene = Scene("a")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert [two_frames(scene.sample(n)) for n in range(3)] == [1, 1, 1]
    assert two_frames(scene.sample(3)) == 2
    with torch.autocast("cpu", dtype=torch.float16):
        assert two_frames(scene.sample(4)) == 2
        assert two_frames(scene.sample(5)) == 1


def test_channels_last(two_frames):
    run = Compared(small_model().to(memory_format=torch.channels_last))
    scene = Scene("a")
    assert [run(scene.sample(n)) for n in range(3)] == [1, 1, 1]
    assert run(scene.sample(3), scene.sample(4)) == 2


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_no_autograd_graph_is_kept(two_frames, mode):
    scene = Scene("a")
    with mode():
        outputs = two_frames.stream([scene.sample(0)])
    assert not outputs[0]["instances"].scores.requires_grad
    (kept,) = two_frames.stream._scenes["a"].values()
    assert not kept.features.features.requires_grad
    assert two_frames(scene.sample(1)) == 1  # usable in another mode


@pytest.mark.parametrize("batch_size", [1, 3])
def test_memory_is_bounded(batch_size):
    """Only the frames that later samples can use are kept, in storages of their own size."""
    stream = StreamingPredictor(small_model("model.num_frames=3"), frame_spacing=2, max_scenes=3)
    scenes = [Scene(name, num_frames=3, spacing=2) for name in "abcd"]
    samples = [scene.sample(n) for scene in scenes for n in range(7)]
    for start in range(0, len(samples), batch_size):
        stream(samples[start : start + batch_size])
    assert list(stream._scenes) == ["b", "c", "d"]
    assert [list(s) for s in stream._scenes.values()] == [
        [f"{name}-{n}" for n in (3, 4, 5, 6)] for name in "bcd"
    ]
    size = IMAGE_SIZE[0] * IMAGE_SIZE[1] // 16**2
    for kept in (frame for scene in stream._scenes.values() for frame in scene.values()):
        assert kept.features.logits is None
        storages = [kept.images, kept.features.features, kept.features.foreground]
        assert [x.untyped_storage().nbytes() for x in storages] == [
            NUM_CAMERAS * 3 * IMAGE_SIZE[0] * IMAGE_SIZE[1],
            NUM_CAMERAS * 6 * size * 4,
            NUM_CAMERAS * size * 4,
        ]


@pytest.mark.parametrize("seed", range(4))
def test_random_walks(seed):
    """Any samples in any order and batch give the model's results, with at most as many passes."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*choices):
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    num_frames, spacing = draw(1, 2, 3), draw(1, 2)
    model = small_model(f"model.num_frames={num_frames}", seed=seed)
    run = Compared(model, frame_spacing=spacing, max_scenes=draw(1, 2, 3))
    scenes = [Scene(name, num_frames=num_frames, spacing=spacing) for name in "abc"]
    position = dict.fromkeys("abc", 0)
    for _ in range(6):
        batch = []
        for _ in range(draw(1, 1, 2, 3)):
            scene = draw(*scenes)
            number = max(0, position[scene.name] + draw(1, 1, 1, 1, 0, 2, 5, -2))
            position[scene.name] = number
            links = draw(None, None, None, [draw(0, 1, number) for _ in range(num_frames - 1)])
            batch.append(scene.sample(number, earlier=links))
        assert run(*batch) <= num_frames * len(batch)


def test_models_that_can_be_streamed():
    class Other(FSDBEV):
        def forward(self, batched_inputs):
            return super().forward(batched_inputs)

    assert can_stream(small_model()) and not can_stream(torch.nn.Linear(1, 1))
    other = small_model()
    other.__class__ = Other
    assert not can_stream(other)
    with pytest.raises(ValueError, match="Other cannot be streamed"):
        StreamingPredictor(other)
    for options in ({"frame_spacing": 0}, {"max_scenes": 0}):
        with pytest.raises(ValueError, match="at least 1, got"):
            StreamingPredictor(small_model(), **options)


def test_samples_of_other_shapes(two_frames):
    stream, scene = two_frames.stream, Scene("a")
    three = Scene("a", num_frames=3).sample(3)
    with pytest.raises(ValueError, match=r"takes 2 frames, but frame_tokens .*'a-3', 'a-2', 'a-1'"):
        stream([three])
    narrow = scene.sample(0)
    narrow["images"] = narrow["images"][..., :32]
    with pytest.raises(ValueError, match="agree in image size, but .* load them with one mapper"):
        stream([narrow, Scene("b").sample(0)])


def test_the_model_accepts_features_instead_of_images(two_frames):
    model, samples = two_frames.model, [Scene("a").sample(1), Scene("b").sample(2)]
    images = model.stack_images(samples)
    with torch.no_grad():
        features = [model.extract_image_features(images[t]) for t in range(2)]
        sizes_only = [{**s, "images": SimpleNamespace(shape=s["images"].shape)} for s in samples]
        found, expected = model(sizes_only, image_features=features), model(samples)
    for a, b in zip(found, expected, strict=True):
        assert_same(a["instances"], b["instances"])
