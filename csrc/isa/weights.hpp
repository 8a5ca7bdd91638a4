// A layer's parameters as the products read them: the biases summed, W_ih^T and the W_hh^T of each phase
// packed. They lie in the scratch of one call, or in a buffer that many calls share.
#pragma once

#include "operands.hpp"
#include "structure.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// Values of a row of sums: blocks of whole panels.
template <class Cell, class T>
PYRNN_INLINE Index sums_of_a_row(Index hidden) {
  return panels_of<T>(hidden) * Cell::columns * panel_width<T>;
}
// From one row of sums to the next.
template <class Cell, class T>
PYRNN_INLINE Index step_of_sums(Index hidden) {
  return spread(panels_of<T>(hidden) * Cell::columns) * panel_width<T>;
}

template <class Cell, class T, class Operand = Panels<T>>
struct Weights {
  static constexpr int G = Cell::gates, C = Cell::columns;

  static constexpr Index W = panel_width<T>;

  T* bias = nullptr;               // [panel, C, W]
  Operand input{};                 // W_ih^T, depth I
  const T* base = nullptr;         // [panel, C, W] what the product with W_ih starts from
  Operand hidden[Cell::phases]{};  // W_hh^T of each phase, depth P
  Structure<Cell, T> structure;

  Weights() = default;
  // All of them one after the other; a matrix that is not packed has its shape and no memory.
  Weights(Carver& carver, Index I, Index H, Index P, const Variant<T>& variant,
          const Precision* precision, bool packs_input = true, bool packs_hidden = true)
      : structure(H, P, variant) {
    bias = carver.take<T>(sums_of_a_row<Cell, T>(H));
    const auto shape = [H, precision](Operand& b, Index depth, int groups) {
      start_matrix(b, precision);
      b.depth = depth;
      b.columns = H;
      b.groups = groups;
      b.step = C * W;
      b.padded = true;
    };
    shape(input, I, G);
    for (int g = 0; g < G; ++g) input.start[g] = g * W;
    if (packs_input) take_panels(input, carver);
    for (int p = 0; p < Cell::phases; ++p) {
      const PhaseGates<Cell> gates(p);
      shape(hidden[p], P, gates.count);
      for (int g = 0; g < gates.count; ++g) hidden[p].start[g] = gates.column[g] * W;
      if (packs_hidden) take_panels(hidden[p], carver);
    }
    structure.carve(carver);
    base = structure.norm ? structure.zeros : bias;
  }
  // Those of a buffer that was packed before.
  static Weights of(const void* packed, Index I, Index H, Index P, const Variant<T>& variant,
                    const Precision* precision) {
    Carver carver(const_cast<void*>(packed));
    return Weights(carver, I, H, P, variant, precision);
  }

  // What is small. The hidden side's bias joins its column; a column of W_hh alone has only that.
  void pack_rows_of(const Params<T>& params, const Variant<T>& variant) {
    const Index H = input.columns;
    fill(bias, {0, sums_of_a_row<Cell, T>(H)}, T(0));
    for (int g = 0; g < G; ++g) {
      for (Index u = 0; u < H; ++u) {
        T* const blocks = panel_blocks(bias, u / W, C) + u;
        if (params.b_ih != nullptr) blocks[g * W] += params.b_ih[g * H + u];
        if (params.b_hh != nullptr) blocks[hidden_column<Cell>(g) * W] += params.b_hh[g * H + u];
      }
    }
    structure.pack_rows_of(variant, bias);
  }

  void pack_input(const Params<T>& params, Range panels) {
    const Range own = grouped(panels, G);
    pack_transposed(input, params.w_ih, own.first, own.last);
  }
  void pack_hidden(const Params<T>& params, Range panels) {
    for (int p = 0; p < Cell::phases; ++p) {
      const PhaseGates<Cell> gates(p);
      const Index H = input.columns, P = hidden[p].depth;
      const Range own = grouped(panels, gates.count);
      pack_transposed(hidden[p], params.w_hh + gates.first * H * P, own.first, own.last);
    }
  }

  PYRNN_INLINE void start_sums(T* sums, Range panels) const {
    start_unreached<Cell>(bias, sums, panels);
  }

  // sums = base + the column of W_ih that a one-hot vector would select.
  void gather(std::int64_t token, T* sums, Range panels) const {
    add_line(input, panels.first, panels.last, static_cast<Index>(token), base, sums);
  }
};

// Weights packed once, for a frozen layer.
template <class Cell, class T, class Operand>
struct Frozen {
  using Packed = Weights<Cell, T, Operand>;

  static Packed at(const void* packed, const Part<T>& part) {
    return Packed::of(packed, part.I, part.H, part.P, part.variant, part.precision);
  }
  static std::size_t bytes(const Part<T>& part) {
    Carver measure;
    Packed(measure, part.I, part.H, part.P, part.variant, part.precision);
    return measure.used();
  }
  static void pack(const Part<T>& part, void* packed) {
    Packed weights = at(packed, part);
    const Range all{0, panels_of<T>(part.H)}, of_h{0, panels_of<T>(part.P)};
    weights.pack_rows_of(part.params, part.variant);
    weights.pack_input(part.params, all);
    weights.pack_hidden(part.params, all);
    weights.structure.pack(part.variant, all, of_h);
  }
  static void unpack(const void* packed, const Part<T>& part, const Unpacked<T>& to) {
    const Packed weights = at(packed, part);
    const Index H = part.H;
    for (int g = 0; g < Cell::gates; ++g) {
      const int column = hidden_column<Cell>(g);
      for (Index u = 0; u < H; ++u) {
        const T* const blocks = panel_blocks(weights.bias, u / panel_width<T>, Cell::columns) + u;
        to.b_ih[g * H + u] = blocks[g * panel_width<T>];
        to.b_hh[g * H + u] = column == g ? T(0) : blocks[column * panel_width<T>];
      }
    }
    unpack_transposed(weights.input, to.w_ih);
    for (int p = 0; p < Cell::phases; ++p) {
      unpack_transposed(weights.hidden[p], to.w_hh + PhaseGates<Cell>(p).first * H * part.P);
    }
  }
};

// Panels of units that a tile takes at once: with one gate it takes a bundle to fill a tile.
template <class Cell>
constexpr Index panels_of_a_tile = Cell::gates == 1 ? most_bundled : 1;

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
