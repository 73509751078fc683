"""The reference modules in use: state, layouts, precision, and the programs that torch makes of them."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from tests.search_space.catalog.module_cases import CASES, C, cases, dy, normal, train, trained

# --------------------------------------------------------------------------- state


@cases
@pytest.mark.parametrize("through", ["state_dict", "deepcopy", "pickle"])
def test_a_training_resumes_exactly(name: str, through: str) -> None:
    case = CASES[name]
    module = trained(name)
    if through == "state_dict":
        torch.save(module.state_dict(), file := io.BytesIO())
        file.seek(0)
        resumed = case.module(C, **case.options).double()
        resumed.load_state_dict(torch.load(file))
    else:
        resumed = copy.deepcopy(module) if through == "deepcopy" else pickle.loads(pickle.dumps(module))
    for step in range(20, 24):
        assert all(map(torch.equal, train(module, case.x(step)), train(resumed, case.x(step))))
    for key, state in module.state_dict().items():
        assert torch.equal(state, resumed.state_dict()[key]), key
    assert torch.equal(module.eval()(case.x(0)), resumed.eval()(case.x(0)))


@cases
def test_evaluation_and_empty_input_move_no_state(name: str) -> None:
    module = trained(name)
    before = copy.deepcopy(module.state_dict())
    assert module(torch.zeros(0, C, 3, dtype=torch.float64)).shape == (0, C, 3)
    assert module(torch.zeros(2, C, 0, dtype=torch.float64)).shape == (2, C, 0)
    train(module.eval(), CASES[name].x(30))
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)


@cases
def test_a_module_may_run_twice_before_its_backward(name: str) -> None:
    case = CASES[name]
    module = trained(name)
    x = case.x(40).requires_grad_()
    once = copy.deepcopy(module)(x)
    (expected,) = torch.autograd.grad(once.sum(), x)
    twice = module(x)
    module(case.x(41))
    torch.testing.assert_close(torch.autograd.grad(twice.sum(), x)[0], expected)


@cases
def test_batch_dependent_is_whether_training_mixes_samples(name: str) -> None:
    x, other = CASES[name].x(50), CASES[name].x(51)
    other[-1] = x[-1]
    mixes = False
    for module in (CASES[name].build(), trained(name)):  # PRepBN's first step does not mix, PowerNorm's last ones not
        mixes |= not torch.equal(copy.deepcopy(module)(x)[-1], copy.deepcopy(module)(other)[-1])
        assert torch.equal(module.eval()(x)[-1], module(other)[-1])
    assert mixes == CASES[name].module.batch_dependent


# --------------------------------------------------------------------------- layouts and precision


@cases
def test_channels_last_is_channels_first_transposed(name: str) -> None:
    case = CASES[name]
    first, last = case.build(), case.build(channel_dim=-1)
    for step in range(case.steps + 1):
        training, x = step < case.steps, case.x(step)
        torch.testing.assert_close(train(last.train(training), x), train(first.train(training), x))
    torch.testing.assert_close(last.state_dict(), first.state_dict())


@cases
@pytest.mark.parametrize("shape", [(4, C), (1, C, 1, 1), (4, C, 3, 2), (2, C, 2, 3, 2)])
def test_other_axes_are_positions(name: str, shape: tuple[int, ...]) -> None:
    module, flat = CASES[name].build(), CASES[name].build()
    for step in range(CASES[name].steps):
        x = CASES[name].x(step, *shape)
        y, dx, *gradients = train(module, x)
        rows = x.reshape(shape[0], C, -1).requires_grad_()
        flat.zero_grad()
        (result := flat(rows)).backward(dy(x).reshape(rows.shape))
        torch.testing.assert_close((y.reshape(rows.shape), dx.reshape(rows.shape)), (result, rows.grad))
        assert all(gradient.isfinite().all() for gradient in gradients)


@cases
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_has_float32_statistics(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    module = case.module(C, **case.options)
    exact = copy.deepcopy(module)
    for step in range(case.steps):
        x = normal(4, C, 5, seed=step).to(dtype) * (200 if dtype == torch.float16 else 1)  # 400² is no float16
        y, dx, *_ = train(module, x)
        expected, expected_dx, *_ = train(exact, x.float())
        assert y.dtype == dx.dtype == dtype
        torch.testing.assert_close(y.float(), expected, rtol=0.01, atol=0.01)
        torch.testing.assert_close(dx.float(), expected_dx, rtol=0.02, atol=0.02)
    assert module.eval()(x).isfinite().all()
    assert all(buffer.dtype in (torch.float32, torch.int64) for buffer in module.buffers())


@cases
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("values", [(256.0, 256.0), (512.0, -512.0), (3e4, 3e4), (1e-4, 1e-4)])
def test_half_precision_input_gives_the_float64_result_rounded(
    name: str, dtype: torch.dtype, values: tuple[float, float]
) -> None:
    case = CASES[name]
    module = case.module(C, **case.options)
    exact = copy.deepcopy(module).double()
    x = torch.tensor(values).repeat(4 * C * 2).view(4, C, 4).to(dtype)
    slope = dy(x).double()  # as rounded
    for training in (True, False):
        rows, wide = x.clone().requires_grad_(), x.double().requires_grad_()
        y, expected = module.train(training)(rows), exact.train(training)(wide)
        (dx,), (expected_dx,) = (torch.autograd.grad((a * slope).sum(), b) for a, b in ((y, rows), (expected, wide)))
        for ours, theirs in ((y, expected), (dx, expected_dx)):
            atol = 1e-5 * float(theirs.detach().abs().max())
            torch.testing.assert_close(ours, theirs.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=atol)


@cases
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_module_evaluates_with_a_running_moment_of_zero(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    module = case.module(C, **(case.options | {"eps": 1e-8})).to(dtype).eval()
    with torch.no_grad():
        for key, buffer in module.named_buffers():
            if key in ("running_var", "running_square"):
                buffer.zero_()
    exact = copy.deepcopy(module).double()
    x = torch.linspace(-1e-3, 1e-3, 4 * C * 5).view(4, C, 5).to(dtype)
    torch.testing.assert_close(module(x), exact(x.double()).to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


# --------------------------------------------------------------------------- where a step is no number of Python's


@cases
def test_a_training_runs_on_the_meta_device(name: str) -> None:
    case = CASES[name]
    module = case.module(C, **case.options, device="meta")
    x = torch.zeros(4, C, 5, device="meta", requires_grad=True)
    for _ in range(2):
        module(x).sum().backward()
    assert x.grad is not None
    assert x.grad.shape == module.eval()(x).shape == (4, C, 5)


@pytest.mark.parametrize("name", ["PowerNorm", "UnifiedNorm-filter", "PRepBN"])
def test_a_training_compiles_as_one_graph(name: str) -> None:
    case = CASES[name]
    module = case.build()
    torch.compiler.reset()
    compiled = torch.compile(copy.deepcopy(module), fullgraph=True, backend="eager")
    for step in range(3):
        torch.testing.assert_close(train(compiled, case.x(step)), train(module, case.x(step)))
    torch.testing.assert_close(compiled._orig_mod.state_dict(), module.state_dict())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["UnifiedNorm", "PRepBN", "EstBN"])
def test_an_exported_program_is_saved_and_loaded(name: str, training: bool) -> None:
    module, x = trained(name).train(training), CASES[name].x(60)
    torch.export.save(torch.export.export(copy.deepcopy(module), (x,)), file := io.BytesIO())
    file.seek(0)
    torch.testing.assert_close(torch.export.load(file).module()(x), module(x))


@pytest.mark.filterwarnings("ignore:.torch.jit", "ignore::torch.jit.TracerWarning")
@cases
def test_a_trace_of_the_evaluation_is_saved_and_loaded(name: str) -> None:
    module, x = trained(name).eval(), CASES[name].x(60)
    torch.jit.save(torch.jit.trace(module, x), file := io.BytesIO())
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(x), module(x))


@cases
def test_a_symbolic_tracer_takes_a_module_for_a_leaf(name: str) -> None:
    network = nn.Sequential(nn.ReLU(), trained(name)).eval()
    traced, x = torch.fx.symbolic_trace(network), CASES[name].x(60)
    assert "1" in {node.target for node in traced.graph.nodes if node.op == "call_module"}
    assert torch.equal(traced(x), network(x))


def test_a_scalar_that_was_saved_without_axes_is_loaded() -> None:
    module = CASES["PRepBN"].build()
    saved = {key: value.squeeze() if key == "eta" else value for key, value in module.state_dict().items()}
    CASES["PRepBN"].build().load_state_dict(saved)
    assert module.eta.ndim == 1  # FSDP shards no scalar without axes


@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")  # torch's own use of it
@cases
def test_forward_mode_differentiates_the_evaluation(name: str) -> None:
    module, x = trained(name).eval(), CASES[name].x(60)
    direction = dy(x)
    _, slope = torch.func.jvp(module, (x,), (direction,))
    step = 1e-6 * direction
    torch.testing.assert_close(slope, (module(x + step) - module(x - step)) / 2e-6, rtol=1e-5, atol=1e-6)
