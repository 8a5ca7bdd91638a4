"""The libraries compared, pyrnn first."""

from __future__ import annotations

from jax_peer import Jax
from numpy_loop import NumpyLoop
from onnx_peers import OnnxRuntime, OpenVino
from peer import Peer
from pyrnn_peers import Layer, Pyrnn
from torch_peer import Torch

PEERS: tuple[type[Peer], ...] = (Pyrnn, Layer, NumpyLoop, Torch, OnnxRuntime, OpenVino, Jax)
