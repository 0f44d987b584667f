#!/usr/bin/env python3
"""Writes tests/fixtures/{cross_entropy,rms_norm,group_norm,optimizers_more,conv,pool}.json: what PyTorch computes in f64.

    python3 -m venv target/venv && target/venv/bin/pip install numpy torch
    target/venv/bin/python tools/fixtures.py

A file is one object {"about", "versions", "cases"}, a tensor {"shape", "data"} row by row, in digits that read back to the
same f64.
"""

import json
import pathlib

import torch
import torch.nn.functional as F

FIXTURES = pathlib.Path(__file__).parent.parent / "tests" / "fixtures"
torch.set_default_dtype(torch.float64)


def tensor(x):
    x = x.detach()
    return {"shape": list(x.shape), "data": x.reshape(-1).tolist()}


def leaf(*shape, scale=1.0, shift=0.0):
    return (torch.randn(*shape) * scale + shift).requires_grad_()


def save(name, about, cases):
    versions = {"torch": torch.__version__.split("+")[0]}
    text = json.dumps({"about": about, "versions": versions, "cases": cases}, separators=(",", ":"))
    (FIXTURES / f"{name}.json").write_text(text)
    print(f"{name}.json: {len(cases)} cases, {len(text)} bytes")


def gradients(y, inputs):
    """The gradients of Σ y·dy for a random dy; returns dy, too."""
    dy = torch.randn(y.shape)
    y.backward(dy)
    grads = {f"d{name}": tensor(x.grad) for name, x in inputs.items() if x is not None}
    return {"y": tensor(y), "dy": tensor(dy), **grads}


def cross_entropy():
    """With every reduction: class indices (and the same as nll_loss of log_softmax), then class probabilities."""
    rows, classes, ignored = 5, 7, 3
    weight = torch.rand(classes) * 2 + 0.1
    weight[4] = 0
    targets = torch.randint(classes, (rows,))
    targets[1], targets[2], targets[4] = ignored, 4, ignored
    cases = []
    for reduction in ["mean", "sum", "none"]:
        for smoothing in [0.0, 0.1, 1.0]:
            for w in [None, weight]:
                for ignore in [None, ignored]:
                    # Another index than any class ignores nothing.
                    index = -100 if ignore is None else ignore
                    z = leaf(rows, classes, scale=3)
                    loss = F.cross_entropy(z, targets, w, None, index, None, reduction, smoothing)
                    case = {"kind": "classes", "reduction": reduction, "label_smoothing": smoothing}
                    case |= {"weight": None if w is None else tensor(w), "ignore_index": ignore}
                    case |= {"x": tensor(z), "targets": targets.tolist(), **gradients(loss, {"x": z})}
                    cases.append(case)
                    if smoothing == 0:
                        x = torch.log_softmax(leaf(rows, classes, scale=3), 1).detach().requires_grad_()
                        loss = F.nll_loss(x, targets, w, None, index, None, reduction)
                        cases.append(case | {"kind": "nll", "x": tensor(x), **gradients(loss, {"x": x})})
                z = leaf(rows, classes, scale=3)
                p = torch.softmax(leaf(rows, classes), 1).detach().requires_grad_()
                loss = F.cross_entropy(z, p, w, reduction=reduction, label_smoothing=smoothing)
                case = {"kind": "probabilities", "reduction": reduction, "label_smoothing": smoothing}
                case |= {"weight": None if w is None else tensor(w), "ignore_index": None}
                case |= {"x": tensor(z), "targets": tensor(p), **gradients(loss, {"x": z, "targets": p})}
                cases.append(case)
    save("cross_entropy", "cross_entropy and nll_loss with all options", cases)


def rms_norm():
    cases = []
    for rows, cols, scale, eps in [(4, 5, 1, None), (3, 1, 1, 1e-5), (3, 50, 1e-3, 1e-6), (2, 130, 50, None)]:
        x, weight = leaf(rows, cols, scale=scale), leaf(cols)
        y = F.rms_norm(x, (cols,), weight, eps)
        case = {"eps": eps, "x": tensor(x), "weight": tensor(weight)}
        cases.append(case | gradients(y, {"x": x, "weight": weight}))
    save("rms_norm", "RMSNorm over the last axis; an eps of null is that of f64", cases)


def group_norm():
    cases = []
    for shape, groups, shift in [
        ((3, 6, 4, 5), 2, 0), ((2, 4, 3), 4, 5), ((5, 12), 3, 0), ((1, 8, 7, 7), 1, 100), ((2, 6, 2, 2, 5), 3, 0)
    ]:
        x, weight, bias = leaf(*shape, shift=shift), leaf(shape[1]), leaf(shape[1])
        y = F.group_norm(x, groups, weight, bias, 1e-5)
        case = {"groups": groups, "eps": 1e-5, "x": tensor(x), "weight": tensor(weight), "bias": tensor(bias)}
        cases.append(case | gradients(y, {"x": x, "weight": weight, "bias": bias}))
    save("group_norm", "GroupNorm over groups of channels and all axes after them", cases)


def conv():
    """Every option, in one and two dimensions, and transposed."""
    cases = []
    for x, weight, options in [
        ((2, 3, 6, 5), (4, 3, 3, 2), {}),
        ((2, 3, 6, 5), (4, 3, 3, 2), {"stride": [2, 1], "padding": [1, 2]}),
        ((1, 2, 7, 8), (3, 2, 3, 3), {"dilation": [2, 3], "padding": [1, 3]}),
        ((2, 4, 5, 5), (6, 2, 2, 3), {"groups": 2}),
        ((2, 4, 6, 7), (4, 1, 3, 3), {"groups": 4, "stride": [2, 2], "padding": [1, 1]}),
        ((2, 2, 5, 6), (3, 2, 4, 2), {"padding": "same", "dilation": [1, 3]}),
        ((6, 6, 6), (2, 3, 5, 1), {"groups": 2, "stride": [1, 3]}),
        ((2, 8, 9, 9), (20, 8, 3, 3), {"padding": [1, 1]}),
        ((3, 2, 9), (4, 2, 3), {"stride": [2], "padding": [2], "dilation": [2]}),
        ((2, 9), (3, 2, 4), {"padding": "same"}),
    ]:
        x, weight, bias = leaf(*x), leaf(*weight), leaf(weight[0])
        y = {3: F.conv1d, 4: F.conv2d}[weight.dim()](x, weight, bias, **options)
        cases.append({"transposed": False, **options, "x": tensor(x), "weight": tensor(weight), "bias": tensor(bias)}
                     | gradients(y, {"x": x, "weight": weight, "bias": bias}))
    for x, weight, options in [
        ((2, 3, 4, 5), (3, 4, 3, 2), {}),
        ((2, 3, 4, 5), (3, 2, 3, 3), {"stride": [2, 3], "padding": [1, 0], "output_padding": [1, 2]}),
        ((1, 4, 3, 4), (4, 3, 2, 3), {"groups": 2, "stride": [2, 1], "dilation": [1, 2]}),
        ((2, 5, 3), (5, 2, 4), {"stride": [3], "padding": [2], "output_padding": [1]}),
        ((3, 4), (3, 2, 3), {"dilation": [3]}),
    ]:
        outputs = weight[1] * options.get("groups", 1)
        x, weight, bias = leaf(*x), leaf(*weight), leaf(outputs)
        y = {3: F.conv_transpose1d, 4: F.conv_transpose2d}[weight.dim()](x, weight, bias, **options)
        cases.append({"transposed": True, **options, "x": tensor(x), "weight": tensor(weight), "bias": tensor(bias)}
                     | gradients(y, {"x": x, "weight": weight, "bias": bias}))
    save("conv", "convolutions and transposed convolutions; what is not given has its default", cases)


def pool():
    """Maxima of few different numbers, so that several of a window are the largest; averages; adaptive windows."""
    cases = []
    for kind, shape, options in [
        ("max", (2, 3, 6, 7), {"kernel_size": [2, 3]}),
        ("max", (2, 3, 6, 7), {"kernel_size": [3, 3], "stride": [2, 1], "padding": [1, 1]}),
        ("max", (2, 9, 8), {"kernel_size": [2, 2], "stride": [2, 3], "dilation": [3, 2], "padding": [1, 0],
                            "ceil_mode": True}),
        ("max", (2, 3, 11), {"kernel_size": [3], "stride": [2], "padding": [1], "ceil_mode": True}),
        ("avg", (2, 3, 6, 7), {"kernel_size": [2, 3]}),
        ("avg", (2, 3, 6, 7), {"kernel_size": [3, 4], "stride": [2, 3], "padding": [1, 2], "ceil_mode": True}),
        ("avg", (1, 2, 6, 7), {"kernel_size": [3, 4], "stride": [2, 3], "padding": [1, 2], "ceil_mode": True,
                               "count_include_pad": False}),
        ("avg", (2, 5, 5), {"kernel_size": [3, 2], "padding": [1, 1], "divisor_override": 7}),
        ("avg", (2, 3, 10), {"kernel_size": [4], "stride": [3], "padding": [2], "ceil_mode": True}),
        ("adaptive_max", (2, 3, 7, 5), {"output_size": [3, 4]}),
        ("adaptive_max", (3, 7), {"output_size": [5]}),
        ("adaptive_avg", (2, 3, 7, 5), {"output_size": [3, 8]}),
        ("adaptive_avg", (2, 3, 7), {"output_size": [2]}),
    ]:
        d = len(options.get("kernel_size", options.get("output_size")))
        name = f"{kind}_pool{d}d"
        x = (torch.randn(*shape) * 2).round().requires_grad_() if "max" in kind else leaf(*shape)
        y = getattr(F, name)(x, **options)
        cases.append({"kind": name, **options, "x": tensor(x)} | gradients(y, {"x": x}))
    save("pool", "pooling; what is not given has its default", cases)


class Lion(torch.optim.Optimizer):
    """Chen et al., Symbolic Discovery of Optimization Algorithms (2023), algorithm 2: PyTorch has none."""

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                direction = (beta1 * m + (1 - beta1) * p.grad).sign()
                p -= lr * (direction + group["weight_decay"] * p)
                m.mul_(beta2).add_(p.grad, alpha=1 - beta2)


def optimizers_more():
    cases = []
    for name, make, config in [
        ("adagrad", torch.optim.Adagrad, {}),
        ("adagrad_all", torch.optim.Adagrad,
         {"lr": 0.1, "lr_decay": 0.2, "weight_decay": 0.1, "initial_accumulator_value": 0.3, "eps": 1e-3}),
        ("nadam", torch.optim.NAdam, {}),
        ("nadam_l2", torch.optim.NAdam,
         {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.2, "momentum_decay": 0.1}),
        ("nadam_decoupled", torch.optim.NAdam, {"weight_decay": 0.2, "decoupled_weight_decay": True}),
        ("radam", torch.optim.RAdam, {}),
        ("radam_l2", torch.optim.RAdam, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.2}),
        ("radam_decoupled", torch.optim.RAdam, {"lr": 0.01, "weight_decay": 0.2, "decoupled_weight_decay": True}),
        ("lion", Lion, {}),
        ("lion_decay", Lion, {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.3}),
    ]:
        p = leaf(7)
        case = {"name": name, "config": config, "initial": tensor(p), "grads": [], "params_after_each_step": []}
        optimizer = make([p], **config)
        for _ in range(12):
            p.grad = torch.randn(7)
            optimizer.step()
            case["grads"].append(tensor(p.grad))
            case["params_after_each_step"].append(tensor(p))
        cases.append(case)
    save("optimizers_more", "12 steps of each optimizer", cases)


for seed, make in enumerate([cross_entropy, rms_norm, group_norm, optimizers_more, conv, pool]):
    torch.manual_seed(seed)
    make()
