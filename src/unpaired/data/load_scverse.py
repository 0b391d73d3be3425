"""Tables of h5ad, h5mu and zarr files: only the parts that are needed are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from unpaired.data.detect import family
from unpaired.data.tables import Table, choose_names, common_columns, make_table, no_layer, table_from_anndata
from unpaired.errors import DataError, Problem

__all__ = ["load_scverse", "modality_names"]


def modality_names(path: Path) -> list[str] | None:
    """Return the names of a MuData file's modalities, in its order; ``None`` for an AnnData file."""
    with _opened(path) as root:
        return _modalities(root) if _family(root, path) == "mudata" else None


def load_scverse(path: Path, *, name: str, modalities: Sequence[str] | None, layer: str | None) -> list[Table]:
    """Return the tables of an AnnData or MuData file (HDF5 or zarr).

    Parameters
    ----------
    path
        The file, or a zarr store's directory.
    name
        Name of the modality where the file holds only one.
    modalities
        Names to take of a MuData file; all by default.
    layer
        Layer to read in place of ``X``.
    """
    with _opened(path) as root:
        if _family(root, path) == "mudata":
            return _load_mudata(root, path, modalities, layer)
        if "encoding-type" in root.attrs:
            return [_load_group(root, name=name, layer=layer, where=str(path))]
    # A file from before anndata 0.8: only the library itself knows its dialects.
    import anndata

    return [table_from_anndata(anndata.read_h5ad(path), name=name, layer=layer, where=str(path))]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if path.is_dir():
        import zarr

        yield zarr.open_group(str(path), mode="r")
        return
    import h5py

    with h5py.File(path, "r") as file:
        yield file


def _family(root: Any, path: Path) -> str:
    found = family(root.attrs, list(root))
    if found is None:
        what = "is a zarr store, but neither AnnData nor MuData."
        raise DataError([Problem("error", str(path), what, "Write the data by anndata or mudata.")])
    return found


def _modalities(root: Any) -> list[str]:
    group = root["mod"]
    order = [str(m) for m in group.attrs.get("mod-order", [])]
    return order if sorted(order) == sorted(group) else sorted(group)


def _load_mudata(root: Any, path: Path, modalities: Sequence[str] | None, layer: str | None) -> list[Table]:
    from anndata.io import read_elem

    common = read_elem(root["obs"])
    tables = []
    for name in choose_names(modalities, _modalities(root)):
        table = _load_group(root["mod"][name], name=name, layer=layer, where=f"{path}:{name}")
        rows = read_elem(root["obsmap"][name]) if "obsmap" in root and name in root["obsmap"] else None
        extra = common_columns(table.obs, common, name=name, rows=rows)
        tables.append(replace(table, obs=table.obs.assign(**{str(c): extra[c].array for c in extra.columns})))
    return tables


def _load_group(group: Any, *, name: str, layer: str | None, where: str) -> Table:
    from anndata.io import read_elem

    layers = list(group["layers"]) if "layers" in group else []
    if (layer is None and "X" not in group) or (layer is not None and layer not in layers):
        raise no_layer(layer, layers, where)
    readings = read_elem(group["X"] if layer is None else group["layers"][layer])
    if readings is None:
        raise no_layer(None, layers, where)
    return make_table(X=readings, obs=read_elem(group["obs"]), var=read_elem(group["var"]), name=name, where=where)
