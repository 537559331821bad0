"""Golden numbers for `tests/optimizer`: what torch's optimizers and schedules compute.

    pip install torch==2.11.0 safetensors==0.8.0 numpy==2.4.6
    python fngd-core/tests/make_optimizers.py

Writes `optimizers.safetensors`, `muon.safetensors` and `schedules.safetensors` into `optimizer/` beside this script.
"""

import pathlib

import torch
from safetensors.torch import save_file

assert torch.__version__.split("+")[0] == "2.11.0", torch.__version__

HERE = pathlib.Path(__file__).parent / "optimizer"
STEPS = 10

# Name, optimizer, arguments. The Rust test lists the same settings under the same names.
OPTIMIZERS = [
    ("sgd", torch.optim.SGD, dict(lr=0.1)),
    ("sgd_decay", torch.optim.SGD, dict(lr=0.1, weight_decay=0.05)),
    ("momentum", torch.optim.SGD, dict(lr=0.1, momentum=0.9)),
    ("momentum_decay", torch.optim.SGD, dict(lr=0.1, momentum=0.9, weight_decay=5e-4)),
    ("nesterov", torch.optim.SGD, dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05)),
    ("adamw", torch.optim.AdamW, dict(lr=0.01)),
    ("adamw_no_decay", torch.optim.AdamW, dict(lr=0.01, weight_decay=0.0)),
    ("adamw_betas", torch.optim.AdamW, dict(lr=0.01, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1)),
]


def optimizers() -> dict[str, torch.Tensor]:
    """Start, gradients and the trajectory of a [4, 3] weight and a [4] bias, in both precisions."""
    tensors = {}
    generator = torch.Generator().manual_seed(20240305)
    sizes = {"weight": (4, 3), "bias": (4,)}
    start = {name: torch.randn(size, generator=generator, dtype=torch.float64) for name, size in sizes.items()}
    # Three steps have gradients a thousand times larger, so that the moments have something to forget.
    scale = torch.tensor([1000.0 if step % 4 == 1 else 1.0 for step in range(STEPS)], dtype=torch.float64)
    grads = {}
    for name, size in sizes.items():
        grad = torch.randn((STEPS, *size), generator=generator, dtype=torch.float64)
        grads[name] = grad * 0.01 * scale.view(-1, *[1] * len(size))
    for kind, dtype in (("f32", torch.float32), ("f64", torch.float64)):
        for name in sizes:
            tensors[f"{kind}.start.{name}"] = start[name].to(dtype)
            tensors[f"{kind}.grads.{name}"] = grads[name].to(dtype)
        for setting, optimizer, arguments in OPTIMIZERS:
            parameters = {name: start[name].to(dtype, copy=True).requires_grad_() for name in sizes}
            rule = optimizer(parameters.values(), foreach=False, fused=False, **arguments)
            trajectory = {name: [] for name in sizes}
            for step in range(STEPS):
                for name, parameter in parameters.items():
                    parameter.grad = grads[name][step].to(dtype, copy=True)
                rule.step()
                for name, parameter in parameters.items():
                    trajectory[name].append(parameter.detach().clone())
            for name in sizes:
                tensors[f"{kind}.{setting}.{name}"] = torch.stack(trajectory[name])
    return tensors


MUON = [
    ("muon", dict(lr=0.02, weight_decay=0.0)),
    ("muon_heavy_ball", dict(lr=0.02, weight_decay=0.0, nesterov=False, momentum=0.9)),
    ("muon_match_rms", dict(lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")),
    ("muon_two_steps", dict(lr=0.02, weight_decay=0.1, ns_steps=2)),
]


def muon() -> dict[str, torch.Tensor]:
    """Trajectories of a high and a wide matrix: as torch has it, rounded to bfloat16, and without that rounding (but still a copy)."""
    tensors = {}
    generator = torch.Generator().manual_seed(20241208)
    sizes = {"high": (6, 4), "wide": (3, 5)}
    start = {name: torch.randn(size, generator=generator, dtype=torch.float64) for name, size in sizes.items()}
    grads = {name: torch.randn((STEPS, *size), generator=generator, dtype=torch.float64) for name, size in sizes.items()}
    rounding = torch.Tensor.bfloat16
    for kind, dtype, precision in (("f32", torch.float32, None), ("f64", torch.float64, None), ("bf16", torch.float32, rounding)):
        torch.Tensor.bfloat16 = precision or (lambda tensor: tensor.clone())
        for name in sizes:
            tensors[f"{kind}.start.{name}"] = start[name].to(dtype)
            tensors[f"{kind}.grads.{name}"] = grads[name].to(dtype)
        for setting, arguments in MUON:
            parameters = {name: start[name].to(dtype, copy=True).requires_grad_() for name in sizes}
            rule = torch.optim.Muon(parameters.values(), **arguments)
            trajectory = {name: [] for name in sizes}
            for step in range(STEPS):
                for name, parameter in parameters.items():
                    parameter.grad = grads[name][step].to(dtype, copy=True)
                rule.step()
                for name, parameter in parameters.items():
                    trajectory[name].append(parameter.detach().clone())
            for name in sizes:
                tensors[f"{kind}.{setting}.{name}"] = torch.stack(trajectory[name])
    torch.Tensor.bfloat16 = rounding
    return tensors


def schedules() -> dict[str, torch.Tensor]:
    """Learning rates of 20 steps from a peak of 0.4, float64."""
    scheduler = torch.optim.lr_scheduler

    def warmed(make):
        def with_warm_up(optimizer):
            rise = scheduler.LinearLR(optimizer, start_factor=1 / 5, end_factor=1.0, total_iters=4)
            return scheduler.SequentialLR(optimizer, [rise, make(optimizer, 16)], milestones=[4])

        return with_warm_up

    def cosine(optimizer, steps):
        return scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=0.04)

    def linear(optimizer, steps):
        return scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.1, total_iters=steps)

    def one_cycle(optimizer, **arguments):
        return scheduler.OneCycleLR(optimizer, max_lr=0.4, total_steps=20, cycle_momentum=False, **arguments)

    makers = {
        "cosine": lambda optimizer: cosine(optimizer, 20),
        "cosine_warm": warmed(cosine),
        "linear": lambda optimizer: linear(optimizer, 20),
        "linear_warm": warmed(linear),
        "step": lambda optimizer: scheduler.StepLR(optimizer, step_size=6, gamma=0.3),
        "multi_step": lambda optimizer: scheduler.MultiStepLR(optimizer, milestones=[10, 15], gamma=0.1),
        "one_cycle": one_cycle,
        "one_cycle_rise": lambda optimizer: one_cycle(optimizer, pct_start=0.45, div_factor=10, final_div_factor=100),
    }
    tensors = {}
    for name, make in makers.items():
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
        schedule = make(optimizer)
        rates = []
        for step in range(20):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if step < 19:
                schedule.step()
        tensors[name] = torch.tensor(rates, dtype=torch.float64)
    return tensors


save_file(optimizers(), HERE / "optimizers.safetensors")
save_file(muon(), HERE / "muon.safetensors")
save_file(schedules(), HERE / "schedules.safetensors")
