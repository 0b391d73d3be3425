"""What a translator learns: the gradient of eq. 9, by two draws without bias, by one draw with one, or in full."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from unpaired.embed.networks import MLP
from unpaired.errors import OptionError
from unpaired.match.block import Block, Status
from unpaired.translate import learning
from unpaired.translate.heads import CountHead, GaussianHead
from unpaired.translate.learning import Network, Targets, Translation
from unpaired.translate.partners import Partners

SOURCES, TARGETS, N_IN, N_OUT = 9, 7, 3, 2
DRAWS = 200_000  # of a batch of all target cells: the standard error is a 450th of the spread of one batch


@pytest.fixture
def problem():
    """Two labels, a soft coupling of each, and a small network without anything random in it."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(SOURCES, N_IN)), rng.normal(size=(TARGETS, N_OUT))
    # A label's cells are not contiguous, and some pairs have no mass.
    rows, cols = (np.array([0, 2, 3, 6]), np.array([1, 4, 5])), (np.array([0, 3, 4, 8, 1]), np.array([7, 2, 6, 5]))
    blocks = []
    for label, i, j in zip("ab", rows, cols, strict=True):
        weights = rng.random((len(i), len(j))) * (rng.random((len(i), len(j))) < 0.8) + 0.05
        blocks.append(Block(label, i, j, sp.csr_matrix(weights), Status("ok")))
    return x.astype(np.float32), y.astype(np.float32), Partners(tuple(blocks))


def network(head=None, members=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    body = MLP(members=members, n_in=N_IN, n_out=N_OUT, hidden=4, layout="LR", dropout=0.0, generator=generator)
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.mul_(3)  # so that partners' predictions differ: else one draw and two would say the same
    return Network(body, head or GaussianHead())


def task_of(problem, loss, net=None, sizes=None, batch=TARGETS, seed=0):
    x, y, partners = problem
    targets = Targets(y, np.zeros(N_OUT), 1.0, "cpu")
    net = net or network()
    rest = {"learn": partners, "valid": partners, "loss": loss, "batch": batch, "seed": seed}
    return Translation(net, torch.as_tensor(x), targets, sizes, **rest)


def gradient_of(net, loss):
    grads = torch.autograd.grad(loss, list(net.body.parameters()))
    return torch.cat([g.flatten() for g in grads])


def full_gradient(problem, net):
    """Eq. 9 written out: mean over target cells i and features of (x_i - sum_j M_ij f(x_j))^2."""
    x, y, partners = problem
    f = net(torch.as_tensor(x)[None])[0]
    total = 0
    for block in partners.blocks:
        weights = block.dense()
        conditional = torch.as_tensor(weights / weights.sum(1, keepdims=True), dtype=torch.float32)
        total = total + ((torch.as_tensor(y)[block.rows] - conditional @ f[block.cols]) ** 2).sum()
    return gradient_of(net, total / (TARGETS * N_OUT))


def mean_gradient(task, draws=DRAWS):
    """Mean gradient of so many epochs of one batch, and its standard error: many epochs side by side in one batch."""
    batches = [next(iter(task.batches(epoch))) for epoch in range(400)]
    at = torch.cat([b.at for b in batches], dim=1)
    drawn = torch.cat([b.drawn for b in batches], dim=2)
    per = []
    for part in range(20):  # twenty means, whose spread gives the standard error
        rng = np.random.default_rng(part)
        repeats = draws // 20
        picked = task._learn.draw(repeats * max(1, len(drawn)), "test", str(part), seed=int(rng.integers(1000)))
        cells = torch.arange(len(task._rows)).repeat(repeats)[None]
        inputs = torch.as_tensor(picked.reshape(len(task._rows), len(drawn), repeats))
        inputs = inputs.permute(1, 2, 0).reshape(len(drawn), 1, -1)
        per.append(gradient_of(task.net, task.loss(learning.Batch(cells, inputs))))
    # What an epoch draws follows the same law: its mean must agree with theirs within its own, larger error.
    own = gradient_of(task.net, task.loss(learning.Batch(at, drawn)))
    stacked = torch.stack(per)
    return stacked.mean(0), stacked.std(0) / np.sqrt(len(per)), own


def test_the_mean_of_many_two_draw_gradients_is_the_gradient_of_equation_9(problem):
    net = network()
    mean, error, own = mean_gradient(task_of(problem, "unbiased", net))
    full = full_gradient(problem, net)
    assert full.norm() > 0.1
    assert ((mean - full).abs() / error.clamp_min(1e-7)).max() < 5
    assert error.max() < 0.01 * full.abs().max()  # so a bias of a few hundredths would have been seen
    assert ((own - full).abs() / (error * np.sqrt(DRAWS / 400)).clamp_min(1e-7)).max() < 5


def test_the_mean_of_one_draw_gradients_is_another(problem):
    net = network()
    mean, error, _ = mean_gradient(task_of(problem, "mse", net))
    full = full_gradient(problem, net)
    assert ((mean - full).abs() / error.clamp_min(1e-7)).max() > 50
    assert (mean - full).norm() > 0.1 * full.norm()


def test_one_draw_minimises_the_upper_bound(problem):
    """The one-draw gradient is that of sum_ij M_ij (x_i - f(x_j))^2, which is eq. 9 and the partners' variance."""
    x, y, partners = problem
    net = network()
    mean, error, _ = mean_gradient(task_of(problem, "mse", net))
    f = net(torch.as_tensor(x)[None])[0]
    total = 0
    for block in partners.blocks:
        weights = torch.as_tensor(block.dense() / block.dense().sum(1, keepdims=True), dtype=torch.float32)
        gap = torch.as_tensor(y)[block.rows][:, None] - f[block.cols][None]
        total = total + (weights[..., None] * gap**2).sum()
    bound = gradient_of(net, total / (TARGETS * N_OUT))
    assert ((mean - bound).abs() / error.clamp_min(1e-7)).max() < 5


def test_the_whole_row_is_equation_9_itself(problem):
    net = network()
    task = task_of(problem, "barycentric", net)
    batch = next(iter(task.batches(0)))
    assert torch.allclose(gradient_of(net, task.loss(batch)), full_gradient(problem, net), atol=1e-6)


def test_validation_is_equation_9_on_the_held_out_cells(problem):
    net = network(members=3)
    x, y, partners = problem
    with torch.no_grad():
        found = task_of(problem, "unbiased", net).validate()
        f = net(torch.as_tensor(x).expand(3, -1, -1)).numpy()
    for member, value in zip(f, found, strict=True):
        squares = [
            ((y[b.rows] - (b.dense() / b.dense().sum(1, keepdims=True)) @ member[b.cols]) ** 2) for b in partners.blocks
        ]
        assert float(value) == pytest.approx(np.concatenate(squares).mean(), rel=1e-5)


def test_validation_of_one_draw_is_the_loss_that_it_learns(problem, monkeypatch):
    monkeypatch.setattr(learning, "_VALID_DRAWS", 20_000)
    net = network()
    x, y, partners = problem
    with torch.no_grad():
        found = float(task_of(problem, "mse", net).validate())
        f = net(torch.as_tensor(x)[None])[0].numpy()
    total = 0.0
    for b in partners.blocks:
        conditional = b.dense() / b.dense().sum(1, keepdims=True)
        total += (conditional[..., None] * (y[b.rows][:, None] - f[b.cols][None]) ** 2).sum()
    assert found == pytest.approx(total / (TARGETS * N_OUT), rel=0.02)


def test_members_do_not_disturb_each_other(problem):
    """The gradient of each member is what it would be alone: its loss is one term of a sum."""
    net = network(members=3)
    task = task_of(problem, "unbiased", net)
    batch = next(iter(task.batches(0)))
    (weight,) = [p for n, p in net.named_parameters() if n == "body.head.weight"]
    together = torch.autograd.grad(task.loss(batch), weight)[0]
    with torch.no_grad():
        weight[1] += 1
    after = torch.autograd.grad(task.loss(batch), weight)[0]
    assert torch.equal(together[[0, 2]], after[[0, 2]])
    assert not torch.equal(together[1], after[1])


def test_every_target_cell_is_visited_once_an_epoch_with_partners_of_its_own_label(problem):
    _, _, partners = problem
    task = task_of(problem, "unbiased", network(members=2), batch=3)
    allowed = {row: set(b.cols[b.dense()[i] > 0]) for b in partners.blocks for i, row in enumerate(b.rows)}
    seen = []
    for epoch in range(12):
        batches = list(task.batches(epoch))
        assert len(batches) == task.steps == 2
        at = torch.cat([b.at for b in batches], dim=1)
        assert all(len(set(member.tolist())) == at.shape[1] for member in at)
        for batch in batches:
            for draws in batch.drawn:
                for row, col in zip(partners.rows[batch.at].ravel(), draws.numpy().ravel(), strict=True):
                    assert col in allowed[row]
        seen.append(torch.cat([b.drawn for b in batches], dim=2))
    assert not all(torch.equal(seen[0], other) for other in seen[1:])


def test_epochs_are_told_by_their_number_alone(problem):
    one, other = task_of(problem, "unbiased"), task_of(problem, "unbiased")
    first = [list(one.batches(epoch)) for epoch in range(11)]
    for epoch in (9, 10, 3):
        for a, b in zip(first[epoch], list(other.batches(epoch)), strict=True):
            assert torch.equal(a.at, b.at)
            assert torch.equal(a.drawn, b.drawn)


def test_the_whole_row_refuses_what_is_too_large_for_it(problem, monkeypatch):
    monkeypatch.setattr(learning, "_LARGEST", TARGETS * SOURCES - 1)
    with pytest.raises(OptionError, match=r"barycentric.*Use 'unbiased'"):
        task_of(problem, "barycentric")


def test_targets_of_a_sparse_matrix_are_those_of_a_dense_one():
    rng = np.random.default_rng(0)
    values = rng.poisson(0.5, size=(20, 5)).astype(np.float32)
    center, scale = values.mean(0), values.std(0) + 1
    dense, sparse = Targets(values, center, scale, "cpu"), Targets(sp.csr_matrix(values), center, scale, "cpu")
    rows = torch.as_tensor(rng.integers(20, size=(3, 4)))
    assert dense[rows].shape == (3, 4, 5)
    assert torch.allclose(dense[rows], sparse[rows], atol=1e-6)


def counts(problem, seed=3):
    rng = np.random.default_rng(seed)
    _, y, partners = problem
    made = rng.poisson(20, size=y.shape).astype(np.float32)
    sizes = torch.as_tensor(made.sum(1))
    return (problem[0], made, partners), sizes


def count_network(members=1):
    return network(CountHead(torch.tensor([0.3, 0.7]), members), members)


def test_the_likelihood_of_counts_is_the_negative_binomial_s():
    head = CountHead(torch.tensor([0.2, 0.8]), 1)
    with torch.no_grad():
        head.log_theta += torch.tensor([0.5, -0.3])
    y = torch.tensor([[[0.0, 3.0], [7.0, 1.0]]])
    mean = torch.tensor([[[1.5, 2.0], [4.0, 0.1]]])
    theta = head.log_theta.exp()
    exact = torch.distributions.NegativeBinomial(theta, logits=(mean / theta).log()).log_prob(y)
    assert torch.allclose(head.nll(mean, y), -exact - torch.lgamma(y + 1), atol=1e-4)


def test_expected_counts_start_at_the_mean_shares_and_sum_to_the_cell_s_total():
    head = CountHead(torch.tensor([0.25, 0.75]), 2)
    mean = head.mean(torch.zeros(2, 3, 2), torch.full((2, 3), 40.0))
    assert torch.allclose(mean, torch.tensor([10.0, 30.0]).expand(2, 3, 2))
    with pytest.raises(ValueError, match="totals"):
        head.mean(torch.zeros(2, 3, 2), None)


def test_two_draws_of_counts_estimate_the_quasi_likelihood_without_bias(problem):
    """Mean gradient = -sum_i sum_j M_ij (x_i - E mu_i) / V(mu_ij) d mu_ij: the product of two expectations."""
    of, sizes = counts(problem)
    net = count_network()
    task = task_of(of, "unbiased", net, sizes)
    mean, error, _ = mean_gradient(task)
    x, y, partners = of
    theta = net.head.log_theta.exp().detach()[0]
    total = 0
    for block in partners.blocks:
        weights = torch.as_tensor(block.dense() / block.dense().sum(1, keepdims=True), dtype=torch.float32)
        own = sizes[block.rows][:, None].expand(-1, len(block.cols))
        mu = net(torch.as_tensor(x)[block.cols].expand(len(block.rows), -1, -1)[None].flatten(1, 2), own.reshape(1, -1))
        mu = mu.view(len(block.rows), len(block.cols), N_OUT)
        residual = (torch.as_tensor(y)[block.rows] - (weights[..., None] * mu).sum(1)).detach()
        variance = (mu + mu**2 / theta).detach()
        total = total - (weights[..., None] * residual[:, None] / variance * mu).sum()
    exact = gradient_of(net, total / (TARGETS * N_OUT))
    assert exact.norm() > 0.01
    assert ((mean - exact).abs() / error.clamp_min(1e-7)).max() < 5


def test_the_whole_row_of_counts_averages_the_expected_counts(problem):
    of, sizes = counts(problem)
    net = count_network()
    task = task_of(of, "barycentric", net, sizes)
    x, y, partners = of
    with torch.no_grad():
        found = float(task.loss(next(iter(task.batches(0)))))
        judged = float(task.validate())
        rates = net(torch.as_tensor(x)[None], torch.ones(1, SOURCES))[0]
        losses = []
        for b in partners.blocks:
            weights = torch.as_tensor(b.dense() / b.dense().sum(1, keepdims=True), dtype=torch.float32)
            mean = (weights @ rates[b.cols]) * sizes[b.rows][:, None]
            losses.append(net.head.nll(mean[None], torch.as_tensor(y)[b.rows])[0])
    assert found == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)
    assert judged == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize("loss", ["unbiased", "mse", "barycentric"])
def test_the_dispersion_of_counts_is_learned_whatever_the_loss(problem, loss):
    of, sizes = counts(problem)
    net = count_network()
    task = task_of(of, loss, net, sizes)
    task.loss(next(iter(task.batches(0)))).backward()
    assert net.head.log_theta.grad.abs().min() > 0
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("head", [GaussianHead(), CountHead(torch.tensor([0.5, 0.5]), 1)])
def test_heads_hold_the_members_on_their_first_axis(head):
    assert isinstance(head, nn.Module)
    assert all(len(v) == 1 for v in head.state_dict().values())
