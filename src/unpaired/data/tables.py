"""Tables: one modality as it was found, before anything is checked or converted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array
from unpaired.data.wording import did_you_mean
from unpaired.errors import DataError, OptionError, Problem

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

__all__ = [
    "Table",
    "as_found",
    "choose_names",
    "common_columns",
    "make_table",
    "no_layer",
    "split_mudata",
    "table_from_anndata",
]


@dataclass(frozen=True, eq=False)
class Table:
    """One modality as it was found.

    Attributes
    ----------
    name
        The modality's name.
    X
        The readings as found: an array or a sparse matrix of any kind and type.
    obs
        What is known of each cell; its index holds the ids, as strings. Never written to.
    feature_names
        ``(p,)`` names of the columns of ``X``, or ``None``.
    feature_types
        ``(p,)`` values of ``var["feature_types"]``, or ``None``.
    where
        The file, or ``"memory:"`` and the name: where a problem is reported.
    numbered
        Whether the ids are only row numbers that we gave: such ids never make a pair.
    """

    name: str
    X: Any
    obs: pd.DataFrame
    feature_names: Array | None
    feature_types: Array | None
    where: str
    numbered: bool = False

    def __len__(self) -> int:
        return len(self.obs)

    @property
    def ids(self) -> Array:
        """``(n,)`` ids as found, without the modality's name."""
        return np.asarray(self.obs.index, dtype=str)

    def cell(self, row: int) -> str:
        """Return what to call a row in a sentence."""
        return f"row {row + 1}" if self.numbered else repr(str(self.obs.index[row]))

    def feature(self, column: int) -> str:
        """Return what to call a column of ``X`` (a pixel, where ``X`` are images) in a sentence."""
        if self.feature_names is not None:
            return repr(str(self.feature_names[column]))
        if np.ndim(self.X) > 2:
            place = np.unravel_index(column, self.X.shape[1:])
            return f"pixel {tuple(int(i) for i in place)}"
        return f"number {column + 1}"


def as_found(X: Any) -> Any:
    """Return readings as an array or sparse matrix in memory, of their own type; without a copy where possible."""
    if hasattr(X, "to_memory"):  # a sparse matrix of a backed AnnData
        X = X.to_memory()
    elif hasattr(X, "compute"):  # a dask array
        X = X.compute()
    elif type(X).__module__.startswith(("h5py", "zarr")):
        X = X[...]
    if sp.issparse(X):
        return X
    if np.ma.isMaskedArray(X):  # its mask would be lost in silence
        X = np.ma.filled(X.astype(np.float64), np.nan)
    return np.asarray(X)


def make_table(*, X: Any, obs: pd.DataFrame, var: pd.DataFrame, name: str, where: str) -> Table:
    """Return the table of an AnnData's parts."""
    named = obs.index.inferred_type in {"string", "empty"}
    types = var["feature_types"].astype(str) if "feature_types" in var.columns else None
    return Table(
        name=name,
        X=as_found(X),
        obs=obs if named else obs.set_axis(obs.index.astype(str), axis=0),
        feature_names=np.asarray(var.index, dtype=str),
        feature_types=None if types is None else np.asarray(types, dtype=str),
        where=where,
    )


def no_layer(layer: str | None, layers: Sequence[str], where: str) -> DataError:
    """Return the error for readings that are not there."""
    if layer is None:
        fix = f"Name a layer: {', '.join(map(repr, layers))}." if layers else "Write one."
        return DataError([Problem("error", where, "has no X.", fix)])
    return DataError([Problem("error", where, f"has no layer {layer!r}.", did_you_mean(layer, layers, kind="layers"))])


def table_from_anndata(adata: AnnData, *, name: str, layer: str | None = None, where: str | None = None) -> Table:
    """Return the table of an AnnData object, which is not modified.

    Parameters
    ----------
    adata
        The object; a view, or backed by a file, is fine.
    name
        The modality's name.
    layer
        Layer to read in place of ``X``.
    where
        What to call the place in problems; ``"memory:NAME"`` by default.

    Raises
    ------
    DataError
        If the layer (or ``X``) does not exist.
    OptionError
        If it is not an AnnData object.
    """
    if not (hasattr(adata, "obs") and hasattr(adata, "var") and hasattr(adata, "layers")):
        msg = f"modality {name!r} must be an AnnData object; got {type(adata).__name__}."
        raise OptionError(msg)
    where = where or f"memory:{name}"
    if layer is not None and layer not in adata.layers:
        raise no_layer(layer, list(adata.layers), where)
    readings = adata.X if layer is None else adata.layers[layer]
    if readings is None:
        raise no_layer(None, list(adata.layers), where)
    return make_table(X=readings, obs=adata.obs, var=adata.var, name=name, where=where)


def split_mudata(mdata: MuData, modalities: Sequence[str] | None = None) -> dict[str, AnnData]:
    """Return the modalities of a MuData object, each with the common columns of ``obs`` that it lacks.

    Parameters
    ----------
    mdata
        The object; not modified, and its readings are not copied.
    modalities
        Names to take, in this order; all by default.

    Raises
    ------
    OptionError
        If a name is unknown.
    """
    from anndata import AnnData

    if not (hasattr(mdata, "mod") and hasattr(mdata, "obsmap")):
        msg = f"expected a MuData object; got {type(mdata).__name__}."
        raise OptionError(msg)
    out = {}
    for name in choose_names(modalities, list(mdata.mod)):
        part = mdata.mod[name]
        rows = mdata.obsmap.get(name)
        extra = common_columns(part.obs, mdata.obs, name=name, rows=rows)
        if extra.shape[1]:
            # By position: names may repeat, and both are in the modality's order.
            full = part.obs.assign(**{str(c): extra[c].array for c in extra.columns})
            part = AnnData(X=as_found(part.X), obs=full, var=part.var, layers=dict(part.layers))
        out[name] = part
    return out


def choose_names(wanted: Sequence[str] | None, available: Sequence[str]) -> list[str]:
    """Return the wanted modalities, all where none is named.

    Raises
    ------
    OptionError
        If one does not exist.
    """
    if wanted is None:
        return list(available)
    if isinstance(wanted, str):
        wanted = [wanted]
    for name in wanted:
        if name not in available:
            msg = f"modality {name!r} does not exist. {did_you_mean(str(name), available, kind='modalities')}"
            raise OptionError(msg)
    return list(dict.fromkeys(wanted))


def common_columns(obs: pd.DataFrame, common: pd.DataFrame, *, name: str, rows: Any = None) -> pd.DataFrame:
    """Return the columns of the common ``obs`` that a modality's own ``obs`` lacks, in the modality's order.

    Parameters
    ----------
    obs
        The modality's table.
    common
        The common table, whose column ``"rna:label"`` is the column ``"label"`` of modality ``"rna"``.
    name
        The modality's name.
    rows
        ``obsmap``: for each common row one plus the modality's row, 0 where the modality has not measured the cell.
    """
    own = [c for c in common.columns if str(c).startswith(f"{name}:")]
    wanted = {c: c for c in common.columns if c not in own and c not in obs.columns}
    # The modality's own prefixed column tells more of it than a common one of the same name.
    wanted |= {str(c).removeprefix(f"{name}:"): c for c in own if str(c).removeprefix(f"{name}:") not in obs.columns}
    found = common[list(wanted.values())].set_axis(list(wanted), axis=1)
    # Rows that the common table does not know become missing.
    placed = found.set_axis(range(len(found)), axis=0).reindex(_places(obs.index, common.index, rows))
    return placed.set_axis(obs.index, axis=0)


def _places(ids: pd.Index, common: pd.Index, rows: Any) -> Array:
    """Return for each row of a modality its row in the common table, or -1."""
    places = np.full(len(ids), -1, dtype=np.int64)
    if rows is not None:
        rows = np.asarray(rows, dtype=np.int64).ravel()
        at = np.flatnonzero(rows > 0)
        if len(rows) == len(common) and (rows <= len(ids)).all() and (ids[rows[at] - 1] == common[at]).all():
            places[rows[at] - 1] = at
            return places
    # Without a map, or with one that a later change has made stale, only names can tell; if they are unique.
    return np.asarray(common.get_indexer(ids)) if common.is_unique else places
