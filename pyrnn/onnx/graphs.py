"""Where a value in a model comes from: constants, and the recurrent nodes that stand on others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ..tape import Array

# What hands its first input on as it is, in inference.
_PASSES_ON = ("Identity", "Dropout")


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """By name, text as str."""
    return {a.name: _text(helper.get_attribute_value(a)) for a in node.attribute}


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [_text(one) for one in value]
    return value


class Scope:
    """A graph, inside the graphs whose values it sees."""

    def __init__(self, model: ModelProto, graph: GraphProto, outer: Scope | None = None) -> None:
        self.model, self.graph, self.outer = model, graph, outer
        self.initialisers = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self.outputs = {value.name for value in graph.output}

    def nodes(self) -> Iterator[tuple[Scope, NodeProto]]:
        """Every node, in order, those of branches and bodies ahead of the node that has them."""
        for node in self.graph.node:
            for attribute in node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    yield from Scope(self.model, attribute.g, self).nodes()
            yield self, node

    def constant(self, name: str) -> Array | None:
        """The value of what does not depend on the inputs, else None."""
        nodes: list[NodeProto] = []
        initialisers: dict[str, Any] = {}
        if not self._gather(name, nodes, initialisers):
            return None
        if name in initialisers:
            return np.asarray(numpy_helper.to_array(initialisers[name]))
        value = helper.make_empty_tensor_value_info(name)
        graph = helper.make_graph(nodes, "constant", [], [value], list(initialisers.values()))
        model = helper.make_model(graph, opset_imports=self.model.opset_import)
        try:
            made: Any = ReferenceEvaluator(model).run(None, {})
        except (NotImplementedError, RuntimeError, TypeError) as error:
            raise ValueError(f"{name}: cannot be computed from initialisers: {error}") from error
        return np.asarray(made[0])

    def _gather(self, name: str, nodes: list[NodeProto], initialisers: dict[str, Any]) -> bool:
        """Collect what a value is made from, makers first; False where an input is part of it."""
        if name in self.initialisers:
            initialisers[name] = self.initialisers[name]
            return True
        node = self.makers.get(name)
        if node is None:
            return self.outer is not None and self.outer._gather(name, nodes, initialisers)
        if any(a.type == AttributeProto.GRAPH for a in node.attribute):
            return False
        if node in nodes:
            return True
        if not all(self._gather(one, nodes, initialisers) for one in node.input if one):
            return False
        nodes.append(node)
        return True

    def user(self, name: str) -> NodeProto | None:
        """The only node that uses a value, and not its shape alone, where nothing else does."""
        users = [
            (scope, node)
            for scope, node in self.nodes()
            for used in node.input
            if used == name and node.op_type != "Shape"
        ]
        if name in self.outputs or len(users) != 1 or users[0][0] is not self:
            return None
        return users[0][1]


def above(scope: Scope, node: NodeProto, batch_first: bool, columns: int) -> NodeProto | None:
    """The recurrent node that takes y of this one, as (T, B, D*H), and nothing else does.

    ``columns`` is D*H. Y is (T, D, B, H), or (B, T, D, H) with layout 1.
    """
    name, axis = node.output[0], 2 if batch_first else 1
    merged = False
    turned = batch_first  # whether directions stand beside units
    while name:
        user = scope.user(name)
        if user is None:
            return None
        kind = user.op_type
        if kind in ("RNN", "GRU", "LSTM"):
            return user if merged and user.input[0] == name else None
        if kind == "Squeeze" and not merged and _axes(scope, user) == [axis]:
            merged = True
        elif kind == "Transpose" and not turned and not merged:
            if attributes_of(user).get("perm") != [0, 2, 1, 3]:
                return None
            turned = True
        elif kind == "Reshape" and turned and not merged:
            if not _joins_columns(scope, user, columns):
                return None
            merged = True
        elif kind not in _PASSES_ON or len(user.input) > 2:
            return None
        name = user.output[0]
    return None


def _axes(scope: Scope, node: NodeProto) -> list[int] | None:
    """Of a Squeeze: an attribute before opset 13, an input since."""
    if len(node.input) < 2:
        found = attributes_of(node).get("axes")
    else:
        array = scope.constant(node.input[1])
        found = None if array is None else array.ravel().tolist()
    return None if found is None else [axis % 4 for axis in found]


def _joins_columns(scope: Scope, node: NodeProto, columns: int) -> bool:
    """Whether a Reshape of (T, B, D, H) makes (T, B, D*H), whatever T and B are."""
    shape = scope.constant(node.input[1])
    if shape is None or shape.size != 3 or attributes_of(node).get("allowzero"):
        return False
    first, second, last = (int(size) for size in shape.ravel())
    if last == columns:
        return first == 0 or second == 0
    return last == -1 and first == second == 0
