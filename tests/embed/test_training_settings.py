"""The schedule of a training that is judged late, and whose rate falls where the loss does."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from unpaired.embed.checkpoint import Checkpoint
from unpaired.embed.training import train_ensemble
from unpaired.embed.training_settings import TrainingSettings
from unpaired.errors import UnpairedError

RATE = 0.1


def settings(**changes):
    common = {"epochs": 12, "batch": 1, "rate": RATE, "decay": 0.0, "optimizer": "rmsprop", "patience": 1000}
    return TrainingSettings(**(common | {"plateau": 2} | changes))


class Told:
    """One number that is drawn down all the time; its validation losses are told beforehand."""

    steps = 1

    def __init__(self, losses, stop=None):
        self.net = nn.ParameterDict({"a": nn.Parameter(torch.zeros(1))})
        self.players = (self.net,)
        self.values, self.losses, self.stop = [0.0], losses, stop

    def batches(self, epoch):
        if epoch == self.stop:
            raise KeyError(epoch)
        self.epoch = epoch
        yield 0

    def loss(self, batch, player):
        return self.net["a"].sum()

    def validate(self):
        self.values.append(self.net["a"].item())
        return torch.tensor([self.losses[self.epoch]])


def play(task, checkpoint=None, **changes):
    own = settings(**({"epochs": len(task.losses)} | changes))
    return train_ensemble(task, own, device="cpu", seed=0, progress=False, checkpoint=checkpoint)


def test_rmsprop_makes_the_steps_of_torch():
    task = Told([3.0, 2.0, 1.0])
    play(task)
    a = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.RMSprop([a], lr=RATE)
    expected = [0.0]
    for _ in range(3):
        optimizer.zero_grad()
        a.sum().backward()
        optimizer.step()
        expected.append(a.item())
    assert task.values == expected


def test_a_plateau_divides_the_rate_by_ten():
    own = settings()
    assert own.rate_after([]) == RATE
    assert own.rate_after([2.0, 1.0, 1.0, 1.0]) == RATE  # two epochs without improvement are waited for
    assert math.isclose(own.rate_after([2.0, 1.0, 1.0, 1.0, 1.0]), RATE / 10)
    assert math.isclose(own.rate_after([1.0] * 4 + [0.5] * 3), RATE / 10)
    assert math.isclose(own.rate_after([1.0] * 7), RATE / 100)
    assert math.isclose(own.rate_after([-1.0, -1.00001, -1.00002, -1.00003]), RATE / 10)  # too small to be noticed
    assert settings(plateau=None).rate_after([1.0] * 20) == RATE


def test_the_burn_in_is_no_plateau():
    own = settings(burn_in=5)
    assert own.rate_after([1.0] * 8) == RATE
    assert math.isclose(own.rate_after([1.0] * 9), RATE / 10)
    assert own.rate_after([0.0] * 5 + [3.0, 2.0, 1.0]) == RATE


def test_the_rate_that_the_settings_say_is_the_one_that_is_used():
    task = Told([1.0] * 8)
    play(task, optimizer="adam")  # whose first steps are as long as the rate
    steps = -np.diff(task.values)
    np.testing.assert_allclose(steps, [RATE] * 4 + [RATE / 10] * 3 + [RATE / 100], rtol=1e-3)


def test_no_epoch_of_the_burn_in_is_kept():
    task = Told([0.0, 0.0, 0.0, 9.0, 8.0, 9.0])
    play(task, burn_in=3)
    assert task.net["a"].item() == pytest.approx(task.values[5])


def test_the_burn_in_does_not_count_for_patience():
    losses = [0.0] + [5.0] * 5 + [4.0] + [6.0] * 9
    assert len(play(Told(losses), burn_in=6, patience=3)) == 10
    assert len(play(Told(losses), burn_in=0, patience=3)) == 4


def test_a_burn_in_that_never_ends_leaves_the_last_epoch():
    task = Told([1.0, 2.0, 3.0])
    play(task, burn_in=100)
    assert task.net["a"].item() == task.values[-1] != 0.0


@pytest.mark.parametrize("stop", [2, 5, 7])
def test_a_stopped_training_goes_on_with_the_rate_that_it_had(tmp_path, stop):
    losses = [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0]
    whole = Told(losses)
    history = play(whole, burn_in=1)
    checkpoint = Checkpoint(tmp_path / "state", {"a": 1}, every=0.0)
    with pytest.raises(KeyError):
        play(Told(losses, stop=stop), checkpoint, burn_in=1)
    again = Told(losses)
    assert play(again, checkpoint, burn_in=1) == history
    assert again.values[1:] == whole.values[1 + stop :]
    assert again.net["a"].item() == whole.net["a"].item()


def test_losses_that_are_not_finite_end_in_advice():
    with pytest.raises(UnpairedError, match="smaller learning rate"):
        play(Told([1.0, math.nan]), burn_in=2)
