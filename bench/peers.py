"""The libraries compared, pyrnn first."""

from __future__ import annotations

from jax_peer import Jax
from numpy_loop import NumpyLoop
from onnx_peers import OnnxRuntime, OpenVino, OpenVinoBfloat16
from peer import Peer
from pyrnn_peers import Layer, Pyrnn
from torch_peer import Torch, TorchBfloat16

PEERS: tuple[type[Peer], ...] = (
    Pyrnn,
    Layer,
    NumpyLoop,
    Torch,
    TorchBfloat16,
    OnnxRuntime,
    OpenVino,
    OpenVinoBfloat16,
    Jax,
)
