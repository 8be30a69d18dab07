"""The peer of `cargo xtask bench inference`: the same work in eager PyTorch. Needs python3 and torch, nothing else.

What is timed, per batch: raw float32 rows (rows, features) in host memory (pinned for a GPU, filled before the clock)
-> device -> sign * log1p -> center and scale -> clip -> network -> mean squared and mean log1p error of every row -> both
back on the host. Preprocessing and losses are float32; the network is of `--dtype`.

`x4`, `x16`: so many models, each with its own preprocessing and weights, on one batch that travels once. Rows are those of
the batch: all models have scored a row before it counts.

`floor`: the transfers alone, rows to the device and two floats a row back.

Prints `bench,case,unit,value,rep` lines without the header.
"""

import argparse
import time

import torch

# C has 100 times the multiply-adds of B.
NETWORKS = {"A": "16-32-8-32-16", "B": "32-64-16-64-32", "C": "32-960-288-960-32"}
BATCHES = [64, 1024, 8192, 65536, 1048576]
CENTER, SCALE, CLIP = 1.0, 2.0, 8.0
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


class Model:
    """An autoencoder with its preprocessing."""

    def __init__(self, dims, device, dtype):
        layers = []
        for inputs, outputs in zip(dims, dims[1:]):
            layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
        self.net = torch.nn.Sequential(*layers[:-1]).eval().to(device, dtype)
        self.center = torch.full((dims[0],), CENTER, device=device)
        self.scale = torch.full((dims[0],), SCALE, device=device)
        self.dtype = dtype

    def losses(self, raw):
        """(2, rows): mean squared and mean log1p error, where `raw` is."""
        x = raw.sign() * raw.abs().log1p()
        x = ((x - self.center) / self.scale).clamp(-CLIP, CLIP)
        squares = (self.net(x.to(self.dtype)).float() - x).square()
        return torch.stack((squares.mean(1), squares.log1p().mean(1)))


def clock():
    """CPU time on the CPU, where a busy machine should not count; wall time with a GPU."""
    return time.perf_counter() if torch.cuda.is_initialized() else time.process_time()


def repetition(call, rows, synchronize):
    """Rows per second, over 0.3 s or more."""
    calls, start = 0, clock()
    while True:
        call()
        calls += 1
        if clock() - start >= 0.3:
            synchronize()
            return calls * rows / (clock() - start)


def measure(case, call, rows, args, synchronize):
    for _ in range(3):
        call()
    if rows <= 65536:
        repetition(call, rows, synchronize)  # Clocks, caches and allocators as they are later.
    for rep in range(1, args.reps + 1):
        print(f"inference-torch,{case},rows/s,{repetition(call, rows, synchronize):.6f},{rep}", flush=True)


def run(name, dims, batch, args, device):
    cuda = device.type == "cuda"
    synchronize = torch.cuda.synchronize if cuda else (lambda: None)
    raw = torch.randn(batch, dims[0]).mul_(2).exp_()
    home = torch.empty(args.models[-1], 2, batch)
    if cuda:
        raw, home = raw.pin_memory(), home.pin_memory()
    models = [Model(dims, device, DTYPES[args.dtype]) for _ in range(args.models[-1])]

    for count in args.models:

        def score():
            rows = raw.to(device, non_blocking=True)
            losses = [model.losses(rows) for model in models[:count]]
            if cuda:
                # One copy back, and the caller has the losses when it returns.
                home[:count].copy_(torch.stack(losses) if count > 1 else losses[0][None], non_blocking=True)
                synchronize()
            return losses

        if not torch.stack(score()).isfinite().all():
            raise SystemExit(f"{name} {batch}: losses that are not finite")
        case = f"{name} {batch}: pytorch eager {args.device} {args.dtype}"
        measure(case + (f" x{count}" if count > 1 else ""), score, batch, args, synchronize)

    if cuda:
        there, back = torch.empty_like(raw, device=device), torch.empty(2, batch, device=device)

        def floor():
            there.copy_(raw, non_blocking=True)
            home[0].copy_(back, non_blocking=True)
            synchronize()

        measure(f"{name} {batch}: floor {args.device}", floor, batch, args, synchronize)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parser.add_argument("--dtype", default="f32", choices=DTYPES)
    parser.add_argument("--threads", type=int, default=1, help="of one operation on the CPU")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--max-rows", type=int, default=BATCHES[-1], help="leave larger batches out")
    parser.add_argument("--nets", nargs="+", default=[f"{n}={d}" for n, d in NETWORKS.items()], metavar="NAME=WIDTHS")
    parser.add_argument("--models", nargs="+", type=int, help="models on one batch; 1 4 16 on a GPU, else 1")
    args = parser.parse_args()
    device = torch.device(args.device)
    args.models = sorted(args.models or ([1, 4, 16] if device.type == "cuda" else [1]))

    torch.manual_seed(1)
    torch.set_num_threads(args.threads)
    # Float32 is float32: no TF32, no sums in half precision.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    with torch.inference_mode():
        for net in args.nets:
            name, widths = net.split("=")
            for batch in BATCHES:
                if batch <= args.max_rows:
                    run(name, [int(w) for w in widths.split("-")], batch, args, device)


if __name__ == "__main__":
    main()
