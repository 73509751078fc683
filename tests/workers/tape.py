"""A CUDA graph on a CPU: the operations that a function puts on its tensors, recorded once and replayed on them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::nonzero"}  # that wait for the device


class Tape(TorchDispatchMode):
    """Stands in for `evonas.workers.step.CudaGraph`, and promises as little as that does: recording changes no tensor
    from before; a replay runs the recorded operations on the recorded tensors, so a number of the host's is what it was
    when recorded; what waits for the device cannot be recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.before: list[tuple[Tensor, Tensor]] = []  # tensors that the function changes, and their values
        self.warm_ups = self.captures = self.replays = 0
        self.result: Tensor | None = None

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if op._schema.name in READS:
            raise RuntimeError(f"{op._schema.name}: not permitted when the stream is capturing")
        for argument, given in zip(op._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self.before += [(each, each.clone()) for each in tree_leaves(given)]
        result = op(*args, **(kwargs or {}))
        self.operations.append((op, args, kwargs or {}, result))
        return result

    @property
    def captured(self) -> bool:
        return self.result is not None

    def warm_up(self, run: Callable[[], Tensor]) -> Tensor:
        self.warm_ups += 1
        return run()

    def capture(self, run: Callable[[], Tensor]) -> None:
        self.captures += 1
        with self:
            self.result = run()
        with torch.no_grad():
            for changed, value in reversed(self.before):
                changed.copy_(value)

    @torch.no_grad()
    def replay(self) -> Tensor:
        self.replays += 1
        for op, args, kwargs, recorded in self.operations:
            given = {
                each.untyped_storage().data_ptr() for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)
            }
            for old, new in zip(tree_leaves(recorded), tree_leaves(op(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.untyped_storage().data_ptr() not in given:
                    old.copy_(new)
        assert self.result is not None
        return self.result


def place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
