"""The data that come with the package."""

import gzip
import hashlib
import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

import unpaired as up
from unpaired.data import bmmc
from unpaired.data.download import cache_folder, downloaded
from unpaired.errors import DataError, OutputError


def test_the_halves_put_together_are_the_digits():
    data, truth = up.examples.digits(seed=3)
    assert truth is not None
    partner = truth.partners("left", "right")
    whole = np.concatenate(
        [data["left"].X.reshape(-1, 8, 4), data["right"].X[partner].reshape(-1, 8, 4)], axis=2
    )  # fmt: skip
    expected = load_digits().images
    order = np.lexsort(expected.reshape(len(expected), -1).T)
    found = np.lexsort(whole.reshape(len(whole), -1).T)
    assert np.array_equal(whole[found], expected[order])
    names = np.array(data.classes)
    assert np.array_equal(names[data["left"].labels][found], load_digits().target.astype(str)[order])


def test_the_pairing_can_be_hidden_used_or_left_out():
    hidden, truth = up.examples.digits()
    used, none = up.examples.digits(pairing="use")
    assert hidden.pairs is None
    assert truth is not None
    assert none is None
    assert np.array_equal(used.pairs.partners("left", "right"), np.arange(1797))
    assert up.examples.digits(pairing="none")[0].pairs is None


def _packed(folder, content=b"a file" * 1000):
    data = gzip.compress(content)
    (folder / "it.gz").write_bytes(data)
    return (folder / "it.gz").as_uri(), hashlib.sha256(data).hexdigest()


def test_a_download_is_checked_unpacked_and_kept(tmp_path):
    url, checksum = _packed(tmp_path)
    file = downloaded(url, "it", checksum=checksum, folder=tmp_path / "cache")
    assert file.read_bytes() == b"a file" * 1000
    (tmp_path / "it.gz").unlink()
    assert downloaded(url, "it", checksum=checksum, folder=tmp_path / "cache") == file  # without asking again
    assert sorted(p.name for p in file.parent.iterdir()) == ["it", "it.json"]


def test_without_a_checksum_the_hash_is_recorded_and_later_loads_are_held_to_it(tmp_path):
    url, checksum = _packed(tmp_path)
    file = downloaded(url, "it", folder=tmp_path / "cache")
    assert json.loads((tmp_path / "cache" / "it.json").read_text())["sha256_gz"] == checksum
    file.write_bytes(b"another")
    with pytest.raises(DataError, match="has changed since it was downloaded"):
        downloaded(url, "it", folder=tmp_path / "cache")
    with pytest.raises(DataError, match="was made of a file with the SHA-256"):
        downloaded(url, "it", checksum="0" * 64, folder=tmp_path / "cache")
    (tmp_path / "cache" / "it.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        downloaded(url, "it", folder=tmp_path / "cache")


def test_another_file_than_expected_leaves_nothing_behind(tmp_path):
    url, checksum = _packed(tmp_path)
    with pytest.raises(DataError, match=f"its SHA-256 is {checksum}"):
        downloaded(url, "it", checksum="0" * 64, folder=tmp_path / "cache")
    assert not any((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("cut", [slice(0, 40), slice(4, None)])
def test_a_file_that_is_not_whole_leaves_nothing_behind(tmp_path, cut):
    url, _ = _packed(tmp_path)
    (tmp_path / "it.gz").write_bytes((tmp_path / "it.gz").read_bytes()[cut])
    with pytest.raises(DataError, match=r"did not arrive whole.*give path="):
        downloaded(url, "it", folder=tmp_path / "cache")
    assert not any((tmp_path / "cache").iterdir())


def test_offline_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(bmmc, "BMMC_URL", (tmp_path / "not there.gz").as_uri())
    with pytest.raises(DataError, match=r"cannot be downloaded .*Download it in another way.*give path="):
        up.examples.bmmc_citeseq()
    assert cache_folder() == tmp_path / "unpaired"


def test_a_cache_that_cannot_be_written_to_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="set XDG_CACHE_HOME"):
        downloaded("file:///nothing", "it", folder=tmp_path / "file")
