"""The survey's layers that the language can express. Statistics have eps 1e-5 inside the root."""

from dataclasses import replace

from evonas.search_space.catalog.baselines import BATCH_NORM
from evonas.search_space.catalog.layer import GraphLayer

_BN = "(x - mean_bhw(x)) / std_bhw(x)"
_LN = "(x - mean_c(x)) / std_c(x)"
_LN_CHW = "(x - mean_chw(x)) / std_chw(x)"
_IN = "(x - mean_hw(x)) / std_hw(x)"


def _norm(layer: GraphLayer) -> GraphLayer:
    """The row of a norm, or of a layer in a norm's place: where a network wants no activation, all of it is left."""
    return replace(layer, norm=layer.text)


_B0 = GraphLayer(
    name="EvoNorm-B0",
    survey_number=1,
    text="x / max(std_bhw(x), v1 * x + std_hw(x))",
    paper="Evolving Normalization-Activation Layers",
    year=2020,
    source="arXiv:2004.02967; tensorflow/tpu models/official/resnet/resnet_model.py; timm/layers/evo_norm.py",
    label="verified",
    note=(
        "the running variance is biased, as in the official code; timm stores the unbiased one and uses eps 1e-3 for "
        "B0; without its nonlinearity the layer is the affine only"
    ),
)
_B1 = replace(_B0, source="arXiv:2004.02967; timm/layers/evo_norm.py", note="without its nonlinearity: the affine only")

_EVONORMS = (
    _B0,
    replace(_B1, name="EvoNorm-B1", text="x / max(std_bhw(x), (x + 1) * rms_hw(x))"),
    replace(_B1, name="EvoNorm-B2", text="x / max(std_bhw(x), rms_hw(x) - x)"),
    replace(_B0, name="EvoNorm-S0", text="x * sigmoid(v1 * x) / std_ghw(x)", note=_B1.note),
    replace(_B1, name="EvoNorm-S1", text="x * sigmoid(x) / std_ghw(x)"),
    replace(_B1, name="EvoNorm-S2", text="x * sigmoid(x) / rms_ghw(x)"),
)

_LAYER_NORM = GraphLayer(
    name="LayerNorm",
    survey_number=3,
    text=_LN,
    paper="Layer Normalization",
    year=2016,
    source="pre-rmsnorm-transformer/torch/customized_layer.py; torch.nn.LayerNorm",
    label="verified",
    note="over the channels of one position, as for tokens",
)
_L1 = GraphLayer(
    name="L1-BN",
    survey_number=31,
    text="a = x - mean_bhw(x)\na / (mean_bhw(abs(a)) + 1e-5)",
    paper="Towards Accurate and Efficient Sub-8-Bit Integer Training",
    year=2024,
    source="abstract of arXiv:1802.09769; the exact form of ShiftQuant is remembered",
    label="remembered",
    note=(
        "mean absolute deviation plus eps 1e-5; without quantisation; the running deviation starts at 0: in evaluation "
        "before any training, x is multiplied by 1e5, which float16 lacks"
    ),
)

_NORMS = (
    GraphLayer(
        name="BatchNorm",
        survey_number=2,
        text=_BN,
        paper=BATCH_NORM,
        year=2015,
        source="torch.nn.BatchNorm2d; the bias of the running variance: timm, powernorm MaskBatchNorm",
        label="remembered",
        note="the running variance is biased, torch's is not",
    ),
    _LAYER_NORM,
    replace(_LAYER_NORM, name="LayerNorm-chw", text=_LN_CHW, note="over a whole example, as for images"),
    GraphLayer(
        name="InstanceNorm",
        survey_number=4,
        text=_IN,
        paper="Instance Normalization: The Missing Ingredient for Fast Stylization",
        year=2016,
        source="znxlwm/UGATIT (out_in branch); torch.nn.InstanceNorm2d",
        label="verified",
    ),
    GraphLayer(
        name="RMSNorm",
        survey_number=5,
        text="x / rms_c(x)",
        paper="Root Mean Square Layer Normalization",
        year=2019,
        source="bzhangGo/rmsnorm rmsnorm_torch.py; torch.nn.RMSNorm",
        label="verified",
        note="the authors add eps after the root: x / (rms + 1e-8); and have no bias",
    ),
    GraphLayer(
        name="RepBN",
        survey_number=10,
        text=f"eta = scalar(1)\n{_BN} + eta * x",
        paper=(
            "SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized Batch "
            "Normalization"
        ),
        year=2024,
        source="xinghaochen/SLAB classification/models/prepbn.py",
        label="verified",
        note="the paper's eta is weight * eta here: there weight scales the normalised part only; PRepBN without LN",
    ),
    GraphLayer(
        name="DyT",
        survey_number=12,
        text="alpha = scalar(0.5)\ntanh(alpha * x)",
        paper="Transformers without Normalization",
        year=2025,
        source="jiachenzhu/DyT dynamic_tanh.py, other_tasks/LLaMA",
        label="verified",
        note="takes the place of a norm; for LLaMA without bias, and alpha starts elsewhere (7B: 0.8 in attention)",
    ),
    GraphLayer(
        name="Derf",
        survey_number=None,
        text="alpha = scalar(0.5)\ns = scalar(0)\nerf(alpha * x + s)",
        paper="Stronger Normalization-Free Transformers",
        year=2025,
        source="zlab-princeton/Derf ViT/dynamic_erf.py",
        label="verified",
        note="takes the place of a norm; erf is beyond the paper's primitives",
    ),
    GraphLayer(
        name="DyISRU",
        survey_number=13,
        text="beta = scalar(100)\nx / sqrt(beta + square(x))",
        paper="Elementwise Layer Normalization",
        year=2025,
        source="third-party code and the text of arXiv:2503.21708",
        label="remembered",
        note=(
            "takes the place of a norm, also called ELN; the paper's factor sqrt(C) is left to weight; keep beta > 0"
        ),
    ),
    GraphLayer(
        name="ScaleNorm",
        survey_number=15,
        text="g = scalar(1)\ng * x / rms_c(x)",
        paper="Transformers without Tears: Improving the Normalization of Self-Attention",
        year=2019,
        source="tnq177/transformers_without_tears layers.py, model.py, configurations.py",
        label="verified",
        note=(
            "the paper's g is sqrt(C) g here, so that it starts at sqrt(C); there the norm is at least 1e-5 and no "
            "affine follows"
        ),
    ),
    GraphLayer(
        name="nGPT",
        survey_number=17,
        text="alpha = vector(0.05)\na = x + abs(alpha) * (y / rms_c(y) - x)\na / rms_c(a)",
        paper="nGPT: Normalized Transformer with Representation Learning on the Hypersphere",
        year=2024,
        source="NVIDIA/ngpt model.py, train.py",
        label="verified",
        note=(
            "the residual rule: x is the hidden state h, y = f(h); vectors have root mean square 1, so sqrt(C) times "
            "the paper's unit norm; there alpha is stored scaled, no affine follows, and the weights are normalised too"
        ),
    ),
    GraphLayer(
        name="MsgNorm",
        survey_number=18,
        text="s = scalar(1)\nx + s * rms_c(x) * y / rms_c(y)",
        paper="DeeperGCN: All You Need to Train Deeper GCNs",
        year=2020,
        source="lightaime/deep_gcns_torch gcn_lib/sparse/torch_message.py",
        label="verified",
        note="x is the node's state, y the message; an MLP of the host follows; eps inside both roots",
    ),
    GraphLayer(
        name="FAdaIN",
        survey_number=23,
        text=f"std_hw(y) * {_IN} + mean_hw(y)",
        paper="TSIT: A Simple and Versatile Framework for Image-to-Image Translation",
        year=2020,
        source="EndlessSora/TSIT normalization.py, AdaIN/function.py",
        label="verified",
        note="y is the style; with the paper's mixing factor 1; no affine follows there",
    ),
    GraphLayer(
        name="ILN",
        survey_number=24,
        text=f"rho = vector(0)\nrho * {_IN} + (1 - rho) * {_LN_CHW}",
        paper=(
            "U-GAT-IT: Unsupervised Generative Attentional Networks with Adaptive Layer-Instance Normalization for "
            "Image-to-Image Translation"
        ),
        year=2019,
        source="znxlwm/UGATIT-pytorch networks.py:157-270",
        label="verified",
        note="biased variances, there unbiased; there rho is clipped to [0, 1] after each step, here it is free",
    ),
    GraphLayer(
        name="TD-LN",
        survey_number=25,
        text=(
            "wg = vector(1)\nbg = vector(0)\ng0 = vector(1)\ng1 = vector(1)\n"
            "wb = vector(1)\nbb = vector(0)\nb0 = vector(0)\nb1 = vector(0)\n"
            "s = sigmoid(wg * y + bg)\nr = sigmoid(wb * y + bb)\n"
            f"(s * g0 + (1 - s) * g1) * {_LN} + (r * b0 + (1 - r) * b1)"
        ),
        paper=(
            "Alleviating Distortion in Image Generation via Multi-Resolution Diffusion Models and Time-Dependent Layer "
            "Normalization"
        ),
        year=2024,
        source="qihao067/DiMR libs/core/sigmoid/{module,kernel}.py",
        label="verified",
        note=(
            "y is the time, logSNR / 4, of a shape that broadcasts to x's; scale and shift each have a sigmoid; "
            "weight and bias are there only as after every graph"
        ),
    ),
    _L1,
    replace(
        _L1,
        name="L1-LN",
        text="a = x - mean_c(x)\na / (mean_c(abs(a)) + 1e-5)",
        note="mean absolute deviation plus eps 1e-5; without quantisation",
    ),
    replace(
        _L1,
        name="L1-BN-Wu",
        text="a = x - mean_bhw(x)\na / (1.2533141373155001 * mean_bhw(abs(a)) + 1e-5)",
        paper="L1-Norm Batch Normalization for Efficient Training of Deep Neural Networks",
        year=2018,
        source="abstract of arXiv:1802.09769 (the factor)",
        note=(
            "1.2533... = sqrt(pi / 2): of normal values it is the standard deviation; the running one starts at 0: in "
            "evaluation before any training, x is multiplied by 1e5, which float16 lacks"
        ),
    ),
    GraphLayer(
        name="CrossNorm",
        survey_number=32,
        text="std_chw(x) * (y - mean_chw(y)) / std_chw(y) + mean_chw(x)",
        paper="ControlNeXt: Powerful and Efficient Control for Image and Video Generation",
        year=2024,
        source="dvlab-research/ControlNeXt SD1.5 models/unet.py:1237-1244",
        label="verified",
        note=(
            "x is the main branch, y the control, which the host then adds to x; there the variances are unbiased, and "
            "eps is 1e-12 after the root"
        ),
    ),
    GraphLayer(
        name="MAD-LN",
        survey_number=35,
        text="a = x - mean_c(x)\nb = a / mean_c(abs(a))\n(b - mean_c(b)) / std_c(b)",
        paper="Conformer-Based Speech Recognition On Extreme Edge-Computing Devices",
        year=2023,
        source="a summary of the paper (MAD, L_p)",
        label="remembered",
        note="LayerNorm but for eps, without overflow in half precision; not a number where all channels are equal",
    ),
)

_SELU = GraphLayer(
    name="SELU",
    survey_number=14,
    text="1.0507009873554805 * (max(x, zero) + 1.6732632423543772 * (exp(-max(-x, zero)) - 1))",
    paper="Self-Normalizing Neural Networks",
    year=2017,
    source="torch.nn.SELU; bioinf-jku/SNNs README (the initialisation)",
    label="remembered",
    note="wants LeCun-normal weights (variance 1 / fan-in) and alpha dropout in its host",
)

GRAPHS = (*_EVONORMS, *map(_norm, _NORMS), _SELU)
