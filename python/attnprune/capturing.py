"""The inputs of every attention of a torch model, streamed to files as the model runs."""
from __future__ import annotations

import contextlib
import pathlib
import tempfile
from typing import Any, Iterable, Iterator, Mapping, Optional, Sequence

from attnprune import safetensors
from attnprune.families import Attention, find_attentions
from attnprune.security import refuse
from attnprune.tensors import Tensor, is_torch

INPUT = "model.layers.{}.self_attn.input"  # as `attnprune capture` names it, whatever the family


class Capture:
    """Files of inputs, one an attention: N.safetensors for that of layer N. A temporary folder goes
    with close(), or with the `with` block."""

    def __init__(self, folder: pathlib.Path, attentions: list[Attention],
                 temporary: Optional[tempfile.TemporaryDirectory[str]] = None) -> None:
        self.folder, self.attentions = folder, attentions
        self._temporary = temporary

    def file(self, attention: Attention) -> pathlib.Path:
        return self.folder / f"{attention.layer}.safetensors"

    def inputs(self, attention: Attention) -> list[Tensor]:
        """Of all batches, as tensors of sequences of one length; mapped, not read."""
        return safetensors.File(self.file(attention)).tensors()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()


def capture(model: Any, batches: Iterable[Any], *, folder: safetensors.Path | None = None,
            attentions: Sequence[Attention] | None = None) -> Capture:
    """Runs the model on each batch, without gradients and as in evaluation.

    batches: what the model is called with: a dict of keywords, a tuple, or one value. Tokens that an
    `attention_mask` (k, n) of 0 and 1 in a dict leaves out are left out here; those of a row must lie
    side by side. At most two batches are held at a time: the one that ran and the one that comes.
    folder: where the files go; None: a temporary one.
    """
    found = list(attentions) if attentions is not None else find_attentions(model)
    temporary = tempfile.TemporaryDirectory(prefix="attnprune-") if folder is None else None
    place = pathlib.Path(folder if temporary is None else temporary.name)  # type: ignore[arg-type]
    place.mkdir(parents=True, exist_ok=True)
    try:
        _run(model, batches, [_Tap(model, one, place) for one in found])
    except BaseException:
        if temporary is not None:
            temporary.cleanup()
        raise
    return Capture(place, found, temporary)


def _run(model: Any, batches: Iterable[Any], taps: list[_Tap]) -> None:
    import torch

    count = 0
    with contextlib.ExitStack() as stack:
        for tap in taps:
            stack.callback(tap.close)
        stack.enter_context(_evaluating(model))
        stack.enter_context(torch.no_grad())
        for batch in batches:
            spans = _spans(batch)
            for tap in taps:
                tap.spans = spans
                tap.mask_shape = tuple(batch["attention_mask"].shape) if spans else ()
            _call(model, batch)
            count += 1
            del batch
            for tap in taps:
                tap.check(count)
    if count == 0:
        refuse("batches", "must have at least one batch, got none")


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _call(model: Any, batch: Any) -> None:
    if isinstance(batch, Mapping):
        model(**batch)
    elif isinstance(batch, (tuple, list)):
        model(*batch)
    else:
        model(batch)


def _spans(batch: Any) -> list[tuple[int, int]] | None:
    """Where each row's own tokens begin and end; None: all of them are."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if mask is None:
        return None
    if not is_torch(mask) or mask.dim() != 2:
        refuse("attention_mask", "must be a tensor (k, n) of 0 and 1, a row a sequence")
    spans = []
    for row in mask.bool().cpu().numpy():
        (ones,) = row.nonzero()
        if not len(ones) or ones[-1] - ones[0] + 1 != len(ones):
            refuse("attention_mask", "must have ones in each row, side by side, got "
                                     f"{row.astype(int).tolist()}")
        spans.append((int(ones[0]), int(ones[-1]) + 1))
    return None if all(span == (0, mask.shape[1]) for span in spans) else spans


class _Tap:
    """Writes what one attention's projections are given."""

    def __init__(self, model: Any, attention: Attention, folder: pathlib.Path) -> None:
        self.spans: list[tuple[int, int]] | None = None
        self.mask_shape: tuple[int, ...] = ()
        self._name, self._seen = attention.name, 0
        self._writer = safetensors.RowWriter(folder / f"{attention.layer}.safetensors",
                                             INPUT.format(attention.layer))
        self._at: Any = None  # what q was given, until k is
        modules = [model.get_submodule(attention.q)]
        if not attention.fused:
            modules.append(model.get_submodule(attention.k))
        hooks = (self._on_q, self._on_k)
        self._handles = [module.register_forward_pre_hook(hook)
                         for module, hook in zip(modules, hooks)]

    def _on_q(self, _: Any, inputs: tuple[Any, ...]) -> None:
        (value,) = inputs
        self._seen += 1
        if len(self._handles) > 1:
            self._at = (value.data_ptr(), value.shape)
        if value.dim() not in (2, 3):
            refuse("model", f"must give {self._name} inputs (n, d) or (k, n, d), got "
                            f"{tuple(value.shape)}")
        if self.spans is None:
            self._writer.add(value)
            return
        if tuple(value.shape[:-1]) != self.mask_shape:
            refuse("attention_mask", f"must be of the inputs' own tokens, got {self.mask_shape} for "
                                     f"{self._name}'s {tuple(value.shape)}")
        for row, (begin, end) in zip(value, self.spans):
            self._writer.add(row[begin:end])

    def _on_k(self, _: Any, inputs: tuple[Any, ...]) -> None:
        (value,) = inputs
        at, self._at = self._at, None
        if at is not None and at != (value.data_ptr(), value.shape):
            refuse("model", f"must give queries and keys the same input, which {self._name} does not")

    def check(self, batches: int) -> None:
        """After so many batches it has run so often."""
        if self._seen != batches:
            refuse("model", f"must run {self._name} once a batch, got {self._seen} times for "
                            f"{batches}")

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._writer.close()
