"""CLUE's networks: settings, shapes, where cells are put, and what is decoded for them."""

from dataclasses import fields, replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from unpaired.embed.clue_model import (
    PRESETS,
    ClueConfig,
    ClueModality,
    ClueModel,
    combine,
    decode,
    encode,
    encode_modality,
)
from unpaired.errors import OptionError

CELLS, DIMS, BATCHES = 10, 3, 2
CONFIG = ClueConfig(dims=DIMS, encoder_hidden=6, decoder_hidden=5, discriminator_hidden=7)
MODALITIES = (
    ClueModality("rna", inputs=4, features=9, likelihood="nb", sized=True),
    ClueModality("image", inputs=5, features=5, likelihood="normal", sized=False),
    ClueModality("peaks", inputs=3, features=7, likelihood="bernoulli", sized=True),
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def made_model(config=CONFIG, *, seed=0, disturbed=True, **kwargs):
    model = ClueModel(MODALITIES, batches=BATCHES, config=config, generator=seeded(seed), **kwargs)
    if disturbed:  # no tensor is at the value that it starts with
        for value in [*model.parameters(), *model.buffers()]:
            value.data += 0.3 * torch.rand(value.shape, generator=seeded(1))
    return model


def made_inputs(cells=CELLS):
    return [torch.randn(cells, m.inputs, generator=seeded(at)) for at, m in enumerate(MODALITIES)]


def made_batches(code=0):
    return torch.full((CELLS,), code)


def made_code():
    return torch.randn(CELLS, 3 * DIMS, generator=seeded(5))


# ------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dims", 0),
        ("encoder_depth", 0),
        ("decoder_hidden", 1.5),
        ("discriminator_hidden", "8"),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("lam_kl", -1.0),
        ("lam_cos", float("nan")),
        ("lam_align", "much"),
    ],
)
def test_a_setting_that_is_not_allowed_is_told_by_name(name, value):
    with pytest.raises(OptionError, match=name):
        ClueConfig(**{name: value})


def test_every_setting_is_checked():
    for field in fields(ClueConfig):
        with pytest.raises(OptionError, match=field.name):
            ClueConfig(**{field.name: -1})


def test_presets_are_the_published_ones():
    def of(name):
        c = PRESETS[name]
        shapes = [(c.encoder_depth, c.encoder_hidden), (c.decoder_depth, c.decoder_hidden)]
        shapes.append((c.discriminator_depth, c.discriminator_hidden))
        return c.dims, shapes, c.dropout, (c.lam_data, c.lam_kl, c.lam_align, c.lam_cross, c.lam_cos)

    assert set(PRESETS) == {"citeseq", "multiome", "default"}
    assert of("citeseq") == (20, [(2, 512), (1, 128), (2, 128)], 0.2, (1, 1, 2, 2, 1))
    assert of("multiome") == (50, [(2, 512), (1, 256), (1, 256)], 0.2, (1, 0.3, 0.02, 1, 0.02))
    assert of("default") == (50, [(2, 256), (2, 256), (2, 256)], 0.2, (1, 1, 0.02, 0.02, 0.02))


@pytest.mark.parametrize("change", [{"inputs": 0}, {"features": 0}, {"likelihood": "poisson"}, {"sized": False}])
def test_a_modality_that_cannot_be_is_refused_by_name(change):
    with pytest.raises(OptionError, match="rna"):
        replace(MODALITIES[0], **change)


def test_one_modality_is_too_few():
    with pytest.raises(OptionError, match="modalities"):
        ClueModel(MODALITIES[:1], batches=1, config=CONFIG, generator=seeded())


# ------------------------------------------------------------------ networks


def test_the_generator_alone_decides_the_first_weights():
    torch.manual_seed(0)
    one = made_model(disturbed=False).state_dict()
    torch.manual_seed(1)
    two, other = (made_model(seed=s, disturbed=False).state_dict() for s in (0, 1))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not torch.equal(one["discriminator.head.weight"], other["discriminator.head.weight"])


def test_every_tensor_of_the_state_has_a_leading_axis_of_one_and_batches_on_the_second():
    state = made_model().state_dict()
    assert all(value.shape[0] == 1 for value in state.values())
    of_batches = {k: v for k, v in state.items() if "per_batch" in k}
    assert all(value.shape[1] == BATCHES for value in of_batches.values())
    # of a decoder with two hidden layers: three layers, and what its likelihood needs
    assert len(of_batches) == 3 * 3 + (3 + 1 + 2) + 1


def test_what_belongs_to_features_and_batches_starts_at_zero():
    model = made_model(disturbed=False)
    names = [set(part.per_batch) for part in model.generator]
    assert names == [{"scale", "bias", "log_theta"}, {"deviation"}, {"scale", "bias"}]
    assert all(not p.any() for part in model.generator for p in part.per_batch.values())


def test_the_players_share_no_parameter_and_miss_none():
    model = made_model()
    generator, discriminator = (set(part.parameters()) for part in (model.generator, model.discriminator))
    assert not generator & discriminator
    assert generator | discriminator == set(model.parameters())


def torchs(perceptron, joined):
    """The same net of PyTorch's own layers; ``joined`` says which of them read a one-hot beside their input."""
    layers = []
    for layer, norm, wide in zip(perceptron.layers, perceptron.norms, joined, strict=False):
        layers += [linear(layer, wide), nn.LeakyReLU(0.2)]
        if not isinstance(norm, nn.Identity):
            layers.append(nn.BatchNorm1d(norm.scale.shape[1]))
            layers[-1].weight.data, layers[-1].bias.data = norm.scale.data[0].clone(), norm.shift.data[0].clone()
            layers[-1].running_mean.data, layers[-1].running_var.data = norm.mean[0].clone(), norm.var[0].clone()
    return [*layers, linear(perceptron.head, joined[-1])]


def linear(layer, wide):
    weight = torch.cat([layer.weight[0], layer.per_batch[0].T], dim=1) if wide else layer.weight[0]
    out = nn.Linear(weight.shape[1], weight.shape[0])
    out.weight.data, out.bias.data = weight.detach().clone(), layer.bias.data[0].clone()
    return out


@pytest.mark.parametrize(
    ("pick", "joined"),
    [
        (lambda m: m[1].encoders[2], [False] * 3),
        (lambda m: m[1].decoder, [True] * 3),
        (lambda m: m.discriminator, [True, False, False]),
    ],
    ids=["encoder", "decoder", "discriminator"],
)
@pytest.mark.parametrize("learning", [True, False])
def test_networks_are_torchs_own_layers_with_the_one_hot_joined_where_it_should_be(pick, joined, learning):
    net = pick(made_model(replace(CONFIG, dropout=0.0))).train(learning)
    plain = nn.ModuleList(torchs(net, joined)).train(learning)
    x = torch.randn(CELLS, net.layers[0].weight.shape[2], generator=seeded())
    batch = functional.one_hot(torch.arange(CELLS) % BATCHES, BATCHES).float()
    out, told = x, iter(joined)
    for layer in plain:
        out = layer(torch.cat([out, batch], dim=1) if isinstance(layer, nn.Linear) and next(told) else out)
    torch.testing.assert_close(net(x, batch if any(joined) else None), out)


def test_dropout_is_at_work_only_when_training():
    model, inputs = made_model(replace(CONFIG, dropout=0.5)), made_inputs()
    assert not torch.equal(model.train()(inputs).mean, model(inputs).mean)
    assert torch.equal(model.eval()(inputs).mean, model(inputs).mean)


def test_sizes_are_foretold_for_every_modality_by_those_that_have_counts():
    model, counts = made_model(disturbed=False), torch.arange(18.0).view(2, 9)
    sizes = model.sizes(0, counts)
    assert sizes.shape == (2, 3)
    assert (sizes > 0).all()  # ReLU would keep a size at zero for good
    assert model.sizes(1, torch.zeros(2, 5)) is None
    assert (model.sizes(0, -counts) == 0).any()


# ------------------------------------------------------------------ where cells are put


def test_a_code_has_a_part_for_each_modality():
    posterior = made_model()(made_inputs())
    assert posterior.mean.shape == posterior.std.shape == (3, CELLS, 3 * DIMS)
    assert (posterior.std > 0).all()
    model, inputs = made_model().eval(), made_inputs()
    (mean, _), whole = model.posterior(1, inputs[1]), model(inputs)
    torch.testing.assert_close(mean, whole.mean[1])
    out = model[1].encoders[2](inputs[1])
    torch.testing.assert_close(mean[:, 2 * DIMS :], out[:, :DIMS])


def test_codes_have_length_one():
    model, inputs = made_model(), made_inputs()
    codes = [encode_modality(model, at, x) for at, x in enumerate(inputs)]
    codes.append(encode(model, inputs, torch.ones(CELLS, 3, dtype=torch.bool)))
    for code in codes:
        torch.testing.assert_close(code.norm(dim=1), torch.ones(CELLS))
        assert not code.requires_grad


def test_permuting_the_cells_permutes_the_codes():
    model, inputs = made_model(), made_inputs()
    observed = torch.rand(CELLS, 3, generator=seeded()) < 0.7
    order = torch.randperm(CELLS, generator=seeded(1))
    turned = encode(model, [x[order] for x in inputs], observed[order])
    torch.testing.assert_close(turned, encode(model, inputs, observed)[order])


def test_what_is_not_observed_has_no_say_in_where_a_cell_is_put():
    model, inputs = made_model(), made_inputs()
    observed = torch.tensor([[True, False, False], [True, False, True], [False] * 3]).repeat(4, 1)[:CELLS]
    others = [torch.where(observed[:, at, None], x, 100.0) for at, x in enumerate(inputs)]
    code = encode(model, inputs, observed)
    assert torch.equal(code, encode(model, others, observed))
    torch.testing.assert_close(code[::3], encode_modality(model, 0, inputs[0])[::3])
    sums = encode_modality(model, 0, inputs[0]) + encode_modality(model, 2, inputs[2])
    torch.testing.assert_close(code[1::3], functional.normalize(sums, dim=1)[1::3])
    assert not code[2::3].any()  # nothing is known of them


def test_codes_that_cancel_out_give_no_nan():
    code = torch.nn.functional.normalize(torch.randn(1, 4, 6, generator=seeded()), dim=2)
    together = combine(torch.cat([code, -code]), torch.ones(4, 2, dtype=torch.bool))
    assert bool(torch.isfinite(together).all())


# ------------------------------------------------------------------ what is decoded


def test_expected_counts_add_up_to_the_library_size():
    size = torch.arange(CELLS) * 10.0
    mean, theta = decode(made_model(), 0, made_code(), made_batches(), size)
    assert mean.shape == theta.shape == (CELLS, 9)
    torch.testing.assert_close(mean.sum(1), size)
    assert (theta > 0).all()
    twice = decode(made_model(), 0, made_code(), made_batches(), 2 * size)
    torch.testing.assert_close(twice.mean, 2 * mean)


def test_counts_need_a_library_size():
    with pytest.raises(ValueError, match="library size"):
        decode(made_model(), 0, made_code(), made_batches())


def test_numbers_have_deviations_and_zeros_and_ones_probabilities():
    mean, std = decode(made_model(), 1, made_code(), made_batches())
    assert mean.shape == std.shape == (CELLS, 5)
    assert (std > 0).all()
    chance, nothing = decode(made_model(), 2, made_code(), made_batches())
    assert nothing is None
    assert ((chance > 0) & (chance < 1)).all()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_readings_are_those_of_the_batch_asked_for(at):
    model, code, size = made_model(), made_code(), torch.full((CELLS,), 50.0)
    one, other = (decode(model, at, code, made_batches(b), size).mean for b in range(BATCHES))
    assert ((one - other).abs() > 1e-4).any(dim=1).all()
    mixed = decode(model, at, code, torch.arange(CELLS) % BATCHES, size).mean
    torch.testing.assert_close(mixed[::2], one[::2])
    torch.testing.assert_close(mixed[1::2], other[1::2])


def test_a_decoder_reads_the_direction_of_its_own_part_only():
    model, code = made_model(), made_code()
    reading = decode(model, 1, code, made_batches()).mean
    torch.testing.assert_close(decode(model, 1, 3 * code, made_batches()).mean, reading)
    unit = functional.normalize(code, dim=1)
    unit[:, :DIMS] *= -1  # another modality's part, at the same length
    torch.testing.assert_close(decode(model, 1, unit, made_batches()).mean, reading)
    unit[:, DIMS : 2 * DIMS] *= -1
    assert not torch.allclose(decode(model, 1, unit, made_batches()).mean, reading)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cells_are_put_in_the_same_places_by_a_gpu():
    model, inputs = made_model(), made_inputs()
    here = encode(model, inputs, torch.ones(CELLS, 3, dtype=torch.bool))
    there = encode(model.cuda(), [x.cuda() for x in inputs], torch.ones(CELLS, 3, dtype=torch.bool).cuda())
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-4)
