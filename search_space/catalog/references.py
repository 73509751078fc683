"""The survey's layers with a state or a backward that no graph has: reference modules."""

from evonas.search_space.catalog.layer import ModuleLayer

REFERENCES = (
    ModuleLayer(
        name="PowerNorm",
        survey_number=7,
        module="PowerNorm",
        latex=r"\frac{a}{\sqrt{\psi^2 + \varepsilon}}, \quad a = \frac{x}{\sqrt{\mu_{g}(x^2) + \varepsilon}}",
        text=(
            "z = a / sqrt(psi2 + eps) with a = x / sqrt(m2_g(x) + eps) and psi2 <- 0.9 psi2 + 0.1 m2_bhw(a); while "
            "warming up z = a / sqrt(m2_bhw(a) + eps); "
            "backward: e = g - (1 - 0.9) G z, G <- G + mean(e z), dx = e / sqrt(m2_bhw(a) + eps)"
        ),
        paper="PowerNorm: Rethinking Batch Normalization in Transformers",
        year=2020,
        source="sIncerass/powernorm fairseq/modules/norms/mask_powernorm.py",
        label="verified",
        note="without the padding mask",
    ),
    ModuleLayer(
        name="UnifiedNorm",
        survey_number=8,
        module="UnifiedNorm",
        latex=r"\frac{x}{\sqrt{v + \varepsilon}}, \quad v = \prod_{i=0}^{3} \mu_{bhw}(x_{t-i}^2)^{1/4}",
        text=(
            "z = x / sqrt(v + eps), v the geometric mean of the last 4 steps' m2_bhw(x), m2_bhw(x) itself while "
            "warming up or after an outlier; backward: dx = (e - E z) / sqrt(v + eps), e = r g, r the clamped ratio of "
            "sqrt(v + eps) to its running value, E a moving mean of mean(e z); evaluation: x / sqrt(running v + eps)"
        ),
        paper="Unified Normalization for Accelerating and Stabilizing Transformers",
        year=2022,
        source="hikvision-research/Unified-Normalization unified_normalization.py, t2t_vit.py:305",
        label="verified",
        note="without the padding mask",
    ),
    ModuleLayer(
        name="OnlineNorm",
        survey_number=9,
        module="OnlineNorm",
        latex=r"\operatorname{clamp}(\gamma (x_t - \mu_{t-1}) / \sqrt{\sigma^2_{t-1} + \varepsilon} + \beta)",
        text=(
            "sample by sample z = (x_t - m) / sqrt(v + eps), then v <- a v + (1 - a) s2_hw(x_t) + a (1 - a) "
            "(mean_hw(x_t) - m)^2 and m <- a m + (1 - a) mean_hw(x_t), a = 0.999; backward with two states of its own "
            "at 0.99; then the affine and a clamp to [-5, 5]"
        ),
        paper="Online Normalization for Training Neural Networks",
        year=2019,
        source="Cerebras/online-normalization online_norm_2d.py",
        label="verified",
        note="of the authors' two guards the clamp, not the layer scaling",
    ),
    ModuleLayer(
        name="PRepBN",
        survey_number=10,
        module="PRepBN",
        latex=r"\lambda_t \operatorname{LN}(x) + (1 - \lambda_t) (\operatorname{BN}(x) + \eta x)",
        text=(
            "q LN(x) + (1 - q) RepBN(x), RepBN(x) = BN(x) + eta x, q = max(0, 1 - step / steps), LN(x) alone while "
            "warming up; evaluation: RepBN(x)"
        ),
        paper=(
            "SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized Batch "
            "Normalization"
        ),
        year=2024,
        source="xinghaochen/SLAB classification/models/prepbn.py",
        label="verified",
        note="its end, RepBN, is a graph",
    ),
    ModuleLayer(
        name="BCN",
        survey_number=11,
        module="BatchChannelNorm",
        latex=r"\operatorname{GN}(\operatorname{BN}(x))",
        text="GN(BN(x)): BN with an affine for each channel, then (x - mean_ghw) / s_ghw with an affine for each group",
        paper="Micro-Batch Training with Batch-Channel Normalization and Weight Standardization",
        year=2019,
        source="joe-siyuan-qiao/Batch-Channel-Normalization README.md, imagenet/models/layers.py",
        label="verified",
        note="the weight standardisation that comes with it is one of the host's convolutions",
    ),
    ModuleLayer(
        name="EstBN",
        survey_number=11,
        module="EstBN",
        latex=r"\frac{x - \hat\mu}{\sqrt{\hat\sigma^2 + \varepsilon}}",
        text=(
            "(x - m) / sqrt(v + eps) with running m and v, in training too; without gradient m <- (1 - r) m + r "
            "mean_bhw(x), v <- (1 - r) v + r mean_bhw((x - m)^2)"
        ),
        paper="Micro-Batch Training with Batch-Channel Normalization and Weight Standardization",
        year=2019,
        source="joe-siyuan-qiao/Batch-Channel-Normalization README.md, imagenet/models/layers.py",
        label="verified",
        note="r is set by the trainer there, 0.1 here; the moments move before they are used",
    ),
)
