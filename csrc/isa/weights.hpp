// A layer's parameters as the products read them: the biases summed, W_ih^T and the W_hh^T of each phase
// packed. They lie in the scratch of one call, or in a buffer that many calls share (a frozen layer).
//
// The type of `Operand`, a packed matrix, is the precision: Panels<T> keeps the values themselves. Another
// one brings the functions of the same names: take_panels, panels_bytes, pack_transposed,
// unpack_transposed, multiply and add_line.
#pragma once

#include "scan.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class T>
void take_panels(Panels<T>& b, Carver& carver) {
  b.data = carver.take<T>(b.count() * panel_width<T> * b.depth);
}

template <class T>
void pack_transposed(Panels<T>& b, const T* w, Range panels) {
  pack_transposed(b, const_cast<T*>(b.data), w, panels.first, panels.last);
}

// The W that pack_transposed packed.
template <class T>
void unpack_transposed(const Panels<T>& b, T* w) {
  for (Index p = 0; p < b.count(); ++p) {
    T* const to = w + (p % b.groups * b.columns + p / b.groups * panel_width<T>)*b.depth;
    const int width = b.width(p);
    for (int column = 0; column < width; ++column) {
      for (Index k = 0; k < b.depth; ++k) {
        to[column * b.depth + k] = b.panel(p)[k * panel_width<T> + column];
      }
    }
  }
}

// c = base + row k of B, in the columns of panel p: the product with a one-hot vector.
template <class T>
PYRNN_INLINE void add_line(const Panels<T>& b, Index p, Index k, const T* base, T* c) {
  const Index column = b.column(p);
  const int width = b.width(p);
  const T* const line = b.panel(p) + k * panel_width<T>;
  for (int v = 0; v < panel_vectors; ++v) {
    const Vec<T> sum = load_line(base + column, v, width) + load(line + v * lanes<T>);
    store_line(c + column, v, width, sum);
  }
}

template <class Cell, class T, class Operand = Panels<T>>
struct Weights {
  static constexpr int G = Cell::gates, C = Cell::columns;

  T* bias = nullptr;    // [C*H]
  Operand input{};      // W_ih^T, depth I
  Operand hidden[2]{};  // W_hh^T of each phase, depth H

  Weights() = default;
  // All of them one after the other; a matrix that is not packed has its shape and no memory.
  Weights(Carver& carver, Index I, Index H, bool packs_input = true, bool packs_hidden = true) {
    bias = carver.take<T>(C * H);
    input.depth = I;
    input.columns = H;
    input.groups = G;
    for (int g = 0; g < G; ++g) input.start[g] = g * H;
    if (packs_input) take_panels(input, carver);
    for (int p = 0; p < Cell::phases; ++p) {
      const PhaseGates<Cell> gates(p);
      hidden[p].depth = hidden[p].columns = H;
      hidden[p].groups = gates.count;
      for (int g = 0; g < gates.count; ++g) hidden[p].start[g] = gates.column[g] * H;
      if (packs_hidden) take_panels(hidden[p], carver);
    }
  }
  // Those of a buffer that was packed before.
  static Weights of(const void* packed, Index I, Index H) {
    Carver carver(const_cast<void*>(packed));
    return Weights(carver, I, H);
  }

  // The hidden side's bias joins its column; a column of W_hh alone has only that.
  void sum_biases(const Params<T>& params) {
    const Index H = input.columns;
    fill(bias, {0, C * H}, T(0));
    for (int g = 0; g < G; ++g) {
      T* const from_input = bias + g * H;
      T* const from_hidden = bias + hidden_column<Cell>(g) * H;
      for (Index u = 0; u < H; ++u) {
        if (params.b_ih != nullptr) from_input[u] += params.b_ih[g * H + u];
        if (params.b_hh != nullptr) from_hidden[u] += params.b_hh[g * H + u];
      }
    }
  }

  void pack_input(const Params<T>& params, Range panels) {
    pack_transposed(input, params.w_ih, grouped(panels, G));
  }
  void pack_hidden(const Params<T>& params, Range panels) {
    for (int p = 0; p < Cell::phases; ++p) {
      const PhaseGates<Cell> gates(p);
      const Index H = input.columns;
      pack_transposed(hidden[p], params.w_hh + gates.first * H * H, grouped(panels, gates.count));
    }
  }

  // The columns of a row of gates that W_ih does not reach start from the bias alone.
  PYRNN_INLINE void start_columns(T* gates, Range units) const {
    const Index H = input.columns;
    for (int c = G; c < C; ++c) copy(bias + c * H, gates + c * H, units);
  }

  // gates = bias + the column of W_ih that a one-hot vector would select.
  void gather(std::int64_t token, T* gates, Range panels) const {
    for (Index p = panels.first; p < panels.last; ++p) {
      add_line(input, p, static_cast<Index>(token), bias, gates);
    }
  }
};

// Weights packed once, for a frozen layer.
template <class Cell, class T, class Operand>
struct Frozen {
  using Packed = Weights<Cell, T, Operand>;

  static std::size_t bytes(Index I, Index H) {
    Carver measure;
    Packed(measure, I, H);
    return measure.used();
  }
  static void pack(const Params<T>& params, Index I, Index H, void* packed) {
    Packed weights = Packed::of(packed, I, H);
    weights.sum_biases(params);
    weights.pack_input(params, {0, panels_of<T>(H)});
    weights.pack_hidden(params, {0, panels_of<T>(H)});
  }
  static void unpack(const void* packed, Index I, Index H, const Unpacked<T>& to) {
    const Packed weights = Packed::of(packed, I, H);
    for (int g = 0; g < Cell::gates; ++g) {
      const int column = hidden_column<Cell>(g);
      copy(weights.bias + g * H, to.b_ih + g * H, {0, H});
      if (column == g) {
        fill(to.b_hh + g * H, {0, H}, T(0));
      } else {
        copy(weights.bias + column * H, to.b_hh + g * H, {0, H});
      }
    }
    unpack_transposed(weights.input, to.w_ih);
    for (int p = 0; p < Cell::phases; ++p) {
      unpack_transposed(weights.hidden[p], to.w_hh + PhaseGates<Cell>(p).first * H * H);
    }
  }
};

// The pointwise part of one phase for the units of a row.
template <class Cell, int phase, bool save, class T>
PYRNN_INLINE void apply(const StepRow<T>& row, Range units) {
  for_stages<Cell>([&](auto stage_constant) {
    constexpr int stage = decltype(stage_constant)::value;
    for_lanes<T>(units.first, units.last,
                 [&](const auto& at) { Cell::template pointwise<phase, stage, save, T>(at, row); });
  });
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
