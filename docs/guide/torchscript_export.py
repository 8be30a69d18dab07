"""Turns a PyTorch module into a model folder for kaminari: `model.pt` (TorchScript) and `model.toml`.

    features = fit_features(names, rows)     # rows: benign, raw, a column per name
    x = prepare(rows, features)              # what the network learns from
    ...                                      # train `net` on x
    export(net, "models/lstm", "lstm", features, rows[:32])

The module takes prepared rows (rows, features), float32, and gives either as much back (the reconstruction) or one loss
per row, (rows) or (rows, 1), 0 or more. Every row is judged by itself: what a row gives must not depend on chance nor on
its neighbours. `export` refuses a module that breaks this, and says how.

Needs torch, nothing else. Copy this file, or put its folder on `sys.path`.
"""

import copy
import hashlib
import io
import json
import math
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

# Largest `clip` that the engine takes: squares must have room in float32.
MAX_CLIP = 1e6


class ExportError(ValueError):
    """The module cannot be scored by the engine; the text says why and what to do."""


@dataclass
class Feature:
    """One input: `clamp((transform(x) - center) / scale, -clip, clip)`. A dict with these keys will do as well."""

    name: str
    transform: str = "identity"  # or "log1p": ln(1 + x), and -ln(1 - x) below 0
    center: float = 0.0
    scale: float = 1.0
    clip: float = 50.0


def fit_features(names, rows, clip=50.0):
    """The preprocessing that `kaminari train` would choose. Rows with a number that is not finite are left out."""
    rows = _matrix(rows, len(names))
    rows = rows[rows.isfinite().all(1)]
    if len(rows) == 0:
        raise ExportError("rows: none that is finite")
    features = []
    for name, x in zip(names, rows.T):
        # Within -1 and 1 it is a share (a hair above is one that was rounded); all else is a count.
        transform = "identity" if x.abs().max() <= 1 + 1e-9 else "log1p"
        values = _transform(x, transform).sort().values
        center, deviation = values.mean().item(), values.std(unbiased=False).item()
        # A feature that hardly moves would, divided by its tiny deviation, own the error of every row.
        scale = max(deviation, 0.02 * (values[-1] - values[0]).item())
        if scale < 1e-6:  # Constant but for rounding: no scale of its own.
            center, scale = (values[(len(values) - 1) // 2] + values[len(values) // 2]).item() / 2, 0.1
        features.append(Feature(name, transform, center, scale, clip))
    return features


def prepare(rows, features):
    """Raw rows as the network sees them: worked out in float64, then float32. What is not finite becomes NaN."""
    features = [_feature(f) for f in features]
    rows = _matrix(rows, len(features))
    columns = [
        ((_transform(x, f.transform) - f.center) / f.scale).clamp(-f.clip, f.clip) for f, x in zip(features, rows.T)
    ]
    return torch.where(rows.isfinite(), torch.stack(columns, 1), torch.nan).float()


def restore(prepared, features):
    """Back from prepared values (a reconstruction) to the features' own units, in float64."""
    features = [_feature(f) for f in features]
    columns = []
    for f, x in zip(features, torch.as_tensor(prepared, dtype=torch.float64).T):
        y = x * f.scale + f.center
        columns.append(y if f.transform == "identity" else y.abs().expm1().copysign(y))
    return torch.stack(columns, 1)


def losses(net, prepared):
    """Per row: mean squared error and mean ln(1 + squared error); a loss that the network tells stands for both."""
    out = _run(net, prepared)
    if out.shape == prepared.shape:
        squares = (out.double() - prepared.double()) ** 2
        return squares.mean(1), squares.log1p().mean(1)
    loss = out.double().reshape(-1).clamp(min=0)
    return loss, loss


def export(module, folder, name, features, golden_rows, version="", scripted=None):
    """Writes `folder/model.pt` and `folder/model.toml`, or raises ExportError and writes nothing.

    features     what `fit_features` gives, or your own: `Feature`s or dicts, in the order of the network's inputs
    golden_rows  two or more raw rows; the engine scores them at every load and must get what PyTorch gets here.
                 Thirty or so, a few of them far out
    scripted     a ScriptModule of the module that you made yourself, where neither scripting nor tracing will do
    """
    features = [_feature(f) for f in features]
    for f in features:
        _check_feature(f, features)
    golden = _matrix(golden_rows, len(features))
    if len(golden) < 2 or not golden.isfinite().all():
        raise ExportError("golden_rows: two or more rows of finite numbers are needed")
    prepared = prepare(golden, features)

    module = copy.deepcopy(module).cpu().float().eval()
    archive = _archive(_script(module, prepared) if scripted is None else scripted)
    # From here on with what the engine will load, not with what made it.
    net = torch.jit.load(io.BytesIO(archive), map_location="cpu").eval()
    _check_shape(net, prepared)
    _check_repeatable(net, prepared)
    _check_same(module, net, prepared)
    _check_alone(net, prepared)
    _warn_of_device(archive, prepared)

    mse, log1p = losses(net, prepared)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.pt").write_bytes(archive)
    digest = hashlib.sha256(archive).hexdigest()
    text = f"format_version = 1\nname = {_text(name)}\n"
    text += f"version = {_text(version)}\n" if version else ""
    text += '\n[architecture]\nkind = "torchscript"\n'
    text += f'\n[weights]\nfile = "model.pt"\nsha256 = "{digest}"\n'
    text += features_toml(features) + golden_toml(golden, mse, log1p)
    (folder / "model.toml").write_text(text, encoding="utf-8")
    return folder


def features_toml(features):
    """`[[features]]` of a model.toml."""
    return "".join(
        f"\n[[features]]\nname = {_text(f.name)}\ntransform = {_text(f.transform)}\n"
        f"center = {float(f.center)!r}\nscale = {float(f.scale)!r}\nclip = {float(f.clip)!r}\n"
        for f in map(_feature, features)
    )


def golden_toml(rows, mse, log1p):
    """`[golden]` of a model.toml."""
    lines = "".join(f"    {row!r},\n" for row in _matrix(rows).tolist())
    return f"\n[golden]\nrows = [\n{lines}]\nmse = {mse.tolist()!r}\nlog1p = {log1p.tolist()!r}\n"


def _text(text):
    return json.dumps(text, ensure_ascii=False)  # A JSON string is a TOML string.


def _matrix(rows, width=None):
    rows = torch.as_tensor(rows, dtype=torch.float64).detach().cpu()
    if rows.dim() != 2 or width not in (None, rows.shape[1]):
        raise ExportError(f"rows of shape {tuple(rows.shape)}: (rows, {width or 'features'}) is needed")
    return rows


def _transform(x, transform):
    return x if transform == "identity" else x.abs().log1p().copysign(x)


def _feature(feature):
    return Feature(**feature) if isinstance(feature, dict) else feature


def _check_feature(f, features):
    # Written so that NaN fails as well.
    if f.transform not in ("identity", "log1p"):
        raise ExportError(f"feature {f.name}: transform {f.transform!r} is neither `identity` nor `log1p`")
    if not (math.isfinite(f.center) and f.scale > 0 and math.isfinite(f.scale)):
        raise ExportError(f"feature {f.name}: center must be finite, scale above 0 (is {f.center}, {f.scale})")
    if not 0 < f.clip <= MAX_CLIP:
        raise ExportError(f"feature {f.name}: clip {f.clip} must be above 0 and at most {MAX_CLIP:g}")
    if sum(other.name == f.name for other in features) > 1:
        raise ExportError(f"feature {f.name} stands twice")


def _script(module, prepared):
    try:
        return torch.jit.script(module)
    except Exception as error:  # Whatever it was: tracing may still do, and the text says what it was.
        warnings.warn(
            f"{type(module).__name__} cannot be scripted ({_why(error)}): traced instead. A trace has one path through the "
            "code: an `if` on the data, or a loop over the rows, is frozen as it ran",
            stacklevel=3,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module, prepared[:2], check_trace=False)  # Checked below, with more rows.


def _archive(scripted):
    """The archive without what it says of this machine: paths of sources (for tracebacks) and times."""
    whole, out = io.BytesIO(), io.BytesIO()
    torch.jit.save(scripted.eval(), whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                new.writestr(zipfile.ZipInfo(entry.filename), old.read(entry))
    return out.getvalue()


def _run(net, prepared):
    try:
        with torch.no_grad():
            return net(prepared.clone())  # It may write to its input; the losses need it as it was.
    except Exception as error:
        raise ExportError(
            f"the network fails on {len(prepared)} prepared rows, and any number from 1 is allowed: {_why(error)}"
        ) from error


def _why(error):
    """The line of TorchScript's long texts that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = next((line for line in lines if re.match(r"[\w.]*Error: ", line)), lines[0])
    return re.sub(r"^(builtins\.|RuntimeError: )+", "", line).rstrip(":")


def _close(a, b):
    """The engine's own tolerance."""
    return torch.isclose(a, b, rtol=1e-4, atol=0) | torch.isclose(a, b, rtol=0, atol=1e-6)


def _worst(a, b):
    return (a - b).abs().max().item()


def _check_shape(net, prepared):
    width = prepared.shape[1]
    # A second number of rows: a network that gives (features) for 2 rows of 2 features has not been found out yet.
    for rows in {2, len(prepared)}:
        out = _run(net, prepared[:rows])
        if not isinstance(out, torch.Tensor) or not out.is_floating_point():
            what = f"a tensor of {out.dtype}" if isinstance(out, torch.Tensor) else f"a {type(out).__name__}"
            raise ExportError(f"the network gives {what}; one tensor of floats is needed: the reconstruction, or a loss")
        if tuple(out.shape) not in ((rows, width), (rows,), (rows, 1)):
            raise ExportError(
                f"the network gives {tuple(out.shape)} for {rows} rows of {width} features; needed is ({rows}, {width}), "
                f"the reconstruction, or ({rows},) or ({rows}, 1), a loss per row"
            )
        if not out.isfinite().all():
            at = (~out.isfinite()).reshape(rows, -1).any(1).nonzero()[0].item()
            raise ExportError(f"the network gives a number that is not finite for golden row {at}")


def _check_repeatable(net, prepared):
    first, second = _run(net, prepared), _run(net, prepared)
    if not torch.equal(first, second):
        raise ExportError(
            f"the same rows give another output the second time (by up to {_worst(first, second):.3g}): the network "
            "samples, or has dropout, in eval mode. A VAE must go on with the mean: `mu` unless `self.training`"
        )


def _check_same(module, net, prepared):
    mine, theirs = losses(module, prepared), losses(net, prepared)
    for a, b in zip(mine, theirs):
        if not _close(a, b).all():
            raise ExportError(
                f"the archive gives other losses than the module (by up to {_worst(a, b):.3g}): tracing froze a branch or "
                "a size. Make it scriptable (type hints, no numpy), or give `scripted`"
            )


def _check_alone(net, prepared):
    whole = losses(net, prepared)
    one_by_one = [losses(net, row[None]) for row in prepared]
    backwards = losses(net, prepared.flip(0))
    for at, together in enumerate(whole):
        alone = torch.cat([pair[at] for pair in one_by_one])
        for other, how in ((alone, "alone"), (backwards[at].flip(0), "in another order")):
            if not _close(together, other).all():
                row = (~_close(together, other)).nonzero()[0].item()
                raise ExportError(
                    f"golden row {row} has the loss {together[row]:.6g} among the others and {other[row]:.6g} {how}: its "
                    "neighbours have a say. No statistics over the batch: BatchNorm with running statistics, softmax and "
                    "means over dim 1, LSTM with batch_first"
                )


def _warn_of_device(archive, prepared):
    # On the device `meta` nothing is computed, but every tensor must be there.
    try:
        torch.jit.load(io.BytesIO(archive), map_location="meta")(torch.empty_like(prepared, device="meta"))
    except Exception as error:
        warnings.warn(
            f"the network makes tensors on the CPU, and may fail on a GPU ({_why(error)}). Make them buffers, or with "
            "`device=x.device`; a traced LSTM needs scripting",
            stacklevel=3,
        )
