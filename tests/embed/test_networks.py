"""An ensemble is as many ordinary networks: each member equals the same thing built of plain torch layers."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from unpaired.embed import convolution
from unpaired.embed.convolution import convolve
from unpaired.embed.networks import MLP, ConvNet

MEMBERS, N_IN, N_OUT, HIDDEN = 3, 5, 4, 8
LAYOUTS = ["L", "LBR", "LBRD LBRD", "LRB LBR LBR LBR L"]
IMAGES = [(1, 32, 32), (3, 64, 32), (2, 41, 33)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def mlp(layout="LBRD LBRD", dropout=0.0, seed=0):
    net = MLP(
        members=MEMBERS,
        n_in=N_IN,
        n_out=N_OUT,
        hidden=HIDDEN,
        layout=layout,
        dropout=dropout,
        generator=generator(seed),
    )
    return net.double()


def conv(shape=(1, 32, 32), members=2):
    return ConvNet(members=members, shape=shape, n_out=N_OUT, generator=generator()).double()


def plain_linear(ours, member):
    layer = nn.Linear(*ours.weight.shape[1:]).double()
    layer.weight.data = ours.weight.data[member].T.clone()
    layer.bias.data = ours.bias.data[member, 0].clone()
    return layer


def copy_norm(ours, layer, member):
    layer.double()
    layer.weight.data = ours.scale.data[member].clone()
    layer.bias.data = ours.shift.data[member].clone()
    layer.running_mean.data = ours.mean[member].clone()
    layer.running_var.data = ours.var[member].clone()
    return layer


def plain_mlp(net, layout, member):
    layers = []
    for letter, step in zip(layout.replace(" ", ""), net.steps, strict=True):
        if letter == "L":
            layers.append(plain_linear(step, member))
        elif letter == "B":
            layers.append(copy_norm(step, nn.BatchNorm1d(step.scale.shape[1]), member))
        else:
            layers.append(nn.ReLU() if letter == "R" else nn.Identity())
    return nn.Sequential(*layers, plain_linear(net.head, member))


def plain_conv(net, member):
    layers = []
    for kernel, norm in zip(net.kernels, net.norms, strict=True):
        _, n_out, n_in = kernel.shape[:3]
        layer = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False).double()
        layer.weight.data = kernel.data[member].clone()
        layers += [layer, copy_norm(norm, nn.BatchNorm2d(n_out), member), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Flatten(), plain_linear(net.code, member), plain_linear(net.head, member))


def disturb_norms(net):
    """Give the batch normalisations weights and running values that are not those of a new layer."""
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if name.rsplit(".", 1)[-1] in {"scale", "shift", "mean", "var"}:
            tensor.data = torch.rand(tensor.shape, generator=generator(5), dtype=tensor.dtype) + 0.5
    return net


def batch(*shape, seed=1):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64) * 2 + 0.3


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_member_of_mlp_equals_plain_layers_when_predicting(layout):
    net = disturb_norms(mlp(layout, dropout=0.5)).eval()
    x = batch(MEMBERS, 11, N_IN)
    for m in range(MEMBERS):
        close(net(x)[m], plain_mlp(net, layout, m).eval()(x[m]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_member_of_mlp_equals_plain_layers_when_training(layout):
    net = disturb_norms(mlp(layout)).train()
    plain = [plain_mlp(net, layout, m).train() for m in range(MEMBERS)]
    x = batch(MEMBERS, 11, N_IN)
    out = net(x)
    for m in range(MEMBERS):
        close(out[m], plain[m](x[m]))


def test_running_statistics_of_mlp_follow_plain_batch_normalisation():
    layout = "LBR LBR"
    net = disturb_norms(mlp(layout)).train()
    plain = [plain_mlp(net, layout, m).train() for m in range(MEMBERS)]
    for step in range(4):
        x = batch(MEMBERS, 6, N_IN, seed=step)
        net(x)
        for m in range(MEMBERS):
            plain[m](x[m])
    x = batch(MEMBERS, 9, N_IN, seed=99)
    out = net.eval()(x)
    for m in range(MEMBERS):
        close(out[m], plain[m].eval()(x[m]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_of_member_equals_that_of_plain_layers(layout):
    net = mlp(layout).train()
    x, y = batch(MEMBERS, 11, N_IN), torch.arange(11) % N_OUT
    plain = [plain_mlp(net, layout, m).train() for m in range(MEMBERS)]
    sum(functional.cross_entropy(net(x)[m], y) for m in range(MEMBERS)).backward()
    for m in range(MEMBERS):
        functional.cross_entropy(plain[m](x[m]), y).backward()
        close(net.steps[0].weight.grad[m].T, plain[m][0].weight.grad)
        close(net.head.bias.grad[m, 0], plain[m][-1].bias.grad)


@pytest.mark.parametrize("make", [mlp, conv], ids=["mlp", "conv"])
def test_output_of_one_member_has_no_gradient_in_the_others(make):
    net = make().train()
    shape = (MEMBERS, 7, N_IN) if make is mlp else (2, 7, 1, 32, 32)
    net(batch(*shape))[1].square().sum().backward()
    for name, parameter in net.named_parameters():
        others = [m for m in range(parameter.shape[0]) if m != 1]
        assert not parameter.grad[others].any(), name
        assert parameter.grad[1].any(), name


@pytest.mark.parametrize("make", [mlp, conv], ids=["mlp", "conv"])
def test_gradient_of_one_member_does_not_depend_on_the_data_of_another(make):
    shape = (MEMBERS, 7, N_IN) if make is mlp else (2, 7, 1, 32, 32)
    x = batch(*shape)
    other = x.clone()
    other[0] = 100 * batch(*shape[1:], seed=8)
    grads = []
    for data in (x, other):
        net = make().train()
        net(data).square().sum().backward()
        grads.append([p.grad[1].clone() for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("shape", IMAGES, ids=str)
def test_member_of_convnet_equals_plain_layers_when_predicting(shape):
    net = disturb_norms(conv(shape)).eval()
    x = batch(2, 3, *shape)
    for m in range(2):
        close(net(x)[m], plain_conv(net, m).eval()(x[m]))


@pytest.mark.parametrize("shape", IMAGES[:2], ids=str)
def test_member_of_convnet_equals_plain_layers_when_training(shape):
    net = disturb_norms(conv(shape)).train()
    plain = [plain_conv(net, m).train() for m in range(2)]
    x = batch(2, 4, *shape)
    out = net(x)
    for m in range(2):
        close(out[m], plain[m](x[m]))


@pytest.mark.parametrize("shape", [*IMAGES, (3, 64, 64)], ids=str)
def test_gradient_of_member_of_convnet_equals_that_of_plain_layers(shape):
    net = conv(shape).train()
    x, y = batch(2, 5, *shape), torch.arange(5) % N_OUT
    plain = [plain_conv(net, m).train() for m in range(2)]
    sum(functional.cross_entropy(net(x)[m], y) for m in range(2)).backward()
    for m in range(2):
        functional.cross_entropy(plain[m](x[m]), y).backward()
        for ours, layer in zip(net.kernels, plain[m][::3], strict=False):
            close(ours.grad[m], layer.weight.grad)
        for ours, layer in zip(net.norms, plain[m][1::3], strict=False):
            close(ours.scale.grad[m], layer.weight.grad)
            close(ours.shift.grad[m], layer.bias.grad)
        close(net.code.weight.grad[m].T, plain[m][-2].weight.grad)


@pytest.mark.parametrize("channels", [4, 128, 130])
@pytest.mark.parametrize("size", [(4, 4), (5, 3), (1, 2)], ids=str)
def test_convolution_and_its_gradients_are_torchs(channels, size):
    maps = batch(3, channels, *size).contiguous(memory_format=torch.channels_last).requires_grad_()
    kernel = batch(6, channels, 3, 3, seed=2).contiguous(memory_format=torch.channels_last).requires_grad_()
    out, plain = convolve(maps, kernel), functional.conv2d(maps, kernel, stride=2, padding=1)
    close(out, plain)
    grad = batch(*out.shape, seed=3)
    for ours, theirs in zip(*(torch.autograd.grad(o, (maps, kernel), grad) for o in (out, plain)), strict=True):
        close(ours, theirs)


@pytest.mark.parametrize("size", [(4, 4), (5, 3)], ids=str)
def test_the_quicker_gradient_is_taken_only_where_its_matrix_is_small(monkeypatch, size):
    asked = []
    windows = convolution._windows
    monkeypatch.setattr(convolution, "_windows", lambda maps: asked.append(windows(maps).numel()) or windows(maps))
    numbers = 3 * 2 * ((size[0] + 1) // 2) * 9 * 128
    for most, times in ((numbers, 1), (numbers - 1, 0)):
        monkeypatch.setattr(convolution, "_MOST", most)
        asked.clear()
        kernel = batch(6, 128, 3, 3, seed=2).requires_grad_()
        convolve(batch(3, 128, *size), kernel).sum().backward()
        assert asked == [numbers] * times


def test_a_gradient_that_nobody_asks_for_is_not_made(monkeypatch):
    maps, kernel = batch(3, 128, 4, 4), batch(6, 128, 3, 3, seed=2)
    grad = batch(3, 6, 2, 2, seed=3)
    plain = functional.conv2d(maps.requires_grad_(), kernel.requires_grad_(), stride=2, padding=1)
    of_maps, of_kernel = torch.autograd.grad(plain, (maps, kernel), grad)
    monkeypatch.setattr(torch.ops.aten, "convolution_backward", None)
    close(torch.autograd.grad(convolve(maps.detach(), kernel), kernel, grad)[0], of_kernel)
    monkeypatch.undo()
    monkeypatch.setattr(convolution, "_windows", None)
    close(torch.autograd.grad(convolve(maps, kernel.detach()), maps, grad)[0], of_maps)


@pytest.mark.parametrize("channels", [3, 128])
def test_in_bfloat16_the_convnet_learns_nearly_the_same_and_keeps_float32_weights(channels):
    x, y = batch(2, 6, channels, 32, 32).float(), torch.arange(12) % N_OUT
    grads = []
    for low in (False, True):
        net = conv((channels, 32, 32)).float().train()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            out = net(x)
        assert out.dtype == torch.float32
        functional.cross_entropy(out.flatten(0, 1), y).backward()
        grads.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
        assert grads[-1].dtype == torch.float32
    assert functional.cosine_similarity(*grads, dim=0) > 0.98


def test_running_statistics_of_convnet_follow_plain_batch_normalisation():
    net = conv().train()
    plain = [plain_conv(net, m).train() for m in range(2)]
    for step in range(2):
        x = batch(2, 4, 1, 32, 32, seed=step)
        net(x)
        for m in range(2):
            plain[m](x[m])
    for m in range(2):
        for ours, layer in zip(net.norms, plain[m][1::3], strict=False):
            close(ours.mean[m], layer.running_mean)
            close(ours.var[m], layer.running_var)


def test_convnet_has_the_published_channels_and_code():
    net = ConvNet(members=1, shape=(3, 128, 128), n_out=12, generator=generator())
    assert [k.shape[1] for k in net.kernels] == [32, 64, 128, 256, 512]
    assert tuple(net.code.weight.shape) == (1, 8192, 128)
    assert tuple(net.head.weight.shape) == (1, 128, 12)


@pytest.mark.parametrize("make", [mlp, conv], ids=["mlp", "conv"])
def test_every_tensor_of_the_state_has_the_member_as_leading_axis(make):
    net = make()
    members = {t.shape[0] for t in net.state_dict().values()}
    assert members == {MEMBERS if make is mlp else 2}


def test_members_begin_with_different_weights():
    weight = mlp().steps[0].weight
    assert not torch.equal(weight[0], weight[1])


def test_the_generator_alone_decides_the_first_weights():
    torch.manual_seed(0)
    one = mlp(seed=4).state_dict()
    torch.manual_seed(1)
    two, other = mlp(seed=4).state_dict(), mlp(seed=5).state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_first_weights_fill_the_range_of_torchs_own_linear_layer():
    net = MLP(members=2, n_in=400, n_out=9, hidden=300, layout="LR", dropout=0.0, generator=generator())
    largest = net.steps[0].weight.abs().max().item()
    assert 0.95 / math.sqrt(400) < largest <= 1 / math.sqrt(400)


def test_dropout_is_at_work_only_when_training():
    net = mlp("LRD", dropout=0.5)
    x = batch(MEMBERS, 20, N_IN)
    assert not torch.equal(net.train()(x), net(x))
    assert torch.equal(net.eval()(x), net(x))


@pytest.mark.parametrize("p", [0.0, 0.2, 0.999, 1.0])
def test_dropout_drops_its_share_and_keeps_the_mean(p):
    net = mlp("D", dropout=p).train()
    x = torch.ones(MEMBERS, 301, 101, dtype=torch.float64)
    torch.manual_seed(0)
    out = net.steps(x)
    kept = out != 0
    assert kept.double().mean().item() == pytest.approx(1 - p, abs=0.005)
    assert torch.unique(out[kept]).tolist() == pytest.approx([1 / (1 - p)] if p < 1 else [], rel=1e-2)


def test_a_single_cell_does_not_stop_the_training_of_an_mlp():
    assert torch.isfinite(mlp().train()(batch(MEMBERS, 1, N_IN))).all()
