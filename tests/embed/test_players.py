"""Players: parts of one network that learn in turn, each by its own loss; and whoever watches."""

import numpy as np
import pytest
import torch
from torch import nn

from unpaired.embed.checkpoint import Checkpoint
from unpaired.embed.training import TrainingSettings, train_ensemble

EPOCHS = 4


class Game:
    """Two numbers: the first is drawn to the second plus one, the second away from the first."""

    steps = 2

    def __init__(self, stop=None):
        self.net = nn.ParameterDict({"a": nn.Parameter(torch.zeros(1)), "b": nn.Parameter(torch.full((1,), 3.0))})
        one, two = nn.ParameterList([self.net["a"]]), nn.ParameterList([self.net["b"]])
        self.players = (one, two)
        self.asked, self.dtypes, self.stop = [], set(), stop

    def batches(self, epoch):
        if epoch == self.stop:
            raise KeyError(epoch)
        yield from range(self.steps)

    def loss(self, batch, player):
        a, b = self.net["a"], self.net["b"]
        self.asked.append((player, float(a.detach()), float(b.detach())))
        self.dtypes.add((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
        gap = ((a - b - 1) ** 2).sum()
        return gap if player == 0 else -gap

    def validate(self):
        return (self.net["a"] - 10).abs().detach()


def play(task, **more):
    settings = {"epochs": EPOCHS, "batch": 1, "rate": 0.1, "decay": 0.0, "optimizer": "adam", "patience": 1000}
    keys = TrainingSettings.__dataclass_fields__
    own = {k: more.pop(k) for k in list(more) if k in keys}
    return train_ensemble(task, TrainingSettings(**(settings | own)), device="cpu", seed=0, progress=False, **more)


def test_players_take_turns_and_each_moves_only_its_own_part():
    game = Game()
    play(game)
    assert [p for p, _, _ in game.asked] == [0, 1] * Game.steps * EPOCHS
    for (_, a0, b0), (_, a1, b1) in zip(game.asked[::2], game.asked[1::2], strict=True):
        assert a1 > a0  # the first is drawn up to b + 1 before the second is asked
        assert b1 == b0
    for (_, a1, b1), (_, a2, b2) in zip(game.asked[1::2], game.asked[2::2], strict=False):
        assert a2 == a1
        assert b2 > b1  # away: its gradient is its own loss's, without what the first's left behind


def test_a_game_that_was_stopped_goes_on_as_if_it_had_not(tmp_path):
    whole = Game()
    history = play(whole)
    checkpoint = Checkpoint(tmp_path / "state", {"a": 1}, every=0.0)
    with pytest.raises(KeyError):
        play(Game(stop=2), checkpoint=checkpoint)
    again = Game()
    assert play(again, checkpoint=checkpoint) == history
    assert checkpoint.found
    assert again.asked == whole.asked[2 * 2 * Game.steps :]


def test_the_schedule_can_move_by_epoch():
    rates = {}
    for cycle in ("step", "epoch"):
        seen = []

        class Watched(Game):
            def loss(self, batch, player, seen=seen):
                if player == 0:
                    seen.append(float(self.net["a"].detach()))
                return super().loss(batch, player)

        play(Watched(), cycle=cycle, epochs=40)
        rates[cycle] = np.diff(seen)
    # Adam's first steps are as long as the rate, which starts at a 25th of the largest and stays for an epoch.
    assert np.isclose(rates["epoch"][0], 0.1 / 25, rtol=1e-3)
    assert np.isclose(rates["epoch"][1] / rates["epoch"][0], 1, atol=0.2)
    assert rates["step"][1] / rates["step"][0] > 1.5


def test_losses_can_be_of_low_precision_and_validation_is_not():
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        game = Game()
        play(game, precision=precision)
        assert game.dtypes == {dtype}
        assert game.net["a"].dtype == torch.float32


def test_whoever_watches_sees_every_epoch_as_it_was_left():
    game, seen = Game(), []
    history = play(game, watch=lambda epoch, losses: seen.append((epoch, float(losses[0]), float(game.net["a"]))))
    assert [e for e, _, _ in seen] == list(range(EPOCHS))
    assert [loss for _, loss, _ in seen] == history
    assert all(abs(abs(a - 10) - loss) < 1e-6 for _, loss, a in seen)
