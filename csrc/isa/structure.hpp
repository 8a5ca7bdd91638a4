// The phases that variants add to a step, beside W_hh h and the pointwise part:
//
//   layer norm        sums = gain_ih x^_ih + gain_hh x^_hh + biases       instead of W_ih x + W_hh h + biases
//   full peepholes    i and f take P_i c_{t-1} and P_f c_{t-1} before stage 0, o takes P_o c~ before stage 1
//   layer norm of c~  between the stages
//   projection        h~ = W_hr u, u = o tanh(c~), after stage 1
//
// Each is a part of the step of its own: all units of a row are needed before it, those of other threads too.
#pragma once

#include "norm.hpp"
#include "pointwise.hpp"
#include "scan.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// Blocks of a row's sums that W_ih x does not reach start with their bias.
template <class Cell, class T>
PYRNN_INLINE void start_unreached(const T* bias, T* sums, Range panels) {
  constexpr int C = Cell::columns;
  constexpr Index W = panel_width<T>;
  if constexpr (C == Cell::gates) return;
  for (Index p = panels.first; p < panels.last; ++p) {
    for (Index block = p * C + Cell::gates; block < (p + 1) * C; ++block) {
      copy_line(bias + block * W, sums + block * W);
    }
  }
}

template <class Cell, class T>
struct Structure {
  static constexpr int G = Cell::gates, C = Cell::columns;
  static constexpr Index W = panel_width<T>;
  static constexpr int peepholes = G - 1;  // all gates but the candidate's

  bool norm = false, full = false, projects = false;
  Index H = 0, P = 0;
  T* zeros = nullptr;           // [panel, C, W] what W_ih x starts from
  T* bias = nullptr;            // [panel, C, W] of gates and of layer norm
  T* gain_ih = nullptr;         // [panel, C, W]
  T* gain_hh = nullptr;         // [panel, C, W]
  Panels<T> cell_peepholes{};   // (P_i and) P_f
  Panels<T> output_peephole{};  // P_o
  Panels<T> projection{};       // W_hr^T

  Structure() = default;
  Structure(Index H_, Index P_, const Variant<T>& variant)
      : norm(variant.ln_ih_weight != nullptr),
        full(Cell::has_c && variant.full_peephole != nullptr),
        projects(Cell::has_c && variant.w_hr != nullptr),
        H(H_),
        P(P_) {}

  bool any() const { return norm || full || projects; }
  // Whether workers meet before the pointwise part, or between its stages.
  bool parts() const { return norm || full; }
  // How often workers meet in a step.
  int meetings() const {
    const bool between = Cell::has_c && parts();
    return 1 + (norm ? 1 : 0) + (between ? 1 : 0) + (projects ? 1 : 0);
  }
  // Multiply-adds beside those with W_ih and W_hh.
  Index work() const { return (full ? peepholes * H * H : 0) + (projects ? P * H : 0); }

  void carve(Carver& carver) {
    const Index row = panels_of<T>(H) * C * W;
    for (T** const of_row : {&zeros, &bias, &gain_ih, &gain_hh}) {
      *of_row = norm ? carver.take<T>(row) : nullptr;
    }
    if constexpr (Cell::has_c) {
      const auto take = [&](Panels<T>& b, int groups, int first_block) {
        b = {nullptr, H, H, groups, {}, C * W, true};
        for (int g = 0; g < groups; ++g) b.start[g] = (first_block + g) * W;
        b.data = carver.take<T>(b.size());
      };
      if (full) {
        take(cell_peepholes, peepholes - 1, 0);
        take(output_peephole, 1, Cell::O);
      }
      if (projects) {
        projection = {nullptr, H, P, 1, {}};
        projection.data = carver.take<T>(projection.size());
      }
    }
  }

  void pack_rows_of(const Variant<T>& variant, const T* gate_bias) const {
    if (!norm) return;
    using In = InputBlocks<Cell>;
    using Hidden = HiddenBlocks<Cell>;
    const Range all{0, panels_of<T>(H) * C * W};
    for (T* const row : {zeros, gain_ih, gain_hh}) fill(row, all, T(0));
    copy(gate_bias, bias, all);
    for (int g = 0; g < G; ++g) {
      for (Index u = 0; u < H; ++u) {
        const Index at = u / W * (C - 1) * W + u;  // block 0 of the unit's panel
        gain_ih[at + In::at(g) * W] = variant.ln_ih_weight[g * H + u];
        gain_hh[at + Hidden::at(g) * W] = variant.ln_hh_weight[g * H + u];
        bias[at + In::at(g) * W] += variant.ln_ih_bias[g * H + u];
        bias[at + Hidden::at(g) * W] += variant.ln_hh_bias[g * H + u];
      }
    }
  }
  // Panels of H units and of P columns of h.
  void pack(const Variant<T>& variant, Range panels, Range h_panels) const {
    if (full) {
      const Range own = grouped(panels, cell_peepholes.groups);
      pack_transposed(cell_peepholes, variant.full_peephole, own.first, own.last);
      pack_transposed(output_peephole, variant.full_peephole + (peepholes - 1) * H * H,
                      panels.first, panels.last);
    }
    if (projects) pack_transposed(projection, variant.w_hr, h_panels.first, h_panels.last);
  }

  // --- a step of n rows, in a worker's panels; `a` is room for n pointers -----------------------------

  // sums = bias + gain_ih x^ of the row `raw` that W_ih x made, then += gain_hh x^ of W_hh h. Both return
  // 1 / sqrt(var + eps).
  T add_input(const T* raw, Range panels, T* sums, T* norm_ih) const {
    start_unreached<Cell>(bias, sums, panels);
    return add<InputBlocks<Cell>>(raw, gain_ih, panels, bias, sums, norm_ih);
  }
  T add_hidden(const T* raw, Range panels, T* sums, T* norm_hh) const {
    return add<HiddenBlocks<Cell>>(raw, gain_hh, panels, sums, sums, norm_hh);
  }

  void add_cell_peepholes(Index n, const StepRow<T>* rows, const T** a, T* const* sums,
                          Range panels) const {
    if (!full) return;
    for (Index i = 0; i < n; ++i) a[i] = rows[i].c_prev;
    const Range own = grouped(panels, cell_peepholes.groups);
    multiply<Base::self>(n, RowPointers<T>{a, 1, sums}, cell_peepholes, own.first, own.last);
  }

  // P_o c~ and the layer norm of c~, of which the output then takes block F.
  void between_stages(const Variant<T>& variant, Index n, const StepRow<T>* rows, const T** a,
                      T* const* sums, Range panels) const {
    if constexpr (Cell::has_c) {
      if (full) {
        for (Index i = 0; i < n; ++i) a[i] = rows[i].fresh;
        multiply<Base::self>(n, RowPointers<T>{a, 1, sums}, output_peephole, panels.first,
                             panels.last);
      }
      const Chosen<T> rule(variant);
      for (Index i = 0; norm && i < n; ++i) {
        const Moments<T> m = moments<OneBlock<C, Cell::C>>(sums[i], H);
        const Vec<T> mean = splat(m.mean), rstd = splat(m.rstd);
        for_units<T>(panels, H, [&](const auto& at, Index p) {
          T* const blocks = panel_blocks(sums[i], p, C);
          const Vec<T> x = (at.load(blocks + Cell::C * W) - mean) * rstd;
          at.store(blocks + Cell::F * W, rule.scaled_cell(at, x));
        });
      }
    }
  }

  // h = W_hr u, in panels of h.
  void project(const Pointwise<T>& functions, const Variant<T>& variant, Index n,
               const StepRow<T>* rows, const T** a, T** c, Range h_panels) const {
    if constexpr (Cell::has_c) {
      for (Index i = 0; i < n; ++i) {
        a[i] = rows[i].u;
        c[i] = rows[i].h;
      }
      multiply<Base::zero>(n, RowPointers<T>{a, 1, c}, projection, h_panels.first, h_panels.last);
      if (n == 0) return;
      const Range own = units_of<T>(h_panels, P);
      if (variant.zoneout_h > 0 || rows->masked_h != nullptr) {
        functions.settle(variant, n, rows, own);
      } else if (rows->tape_h != nullptr) {
        for (Index i = 0; i < n; ++i) {
          for_lanes<T>(own.first, own.last,
                       [&](const auto& at) { at.store(rows[i].tape_h, at.load(rows[i].h)); });
        }
      }
    }
  }

 private:
  template <class Blocks>
  T add(const T* raw, const T* gain, Range panels, const T* base, T* sums, T* norm_of) const {
    const Moments<T> m = moments<Blocks>(raw, H);
    const auto add_to =
        norm_of == nullptr ? &add_normalised<Blocks, false, T> : &add_normalised<Blocks, true, T>;
    add_to(raw, m, gain, H, panels, base, sums, norm_of);
    return m.rstd;
  }
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
