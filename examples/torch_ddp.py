"""Data parallel: two processes train one PyTorch model on pyrnn, each on half of every batch.

``pyrnn.torch.accelerate`` swaps the layer, ``DistributedDataParallel`` averages the gradients over
gloo. The task: does a random walk of unknown length end above its start? Before training, the
gradients of the processes are held beside those of one process with the whole batch.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

import pyrnn
import pyrnn.torch


class Result(NamedTuple):
    difference: float  # the largest of a parameter, relative
    first_loss: float
    last_loss: float


class Walks(torch.nn.Module):
    """Packed steps (B, T, 1) -> the logit of "ends above its start" (B)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(1, hidden_size, batch_first=True)
        self.head = torch.nn.Linear(hidden_size, 1)

    def forward(self, walks: Any) -> Any:
        _, (h_n, _) = self.lstm(walks)
        return self.head(h_n[-1])[:, 0]


def batch(seed: int, size: int) -> tuple[list[Any], Any]:
    """Walks of 5 to 30 steps, and whether each ends above its start."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(5, 31, (size,), generator=draw).tolist()
    walks = [torch.randn(length, 1, generator=draw) for length in lengths]
    return walks, torch.stack([(walk.sum() > 0).float() for walk in walks])


def loss_of(model: Any, walks: list[Any], targets: Any) -> Any:
    lengths = [len(walk) for walk in walks]
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        pad_sequence(walks, batch_first=True), lengths, batch_first=True, enforce_sorted=False
    )
    return torch.nn.functional.binary_cross_entropy_with_logits(model(packed), targets)


def new_model(hidden_size: int) -> Any:
    torch.manual_seed(0)
    return pyrnn.torch.accelerate(Walks(hidden_size))


def work(rank: int, args: argparse.Namespace, folder: Path) -> None:
    """One of the processes."""
    threads = max(1, (os.cpu_count() or 1) // args.processes)
    torch.set_num_threads(threads)
    pyrnn.set_num_threads(threads)
    torch.distributed.init_process_group(
        "gloo", f"file://{folder / 'meeting'}", rank=rank, world_size=args.processes
    )
    model = torch.nn.parallel.DistributedDataParallel(new_model(args.hidden))
    optimiser = torch.optim.Adam(model.parameters(), lr=args.lr)
    mine = slice(rank * args.batch_size, (rank + 1) * args.batch_size)
    losses = []
    for step in range(args.steps):
        walks, targets = batch(step, args.batch_size * args.processes)
        optimiser.zero_grad()
        loss = loss_of(model, walks[mine], targets[mine])
        loss.backward()
        if rank == 0 and step == 0:
            torch.save([p.grad for p in model.parameters()], folder / "gradients.pt")
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        torch.distributed.all_reduce(loss.detach_().div_(args.processes))
        losses.append(float(loss))
    if rank == 0:
        torch.save(losses, folder / "losses.pt")
    # They leave together: where its peer is gone, gloo now and then ends with "terminate called".
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def main(argv: Sequence[str] | None = None) -> Result:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32, help="of each process")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--lr", type=float, default=0.01)
    args = parser.parse_args(argv)

    # The address of the host's name need not be reachable; loopback is.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory() as name:
        torch.multiprocessing.spawn(work, (args, Path(name)), nprocs=args.processes)
        gradients = torch.load(Path(name) / "gradients.pt")
        losses = torch.load(Path(name) / "losses.pt")

    alone = new_model(args.hidden)
    loss_of(alone, *batch(0, args.batch_size * args.processes)).backward()
    differences = [
        float((got - p.grad).norm() / p.grad.norm())
        for got, p in zip(gradients, alone.parameters(), strict=True)
    ]
    result = Result(max(differences), losses[0], losses[-1])
    print(f"gradients of {args.processes} processes and of one differ by {result.difference:.1e}")
    print(f"loss {result.first_loss:.3f} -> {result.last_loss:.3f}")
    return result


if __name__ == "__main__":
    main()
