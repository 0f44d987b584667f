#!/usr/bin/env python3
"""PyTorch or JAX as a contender: `rivals.py PyTorch|JAX THREADS`, driven by lines on stdin, one answer line each.

    case ID VARIANT   prepares family/op/f32/shape, answers its key
    run KEY N         does it N times, answers nanoseconds
    output KEY PATH   writes what the last run computed as float64 to PATH
    drop KEY          forgets it
    quit              ends

Operations are called on tensors that exist already, without recording gradients: PyTorch through the function that its
autograd would call, JAX as one compiled function. VARIANT is `fused`, `default` or `compile` for training steps of
PyTorch, and the file of the weights for `inference`.
"""
import gzip
import os
import sys
import time

FRAMEWORK, THREADS = sys.argv[1], int(sys.argv[2])
if FRAMEWORK == "JAX" and THREADS == 1:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np  # noqa: E402

LR, EPS = 1e-3, 1e-5
NETWORKS = ("mlp_resnet", "two_layer_net", "mlp", "dqn")
DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "data")
# Of dqn, as in benches/common/dqn.rs.
PLAYED, DISCOUNT = 4096, 0.99


def numbers(shape, seed):
    """The numbers of race.rs."""
    i = np.arange(int(np.prod(shape)), dtype=np.int64)
    x = ((7919 * i + 104729 * seed) % 2003).astype(np.float64) / 1001.5 - 1.0
    return x.astype(np.float32).reshape(shape)


def dims(text):
    return tuple(int(d) for d in text.split("x"))


def convolution(size):
    """Shapes of x, the weight and y, and stride, padding and groups, of a case of conv: square kernels, or 1-D ones where
    the height is 1."""
    batch, inputs, outputs, height, width, kernel, stride, padding, groups = dims(size)
    kernels, strides, paddings = ([1 if height == 1 else kernel, kernel], [1 if height == 1 else stride, stride],
                                  [0 if height == 1 else padding, padding])
    positions = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip((height, width), paddings, kernels, strides)]
    return ((batch, inputs, height, width), (outputs, inputs // groups, *kernels), (batch, outputs, *positions), strides,
            paddings, groups)


def mnist():
    """All training images as rows of numbers from 0 to 1, and their labels."""
    def read(name, header):
        with gzip.open(os.path.join(DATA, name)) as file:
            return np.frombuffer(file.read(), np.uint8, offset=header)
    pixels = read("train-images-idx3-ubyte.gz", 16).reshape(-1, 784).astype(np.float32) / 255
    return pixels, read("train-labels-idx1-ubyte.gz", 8).astype(np.int64)


def batches(count, batch):
    """Rows of one batch after the other, in another order each epoch."""
    rng = np.random.default_rng(5)
    while True:
        order = rng.permutation(count)
        for start in range(0, count - batch + 1, batch):
            yield order[start:start + batch]


def transitions(batch):
    """What dqn has played, and draws from it: states, actions; rows."""
    rng = np.random.default_rng(4)
    states = rng.uniform(-1, 1, (PLAYED, 4)).astype(np.float32)
    actions = rng.integers(0, 2, PLAYED)

    def rows():
        while True:
            yield rng.integers(0, PLAYED - 1, batch)
    return states, actions, rows()


class Framework:
    """Families that are one function of the framework."""

    def softmax(self, op, size):
        return self.along_rows("softmax", op, size)

    def log_softmax(self, op, size):
        return self.along_rows("log_softmax", op, size)

    def logsumexp(self, op, size):
        return self.along_rows("logsumexp", op, size)


class PyTorch(Framework):
    def __init__(self):
        import torch
        self.torch = torch
        torch.set_num_threads(THREADS)
        torch.manual_seed(0)
        self.version = torch.__version__

    def case(self, family, op, shape, variant):
        """A pair: the step, and the arrays that it leaves."""
        if op in NETWORKS:
            with self.torch.enable_grad():
                return getattr(self, op + "_" + family)(shape, variant)
        with self.torch.no_grad():
            return getattr(self, family)(op, shape)

    def put(self, shape, seed):
        return self.torch.from_numpy(numbers(shape, seed))

    def results(self, call):
        """Calls once more and keeps what comes out."""
        kept = []

        def step():
            with self.torch.no_grad():
                kept[:] = [call()]
        return step, lambda: kept[0] if isinstance(kept[0], (tuple, list)) else kept

    def map(self, op, size):
        t, aten = self.torch, self.torch.ops.aten
        x, b, y = self.put(dims(size), 1), self.put(dims(size), 2), self.put(dims(size), 3)
        positive = x + 1.5
        if op == "axpby":
            # addcmul would read a third operand; two passes are what a user writes.
            return self.results(lambda: y.mul_(0.5).add_(x, alpha=0.5))
        return self.results({
            "add": lambda: t.add(x, b, out=y),
            "mul": lambda: t.mul(x, b, out=y),
            "scale": lambda: y.mul_(-1),
            "relu": lambda: aten.relu.out(x, out=y),
            "exp": lambda: t.exp(x, out=y),
            "ln": lambda: t.log(positive, out=y),
            "sqrt": lambda: t.sqrt(positive, out=y),
            "tanh": lambda: t.tanh(x, out=y),
            "sigmoid": lambda: t.sigmoid(x, out=y),
            "gelu": lambda: aten.gelu.out(x, out=y),
            "silu": lambda: aten.silu.out(x, out=y),
            "relu_backward": lambda: aten.threshold_backward.grad_input(b, x, 0, grad_input=y),
            "gelu_backward": lambda: aten.gelu_backward.grad_input(b, x, grad_input=y),
            "silu_backward": lambda: aten.silu_backward.grad_input(b, x, grad_input=y),
        }[op])

    def conv(self, op, size):
        aten, nothing = self.torch.ops.aten, [0, 0]
        of_x, of_weight, of_y, stride, padding, groups = convolution(size)
        x, weight, bias, dy = self.put(of_x, 1), self.put(of_weight, 2), self.put(of_y[1:2], 3), self.put(of_y, 5)
        options = (stride, padding, [1, 1], False, nothing, groups)
        gradients = lambda wanted: aten.convolution_backward(dy, x, weight, [of_y[1]], *options, wanted)  # noqa: E731
        return self.results({
            "forward": lambda: aten.convolution(x, weight, bias, *options),
            "backward_input": lambda: gradients([True, False, False])[:1],
            "backward_weight": lambda: gradients([False, True, True])[1:],
        }[op])

    def pool(self, op, size):
        t, aten, (planes, height, width, kernel, stride) = self.torch, self.torch.ops.aten, dims(size)
        x, k, s = self.put((1, planes, height, width), 1), [kernel] * 2, [stride] * 2
        if stride == 0:
            s, k = [height // kernel, width // kernel], [height - (kernel - 1) * (height // kernel),
                                                        width - (kernel - 1) * (width // kernel)]
        largest, places = aten.max_pool2d_with_indices(x, k, s)
        dy = self.put(tuple(largest.shape), 3)
        return self.results({
            "max": lambda: t.nn.functional.max_pool2d(x, k, s),
            "average": lambda: t.nn.functional.avg_pool2d(x, k, s),
            "max_backward": lambda: aten.max_pool2d_with_indices_backward(dy, x, k, s, [0, 0], [1, 1], False, places),
            "average_backward": lambda: aten.avg_pool2d_backward(dy, x, k, s, [0, 0], False, True, None),
        }[op])

    def reduce(self, op, size):
        t, x = self.torch, self.put(dims(size), 1)
        name, over = op.split("_")
        axis = {"all": None, "rows": 1, "cols": 0}[over]
        along = {} if axis is None else {"dim": axis}
        return self.results({
            "sum": lambda: t.sum(x, **along),
            "max": lambda: t.amax(x, **along),
            "argmax": lambda: t.argmax(x, **along),
            "variance": lambda: t.var(x, correction=0, **along),
        }[name])

    def along_rows(self, family, direction, size):
        t, aten = self.torch, self.torch.ops.aten
        x, dy = self.put(dims(size), 1), self.put(dims(size), 2)
        if direction == "forward":
            return self.results({
                "softmax": lambda: t.softmax(x, 1),
                "log_softmax": lambda: t.log_softmax(x, 1),
                "logsumexp": lambda: t.logsumexp(x, 1),
            }[family])
        y = {"softmax": t.softmax, "log_softmax": t.log_softmax}[family](x, 1)
        call = {"softmax": aten._softmax_backward_data, "log_softmax": aten._log_softmax_backward_data}[family]
        return self.results(lambda: call(dy, y, 1, t.float32))

    def cross_entropy(self, direction, size):
        t, aten, (rows, cols) = self.torch, self.torch.ops.aten, dims(size)
        x, target = self.put((rows, cols), 1), t.arange(rows) * 7 % cols
        forward = lambda: t.nn.functional.cross_entropy(x, target, reduction="none")  # noqa: E731
        if direction == "forward":
            return self.results(forward)
        dy, log_p = self.put((rows,), 2), t.log_softmax(x, 1)

        def backward():
            d = aten.nll_loss_backward(dy, log_p, target, None, 0, -100, t.tensor(float(rows)))
            return aten._log_softmax_backward_data(d, log_p, 1, t.float32)
        return self.results(backward)

    def layer_norm(self, direction, size):
        aten, (rows, cols) = self.torch.ops.aten, dims(size)
        x, dy = self.put((rows, cols), 1), self.put((rows, cols), 2)
        gamma, beta = self.put((cols,), 3), self.put((cols,), 4)
        _, mean, rstd = aten.native_layer_norm(x, [cols], gamma, beta, EPS)
        if direction == "forward":
            return self.results(lambda: aten.native_layer_norm(x, [cols], gamma, beta, EPS)[:1])
        mask = [True] * 3
        return self.results(
            lambda: aten.native_layer_norm_backward(dy, x, [cols], mean, rstd, gamma, beta, mask))

    def batch_norm(self, direction, size):
        aten, (rows, cols) = self.torch.ops.aten, dims(size)
        x, dy = self.put((rows, cols), 1), self.put((rows, cols), 2)
        gamma, beta = self.put((cols,), 3), self.put((cols,), 4)
        _, mean, rstd = aten.native_batch_norm(x, gamma, beta, None, None, True, 0.1, EPS)
        if direction == "forward":
            return self.results(
                lambda: aten.native_batch_norm(x, gamma, beta, None, None, True, 0.1, EPS)[:1])
        mask = [True] * 3
        return self.results(lambda: aten.native_batch_norm_backward(
            dy, x, gamma, None, None, mean, rstd, True, EPS, mask))

    def update(self, rule, size):
        t = self.torch
        param = t.nn.Parameter(self.put(dims(size), 1).clone())
        param.grad = self.put(dims(size), 2)
        optimizer = {
            "adam": lambda: t.optim.Adam([param], lr=LR, fused=True),
            "sgd": lambda: t.optim.SGD([param], lr=LR, fused=True),
            "sgd_momentum": lambda: t.optim.SGD([param], lr=LR, momentum=0.9, fused=True),
        }[rule]()
        return optimizer.step, lambda: [param.detach()]

    def network(self, hidden):
        nn = self.torch.nn

        class Residual(nn.Module):
            def __init__(self, inner):
                super().__init__()
                self.inner = inner

            def forward(self, x):
                return x + self.inner(x)

        def block():
            return [Residual(nn.Sequential(
                nn.Linear(hidden, hidden // 2), nn.BatchNorm1d(hidden // 2), nn.ReLU(), nn.Dropout(0.1),
                nn.Linear(hidden // 2, hidden), nn.BatchNorm1d(hidden))), nn.ReLU()]
        return nn.Sequential(nn.Linear(784, hidden), nn.ReLU(), *block(), *block(), *block(), nn.Linear(hidden, 10))

    def mlp_resnet_training_step(self, name, variant):
        t, (batch, hidden) = self.torch, dims(name)
        model = self.network(hidden)
        optimizer = t.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-3, fused=variant != "default")
        x, y = self.put((batch, 784), 1), t.arange(batch) * 7 % 10
        losses = []

        forward = t.compile(model) if variant == "compile" else model

        def step():
            optimizer.zero_grad()
            loss = t.nn.functional.cross_entropy(forward(x), y)
            loss.backward()
            optimizer.step()
            losses[:] = [loss.detach()]
        return step, lambda: losses

    def mlp_resnet_job(self, name, variant):
        _, batch, hidden = dims(name)
        return self.classify(self.network(hidden), batch, 1e-3, variant)

    def mlp_job(self, name, variant):
        return self.classify(self.perceptron(784, 128, 64, 10), dims(name)[1], 0, variant)

    def perceptron(self, first, *others):
        nn, layers = self.torch.nn, []
        for width in others:
            layers += [nn.Linear(first, width), nn.ReLU()]
            first = width
        return nn.Sequential(*layers[:-1])

    def classify(self, model, batch, decay, variant):
        """Steps on one batch of images after the other."""
        t, (pixels, labels) = self.torch, map(self.torch.from_numpy, mnist())
        optimizer = t.optim.Adam(model.parameters(), lr=LR, weight_decay=decay, fused=variant != "default")
        rows, losses = batches(len(labels), batch), []

        def step():
            at = t.from_numpy(next(rows))
            optimizer.zero_grad()
            loss = t.nn.functional.cross_entropy(model(pixels[at]), labels[at])
            loss.backward()
            optimizer.step()
            losses[:] = [loss.detach()]
        return step, lambda: losses

    def dqn_job(self, name, variant):
        t, batch = self.torch, dims(name)[1]
        online, target = self.perceptron(4, 64, 64, 2), self.perceptron(4, 64, 64, 2)
        optimizer = t.optim.Adam(online.parameters(), lr=LR, fused=variant != "default")
        states, actions, rows = transitions(batch)
        states, actions = t.from_numpy(states), t.from_numpy(actions)
        slow, fast = [[p.detach() for p in net.parameters()] for net in (target, online)]
        losses, count = [], [0]

        def step():
            at = t.from_numpy(next(rows))
            with t.no_grad():
                best = target(states[at + 1]).amax(1, keepdim=True)
                wanted = 1 + best * ((at % 16 != 0) * DISCOUNT).unsqueeze(1)
            optimizer.zero_grad()
            values = online(states[at]).gather(1, actions[at].unsqueeze(1))
            loss = t.nn.functional.smooth_l1_loss(values, wanted)
            loss.backward()
            optimizer.step()
            count[0] += 1
            if count[0] % 10 == 0:
                t._foreach_lerp_(slow, fast, 0.05)
            losses[:] = [loss.detach()]
        return step, lambda: losses

    def two_layer_net_training_step(self, name, variant):
        t, (batch, inputs, hidden, outputs) = self.torch, dims(name)
        model = t.nn.Sequential(
            t.nn.Linear(inputs, hidden, bias=False), t.nn.ReLU(), t.nn.Linear(hidden, outputs, bias=False))
        optimizer = t.optim.Adam(model.parameters(), lr=1e-4, fused=variant != "default")
        x, y, losses = self.put((batch, inputs), 1), self.put((batch, outputs), 2), []
        forward = t.compile(model) if variant == "compile" else model

        def step():
            optimizer.zero_grad()
            loss = t.nn.functional.mse_loss(forward(x), y, reduction="sum")
            loss.backward()
            optimizer.step()
            losses[:] = [loss.detach()]
        return step, lambda: losses

    def mlp_resnet_optimizer_step(self, hidden, variant):
        t = self.torch
        parameters = list(self.network(int(hidden)).parameters())
        optimizer = t.optim.Adam(parameters, lr=LR, fused=variant == "fused")
        start = [p.detach().clone() for p in parameters]
        for i, p in enumerate(parameters):
            p.grad = self.put(tuple(p.shape), i)
        moved = []

        def step():
            optimizer.step()
            if not moved:
                parts = [(p.detach() - s).abs().ravel() for p, s in zip(parameters, start)]
                moved[:] = [t.cat(parts).mean()]
        return step, lambda: moved

    def mlp_resnet_inference(self, name, weights):
        t, (batch, hidden) = self.torch, dims(name)
        model = self.network(hidden).eval()
        flat = t.from_numpy(np.fromfile(weights).astype(np.float32))
        with t.no_grad():
            for p in model.parameters():
                p.copy_(flat[:p.numel()].reshape(p.shape))
                flat = flat[p.numel():]
        x = self.put((batch, 784), 1)
        call = t.inference_mode()(lambda: model(x))
        return self.results(call)


class JAX(Framework):
    def __init__(self):
        import jax
        import jax.numpy as jnp
        self.jax, self.jnp = jax, jnp
        # The quickest of JAX's generators: dropout draws from it.
        jax.config.update("jax_default_prng_impl", "unsafe_rbg")
        self.version = jax.__version__

    def case(self, family, op, shape, variant):
        if op in NETWORKS:
            return getattr(self, op + "_" + family)(shape, variant)
        return getattr(self, family)(op, shape)

    def put(self, shape, seed):
        return self.jnp.asarray(numbers(shape, seed))

    def results(self, function, *arguments):
        compiled = self.jax.jit(function).lower(*arguments).compile()
        kept = []

        def step():
            kept[:] = [self.jax.block_until_ready(compiled(*arguments))]
        return step, lambda: kept[0] if isinstance(kept[0], (tuple, list)) else kept

    def map(self, op, size):
        jax, jnp = self.jax, self.jnp
        x, b = self.put(dims(size), 1), self.put(dims(size), 2)
        gelu = lambda x: jax.nn.gelu(x, approximate=False)  # noqa: E731
        one = {"relu": jax.nn.relu, "exp": jnp.exp, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "gelu": gelu,
               "silu": jax.nn.silu}
        if op in one:
            return self.results(one[op], x)
        if op == "axpby":
            return self.results(lambda x, y: 0.5 * x + 0.5 * y, x, self.put(dims(size), 3))
        if op in ("ln", "sqrt"):
            return self.results({"ln": jnp.log, "sqrt": jnp.sqrt}[op], x + 1.5)
        return self.results({
            "add": jnp.add,
            "mul": jnp.multiply,
            "relu_backward": lambda x, b: jnp.where(x > 0, b, 0),
            "gelu_backward": lambda x, b: jax.vjp(gelu, x)[1](b)[0],
            "silu_backward": lambda x, b: jax.vjp(jax.nn.silu, x)[1](b)[0],
        }[op], x, b)

    def conv(self, op, size):
        jax, jnp = self.jax, self.jnp
        of_x, of_weight, of_y, stride, padding, groups = convolution(size)
        x, weight, bias, dy = self.put(of_x, 1), self.put(of_weight, 2), self.put(of_y[1:2], 3), self.put(of_y, 5)

        def forward(x, weight):
            sides = [(p, p) for p in padding]
            return jax.lax.conv_general_dilated(x, weight, stride, sides, feature_group_count=groups)
        if op == "forward":
            return self.results(lambda x, weight, bias: forward(x, weight) + bias[None, :, None, None], x, weight, bias)
        if op == "backward_input":
            return self.results(lambda x, weight, dy: jax.vjp(forward, x, weight)[1](dy)[0], x, weight, dy)
        return self.results(lambda x, weight, dy: (jax.vjp(forward, x, weight)[1](dy)[1], jnp.sum(dy, (0, 2, 3))),
                            x, weight, dy)

    def pool(self, op, size):
        jax, jnp, (planes, height, width, kernel, stride) = self.jax, self.jnp, dims(size)
        x = self.put((1, planes, height, width), 1)
        window, step = (kernel, kernel), (stride, stride)
        if stride == 0:
            step = (height // kernel, width // kernel)
            window = (height - (kernel - 1) * step[0], width - (kernel - 1) * step[1])
        name = op.split("_")[0]
        start, combine = (-jnp.inf, jax.lax.max) if name == "max" else (0.0, jax.lax.add)

        def forward(x):
            y = jax.lax.reduce_window(x, start, combine, (1, 1, *window), (1, 1, *step), "VALID")
            return y if name == "max" else y / (window[0] * window[1])
        if op == name:
            return self.results(forward, x)
        dy = self.put(tuple(forward(x).shape), 3)
        return self.results(lambda x, dy: jax.vjp(forward, x)[1](dy)[0], x, dy)

    def reduce(self, op, size):
        jnp = self.jnp
        name, over = op.split("_")
        function = {"sum": jnp.sum, "max": jnp.max, "argmax": jnp.argmax, "variance": jnp.var}[name]
        axis = {"all": None, "rows": 1, "cols": 0}[over]
        return self.results(lambda x: function(x, axis), self.put(dims(size), 1))

    def along_rows(self, op, direction, size):
        jax, jnp = self.jax, self.jnp
        x, dy = self.put(dims(size), 1), self.put(dims(size), 2)
        forward = {"softmax": jax.nn.softmax, "log_softmax": jax.nn.log_softmax,
                   "logsumexp": lambda x: jax.nn.logsumexp(x, axis=1)}[op]
        if direction == "forward":
            return self.results(forward, x)
        backward = {
            "softmax": lambda y, dy: y * (dy - jnp.sum(y * dy, 1, keepdims=True)),
            "log_softmax": lambda y, dy: dy - jnp.exp(y) * jnp.sum(dy, 1, keepdims=True),
        }[op]
        return self.results(backward, forward(x), dy)

    def cross_entropy(self, direction, size):
        jax, jnp, (rows, cols) = self.jax, self.jnp, dims(size)
        x, dy, target = self.put((rows, cols), 1), self.put((rows,), 2), jnp.arange(rows) * 7 % cols

        def forward(x):
            return -jax.nn.log_softmax(x)[jnp.arange(rows), target]
        if direction == "forward":
            return self.results(forward, x)
        return self.results(lambda x, dy: jax.vjp(forward, x)[1](dy)[0], x, dy)

    def norm(self, axis, direction, size):
        jax, jnp, (rows, cols) = self.jax, self.jnp, dims(size)
        x, dy = self.put((rows, cols), 1), self.put((rows, cols), 2)
        gamma, beta = self.put((cols,), 3), self.put((cols,), 4)

        def statistics(x):
            mean = jnp.mean(x, axis, keepdims=True)
            return mean, jax.lax.rsqrt(jnp.mean((x - mean) ** 2, axis, keepdims=True) + EPS)

        def forward(x, gamma, beta):
            mean, rstd = statistics(x)
            return (x - mean) * rstd * gamma + beta

        def backward(x, mean, rstd, gamma, dy):
            normal = (x - mean) * rstd
            g = dy * gamma
            dx = rstd * (g - jnp.mean(g, axis, keepdims=True) - normal * jnp.mean(g * normal, axis, keepdims=True))
            return dx, jnp.sum(dy * normal, 0), jnp.sum(dy, 0)
        if direction == "forward":
            return self.results(forward, x, gamma, beta)
        return self.results(backward, x, *statistics(x), gamma, dy)

    def layer_norm(self, direction, size):
        return self.norm(1, direction, size)

    def batch_norm(self, direction, size):
        return self.norm(0, direction, size)

    def update(self, rule, size):
        jax, jnp = self.jax, self.jnp
        param, grad = self.put(dims(size), 1), self.put(dims(size), 2)

        def adam(state, grad):
            p, m, v, step = state
            step = step + 1
            m = 0.9 * m + 0.1 * grad
            v = 0.999 * v + 0.001 * grad * grad
            root = jnp.sqrt(v / (1 - 0.999 ** step)) + 1e-8
            return p - LR * (m / (1 - 0.9 ** step)) / root, m, v, step

        def sgd(state, grad):
            return (state[0] - LR * grad,)

        def sgd_momentum(state, grad):
            p, m = state
            m = 0.9 * m + grad
            return p - LR * m, m
        zeros = [jnp.zeros_like(param) for _ in range(2)]
        rule, state = {"adam": (adam, (param, *zeros, jnp.float32(0))),
                       "sgd": (sgd, (param,)),
                       "sgd_momentum": (sgd_momentum, (param, zeros[0]))}[rule]
        compiled = jax.jit(rule, donate_argnums=0).lower(state, grad).compile()
        kept = [state]

        def step():
            kept[0] = jax.block_until_ready(compiled(kept[0], grad))
        return step, lambda: [kept[0][0]]

    def weights(self, hidden, flat=None):
        rng = np.random.default_rng(0)

        def linear(inputs, outputs):
            bound = inputs ** -0.5
            return [rng.uniform(-bound, bound, (outputs, inputs)), rng.uniform(-bound, bound, outputs)]

        def norm(size):
            return [np.ones(size), np.zeros(size)]
        arrays = linear(784, hidden)
        for _ in range(3):
            arrays += linear(hidden, hidden // 2) + norm(hidden // 2) + linear(hidden // 2, hidden) + norm(hidden)
        arrays += linear(hidden, 10)
        if flat is not None:
            ends = np.cumsum([a.size for a in arrays])
            arrays = [part.reshape(a.shape) for part, a in zip(np.split(flat, ends[:-1]), arrays)]
        return [self.jnp.asarray(a, dtype=self.jnp.float32) for a in arrays]

    def forward(self, w, x, key=None, running=None):
        """Logits; in training (with a key) also the new running statistics."""
        jax, jnp, fresh = self.jax, self.jnp, []

        def norm(x, gamma, beta, index):
            if key is None:
                return x * (gamma / np.float32((1 + EPS) ** 0.5)) + beta
            mean, var = jnp.mean(x, 0), jnp.var(x, 0)
            old = running[index]
            fresh.append((0.9 * old[0] + 0.1 * mean, 0.9 * old[1] + 0.1 * var * len(x) / (len(x) - 1)))
            return (x - mean) * jax.lax.rsqrt(var + EPS) * gamma + beta
        x = jax.nn.relu(x @ w[0].T + w[1])
        for i in range(3):
            w1, b1, g1, c1, w2, b2, g2, c2 = w[2 + 8 * i:10 + 8 * i]
            h = jax.nn.relu(norm(x @ w1.T + b1, g1, c1, 2 * i))
            if key is not None:
                keep = jax.random.bernoulli(jax.random.fold_in(key, i), 0.9, h.shape)
                h = jnp.where(keep, h / 0.9, 0)
            x = jax.nn.relu(x + norm(h @ w2.T + b2, g2, c2, 2 * i + 1))
        return x @ w[-2].T + w[-1], fresh

    def mlp_resnet_training_step(self, name, _variant):
        jax, jnp, (batch, hidden) = self.jax, self.jnp, dims(name)
        x, y = self.put((batch, 784), 1), jnp.arange(batch) * 7 % 10
        w = self.weights(hidden)
        running = [(jnp.zeros(n), jnp.ones(n)) for _ in range(3) for n in (hidden // 2, hidden)]

        def loss(w, running, key):
            logits, fresh = self.forward(w, x, key, running)
            return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(batch), y]), fresh

        def step(state):
            adam, running, key = state
            key, draw = jax.random.split(key)
            (value, running), grads = jax.value_and_grad(loss, has_aux=True)(adam[0], running, draw)
            grads = [g + 1e-3 * p for g, p in zip(grads, adam[0])]
            return (self.adam(adam, grads, LR), running, key), value
        kept = [(self.adam_state(w), running, jax.random.key(0)), None]
        compiled = jax.jit(step, donate_argnums=0).lower(kept[0]).compile()

        def run():
            kept[:] = jax.block_until_ready(compiled(kept[0]))
        return run, lambda: [kept[1]]

    def job(self, step, state, rows):
        """Steps, compiled once, on rows that are drawn outside; each gives the new state and the loss."""
        jax, jnp = self.jax, self.jnp
        first = jnp.asarray(next(rows), jnp.int32)
        compiled = jax.jit(step, donate_argnums=0).lower(state, first).compile()
        kept = [state, None]

        def run():
            kept[:] = jax.block_until_ready(compiled(kept[0], jnp.asarray(next(rows), jnp.int32)))
        return run, lambda: [kept[1]]

    def mlp_resnet_job(self, name, _variant):
        jax, jnp, (_, batch, hidden) = self.jax, self.jnp, dims(name)
        pixels, labels = map(jnp.asarray, mnist())
        running = [(jnp.zeros(n), jnp.ones(n)) for _ in range(3) for n in (hidden // 2, hidden)]

        def loss(w, running, key, rows):
            logits, fresh = self.forward(w, pixels[rows], key, running)
            return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(batch), labels[rows]]), fresh

        def step(state, rows):
            adam, running, key = state
            key, draw = jax.random.split(key)
            (value, running), grads = jax.value_and_grad(loss, has_aux=True)(adam[0], running, draw, rows)
            grads = [g + 1e-3 * p for g, p in zip(grads, adam[0])]
            return (self.adam(adam, grads, LR), running, key), value
        state = self.adam_state(self.weights(hidden)), running, jax.random.key(0)
        return self.job(step, state, batches(len(labels), batch))

    def perceptron(self, *widths):
        """The weights of linear layers with ReLU between them, and the function."""
        jax, rng, w = self.jax, np.random.default_rng(4), []
        for inputs, outputs in zip(widths, widths[1:]):
            w += [rng.uniform(-1, 1, (outputs, inputs)) * inputs ** -0.5, rng.uniform(-1, 1, outputs) * inputs ** -0.5]

        def forward(w, x):
            for i in range(0, len(w), 2):
                x = x @ w[i].T + w[i + 1]
                x = jax.nn.relu(x) if i + 2 < len(w) else x
            return x
        return [self.jnp.asarray(p, self.jnp.float32) for p in w], forward

    def mlp_job(self, name, _variant):
        jax, jnp, batch = self.jax, self.jnp, dims(name)[1]
        pixels, labels = map(jnp.asarray, mnist())
        w, forward = self.perceptron(784, 128, 64, 10)

        def loss(w, rows):
            return -jnp.mean(jax.nn.log_softmax(forward(w, pixels[rows]))[jnp.arange(batch), labels[rows]])

        def step(state, rows):
            value, grads = jax.value_and_grad(loss)(state[0], rows)
            return self.adam(state, grads, LR), value
        return self.job(step, self.adam_state(w), batches(len(labels), batch))

    def dqn_job(self, name, _variant):
        jax, jnp, batch = self.jax, self.jnp, dims(name)[1]
        states, actions, rows = transitions(batch)
        states, actions = jnp.asarray(states), jnp.asarray(actions)
        w, forward = self.perceptron(4, 64, 64, 2)

        def loss(w, wanted, rows):
            off = jnp.abs(forward(w, states[rows])[jnp.arange(batch), actions[rows]] - wanted)
            return jnp.mean(jnp.where(off < 1, off * off / 2, off - 0.5))

        def step(state, rows):
            adam, target = state
            wanted = 1 + jnp.max(forward(target, states[rows + 1]), 1) * jnp.where(rows % 16 != 0, DISCOUNT, 0)
            value, grads = jax.value_and_grad(loss)(adam[0], wanted, rows)
            adam = self.adam(adam, grads, LR)
            share = jnp.where(adam[3] % 10 == 0, 0.05, 0)
            return (adam, [p + share * (q - p) for p, q in zip(target, adam[0])]), value
        return self.job(step, (self.adam_state(w), [p + 0 for p in w]), rows)

    def adam(self, state, grads, lr):
        jnp, (w, m, v, count) = self.jnp, state
        count = count + 1
        m = [0.9 * m + 0.1 * g for m, g in zip(m, grads)]
        v = [0.999 * v + 0.001 * g * g for v, g in zip(v, grads)]
        size, scale = lr / (1 - 0.9 ** count), 1 / jnp.sqrt(1 - 0.999 ** count)
        w = [p - size * m / (jnp.sqrt(v) * scale + 1e-8) for p, m, v in zip(w, m, v)]
        return w, m, v, count

    def adam_state(self, w):
        return w, [self.jnp.zeros_like(p) for p in w], [self.jnp.zeros_like(p) for p in w], self.jnp.float32(0)

    def two_layer_net_training_step(self, name, _variant):
        jax, jnp, (batch, inputs, hidden, outputs) = self.jax, self.jnp, dims(name)
        x, y, rng = self.put((batch, inputs), 1), self.put((batch, outputs), 2), np.random.default_rng(0)
        sizes = [(hidden, inputs), (outputs, hidden)]
        w = [jnp.asarray(rng.uniform(-1, 1, s) * s[1] ** -0.5, dtype=jnp.float32) for s in sizes]

        def loss(w):
            return jnp.sum((jax.nn.relu(x @ w[0].T) @ w[1].T - y) ** 2)

        def step(state):
            value, grads = jax.value_and_grad(loss)(state[0])
            return self.adam(state, grads, 1e-4), value
        kept = [self.adam_state(w), None]
        compiled = jax.jit(step, donate_argnums=0).lower(kept[0]).compile()

        def run():
            kept[:] = jax.block_until_ready(compiled(kept[0]))
        return run, lambda: [kept[1]]

    def mlp_resnet_optimizer_step(self, hidden, _variant):
        jax, w = self.jax, self.weights(int(hidden))
        grads = [self.put(p.shape, i) for i, p in enumerate(w)]
        start = np.concatenate([np.asarray(p).ravel() for p in w])
        kept, moved = [self.adam_state(w)], []
        compiled = jax.jit(lambda s, g: self.adam(s, g, LR), donate_argnums=0).lower(kept[0], grads).compile()

        def run():
            kept[0] = jax.block_until_ready(compiled(kept[0], grads))
            if not moved:
                now = np.concatenate([np.asarray(p).ravel() for p in kept[0][0]])
                moved[:] = [np.abs(now - start).mean()]
        return run, lambda: moved

    def mlp_resnet_inference(self, name, weights):
        batch, hidden = dims(name)
        w = self.weights(hidden, np.fromfile(weights))
        return self.results(lambda w, x: self.forward(w, x)[0], w, self.put((batch, 784), 1))


def main():
    framework = {"PyTorch": PyTorch, "JAX": JAX}[FRAMEWORK]()
    # Answers go through a descriptor of their own: nothing that a library prints gets among them.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print(framework.version, file=answers)
    cases, count = {}, 0
    for line in sys.stdin:
        words = line.split()
        try:
            if words[0] == "quit":
                return
            if words[0] == "case":
                count += 1
                family, op, _, shape = words[1].split("/")
                cases[str(count)] = framework.case(family, op, shape, " ".join(words[2:]))
                answer = count
            elif words[0] == "run":
                step, repetitions = cases[words[1]][0], int(words[2])
                start = time.perf_counter_ns()
                for _ in range(repetitions):
                    step()
                answer = time.perf_counter_ns() - start
            elif words[0] == "output":
                arrays = [np.asarray(a, dtype=np.float64).ravel() for a in cases[words[1]][1]()]
                np.concatenate(arrays).tofile(words[2])
                answer = "written"
            elif words[0] == "drop":
                del cases[words[1]]
                answer = "dropped"
            else:
                answer = f"error: {words[0]} is no command"
        except Exception as error:  # whatever it is, the race goes on without this contender
            answer = "error: " + " ".join(f"{type(error).__name__}: {error}".split())[:300]
        print(answer, file=answers)


if __name__ == "__main__":
    main()
