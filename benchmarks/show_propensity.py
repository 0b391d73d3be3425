"""Seconds of a full propensity fit against a plain PyTorch loop of the published recipe, with both cross-entropies.

The plain loop is what a person would write: one model a modality of ``torch.nn`` layers, all published epochs, the
epoch of the lowest validation cross-entropy kept, in float32. Ours is the whole fit: five folds (once, and the default
three times), every cell scored by models that did not see it, the temperature learned; images in bfloat16 where the
processor has it. Both are judged on cells that they learned nothing from, not even the epoch: ours on all cells, out of
fold, the loop on a fifth of them. What the loop has on the cells that chose its epoch, as published, stands beside.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import CORES, median, save, short, table, timed, warn_if_busy
from torch import Tensor, nn
from torch.nn import functional

import unpaired as up
from unpaired.data.simulate import interventional_images
from unpaired.embed.classifiers import Network

CACHE = Path(__file__).resolve().parent / "cache" / "propensity"
BATCH, RATE, DECAY, PART = 256, 1e-4, 1e-4, 0.2
CHANNELS = (32, 64, 128, 256, 512)


def show(
    *,
    case: str,
    rounds: int,
    seed: int,
    plain_epochs: int | None,
    data: Path | None = None,
    size: int = 64,
    cells: int = 5000,
    epochs: int | None = None,
    many: bool = True,
) -> str:
    """Run all ways in turn, round after round, and return the table; what was run before is taken from the cache."""
    torch.set_num_threads(CORES)
    warn_if_busy()
    images = case == "images"
    name = f"images_{size}_{cells}_{epochs}" if images else case
    made = interventional_images(cells, size=size, seed=seed)[0] if images else _pbmc10k(data)
    kinds = ("auto",) if images else ("auto", "mlp")
    ways: dict[str, Callable[[up.Dataset], dict[str, Any]]] = {
        f"{_NAMES[kind, images]}, 5 folds x {repeats}": _ours(kind, repeats, epochs, seed)
        for kind in kinds
        for repeats in ((1, 3) if many else (1,))
    }
    whole = 100 if images else 250
    most = plain_epochs or whole
    ways[f"plain loop, {most} epochs"] = lambda d: _plain(d, most, seed)
    up.Propensity(classifier="mlp", folds=2, repeats=1, epochs=1).fit(up.examples.digits()[0])  # imports, off the clock
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for turn in range(rounds):
        for way, run in ways.items():
            key = f"{name}_{seed}_{turn}_{CORES}_{way}"
            found[way].append(_kept(key, lambda r=run: _clocked(r, made)))
    seconds = {way: median(r["core_seconds"] for r in runs) for way, runs in found.items()}
    plain = seconds[next(w for w in ways if w.startswith("plain"))] * whole / most
    save(f"propensity_{case}", {"what": name, "plain_epochs": most, "published_epochs": whole, "runs": found})
    rows = [
        [way, short(seconds[way]), f"{seconds[way] / plain:.3f}", *(f"{v:.3f}" for v in runs[0]["loss"].values())]
        for way, runs in found.items()
    ]
    chosen = next(runs[0]["valid"] for way, runs in found.items() if way.startswith("plain"))
    rows.append(["the same, on the cells that chose the epoch", "", "", *(f"{v:.3f}" for v in chosen.values())])
    if most < whole:
        rows.append([f"plain loop, {whole} epochs, by its seconds an epoch", short(plain), "1.000", *[""] * len(made)])
    header = ["", "core seconds", f"of {whole} epochs of the plain loop", *(f"cross-entropy, {m}" for m in made)]
    return table(header, rows)


_NAMES = {
    ("auto", True): "ours (conv)",
    ("auto", False): "ours (logistic)",
    ("mlp", False): "ours (mlp)",
}


def _pbmc10k(folder: Path | None) -> up.Dataset:
    files = [f"{m}={Path(folder or '.') / 'pbmc10k_cite' / f'{m}.h5ad'}" for m in ("rna", "adt")]
    read: up.Dataset = up.read_h5ad(*files, label="label", pairing="hide")[0]
    return read


def _clocked(run: Callable[[up.Dataset], dict[str, Any]], data: up.Dataset) -> dict[str, Any]:
    # Copies that have neither features nor keys yet: who needs them computes them on its own clock.
    fresh = replace(data, modalities={n: replace(m) for n, m in data.modalities.items()})
    start, load = time.process_time(), os.getloadavg()[0]
    seconds, result = timed(lambda: run(fresh))
    # All cores' time together: what the clock says depends on who else is at work.
    spent = {"seconds": seconds, "core_seconds": time.process_time() - start, "load_before": load, "threads": CORES}
    return {**spent, **result}


def _ours(kind: str, repeats: int, epochs: int | None, seed: int) -> Callable[[up.Dataset], dict[str, Any]]:
    def run(data: up.Dataset) -> dict[str, Any]:
        model = up.Propensity(classifier=kind, repeats=repeats, epochs=epochs, device="cpu", seed=seed).fit(data)
        nets = {n: f.models for n, f in model.fits_.items() if isinstance(f.models, Network)}
        return {
            "loss": {n: q.cross_entropy for n, q in model.validation_.items()},  # out of fold
            "valid": {n: min(net.history) for n, net in nets.items()},  # a member's own, on the cells of its epoch
            "accuracy": {n: q.accuracy for n, q in model.validation_.items()},
            "used": model.used(),
            "epochs": {n: len(net.history) for n, net in nets.items()},
        }

    return run


def _plain(data: up.Dataset, epochs: int, seed: int) -> dict[str, Any]:
    """Train one model a modality: a fifth of the cells judges it, and a fifth of the others chooses its epoch."""
    torch.manual_seed(seed)
    fits = {n: _plain_fit(m, len(data.classes), epochs) for n, m in data.modalities.items()}
    return {k: {n: f[k] for n, f in fits.items()} for k in ("loss", "valid", "epoch", "accuracy")}


def _plain_fit(modality: up.Modality, classes: int, epochs: int) -> dict[str, float]:
    known = modality.labels >= 0
    x, y = torch.as_tensor(modality.features[known]), torch.as_tensor(modality.labels[known].astype(np.int64))
    if x.ndim == 2:
        x = (x - x.mean(0)) / x.var(0).mean().sqrt()
    tested = int(PART * len(y))
    test, valid, learn = torch.randperm(len(y)).tensor_split((tested, tested + int(PART * (len(y) - tested))))
    net = _conv_net(x.shape[1:], classes) if x.ndim == 4 else _perceptron(x.shape[1], classes)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, weight_decay=DECAY)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=epochs, pct_start=0.1)
    best, at, kept = float("inf"), 0, net.state_dict()
    for epoch in range(epochs):
        net.train()
        for rows in learn[torch.randperm(len(learn))].split(BATCH):
            if len(rows) > 1:
                optimizer.zero_grad()
                functional.cross_entropy(net(x[rows]), y[rows]).backward()
                optimizer.step()
        if epoch + 1 < epochs:
            cycle.step()
        loss, _ = _judge(net, x[valid], y[valid])
        if loss < best:
            best, at, kept = loss, epoch, deepcopy(net.state_dict())
    net.load_state_dict(kept)
    loss, accuracy = _judge(net, x[test], y[test])
    return {"loss": loss, "valid": best, "epoch": at, "accuracy": accuracy}


@torch.no_grad()
def _judge(net: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    net.eval()
    logits = torch.cat([net(part) for part in x.split(1024)])
    return float(functional.cross_entropy(logits, y)), float((logits.argmax(1) == y).float().mean())


def _perceptron(n_in: int, classes: int, hidden: int = 1024) -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(n_in, hidden), nn.ReLU(), nn.BatchNorm1d(hidden)]
    for _ in range(3):
        layers += [nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, hidden), nn.Linear(hidden, classes))


def _conv_net(shape: tuple[int, ...], classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    channels, height, width = shape
    for n in CHANNELS:
        layers += [nn.Conv2d(channels, n, 3, stride=2, padding=1), nn.BatchNorm2d(n), nn.LeakyReLU()]
        channels, height, width = n, -(-height // 2), -(-width // 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, 128), nn.Linear(128, classes))


def _kept(name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of ``work``, or what it gave the last time."""
    file = CACHE / f"{name.replace(' ', '_').replace(',', '')}.json"
    if not file.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(work(), indent=1))
        part.replace(file)
    found: dict[str, Any] = json.loads(file.read_text())
    return found
