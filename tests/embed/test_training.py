"""Training of ensembles: every member on its own rows, kept at its own best epoch, without side effects."""

import logging
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from unpaired.embed import training
from unpaired.embed.inputs import Inputs
from unpaired.embed.learning import predict_all, train
from unpaired.embed.networks import MLP, ConvNet
from unpaired.embed.training import TrainingSettings, resolve_device
from unpaired.errors import OptionError, UnpairedError

N, N_IN, T = 90, 6, 3


class Watched(MLP):
    """An ensemble that remembers what it answered when asked without training: once an epoch."""

    def __init__(self, members, layout="LBR", dropout=0.0, seed=0):
        generator = torch.Generator().manual_seed(seed)
        super().__init__(
            members=members, n_in=N_IN, n_out=T, hidden=16, layout=layout, dropout=dropout, generator=generator
        )
        self.seen = []

    def forward(self, x):
        out = super().forward(x)
        if not self.training:
            self.seen.append(out.detach().clone())
        return out


@pytest.fixture
def cells():
    """Features with a weak signal: members overfit soon, and not at the same time."""
    rng = np.random.default_rng(0)
    y = np.arange(N) % T
    x = rng.normal(size=(N, N_IN)) + 0.7 * np.eye(N_IN)[y]
    return x.astype(np.float32), y


def settings(**changes):
    kept = {"epochs": 25, "batch": 16, "rate": 0.05, "decay": 1e-3, "optimizer": "adamw", "patience": 1000}
    return TrainingSettings(**(kept | changes))


def parts(members=3, lengths=(20, 15, 9)):
    """Rows to learn from and to choose the epoch by, different for every member."""
    rng = np.random.default_rng(1)
    orders = [rng.permutation(N) for _ in range(members)]
    valid = [o[:n] for o, n in zip(orders, lengths, strict=False)]
    return [o[20:80] for o in orders], valid


def run(cells, net=None, *, rows=None, valid=None, seed=0, **changes):
    x, y = cells
    net = net or Watched(3)
    own_rows, own_valid = parts()
    history = train(
        net,
        Inputs(x, np.arange(len(x))),
        y,
        rows=rows or own_rows,
        valid=valid or own_valid,
        settings=settings(**changes),
        device="cpu",
        seed=seed,
        progress=False,
    )
    return net, history


def predict(net, x):
    return predict_all(net, Inputs(x, np.arange(len(x))), device="cpu")


def validation_losses(net, y, valid):
    """``(epochs, members)`` cross-entropies, recomputed from what the members answered."""
    losses = []
    for logits in net.seen:
        own = [
            functional.cross_entropy(logits[m, : len(rows)], torch.as_tensor(y[rows])) for m, rows in enumerate(valid)
        ]
        losses.append([float(v) for v in own])
    return np.array(losses)


def test_each_member_is_kept_at_its_own_best_epoch(cells):
    x, y = cells
    _, valid = parts()
    net, _ = run(cells)
    answers, losses = list(net.seen), validation_losses(net, y, valid)
    best = losses.argmin(axis=0)
    assert len(set(best)) > 1, "the members of this test must not all be best in the same epoch"
    assert (best < len(losses) - 1).any(), "and not all in the last one"
    final = predict(net, x)
    for m, rows in enumerate(valid):
        expected = answers[best[m]][m, : len(rows)].double().numpy()
        np.testing.assert_allclose(final[m, rows], expected, atol=1e-5)


def test_history_is_the_mean_over_members_of_the_validation_cross_entropy(cells):
    net, history = run(cells)
    losses = validation_losses(net, cells[1], parts()[1])
    np.testing.assert_allclose(history, losses.mean(axis=1), rtol=1e-5)


def test_training_stops_when_no_member_has_improved_for_as_long_as_patience(cells):
    net, history = run(cells, epochs=60, patience=4)
    losses = validation_losses(net, cells[1], parts()[1])
    improved = np.array([(losses[e] < losses[:e].min(axis=0, initial=np.inf)).any() for e in range(len(losses))])
    assert len(history) < 60
    assert improved[-5]
    assert not improved[-4:].any()
    assert not any((~improved[e : e + 4]).all() for e in range(len(losses) - 4))


def test_training_takes_no_more_than_the_epochs_allowed(cells):
    assert len(run(cells, epochs=3)[1]) == 3


def test_a_single_epoch_trains(cells):
    net, history = run(cells, epochs=1)
    assert len(history) == 1
    assert not torch.equal(net.head.weight, Watched(3).head.weight)


def test_one_step_is_the_optimizers_step_on_every_members_mean_cross_entropy(cells):
    x, y = cells
    rows = [np.arange(0, 30), np.arange(30, 60)]
    net = Watched(2, layout="LR")
    weights = [{k: v[m].clone() for k, v in net.state_dict().items()} for m in range(2)]
    run(cells, net, rows=rows, valid=rows, epochs=1, batch=30, rate=0.5, decay=0.1, optimizer="adam")
    for m in range(2):
        plain = nn.Sequential(nn.Linear(N_IN, 16), nn.ReLU(), nn.Linear(16, T))
        for layer, name in ((plain[0], "steps.0"), (plain[2], "head")):
            layer.weight.data = weights[m][f"{name}.weight"].T.clone()
            layer.bias.data = weights[m][f"{name}.bias"][0].clone()
        step = torch.optim.Adam(plain.parameters(), lr=0.5, weight_decay=0.1)
        torch.optim.lr_scheduler.OneCycleLR(step, max_lr=0.5, total_steps=2, pct_start=0.1)  # sets the first rate
        own = torch.as_tensor(rows[m])
        functional.cross_entropy(plain(torch.as_tensor(x)[own]), torch.as_tensor(y)[own]).backward()
        step.step()
        torch.testing.assert_close(net.head.weight[m], plain[2].weight.T, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net.steps[0].weight[m], plain[0].weight.T, rtol=1e-4, atol=1e-5)


def test_cells_in_neither_part_have_no_influence(cells):
    x, y = cells
    rows, valid = [np.arange(0, 40)] * 2, [np.arange(40, 60)] * 2
    poisoned = x.copy()
    poisoned[60:] = np.nan
    one, _ = run((x, y), Watched(2), rows=rows, valid=valid, epochs=3)
    two, _ = run((poisoned, y), Watched(2), rows=rows, valid=valid, epochs=3)
    assert torch.equal(one.head.weight, two.head.weight)


def test_a_member_learns_from_its_own_rows_only(cells):
    x, y = cells
    rows, valid = [np.arange(0, 40), np.arange(40, 80)], [np.arange(80, 90)] * 2
    other = x.copy()
    other[40:80] += 5
    one, _ = run((x, y), Watched(2), rows=rows, valid=valid, epochs=4)
    two, _ = run((other, y), Watched(2), rows=rows, valid=valid, epochs=4)
    assert torch.equal(one.head.weight[0], two.head.weight[0])
    assert not torch.equal(one.head.weight[1], two.head.weight[1])


def test_the_same_seed_gives_the_same_weights(cells):
    one = run(cells, Watched(3, dropout=0.3, layout="LRD"), epochs=4)[0].state_dict()
    two = run(cells, Watched(3, dropout=0.3, layout="LRD"), epochs=4)[0].state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_another_seed_gives_other_weights(cells):
    one, two = run(cells, epochs=4)[0], run(cells, epochs=4, seed=1)[0]
    assert not torch.equal(one.head.weight, two.head.weight)


def test_the_state_of_the_global_generators_does_not_matter(cells):
    torch.manual_seed(0)
    one = run(cells, Watched(3, dropout=0.3, layout="LRD"), epochs=3)[0]
    torch.manual_seed(12345)
    two = run(cells, Watched(3, dropout=0.3, layout="LRD"), epochs=3)[0]
    assert torch.equal(one.head.weight, two.head.weight)


def test_the_global_generators_are_left_as_they_were(cells):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002  the very one to guard
    run(cells, Watched(3, dropout=0.3, layout="LRD"), epochs=2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


def test_no_file_is_left_in_the_working_folder(cells, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(cells, epochs=2)
    assert not list(tmp_path.iterdir())


def test_nothing_is_printed(cells, capfd):
    run(cells, epochs=2)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_the_users_logging_of_lightning_is_left_as_it_was(cells):
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        run(cells, epochs=1)
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(before)


def test_the_features_are_not_modified(cells):
    x, y = cells
    before = x.copy()
    run((x, y), epochs=2)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
def test_features_that_are_not_finite_end_in_a_sentence(cells, value):
    x, y = cells
    x = x.copy()
    x[parts()[0][0][0], 0] = value
    with pytest.raises(UnpairedError, match="not finite"):
        run((x, y), epochs=3)


def test_members_with_different_numbers_of_rows_train_together(cells):
    rows = [np.arange(50), np.arange(13), np.arange(37)]
    net, history = run(cells, rows=rows, valid=[np.arange(60, 90)] * 3, epochs=2)
    assert np.isfinite(history).all()
    assert np.isfinite(predict(net, cells[0])).all()


def test_predict_does_not_depend_on_the_size_of_its_chunks(cells, monkeypatch):
    x, _ = cells
    net = Watched(3)
    whole = predict(net, x)
    monkeypatch.setattr(training, "CELLS", 7)
    np.testing.assert_allclose(predict(net, x), whole, atol=1e-6)


def test_predict_gives_every_members_answer_without_training_it(cells):
    x, _ = cells
    net = Watched(3, layout="LBRD", dropout=0.5).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    out = predict(net, x)
    assert out.shape == (3, N, T)
    assert out.dtype == np.float64
    assert np.array_equal(out, predict(net, x))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


class Counting(ConvNet):
    """Remembers how many images it held at once while it was not learning."""

    def __init__(self):
        super().__init__(members=2, shape=(1, 32, 32), n_out=2, generator=torch.Generator().manual_seed(0))
        self.most = 0

    def forward(self, x):
        if not self.training:
            self.most = max(self.most, x.shape[0] * x.shape[1])
        return super().forward(x)


@pytest.fixture
def images(monkeypatch):
    monkeypatch.setattr(training, "IMAGES", 8)
    x = np.random.default_rng(0).normal(size=(20, 1, 32, 32)).astype(np.float32)
    return x, np.arange(20) % 2


def test_predicting_images_holds_no_more_of_them_at_once_than_a_chunk(images):
    net = Counting()
    assert predict(net, images[0]).shape == (2, 20, 2)
    assert net.most <= 8


def test_choosing_the_epoch_holds_no_more_images_at_once_than_a_chunk(images):
    net = Counting()
    run(images, net, rows=[np.arange(6)] * 2, valid=[np.arange(6, 20)] * 2, epochs=1)
    assert net.most <= 8


def schedule(epochs, cycle):
    """The rate of every step of the optimizer and the one after the last, as torch sets them."""
    own = settings(epochs=epochs, cycle=cycle)
    net = nn.Linear(1, 1)
    task = SimpleNamespace(net=net, players=(net,), steps=1)
    module = training._Module(task, own, "cpu", None)
    (optimizer,), (schedule,) = module.configure_optimizers()
    rates = []
    for _ in range(epochs + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) <= epochs:
            schedule.step()
    return np.array(rates)


@pytest.mark.parametrize("cycle", ["step", "epoch"])
@pytest.mark.parametrize("epochs", range(1, 30))
def test_the_rate_is_a_number_for_any_length_of_the_schedule(epochs, cycle):
    rates = schedule(epochs, cycle)
    assert np.isfinite(rates).all()
    assert rates.min() > 0
    assert rates.max() <= 0.05 * (1 + 1e-9)
    assert rates[-1] == pytest.approx(0.05 / 25 / 1e4)
    assert (np.diff(rates[1:]) < 0).all() or epochs > 18  # it falls from the second step on
    if epochs == 9:
        assert rates[0] == pytest.approx(0.05 / 25)  # one step of rising, as in the next longer schedule
        down = (1 + np.cos(np.pi * np.arange(1, 10) / 9)) / 2
        assert rates[1:] == pytest.approx(rates[-1] + (0.05 - rates[-1]) * down, rel=1e-6)
        return
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0, momentum=0.9)
    torchs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=epochs + 1, pct_start=0.1)
    assert rates[0] == torchs.get_last_lr()[0]
    for rate in rates[1:]:
        optimizer.step()
        torchs.step()
        assert rate == torchs.get_last_lr()[0]


def test_a_schedule_that_rises_for_one_step_trains(cells):
    rows = [np.arange(16)] * 3
    assert len(run(cells, rows=rows, epochs=9)[1]) == 9  # a step an epoch
    assert len(run(cells, epochs=9, cycle="epoch")[1]) == 9


def test_the_processor_is_always_there():
    assert resolve_device("cpu") == "cpu"


def test_auto_takes_the_processor_where_there_is_nothing_better(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"


def test_auto_takes_the_accelerator_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == "cuda"


@pytest.mark.parametrize("device", ["cuda", "tpu", "", "CPU"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(OptionError, match=r"device must be auto or one that this machine has \(cpu\); got"):
        resolve_device(device)


def test_an_interrupt_is_an_interrupt(cells, monkeypatch):
    """Lightning ends the process instead; a notebook would lose all that it holds."""
    from unpaired.embed import learning

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(learning._Classification, "loss", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(cells)
