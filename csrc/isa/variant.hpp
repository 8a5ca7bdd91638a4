// What a cell's pointwise code asks a rule for: activations, peepholes, clips and masks. `Plain` is the cell
// without any of them, at no cost; `Chosen` reads them out of a Variant, with branches that go the same way
// all through a call. Each cell is written once, against either.
#pragma once

#include "activation.hpp"
#include "random.hpp"
#include "row.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// The gradient of a state, of which zoneout kept a part: of the fresh value, and of the state before.
template <class T>
struct Unsettled {
  Vec<T> fresh, kept;
};

// The part of each state before that zoneout keeps.
template <class T>
struct Kept {
  Vec<T> h, c;
};

template <class T>
struct Plain {
  static constexpr bool plain = true;
  PYRNN_INLINE explicit Plain(const Variant<T>&) {}

  template <class At>
  PYRNN_INLINE Vec<T> with_peephole(const At&, Index, int, Vec<T> a, Vec<T>) const {
    return a;
  }
  PYRNN_INLINE Vec<T> gate(Vec<T> a) const { return sigmoid<T>(a); }
  PYRNN_INLINE Vec<T> candidate(Vec<T> a) const { return tanh<T>(a); }
  PYRNN_INLINE Vec<T> output(Vec<T> c) const { return tanh<T>(c); }
  PYRNN_INLINE Vec<T> taped(Vec<T>, Vec<T> value) const { return value; }

  // From the tape: the value and its slope.
  PYRNN_INLINE Opened<T> open_gate(Vec<T> taped) const { return {taped, sigmoid_slope<T>(taped)}; }
  PYRNN_INLINE Opened<T> open_candidate(Vec<T> taped) const {
    return {taped, tanh_slope<T>(taped)};
  }
  PYRNN_INLINE Vec<T> through_candidate(Vec<T> taped, Vec<T> d) const {
    return d * tanh_slope<T>(taped);
  }
  PYRNN_INLINE Opened<T> open_output(Vec<T> c) const {
    const Vec<T> y = tanh<T>(c);
    return {y, tanh_slope<T>(y)};
  }

  PYRNN_INLINE Vec<T> clip_cell(Vec<T> c) const { return c; }
  PYRNN_INLINE Vec<T> through_clip(Vec<T>, Vec<T> d) const { return d; }
  template <class At>
  PYRNN_INLINE Vec<T> settle_cell(const At&, const StepRow<T>&, Vec<T> fresh, Vec<T>, T*) const {
    return fresh;
  }
  template <bool tapes_h, class At>
  PYRNN_INLINE void settle(const At& at, const StepRow<T>& row, Vec<T> h) const {
    at.store(row.h, h);
    if constexpr (tapes_h) at.store(row.tape_h, h);
  }
  template <class At>
  PYRNN_INLINE void hand_on(const At& at, const StepRow<T>& row, Vec<T> u, const T*) const {
    settle<false>(at, row, u);
  }
  static constexpr bool norms_cell = false;
  // dh_t: what came back from t+1, and dy.
  template <class At>
  PYRNN_INLINE Unsettled<T> unsettle(const At& at, const GradRow<T>& row) const {
    const Vec<T> dh = at.load(row.dh);
    return {row.dy == nullptr ? dh : dh + at.load(row.dy), Vec<T>{}};
  }
  // The gradient of u, which without a projection is h~.
  template <class At>
  PYRNN_INLINE Vec<T> take_back(const At& at, const GradRow<T>& row, const Kept<T>&) const {
    const Vec<T> d = unsettle(at, row).fresh;
    at.store(row.dh, Vec<T>{});
    return d;
  }
  template <class At>
  PYRNN_INLINE Kept<T> kept_of_both(const At&, const RowKey&) const {
    return {Vec<T>{}, Vec<T>{}};
  }
  template <class At>
  PYRNN_INLINE Unsettled<T> unsettle_cell(const At& at, const GradRow<T>& row,
                                          const Kept<T>&) const {
    return {at.load(row.dc), Vec<T>{}};
  }
  PYRNN_INLINE Vec<T> with_kept(Vec<T> d, Vec<T>) const { return d; }
  template <class At>
  PYRNN_INLINE Vec<T> masked(const At&, const T*, Vec<T> h) const {
    return h;
  }
};

template <class T>
struct PlainRelu : Plain<T> {
  using Plain<T>::Plain;
  PYRNN_INLINE Vec<T> candidate(Vec<T> a) const { return relu<T>(a); }
  PYRNN_INLINE Vec<T> through_candidate(Vec<T> taped, Vec<T> d) const {
    return select<T>(taped > splat(T(0)), d, splat(T(0)));
  }
};

// Layer norm and nothing else, of a cell that has c.
template <class T>
struct Normed : Plain<T> {
  static constexpr bool plain = false, norms_cell = true;
  const Variant<T>& v;
  PYRNN_INLINE explicit Normed(const Variant<T>& variant) : Plain<T>(variant), v(variant) {}

  // Gain and bias of the layer norm of c~.
  template <class At>
  PYRNN_INLINE Vec<T> scaled_cell(const At& at, Vec<T> x) const {
    return at.load(v.ln_c_weight) * x + at.load(v.ln_c_bias);
  }
  template <bool tapes_h, class At>
  PYRNN_INLINE void settle(const At& at, const StepRow<T>& row, Vec<T> h) const {
    at.store(row.h, h);
    if (row.tape_h != nullptr) at.store(row.tape_h, h);
  }
  template <class At>
  PYRNN_INLINE void hand_on(const At& at, const StepRow<T>& row, Vec<T> u, const T*) const {
    settle<false>(at, row, u);
  }
  template <class At>
  PYRNN_INLINE Unsettled<T> unsettle_cell(const At& at, const GradRow<T>& row,
                                          const Kept<T>&) const {
    const Vec<T> dc = at.load(row.dc);
    return {row.dcells == nullptr ? dc : dc + at.load(row.dcells), Vec<T>{}};
  }
};

// Whether `Normed` says all of a variant.
template <class T>
bool only_norms(const Variant<T>& v) {
  return v.ln_c_weight != nullptr && !v.tapes_sums && v.activation.kind == ActivationKind::tanh &&
         v.cell_clip == 0 && v.peephole == nullptr && v.full_peephole == nullptr &&
         v.w_hr == nullptr && v.zoneout_h == 0 && v.zoneout_c == 0 && v.recurrent_dropout == 0;
}

template <class T>
struct Chosen {
  static constexpr bool plain = false;
  const Variant<T>& v;
  const bool norms_cell;
  PYRNN_INLINE explicit Chosen(const Variant<T>& variant)
      : v(variant), norms_cell(variant.ln_c_weight != nullptr) {}

  template <class At>
  PYRNN_INLINE Vec<T> with_peephole(const At& at, Index H, int k, Vec<T> a, Vec<T> c) const {
    return v.peephole == nullptr ? a : a + at.load(v.peephole + k * H) * c;
  }
  PYRNN_INLINE Vec<T> clipped(Vec<T> a) const { return v.clip > 0 ? clamped<T>(a, v.clip) : a; }
  PYRNN_INLINE Vec<T> gate(Vec<T> a) const {
    a = clipped(a);
    if (v.gate_activation.kind == ActivationKind::sigmoid) return sigmoid<T>(a);
    return opened<T>(v.gate_activation, a).value;
  }
  PYRNN_INLINE Vec<T> candidate(Vec<T> a) const { return output(clipped(a)); }
  PYRNN_INLINE Vec<T> output(Vec<T> c) const {
    if (v.activation.kind == ActivationKind::tanh) return tanh<T>(c);
    return opened<T>(v.activation, c).value;
  }
  PYRNN_INLINE Vec<T> taped(Vec<T> a, Vec<T> value) const { return v.tapes_sums ? a : value; }

  // Those of the plain cells without the way through a function.
  static PYRNN_INLINE Opened<T> common(const Activation<T>& f, Vec<T> x) {
    if (f.kind == ActivationKind::tanh) {
      const Vec<T> y = tanh<T>(x);
      return {y, tanh_slope<T>(y)};
    }
    if (f.kind == ActivationKind::sigmoid) {
      const Vec<T> y = sigmoid<T>(x);
      return {y, sigmoid_slope<T>(y)};
    }
    return opened<T>(f, x);
  }
  PYRNN_INLINE Opened<T> open_sum(const Activation<T>& f, Vec<T> a) const {
    Opened<T> y = common(f, clipped(a));
    if (v.clip > 0) y.slope = select<T>(absolute<T>(a) > splat(v.clip), Vec<T>{}, y.slope);
    return y;
  }
  PYRNN_INLINE Opened<T> open_gate(Vec<T> taped) const {
    if (v.tapes_sums) return open_sum(v.gate_activation, taped);
    return {taped, sigmoid_slope<T>(taped)};
  }
  PYRNN_INLINE Opened<T> open_candidate(Vec<T> taped) const {
    if (v.tapes_sums) return open_sum(v.activation, taped);
    if (v.activation.kind == ActivationKind::relu) {
      return {taped, select<T>(taped > Vec<T>{}, splat(T(1)), Vec<T>{})};
    }
    return {taped, tanh_slope<T>(taped)};
  }
  PYRNN_INLINE Vec<T> through_candidate(Vec<T> taped, Vec<T> d) const {
    return d * open_candidate(taped).slope;
  }
  PYRNN_INLINE Opened<T> open_output(Vec<T> c) const { return common(v.activation, c); }

  // Gain and bias of the layer norm of c~.
  template <class At>
  PYRNN_INLINE Vec<T> scaled_cell(const At& at, Vec<T> x) const {
    return at.load(v.ln_c_weight) * x + at.load(v.ln_c_bias);
  }
  PYRNN_INLINE Vec<T> clip_cell(Vec<T> c) const {
    return v.cell_clip > 0 ? clamped<T>(c, v.cell_clip) : c;
  }
  // The gradient of a cell that clip_cell was given `c` for.
  PYRNN_INLINE Vec<T> through_clip(Vec<T> c, Vec<T> d) const {
    if (!(v.cell_clip > 0)) return d;
    return select<T>(absolute<T>(c) > splat(v.cell_clip), Vec<T>{}, d);
  }

  // What zoneout keeps of both states before, out of one draw: 0 or 1, or the expectation.
  template <class At>
  PYRNN_INLINE Kept<T> kept_of_both(const At& at, const RowKey& key) const {
    if (!(v.zoneout_h > 0 || v.zoneout_c > 0)) return {Vec<T>{}, Vec<T>{}};
    if (!v.draws) return {splat(T(v.zoneout_h)), splat(T(v.zoneout_c))};
    const auto words = draw<T>(key, at, 0);
    const Vec<T> one = splat(T(1));
    return {select<T>(falls_within<T>(words.first, v.zoneout_h), one, Vec<T>{}),
            select<T>(falls_within<T>(words.second, v.zoneout_c), one, Vec<T>{})};
  }
  template <class At>
  PYRNN_INLINE Vec<T> kept_of_h(const At& at, const RowKey& key) const {
    return kept_of_both(at, key).h;
  }
  PYRNN_INLINE Vec<T> blend(Vec<T> kept, Vec<T> before, Vec<T> fresh) const {
    const Vec<T> one = splat(T(1));
    // What is dropped for certain may be infinite.
    const Vec<T> mixed = kept * before + rounded((one - kept) * fresh);
    return select<T>(kept == one, before, select<T>(kept == Vec<T>{}, fresh, mixed));
  }
  // c_t from the c~ that the output takes.
  template <class At>
  PYRNN_INLINE Vec<T> settle_cell(const At& at, const StepRow<T>& row, Vec<T> fresh, Vec<T> c_prev,
                                  T* kept_h) const {
    if (!(v.zoneout_h > 0 || v.zoneout_c > 0)) return fresh;
    const Kept<T> kept = kept_of_both(at, row.key);
    if (kept_h != nullptr) at.store(kept_h, kept.h);
    return blend(kept.c, c_prev, fresh);
  }
  // h_t from h~, to wherever it is read.
  template <bool tapes_h, class At>
  PYRNN_INLINE void settle(const At& at, const StepRow<T>& row, Vec<T> h,
                           const T* kept_h = nullptr) const {
    if (v.zoneout_h > 0) {
      const Vec<T> kept = kept_h == nullptr ? kept_of_h(at, row.key) : at.load(kept_h);
      h = blend(kept, at.load(row.h_prev), h);
    }
    at.store(row.h, h);
    if (row.tape_h != nullptr) at.store(row.tape_h, h);
    if (row.masked_h != nullptr) at.store(row.masked_h, masked(at, row.mask, h));
  }
  // u, for the projection or as h~.
  template <class At>
  PYRNN_INLINE void hand_on(const At& at, const StepRow<T>& row, Vec<T> u, const T* kept_h) const {
    if (row.u != nullptr) {
      at.store(row.u, u);
    } else {
      settle<false>(at, row, u, kept_h);
    }
  }
  template <class At>
  PYRNN_INLINE Unsettled<T> unsettle(const At& at, const GradRow<T>& row) const {
    return unsettle(at, row, kept_of_h(at, row.key));
  }
  template <class At>
  PYRNN_INLINE Unsettled<T> unsettle(const At& at, const GradRow<T>& row, Vec<T> k) const {
    Vec<T> dh = at.load(row.dh);
    if (row.mask != nullptr) dh += masked(at, row.mask, at.load(row.d_masked));
    if (row.dy != nullptr) dh += at.load(row.dy);
    if (!(v.zoneout_h > 0)) return {dh, Vec<T>{}};
    return {(splat(T(1)) - k) * dh, k * dh};
  }
  template <class At>
  PYRNN_INLINE Vec<T> take_back(const At& at, const GradRow<T>& row, const Kept<T>& kept) const {
    if (row.du != nullptr) return at.load(row.du);
    const Unsettled<T> d = unsettle(at, row, kept.h);
    at.store(row.dh, d.kept);
    return d.fresh;
  }
  template <class At>
  PYRNN_INLINE Unsettled<T> unsettle_cell(const At& at, const GradRow<T>& row,
                                          const Kept<T>& kept) const {
    Vec<T> dc = at.load(row.dc);
    if (row.dcells != nullptr) dc += at.load(row.dcells);
    if (!(v.zoneout_c > 0)) return {dc, Vec<T>{}};
    return {(splat(T(1)) - kept.c) * dc, kept.c * dc};
  }
  PYRNN_INLINE Vec<T> with_kept(Vec<T> d, Vec<T> kept) const { return d + kept; }
  // h as W_hh sees it.
  template <class At>
  PYRNN_INLINE Vec<T> masked(const At& at, const T* mask, Vec<T> h) const {
    if (mask == nullptr) return h;
    const Vec<T> m = at.load(mask);
    return select<T>(m == Vec<T>{}, Vec<T>{}, m * h);  // a dropped infinity is 0
  }
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
