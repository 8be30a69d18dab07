"""An LSTM over the features of a row: it reads them one by one, in their order, and writes them again from a code.

python lstm.py FOLDER: trains on synthetic rows and writes the model folder.
"""

import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from torchscript_export import export, fit_features, prepare

NAMES = ["flows_per_s", "bits_per_s", "packets_per_s", "uniq_src", "mean_packet_size"]


class Lstm(torch.nn.Module):
    def __init__(self, hidden: int = 16, code: int = 3):
        super().__init__()
        self.reader = torch.nn.LSTM(1, hidden, batch_first=True)
        self.code = torch.nn.Linear(hidden, code)
        self.writer = torch.nn.LSTM(code, hidden, batch_first=True)
        self.out = torch.nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        read, _ = self.reader(x.unsqueeze(-1))
        code = torch.tanh(self.code(read[:, -1]))
        written, _ = self.writer(code.unsqueeze(1).expand(-1, x.size(1), -1))
        return self.out(written).squeeze(-1)


def benign(count):
    """Hosts of three sizes; packets follow flows, bits follow packets. Yours come from the engine."""
    flows = torch.exp(torch.randint(0, 3, (count, 1)) * 2.0 + 0.5 * torch.randn(count, 1))
    packets = flows * torch.exp(2 + 0.3 * torch.randn(count, 1))
    size = 200 + 1200 * torch.rand(count, 1)
    return torch.cat([flows, packets * size * 8, packets, (flows * 5).ceil(), size], dim=1).double()


def make(folder):
    torch.manual_seed(1)
    torch.set_num_threads(1)  # So little work is slower with more.
    rows = benign(2000)
    features = fit_features(NAMES, rows)
    x = prepare(rows, features)
    net = Lstm()
    adam = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(200):
        loss = ((net(x) - x) ** 2).mean()
        adam.zero_grad(), loss.backward(), adam.step()
    # Some as trained on, some far out.
    golden = torch.cat([rows[:16], rows[16:24] * torch.logspace(-2, 4, 8).double()[:, None]])
    export(net, folder, "lstm", features, golden, version="1")
    print(f"{folder}: loss {loss.item():.4f}")
    return net, features, rows


if __name__ == "__main__":
    make(sys.argv[1])
