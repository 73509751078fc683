"""Known layers that are no graph: each keeps a state of its own between steps, some also in the backward pass."""

from evonas.search_space.catalog.modules.batch_channel_norm import BatchChannelNorm, EstBN
from evonas.search_space.catalog.modules.online_norm import OnlineNorm
from evonas.search_space.catalog.modules.power_norm import PowerNorm
from evonas.search_space.catalog.modules.prepbn import PRepBN
from evonas.search_space.catalog.modules.unified_norm import UnifiedNorm

__all__ = ["BatchChannelNorm", "EstBN", "OnlineNorm", "PRepBN", "PowerNorm", "UnifiedNorm"]
