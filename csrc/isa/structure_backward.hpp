// The way back through the phases of structure.hpp:
//
//   projection       du = W_hr^T dh~                        dW_hr = sum dh~ u^T
//   between stages   dc~ += P_o^T da_o, and through LN(c~)  dP_o = sum da_o c~^T
//   full peepholes   dc_{t-1} += P_i^T da_i + P_f^T da_f    dP_k = sum da_k c_{t-1}^T
//   layer norm       ds = through LN(s), s = W_ih x or W_hh h; ds stands where da does without it
//
// and what the sums over steps read: rows by (step, row) pair of a block, K of them.
#pragma once

#include "gradients.hpp"
#include "structure.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Cell, class T>
struct StructureBackward {
  static constexpr int G = Cell::gates;
  static constexpr Index W = panel_width<T>;
  using Phases = Structure<Cell, T>;
  static constexpr int peepholes = Phases::peepholes;

  Phases phases;
  const Backward<T>* call = nullptr;

  Panels<T> projection{};       // W_hr, depth P
  Panels<T> cell_peepholes{};   // (P_i above) P_f, depth (peepholes-1)*H
  Panels<T> output_peephole{};  // P_o, depth H
  T* dh = nullptr;              // [K, size_of(P)] gradient of h~, with a projection
  T* ds_x = nullptr;            // [K, window row] with layer norm
  T* ds_h = nullptr;            // [K, window row]
  T* cell_x = nullptr;          // [K, size_of(H)] x^ of c~, with its layer norm
  T* dn = nullptr;              // [K, size_of(H)] gradient of LN(c~)
  T* cell_rstd = nullptr;       // [K]
  T* du = nullptr;              // [B, H]
  T* d_fresh = nullptr;         // [B, H] gradient of c~
  T* d_output = nullptr;        // [B, H] da_o, with full peepholes
  T* d_cell = nullptr;          // [B, (peepholes-1)*H] (da_i and) da_f
  T* u = nullptr;               // packed operands of a block, depth K: u, which the walk leaves,
  T* c_prev = nullptr;          // c_{t-1}
  T* fresh = nullptr;           // and c~
  // [threads, K] rows of ds_x, norm_ih and norm_hh, as those of BackwardScan::Lists.
  const T** rows_[3] = {};
  Index pairs_ = 0;  // K

  StructureBackward(const Backward<T>& call_)
      : phases(call_.in.shape.H, call_.in.P, call_.in.variant), call(&call_) {}

  // Between the stages of the pointwise part there is something to do.
  bool parts() const { return Cell::has_c && phases.parts(); }

  static Index size_of(Index units) { return spread(panels_of<T>(units)) * W; }
  Index window_size() const { return spread(panels_of<T>(phases.H) * G) * W; }

  void carve_matrices(Carver& carver) {
    const Index H = phases.H;
    const auto take = [&carver, H](Panels<T>& b, Index depth) {
      b = {nullptr, depth, H, 1, {}};
      b.data = carver.take<T>(b.size());
    };
    if (phases.full) {
      take(cell_peepholes, (peepholes - 1) * H);
      take(output_peephole, H);
    }
    if (phases.projects) take(projection, phases.P);
  }

  void carve(Carver& carver, Index K, int threads) {
    pairs_ = K;
    const Index B = call->in.shape.B, H = phases.H, P = phases.P;
    const auto take = [&carver](T*& to, Index n) { to = carver.take<T>(n); };
    if (phases.norm) {
      take(ds_x, K * window_size());
      take(ds_h, K * window_size());
    }
    if (parts()) take(d_fresh, B * H);
    if (parts() && phases.norm) {
      take(cell_x, K * size_of(H));
      take(dn, K * size_of(H));
      take(cell_rstd, K);
    }
    if (phases.full) {
      take(d_output, B * H);
      take(d_cell, B * (peepholes - 1) * H);
      take(c_prev, panels_of<T>(H) * W * K);
      take(fresh, panels_of<T>(H) * W * K);
    }
    if (phases.projects) {
      take(dh, K * size_of(P));
      take(du, B * H);
      take(u, panels_of<T>(H) * W * K);
    }
    for (const T**& rows : rows_) {
      rows = phases.any() ? carver.take<const T*>(threads * K) : nullptr;
    }
  }

  // Panels of H units.
  void pack(Range panels) const {
    const Index H = phases.H;
    if (phases.full) {
      const T* const w = call->in.variant.full_peephole;
      pack_matrix(cell_peepholes, w, panels);
      pack_matrix(output_peephole, w + (peepholes - 1) * H * H, panels);
    }
    if (phases.projects) pack_matrix(projection, call->in.variant.w_hr, panels);
  }

  // Gradients without a single step, of a worker's units.
  void clear(int index, int count) const {
    const auto clear_part = [&](T* to, Index n) {
      if (to != nullptr) fill(to, part(n, index, count), T(0));
    };
    const Index H = phases.H;
    clear_part(call->dfull_peephole, peepholes * H * H);
    clear_part(call->dw_hr, phases.P * H);
    for (T* const d :
         {call->dln_ih_weight, call->dln_ih_bias, call->dln_hh_weight, call->dln_hh_bias}) {
      clear_part(d, G * H);
    }
    clear_part(call->dln_c_weight, H);
    clear_part(call->dln_c_bias, H);
  }

  // What a row needs of this; k: its line in the windows.
  PYRNN_INLINE void enter(GradRow<T>& row, Index k, Index batch_row) const {
    const Index H = phases.H;
    if (du != nullptr) row.du = du + batch_row * H;
    if (d_fresh != nullptr) row.d_fresh = d_fresh + batch_row * H;
    if (d_output != nullptr) {
      row.d_output = d_output + batch_row * H;
      row.d_cell = d_cell + batch_row * (peepholes - 1) * H;
    }
    if (cell_x != nullptr) {
      row.cell_x = cell_x + k * size_of(H);
      row.dn = dn + k * size_of(H);
    }
  }

  // --- the walk ------------------------------------------------------------------------------------------

  // x^ of c~ of a row, ahead of the walk: it does not wait for any gradient. Without zoneout c~ is c_t.
  void normalise_cell(const Pointwise<T>& functions, const GradRow<T>& row, Index k) const {
    const Index H = phases.H;
    T* const x = cell_x + k * size_of(H);
    const T* fresh_c = row.c;
    if (call->in.variant.zoneout_c > 0) {
      for (Index unit = 0; unit < H; unit += W) {
        functions.fresh_cell(call->in.variant, 1, &row, unit / W, x + unit, W);
      }
      fresh_c = x;
    }
    const Moments<T> m = moments<OneBlock<1, 0>>(fresh_c, H);
    cell_rstd[k] = m.rstd;
    for_lanes<T>(0, H, [&](const auto& at) {
      at.store(x, (at.load(fresh_c) - splat(m.mean)) * splat(m.rstd));
    });
  }

  // dh_t of a row becomes dh~ and what zoneout kept of it.
  void unsettle(const GradRow<T>& row, Index k, Range h_units) const {
    const Variant<T>& variant = call->in.variant;
    T* const fresh_h = dh + k * size_of(phases.P);
    const auto unsettle_by = [&](const auto& rule) {
      for_lanes<T>(h_units.first, h_units.last, [&](const auto& at) {
        const Unsettled<T> d = rule.unsettle(at, row);
        at.store(fresh_h, d.fresh);
        at.store(row.dh, d.kept);
      });
    };
    // A row has few units: what no call asks for would cost as much as they do.
    const bool plain = row.mask == nullptr && !(variant.zoneout_h > 0);
    plain ? unsettle_by(Plain<T>(variant)) : unsettle_by(Chosen<T>(variant));
  }

  // dc~ of a row as the output stage left it, less the part of P_o.
  void through_cell_norm(const GradRow<T>& row, Index k, Range units) const {
    if (!phases.norm) return;
    const T* const gain = call->in.variant.ln_c_weight;
    const auto d = [&](const auto& at, Index, int) {
      return rounded(at.load(row.dn) * at.load(gain));
    };
    const auto x = [&](const auto& at, Index, int) { return at.load(row.cell_x); };
    const Means<T> means = means_of<1, T>(phases.H, d, x);
    for_lanes<T>(units.first, units.last, [&](const auto& at) {
      at.store(row.d_fresh, through_norm<T>(d(at, 0, 0), x(at, 0, 0), means, cell_rstd[k]));
    });
  }

  // ds of a row in some panels, from da; `norm` [G, H], x^ of the row.
  __attribute__((noinline)) void through_gate_norm(const T* da, const T* gain, const T* norm,
                                                   T rstd, Range panels, T* ds) const {
    const Index H = phases.H;
    const auto d = [&](const auto& at, Index p, int i) {
      return rounded(at.load(panel_blocks(da, p, G) + i * W) * at.load(gain + i * H));
    };
    const auto x = [&](const auto& at, Index, int i) { return at.load(norm + i * H); };
    const Means<T> means = means_of<G, T>(H, d, x);
    for_units<T>(panels, H, [&](const auto& at, Index p) {
#pragma GCC unroll 4
      for (int i = 0; i < G; ++i) {
        at.store(panel_blocks(ds, p, G) + i * W,
                 through_norm<T>(d(at, p, i), x(at, p, i), means, rstd));
      }
    });
  }
  void through_hidden_norm(const T* da_h, Index place, Index k, Range panels) const {
    through_gate_norm(da_h, call->in.variant.ln_hh_weight,
                      call->tape.norm_hh + place * G * phases.H, call->tape.rstd[place * 2 + 1],
                      panels, ds_h + k * window_size());
  }
  void through_input_norm(const T* da_x, Index place, Index k) const {
    through_gate_norm(da_x, call->in.variant.ln_ih_weight,
                      call->tape.norm_ih + place * G * phases.H, call->tape.rstd[place * 2],
                      {0, panels_of<T>(phases.H)}, ds_x + k * window_size());
  }

  // --- the sums over a block ------------------------------------------------------------------------------

  static Panels<T> operand(T* data, Index K, Index columns) { return {data, K, columns, 1, {}}; }

  const T** rows_of(int which, int index) const { return rows_[which] + index * pairs_; }

  // Pairs of the block, whose values lie at place(k) in the tape.
  template <class Place>
  void list(int index, Index K, Place place) const {
    if (!phases.norm) return;
    for (Index k = 0; k < K; ++k) {
      const Index offset = place(k) * G * phases.H;
      rows_of(0, index)[k] = ds_x + k * window_size();
      rows_of(1, index)[k] = call->tape.norm_ih + offset;
      rows_of(2, index)[k] = call->tape.norm_hh + offset;
    }
  }

  // Lines of operands in a worker's panels of H units; row(to, k) makes the GradRow of pair k.
  template <class Row>
  void pack_operands(const Pointwise<T>& functions, Index K, Range panels, Row row) const {
    const auto pack_lines = [&](T* data, auto lines) {
      const Panels<T> b = operand(data, K, phases.H);
      GradRow<T> rows[Pointwise<T>::rows_at_once];
      for (Index k = 0; k < K; k += Pointwise<T>::rows_at_once) {
        const Index n = min(K - k, Pointwise<T>::rows_at_once);
        for (Index i = 0; i < n; ++i) row(rows[i], k + i);
        for (Index p = panels.first; p < panels.last; ++p) {
          const Index step = b.line_step(p);
          lines(call->in.variant, n, rows, p, b.panel(p) + k * step, step);
        }
      }
    };
    if (phases.full) {
      pack_lines(c_prev, [&](const Variant<T>&, Index n, const GradRow<T>* rows, Index p, T* to,
                             Index step) {
        fill_lines(n, {p, p + 1}, phases.H, to, step,
                   [&](Index i, const auto& at) { return at.load(rows[i].c_prev); });
      });
      pack_lines(fresh, functions.fresh_cell);
    }
  }

  // Of `d`, the gradient of gate `gate` and the units from `unit` on, before any norm.
  void peephole_gradient(const Slice<T>& d, int gate, Index unit, bool first) const {
    if constexpr (Cell::has_c) {
      if (!phases.full || gate == Cell::C) return;
      const Index H = phases.H, k = gate == Cell::O ? peepholes - 1 : gate;
      T* const operand_of = gate == Cell::O ? fresh : c_prev;
      accumulate_weight(d, operand(operand_of, d.depth, H),
                        call->dfull_peephole + (k * H + unit) * H, first);
    }
  }

  // dW_hr and the layer norm of c~, in a worker's part; slice: room for K lines. To be called last: it takes
  // the worker's rows.
  void own_gradients(int index, int count, bool in_place, T* slice, Index K, bool first) const {
    const Index H = phases.H, P = phases.P;
    if (phases.projects) {
      const Range own = part(panels_of<T>(P), index, count);
      for (Index p = own.first; p < own.last; ++p) {
        const int width = static_cast<int>(min(P - p * W, W));
        const Slice<T> there{dh + p * W, K, width, size_of(P)};
        const Slice<T> d = in_place ? there : packed(slice, there);
        accumulate_weight(d, operand(u, K, H), call->dw_hr + p * W * H, first);
      }
    }
    if (cell_x != nullptr) {
      const T** const rows = rows_of(0, index);
      const T** const x = rows_of(1, index);
      for (Index k = 0; k < K; ++k) {
        rows[k] = dn + k * size_of(H);
        x[k] = cell_x + k * size_of(H);
      }
      const Range own = part(panels_of<T>(H), index, count);
      for (Index p = own.first; p < own.last; ++p) {
        const int width = static_cast<int>(min(H - p * W, W));
        const Slice<T> d = pack_slice(slice, rows, K, p * W, width);
        accumulate_bias(d, call->dln_c_bias + p * W, first);
        accumulate_products(d, x, p * W, call->dln_c_weight + p * W, first);
      }
    }
  }
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
