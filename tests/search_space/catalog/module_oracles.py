"""The oracle of the reference modules: float64 numpy, written down as the papers do, one channel or sample at a time.

x is (samples, channels, positions). `forward` moves the state in training and keeps what `backward(dy)` needs, which
returns the gradients of x, weight and bias; `state` is named as the module's buffers.
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


class Oracle:
    def __init__(self, weight: Array, bias: Array, **options: Any) -> None:
        self.weight, self.bias, self.channels = weight, bias, len(weight)
        for name, value in options.items():
            setattr(self, name, value)
        self.t = 0
        self.state = self.initial()

    def initial(self) -> dict[str, Array]:
        raise NotImplementedError

    def full(self, value: float) -> Array:
        return np.full(self.channels, float(value))

    def affine(self, z: Array) -> Array:
        return np.stack([self.weight[c] * z[:, c] + self.bias[c] for c in range(self.channels)], 1)

    def affine_gradients(self, dy: Array, z: Array) -> tuple[Array, Array]:
        weight = [(dy[:, c] * z[:, c]).sum() for c in range(self.channels)]
        return np.array(weight), np.array([dy[:, c].sum() for c in range(self.channels)])


class EstBNOracle(Oracle):
    def initial(self) -> dict[str, Array]:
        return {"running_mean": self.full(0), "running_var": self.full(1)}

    def forward(self, x: Array, training: bool) -> Array:
        r, mean, var = self.momentum, self.state["running_mean"], self.state["running_var"]
        z = np.empty_like(x)
        for c in range(self.channels):
            if training:
                var[c] = (1 - r) * var[c] + r * ((x[:, c] - mean[c]) ** 2).mean()
                mean[c] = (1 - r) * mean[c] + r * x[:, c].mean()
            z[:, c] = (x[:, c] - mean[c]) / np.sqrt(var[c] + self.eps)
        self.z = z
        return self.affine(z)

    def backward(self, dy: Array) -> tuple[Array, Array, Array]:
        sigma = np.sqrt(self.state["running_var"] + self.eps)
        return dy * (self.weight / sigma)[:, None], *self.affine_gradients(dy, self.z)


def group_scale(x: Array, groups: int, eps: float) -> Array:
    out = np.empty_like(x)
    size = x.shape[1] // groups
    for n, p in np.ndindex(x.shape[0], x.shape[2]):
        for k in range(0, x.shape[1], size):
            token = x[n, k : k + size, p]
            out[n, k : k + size, p] = token / np.sqrt((token**2).mean() + eps)
    return out


def group_scale_gradient(x: Array, d: Array, groups: int, eps: float) -> Array:
    out = np.empty_like(x)
    size = x.shape[1] // groups
    for n, p in np.ndindex(x.shape[0], x.shape[2]):
        for k in range(0, x.shape[1], size):
            token, grad = x[n, k : k + size, p], d[n, k : k + size, p]
            s = np.sqrt((token**2).mean() + eps)
            out[n, k : k + size, p] = grad / s - token * (grad @ token) / (size * s**3)
    return out


class PowerNormOracle(Oracle):
    def initial(self) -> dict[str, Array]:
        return {"running_square": self.full(1), "gradient_square": self.full(0)}

    def forward(self, x: Array, training: bool) -> Array:
        psi, eps = self.state["running_square"], self.eps
        self.training, self.x, scaled = training, x, group_scale(x, self.groups, eps)
        self.t += training
        self.batch = self.full(0)
        z = np.empty_like(x)
        for c in range(self.channels):
            square = self.batch[c] = (scaled[:, c] ** 2).mean()
            z[:, c] = scaled[:, c] / np.sqrt((square if training and self.t <= self.warmup else psi[c]) + eps)
            if training and self.t < self.warmup:
                psi[c] = psi[c] * (self.t - 1) / self.t + square / self.t
            if training:
                psi[c] = (1 - self.momentum) * psi[c] + self.momentum * square
        self.z = z
        return self.affine(z)

    def backward(self, dy: Array) -> tuple[Array, Array, Array]:
        gamma, d = self.state["gradient_square"], np.empty_like(dy)
        for c in range(self.channels):
            g, z = self.weight[c] * dy[:, c], self.z[:, c]
            if self.training:
                approximate = g - (1 - self.backward_decay) * gamma[c] * z
                gamma[c] += (approximate * z).mean()
                d[:, c] = approximate / np.sqrt(self.batch[c] + self.eps)
            else:
                d[:, c] = g / np.sqrt(self.state["running_square"][c] + self.eps)
        return group_scale_gradient(self.x, d, self.groups, self.eps), *self.affine_gradients(dy, self.z)


class UnifiedNormOracle(Oracle):
    def initial(self) -> dict[str, Array]:
        self.kept = [self.full(0)] * self.window  # oldest first
        self.kept_gradients = [self.full(0)] * self.window
        self.skips: list[int] = []
        return {"running_square": self.full(1), "running_gradient": self.full(0)}

    def forward(self, x: Array, training: bool) -> Array:
        run, m = self.state["running_square"], self.window
        self.training = training
        self.r, self.skip, self.by_batch = self.full(1), False, True
        self.square = run
        if training:
            self.t += 1
            m2 = np.array([(x[:, c] ** 2).mean() for c in range(self.channels)])
            roots = np.array([np.sqrt(value) for each in self.kept for value in each])  # of the steps before
            variance = ((roots - roots.sum() / len(roots)) ** 2).sum() / (len(roots) - 1)
            self.kept = [*self.kept[1:], m2]
            if self.outlier_filtration and self.t >= self.warmup:
                gap = sum(self.kept) / m - np.prod(self.kept, 0) ** (1 / m)
                self.skip = max(gap) > m * variance
            self.by_batch = self.t <= m or self.t < self.warmup or self.skip
            self.square = m2 if self.by_batch else np.prod(self.kept, 0) ** (1 / m)
            if self.skip:
                self.kept[-1] = run.copy()
                self.skips.append(self.t)
            if self.t > max(self.correction_after, self.warmup) and not self.skip:
                self.r = np.clip(np.sqrt(self.square + self.eps) / np.sqrt(run + self.eps), 0.2, 5)
            self.state["running_square"] = (1 - self.momentum) * run + self.momentum * self.square
        self.z = x / np.sqrt(self.square + self.eps)[:, None]
        return self.affine(self.z)

    def backward(self, dy: Array) -> tuple[Array, Array, Array]:
        sigma, dx = np.sqrt(self.square + self.eps), np.empty_like(dy)
        weight, bias = self.affine_gradients(dy, self.z)
        if not self.training:
            return dy * (self.weight / sigma)[:, None], weight, bias
        g = dy * (self.weight * self.r)[:, None]
        gz = np.array([(g[:, c] * self.z[:, c]).mean() for c in range(self.channels)])
        before = self.state["running_gradient"]
        self.kept_gradients = [*self.kept_gradients[1:], before if self.skip else gz]
        smoothed = gz if self.by_batch else sum(self.kept_gradients) / self.window
        ema = self.backward_decay * before + (1 - self.backward_decay) * smoothed
        self.state["running_gradient"] = ema
        for c in range(self.channels):
            dx[:, c] = (g[:, c] - (gz if self.skip else ema)[c] * self.z[:, c]) / sigma[c]
        return dx, self.r * weight, bias


class OnlineNormOracle(Oracle):
    def initial(self) -> dict[str, Array]:
        zeros = {name: self.full(0) for name in ("running_mean", "gradient_square", "gradient_mean")}
        return {"running_var": self.full(1), **zeros}

    def forward(self, x: Array, training: bool) -> Array:
        a = self.forward_decay
        mean, var = self.state["running_mean"], self.state["running_var"]
        self.training = training
        self.z, self.sigma = np.empty_like(x), np.empty(x.shape[:2])
        for n, c in np.ndindex(*x.shape[:2]):
            self.sigma[n, c] = np.sqrt(var[c] + self.eps)
            self.z[n, c] = (x[n, c] - mean[c]) / self.sigma[n, c]
            if training:
                var[c] = a * var[c] + (1 - a) * x[n, c].var() + a * (1 - a) * (x[n, c].mean() - mean[c]) ** 2
                mean[c] = a * mean[c] + (1 - a) * x[n, c].mean()
        self.y = self.affine(self.z)
        return np.clip(self.y, -self.guard, self.guard)

    def backward(self, dy: Array) -> tuple[Array, Array, Array]:
        dy = dy * (np.abs(self.y) <= self.guard)
        v, u, gain = self.state["gradient_square"], self.state["gradient_mean"], 1 - self.backward_decay
        dx = np.empty_like(dy)
        for n, c in np.ndindex(*dy.shape[:2]):
            g = self.weight[c] * dy[n, c]
            if self.training:
                g = g - gain * v[c] * self.z[n, c]
                v[c] += (g * self.z[n, c]).mean()
            dx[n, c] = g / self.sigma[n, c]
            if self.training:
                dx[n, c] -= gain * u[c]
                u[c] += dx[n, c].mean()
        return dx, *self.affine_gradients(dy, self.z)


class NumericOracle(Oracle):
    """Backward by central differences of `value`, a pure function of x and the affine once `forward` fixed the rest."""

    def value(self, x: Array, weight: Array, bias: Array) -> Array:
        raise NotImplementedError

    def initial(self) -> dict[str, Array]:
        return {"running_mean": self.full(0), "running_var": self.full(1)}

    def moments(self, x: Array, c: int) -> tuple[float, float]:
        """Of the batch normalization of channel c."""
        if self.by_batch:
            return x[:, c].mean(), x[:, c].var()
        return self.state["running_mean"][c], self.state["running_var"][c]

    def track(self, x: Array) -> None:
        """torch's running moments; the variance is unbiased."""
        for c in range(self.channels):
            for name, moment in (("running_mean", x[:, c].mean()), ("running_var", x[:, c].var(ddof=1))):
                self.state[name][c] = (1 - self.momentum) * self.state[name][c] + self.momentum * moment

    def backward(self, dy: Array) -> tuple[Array, Array, Array]:
        at = (self.x, self.weight, self.bias)
        gradients = []
        for which, array in enumerate(at):
            gradient = np.empty_like(array)
            for index in np.ndindex(*array.shape):
                step = np.zeros_like(array)
                step[index] = 1e-5
                low, high = (self.value(*at[:which], array + side * step, *at[which + 1 :]) for side in (-1, 1))
                gradient[index] = ((high - low) * dy).sum() / 2e-5
            gradients.append(gradient)
        return gradients[0], gradients[1], gradients[2]


class BatchChannelNormOracle(NumericOracle):
    def forward(self, x: Array, training: bool) -> Array:
        self.x, self.by_batch = x, training and not self.micro_batch
        if training and self.micro_batch:
            estimate = EstBNOracle(self.weight, self.bias, momentum=self.momentum, eps=self.eps)
            estimate.state = self.state
            estimate.forward(x, training)
        elif training:
            self.track(x)
        return self.value(x, self.weight, self.bias)

    def value(self, x: Array, weight: Array, bias: Array) -> Array:
        z, y = np.empty_like(x), np.empty_like(x)
        for c in range(self.channels):
            mean, var = self.moments(x, c)
            z[:, c] = weight[c] * (x[:, c] - mean) / np.sqrt(var + self.eps) + bias[c]
        size = self.channels // self.groups
        for n, k in np.ndindex(len(x), self.groups):
            part = z[n, k * size : (k + 1) * size]
            normal = (part - part.mean()) / np.sqrt(part.var() + self.eps)
            y[n, k * size : (k + 1) * size] = self.group_weight[k] * normal + self.group_bias[k]
        return y


class PRepBNOracle(NumericOracle):
    def forward(self, x: Array, training: bool) -> Array:
        self.x, self.by_batch, self.share = x, training, 0.0
        if training:
            if self.t >= self.warmup:
                self.track(x)
            fallen = max(0, 1 - (self.t - self.warmup) / self.total_steps)
            self.share = 1.0 if self.t < self.warmup else self.start * fallen
            self.t += 1
        return self.value(x, self.weight, self.bias)

    def value(self, x: Array, weight: Array, bias: Array) -> Array:
        y = np.empty_like(x)
        for c in range(self.channels):
            mean, var = self.moments(x, c)
            batch = weight[c] * (x[:, c] - mean) / np.sqrt(var + self.eps) + bias[c]
            layer = self.layer_weight[c] * (x[:, c] - x.mean(1)) / np.sqrt(x.var(1) + self.eps) + self.layer_bias[c]
            y[:, c] = self.share * layer + (1 - self.share) * (batch + self.eta * x[:, c])
        return y
