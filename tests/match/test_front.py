"""The front door of optimal transport: what it asks of the engine, and what it makes of the answers."""

import sys

import numpy as np
import pytest
import scipy.sparse as sp

from unpaired.errors import OptionError
from unpaired.match.transport import match_ot
from unpaired.match.transport.solution import Plan, Solution


class Engine:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self, **answer):
        self.answer, self.problems, self.options = answer, None, None

    def __call__(self, problems, **options):
        self.problems, self.options = problems, options
        for x, y, a, b in problems:
            with np.errstate(divide="ignore"):
                plan = Plan(x, y, np.log(a), np.log(b), options["eps"], options["cost"])
            known = {
                "coupling": sp.csr_matrix(np.outer(a, b)),
                "dropped": np.zeros(len(a)),
                "converged": True,
                "marginal_error": 1e-5,
                "iterations": 7,
                "seconds": 0.25,
                "memory": 1000,
                "advice": "",
                "used": {"path": "dense", "eps": options["eps"], "cost": options["cost"]},
            }
            yield Solution(plan, **(known | self.answer))


@pytest.fixture
def engine(monkeypatch):
    def put(**answer):
        made = Engine(**answer)
        monkeypatch.setattr("unpaired.match.transport.solve.solve_many", made)
        return made

    return put


def test_all_labels_and_options_reach_the_engine_at_once(problem, engine):
    asked = engine()
    data, space = problem({"left": (4, 1, 3), "right": (3, 5, 6)})
    options = {"eps": 0.5, "cost": "euclidean", "unbalanced": 2.0, "max_iter": 9, "max_seconds": 3.0, "tol": 1e-3}
    match_ot(data, space, keep=0.9, memory="2GB", jobs=3, **options)
    assert [(len(x), len(y)) for x, y, _, _ in asked.problems] == [(4, 3), (3, 6)]
    assert asked.options == {**options, "keep": 0.9, "memory": 2 * 10**9, "device": "cpu", "jobs": 3}


def test_by_default_the_engine_finds_out_how_much_memory_is_free(problem, engine):
    asked = engine()
    match_ot(*problem(), eps=1.0)
    assert asked.options["memory"] is None
    assert asked.options["device"] == "cpu"


def test_a_solution_becomes_a_block_with_its_certificate(problem, engine):
    engine(dropped=np.array([0.001, 0.0, 0.003, 0.0]))
    (block,) = match_ot(*problem({"left": (4,), "right": (5,)}), eps=0.5, keep=0.99).blocks
    status = block.status
    assert sp.issparse(block.weights)
    assert (status.state, status.advice, status.marginal_error) == ("ok", "", 1e-5)
    assert (status.iterations, status.seconds) == (7, 0.25)
    assert status.used == {
        "path": "dense",
        "eps": 0.5,
        "cost": "sqeuclidean",
        "memory": 1000,
        "row_mass_kept": 0.99,
        "largest_dropped": 0.003,
        "total_dropped": pytest.approx(0.004),
    }


def test_where_the_coupling_has_no_room_the_block_holds_the_plan(problem, engine):
    engine(coupling=None)
    (block,) = match_ot(*problem({"left": (4,), "right": (5,)}), eps=0.5).blocks
    assert isinstance(block.weights, Plan)
    assert block.status.state == "ok"
    assert "row_mass_kept" not in block.status.used
    assert block.dense().shape == (4, 5)


def test_a_solution_that_did_not_converge_keeps_its_coupling_error_and_advice(problem, engine):
    engine(converged=False, marginal_error=0.2, advice="raise max_seconds.")
    (block,) = match_ot(*problem({"left": (4,), "right": (5,)}), eps=0.5).blocks
    assert block.matched
    assert (block.status.state, block.status.advice) == ("not_converged", "raise max_seconds.")
    assert block.status.marginal_error == 0.2


@pytest.mark.parametrize("error", [np.nan, np.inf, 1e300])
def test_a_solution_without_an_error_to_speak_of_is_no_coupling(problem, engine, error):
    engine(converged=False, marginal_error=error, coupling=None, advice="off by nan.")
    matching = match_ot(*problem({"left": (4,), "right": (5,)}), eps=0.5)
    (block,) = matching.blocks
    assert not block.matched
    assert block.status.state == "failed"
    assert "too large for eps = 0.5" in block.status.advice
    assert np.isnan(block.status.marginal_error)
    assert matching.coverage.left_out == {"a": block.status.advice}


def test_the_options_are_kept_as_they_were_used(problem, engine):
    engine()
    one, two = (match_ot(*problem(), eps=1.0, memory="1GB", jobs=j).made_by.options for j in (1, 2))
    assert one == two  # threads change no result
    assert (one["memory"], one["keep"], one["device"]) == (10**9, 0.999, "cpu")


BAD = [("keep", 0), ("keep", 1.1), ("memory", "lots"), ("memory", 0), ("device", "gpu"), ("device", None)]


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{n}={v!r}" for n, v in BAD])
def test_a_bad_option_is_one_sentence_that_names_it(problem, engine, name, value):
    asked = engine()
    with pytest.raises(OptionError, match=f"^{name} must be .*; got .*\\.$"):
        match_ot(*problem(), eps=1.0, **{name: value})
    assert asked.problems is None


def test_a_cuda_device_that_is_not_there_is_refused_in_one_sentence(problem, engine, monkeypatch):
    import torch

    asked = engine()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionError, match=r"^device must be auto or one that this machine has \(cpu\); got 'cuda'\.$"):
        match_ot(*problem(), eps=1.0, device="cuda")
    assert asked.problems is None


@pytest.mark.parametrize(("there", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_a_cuda_device_where_there_is_one(problem, engine, monkeypatch, there, expected):
    import torch

    asked = engine()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    options = match_ot(*problem(), eps=1.0, device="auto").made_by.options
    assert asked.options["device"] == options["device"] == expected


def test_the_cpu_is_taken_without_asking_torch(problem, engine, monkeypatch):
    engine()
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it is an error now
    assert match_ot(*problem(), eps=1.0).matched
