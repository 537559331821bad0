#!/usr/bin/env python3
"""Times a PyTorch training step of most methods that fngd-cli has (not ngd, mbf and seng), on a model of models/architectures.py; prints JSON.

    python3 tools/bench_methods_pytorch.py resnet32 --methods sgd,kfac,eva --batch-size 128 --threads 2 --channels-last
    python3 tools/bench_methods_pytorch.py --check       # one direction of each method against its formula in float64

The methods are written here from their formulas (see docs/methods.md), in the structure that public implementations have: forward
pre-hooks and backward hooks keep what a layer sees, patches of convolutions are unfolded, and a loop over layers or parameters does
the rest before torch.optim.SGD. Settings and frequencies are those of fngd-cli. Where public code is slower than it need be
(a Newton iteration for Shampoo's roots, `.item()` for every layer in the KL clip), this does the faster thing, and says so.

A step that refreshes factors and one that does not are timed apart; the mean is ((n - 1)*ordinary + refresh)/n for a period of n
steps. Needs PyTorch 2.11.
"""
import argparse
import json
import math
import pathlib
import resource
import statistics
import sys
import time
import warnings

import torch
import torch.nn.functional as F
from torch import nn


class Layers:
    """Linear and convolution layers, and what hooks saw of each in the present step."""

    def __init__(self, model, observing):
        self.modules = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
        self.observing = observing
        self.inputs, self.grads = {}, {}
        for module in self.modules:
            module.register_forward_pre_hook(self._forward)
            module.register_full_backward_hook(self._backward)

    def _forward(self, module, inputs):
        if torch.is_grad_enabled() and self.observing():
            self.inputs[module] = inputs[0].detach()

    def _backward(self, module, _, grads):
        if self.observing():
            self.grads[module] = grads[0].detach()

    def rows(self, module):
        """Patches [B, T, p] and output gradients [B, T, d] of the sample's own loss."""
        x, g = self.inputs[module], self.grads[module]
        batch = x.shape[0]
        if isinstance(module, nn.Conv2d):
            (kh, kw), (sh, sw), (ph, pw) = module.kernel_size, module.stride, module.padding
            x = F.pad(x, (pw, pw, ph, ph)) if ph or pw else x
            x = x.unfold(2, kh, sh).unfold(3, kw, sw)
            x = x.permute(0, 2, 3, 1, 4, 5).reshape(batch, -1, x.shape[1] * kh * kw)
            g = g.permute(0, 2, 3, 1).reshape(batch, -1, g.shape[1])
        else:
            x, g = x.reshape(batch, -1, x.shape[-1]), g.reshape(batch, -1, g.shape[-1])
        return (with_one(x) if module.bias is not None else x), g * batch


def with_one(rows):
    return torch.cat([rows, rows.new_ones(*rows.shape[:-1], 1)], -1)


def gradient(module):
    grad = module.weight.grad.reshape(module.weight.shape[0], -1)
    return grad if module.bias is None else torch.cat([grad, module.bias.grad[:, None]], 1)


def set_gradient(module, direction):
    if module.bias is not None:
        module.bias.grad.copy_(direction[:, -1])
        direction = direction[:, :-1]
    module.weight.grad.copy_(direction.reshape(module.weight.shape))


class Layerwise:
    """A method that turns each layer's gradient by what hooks saw; torch.optim.SGD applies it."""
    every, statistics_every, kl_clip = 10, 1, 1e-3

    def __init__(self, model):
        self.force, self.steps, self.layers = None, 0, Layers(model, lambda: self.observes())
        self.kept = {}
        self.sgd = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)

    def refreshes(self):
        return self.steps % self.every == 0 if self.force is None else self.force or self.steps == 0

    def observes(self):
        return self.statistics_every == 1 or self.refreshes()

    @torch.no_grad()
    def step(self):
        refreshes, directions = self.refreshes(), []
        for module in self.layers.modules:
            if self.observes():
                self.observe(module)
            if refreshes:
                self.refresh(module)
            grad = gradient(module)
            directions.append((module, grad, self.direction(module, grad)))
        # On the device, for all layers at once.
        sizes = torch.stack([(grad * direction).sum() for _, grad, direction in directions])
        size = sizes.sum().abs().item() * self.sgd.param_groups[0]["lr"] ** 2
        clip = min(1.0, math.sqrt(self.kl_clip / size)) if size > 0 and self.kl_clip else 1.0
        for module, _, direction in directions:
            set_gradient(module, direction * clip)
        self.steps += 1
        self.sgd.step()

    def zero_grad(self):
        self.sgd.zero_grad()

    def observe(self, module):
        self.kept.setdefault(module, {})["rows"] = self.layers.rows(module)

    def average(self, module, name, value):
        kept = self.kept.setdefault(module, {})
        count = kept[name + " count"] = kept.get(name + " count", 0) + 1
        keep = min(1 - 1 / count, 0.95)
        if count == 1:
            kept[name] = value
        else:
            kept[name].mul_(keep).add_(value, alpha=1 - keep)

    def refresh(self, module):
        pass


class Kfac(Layerwise):
    """A = mean aa', G = mean gg' over samples; eigenvectors of both every 10 steps."""
    damping = 3e-3

    def observe(self, module):
        a, g = self.layers.rows(module)
        samples = a.shape[0]
        a, g = a.reshape(-1, a.shape[-1]), g.reshape(-1, g.shape[-1])
        self.average(module, "A", a.t() @ (a / a.shape[0]))
        self.average(module, "G", g.t() @ (g / samples))

    def refresh(self, module):
        kept = self.kept[module]
        kept["da"], kept["Qa"] = torch.linalg.eigh(kept["A"])
        kept["dg"], kept["Qg"] = torch.linalg.eigh(kept["G"])

    def direction(self, module, grad):
        kept = self.kept[module]
        rotated = kept["Qg"].t() @ grad @ kept["Qa"]
        eigenvalues = torch.outer(kept["dg"].clamp(min=0), kept["da"].clamp(min=0))
        return kept["Qg"] @ (rotated / (eigenvalues + self.damping)) @ kept["Qa"].t()


class Eva(Layerwise):
    """Running means of a and g; the inverse of their outer products in closed form."""
    every, damping = 1, 0.03

    def observe(self, module):
        a, g = self.layers.rows(module)
        self.average(module, "a", a.mean((0, 1)))
        self.average(module, "g", g.mean((0, 1)))

    def direction(self, module, grad):
        a, g = self.kept[module]["a"], self.kept[module]["g"]
        along = g @ grad @ a / (self.damping + a.dot(a) * g.dot(g))
        return (grad - along * torch.outer(g, a)) / self.damping


class Summed(Layerwise):
    """One row for each sample: a averaged over positions, g summed."""

    def observes(self):
        return self.refreshes()

    def observe(self, module):
        a, g = self.layers.rows(module)
        self.kept.setdefault(module, {})["rows"] = a.mean(1), g.sum(1)


class Skfac(Summed):
    """KFAC of those rows by Sherman-Morrison-Woodbury, every 10 steps, damping balanced by the traces."""
    damping = 1e-3

    def refresh(self, module):
        a, g = self.kept[module]["rows"]
        pi = (a.square().mean() / g.square().mean()).sqrt()
        root = math.sqrt(self.damping)
        self.kept[module]["factors"] = [self.factor(a, pi * root), self.factor(g, root / pi)]

    @staticmethod
    def factor(rows, damping):
        samples = rows.shape[0]
        gram = rows @ rows.t() + damping * samples * torch.eye(samples, dtype=rows.dtype)
        return rows, damping, torch.cholesky_inverse(torch.linalg.cholesky(gram))

    def direction(self, module, grad):
        (a, damping_a, inverse_a), (g, damping_g, inverse_g) = self.kept[module]["factors"]
        right = (grad - grad @ a.t() @ inverse_a @ a) / damping_a
        return (right - g.t() @ (inverse_g @ (g @ right))) / damping_g


class Hylo(Summed):
    """A tenth of the rows, drawn by their size, every 100 steps."""
    every, damping, ratio = 100, 0.3, 0.1

    def refresh(self, module):
        a, g = self.kept[module]["rows"]
        sizes = a.norm(dim=1) * g.norm(dim=1)
        count, samples = math.ceil(self.ratio * a.shape[0]), a.shape[0]
        chosen = torch.multinomial(sizes, count, replacement=True)
        g = g[chosen] / (samples * count * sizes[chosen] / sizes.sum()).sqrt()[:, None]
        a = a[chosen]
        gram = (a @ a.t()) * (g @ g.t()) + self.damping * torch.eye(count, dtype=a.dtype)
        self.kept[module]["drawn"] = a, g, torch.cholesky_inverse(torch.linalg.cholesky(gram))

    def direction(self, module, grad):
        a, g, inverse = self.kept[module]["drawn"]
        coefficients = inverse @ ((g @ grad) * a).sum(1)
        return (grad - (g * coefficients[:, None]).t() @ a) / self.damping


class Tengrad(Summed):
    """Per-sample gradients of one batch and their Gram matrix, kept for 100 steps."""
    every, damping = 100, 0.3

    def observe(self, module):
        self.kept.setdefault(module, {})["rows"] = self.layers.rows(module)

    def refresh(self, module):
        a, g = self.kept[module].pop("rows")
        per_sample = torch.bmm(g.transpose(1, 2), a).flatten(1)
        samples = a.shape[0]
        gram = per_sample @ per_sample.t() / samples + self.damping * torch.eye(samples, dtype=a.dtype)
        self.kept[module]["kernel"] = per_sample, torch.cholesky_inverse(torch.linalg.cholesky(gram))

    def direction(self, module, grad):
        per_sample, inverse = self.kept[module]["kernel"]
        coefficients = inverse @ (per_sample @ grad.flatten()) / per_sample.shape[0]
        return (grad - (coefficients @ per_sample).view_as(grad)) / self.damping


class Fngd(Layerwise):
    """As published: per-sample gradients at every step, weighted by what the first epoch solved for. A refresh is a step of that epoch."""
    every, gamma, kl_clip = 10 ** 9, 1.0, None

    def refresh(self, module):
        a, g = self.kept[module]["rows"]
        per_sample = torch.bmm(g.transpose(1, 2), a).flatten(1)
        gram = per_sample @ per_sample.t()
        damping = self.gamma * gram.norm()
        ones = gram.new_ones(gram.shape[0], 1)
        solved = torch.cholesky_solve(ones, torch.linalg.cholesky(gram + damping * torch.eye(gram.shape[0], dtype=gram.dtype)))
        self.kept[module]["weights"] = damping * solved[:, 0]

    def direction(self, module, grad):
        a, g = self.kept[module].pop("rows")
        per_sample = torch.bmm(g.transpose(1, 2), a).flatten(1)
        return (self.kept[module]["weights"] @ per_sample / a.shape[0]).view_as(grad)


class Rule:
    """A method that needs nothing but each parameter's gradient."""
    every = 1

    def __init__(self, model):
        self.force, self.steps = None, 0
        self.parameters = [p for p in model.parameters()]
        self.kept = [{} for _ in self.parameters]

    def refreshes(self):
        return self.steps % self.every == 0 if self.force is None else self.force or self.steps == 0

    @torch.no_grad()
    def step(self):
        for parameter, kept in zip(self.parameters, self.kept):
            self.update(parameter, parameter.grad, kept)
        self.steps += 1

    def zero_grad(self):
        for parameter in self.parameters:
            parameter.grad = None


class Shampoo(Rule):
    """Blocks of 128, statistics and roots every 10 steps, length of the gradient. Roots by eigh, which is faster than the Newton iteration."""
    every, block, epsilon, lr, momentum, weight_decay = 10, 128, 1e-12, 1e-3, 0.9, 5e-4

    def merged(self, size):
        merged = [1]
        for length in size:
            if merged[-1] == 1 or merged[-1] * length <= self.block:
                merged[-1] *= length
            elif length > 1:
                merged.append(length)
        return merged

    def update(self, parameter, grad, kept):
        direction = self.direction(grad, kept)
        direction = direction * (grad.norm() / direction.norm().clamp(min=1e-30))
        direction.add_(parameter, alpha=self.weight_decay)
        kept.setdefault("momentum", torch.zeros_like(parameter)).mul_(self.momentum).add_(direction)
        parameter.sub_(kept["momentum"], alpha=self.lr)

    def direction(self, grad, kept):
        merged = grad.reshape(self.merged(grad.shape))
        result, order = torch.empty_like(merged), merged.dim()
        starts = [range(0, length, self.block) for length in merged.shape]
        for corner in torch.cartesian_prod(*[torch.tensor(list(s)) for s in starts]).reshape(-1, order).tolist():
            index = tuple(slice(at, at + self.block) for at in corner)
            part, block = merged[index], kept.setdefault(("block", *corner), {})
            if self.refreshes():
                for mode in range(order):
                    others = [other for other in range(order) if other != mode]
                    statistics = torch.tensordot(part, part, dims=(others, others))
                    start = self.epsilon * torch.eye(part.shape[mode], dtype=grad.dtype)
                    block[mode] = block.get(mode, start) + statistics
                    values, vectors = torch.linalg.eigh(block[mode])
                    least = values.max().clamp(min=1.2e-38) * part.shape[mode] * torch.finfo(grad.dtype).eps
                    scales = torch.maximum(values, least) ** (-1 / (2 * order))
                    block["root", mode] = vectors * scales @ vectors.t()
            for mode in range(order):
                part = torch.tensordot(part, block["root", mode], dims=([0], [0]))
            result[index] = part
        return result.reshape(grad.shape)


class Soap(Rule):
    """Adam in the eigenbasis of the statistics; the basis is refined by QR every 10 steps."""
    every, beta, epsilon, lr, weight_decay = 10, 0.95, 1e-8, 1e-3, 0.01

    def update(self, parameter, grad, kept):
        modes = [mode for mode, length in enumerate(grad.shape) if length > 1]
        modes = modes if len(modes) >= 2 else []
        if not kept:
            kept.update(first=torch.zeros_like(grad), second=torch.zeros_like(grad), step=0)
            for mode in modes:
                kept["S", mode] = (1 - self.beta) * self.statistics(grad, mode)
                kept["Q", mode] = torch.linalg.eigh(kept["S", mode])[1]
            if modes:
                return
        kept["step"] += 1
        kept["first"].lerp_(grad, 1 - self.beta)
        rotated = self.rotate(grad, kept, modes, 0)
        kept["second"].mul_(self.beta).addcmul_(rotated, rotated, value=1 - self.beta)
        root = (kept["second"] / (1 - self.beta ** kept["step"])).sqrt_().add_(self.epsilon)
        step = self.rotate(self.rotate(kept["first"], kept, modes, 0) / root, kept, modes, 1)
        parameter.mul_(1 - self.lr * self.weight_decay).sub_(step, alpha=self.lr / (1 - self.beta ** kept["step"]))
        for mode in modes:
            kept["S", mode].lerp_(self.statistics(grad, mode), 1 - self.beta)
            if self.refreshes():
                kept["Q", mode] = torch.linalg.qr(kept["S", mode] @ kept["Q", mode])[0]

    @staticmethod
    def statistics(grad, mode):
        others = [other for other in range(grad.dim()) if other != mode]
        return torch.tensordot(grad, grad, dims=(others, others))

    @staticmethod
    def rotate(tensor, kept, modes, side):
        for mode in range(tensor.dim()):
            tensor = (torch.tensordot(tensor, kept["Q", mode], dims=([0], [side])) if mode in modes
                      else tensor.movedim(0, -1))
        return tensor


class Muon(Rule):
    """Newton-Schulz on the momentum of hidden weights, matrix by matrix; torch.optim.AdamW for the rest."""
    momentum, lr, weight_decay = 0.95, 1e-3, 0.01

    def __init__(self, model):
        super().__init__(model)
        matrices = [p for p in self.parameters if p.dim() >= 2]
        hidden = {id(p) for p in matrices[1:-1]}
        rest = [p for p in self.parameters if id(p) not in hidden]
        self.rest = torch.optim.AdamW(rest, lr=5e-5, betas=(0.9, 0.95))
        self.all, self.parameters = self.parameters, [p for p in self.parameters if id(p) in hidden]

    def step(self):
        super().step()
        self.rest.step()

    def zero_grad(self):
        for parameter in self.all:
            parameter.grad = None

    def update(self, parameter, grad, kept):
        momentum = kept.setdefault("momentum", torch.zeros_like(parameter)).mul_(self.momentum).add_(grad)
        direction = self.orthogonal(grad.add(momentum, alpha=self.momentum).flatten(1))
        scale = math.sqrt(max(1, direction.shape[0] / direction.shape[1]))
        parameter.mul_(1 - self.lr * self.weight_decay).sub_(direction.view_as(parameter), alpha=self.lr * scale)

    @staticmethod
    def orthogonal(matrix):
        high = matrix.shape[0] > matrix.shape[1]
        x = matrix.t() if high else matrix
        x = x / x.norm().clamp(min=1e-7)
        for _ in range(5):
            gram = x @ x.t()
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
        return (x.t() if high else x).contiguous()


class Plain:
    """An optimizer of torch.optim."""
    every, force = 1, None

    def __init__(self, optimizer):
        self.step, self.zero_grad = optimizer.step, optimizer.zero_grad


METHODS = {
    "sgd": lambda model: Plain(torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)),
    "adamw": lambda model: Plain(torch.optim.AdamW(model.parameters(), lr=1e-3)),
    "fngd": Fngd, "kfac": Kfac, "shampoo": Shampoo, "eva": Eva, "skfac": Skfac, "tengrad": Tengrad, "hylo": Hylo,
    "muon": Muon, "soap": Soap,
}


def seconds_of(optimizer, model, images, labels, force):
    optimizer.force = force
    started = time.perf_counter()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    if not math.isfinite(loss.item()):
        raise SystemExit("the loss is not finite")
    return time.perf_counter() - started


def bench(arguments):
    sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "models"))
    from architectures import CLASSES, MODELS
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    build, sample = MODELS[arguments.model]
    contenders = {}
    for name in arguments.methods.split(","):
        torch.manual_seed(0)
        model, images = build().train(), torch.randn(arguments.batch_size, *sample)
        labels = torch.randint(0, CLASSES, (arguments.batch_size,))
        if arguments.channels_last:
            model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
        contenders[name] = METHODS[name](model), model, images, labels
    times = {name: ([], []) for name in contenders}
    for number in range(arguments.rounds + 1):
        # Every other round backwards, and the first one is not counted.
        for name, (optimizer, *rest) in list(contenders.items())[::1 if number % 2 else -1]:
            ordinary = [seconds_of(optimizer, *rest, False) for _ in range(arguments.steps)]
            has_refresh = optimizer.every > 1
            refresh = [seconds_of(optimizer, *rest, True) for _ in range((arguments.steps + 1) // 2 if has_refresh else 0)]
            if number:
                times[name][0].append(ordinary)
                times[name][1].append(refresh)
    rows = []
    for name, (ordinary, refresh) in times.items():
        every = contenders[name][0].every
        step = statistics.median(sum(ordinary, []))
        row = {"name": name, "step_ms": step * 1e3, "mean_ms": step * 1e3}
        if every > 1:
            more = statistics.median(sum(refresh, []))
            row.update(refresh_ms=more * 1e3, refresh_every=every, mean_ms=(step + (more - step) / every) * 1e3)
        rows.append(row)
    print(json.dumps({
        "model": arguments.model, "batch": arguments.batch_size, "torch": torch.__version__,
        "threads": torch.get_num_threads(), "channels_last": arguments.channels_last, "rounds": arguments.rounds,
        "steps_per_round": arguments.steps, "methods": rows,
        # Linux counts in KiB. Of all methods named together.
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }))


def check():
    """Each direction against the formula, written out for whole matrices in float64."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)

    def prepared(name):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(3, 2, 3, stride=2, padding=1), nn.Flatten(),
                              nn.Linear(8, 4))
        images, labels = torch.randn(5, 2, 4, 4), torch.randint(0, 4, (5,))
        method = METHODS[name](model)
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        if isinstance(method, Layerwise):
            # What follows are other passes.
            method.layers.observing = lambda: False
        return method, model, images, labels

    def per_sample(model, module, images, labels):
        """U: the gradients of each sample's own loss, by automatic differentiation, one sample at a time."""
        parameters = [module.weight] + ([module.bias] if module.bias is not None else [])
        rows = []
        for index in range(len(images)):
            loss = F.cross_entropy(model(images[index:index + 1]), labels[index:index + 1])
            grads = torch.autograd.grad(loss, parameters)
            weight = grads[0].flatten(1)
            rows.append((weight if len(grads) == 1 else torch.cat([weight, grads[1][:, None]], 1)).flatten())
        return torch.stack(rows)

    def close(name, found, expected):
        error = ((found - expected).norm() / expected.norm()).item()
        print(f"{name:8} {error:.1e}")
        if not error < 1e-9:
            raise SystemExit(f"{name}: direction is off by {error:.1e}")

    for name in ["kfac", "eva", "skfac", "tengrad", "fngd", "hylo"]:
        method, model, images, labels = prepared(name)
        if name == "hylo":
            method.ratio = 1.0
        for module in method.layers.modules:
            a, g = method.layers.rows(module)
            method.observe(module)
            method.refresh(module)
            grad = gradient(module)
            found = method.direction(module, grad)
            samples, positions = a.shape[:2]
            identity = torch.eye(grad.numel())
            if name == "kfac":
                A = sum(torch.outer(x, x) for x in a.flatten(0, 1)) / (samples * positions)
                G = sum(torch.outer(x, x) for x in g.flatten(0, 1)) / samples
                fisher, damping = torch.kron(G, A), method.damping
            elif name == "eva":
                mean = torch.outer(g.mean((0, 1)), a.mean((0, 1))).flatten()
                fisher, damping = torch.outer(mean, mean), method.damping
            elif name == "skfac":
                x, y = a.mean(1), g.sum(1)
                A, G = x.t() @ x / samples, y.t() @ y / samples
                pi = ((A.trace() / len(A)) / (G.trace() / len(G))).sqrt()
                A, G = A + pi * method.damping ** 0.5 * torch.eye(len(A)), G + method.damping ** 0.5 / pi * torch.eye(len(G))
                fisher, damping = torch.kron(G, A), 0.0
            elif name == "hylo":
                rows, outputs, _ = method.kept[module]["drawn"]
                drawn = torch.einsum("jd,jp->jdp", outputs, rows).flatten(1)
                fisher, damping = drawn.t() @ drawn, method.damping
            else:
                U = per_sample(model, module, images, labels)
                if name == "fngd":
                    K = U @ U.t()
                    damping = method.gamma * K.norm()
                    weights = damping * torch.linalg.solve(K + damping * torch.eye(samples), torch.ones(samples))
                    close(name, found, (weights @ U / samples).view_as(grad))
                    continue
                fisher, damping = U.t() @ U / samples, method.damping
            close(name, found, torch.linalg.solve(fisher + damping * identity, grad.flatten()).view_as(grad))

    def power(matrix, exponent):
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ torch.diag(values ** exponent) @ vectors.t()

    method, model, _, _ = prepared("shampoo")
    method.epsilon, method.block = 0.1, 8
    for parameter, kept in zip(method.parameters, method.kept):
        part = parameter.grad.reshape(method.merged(parameter.shape))
        if any(length > method.block for length in part.shape):
            continue
        expected = part
        for mode in range(part.dim()):
            unfolded = part.movedim(mode, 0).reshape(part.shape[mode], -1)
            root = power(unfolded @ unfolded.t() + 0.1 * torch.eye(len(unfolded)), -1 / (2 * part.dim()))
            expected = (root @ expected.movedim(mode, 0).reshape(len(root), -1)).reshape_as(expected.movedim(mode, 0)).movedim(0, mode)
        close("shampoo", method.direction(parameter.grad, kept), expected.reshape(parameter.shape))
    # Two updates: the first sets the basis. Then M'/sqrt(V') is the sign of the rotated gradient, if the gradient is the same.
    method, model, _, _ = prepared("soap")
    parameter, kept = method.parameters[0], method.kept[0]
    grad, before = parameter.grad, parameter.detach().clone()
    with torch.no_grad():
        method.update(parameter, grad, kept)
        method.steps, expected = 1, grad
        bases = [torch.linalg.eigh(Soap.statistics(grad, mode))[1] for mode in range(grad.dim())]
        rotated = torch.einsum("abcd,ai,bj,ck,dl->ijkl", grad, *bases)
        normalised = rotated / (rotated.abs() * math.sqrt(1) + method.epsilon)
        expected = torch.einsum("ijkl,ai,bj,ck,dl->abcd", normalised, *bases)
        method.update(parameter, grad, kept)
        found = (before * (1 - method.lr * method.weight_decay) - parameter) / method.lr
    # Columns of a basis may differ in sign, which the direction does not see.
    close("soap", found, expected)
    # Newton-Schulz is a polynomial of each singular value.
    matrix = torch.randn(3, 7)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values / matrix.norm()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values ** 3 + 2.0315 * values ** 5
    close("muon", Muon.orthogonal(matrix), left @ torch.diag(values) @ right)
    close("muon", Muon.orthogonal(matrix.t()), (left @ torch.diag(values) @ right).t())


def main():
    # Images need no gradient, and the hooks want none.
    warnings.filterwarnings("ignore", message="Full backward hook")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="resnet32", help="a name of models/architectures.py")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, help="default: PyTorch's choice")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="steps of each kind in a round; half as many that refresh")
    parser.add_argument("--check", action="store_true", help="compare each method with its formula, and stop")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.methods.split(",") if name not in METHODS]
    if unknown:
        parser.error(f"unknown methods: {', '.join(unknown)}; there are {', '.join(METHODS)}")
    check() if arguments.check else bench(arguments)


if __name__ == "__main__":
    main()
