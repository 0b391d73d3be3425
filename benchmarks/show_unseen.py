"""L2, W1 and KL between predicted and measured cells: of labels that were learned from, and of labels held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from machine import save, table
from translations import kept, load, quartiles, spread

import unpaired as up

CASES: dict[str, tuple[tuple[str, str, str], list[str], float]] = {  # data, held-out labels, fraction to test by
    "mfeat pix -> fac, without 7": (("uci_mfeat", "pix", "fac"), ["7"], 0.2),
    "mfeat fou -> kar, without 7": (("uci_mfeat", "fou", "kar"), ["7"], 0.2),
    "pbmc10k rna -> adt, without CD16 mono": (("pbmc10k_cite", "rna", "adt"), ["CD16 mono"], 0.2),
    # Three samples a compound: none can be spared, so in distribution is judged on those that were learned from.
    "p100 pc3 -> yapc, without 6 compounds": (
        ("p100_drugs_pc3_yapc", "pc3", "yapc"),
        ["Bortezomib", "Trametinib", "Dasatinib", "Vorinostat", "Doxorubicin", "Crizotinib"],
        0.0,
    ),
}
METRICS = ("l2", "wasserstein", "kl_gaussian")


def show(*, data: Path, cases: list[str] | None, seeds: list[int], members: int, jobs: int) -> str:
    """Train on everything, and return the table."""
    chosen = cases or list(CASES)
    tasks = [(case, data, seed, members) for case in chosen for seed in seeds]
    found = dict(zip([(c, s) for c, _, s, _ in tasks], spread(_one, tasks, jobs), strict=True))
    scores = {f"{case}, {seed}": result for (case, seed), result in found.items()}
    save("translation_unseen", {"members": members, "seeds": seeds, "scores": scores})
    rows = []
    for case in chosen:
        for part in ("in distribution", "held-out label"):
            for how in ("uniform", "ot", "nothing"):
                scores = [found[case, s][part][how] for s in seeds]
                shown = [
                    quartiles([s[average][m] for s in scores])
                    for average in ("by_cells", "by_inverse_cells")
                    for m in METRICS
                ]
                rows.append([case, part, how, *shown])
    head = ["", "", "learned from", "L2", "W1", "KL", "L2, inverse", "W1, inverse", "KL, inverse"]
    return table(head, rows)


def _one(case: str, folder: Path, seed: int, members: int) -> dict[str, Any]:
    return kept(f"unseen_{case}_{seed}_{members}", lambda: _train_all(case, folder, seed, members))


def _train_all(case: str, folder: Path, seed: int, members: int) -> dict[str, Any]:
    of, labels, fraction = CASES[case]
    _, source, target = of
    data, truth = load(of, folder, pairing="none" if of[0].startswith("p100") else "hide")
    train, _, held = up.hold_out(data, truth, labels=labels, fraction=fraction, seed=seed)
    space = up.Propensity(seed=seed).fit(train).transform(train)
    names = {"source": source, "target": target}
    parts = {
        "in distribution": held.take("test")[0] if fraction else train,
        "held-out label": held.take("label")[0],
    }
    out: dict[str, Any] = {part: {} for part in parts}
    matchings = {"uniform": up.match_uniform(train, **names), "ot": up.match_ot(train, space, **names)}
    for how, matching in matchings.items():
        model = up.Translator(members=members, device="cpu", seed=seed).fit(train, matching, **names)
        for part, cells in parts.items():
            found = up.score_translation(model.predict(cells[source]), cells, reference=train, seed=seed)
            d = found.to_dict()["distributions"]
            out[part][how] = {k: d[k] for k in ("by_cells", "by_inverse_cells", "coverage")}
            out[part]["nothing"] = {k: d[f"baseline_{k}"] for k in ("by_cells", "by_inverse_cells")}
    return out
