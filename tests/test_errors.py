"""Errors survive the way from a worker."""

import pickle

from unpaired.errors import DataError, Problem


def test_a_data_error_comes_out_of_a_worker_with_its_problems():
    error = DataError([Problem("warning", "b.h5ad", "odd."), Problem("error", "a.h5ad", "unreadable.", "Mend it.")])
    again = pickle.loads(pickle.dumps(error))
    assert again.problems == error.problems
    assert str(again) == str(error) == "error: a.h5ad: unreadable. Mend it.\nwarning: b.h5ad: odd."
