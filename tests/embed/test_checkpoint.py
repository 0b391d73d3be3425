"""A training that is stopped at any moment and taken up again ends as if it had never been stopped."""

import json
import os
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional

from unpaired.embed import checkpoint as module
from unpaired.embed.checkpoint import Checkpoint, Progress, remove_checkpoint
from unpaired.embed.networks import MLP
from unpaired.embed.training import TrainingSettings, train_ensemble
from unpaired.errors import OutputError

EPOCHS = 10
MADE_OF = {"data": "abc", "seed": 0, "rate": 0.05}


class Killed(Exception):
    """Stands for whatever ends a process."""


class Regression:
    """Two members with all that has a state: dropout, batch normalisation, an order of their own in every epoch."""

    steps = 3

    def __init__(self, stop=None, start=0):
        generator = torch.Generator().manual_seed(start)
        self.net = MLP(
            members=2, n_in=4, n_out=2, hidden=5, layout="LBRD", dropout=0.3, linear=True, generator=generator
        )
        rng = np.random.default_rng(0)
        self.players = (self.net,)
        self.x = torch.as_tensor(rng.normal(size=(60, 4)), dtype=torch.float32)
        self.y = self.x[:, :2] ** 2 + torch.as_tensor(rng.normal(size=(60, 2)), dtype=torch.float32)
        self.stop = stop  # (epoch, batch) before which all ends
        self.epochs = []

    def batches(self, epoch):
        self.epochs.append(epoch)
        rng = np.random.default_rng([7, epoch])
        order = torch.as_tensor(np.stack([rng.permutation(45) for _ in range(2)]))
        for step in range(self.steps):
            if self.stop == (epoch, step):
                raise Killed
            yield order[:, step * 15 : (step + 1) * 15]

    def loss(self, batch, player):
        return functional.mse_loss(self.net(self.x[batch]), self.y[batch], reduction="sum") / batch.shape[1]

    def validate(self):
        x = self.x[45:].expand(2, -1, -1)
        return ((self.net(x) - self.y[45:]) ** 2).mean(dim=(1, 2))


def settings(**changes):
    kept = {"epochs": EPOCHS, "batch": 15, "rate": 0.05, "decay": 1e-2, "optimizer": "adamw", "patience": 1000}
    return TrainingSettings(**(kept | changes))


def train(task, checkpoint=None, **changes):
    history = train_ensemble(task, settings(**changes), device="cpu", seed=3, progress=False, checkpoint=checkpoint)
    return history, {k: v.clone() for k, v in task.net.state_dict().items()}


def keep(tmp_path, every=0.0, **made_of):
    return Checkpoint(tmp_path / "file", MADE_OF | made_of, every=every)


def killed(tmp_path, epoch, step=0, **changes):
    """Leave the file of a training that ended in an epoch."""
    with pytest.raises(Killed):
        train(Regression(stop=(epoch, step)), keep(tmp_path), **changes)
    return tmp_path / "file"


def assert_same(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for key, value in one[1].items():
        assert torch.equal(value, other[1][key]), key


def told(file):
    """How far the training of a file is; reading it fails unless it is whole."""
    with safe_open(file, framework="pt") as found:
        assert all(torch.isfinite(found.get_tensor(k)).all() for k in found.keys())  # noqa: SIM118
        return json.loads(found.metadata()["progress"])


# ------------------------------------------------------------------ the same end


@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
@pytest.mark.parametrize(("epoch", "step"), [(1, 0), (2, 1), (5, 2), (EPOCHS - 1, 0), (EPOCHS - 1, 2)])
def test_a_training_taken_up_ends_with_the_same_bits(tmp_path, optimizer, epoch, step):
    whole = train(Regression(), optimizer=optimizer)
    killed(tmp_path, epoch, step, optimizer=optimizer)
    again, checkpoint = Regression(start=99), keep(tmp_path)  # its own first weights must not matter
    assert_same(train(again, checkpoint, optimizer=optimizer), whole)
    assert checkpoint.found
    assert again.epochs == list(range(epoch, EPOCHS))
    assert len(whole[0]) == EPOCHS


def test_a_training_may_be_stopped_again_and_again(tmp_path):
    for epoch in (1, 2, 2, 6):
        killed(tmp_path, epoch, 1)
    assert_same(train(Regression(), keep(tmp_path)), train(Regression()))


def test_keeping_a_training_does_not_change_it(tmp_path):
    checkpoint = keep(tmp_path)
    assert_same(train(Regression(), checkpoint), train(Regression()))
    assert not checkpoint.found


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_patience_goes_on_where_it_was(tmp_path, stop):
    changes = {"patience": 3, "rate": 0.5, "epochs": 60}
    whole = train(Regression(), **changes)
    assert 7 < len(whole[0]) < 60
    killed(tmp_path, len(whole[0]) - stop, **changes)
    assert_same(train(Regression(), keep(tmp_path), **changes), whole)


@pytest.mark.parametrize("changes", [{}, {"patience": 3, "rate": 0.5, "epochs": 60}])
def test_a_training_at_its_end_is_given_back_without_another_epoch(tmp_path, changes):
    whole = train(Regression(), keep(tmp_path, every=1e6), **changes)
    again = Regression(start=99)
    assert_same(train(again, keep(tmp_path), **changes), whole)
    assert again.epochs == []


def test_each_member_has_kept_its_best_epoch_when_it_is_taken_up(tmp_path):
    """What is kept is not what is trained on: after overfitting they differ."""
    file = killed(tmp_path, 9, rate=0.3)
    with safe_open(file, framework="pt") as found:
        parts = [found.get_tensor(f"{part}/head.weight") for part in ("net", "kept")]
        best = found.get_tensor("best")
    assert not torch.equal(*parts)
    history, state = train(Regression(), keep(tmp_path), rate=0.3)
    task = Regression()
    task.net.load_state_dict(state)
    with torch.no_grad():
        task.net.eval()
        assert (task.validate() <= best).all()
    assert len(history) == EPOCHS


# ------------------------------------------------------------------ files that are not taken up


@pytest.mark.parametrize("change", [{"seed": 1}, {"data": "abd"}, {"rate": 0.050001}, {"more": None}])
def test_a_file_of_other_options_is_not_taken_up(tmp_path, change):
    killed(tmp_path, 4)
    again, checkpoint = Regression(), keep(tmp_path, **change)
    assert_same(train(again, checkpoint), train(Regression()))
    assert not checkpoint.found
    assert again.epochs == list(range(EPOCHS))


def test_the_order_in_which_options_are_told_does_not_matter(tmp_path):
    file = killed(tmp_path, 4)
    checkpoint = Checkpoint(file, dict(reversed(MADE_OF.items())))
    assert checkpoint.load(Regression().net).epochs == 4
    assert checkpoint.found


def damages(whole):
    """A file's contents after what may happen to it."""
    header = 8 + int.from_bytes(whole[:8], "little")
    yield b""
    yield b"\x00" * len(whole)
    yield b"no tensors at all"
    for length in (4, 8, 100, header, header + 1, len(whole) - 1):
        yield whole[:length]
    yield whole + b"\x00"
    rng = np.random.default_rng(0)
    for at in [*range(8), *rng.integers(8, header, 60), *rng.integers(header, len(whole), 30)]:
        turned = bytearray(whole)
        turned[at] ^= 1 << int(rng.integers(8))
        yield bytes(turned)


def test_a_damaged_file_is_not_taken_up_and_does_not_touch_the_network(tmp_path):
    file = killed(tmp_path, 4)
    net = Regression(start=5).net
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for content in damages(file.read_bytes()):
        file.write_bytes(content)
        checkpoint = keep(tmp_path)
        assert checkpoint.load(net) is None
        assert not checkpoint.found
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert_same(train(Regression(), keep(tmp_path)), train(Regression()))
    assert told(file)["epochs"] == EPOCHS  # it was replaced by a whole one


def test_without_a_file_training_starts_anew(tmp_path):
    checkpoint = keep(tmp_path)
    assert checkpoint.load(Regression().net) is None
    assert not checkpoint.found
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_told_before_the_training(tmp_path):
    for path in (tmp_path / "no" / "file", tmp_path):
        with pytest.raises(OutputError, match="name a file in a folder that exists"):
            Checkpoint(path, MADE_OF)


# ------------------------------------------------------------------ the file itself


def test_the_file_under_its_name_is_always_whole(tmp_path, monkeypatch):
    """It is written under another name, flushed, and put in its place at once."""
    file, part = tmp_path / "file", tmp_path / "file.part"
    seen, synced = [], []
    fsync, replace = os.fsync, type(file).replace

    def watched(source, target):
        assert (source, target) == (part, file)
        assert synced[-1] == part.stat().st_ino
        seen.append((told(file)["epochs"] if file.exists() else 0, told(part)["epochs"]))
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino) or fsync(fd))
    monkeypatch.setattr(type(file), "replace", watched)
    train(Regression(), keep(tmp_path))
    assert seen == [(epoch - 1, epoch) for epoch in range(1, EPOCHS + 1)]
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_a_writing_that_fails_leaves_the_last_whole_file(tmp_path, monkeypatch):
    file = killed(tmp_path, 4)

    def half(number):
        os.ftruncate(number, 100)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", half)
        with pytest.raises(Killed):
            train(Regression(), keep(tmp_path))
    assert told(file)["epochs"] == 4
    assert sorted(f.name for f in tmp_path.iterdir()) == ["file", "file.part"]
    assert_same(train(Regression(), keep(tmp_path)), train(Regression()))
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_it_is_written_when_it_is_time_to_and_at_the_end(tmp_path, monkeypatch):
    clock = count()  # a second passes whenever it is looked at
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    written = []
    replace = type(tmp_path).replace
    monkeypatch.setattr(type(tmp_path), "replace", lambda s, t: written.append(told(s)["epochs"]) or replace(s, t))
    train(Regression(), keep(tmp_path, every=2.5))
    assert written == [3, 6, 9, EPOCHS]
    written.clear()
    train(Regression(), keep(tmp_path, every=1e6, data="other"))
    assert written == [EPOCHS]


def test_what_is_in_it_is_all_that_is_needed_and_nothing_pickled(tmp_path):
    file = killed(tmp_path, 4)
    assert told(file).keys() == {"epochs", "stale", "history"}
    net = Regression(start=9).net
    found = keep(tmp_path).load(net)
    assert (found.epochs, len(found.history)) == (4, 4)
    assert found.history == train(Regression())[0][:4]
    assert found.kept.keys() == net.state_dict().keys()
    assert found.optimizer.keys() == dict(net.named_parameters()).keys()
    assert all(slots.keys() == {"step", "exp_avg", "exp_avg_sq"} for slots in found.optimizer.values())
    assert all(float(slots["step"]) == 4 * Regression.steps for slots in found.optimizer.values())


def test_removing_leaves_nothing_and_may_be_done_twice(tmp_path):
    file = killed(tmp_path, 4)
    (tmp_path / "file.part").write_bytes(b"half of it")
    (tmp_path / "other").write_bytes(b"not ours")
    for _ in range(2):
        remove_checkpoint(file)
        assert [f.name for f in tmp_path.iterdir()] == ["other"]


def test_a_full_disk_is_one_sentence_and_leaves_the_last_state(tmp_path, monkeypatch):
    import safetensors.torch

    net = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    progress = Progress(1, 0, [1.0], torch.ones(1), {k: v.clone() for k, v in net.state_dict().items()})
    keep = Checkpoint(tmp_path / "state", {"a": 1}, every=0.0)
    keep.save(progress, net, [optimizer], last=False)
    before = (tmp_path / "state").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save", full)
    with pytest.raises(OutputError, match=r"state cannot be written .*No space left"):
        keep.save(progress, net, [optimizer], last=True)
    assert (tmp_path / "state").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
