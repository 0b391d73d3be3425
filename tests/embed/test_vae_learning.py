"""Who learns from which loss, what is drawn, and the shapes of the networks."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from unpaired.embed.feed import Feed
from unpaired.embed.inputs import Inputs
from unpaired.embed.vae_learning import Cells, Weights, _Autoencoding
from unpaired.embed.vae_networks import Autoencoder, Autoencoders, BatchNorm, Deconvolution, Generator

LATENT = 4


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def made_task(kind="adversarial", *, sizes=(20, 20), alpha=1.0, beta=0.1, kl=1e-9, batch=8, unlabelled=()):
    """A task on tables of noise; the last fifth of every modality chooses the epoch."""
    rng = np.random.default_rng(0)
    parts, cells = [], []
    for at, n in enumerate(sizes):
        parts.append(Autoencoder(shape=(3 + at,), latent=LATENT, hidden=8, generator=seeded(at)))
        feed = Feed(Inputs(rng.normal(size=(n, 3 + at)).astype(np.float32), np.arange(n)), "cpu")
        y = torch.as_tensor(rng.integers(3, size=n))
        if at in unlabelled:
            y[:] = -1
        cut = n - n // 5
        cells.append(Cells(f"modality {at}", feed, y, np.arange(cut), np.arange(cut, n)))
    whole = Generator(parts, latent=LATENT, labels=3, generator=seeded())
    net = Autoencoders(whole, latent=LATENT, hidden=8, judged=kind != "none", weights=seeded())
    return _Autoencoding(net, cells, Weights(alpha, beta, kl), kind, batch=batch, seed=0)


def first_batch(task, epoch=0):
    return next(iter(task.batches(epoch)))


def touched(module):
    return [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters()]


# ------------------------------------------------------------------ who learns


def test_the_encoders_learn_through_the_adversary_but_it_does_not():
    task = made_task()
    task.loss(first_batch(task), 0).backward()
    assert any(touched(task.net.generator))
    assert all(p.grad is None for p in task.net.adversary.parameters())


def test_the_adversary_learns_in_its_own_step_and_nothing_else_does():
    task = made_task()
    task.loss(first_batch(task), 0)
    task.loss(first_batch(task), 1).backward()
    assert all(p.grad is None for p in task.net.generator.parameters())
    assert any(touched(task.net.adversary))


def test_the_players_share_no_parameter_and_miss_none():
    task = made_task()
    generator, adversary = (set(player.parameters()) for player in task.players)
    assert not generator & adversary
    assert generator | adversary == set(task.net.parameters())


def test_as_published_the_classifier_learns_with_the_encoders():
    task = made_task("published")
    assert task.players == (task.net,)
    task.loss(first_batch(task), 0).backward()
    assert any(touched(task.net.adversary))
    assert any(touched(task.net.generator))


def test_without_adversary_there_is_one_player_and_no_classifier():
    task = made_task("none")
    assert task.net.adversary is None
    assert task.players == (task.net,)
    assert np.isfinite(float(task.loss(first_batch(task), 0).detach()))


# ------------------------------------------------------------------ the losses, by hand


def by_hand(task, batch, *, draw):
    """Means over cells of each modality's losses, with the noise of the same generator."""
    out = []
    for at, rows in enumerate(batch):
        part, cells = task.net.generator[at], task._cells[at]
        x = cells.x[rows]
        mean, logvar = part.encoder(x)[:, :LATENT], part.encoder(x)[:, LATENT:]
        z = mean + torch.exp(logvar / 2) * torch.randn(mean.shape) if draw else mean
        logits = task.net.generator.labels(z)
        prior = torch.distributions.Normal(torch.zeros(1), torch.ones(1))
        kl = torch.distributions.kl_divergence(torch.distributions.Normal(mean, torch.exp(logvar / 2)), prior)
        told = task.net.adversary(z)
        out.append(
            {
                "reconstruction": functional.mse_loss(part.decode(z), x),
                "kl": kl.sum(1).mean(),
                "label": functional.cross_entropy(logits, cells.y[rows]),
                "own": functional.cross_entropy(told, torch.full((len(rows),), at)),
                "flipped": functional.cross_entropy(told, torch.full((len(rows),), 1 - at)),
            }
        )
    return out


@torch.no_grad()
@pytest.mark.parametrize(("kind", "told"), [("adversarial", "flipped"), ("published", "own")])
def test_the_loss_is_the_weighted_sum_with_flipped_labels_against_an_adversary(kind, told):
    task = made_task(kind, alpha=0.7, beta=0.3, kl=0.01)
    task.net.eval()  # so that batch normalisation is the same at every call
    batch = first_batch(task)
    torch.manual_seed(5)
    loss = float(task.loss(batch, 0))
    torch.manual_seed(5)
    parts = by_hand(task, batch, draw=True)
    expected = sum(p["reconstruction"] + 0.01 * p["kl"] + 0.7 * p["label"] + 0.3 * p[told] for p in parts)
    assert loss == pytest.approx(float(expected), rel=1e-5)
    if kind == "adversarial":
        assert float(task.loss(batch, 1)) == pytest.approx(float(sum(p["own"] for p in parts)), rel=1e-5)


@torch.no_grad()
def test_the_epoch_is_chosen_at_the_means_and_not_by_the_adversary():
    task = made_task(alpha=0.7, beta=0.3, kl=0.01)
    task.net.eval()
    (total,) = task.validate().tolist()
    parts = by_hand(task, [torch.as_tensor(c.valid) for c in task._cells], draw=False)
    expected = sum(p["reconstruction"] + 0.01 * p["kl"] + 0.7 * p["label"] for p in parts)
    assert total == pytest.approx(float(expected), rel=1e-5)
    (record,) = task.records
    means = {k: float(sum(p[k] for p in parts)) / 2 for k in parts[0]}
    assert record.total == pytest.approx(total)
    assert record.reconstruction == pytest.approx(means["reconstruction"], rel=1e-5)
    assert record.kl == pytest.approx(means["kl"], rel=1e-5)
    assert record.label == pytest.approx(means["label"], rel=1e-5)
    assert record.modality == pytest.approx(means["own"], rel=1e-5)
    assert record.flipped == pytest.approx(means["flipped"], rel=1e-5)


@torch.no_grad()
def test_of_three_modalities_the_others_are_asked_evenly():
    task = made_task(sizes=(20, 20, 20))
    z = torch.randn(6, LATENT)
    logp = functional.log_softmax(task.net.adversary(z), dim=1)
    _, others = task._modality(1, z)
    assert float(others) == pytest.approx(float(-(logp[:, 0] + logp[:, 2]).sum() / 2), rel=1e-5)


def test_cells_without_a_label_say_nothing_of_labels():
    task = made_task(sizes=(20, 20), unlabelled=(0, 1))
    task.loss(first_batch(task), 0).backward()
    assert not any(touched(task.net.generator.labels))
    assert any(touched(task.net.generator[0].decoder))


@torch.no_grad()
def test_a_modality_without_labels_to_judge_by_counts_as_the_others():
    task, whole = (made_task(sizes=(20, 20, 20), alpha=0.7, unlabelled=u) for u in ((1,), ()))
    for t in (task, whole):
        t.net.eval()
    (total,), (told,) = task.validate().tolist(), whole.validate().tolist()
    (record,), (other,) = task.records, whole.records
    rows = [torch.as_tensor(c.valid) for c in task._cells]
    own = [
        float(functional.cross_entropy(whole.net.generator.labels(part.encode(c.x[r]).mean), c.y[r]))
        for part, c, r in zip(whole.net.generator.parts, whole._cells, rows, strict=True)
    ]
    assert other.label == pytest.approx(sum(own) / 3, rel=1e-5)
    assert record.label == pytest.approx((own[0] + own[2]) / 2, rel=1e-5)
    assert total - told == pytest.approx(0.7 * 3 * (record.label - other.label), rel=1e-3)
    assert record.reconstruction == other.reconstruction


@torch.no_grad()
def test_where_no_label_can_be_judged_it_is_not_called_right():
    task = made_task(sizes=(20, 20), unlabelled=(0, 1))
    assert np.isfinite(float(task.validate()))
    assert np.isnan(task.records[0].label)


# ------------------------------------------------------------------ what is drawn


def test_the_largest_modality_is_walked_through_once_and_smaller_ones_evenly_again():
    task = made_task(sizes=(40, 15))  # 32 and 12 to learn from
    batches = list(task.batches(0))
    assert len(batches) == task.steps == 4
    assert all(len(rows) == 8 for batch in batches for rows in batch)
    counts = [torch.bincount(torch.cat([b[at] for b in batches])) for at in (0, 1)]
    assert counts[0].tolist() == [1] * 32
    assert len(counts[1]) == 12
    assert set(counts[1].tolist()) == {2, 3}


def test_an_epoch_draws_by_its_number_alone():
    task = made_task()
    again = [torch.cat([b[0] for b in task.batches(3)]) for _ in range(2)]
    other = torch.cat([b[0] for b in task.batches(4)])
    assert torch.equal(*again)
    assert not torch.equal(again[0], other)


# ------------------------------------------------------------------ networks


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 37, 50), (2, 16, 9)])
def test_the_decoder_gives_images_of_the_encoders_shape(shape):
    part = Autoencoder(shape=shape, latent=LATENT, hidden=8, generator=seeded())
    assert part.images
    x = torch.randn(5, *shape)
    posterior = part.encode(x)
    assert posterior.mean.shape == posterior.logvar.shape == (5, LATENT)
    assert part.decode(posterior.mean).shape == x.shape


def disturbed(net, seed=7):
    """Give biases and batch normalisations values that are not those of a new layer."""
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if name.rsplit(".", 1)[-1] in {"bias", "scale", "shift", "mean", "var"}:
            tensor.data = torch.rand(tensor.shape, generator=seeded(seed)) + 0.5
    return net


def torchs_norm(ours, kind):
    layer = kind(ours.scale.shape[1])
    layer.weight.data, layer.bias.data = ours.scale.data[0].clone(), ours.shift.data[0].clone()
    layer.running_mean.data, layer.running_var.data = ours.mean[0].clone(), ours.var[0].clone()
    return layer


@pytest.mark.parametrize("learning", [True, False])
def test_the_decoder_of_images_is_torchs_own_layers(learning):
    net = disturbed(Deconvolution(latent=LATENT, shape=(3, 32, 48), generator=seeded())).train(learning)
    widths = [512, 256, 128, 64, 32, 3]
    z = torch.randn(6, LATENT, generator=seeded(1))
    x = functional.linear(z, net.code.weight[0], net.code.bias[0]).view(6, 512, 1, 2)
    for at in range(5):
        layer = torch.nn.ConvTranspose2d(
            widths[at], widths[at + 1], 3, stride=2, padding=1, output_padding=(1, int(at > 0))
        )
        layer.weight.data = net.kernels[at].data[0]
        layer.bias.data = net.bias.data[0] if at == 4 else torch.zeros(widths[at + 1])
        x = layer(x)
        if at < 4:
            x = functional.leaky_relu(torchs_norm(net.norms[at], torch.nn.BatchNorm2d).train(learning)(x))
    torch.testing.assert_close(net(z), x, rtol=1e-3, atol=1e-4)
    assert float(net.bias.detach().min()) > 0.4  # a bias that is not there would have gone unseen


@pytest.mark.parametrize("shape", [(9, 5), (9, 5, 3, 4)], ids=["table", "maps"])
def test_batch_normalisation_is_torchs_own_while_learning_and_after(shape):
    ours = disturbed(BatchNorm(5))
    torchs = torchs_norm(ours, torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d)
    for step in range(4):
        x = 3 * torch.randn(shape, generator=seeded(step)) + 1
        torch.testing.assert_close(ours.train()(x), torchs.train()(x))
    torch.testing.assert_close(ours.mean[0], torchs.running_mean)
    torch.testing.assert_close(ours.var[0], torchs.running_var)
    torch.testing.assert_close(ours.eval()(x), torchs.eval()(x))


def test_one_cell_is_normalised_like_a_new_one():
    ours = disturbed(BatchNorm(5))
    x = torch.randn(1, 5, generator=seeded())
    kept = ours.mean.clone()
    torch.testing.assert_close(ours.train()(x), ours.eval()(x))
    assert torch.equal(ours.mean, kept)


def test_the_perceptron_is_the_published_one():
    part = Autoencoder(shape=(6,), latent=LATENT, hidden=8, generator=seeded())
    kinds = [type(step).__name__.strip("_") for step in part.encoder]
    assert kinds == ["Linear", "ReLU", "BatchNorm", *(["Linear", "BatchNorm", "ReLU"] * 3), "Linear", "Linear"]
    assert [type(step).__name__.strip("_") for step in part.decoder] == kinds
    assert part.encoder(torch.randn(5, 6)).shape == (5, 2 * LATENT)


def test_every_tensor_of_the_state_has_a_leading_axis_of_one():
    parts = [Autoencoder(shape=shape, latent=LATENT, hidden=8, generator=seeded()) for shape in ((6,), (3, 32, 32))]
    whole = Generator(parts, latent=LATENT, labels=3, generator=seeded())
    net = Autoencoders(whole, latent=LATENT, hidden=8, judged=True, weights=seeded())
    assert all(value.shape[0] == 1 for value in net.state_dict().values())
