"""Every term of CLUE's loss against a slow version in NumPy, who learns from what, and what cannot matter."""

from dataclasses import fields, replace

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.special import expit, log_softmax, softmax

from unpaired.embed.clue_losses import Losses, Minibatch, discriminator_loss, losses, negative_log_likelihood
from unpaired.embed.clue_model import TINY, ClueConfig, ClueModality, ClueModel

CELLS, DIMS, BATCHES = 12, 3, 2
TINY_NET = {
    "dims": DIMS,
    "encoder_hidden": 6,
    "decoder_hidden": 5,
    "decoder_depth": 2,
    "discriminator_hidden": 7,
    "dropout": 0.0,
}
WEIGHTS = {"lam_data": 0.9, "lam_kl": 0.3, "lam_cross": 1.7, "lam_real_cross": 0.6, "lam_cos": 1.3, "lam_align": 0.4}
CONFIG = ClueConfig(**TINY_NET, **WEIGHTS)
MODALITIES = (
    ClueModality("rna", inputs=4, features=9, likelihood="nb", sized=True),
    ClueModality("image", inputs=5, features=5, likelihood="normal", sized=False),
    ClueModality("peaks", inputs=3, features=7, likelihood="bernoulli", sized=True),
)
TERMS = ("nll", "kl", "elbo", "cross", "real_cross", "cos", "dsc")
TURNED_OFF = {
    "lam_data": {"nll", "kl", "elbo"},
    "lam_kl": {"kl"},
    "lam_cross": {"cross"},
    "lam_real_cross": {"real_cross"},
    "lam_cos": {"cos"},
    "lam_align": {"dsc"},
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def made_model(modalities=MODALITIES, config=CONFIG, **kwargs):
    """In double precision, with no tensor at the value that it starts with."""
    model = ClueModel(modalities, batches=BATCHES, config=config, generator=seeded(), **kwargs)
    for value in [*model.parameters(), *model.buffers()]:
        value.data += 0.3 * torch.rand(value.shape, generator=seeded(1))
    return model.double().eval()


def made_batch(modalities=MODALITIES, seed=0, cells=CELLS):
    """Cells in two batches; half of them miss something, and some have but one modality."""
    rng = np.random.default_rng(seed)
    kinds = {
        "nb": lambda n: rng.poisson(3, size=(cells, n)),
        "normal": lambda n: rng.normal(size=(cells, n)),
        "bernoulli": lambda n: rng.integers(2, size=(cells, n)),
    }
    observed = rng.random((cells, len(modalities))) < 0.6
    observed[: cells // 2] = True
    observed[cells // 2 :, 0] |= ~observed[cells // 2 :].any(1)
    observed[-1] = [False, True] + [False] * (len(modalities) - 2)
    return Minibatch(
        [torch.as_tensor(rng.normal(size=(cells, m.inputs))) for m in modalities],
        [torch.as_tensor(kinds[m.likelihood](m.features), dtype=torch.float64) for m in modalities],
        torch.as_tensor(rng.integers(BATCHES, size=(cells, len(modalities)))),
        torch.as_tensor(observed),
        torch.as_tensor(rng.exponential(size=cells)),
    )


def computed(model, batch, config=CONFIG, *, noise=0.5, seed=3, **kwargs):
    return losses(model, batch, config, noise, seeded(seed), **kwargs)


# ------------------------------------------------------------------ the slow version


class Slow:
    """Everything cell by cell, from the state of the net and the numbers that its generator draws."""

    def __init__(self, model, batch, *, noise=0.5, seed=3):
        self.state = {k: v[0].numpy() for k, v in model.state_dict().items()}
        self.kinds = [m.likelihood for m in model.modalities]
        self.x, self.y = ([v.numpy() for v in vs] for vs in (batch.inputs, batch.readings))
        self.batch, self.seen, self.trust = (v.numpy() for v in (batch.batches, batch.observed, batch.trust))
        self.slots, self.cells = len(self.kinds), len(self.seen)
        shape, generator = (self.slots, self.cells, self.slots * DIMS), seeded(seed)
        draws = [torch.randn(shape, generator=generator, dtype=torch.float64).numpy() for _ in range(2)]
        self.codes = [[self.code(k, self.x[k][c]) for c in range(self.cells)] for k in range(self.slots)]
        self.u, self.judged = [], []
        for codes, own, judged in zip(self.codes, *draws, strict=True):
            drawn = [mean + std * e for (mean, std), e in zip(codes, own, strict=True)]
            self.u.append([v / np.linalg.norm(v) for v in drawn])
            self.judged.append([mean + noise * e for (mean, _), e in zip(codes, judged, strict=True)])

    def linear(self, name, x, batch=None):
        out = self.state[f"{name}.weight"] @ x + self.state[f"{name}.bias"]
        return out if batch is None else out + self.state[f"{name}.per_batch"][batch]

    def perceptron(self, name, x, batch=None, *, depth=2, normed=True, first_only=False):
        for at in range(depth):
            x = self.linear(f"{name}.layers.{at}", x, batch)
            x = np.where(x > 0, x, 0.2 * x)
            if normed:
                n = {k: self.state[f"{name}.norms.{at}.{k}"] for k in ("mean", "var", "scale", "shift")}
                x = (x - n["mean"]) / np.sqrt(n["var"] + 1e-5) * n["scale"] + n["shift"]
            batch = None if first_only else batch
        return self.linear(f"{name}.head", x, batch)

    def code(self, source, x):
        outs = [self.perceptron(f"generator.{source}.encoders.{j}", x) for j in range(self.slots)]
        mean, std = (np.concatenate([o[part] for o in outs]) for part in (slice(DIMS), slice(DIMS, None)))
        return mean, np.log1p(np.exp(std)) + TINY

    def size(self, source, cell, target):
        return max(0.0, self.linear(f"generator.{source}.sizes", self.y[source][cell])[target])

    def nll(self, target, cell, u, source=None):
        """Minus the log-likelihood, mean over features, by SciPy's distributions."""
        b, y, name = self.batch[cell, target], self.y[target][cell], f"generator.{target}"
        out = self.perceptron(f"{name}.decoder", u[target * DIMS : (target + 1) * DIMS], b)
        p = {k.rsplit(".", 1)[1]: v[b] for k, v in self.state.items() if k.startswith(f"{name}.per_batch.")}
        if self.kinds[target] == "normal":
            return -scipy.stats.norm(out, np.log1p(np.exp(p["deviation"])) + TINY).logpdf(y).mean()
        out = np.log1p(np.exp(p["scale"])) * out + p["bias"]
        if self.kinds[target] == "bernoulli":
            return -scipy.stats.bernoulli(expit(out)).logpmf(y).mean()
        sized = source is not None and f"generator.{source}.sizes.weight" in self.state
        mu = softmax(out) * self.size(source if sized else target, cell, target)
        theta = np.exp(p["log_theta"])
        return -scipy.stats.nbinom(theta, theta / (theta + mu + TINY)).logpmf(y).mean()

    def together(self, cell):
        mean = np.mean([self.u[k][cell] for k in range(self.slots) if self.seen[cell, k]], axis=0)
        return mean / np.linalg.norm(mean)

    def terms(self):
        every, slots = range(self.cells), range(self.slots)
        seen = [[c for c in every if self.seen[c, k]] for k in slots]
        out = {"nll": sum(np.mean([self.nll(k, c, self.u[k][c]) for c in every]) for k in slots)}
        divergence = [[np.sum(m**2 + s**2 - 1 - np.log(s**2)) / 2 for m, s in of] for of in self.codes]
        out["kl"] = sum(np.mean(divergence[k]) / self.y[k].shape[1] for k in slots)
        out["elbo"] = out["nll"] + WEIGHTS["lam_kl"] * out["kl"]
        out["cross"] = sum(np.mean([self.trust[c] * self.nll(k, c, self.together(c)) for c in seen[k]]) for k in slots)
        pairs = [(k, j, [c for c in seen[k] if c in seen[j]]) for k in slots for j in slots if k != j]
        out["real_cross"] = sum(
            np.mean([self.trust[c] * self.nll(k, c, self.u[j][c], j) for c in both]) for k, j, both in pairs
        )
        angles = [[self.trust[c] * (1 - self.u[k][c] @ self.together(c)) for c in seen[k]] for k in slots]
        out["cos"] = sum(map(np.mean, angles))
        told = [
            self.perceptron("discriminator", self.judged[k][c], self.batch[c, k], normed=False, first_only=True)
            for k in slots
            for c in every
        ]
        truth = np.repeat(np.arange(self.slots), self.cells)
        out["dsc"] = -np.mean([log_softmax(t)[k] for t, k in zip(told, truth, strict=True)])
        return out


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, 1])
def test_every_term_is_that_of_the_slow_version(seed):
    model, batch = made_model(), made_batch(seed=seed)
    got, expected = computed(model, batch), Slow(model, batch).terms()
    for name in TERMS:
        assert getattr(got, name).shape == ()
        assert float(getattr(got, name)) == pytest.approx(expected[name], rel=1e-6), name
    signed = WEIGHTS | {"lam_align": -WEIGHTS["lam_align"]}
    names = ("elbo", "cross", "real_cross", "cos", "dsc")
    weights = [signed[f"lam_{n}"] for n in ("data", "cross", "real_cross", "cos", "align")]
    total = sum(w * expected[n] for w, n in zip(weights, names, strict=True))
    assert float(got.generator) == pytest.approx(total, rel=1e-6)


@torch.no_grad()
def test_in_single_precision_the_terms_are_nearly_the_same():
    model, batch = made_model(), made_batch()
    # The generator's numbers of single precision are others: the codes are drawn without them.
    for of in model.generator:
        for encoder in of.encoders:
            encoder.head.bias.data[0, DIMS:] = -60.0
    exact = computed(model, batch, noise=0.0)
    single = batch._replace(inputs=[x.float() for x in batch.inputs], readings=[y.float() for y in batch.readings])
    rough = computed(model.float(), single, noise=0.0)
    for name in TERMS:
        assert float(getattr(rough, name)) == pytest.approx(float(getattr(exact, name)), rel=1e-4), name


# ------------------------------------------------------------------ likelihoods


@pytest.mark.parametrize("theta", [0.05, 1.0, 30.0])
def test_counts_are_negative_binomial(theta):
    mu, y = np.array([0.01, 0.5, 3.0, 200.0])[:, None], np.array([0.0, 1.0, 7.0, 150.0])
    location, spread = np.broadcast_arrays(mu, np.log(theta) + 0 * y)
    got = negative_log_likelihood("nb", *map(torch.as_tensor, (y + 0 * mu, location.copy(), spread.copy())))
    np.testing.assert_allclose(got, -scipy.stats.nbinom(theta, theta / (theta + mu)).logpmf(y), rtol=1e-4)


def test_numbers_are_normal():
    y, mean, std = np.array([-3.0, 0.0, 2.5]), np.array([0.1, -2.0, 2.0]), np.array([0.2, 1.0, 40.0])
    got = negative_log_likelihood("normal", *map(torch.as_tensor, (y, mean, std)))
    np.testing.assert_allclose(got, -scipy.stats.norm(mean, std).logpdf(y), rtol=1e-10)


def test_zeros_and_ones_are_bernoulli_even_where_it_is_certain():
    y, logit = torch.tensor([0.0, 1.0, 1.0, 0.0]), torch.tensor([0.3, -2.0, -200.0, -200.0], requires_grad=True)
    got = negative_log_likelihood("bernoulli", y, logit, logit)
    np.testing.assert_allclose(got.detach(), [np.log1p(np.exp(0.3)), np.log1p(np.exp(2)), 200, 0], rtol=1e-6)
    got.sum().backward()
    assert logit.grad.tolist()[2:] == pytest.approx([-1, 0])


# ------------------------------------------------------------------ who learns


def touched(module):
    return [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters()]


def test_the_generators_step_learns_through_the_discriminator_and_leaves_it_alone():
    model, batch = made_model().train(), made_batch()
    computed(model, batch).dsc.backward()
    assert all(p.grad is None for p in model.discriminator.parameters())
    assert any(touched(model.generator))
    before = [p.detach().clone() for p in model.discriminator.parameters()]
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.1)
    computed(model, batch).generator.backward()
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(model.discriminator.parameters(), before, strict=True))
    assert all(touched(model.generator))


@pytest.mark.parametrize("at_hand", [True, False])
def test_the_discriminators_step_touches_nothing_else(at_hand):
    model, batch = made_model().train(), made_batch()
    posterior = model(batch.inputs) if at_hand else None
    discriminator_loss(model, batch, 0.5, seeded(), posterior=posterior).backward()
    assert all(p.grad is None for p in model.generator.parameters())
    assert all(touched(model.discriminator))


@torch.no_grad()
def test_both_steps_judge_alike():
    model, batch = made_model(), made_batch()
    posterior = model(batch.inputs)
    one = discriminator_loss(model, batch, 0.0, seeded(), posterior=posterior)
    assert float(one) == pytest.approx(float(computed(model, batch, noise=0.0, posterior=posterior).dsc))
    assert float(one) == pytest.approx(float(discriminator_loss(model, batch, 0.0, seeded())))
    assert float(one) != float(discriminator_loss(model, batch, 0.5, seeded()))


def test_the_discriminator_can_learn_and_the_encoders_can_mislead_it():
    model, batch = made_model().train(), made_batch()
    only_align = replace(CONFIG, lam_data=0.0, lam_cross=0.0, lam_real_cross=0.0, lam_cos=0.0)
    steps = (
        (model.discriminator, lambda: discriminator_loss(model, batch, 0.0, seeded())),
        (model.generator, lambda: computed(model, batch, only_align, noise=0.0).generator),
    )
    told = [discriminator_loss(model, batch, 0.0, seeded()).item()]
    for part, loss in steps:
        optimizer = torch.optim.RMSprop(part.parameters(), lr=5e-3)
        for _ in range(15):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        told.append(discriminator_loss(model, batch, 0.0, seeded()).item())
    assert told[1] < told[0] - 0.05
    assert told[2] > told[1] + 0.05


# ------------------------------------------------------------------ weights


@torch.no_grad()
@pytest.mark.parametrize("name", TURNED_OFF)
def test_a_weight_of_zero_turns_its_terms_off_and_no_other(name):
    model, batch = made_model(), made_batch()
    whole, without = computed(model, batch), computed(model, batch, replace(CONFIG, **{name: 0.0}))
    zero = {n for n in TERMS if float(getattr(without, n)) == 0}
    assert zero == TURNED_OFF[name]
    for term in set(TERMS) - zero - {"elbo"}:
        assert float(getattr(without, term)) == float(getattr(whole, term))
    off = {"lam_data": WEIGHTS["lam_data"] * float(whole.elbo)}
    off["lam_kl"] = WEIGHTS["lam_data"] * WEIGHTS["lam_kl"] * float(whole.kl)
    for term in ("cross", "real_cross", "cos"):
        off[f"lam_{term}"] = WEIGHTS[f"lam_{term}"] * float(getattr(whole, term))
    off["lam_align"] = -WEIGHTS["lam_align"] * float(whole.dsc)
    assert float(without.generator) == pytest.approx(float(whole.generator) - off[name])


def test_what_weighs_nothing_is_not_computed(monkeypatch):
    model, batch = made_model(), made_batch()
    off = replace(CONFIG, **{f.name: 0.0 for f in fields(ClueConfig) if f.name.startswith("lam_")})

    def refuse(*_):
        pytest.fail("a decoder was asked")

    monkeypatch.setattr(ClueModel, "decode", refuse)
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", refuse)
    assert [float(v) for v in computed(model, batch, off)] == [0.0] * len(Losses._fields)


# ------------------------------------------------------------------ what cannot matter, and what must


def refilled(batch, seed=9):
    """Put other cells into the slots that are not observed."""
    other = made_batch(seed=seed)
    inputs, readings = (
        [torch.where(batch.observed[:, k, None], a[k], b[k]) for k in range(len(a))]
        for a, b in ((batch.inputs, other.inputs), (batch.readings, other.readings))
    )
    batches = torch.where(batch.observed, batch.batches, 1 - batch.batches)
    return Minibatch(inputs, readings, batches, batch.observed, batch.trust)


@torch.no_grad()
def test_fillers_have_no_say_in_what_is_of_whole_cells_but_count_elsewhere():
    model, batch = made_model(), made_batch()
    one, other = computed(model, batch), computed(model, refilled(batch))
    for name in ("cross", "real_cross", "cos"):
        assert float(getattr(one, name)) == pytest.approx(float(getattr(other, name)), rel=1e-12), name
    for name in ("nll", "kl", "dsc"):
        assert float(getattr(one, name)) != float(getattr(other, name)), name


@torch.no_grad()
def test_without_noise_the_order_of_the_cells_cannot_matter():
    model, batch = made_model(), made_batch()
    for of in model.generator:
        for encoder in of.encoders:
            encoder.head.bias.data[0, DIMS:] = -60.0  # deviations of next to nothing
    order = torch.randperm(CELLS, generator=seeded())
    turned = Minibatch(*([v[order] for v in vs] for vs in batch[:2]), *(v[order] for v in batch[2:]))
    one, other = computed(model, batch, noise=0.0), computed(model, turned, noise=0.0)
    for name in TERMS:
        assert float(getattr(one, name)) == pytest.approx(float(getattr(other, name)), rel=1e-4), name


@torch.no_grad()
def test_the_batch_is_read_by_decoders_and_discriminator_and_not_by_encoders():
    model, batch = made_model(), made_batch()
    one, other = computed(model, batch), computed(model, batch._replace(batches=1 - batch.batches))
    assert float(one.kl) == float(other.kl)
    assert float(one.cos) == float(other.cos)
    for name in ("nll", "cross", "real_cross", "dsc"):
        assert float(getattr(one, name)) != float(getattr(other, name)), name


@torch.no_grad()
def test_a_discriminator_of_batches_that_are_not_shared_does_not_read_them():
    model, batch = made_model(shared=False), made_batch()
    one, other = computed(model, batch), computed(model, batch._replace(batches=1 - batch.batches))
    assert float(one.dsc) == float(other.dsc)


@torch.no_grad()
def test_the_generator_alone_decides_what_is_drawn():
    model, batch = made_model(), made_batch()
    torch.manual_seed(0)
    one = computed(model, batch)
    torch.manual_seed(1)
    assert computed(model, batch) == one
    assert float(computed(model, batch, seed=4).nll) != float(one.nll)


# ------------------------------------------------------------------ what must not break it


@pytest.mark.parametrize("cells", [1, 2, 12])
@pytest.mark.parametrize("only", [None, 0, 1])
def test_poor_cells_give_finite_losses_and_gradients(cells, only):
    model, batch = made_model().train().float(), made_batch(cells=12)
    inputs = [x[:cells].float() for x in batch.inputs]
    readings = [y[:cells].float() for y in batch.readings]
    readings[0][0] = 0  # a cell without a count
    readings[2][:] = 1
    for x in inputs:
        x[:, 0] = 2.5  # a constant feature
    observed = torch.ones(cells, 3, dtype=torch.bool)
    observed[0] = torch.arange(3) == 0 if only is None else False
    if only is not None:
        observed[:] = torch.arange(3) == only
    got = computed(model, Minibatch(inputs, readings, batch.batches[:cells], observed, batch.trust[:cells]))
    assert all(bool(torch.isfinite(v)) for v in got)
    got.generator.backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def test_a_cell_of_no_size_and_no_weights_gives_finite_gradients():
    model, batch = made_model(), made_batch()
    for p in model[0].sizes.parameters():
        p.data.zero_()
    got = computed(model, batch)
    got.generator.backward()
    assert bool(torch.isfinite(got.generator))
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())


@torch.no_grad()
def test_a_modality_that_is_seen_nowhere_adds_nothing_across():
    model, batch = made_model(), made_batch()
    observed = batch.observed.clone()
    observed[:] = torch.tensor([True, False, False])
    got = computed(model, batch._replace(observed=observed))
    assert float(got.real_cross) == 0
    assert float(got.cos) == pytest.approx(0, abs=1e-12)
    assert float(got.cross) > 0


@pytest.mark.parametrize("slots", [2, 4])
def test_two_or_more_modalities_will_do(slots):
    modalities = tuple(replace(MODALITIES[k % 3], name=str(k)) for k in range(slots))
    model, batch = made_model(modalities), made_batch(modalities)
    assert all(bool(torch.isfinite(v)) for v in computed(model, batch))
    assert model(batch.inputs).mean.shape == (slots, CELLS, slots * DIMS)
