"""A variational autoencoder: it learns a distribution of codes, with noise; when it scores, the code is its mean.

python vae.py FOLDER: trains on synthetic rows and writes the model folder.
"""

import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from lstm import NAMES, benign
from torchscript_export import export, fit_features, prepare


class Vae(torch.nn.Module):
    def __init__(self, width: int, hidden: int = 16, code: int = 3):
        super().__init__()
        self.encode = torch.nn.Sequential(torch.nn.Linear(width, hidden), torch.nn.Tanh())
        self.mu = torch.nn.Linear(hidden, code)
        self.log_var = torch.nn.Linear(hidden, code)
        self.decode = torch.nn.Sequential(
            torch.nn.Linear(code, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.encode(x)
        code = self.mu(hidden)
        if self.training:  # Never when it scores: the same row must have the same loss.
            code = code + torch.randn_like(code) * torch.exp(self.log_var(hidden) / 2)
        return self.decode(code)

    def divergence(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.encode(x)
        mu, log_var = self.mu(hidden), self.log_var(hidden)
        return (mu**2 + log_var.exp() - 1 - log_var).sum(1) / 2


def make(folder):
    torch.manual_seed(1)
    torch.set_num_threads(1)  # So little work is slower with more.
    rows = benign(2000)
    features = fit_features(NAMES, rows)
    x = prepare(rows, features)
    net = Vae(len(NAMES))
    adam = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(400):
        loss = ((net(x) - x) ** 2).mean() + 0.01 * net.divergence(x).mean()
        adam.zero_grad(), loss.backward(), adam.step()
    golden = torch.cat([rows[:16], rows[16:24] * torch.logspace(-2, 4, 8).double()[:, None]])
    export(net, folder, "vae", features, golden, version="1")
    print(f"{folder}: loss {loss.item():.4f}")
    return net, features, rows


if __name__ == "__main__":
    make(sys.argv[1])
