"""Memory that a training step holds beside the weights, found without weights: the real step on tensors of no memory.

The module is built on the meta device; forward and backward pass then run under ``FakeTensorMode``, which computes
shapes only, and every storage is counted from its birth to its death. So the figure follows from the code that trains,
whatever the architecture, adapter and attention kernel, and includes what closed formulas leave out (logits, masks,
temporaries). For one block of a transformer it is the sum of what each operation keeps, as in Korthikanti et al. 2022
(Reducing Activation Recomputation in Large Transformer Models, section 4.1): ``tests/training/test_activations.py``
derives it by hand.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

aten = torch.ops.aten


@dataclass(frozen=True)
class Activations:
    """Bytes of one micro-batch on one device, weights left out.

    Attributes
    ----------
    saved
        Held for the backward pass when the forward pass ends.
    peak
        The most that is alive at once in both passes, gradients of parameters left out.
    gradients
        Gradients of parameters alive at that moment.
    tail
        The most that is alive once the last gradient has come.
    """

    saved: int
    peak: int
    gradients: int
    tail: int

    def scaled(self, factor: float) -> "Activations":
        """Of a batch ``factor`` times as large; everything but the gradients grows with it."""
        return Activations(int(self.saved * factor), int(self.peak * factor), self.gradients, int(self.tail * factor))


class _Storages(TorchDispatchMode):
    """Writes down when which storage comes and goes.

    Where the code asks for a value (``.item()``, ``.any()``, boolean indexing) there is none; the answer is then 'true'
    and 'all of them', the largest case.
    """

    def __init__(self, known: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = known
        self._alive: dict[int, int] = {}
        self.changes: list[tuple[int, int]] = []
        """Number of the storage and bytes: positive when it comes, negative when it goes."""
        self.gradients: set[int] = set()
        """Numbers of those that became gradients of parameters."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is aten._local_scalar_dense.default:
            return True if args[0].dtype == torch.bool else 1.0 if args[0].is_floating_point() else 1
        if function is aten.index.Tensor and _is_boolean(args[1]):
            result = args[0].reshape(-1).clone()
        elif function in (aten.index_put.default, aten._index_put_impl_.default) and _is_boolean(args[1]):
            result = args[0].clone() if function is aten.index_put.default else args[0]
        else:
            result = function(*args, **kwargs)
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor):
                self._come(tensor.untyped_storage())
        return result

    def claim_gradient(self, parameter: Tensor) -> None:
        """A parameter's gradient is complete: it has not been an activation since it came."""
        assert parameter.grad is not None
        number = self._alive.get(parameter.grad.untyped_storage()._cdata)
        if number is not None:
            self.gradients.add(number)

    def _come(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or key in self._alive:
            return
        number = self._alive[key] = len(self.changes)
        self.changes.append((number, size))
        weakref.finalize(storage, self._go, key, size)

    def _go(self, key: int, size: int) -> None:
        self.changes.append((self._alive.pop(key), -size))

    def summary(self, forward_changes: int) -> Activations:
        """What was alive when, now that it is known what became a gradient."""
        alive = saved = peak = gradients = gradients_at_peak = tail = 0
        for place, (number, size) in enumerate(self.changes, start=1):
            if number in self.gradients:
                gradients += size
                tail = 0 if size > 0 else tail
            else:
                alive += size
            saved = alive if place == forward_changes else saved
            tail = max(tail, alive)
            if alive > peak:
                peak, gradients_at_peak = alive, gradients
        return Activations(saved, peak, gradients_at_peak, tail)


def _is_boolean(indices: Any) -> bool:
    return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in indices)


def trace(build: Callable[[], tuple[nn.Module, Callable[[], Tensor]]]) -> Activations:
    """Run one step of a module that has no memory.

    Parameters
    ----------
    build
        Returns a module on the meta device, in training mode and in its training precision, and a function that makes
        its inputs on the CPU and returns the loss; the function is called after the module has moved there.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    with torch.device("meta"):
        module, loss_of = build()
    with FakeTensorMode():
        known = _give_shapes(module)
        storages = _Storages(known)
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(storages.claim_gradient)
        with storages:
            loss = loss_of()
            forward_changes = len(storages.changes)
            loss.backward()
            return storages.summary(forward_changes)


def trace_line(
    build: Callable[[int], tuple[nn.Module, Callable[[], Tensor]]], count: int, period: int = 1
) -> Activations:
    """The same for a module of many like parts (layers, time steps): memory is a line in their number.

    Parameters
    ----------
    build
        Of a module with the given number of parts.
    count
        Parts wanted.
    period
        Parts after which their kinds repeat.
    """
    if count <= 2 * period:
        return trace(lambda: build(count))
    short, twice = trace(lambda: build(period)), trace(lambda: build(2 * period))
    steps = count / period - 1
    return Activations(
        saved=int(short.saved + steps * (twice.saved - short.saved)),
        peak=int(short.peak + steps * (twice.peak - short.peak)),
        gradients=twice.gradients,
        tail=twice.tail,
    )


def _give_shapes(module: nn.Module) -> set[int]:
    """Put tensors that pretend to lie on the CPU in place of those on the meta device; returns their storages' keys."""
    moved: dict[int, Tensor] = {}

    def stand_in(tensor: Tensor) -> Tensor:
        if id(tensor) not in moved:
            empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            is_parameter = isinstance(tensor, nn.Parameter)
            moved[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
        return moved[id(tensor)]

    for part in module.modules():
        attributes = vars(part)  # plain tensors too, alone or in a dictionary: PEFT keeps such for prefix tuning
        for owner in (attributes, *[value for value in attributes.values() if isinstance(value, dict)]):
            for name, value in owner.items():
                if isinstance(value, Tensor):
                    owner[name] = stand_in(value)
    return {tensor.untyped_storage()._cdata for tensor in moved.values()}
