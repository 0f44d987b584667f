#!/usr/bin/env python3
"""Line-driven timing helper: one MLP-ResNet training step on CPU (PyTorch).

stdin : `run K` -> runs K steps, prints elapsed ns for all K (one integer)
        `quit`  -> ends (so does end of input)
stdout: `ready` once after 20 warm-up steps, then one integer per `run`.
"""
import argparse
import sys
import time

import torch
from torch import nn


class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return x + self.fn(x)


def block(dim, inner):
    return nn.Sequential(
        Residual(nn.Sequential(
            nn.Linear(dim, inner), nn.BatchNorm1d(inner), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(inner, dim), nn.BatchNorm1d(dim))),
        nn.ReLU())


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--hidden", type=int, default=100)
    ap.add_argument("--batch", type=int, default=100)
    ap.add_argument("--optimizer", choices=["fused", "default"], default="fused",
                    help="fused: Adam(fused=True); default: Adam(fused=False)")
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    h = a.hidden
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(784, h), nn.ReLU(),
        *[block(h, h // 2) for _ in range(3)], nn.Linear(h, 10))
    model.train()
    loss_fn = nn.CrossEntropyLoss()
    opt = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-3,
                           fused=(a.optimizer == "fused"))
    x = torch.randn(a.batch, 784)
    y = torch.randint(0, 10, (a.batch,))

    def steps(k):
        for _ in range(k):
            opt.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            opt.step()

    steps(20)
    print("ready", flush=True)
    while True:
        line = sys.stdin.readline()
        if not line:
            break
        w = line.split()
        if not w:
            continue
        if w[0] == "quit":
            break
        if w[0] == "run" and len(w) == 2 and w[1].isdigit() and int(w[1]) > 0:
            k = int(w[1])
            t = time.perf_counter_ns()
            steps(k)
            t = time.perf_counter_ns() - t
            print(t, flush=True)
        else:
            print(f"error: unknown line {line.strip()!r}", file=sys.stderr, flush=True)
            sys.exit(2)


if __name__ == "__main__":
    main()
