// LSTM: i, f, o = sigmoid(a), g = tanh(a), a = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh
//       c_t = f c_{t-1} + i g,  h_t = o tanh(c_t)        (Hochreiter & Schmidhuber 1997, Gers et al. 2000)
// Coupled: i = 1 - f, the gates are f, g, o              (Greff et al. 2017)
// Backward recomputes tanh(c_t) and h_t instead of storing them, and leaves h_t for dW_hh (left.hpp).
#pragma once

#include "cell.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <bool coupled>
struct LstmCell {
  static constexpr const char* name = coupled ? "lstm_coupled" : "lstm";
  static constexpr int gates = coupled ? 3 : 4, columns = gates, phases = 1, stages = 2;
  static constexpr bool has_c = true, tapes_h = false, splits = false;
  static constexpr Segment segments[] = {{0, gates, 0, 0}};
  static constexpr int F = coupled ? 0 : 1, C = F + 1, O = F + 2;  // blocks of f, g and o
  static constexpr int peephole_f = coupled ? 0 : 1, peephole_o = peephole_f + 1;

  template <int phase, int stage, bool save, class T, class Rule, class At>
  static PYRNN_INLINE void pointwise(const Rule& rule, const At& at, const StepRow<T>& row,
                                     T* sums) {
    constexpr int W = panel_width<T>;
    const Index H = row.H;
    if constexpr (stage == 0) {
      const Vec<T> c_prev = at.load(row.c_prev);
      Vec<T> a_i{}, i;
      if constexpr (!coupled) {
        a_i = rule.with_peephole(at, H, 0, at.load(sums), c_prev);
        i = rule.gate(a_i);
      }
      const Vec<T> a_f = rule.with_peephole(at, H, peephole_f, at.load(sums + F * W), c_prev);
      const Vec<T> f = rule.gate(a_f);
      if constexpr (coupled) i = splat(T(1)) - f;
      const Vec<T> a_g = at.load(sums + C * W);
      const Vec<T> g = rule.candidate(a_g);
      const Vec<T> fresh = rule.clip_cell(f * c_prev + product<T>(i, g));
      at.store(row.c, rule.settle_cell(at, row, fresh, c_prev));
      if constexpr (!Rule::plain) {
        at.store(sums + C * W, fresh);
        if (row.fresh != nullptr) at.store(row.fresh, fresh);
      }
      if constexpr (save) {
        if constexpr (!coupled) at.store(row.gates, rule.taped_gate(a_i, i));
        at.store(row.gates + F * H, rule.taped_gate(a_f, f));
        at.store(row.gates + C * H, rule.taped_candidate(a_g, g));
      }
    } else {
      const Vec<T> fresh = at.load(Rule::plain ? row.c : sums + C * W);
      const Vec<T> a_o = rule.with_peephole(at, H, peephole_o, at.load(sums + O * W), fresh);
      const Vec<T> o = rule.gate(a_o);
      const Vec<T> seen = rule.norms_cell ? at.load(sums + F * W) : fresh;
      rule.hand_on(at, row, product<T>(o, rule.output(seen)));
      if constexpr (save) at.store(row.gates + O * H, rule.taped_gate(a_o, o));
    }
  }

  // c~, before clip_cell, and what it was made of.
  template <class T>
  struct Inner {
    Opened<T> i, f, g;
    Vec<T> c_prev, sum;
  };
  template <class T, class Rule, class At>
  static PYRNN_INLINE Inner<T> inner(const Rule& rule, const At& at, Index H, const T* gates,
                                     const T* c_prev) {
    Inner<T> in;
    in.f = rule.open_gate(at.load(gates + F * H));
    in.g = rule.open_candidate(at.load(gates + C * H));
    if constexpr (coupled) {
      in.i = {splat(T(1)) - in.f.value, Vec<T>{}};
    } else {
      in.i = rule.open_gate(at.load(gates));
    }
    in.c_prev = at.load(c_prev);
    if constexpr (!Rule::plain)
      in.sum = in.f.value * in.c_prev + product<T>(in.i.value, in.g.value);
    return in;
  }

  // What the output took of c~.
  template <class T, class Rule, class At>
  static PYRNN_INLINE Vec<T> seen(const Rule& rule, const At& at, const GradRow<T>& row,
                                  Vec<T> sum) {
    if constexpr (Rule::plain) {
      return at.load(row.c);
    } else {
      if (rule.norms_cell) return rule.scaled_cell(at, at.load(row.cell_x));
      return rule.clip_cell(sum);
    }
  }

  // Gradients on the side of the output: of a_o, and of what the output took of c~.
  template <class T>
  struct Outer {
    Vec<T> da_o, d_seen;
  };
  template <class T, class Rule, class At>
  static PYRNN_INLINE Outer<T> through_output(const Rule& rule, const At& at, const GradRow<T>& row,
                                              Vec<T> seen_cell) {
    const Opened<T> o = rule.open_gate(at.load(row.gates + O * row.H));
    const Opened<T> out = rule.open_output(seen_cell);
    if (row.left != nullptr) {
      const Index p = at.unit / panel_width<T>;
      at.store(row.left->line(p, row.line) - p * panel_width<T>,
               rule.left(at, row, product<T>(o.value, out.value)));
    }
    const Vec<T> du = rule.take_back(at, row);
    return {product<T>(product<T>(du, out.value), o.slope), du * rounded(o.value * out.slope)};
  }

  // And of the others, from those.
  template <class T, class Rule, class At>
  static PYRNN_INLINE void through_cell(const Rule& rule, const At& at, const GradRow<T>& row,
                                        T* da, const Inner<T>& in, Vec<T> d_fresh, Vec<T> da_o) {
    constexpr int W = panel_width<T>;
    const Index H = row.H;
    const auto& [i, f, g, c_prev, sum] = in;
    const Unsettled<T> dc_t = rule.unsettle_cell(at, row);
    Vec<T> dc = d_fresh + dc_t.fresh;
    dc = rule.through_clip(sum, rule.with_peephole(at, H, peephole_o, dc, da_o));
    const Vec<T> by_f = coupled ? c_prev - g.value : c_prev;
    const Vec<T> da_f = product<T>(product<T>(dc, by_f), f.slope);
    Vec<T> dc_prev = rule.with_kept(dc * f.value, dc_t.kept);
    if constexpr (!coupled) {
      const Vec<T> da_i = product<T>(product<T>(dc, g.value), i.slope);
      dc_prev = rule.with_peephole(at, H, 0, dc_prev, da_i);
      at.store(da, da_i);
      if (!Rule::plain && row.d_cell != nullptr) at.store(row.d_cell, da_i);
    }
    at.store(da + F * W, da_f);
    at.store(da + C * W, dc * i.value * g.slope);
    at.store(row.dc, rule.with_peephole(at, H, peephole_f, dc_prev, da_f));
    if (!Rule::plain && row.d_cell != nullptr) at.store(row.d_cell + peephole_f * H, da_f);
  }

  template <int phase, class T, class Rule, class At>
  static PYRNN_INLINE void pointwise_backward(const Rule& rule, const At& at, const GradRow<T>& row,
                                              T* da, T*) {
    const Inner<T> in = inner<T>(rule, at, row.H, row.gates, row.c_prev);
    const Outer<T> out = through_output<T>(rule, at, row, seen<T>(rule, at, row, in.sum));
    at.store(da + O * panel_width<T>, out.da_o);
    through_cell<T>(rule, at, row, da, in, out.d_seen, out.da_o);
  }

  // The same, cut where something stands between the stages.
  template <int stage, class T, class Rule, class At>
  static PYRNN_INLINE void stage_backward(const Rule& rule, const At& at, const GradRow<T>& row,
                                          T* da) {
    T* const of_o = da + O * panel_width<T>;
    const Inner<T> in = inner<T>(rule, at, row.H, row.gates, row.c_prev);
    if constexpr (stage == 1) {
      const Outer<T> out = through_output<T>(rule, at, row, seen<T>(rule, at, row, in.sum));
      at.store(of_o, out.da_o);
      at.store(rule.norms_cell ? row.dn : row.d_fresh, out.d_seen);
      if (row.d_output != nullptr) at.store(row.d_output, out.da_o);
    } else {
      through_cell<T>(rule, at, row, da, in, at.load(row.d_fresh), at.load(of_o));
    }
  }

  template <class T, class Rule, class At>
  static PYRNN_INLINE Vec<T> hidden(const Rule& rule, const At& at, const TapeRow<T>& row) {
    const Vec<T> o = rule.open_gate(at.load(row.gates + O * row.H)).value;
    return product<T>(o, rule.output(at.load(row.c)));
  }

  // c~ of a row, which the peephole of o saw: c_t, unless zoneout came between.
  template <class T, class Rule, class At>
  static PYRNN_INLINE Vec<T> fresh_cell(const Rule& rule, const At& at, const GradRow<T>& row) {
    if (!rule.zones_c()) return at.load(row.c);
    return rule.clip_cell(inner<T>(rule, at, row.H, row.gates, row.c_prev).sum);
  }
};

using Lstm = LstmCell<false>;
using CoupledLstm = LstmCell<true>;

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
