"""The types that every room speaks: :class:`Modality`, :class:`Dataset`, :class:`Pairs`, :class:`Truth`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from unpaired.data.content import row_keys
from unpaired.data.units import partners_of, take_units
from unpaired.errors import OptionError
from unpaired.options import check_choice

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from unpaired.data.preprocess import Recipe

__all__ = ["UNKNOWN", "Array", "Dataset", "Modality", "Pairs", "Truth"]

Array = NDArray[Any]

# To hide a pairing, and keep the truth: unpaired.hide_pairing(data) on data made with pairing="use".
_IN_MEMORY = ("use", "none")

UNKNOWN = -1
"""The label code of a cell whose label is not known."""


@dataclass(frozen=True, eq=False)
class Modality:
    """One instrument's readings.

    Attributes
    ----------
    name
        The modality's name, unique in its data set.
    X
        ``(n, p)`` dense or CSR, or ``(n, C, H, W)`` images; float32, as measured (images
        may be uint8).
    labels
        ``(n,)`` integer codes into ``Dataset.classes``; -1 where the label is unknown.
    ids
        ``(n,)`` unique names of the cells, prefixed with the modality's name.
    feature_names
        ``(p,)`` names of the columns of ``X``, or ``None``.
    batch
        ``(n,)`` batch names, or ``None``.
    recipe
        The fitted preprocessing that turns ``X`` into :attr:`features`; ``None`` uses ``X`` as it is.
    """

    name: str
    X: Any
    labels: Array
    ids: Array
    feature_names: Array | None = None
    batch: Array | None = None
    recipe: Recipe | None = None

    def __len__(self) -> int:
        return int(self.X.shape[0])

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.X.shape))
        return f"Modality({self.name} {shape}; recipe {self.recipe.name if self.recipe else 'none'})"

    @cached_property
    def keys(self) -> Array:
        """``(n,)`` uint64 hashes of the readings, salted by the modality's name.

        Cells are recognised and ordered by what was measured, never by their position or name: so the order of
        the rows, and the names that partners may share, cannot leak into a method.
        """
        return row_keys(self.X, salt=self.name)

    @cached_property
    def order(self) -> Array:
        """``(n,)`` row indices in canonical order (by :attr:`keys`, then label): the same whatever the row order."""
        return np.lexsort((self.labels, self.keys))

    @cached_property
    def features(self) -> Array:
        """``(n, d)`` float32 features that the methods see (``(n, C, H, W)`` for images): the recipe applied to X."""
        # In canonical order, because blocked matrix products round differently by a row's position.
        ordered = self.transform(self.X[self.order])
        out = np.empty_like(ordered)
        out[self.order] = ordered
        return out

    def transform(self, X: Any) -> Array:
        """Return the features of other readings ``X`` of the same instrument."""
        if self.recipe is None:
            return np.asarray(X.toarray() if sp.issparse(X) else X, dtype=np.float32)
        return self.recipe.transform(X)

    @cached_property
    def flat_features(self) -> Array:
        """``(n, d)`` features with images flattened: the space in which distances are judged."""
        return self.features.reshape(len(self), int(np.prod(self.features.shape[1:])))

    def take(self, rows: Array) -> Modality:
        """Return the modality with only ``rows`` (integer indices), in that order."""
        return replace(
            self,
            X=self.X[rows],
            labels=self.labels[rows],
            ids=self.ids[rows],
            batch=None if self.batch is None else self.batch[rows],
        )


@dataclass(frozen=True, eq=False)
class Pairs:
    """Known pairs that are offered for learning.

    Attributes
    ----------
    units
        Modality name -> ``(n,)`` integer code of the physical cell behind each row; -1 where it is not known.
        Rows of two modalities with the same code are one cell.
    """

    units: Mapping[str, Array]

    def partners(self, source: str, target: str) -> Array:
        """Return ``(n_source,)`` rows of ``target`` that are the same cell, -1 where there is none."""
        return partners_of(self.units, source, target)


@dataclass(frozen=True, eq=False)
class Truth:
    """Which row is whose partner, kept for scoring. No method ever sees it.

    Attributes
    ----------
    units
        As in :class:`Pairs`.
    latents
        Modality name -> ``(n, d)`` latent state of each row, where it is known (simulations).
    """

    units: Mapping[str, Array]
    latents: Mapping[str, Array] | None = None

    def partners(self, source: str, target: str) -> Array:
        """Return ``(n_source,)`` rows of ``target`` that are the same cell, -1 where there is none."""
        return partners_of(self.units, source, target)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Two or more modalities that share the names of their labels: all that any method sees.

    Attributes
    ----------
    modalities
        Name -> :class:`Modality`, in the order given.
    classes
        The names of the labels; ``Modality.labels`` are codes into it.
    pairs
        Known pairs offered for learning; ``None`` when the data are unpaired.
    notes
        What was decided while the data were read, and what is worth a warning, as sentences.
    """

    modalities: Mapping[str, Modality]
    classes: tuple[str, ...]
    pairs: Pairs | None = None
    notes: tuple[str, ...] = field(default=())

    def __getitem__(self, name: str) -> Modality:
        try:
            return self.modalities[name]
        except KeyError:
            msg = f"modality must be one of {', '.join(self.modalities)}; got {name!r}."
            raise OptionError(msg) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.modalities)

    def __len__(self) -> int:
        return len(self.modalities)

    def __repr__(self) -> str:
        parts = ", ".join(f"{m.name} {'x'.join(map(str, m.X.shape))}" for m in self.modalities.values())
        return f"Dataset({parts}; {len(self.classes)} labels; {'paired' if self.pairs else 'unpaired'})"

    def direction(self, source: str | None = None, target: str | None = None) -> tuple[str, str]:
        """Return the names of source and target; with exactly two modalities neither needs naming.

        Raises
        ------
        OptionError
            If a name is unknown, both are the same, or there are more than two modalities and one is not named.
        """
        names = list(self.modalities)
        for name in (source, target):
            if name is not None:
                self[name]
        if len(names) != 2 and (source is None or target is None):
            msg = f"there are {len(names)} modalities ({', '.join(names)}): name the source and the target."
            raise OptionError(msg)
        if source is None:
            source = next(n for n in names if n != target)
        if target is None:
            target = next(n for n in names if n != source)
        if source == target:
            msg = f"source and target must differ; both are {source!r}."
            raise OptionError(msg)
        return source, target

    def code(self, label: str) -> int:
        """Return the code of a label's name."""
        return self.classes.index(label)

    def take(self, rows: Mapping[str, Array]) -> Dataset:
        """Return the data set with only the given rows of each named modality, in that order."""
        return replace(
            self,
            modalities={n: m.take(rows[n]) if n in rows else m for n, m in self.modalities.items()},
            pairs=None if self.pairs is None else Pairs(take_units(self.pairs.units, rows)),
        )

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, Any],
        labels: Mapping[str, Sequence[Any] | Array],
        *,
        ids: Mapping[str, Sequence[str]] | None = None,
        batch: Mapping[str, Sequence[Any]] | None = None,
        pairing: Literal["use", "none"] = "none",
        recipes: Mapping[str, str] | str = "auto",
        missing: Literal["median", "error"] = "median",
        seed: int = 0,
    ) -> Dataset:
        """Make a data set of arrays in memory; nothing of the caller's is modified.

        Parameters
        ----------
        arrays
            Modality name -> ``(n, p)`` array or sparse matrix, or ``(n, C, H, W)`` images.
        labels
            Modality name -> ``(n,)`` names of the labels; ``None`` or NaN where unknown.
        ids
            Modality name -> ``(n,)`` names of the cells; numbered when absent.
        batch
            Modality name -> ``(n,)`` batch names.
        pairing
            ``"use"`` takes cells of the same id as one cell and offers the pairs for learning; ``"none"``
            (default) keeps all apart.
        recipes
            One recipe for all, or modality name -> recipe; see :func:`unpaired.prepare`.
        missing
            What to do with missing values: fill with the feature's median, or raise.
        seed
            Seed of the recipes.

        Raises
        ------
        DataError
            With every problem of the data.
        """
        from unpaired.data.build import build_dataset, tables_from_arrays

        check_choice("pairing", pairing, _IN_MEMORY)
        tables = tables_from_arrays(arrays, labels, ids=ids, batch=batch)
        use_batch = None if batch is None else "batch"
        return build_dataset(
            tables, label="label", batch=use_batch, pairing=pairing, recipes=recipes, missing=missing, seed=seed
        )[0]

    @classmethod
    def from_anndata(
        cls,
        *,
        label: str,
        batch: str | None = None,
        layer: str | None = None,
        pairing: Literal["use", "none"] = "none",
        recipes: Mapping[str, str] | str = "auto",
        missing: Literal["median", "error"] = "median",
        seed: int = 0,
        **modalities: AnnData,
    ) -> Dataset:
        """Make a data set of AnnData objects: ``Dataset.from_anndata(rna=a, image=b, label="perturbation")``.

        Parameters
        ----------
        label
            Column of ``obs`` with the label of each cell's experiment.
        batch
            Column of ``obs`` with the batch, if any.
        layer
            Layer to read in place of ``X``.
        pairing, recipes, missing, seed
            As in :meth:`from_arrays`.
        **modalities
            Modality name -> AnnData; not modified.

        Raises
        ------
        DataError
            With every problem of the data.
        """
        from unpaired.data.build import build_dataset
        from unpaired.data.tables import table_from_anndata

        check_choice("pairing", pairing, _IN_MEMORY)
        tables = [table_from_anndata(a, name=n, layer=layer) for n, a in modalities.items()]
        return build_dataset(
            tables, label=label, batch=batch, pairing=pairing, recipes=recipes, missing=missing, seed=seed
        )[0]

    @classmethod
    def from_mudata(
        cls, mdata: MuData, *, label: str, modalities: Sequence[str] | None = None, **options: Any
    ) -> Dataset:
        """Make a data set of a MuData object's modalities.

        Parameters
        ----------
        mdata
            The object; not modified.
        label
            Column of each modality's ``obs`` (or of the common ``obs``) with the label.
        modalities
            Names of the modalities to take; all by default.
        **options
            As in :meth:`from_anndata`.

        Raises
        ------
        DataError
            With every problem of the data.
        """
        from unpaired.data.tables import split_mudata

        return cls.from_anndata(label=label, **split_mudata(mdata, modalities), **options)
