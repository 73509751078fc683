"""Random input."""

import torch
from torch import Tensor


def standard_normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Numbers of mean 0.7 and standard deviation 1.5: no layer may take either for granted."""
    return standard_normal(*shape, seed=seed, dtype=dtype) * 1.5 + 0.7
