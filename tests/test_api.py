"""The shape of the public API: what it exports, how it is called, and what importing it costs."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

import unpaired as up

FUNCTIONS = sorted(n for n in up.__all__ if inspect.isfunction(getattr(up, n)))
CLASSES = sorted(n for n in up.__all__ if inspect.isclass(getattr(up, n)))
HEAVY = ("torch", "lightning", "ot", "matplotlib", "anndata", "mudata", "pandas", "sklearn", "scipy", "numpy")


def loaded_by(code: str) -> set[str]:
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return {name.partition(".")[0] for name in json.loads(out.splitlines()[-1])}


def test_every_public_name_can_be_had():
    assert len(up.__all__) == len(set(up.__all__))
    assert 25 <= len(up.__all__) <= 47
    for name in up.__all__:
        assert getattr(up, name) is not None
    assert set(up.__all__) <= set(dir(up))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = up.nothing_like_this


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import unpaired") & set(HEAVY)


def test_the_command_line_answers_for_help_without_heavy_libraries():
    assert not loaded_by("import unpaired.cli") & {*HEAVY, "rich"}


def test_data_can_be_read_and_matched_in_a_process_without_torch():
    code = (
        "import numpy as np, unpaired as up\n"
        "r = np.random.default_rng(0)\n"
        "X = {'a': r.normal(size=(20, 3)), 'b': r.normal(size=(20, 3))}\n"
        "y = ['s', 't'] * 10\n"
        "data = up.Dataset.from_arrays(X, {'a': y, 'b': y})\n"
        "up.match_snn(data, up.features_embedding(data))"
    )
    assert not loaded_by(code) & {"torch", "lightning", "ot", "matplotlib"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_few_arguments_by_position(name):
    kinds = [p.kind for p in inspect.signature(getattr(up, name)).parameters.values()]
    assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) <= 4
    assert inspect.Parameter.VAR_KEYWORD not in kinds


@pytest.mark.parametrize("name", FUNCTIONS)
def test_flags_and_options_have_names_when_called(name):
    for parameter in inspect.signature(getattr(up, name)).parameters.values():
        if isinstance(parameter.default, bool):
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", FUNCTIONS + CLASSES)
def test_public_things_are_documented(name):
    assert len(inspect.getdoc(getattr(up, name)) or "") > 30


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_named_in_the_docstring_or_refers_to_one_that_does(name):
    doc = inspect.getdoc(getattr(up, name))
    missing = [p for p in inspect.signature(getattr(up, name)).parameters if p not in doc]
    assert not missing or "see :func:`read`" in doc


def test_classes_are_final_no_public_class_inherits_from_another():
    public = [getattr(up, n) for n in CLASSES]
    for cls in public:
        assert not [base for base in cls.__mro__[1:] if base in public]


def test_every_error_has_an_exit_code_and_one_root():
    from unpaired import errors

    classes = [getattr(errors, n) for n in errors.__all__ if n != "Problem"]
    assert all(issubclass(c, errors.UnpairedError) for c in classes)
    assert errors.OptionError.exit_code == 2
    assert errors.DataError.exit_code == 3
    assert errors.LabelError.exit_code == 4
