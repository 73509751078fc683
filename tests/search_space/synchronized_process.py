"""One of two processes that train one layer on a shared batch.

Run as `python -m tests.search_space.synchronized_process RANK FOLDER`: for each case of FOLDER/cases.pt, takes its
share of every batch, steps, and writes outputs, gradients and running moments to FOLDER/<RANK>.pt.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from evonas.layers.whole_models import synchronize
from evonas.search_space.graph import Graph
from evonas.search_space.lowering import NormAct

SHARES = [(0, 4), (4, 6), (6, 6)]  # of 6 samples: the last process gets none


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(SHARES))
    results = {}
    for name, (text, options, batches) in torch.load(folder / "cases.pt").items():
        layer = synchronize(NormAct(Graph.parse(text), batches[0].shape[1], **options))
        seen = []
        for batch in batches:
            x = batch[slice(*SHARES[rank])].clone().requires_grad_()
            output = layer(x)
            learned = dict(sorted(layer.named_parameters()))
            gradients = torch.autograd.grad((output * output.detach().cos()).sum(), [x, *learned.values()])
            seen.append((output.detach(), *gradients))
        results[name] = seen, dict(layer.named_buffers())
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
