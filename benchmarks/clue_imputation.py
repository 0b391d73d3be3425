"""What CLUE imputes: proteins of tumours against ridge regression, and counts of two batches with their intervals.

    python benchmarks/clue_imputation.py tumours DATA --seeds 3
    python benchmarks/clue_imputation.py batches DATA --seeds 2

DATA is a folder with tcga_brca_multiomics (tumours) and bmmc_cite_starter (batches). In "tumours" a fifth of the
patients lacks the protein, five times over; their mRNA and miRNA are learned from like everybody's. In "batches" a
quarter of the cells lacks the target; "donors" are the two batches of the data; in "thinned" half of the cells are a
batch of their own that lost from 10 to 90 % of the target's counts, by feature, so that what they had is known.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import save, table
from scipy.stats import nbinom
from translations import spread

import unpaired as up
from unpaired.embed.clue_model import PRESETS, ClueConfig

FOLDS = 5
# For a hundred patients. The best of eight settings tried in this very cross-validation: its figures flatter.
SMALL = ClueConfig(16, 1, 128, 1, 128, 2, 64, 0.5, lam_cross=2.0, lam_real_cross=2.0, lam_cos=1.0)
LEVELS = (0.5, 0.8, 0.95)


def _alone(learn: Any) -> Any:
    """Return what is learned from, with the same recipes fitted on it alone; the model takes held-out cells by them."""
    return up.prepare(learn, recipes={n: m.recipe.spec for n, m in learn.modalities.items()})


# --------------------------------------------------------------------------------------------------------- tumours


def tumours(name: str, folder: Path, seed: int) -> dict[str, Any]:
    """Return the imputed protein of every patient, from models that did not see it."""
    data = _tumours(folder)
    rows = {n: data.pairs.partners("mrna", n) if n != "mrna" else np.arange(len(data["mrna"])) for n in data}
    measured = np.asarray(data["protein"].X, dtype=float)[rows["protein"]]
    mean, spread = (np.empty(measured.shape) for _ in range(2))
    for held in folds(len(measured)):
        seen = np.setdiff1d(np.arange(len(measured)), held)
        learn = _alone(data.take({**rows, "protein": rows["protein"][seen]}))
        config, given = (SMALL, {"components": 30, "batch": 32}) if name == "small" else (PRESETS["default"], {})
        model = up.Clue(config=config, epochs=60 if name == "small" else 300, seed=seed, **given).fit(learn)
        ask = data.take({n: rows[n][held] for n in ("mrna", "mirna")} | {"protein": rows["protein"][:0]})
        mean[held], spread[held] = model.impute(ask, ("mrna", "mirna"), "protein")
    inside = np.abs(measured - mean) < 1.96 * spread
    return {"config": name, "seed": seed, "mean": mean.tolist(), "covered": float(inside.mean())}


def _tumours(folder: Path) -> Any:
    files = [f"{n}={folder / 'tcga_brca_multiomics' / n}.h5ad" for n in ("mrna", "mirna", "protein")]
    return up.read_h5ad(*files, label="label", pairing="use")[0]


def folds(n: int) -> list[Any]:
    """Return the patients of every fold."""
    return np.array_split(np.random.default_rng(0).permutation(n), FOLDS)


def ridge(folder: Path, names: tuple[str, ...]) -> Any:
    """Return the protein that ridge regression foretells, its penalty chosen inside the folds."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = _tumours(folder)
    rows = {n: data.pairs.partners("mrna", n) if n != "mrna" else np.arange(len(data["mrna"])) for n in data}
    x = np.hstack([np.asarray(data[n].X, dtype=float)[rows[n]] for n in names])
    y = np.asarray(data["protein"].X, dtype=float)[rows["protein"]]
    told = np.empty(y.shape)
    for held in folds(len(y)):
        seen = np.setdiff1d(np.arange(len(y)), held)
        told[held] = (
            make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 16))).fit(x[seen], y[seen]).predict(x[held])
        )
    return y, told


def quality(measured: Any, told: Any) -> tuple[float, float]:
    """Return Pearson's r and R2, mean over proteins; R2 against the mean of all patients."""
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(measured.T, told.T, strict=True)]
    rest = ((measured - told) ** 2).sum(axis=0) / ((measured - measured.mean(axis=0)) ** 2).sum(axis=0)
    return float(np.mean(r)), float(np.mean(1 - rest))


def show_tumours(a: argparse.Namespace) -> dict[str, Any]:
    """Print the table."""
    found = spread(tumours, [(c, a.data, s) for c in ("small", "default") for s in range(a.seeds)], a.jobs)
    both, mrna = ridge(a.data, ("mrna", "mirna")), ridge(a.data, ("mrna",))
    rows = [("ridge, mRNA and miRNA", *quality(*both), None), ("ridge, mRNA", *quality(*mrna), None)]
    for config in ("small", "default"):
        own = [f for f in found if f["config"] == config]
        each = [quality(both[0], np.array(f["mean"])) for f in own]
        covered = float(np.mean([f["covered"] for f in own]))
        rows.append((f"CLUE, {config}, mean of {a.seeds} seeds", *np.mean(each, axis=0).tolist(), covered))
        mean = np.mean([f["mean"] for f in own], axis=0)
        rows.append((f"CLUE, {config}, {a.seeds} models averaged", *quality(both[0], mean), None))
    print(table(["protein from mRNA and miRNA", "Pearson's r", "R2", "within 1.96 sd"], [_cells(r) for r in rows]))
    return {"rows": [list(r) for r in rows]}


# --------------------------------------------------------------------------------------------------------- batches


def batches(case: str, source: str, target: str, folder: Path, seed: int) -> dict[str, Any]:
    """Return coverage in the cells' own batch, and the error of means in the batch asked for and in the other."""
    data, whole, place = _batches(case, target, folder, seed)
    rng = np.random.default_rng(seed)
    held = np.sort(rng.permutation(len(data[source]))[: len(data[source]) // 4])
    partner = data.pairs.partners(source, target)
    seen = np.setdiff1d(np.arange(len(partner)), held)
    learn = _alone(data.take({source: np.arange(len(partner)), target: partner[seen]}))
    epochs = round(1500 / max(1, round(0.9 * len(partner) / 128)))
    model = up.Clue("citeseq", epochs=epochs, seed=seed).fit(learn)
    ask = data.take({source: held, target: partner[:0]})
    y, own = _dense(data[target].X)[partner[held]], data[source].batch[held]
    found: dict[str, Any] = {"case": case, "direction": f"{source} -> {target}", "seed": seed}
    found["covered"] = _covered(y, *model.impute(ask, source, target, library_size=y.sum(axis=1)), rng)
    mean = model.impute(ask, source, target, library_size=y.sum(axis=1)).mean
    found["r"] = float(np.nanmean([_r(np.log1p(a), np.log1p(b)) for a, b in zip(y.T, mean.T, strict=True)]))
    if whole is not None:  # what the cells of the thinned batch had before, read in the batch where nothing is lost
        lost = own == "thinned"
        true = whole[place[partner[held[lost]]]]
        some = ask.take({source: np.flatnonzero(lost), target: partner[:0]})
        size = true.sum(axis=1)
        right, wrong = (
            model.impute(some, source, target, library_size=size, batch=b).mean for b in ("whole", "thinned")
        )
        found["asked"], found["own"] = (_profile_error(true, m) for m in (right, wrong))
    return found


def _batches(case: str, target: str, folder: Path, seed: int) -> tuple[Any, Any, Any]:
    files = [f"{n}={folder / 'bmmc_cite_starter' / n}.h5ad" for n in ("rna", "adt")]
    data = up.read_h5ad(*files, label="label", batch="batch", pairing="use")[0]
    if case == "donors":
        return data, None, None
    rng = np.random.default_rng(100 + seed)
    X = _dense(data[target].X)
    lost = rng.uniform(0.1, 0.9, X.shape[1])
    other = next(n for n in data if n != target)
    thin = rng.random(len(X)) < 0.5
    thinned = np.where(thin[:, None], rng.binomial(X.astype(int), 1 - lost), X).astype(np.float32)
    name = np.where(thin, "thinned", "whole")
    change = {target: replace(data[target], X=thinned, batch=name)}
    change |= {other: replace(data[other], batch=name[data.pairs.partners(other, target)])}
    return replace(data, modalities={**data.modalities, **change}), X, np.arange(len(X))


def _covered(y: Any, mean: Any, spread: Any, rng: Any) -> dict[str, float]:
    """Share of counts within the central intervals that are foretold; steps of whole counts are drawn into."""
    theta = mean**2 / np.maximum(spread**2 - mean, 1e-12)
    p = theta / (theta + mean)
    below, at = nbinom.cdf(y - 1, theta, p), nbinom.cdf(y, theta, p)
    u = below + rng.random(y.shape) * (at - below)
    return {str(level): float((np.abs(u - 0.5) < level / 2).mean()) for level in LEVELS}


def _profile_error(true: Any, told: Any) -> float:
    """Mean over features of the distance of log2 means."""
    a, b = (np.log2(x.mean(axis=0) + 0.01) for x in (true, told))
    return float(np.abs(a - b).mean())


def _r(a: Any, b: Any) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else float("nan")


def _dense(X: Any) -> Any:
    return np.asarray(X.toarray() if hasattr(X, "toarray") else X)


def show_batches(a: argparse.Namespace) -> dict[str, Any]:
    """Print the table."""
    ways = (("rna", "adt"), ("adt", "rna"))
    tasks = [(c, *w, a.data, s) for c in ("donors", "thinned") for w in ways for s in range(a.seeds)]
    found = spread(batches, tasks, a.jobs)
    rows = []
    for case, (source, target) in [(c, w) for c in ("donors", "thinned") for w in ways]:
        own = [f for f in found if f["case"] == case and f["direction"] == f"{source} -> {target}"]
        covered = [float(np.mean([f["covered"][str(level)] for f in own])) for level in LEVELS]
        errors = [float(np.mean([f[k] for f in own])) if k in own[0] else None for k in ("asked", "own")]
        rows.append((f"{case}, {source} -> {target}", *covered, float(np.mean([f["r"] for f in own])), *errors))
    header = ["counts", *(f"{level:.0%} interval holds" for level in LEVELS), "r of log counts"]
    header += ["log2 error of means, in the batch asked for", "in their own"]
    print(table(header, [_cells(r) for r in rows]))
    return {"results": found}


def _cells(row: tuple[Any, ...]) -> list[str]:
    return ["" if v is None else v if isinstance(v, str) else f"{v:.3f}" for v in row]


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("tumours", "batches"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    a = parser.parse_args()
    found = {"tumours": show_tumours, "batches": show_batches}[a.what](a)
    save(f"clue_{a.what}", {"seeds": a.seeds, **found})


if __name__ == "__main__":
    main()
