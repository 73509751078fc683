"""Gate `gradient`: has a network a gradient that training can use?"""

from typing import Literal

from pydantic import Field, model_validator

from evonas.workers.frozen import Count, Positive
from evonas.workers.gates.base import NetworkGate, Networks
from evonas.workers.outcome import Measurement


class Gradient(NetworkGate):
    """At its initial weights every proxy has a gradient of a size that training can use: the norm of the loss' gradient
    over the convolutions' weights."""

    work = "initial pass"
    gate: Literal["gradient"] = "gradient"
    norm_min: Positive = Field(1e-3, description="least norm")  # ours: layers that train have 5e-3 to 3
    norm_max: Positive = Field(1e4, description="largest norm")  # sqrt(sqrt(x)) trains, with 1e3
    batch: Count = Field(32, description="training images")

    @model_validator(mode="after")
    def _some_range(self) -> "Gradient":
        if self.norm_min >= self.norm_max:
            raise ValueError(f"norm_min: {self.norm_min:g} is not below norm_max, {self.norm_max:g}")
        return self

    def measure(self, networks: Networks, proxy: str) -> Measurement:
        norm = networks.initial_pass(proxy, self.batch).gradient_norm
        bound = self.norm_min if norm < self.norm_min else self.norm_max
        return self.measured(norm, bound, passed=self.norm_min <= norm <= self.norm_max, proxy=proxy)
