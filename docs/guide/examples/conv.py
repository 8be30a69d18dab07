"""A one-dimensional convolution over the features of a row: neighbours among the features are seen together.

python conv.py FOLDER: trains on synthetic rows and writes the model folder.
"""

import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from lstm import NAMES, benign
from torchscript_export import export, fit_features, prepare


class Conv(torch.nn.Module):
    def __init__(self, width: int, channels: int = 8, code: int = 3):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv1d(1, channels, 3, padding=1),
            torch.nn.BatchNorm1d(channels),  # Statistics of the training when it scores, not of the batch.
            torch.nn.Tanh(),
            torch.nn.Flatten(),
            torch.nn.Linear(channels * width, code),
            torch.nn.Tanh(),
            torch.nn.Linear(code, channels * width),
            torch.nn.Tanh(),
            torch.nn.Unflatten(1, (channels, width)),
            torch.nn.Conv1d(channels, 1, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.unsqueeze(1)).squeeze(1)


def make(folder):
    torch.manual_seed(1)
    torch.set_num_threads(1)  # So little work is slower with more.
    rows = benign(2000)
    features = fit_features(NAMES, rows)
    x = prepare(rows, features)
    net = Conv(len(NAMES))
    adam = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(300):
        loss = ((net(x) - x) ** 2).mean()
        adam.zero_grad(), loss.backward(), adam.step()
    golden = torch.cat([rows[:16], rows[16:24] * torch.logspace(-2, 4, 8).double()[:, None]])
    export(net, folder, "conv", features, golden, version="1")
    print(f"{folder}: loss {loss.item():.4f}")
    return net, features, rows


if __name__ == "__main__":
    make(sys.argv[1])
