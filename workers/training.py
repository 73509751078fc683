"""One network with a candidate's layers, trained step by step: gates look at it on the way to the full budget."""

import hashlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_space.errors import InputError
from search_space.graph import Graph
from search_space.lowering import NormAct
from workers.architectures import build
from workers.data import Images
from workers.outcome import Point
from workers.protocol import Protocol, Recipe

LOSS_CHECK_EVERY = 10  # steps
EARLY = 50  # steps; until then running moments of momentum 0.1 lag behind (0.9^20 = 12 % of their start at step 20)
EARLY_BATCHES = 10


class Diverged(Exception):
    """The training loss is no longer finite."""

    def __init__(self, step: int) -> None:
        super().__init__(f"after {step} steps")
        self.step = step


def proxy_seed(seed: int, proxy: str) -> int:
    """Initial weights and batch order depend on (seed, proxy) alone: every candidate meets the same."""
    return int.from_bytes(hashlib.sha256(f"{seed} {proxy}".encode()).digest()[:7], "big")


def build_model(graph: Graph, protocol: Protocol, proxy: str, images: Images, seed: int) -> nn.Module:
    """The proxy with the graph's layer at every site, in the protocol's memory format, on the images' device."""
    spec = protocol.proxies[proxy]

    def norm_act(num_features: int, channel_dim: int = 1) -> nn.Module:
        return NormAct(graph, num_features, channel_dim=channel_dim, groups=spec.groups)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(proxy_seed(seed, proxy))
        model: nn.Module = build(spec, norm_act, images.channels, images.classes)
    if protocol.execution.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return model.to(images.train.images.device)


class Training:
    """Trains one proxy: `run(until)` goes on to a step, `validate()` measures. (seed, proxy) fix the batch order.

    `run` raises Diverged when the loss stops being finite.
    """

    def __init__(self, graph: Graph, protocol: Protocol, proxy: str, images: Images, seed: int) -> None:
        self.proxy = proxy
        self.recipe = protocol.recipe
        smallest = min(images.train.images.shape[-2:])
        if self.recipe.crop and self.recipe.crop > smallest:
            raise InputError(f"recipe.crop: {self.recipe.crop} is larger than the images, {smallest}")
        self.execution = protocol.execution
        self.images = images
        self.device = images.train.images.device
        self.model = build_model(graph, protocol, proxy, images, seed)
        if self.execution.compile_from_steps != "never" and self.recipe.steps >= self.execution.compile_from_steps:
            for module in self.model.modules():
                if isinstance(module, NormAct):
                    module.compile()
        self.optimizer = torch.optim.SGD(
            _parameter_groups(self.model, self.recipe.weight_decay),
            lr=self.recipe.learning_rate,
            momentum=self.recipe.momentum,
            nesterov=self.recipe.momentum > 0,
        )
        self.generator = torch.Generator().manual_seed(proxy_seed(seed, f"{proxy} batches"))
        self.order = torch.empty(0, dtype=torch.long)
        self.step = 0
        self.losses = torch.zeros((), device=self.device)  # summed since the last validation
        self.losses_from = 0

    def run(self, until: int) -> None:
        self.model.train()
        while self.step < until:
            images, labels = self._batch()
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.recipe, self.step)
            self.optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(self._forward(images).float(), labels)
            loss.backward()
            self.optimizer.step()
            self.step += 1
            self.losses += loss.detach()
            due = self.step % LOSS_CHECK_EVERY == 0 or self.step == until
            if due and not math.isfinite(float(self.losses)):
                raise Diverged(self.step)

    @torch.no_grad()
    def validate(self) -> Point:
        """Accuracy on the whole validation images, uncropped, with the running moments."""
        if self.step < EARLY:
            self._recompute_moments()
        self.model.eval()
        split = self.images.validation
        correct = torch.zeros((), dtype=torch.long, device=self.device)
        broken = torch.zeros((), dtype=torch.bool, device=self.device)
        for start in range(0, len(split.labels), 500):
            logits = self._forward(split.images[start : start + 500])
            broken |= logits.isnan().any()
            correct += (logits.argmax(1) == split.labels[start : start + 500]).sum()
        if broken:
            raise Diverged(self.step)
        loss = float(self.losses) / max(1, self.step - self.losses_from)
        self.losses.zero_()
        self.losses_from = self.step
        return Point(self.proxy, self.step, int(correct) / len(split.labels), loss)

    def _recompute_moments(self) -> None:
        """Running moments as plain averages over the first training images."""
        layers = [module for module in self.model.modules() if isinstance(module, NormAct)]
        if not any(name.startswith("running_") for name, _ in layers[0].named_buffers()):
            return
        self.model.train()
        size, images = self.recipe.batch_size, self.images.train.images
        momentum = layers[0].momentum
        with torch.compiler.set_stance("force_eager"):  # compiled layers would be compiled anew for each momentum
            for number, start in enumerate(range(0, min(len(images), EARLY_BATCHES * size), size), start=1):
                for layer in layers:
                    layer.momentum = 1 / number
                self._forward(images[start : start + size])
        for layer in layers:
            layer.momentum = momentum

    def _forward(self, images: Tensor) -> Tensor:
        x = self.images.normalise(images)
        if self.execution.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        half = self.execution.dtype == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            return self.model(x)  # type: ignore[no-any-return]

    def _batch(self) -> tuple[Tensor, Tensor]:
        size = min(self.recipe.batch_size, len(self.images.train.labels))
        if len(self.order) < size:
            self.order = torch.randperm(len(self.images.train.labels), generator=self.generator)
        chosen, self.order = self.order[:size], self.order[size:]
        chosen = chosen.to(self.device)
        images = self.images.train.images[chosen]
        return augment(images, self.recipe, self.generator), self.images.train.labels[chosen]


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """A random crop and mirroring of each image."""
    n, _, height, width = images.shape
    if recipe.crop and recipe.crop < max(height, width):
        rows = torch.randint(height - recipe.crop + 1, (n, 1), generator=generator) + torch.arange(recipe.crop)
        columns = torch.randint(width - recipe.crop + 1, (n, 1), generator=generator) + torch.arange(recipe.crop)
        rows, columns = rows.to(images.device), columns.to(images.device)
        batch = torch.arange(n, device=images.device)[:, None, None]
        images = images.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if recipe.flip:
        mirrored = (torch.rand(n, generator=generator) < 0.5).to(images.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return images


def learning_rate(recipe: Recipe, step: int) -> float:
    """Of the step after `step` steps: a linear rise over the warm-up, then constant, or half a cosine down to 0."""
    warmup = round(recipe.warmup * recipe.steps)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (recipe.steps - warmup)))
    return recipe.learning_rate


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    decayed = [m.weight for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    chosen = {id(p) for p in decayed}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
