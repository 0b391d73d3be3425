"""Training of ensembles: the only file that knows the training framework (Lightning)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from tqdm.auto import tqdm

from unpaired.data.types import Array
from unpaired.embed.checkpoint import Checkpoint, Progress
from unpaired.embed.feed import CELLS, IMAGES
from unpaired.embed.training_settings import TrainingSettings
from unpaired.errors import OptionError, UnpairedError
from unpaired.seeds import named_seed

__all__ = ["Task", "TrainingSettings", "chunk_rows", "resolve_device", "train_ensemble"]

Watch = Callable[[int, Tensor], None]
"""``watch(epoch, losses)``."""

_RISE = 0.1  # of the one-cycle schedule the rate goes up in


class Task(Protocol):
    """What an ensemble learns: its batches, its loss, and how its members are judged."""

    @property
    def net(self) -> nn.Module:
        """The ensemble; every tensor of its state has the member as leading axis."""
        ...

    @property
    def players(self) -> tuple[nn.Module, ...]:
        """The parts of the net that learn in turn at every batch, each by its own optimizer: mostly the whole net."""
        ...

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        ...

    def batches(self, epoch: int) -> Iterator[Any]:
        """Iterate over the batches of an epoch, which must depend on the epoch's number alone."""
        ...

    def loss(self, batch: Any, player: int) -> Tensor:
        """Return a player's loss, summed over members: each member's gradient is what it would be alone."""
        ...

    def validate(self) -> Tensor:
        """Return ``(members,)`` losses on the cells that choose the epoch; called without gradients."""
        ...


def resolve_device(device: str) -> str:
    """Turn ``"auto"`` into the best device there is, and check a named one.

    Raises
    ------
    OptionError
        If the device is unknown or not there; lists those that are.
    """
    there = ["cpu"]
    if torch.cuda.is_available():
        there.insert(0, "cuda")
    elif torch.backends.mps.is_available():
        there.insert(0, "mps")
    if device == "auto":
        return there[0]
    if device not in there:
        msg = f"device must be auto or one that this machine has ({', '.join(there)}); got {device!r}."
        raise OptionError(msg)
    return device


class _Epochs:
    """The batches, epoch by epoch. Everything that is drawn depends on the seed and the epoch's number alone.

    So a training that is taken up again goes on as if it had never stopped.
    """

    def __init__(self, task: Task, seed: int, first: int) -> None:
        self._task, self._seed, self._next = task, seed, first

    def __len__(self) -> int:
        return self._task.steps

    def __iter__(self) -> Iterator[Any]:
        epoch, self._next = self._next, self._next + 1
        torch.manual_seed(named_seed(self._seed, "dropout", str(epoch)))
        yield from self._task.batches(epoch)


class _Module(lightning.LightningModule):
    def __init__(self, task: Task, settings: TrainingSettings, device: str, past: Progress | None) -> None:
        super().__init__()
        self.net = task.net
        self.automatic_optimization = False  # the players take turns
        self._task, self._settings, self._past = task, settings, past
        self._device_name = device

    def training_step(self, batch: Any, _: int) -> None:
        low = self._settings.precision == "bfloat16"
        for player, optimizer in enumerate(self._turns()):
            with torch.autocast(self._device_name, torch.bfloat16, enabled=low):
                loss = self._task.loss(batch, player)
            # What another player's loss left on these parameters is no part of this one's gradient.
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        if self._settings.cycle == "step":
            for cycle in self._cycles():
                cycle.step()

    def on_train_epoch_end(self) -> None:
        if self._settings.cycle == "epoch":
            for cycle in self._cycles():
                cycle.step()

    def configure_optimizers(self) -> Any:
        optimizers = [self._optimizer(part) for part in self._task.players]
        if self._past is not None:
            self._past.restore_optimizers(optimizers, self.net)
        cycled = self._settings.plateau is None
        return optimizers, [self._cycle(optimizer) for optimizer in optimizers if cycled]

    def _turns(self) -> list[Any]:
        return _listed(self.optimizers())

    def _cycles(self) -> list[Any]:
        return _listed(self.lr_schedulers())

    def _optimizer(self, part: nn.Module) -> torch.optim.Optimizer:
        kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
        rate = self._settings.rate_after([] if self._past is None else self._past.history)
        kind: Any = kinds[self._settings.optimizer]  # their common class takes no rate
        made: torch.optim.Optimizer = kind(part.parameters(), lr=rate, weight_decay=self._settings.decay)
        return made

    def _cycle(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.OneCycleLR:
        s, steps = self._settings, self._task.steps if self._settings.cycle == "step" else 1
        total = s.epochs * steps + 1
        # Where the rise is one step long to the bit, torch divides by the nothing that is left of it.
        rise = _RISE + 1e-9 if _RISE * total == 1 else _RISE
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=s.rate, total_steps=total, pct_start=rise)
        if self._past is not None:
            cycle.last_epoch = self._past.epochs * steps - 1
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it asks for a step of the optimizer first, which was long ago
                cycle.step()
        return cycle


def _listed(one_or_more: Any) -> list[Any]:
    """Lightning gives one thing bare, several in a list, and of none nothing."""
    return [] if one_or_more is None else one_or_more if isinstance(one_or_more, list) else [one_or_more]


class _KeepBest(Callback):
    """Keep every member at its lowest validation loss; stop when none improves any more."""

    def __init__(
        self,
        task: Task,
        settings: TrainingSettings,
        past: Progress | None,
        checkpoint: Checkpoint | None,
        watch: Watch | None,
        bar: tqdm,
    ) -> None:
        self._task, self._settings, self._checkpoint, self._watch, self._bar = task, settings, checkpoint, watch, bar
        state = task.net.state_dict()
        if past is None:
            members = len(next(iter(state.values())))
            best = torch.full((members,), torch.inf, device=next(iter(state.values())).device)
            past = Progress(0, 0, [], best, {k: v.clone() for k, v in state.items()})
        self.past = past

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        net = self._task.net.eval()
        losses = self._task.validate()
        if self._watch is not None:
            self._watch(self.past.epochs, losses)
        net.train()
        if not bool(torch.isfinite(losses).all()):
            msg = (
                "training a network gave values that are not finite; "
                "check the features, use recipe 'scale' or a smaller learning rate."
            )
            raise UnpairedError(msg)
        state, past = net.state_dict(), self.past
        past.best = past.best.to(losses.device)
        judged = self._settings.judged(past.epochs)
        better = (losses < past.best) & judged
        past.best = torch.where(better, losses, past.best)
        for key, value in state.items():
            past.kept[key][better] = value[better]
        past.history.append(float(losses.mean()))
        past.epochs += 1
        past.stale = 0 if bool(better.any()) or not judged else past.stale + 1
        self._lower(trainer.optimizers)
        self._bar.set_postfix(loss=f"{past.history[-1]:.3f}")
        self._bar.update()
        trainer.should_stop = past.stale >= self._settings.patience
        if self._checkpoint is not None:
            last = trainer.should_stop or past.epochs == self._settings.epochs
            self._checkpoint.save(past, net, trainer.optimizers, last=last)

    def _lower(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Set the rate as the schedule says, where it is not the one-cycle schedule, which has its own way."""
        if self._settings.plateau is not None:
            for group in (g for optimizer in optimizers for g in optimizer.param_groups):
                group["lr"] = self._settings.rate_after(self.past.history)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._task.net.load_state_dict(self.past.kept)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a library's tips to itself, and leave its logger as it was."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def train_ensemble(
    task: Task,
    settings: TrainingSettings,
    *,
    device: str,
    seed: int,
    progress: bool,
    checkpoint: Checkpoint | None = None,
    watch: Watch | None = None,
) -> list[float]:
    """Train every member of an ensemble, and keep each at its best epoch.

    Parameters
    ----------
    task
        What is learned, on ``device``.
    settings
        See :class:`TrainingSettings`.
    device
        A resolved device.
    seed
        Seed of dropout.
    progress
        Show a progress bar.
    checkpoint
        Where the training is kept while it runs; one that is there is taken up again, and gives what it would have
        given without the interruption.
    watch
        Called after every epoch with its number (from 0) and the ``(members,)`` validation losses, while the network
        is as this epoch left it.

    Returns
    -------
    list of float
        Validation loss, mean over members, one value an epoch.

    Raises
    ------
    UnpairedError
        If the loss is not finite.
    """
    task.net.to(device)
    past = None if checkpoint is None else checkpoint.load(task.net)
    done = 0 if past is None else past.epochs
    bar = tqdm(total=settings.epochs, initial=done, desc="training", unit="epoch", disable=not progress, leave=False)
    keep = _KeepBest(task, settings, past, checkpoint, watch, bar)
    if done >= settings.epochs or keep.past.stale >= settings.patience:
        task.net.load_state_dict(keep.past.kept)
        return keep.past.history
    with warnings.catch_warnings(), torch.random.fork_rng(), _quiet("lightning.pytorch"):
        warnings.filterwarnings("ignore", module=r"lightning.*")
        trainer = lightning.Trainer(
            max_epochs=settings.epochs - done,
            accelerator={"cpu": "cpu", "cuda": "gpu", "mps": "mps"}[device],
            devices=1,
            logger=False,
            enable_checkpointing=False,  # Lightning's are pickled; ours are not
            enable_model_summary=False,
            enable_progress_bar=False,  # Lightning's writes to stdout, which is for data
            callbacks=[keep],
        )
        with bar:
            try:
                trainer.fit(_Module(task, settings, device, past), _Epochs(task, seed, done))
            except SystemExit:  # what Lightning makes of Ctrl-C
                raise KeyboardInterrupt from None
    task.net.to(device)
    return keep.past.history


def chunk_rows(members: int, x: Array | Tensor) -> int:
    """Cells a forward pass without gradients: images are large, so all members together get so many."""
    return max(1, IMAGES // members) if x.ndim > 2 else CELLS
