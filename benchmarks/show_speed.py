"""Cells per second in training and in prediction, against a plain PyTorch loop of the same network.

The plain loop is the least that anybody would write: one member after another with ``torch.nn`` layers, partners that
were drawn beforehand, no validation, nothing kept. Ours draws its partners, validates every epoch, and keeps the best.
"""

from __future__ import annotations

import numpy as np
import torch
from machine import interleave, median, save, table, warn_if_busy
from torch import Tensor, nn

import unpaired as up

CELLS, FEATURES, LABELS = 8000, 50, 8
EPOCHS, BATCH, HIDDEN = 8, 256, 256


class Plain(nn.Module):
    """The default network in PyTorch's own layers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, FEATURES, bias=False)
        self.steps = nn.Sequential(
            nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(HIDDEN, FEATURES),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(cells, features)`` to predictions."""
        return self.steps(x) + self.linear(x)


def show(*, rounds: int = 5, name: str = "translation_speed") -> str:
    """Run the rounds, and return the table."""
    busy = warn_if_busy()
    data, matching = _problem()
    x, y = (torch.as_tensor(m.features) for m in data.modalities.values())
    rows = []
    result: dict[str, dict[str, float]] = {}
    for loss in ("unbiased", "mse"):
        for members in (1, 5):
            model = up.Translator(loss=loss, members=members, epochs=EPOCHS, device="cpu")
            partners = _drawn(matching, 2 if loss == "unbiased" else 1)
            runs = {
                "ours": lambda m=model: m.fit(data, matching),
                "plain": lambda d=partners, n=members: [_plain_fit(x, y, d) for _ in range(n)],
            }
            seconds = {k: median(v) for k, v in interleave(runs, rounds)[0].items()}
            rows.append(_row(f"training, {loss}, {members} members", seconds, CELLS * EPOCHS * members))
            result[f"training {loss} {members}"] = seconds
            if loss == "unbiased":
                trained = [_plain_fit(x, y, partners, epochs=1) for _ in range(members)]
                large = np.tile(data["a"].X, (10, 1))
                runs = {
                    "ours": lambda m=model, v=large: m.predict(v),
                    "plain": lambda t=trained, v=large: _plain_predict(t, v),
                }
                seconds = {k: median(v) for k, v in interleave(runs, rounds)[0].items()}
                rows.append(_row(f"prediction, {members} members", seconds, len(large) * members))
                result[f"prediction {members}"] = seconds
    save(name, {"busy": busy, "threads": torch.get_num_threads(), "seconds": result})
    return table(["", "cells/s, ours", "cells/s, plain", "ours / plain, seconds"], rows)


def _row(what: str, seconds: dict[str, float], cells: int) -> list[str]:
    return [
        what,
        *(f"{cells / seconds[k]:,.0f}" for k in ("ours", "plain")),
        f"{seconds['ours'] / seconds['plain']:.2f}",
    ]


def _problem() -> tuple[up.Dataset, up.Matching]:
    rng = np.random.default_rng(0)
    labels = np.arange(CELLS) % LABELS
    latent = rng.normal(size=(CELLS, 10)) + 2 * rng.normal(size=(LABELS, 10))[labels]
    arrays = {n: (latent @ rng.normal(size=(10, FEATURES))).astype(np.float32) for n in ("a", "b")}
    data = up.Dataset.from_arrays(arrays, dict.fromkeys(arrays, labels.astype(str)), recipes="none")
    space = up.features_embedding(up.Dataset.from_arrays(
        dict.fromkeys(arrays, latent.astype(np.float32)), dict.fromkeys(arrays, labels.astype(str)), recipes="none"
    ))  # fmt: skip
    return data, up.match_ot(data, space, eps="0.05*median")


def _drawn(matching: up.Matching, draws: int) -> list[Tensor]:
    """Partners of every target cell for all epochs."""
    back = matching.transpose
    return [torch.as_tensor(back.sample(np.random.default_rng(i))) for i in range(EPOCHS * draws)]


def _plain_fit(x: Tensor, y: Tensor, partners: list[Tensor], epochs: int = EPOCHS) -> Plain:
    x, y = ((v - v.mean(0)) / v.var(0).mean().sqrt() for v in (x, y))
    net = Plain()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    steps = round(0.9 * len(y) / BATCH)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=epochs * steps + 1, pct_start=0.1)
    draws = len(partners) // EPOCHS
    for epoch in range(epochs):
        order = torch.randperm(len(y))
        for step in range(steps):
            rows = order[step * BATCH : (step + 1) * BATCH]
            errors = [y[rows] - net(x[partners[epoch * draws + i][rows]]) for i in range(draws)]
            loss = (errors[0] * errors[-1]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
    return net


@torch.no_grad()
def _plain_predict(nets: list[Plain], values: np.ndarray) -> tuple[Tensor, Tensor]:
    for net in nets:
        net.eval()
    x = torch.as_tensor(values)
    parts = [torch.stack([net(part) for net in nets]) for part in x.split(4096)]
    out = torch.cat(parts, dim=1)
    return out.mean(0), out.std(0, correction=0)
