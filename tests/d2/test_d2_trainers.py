"""Options of SimpleTrainer and AMPTrainer. Runs on the built-in and on Detectron2."""

import pytest
import torch
from torch import nn

from fsdbev.d2 import BACKEND
from fsdbev.d2.engine import AMPTrainer, HookBase, SimpleTrainer, hooks
from fsdbev.d2.utils.events import EventStorage, EventWriter, get_event_storage

only_builtin = pytest.mark.skipif(BACKEND != "builtin", reason="differs in Detectron2")
needs_amp = pytest.mark.skipif(
    BACKEND == "detectron2" and not torch.cuda.is_available(), reason="Detectron2's needs a GPU"
)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Line(nn.Module):
    """Model with the loss w * batch; records at each forward pass whether w has a gradient."""

    def __init__(self, single=False):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.0))
        self.single = single
        self.had_gradient = []

    def forward(self, batch):
        self.had_gradient.append(self.w.grad is not None)
        loss = self.w * batch
        return loss if self.single else {"loss_a": loss, "loss_b": 0 * loss}


def trainer_of(batches, kind=SimpleTrainer, model=None, **options):
    model = (model or Line()).to(DEVICE if kind is AMPTrainer else "cpu")
    return kind(model, batches, torch.optim.SGD(model.parameters(), lr=0.5), **options)


def iterations(trainer, name):
    return [iteration for _, iteration in trainer.storage.history(name).values()]


def test_losses_are_stored_periodically():
    trainer = trainer_of([1.0] * 7, gather_metric_period=3)
    trainer.train(0, 7)
    for name in ("total_loss", "loss_a", "data_time", "rank_data_time"):
        assert iterations(trainer, name) == [2, 5]
    assert trainer.model.w.item() == -2.5  # every iteration changes it


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("kind", [SimpleTrainer, pytest.param(AMPTrainer, marks=needs_amp)])
def test_gradients_are_reset_before_or_after_the_forward_pass(kind, before):
    trainer = trainer_of([1.0] * 3, kind, zero_grad_before_forward=before)
    trainer.train(0, 3)
    assert trainer.model.had_gradient == [False, not before, not before]
    assert trainer.model.w.item() == -0.5  # gradients do not accumulate


def test_losses_stored_by_a_thread():
    class Writer(EventWriter):
        def write(self):
            get_event_storage().latest()

    trainer = trainer_of([1.0] * 5, async_write_metrics=True)
    trainer.register_hooks([hooks.PeriodicWriter([Writer()], 1)])
    trainer.train(0, 5)
    assert iterations(trainer, "total_loss") == [0, 1, 2, 3, 4]
    assert trainer.storage.history("total_loss").values()[1] == (0.5, 1)


@only_builtin
def test_an_error_of_the_thread_ends_the_training():
    ended = []
    trainer = trainer_of([1.0, float("nan"), 1.0, 1.0], async_write_metrics=True)
    trainer.register_hooks([hooks.CallbackHook(after_train=lambda t: ended.append(t.iter))])
    with pytest.raises(FloatingPointError, match="iteration=1"):
        trainer.train(0, 4)
    assert ended == [2]
    trainer = trainer_of([float("nan")], async_write_metrics=True)
    trainer.register_hooks([hooks.CallbackHook(after_train=lambda t: ended.append(t.iter))])
    with pytest.raises(FloatingPointError, match="iteration=0"):
        trainer.train(0, 1)  # of the last iteration
    assert ended == [2, 1]


@pytest.mark.parametrize("kind", [SimpleTrainer, pytest.param(AMPTrainer, marks=needs_amp)])
def test_a_model_may_return_a_single_loss(kind):
    trainer = trainer_of([1.0, 3.0], kind, Line(single=True))
    trainer.train(0, 2)
    assert trainer.storage.history("total_loss").values() == [(1.0, 0), (1.5, 1)]
    assert {n for n in trainer.storage.histories() if "loss" in n} == {"total_loss"}
    assert trainer.model.w.item() == -1


def test_the_data_loader_can_be_replaced():
    class Replace(HookBase):
        def after_step(self):
            if self.trainer.iter == 0:
                self.trainer.reset_data_loader(lambda: [5.0, 7.0])

    trainer = trainer_of([1.0, 2.0, 3.0])
    trainer.register_hooks([Replace()])
    trainer.train(0, 3)
    assert trainer.model.w.item() == 1 - (1 + 5 + 7) / 2
    assert trainer.data_loader == [5.0, 7.0]


def test_a_model_left_in_eval_mode_is_an_error():
    trainer = trainer_of([1.0, 1.0])
    trainer.register_hooks([hooks.CallbackHook(after_step=lambda t: t.model.eval())])
    with pytest.raises(AssertionError, match="eval mode"):
        trainer.train(0, 2)


def test_metrics_of_other_trainers():
    with EventStorage() as storage:
        losses = {"a": torch.tensor(1.0), "b": torch.tensor(2.0)}
        SimpleTrainer.write_metrics(losses, 0.25, 7, "second_")
    latest = {name: value for name, value in storage.latest().items()}
    assert latest == {
        "rank_data_time": (0.25, 7),
        "data_time": (0.25, 7),
        "second_total_loss": (3.0, 7),
        "a": (1.0, 7),
        "b": (2.0, 7),
    }


@needs_amp
def test_options_of_mixed_precision():
    model = Line().to(DEVICE)
    scaler = torch.amp.GradScaler(DEVICE, init_scale=4.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    trainer = AMPTrainer(model, [1.0] * 4, optimizer, 2, True, scaler, torch.bfloat16, True)
    assert (trainer.gather_metric_period, trainer.zero_grad_before_forward) == (2, True)
    assert (trainer.grad_scaler, trainer.precision) == (scaler, torch.bfloat16)
    trainer.train(0, 4)
    assert iterations(trainer, "total_loss") == [1, 3]
    assert trainer.storage.history("[metric]grad_scaler").values() == [(4.0, i) for i in range(4)]
    assert model.w.item() == -1
