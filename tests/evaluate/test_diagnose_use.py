"""When "use" is said: of which couplings anything is expected, and what must hold of what is expected."""

from dataclasses import replace

import numpy as np
import pytest

import unpaired as up
from unpaired.evaluate import diagnose as module
from unpaired.evaluate.expected import Expected

NAMES = ("rna", "image")
SURE = Expected((4.0, 9.0, 20.0), (0.05, 0.1, 0.2))
NOT_LEARNED = "of this one nothing is expected, so read nothing into single matches"


@pytest.fixture(scope="module")
def good(scored):
    data, _, space = scored(40, labels=12, error=0.2)
    return data, space


@pytest.fixture
def sure(monkeypatch):
    """Whatever the evidence, this is expected: the rules are learned anew with every bench."""

    def be(told=SURE):
        monkeypatch.setattr(module, "expect", lambda _: told)

    be()
    return be


LEARNED = {
    "auto": up.match_ot,
    "published": lambda data, space: up.match_ot(data, space, cost="euclidean", eps=0.05),
}
OTHERS = {
    "random": lambda data, _: up.match_random(data),
    "uniform": lambda data, _: up.match_uniform(data),
    "snn": up.match_snn,
    "a tiny eps": lambda data, space: up.match_ot(data, space, eps=1e-3, max_iter=20),
    "a tiny eps of distances": lambda data, space: up.match_ot(data, space, cost="euclidean", eps=1e-3, max_iter=20),
    "the published eps of squares": lambda data, space: up.match_ot(data, space, eps=0.05, max_iter=20),
    "a share of the median": lambda data, space: up.match_ot(data, space, eps="0.05*median"),
}


@pytest.mark.parametrize("made", LEARNED)
def test_of_couplings_like_those_learned_from_something_is_expected(good, sure, made):
    data, space = good
    diagnosis = up.diagnose(data, space, LEARNED[made](data, space))
    assert (diagnosis.verdict, diagnosis.expected) == ("use", SURE)


@pytest.mark.parametrize("made", OTHERS)
def test_of_other_couplings_nothing_is_expected_however_sure_they_are(good, sure, made):
    data, space = good
    diagnosis = up.diagnose(data, space, OTHERS[made](data, space))
    assert (diagnosis.verdict, diagnosis.expected) == ("average", None)
    assert NOT_LEARNED in diagnosis.sentence
    assert diagnosis.evidence is not None


@pytest.mark.parametrize("kind", ["latent", "features"])
def test_nor_of_couplings_in_other_spaces(good, sure, kind):
    data, space = good
    other = replace(space, space=kind)
    assert up.diagnose(data, other, up.match_ot(data, other)).expected is None


@pytest.mark.parametrize(
    ("trace", "foscttm", "verdict"),
    [
        ((1.01, module.TRACE, 20.0), (0.1, module.FOSCTTM, 0.6), "use"),
        ((1.0, module.TRACE, 20.0), (0.1, module.FOSCTTM, 0.6), "average"),
        ((0.4, 9.0, 20.0), (0.05, 0.1, 0.2), "average"),
        ((1.01, module.TRACE - 0.01, 20.0), (0.05, 0.1, 0.2), "average"),
        ((4.0, 9.0, 20.0), (0.1, module.FOSCTTM + 0.001, 0.6), "average"),
    ],
)
def test_use_needs_all_three(good, sure, trace, foscttm, verdict):
    sure(Expected(trace, foscttm))
    data, space = good
    diagnosis = up.diagnose(data, space, up.match_ot(data, space))
    assert diagnosis.verdict == verdict
    assert f"{foscttm[1]:.2f} ({foscttm[0]:.2f} to {foscttm[2]:.2f}" in diagnosis.sentence
    assert f"({trace[0]:.1f} times to {trace[2]:.0f} times)" in diagnosis.sentence


@pytest.mark.parametrize(("alone", "verdict"), [(0, "use"), (6, "use"), (7, "average")])
@pytest.mark.parametrize("side", NAMES)
def test_use_needs_half_of_the_cells_of_each_side(scored, sure, side, alone, verdict):
    other = [20] * (12 - alone) + [0] * alone
    data, _, space = scored({side: other, **{n: 20 for n in NAMES if n != side}}, labels=12, error=0.2)
    diagnosis = up.diagnose(data, space, up.match_ot(data, space))
    assert diagnosis["coverage"].value == pytest.approx(1 - alone / 12)
    assert diagnosis.verdict == verdict
    assert (f"over {12 - alone} of 12 labels" in diagnosis.sentence) == (alone > 0)
    assert (diagnosis.evidence.labels, diagnosis.evidence.labels_total) == (12 - alone, 12)


def test_labels_of_single_cells_are_none_that_can_tell(scored, sure):
    data, _, space = scored([40, 40, 40, 1, 1], labels=5)
    diagnosis = up.diagnose(data, space, up.match_ot(data, space))
    assert (diagnosis.evidence.labels, diagnosis.evidence.labels_total) == (3, 5)
    assert "over 3 of 5 labels, the true partner" in diagnosis.sentence


@pytest.mark.parametrize("bad", ["label signal", "coverage"])
def test_what_is_fatal_goes_before_all_that_is_expected(scored, sure, bad):
    data, _, space = scored(30, labels=5)
    matching = up.match_ot(data, space)
    if bad == "label signal":
        mixed = np.random.default_rng(0).permutation(data["rna"].labels)
        data = replace(data, modalities={**data.modalities, "rna": replace(data["rna"], labels=mixed)})
        matching = up.match_ot(data, space)
    else:
        failed = (replace(b, weights=None, status=replace(b.status, state="failed")) for b in matching.blocks)
        matching = replace(matching, blocks=tuple(failed))
    diagnosis = up.diagnose(data, space, matching)
    assert diagnosis.verdict == "do not use"
    assert diagnosis.sentence == next(c for c in diagnosis.checks if c.name.startswith(bad)).sentence
