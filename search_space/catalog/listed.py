"""The survey's layers that are no drop-in layers here, each with its formula and the reason."""

from dataclasses import replace

from evonas.search_space.catalog.layer import ListedLayer

_REGION = ListedLayer(
    name="RN-B",
    survey_number=20,
    text=(
        "in each region r of {mask, 1 - mask}: (1 + g_r) (x - mean_r) / sqrt(s2_r + eps total / size_r) + b_r, moments "
        "over batch and positions of r, never running ones; g_r = b_r = 0 for each channel"
    ),
    paper="Region Normalization for Image Inpainting",
    year=2020,
    source="geekyutao/RN rn.py",
    label="verified",
    reason="needs a mask as an input, and moments over the masked positions",
)
_SPADE = ListedLayer(
    name="SPADE",
    survey_number=22,
    text=(
        "n (1 + g(m)) + b(m), n = (x - mean) / s without parameters (batch or instance), g, b = conv3(ReLU(conv3(m))), "
        "128 hidden, m resized to x"
    ),
    paper="Semantic Image Synthesis with Spatially-Adaptive Normalization",
    year=2019,
    source="NVlabs/SPADE models/networks/normalization.py",
    label="verified",
    reason="its affine is made by convolutions of a label map; the norm alone is BatchNorm or InstanceNorm",
)
_PHASE = ListedLayer(
    name="PCNorm",
    survey_number=30,
    text="F^-1(|F(norm(x))| e^(i angle(F(x)))), F the Fourier transform over hw: amplitude normalised, phase kept",
    paper=("Decompose, Adjust, Compose: Effective Normalization by Playing with Frequency for Domain Generalization"),
    year=2023,
    source="memory; only an unfaithful third-party version was found",
    label="remembered",
    reason="needs a two-dimensional Fourier transform and complex values",
)
_SHARED = ListedLayer(
    name="MS-LN",
    survey_number=37,
    text="(x - mean_c(x)) / s_c(x) without affine, which is merged into the next linear map",
    paper="Reducing Fine-Tuning Memory Overhead by Approximate and Memory-Sharing Backpropagation",
    year=2024,
    source="yyyyychen/LowMemoryBP lomem/normalization.py, csrc/*.cu",
    label="verified",
    reason="computes what LayerNorm does; what is new is a backward from the output and 1/s alone, to save memory",
)

LISTED = (
    ListedLayer(
        name="pRMSNorm",
        survey_number=5,
        text="x / RMS(x), RMS from the first int(p C) channels alone",
        paper="Root Mean Square Layer Normalization",
        year=2019,
        source="bzhangGo/rmsnorm rmsnorm_torch.py",
        label="verified",
        reason="needs a slice of the channels; RMSNorm is a graph",
    ),
    ListedLayer(
        name="CRMSNorm",
        survey_number=6,
        text="z / sqrt((sum z^2 + (sum z)^2) / (C + 1) + eps), z a zero-mean vector without its last coordinate",
        paper="Pre-RMSNorm and Pre-CRMSNorm Transformers: Equivalent and Efficient Pre-LN Transformers",
        year=2023,
        source="pre-rmsnorm-transformer customized_layer.py, example.py",
        label="verified",
        reason="needs the number of channels as a value, which a graph for every width has not",
        note="with weights of the host transformed, the network computes what it does with LayerNorm",
    ),
    ListedLayer(
        name="QKNorm",
        survey_number=16,
        text="logits g (q / |q|_2) . (k / |k|_2) in place of q . k / sqrt(d), scalar g from log2(L^2 - L) on",
        paper="Query-Key Normalization for Transformers",
        year=2020,
        source="CyndxAI/QKNorm layers.py",
        label="verified",
        reason="lives in an attention layer, with a scalar from the data's lengths; on q alone it is ScaleNorm",
    ),
    ListedLayer(
        name="TimestepNorm",
        survey_number=19,
        text="(1 + w) (x_t - m_t) / sqrt(v_t + eps) + b, m_t and v_t of each group over the steps up to t; w = b = 0",
        paper="Megalodon: Efficient LLM Pretraining and Inference with Unlimited Context Length",
        year=2024,
        source="XuezheMax/megalodon modules/timestep_norm.py, csrc/ops/timestep_norm.cc",
        label="verified",
        reason="needs cumulative moments along time, carried from chunk to chunk",
    ),
    _REGION,
    replace(
        _REGION,
        name="RN-L",
        text=(
            "as RN-B with the mask a >= 0.8, a = sigmoid(conv7([mean_c(x); max_c(x)])); then x (1 + conv(a)) + conv(a)"
        ),
        reason="needs convolutions, a maximum over the channels and a thresholded mask",
    ),
    ListedLayer(
        name="ALIAS",
        survey_number=21,
        text=(
            "n (1 + conv3(a)) + conv3(a), a = ReLU(conv3(segmentation)), n the instance norm in each region of "
            "x + noise with a scale for each channel"
        ),
        paper="VITON-HD: High-Resolution Virtual Try-On via Misalignment-Aware Normalization",
        year=2021,
        source="shadow2496/VITON-HD networks.py:333-400",
        label="verified",
        reason="needs a mask, noise, and convolutions of a segmentation map",
    ),
    _SPADE,
    replace(
        _SPADE,
        name="FADE",
        survey_number=23,
        text="n (1 + g(f)) + b(f), n as in SPADE, g and b one convolution each of the content's features f",
        paper="TSIT: A Simple and Versatile Framework for Image-to-Image Translation",
        year=2020,
        source="EndlessSora/TSIT normalization.py",
        reason="its affine is made by convolutions of features; the norm alone is BatchNorm or InstanceNorm",
    ),
    ListedLayer(
        name="AdaLIN",
        survey_number=24,
        text="g (rho IN(x) + (1 - rho) LN(x)) + b, rho of each channel from 0.9 on, clipped to [0, 1] after each step",
        paper=(
            "U-GAT-IT: Unsupervised Generative Attentional Networks with Adaptive Layer-Instance Normalization for "
            "Image-to-Image Translation"
        ),
        year=2019,
        source="znxlwm/UGATIT-pytorch networks.py:157-270",
        label="verified",
        reason="its g and b come from a fully connected layer on features: two more inputs; ILN is a graph",
    ),
    ListedLayer(
        name="UnMix-TNS",
        survey_number=26,
        text=(
            "16 component statistics for each channel, mixed with the example's own by a softmax over their cosine "
            "similarity / 0.07; normalised by the mixture's mean and variance, towards which the components move"
        ),
        paper="Un-Mixing Test-Time Normalization Statistics: Combatting Label Temporal Correlation",
        year=2024,
        source="devavratTomar/unmixtns tta_experiments/unmixtns.py",
        label="verified",
        reason="wraps a trained BatchNorm at test time, with a bank of states and a softmax over them",
    ),
    ListedLayer(
        name="alpha-BN",
        survey_number=27,
        text="evaluation: BN with mean (1 - a) running + a mean_bhw(x), variance likewise",
        paper="Test-time Batch Statistics Calibration for Covariate Shift",
        year=2021,
        source="AlphaBatchNorm of unmixtns/tta_experiments/methods/bn.py, third-party; the value of a is remembered",
        label="remembered",
        reason="wraps a trained BatchNorm at test time and reads running and batch moments together; a graph reads one",
        note="the paper puts its alpha, about 0.9, on the running side",
    ),
    ListedLayer(
        name="AdaB2N",
        survey_number=28,
        text=(
            "BN with moments weighted by task, weights ~ exp(w_task) + n_task, w learned from 0 on; momentum "
            "e_i = e_(i-1) / (e_(i-1) + (1 - m)^k), e_1 = m^k; a loss between batch and running moments"
        ),
        paper="Overcoming Recency Bias of Normalization Statistics in Continual Learning: Balance and Adaptation",
        year=2023,
        source="lvyilin/AdaB2N models/utils/adab2n.py, derpp_ada.py, run.py",
        label="verified",
        reason="needs each example's task, a momentum schedule and a term in the loss",
    ),
    ListedLayer(
        name="MPBN",
        survey_number=29,
        text="u <- 0.25 u + x_t, spike = 1[BN(u) > 0.5], u <- u (1 - spike); backward through tanh",
        paper="Membrane Potential Batch Normalization for Spiking Neural Networks",
        year=2023,
        source="yfguo91/MPBN models/spike_layer.py",
        label="verified",
        reason="needs a recurrence over time and a step function with another gradient; its norm is BatchNorm",
    ),
    _PHASE,
    replace(_PHASE, name="CCNorm", text="PCNorm with a learned share of the mean removed from the content (the phase)"),
    replace(
        _PHASE,
        name="SCNorm",
        text="F^-1 of amplitude l |F(x)| + (1 - l) |F(IN(x))| with a learned l, phase of x",
    ),
    ListedLayer(
        name="separable-LN",
        survey_number=33,
        text=(
            "degree 0: LN over the channels; degrees l > 0: g_l x_l / sqrt(r + eps), r = mean_c of the mean over l of "
            "sum_m x_lm^2 / (2 l + 1), one r for all"
        ),
        paper="EquiformerV2: Improved Equivariant Transformer for Scaling to Higher-Degree Representations",
        year=2023,
        source="atomicarchitects/equiformer_v2 layer_norm.py",
        label="verified",
        reason="needs axes of spherical harmonics (l, m), and parameters for each degree",
    ),
    ListedLayer(
        name="Galerkin-LN",
        survey_number=34,
        text="Q (LN(K)^T LN(V)) / n for each head, without a softmax; the Fourier type: (LN(Q) LN(K)^T) V / n",
        paper="Choose a Transformer: Fourier or Galerkin",
        year=2021,
        source="scaomath/galerkin-transformer libs/layers.py:836-910",
        label="verified",
        reason="a place for LayerNorm, which is a graph, in the heads of an attention layer",
    ),
    ListedLayer(
        name="ABNN",
        survey_number=36,
        text="weight x' (1 + a e) + bias, x' a norm with frozen moments, e normal noise for each element, a = 0.1",
        paper="Make Me a BNN: A Simple Strategy for Estimating Bayesian Uncertainty from Pre-trained Models",
        year=2023,
        source="third-party code; the recipe is remembered",
        label="remembered",
        reason="needs noise, at test time too, in place of a trained network's norms",
    ),
    _SHARED,
    replace(
        _SHARED,
        name="MS-RMSNorm",
        text="x / rms_c(x) without affine, which is merged into the next linear map",
        reason="computes what RMSNorm does; what is new is a backward from the output and 1/rms alone, to save memory",
    ),
    replace(
        _SHARED,
        name="ReGELU2",
        text=(
            "GELU(x), with the derivative sum_i a_i 1[x > c_i], a = (-0.0492, 1.0980, -0.0487), "
            "c = (-3.1859, -0.0012, 3.1908)"
        ),
        reason="its derivative is not its forward's (a step function, to save memory), and the forward needs erf",
    ),
    replace(
        _SHARED,
        name="ReSiLU2",
        text=(
            "SiLU(x), with the derivative sum_i a_i 1[x > c_i], a = (-0.0406, 1.0809, -0.0403), "
            "c = (-6.305, -0.0009, 6.326)"
        ),
        reason="its derivative is not its forward's (a step function, to save memory); SiLU is a graph",
    ),
    ListedLayer(
        name="PCA-whitening",
        survey_number=38,
        text="(x - mean) U diag(s^(-1/2)), U and s of the singular value decomposition of (x - mean)^T (x - mean)",
        paper="WhiteningBERT: An Easy Unsupervised Sentence Embedding Approach",
        year=2021,
        source="Jun-jie-Huang/WhiteningBERT pooling_utils.py",
        label="verified",
        reason="needs a covariance matrix over all embeddings and its singular value decomposition",
    ),
)
