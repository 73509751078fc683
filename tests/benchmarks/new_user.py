"""Evonas as a new user meets it, written from README.md and docs/*.md alone: from a finished run to a card.

    python tests/benchmarks/new_user.py RUN -o FOLDER

Each part follows a chapter of the documentation and checks its own results. RUN is copied into the folder first, for
`validate` and `ablate` write into it. Files, trained weights and trainings are kept there, so a second start goes on
where the first one stopped. It needs the extras onnx, pandas and timm. On two cores that were busy with a search the
exports took ten minutes, the package two, the validation one; most of it was torch.compile's.
"""

import argparse
import importlib.util
import os
import shutil
import sys
import time
from pathlib import Path
from types import ModuleType

import onnxruntime
import timm
import torch
import torchvision
from torch import Tensor, nn

import evonas

CHANNELS = 16
NETWORK = '''
"""A network of a user's own, for `evonas validate`."""

from torch import nn


def plain(norm_act, num_classes, in_channels, width=8):
    """Three convolutions, each followed by a layer."""
    sizes = [in_channels, width, 2 * width, 2 * width]
    blocks = []
    for before, after in zip(sizes, sizes[1:]):
        blocks += [nn.Conv2d(before, after, 3, 2, 1, bias=False), norm_act(after)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, num_classes))
'''


def query(run: evonas.Run) -> None:
    """The best layers, some by pattern, the ancestors of one, the front, a data frame, a table for a paper."""
    best = run.top(5)
    for record in best:
        print(record)
    found = run.find(uses="std_*", max_nodes=12, distinct=True)
    assert found
    assert all("std_" in record.formula for record in found)
    assert best[0].birth in [record.birth for record in run.lineage(best[0].birth)]
    assert best[0].birth in set(run.to_frame()["birth"])
    assert run.latex(run.front()).endswith(r"\end{tabular}")


def chosen(run: evonas.Run) -> int:
    """The birth of the best layer that repeats no known one."""
    return next(record.birth for record in run.top(20) if not (record.same_as or record.affine_of))


def export(run: evonas.Run, birth: int) -> None:
    """One layer in all three formats, each read back and compared with the layer itself."""
    torch.manual_seed(0)
    layer = evonas.layer(run.candidate(birth).graph, CHANNELS, groups=4)
    for _ in range(20):  # its moments move
        layer(images(32))
    layer.eval()
    x = images(5)
    wanted = layer(x).detach()
    for name, form in (("layer.py", "python"), ("layer.onnx", "onnx"), ("layer.pt2", "program")):
        if not Path(name).exists():
            print(evonas.export(layer, name, form))
    copy = module_of(Path("layer.py")).EvolvedLayer(CHANNELS)  # its default groups are those of the layer
    copy.load_state_dict(layer.state_dict())
    torch.testing.assert_close(copy.eval()(x).detach(), wanted)
    session = onnxruntime.InferenceSession("layer.onnx")
    (result,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(result), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.export.load("layer.pt2").module()(x).detach(), wanted)


def images(count: int) -> Tensor:
    return 3 * torch.randn(count, CHANNELS, 7, 9) + 1


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(run: evonas.Run) -> None:
    """The front as a package, whose factory makes the norms of networks of timm and torchvision."""
    if not Path("my_layers").exists():
        evonas.export_package(run.front(), "my_layers")
    sys.path.insert(0, str(Path.cwd()))
    layers = importlib.import_module("my_layers")
    name = next(iter(layers.LAYERS))
    for model in (
        timm.create_model("resnetv2_50", norm_layer=layers.norm_layer(name), num_classes=10),
        timm.create_model("resnet18", norm_layer=layers.norm_layer(name), num_classes=10),
        torchvision.models.resnet18(norm_layer=layers.norm_layer(name), num_classes=10),
    ):
        assert model(torch.randn(2, 3, 64, 64)).shape == (2, 10)
        assert any(isinstance(module, layers.LAYERS[name]) for module in model.modules())
    graph, x = run.candidate(int(name.removeprefix("birth_"))).graph, images(4)
    torch.testing.assert_close(layers.LAYERS[name](CHANNELS)(x), evonas.layer(graph, CHANNELS)(x))


def replace(run: evonas.Run, birth: int) -> None:
    """A network of torchvision with the layer in it: trained, its moments averaged, synchronized, frozen, compiled,
    exported."""
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.resnet18(num_classes=10)
    print(evonas.replacements(model, run.candidate(birth).graph))
    model = evonas.replace(model, run.candidate(birth).graph)
    x, labels = torch.randn(16, 3, 32, 32), torch.randint(10, (16,))
    if Path("resnet18.pt").exists():
        model.load_state_dict(torch.load("resnet18.pt"))
    else:
        optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
        losses = []
        for _ in range(8):
            loss = nn.functional.cross_entropy(model(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
        torch.save(model.state_dict(), "resnet18.pt")
    evonas.update_moments(x.split(8), model)
    model = evonas.synchronize(model)
    evonas.freeze(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    model(x)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    model.eval()
    wanted = model(x).detach()
    close = {"rtol": 1e-3, "atol": 1e-4}
    batch = torch.export.Dim("batch", max=1024)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(program.module()(x[:7]).detach(), wanted[:7], **close)
    torch.testing.assert_close(torch.compile(model)(x).detach(), wanted, **close)


def validate(birth: int) -> None:
    """Two layers on a network of one's own, for a handful of steps."""
    Path("new_user_networks.py").write_text(NETWORK)
    print(evonas.validate("run", top=2, architectures=["new_user_networks:plain"], steps=20, seeds=2))
    (row,) = [row for row in evonas.open_run("run").validations(birth) if row.steps == 20]
    assert row.seeds == 2


def explain(run: evonas.Run, birth: int) -> None:
    """The parts of the layer that matter, and all that is known of it."""
    print(evonas.ablate(run.candidate(birth), seeds=1, settings=["recipe.steps=10"]))
    card = evonas.card(run.candidate(birth))
    card.save("card.md")
    assert card.validations
    assert card.ablation
    print(card.markdown())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder for all that is made")
    arguments = parser.parse_args()
    folder = arguments.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "run").exists():
        shutil.copytree(arguments.run, folder / "run")
    os.chdir(folder)  # where modules of one's own are found
    run = evonas.open_run("run")
    birth = chosen(run)
    for part in (
        lambda: query(run),
        lambda: export(run, birth),
        lambda: package(run),
        lambda: replace(run, birth),
        lambda: validate(birth),
        lambda: explain(run, birth),
    ):
        start = time.monotonic()
        part()
        print(f"{time.monotonic() - start:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
