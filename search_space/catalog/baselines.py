"""The layers that everyone compares with, as graphs. The affine comes last, after the activation."""

from dataclasses import replace

from evonas.search_space.catalog.layer import GraphLayer

BATCH_NORM = "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift"
SWISH = "Searching for Activation Functions"
_LEAKY = "Rectifier Nonlinearities Improve Neural Network Acoustic Models"
_LEAKS = "the slope below zero is 0.2, torch's default 0.01"
_BN = "(x - mean_bhw(x)) / std_bhw(x)"
_GN = "(x - mean_ghw(x)) / std_ghw(x)"
_AFFINE_LAST = "weight and bias come after the activation, in the usual stack before it"
_BIASED = "the running variance is biased, torch's is not"

_BN_RELU = GraphLayer(
    name="BN-ReLU",
    survey_number=None,
    text=f"max({_BN}, zero)",
    norm=_BN,
    paper=BATCH_NORM,
    year=2015,
    source="arXiv:1502.03167; torch.nn.BatchNorm2d, ReLU",
    label="remembered",
    note=f"{_AFFINE_LAST}; {_BIASED}",
)
_GN_RELU = GraphLayer(
    name="GN-ReLU",
    survey_number=None,
    text=f"max({_GN}, zero)",
    norm=_GN,
    paper="Group Normalization",
    year=2018,
    source="arXiv:1803.08494; torch.nn.GroupNorm, ReLU",
    label="remembered",
    note=_AFFINE_LAST,
)
_SILU = GraphLayer(
    name="SiLU",
    survey_number=None,
    text="x * sigmoid(x)",
    paper=SWISH,
    year=2017,
    source="arXiv:1710.05941; torch.nn.SiLU",
    label="remembered",
)

BASELINES = (
    _BN_RELU,
    replace(
        _BN_RELU,
        name="BN-SiLU",
        text=f"a = {_BN}\na * sigmoid(a)",
        paper=f"{BATCH_NORM}; {SWISH}",
        year=2017,
        source="arXiv:1502.03167, arXiv:1710.05941; torch.nn.BatchNorm2d, SiLU",
    ),
    replace(
        _BN_RELU,
        name="BN-LeakyReLU",
        text=f"a = {_BN}\nmax(a, 0.2 * a)",
        paper=f"{BATCH_NORM}; {_LEAKY}",
        source="arXiv:1502.03167; torch.nn.BatchNorm2d, LeakyReLU(0.2)",
        note=f"{_LEAKS}; {_AFFINE_LAST}; {_BIASED}",
    ),
    replace(
        _BN_RELU,
        name="BN-PReLU",
        text=f"a = {_BN}\nslope = vector(0.25)\nmax(a, zero) - slope * max(-a, zero)",
        paper=f"{BATCH_NORM}; Delving Deep into Rectifiers",
        source="arXiv:1502.03167, arXiv:1502.01852; torch.nn.BatchNorm2d, PReLU(num_features)",
        note=f"a slope a channel; torch's default is one for all; {_AFFINE_LAST}; {_BIASED}",
    ),
    _GN_RELU,
    replace(
        _GN_RELU,
        name="GN-LeakyReLU",
        text=f"a = {_GN}\nmax(a, 0.2 * a)",
        paper=f"Group Normalization; {_LEAKY}",
        source="arXiv:1803.08494; torch.nn.GroupNorm, LeakyReLU(0.2)",
        note=f"{_LEAKS}; {_AFFINE_LAST}",
    ),
    replace(
        _GN_RELU,
        name="GN-SiLU",
        text=f"a = {_GN}\na * sigmoid(a)",
        paper=f"Group Normalization; {SWISH}",
        source="arXiv:1803.08494, arXiv:1710.05941; torch.nn.GroupNorm, SiLU",
    ),
    replace(_GN_RELU, name="GroupNorm", text=_GN, source="arXiv:1803.08494; torch.nn.GroupNorm", note=""),
    GraphLayer(
        name="FRN+TLU",
        survey_number=None,
        text="max(x / rms_hw(x), v0)",
        norm="x / rms_hw(x)",
        paper=(
            "Filter Response Normalization Layer: Eliminating Batch Dependence in the Training of Deep Neural Networks"
        ),
        year=2019,
        source="timm filter_response_norm.py",
        label="verified",
        note=(
            "max(weight * x / s + bias, tau) in the paper; here weight and bias come after the maximum, so that tau "
            "is weight * v0 + bias"
        ),
    ),
    GraphLayer(
        name="BN-second-moment",
        survey_number=None,
        text="x / rms_bhw(x)",
        norm="x / rms_bhw(x)",
        paper="PowerNorm: Rethinking Batch Normalization in Transformers",
        year=2020,
        source="weight x / sqrt(m2_bhw + eps) + bias: PowerNorm and Unified Normalization without their state",
        label="remembered",
        note="batch normalisation that does not centre",
    ),
    GraphLayer(
        name="ReLU",
        survey_number=None,
        text="max(x, zero)",
        paper="Rectified Linear Units Improve Restricted Boltzmann Machines",
        year=2010,
        source="torch.nn.ReLU",
        label="remembered",
    ),
    _SILU,
    GraphLayer(
        name="GELU-tanh",
        survey_number=None,
        text="0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * square(x))))",
        paper="Gaussian Error Linear Units (GELUs)",
        year=2016,
        source="torch.nn.GELU(approximate='tanh')",
        label="remembered",
        note="the tanh form, 0.7978... = sqrt(2 / pi)",
    ),
    GraphLayer(
        name="GELU",
        survey_number=None,
        text="0.5 * x * (1 + erf(0.7071067811865476 * x))",
        paper="Gaussian Error Linear Units (GELUs)",
        year=2016,
        source="torch.nn.GELU",
        label="remembered",
        note="the exact form, 0.7071... = sqrt(1 / 2); erf is beyond the paper's primitives",
    ),
    GraphLayer(
        name="tanh",
        survey_number=None,
        text="tanh(x)",
        paper="Efficient BackProp",
        year=1998,
        source="torch.nn.Tanh",
        label="remembered",
    ),
)
