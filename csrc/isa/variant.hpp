// What a cell's pointwise code asks a rule for: activations, peepholes, clips and masks. `Plain` is the cell
// without any of them, at no cost; `Chosen` reads them out of a Variant, with branches that go the same way
// all through a call, or without, where a variant has one feature alone. Each cell is written once, against
// either.
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

// What a variant may have beyond the plain cell; `every` asks for all of it in each call.
struct Features {
  static constexpr unsigned activations = 1, clip = 2, cell_clip = 4, peephole = 8, norm = 16,
                            zoneout = 32, mask = 64, matrices = 128, every = 255;

  template <class T>
  static unsigned of(const Variant<T>& v) {
    const bool usual = v.activation.kind == ActivationKind::tanh &&
                       v.gate_activation.kind == ActivationKind::sigmoid;
    return (usual ? 0 : activations) | (v.clip > 0 ? clip : 0) | (v.cell_clip > 0 ? cell_clip : 0) |
           (v.peephole != nullptr ? peephole : 0) | (v.ln_c_weight != nullptr ? norm : 0) |
           (v.zoneout_h > 0 || v.zoneout_c > 0 ? zoneout : 0) |
           (v.recurrent_dropout > 0 ? mask : 0) |
           (v.w_hr != nullptr || v.full_peephole != nullptr ? matrices : 0);
  }
};

// A variant that has some of `features`; a single one is there for certain.
template <class T, unsigned features = Features::every>
struct Chosen {
  static constexpr bool plain = false;
  const Variant<T>& v;
  const bool norms_cell;
  PYRNN_INLINE explicit Chosen(const Variant<T>& variant)
      : v(variant), norms_cell(has<Features::norm>(variant.ln_c_weight != nullptr)) {}

  template <unsigned feature>
  static PYRNN_INLINE bool has(bool given) {
    if constexpr (features == feature) return true;
    return (features & feature) != 0 && given;
  }
  PYRNN_INLINE bool peeps() const { return has<Features::peephole>(v.peephole != nullptr); }
  PYRNN_INLINE bool clips() const { return has<Features::clip>(v.clip > 0); }
  PYRNN_INLINE bool clips_cell() const { return has<Features::cell_clip>(v.cell_clip > 0); }
  PYRNN_INLINE bool zones() const {
    return has<Features::zoneout>(v.zoneout_h > 0 || v.zoneout_c > 0);
  }
  PYRNN_INLINE bool tapes_sums() const {
    return clips() || ((features & Features::activations) != 0 && v.tapes_sums);
  }
  static PYRNN_INLINE bool masks(const T* mask) {
    return (features & Features::mask) != 0 && mask != nullptr;
  }
  // Whether a projection stands between u and h.
  static PYRNN_INLINE bool multiplies(const T* u) {
    return (features & Features::matrices) != 0 && u != nullptr;
  }
  // Whether a function is the one that comes with a cell.
  static PYRNN_INLINE bool is(const Activation<T>& f, ActivationKind kind) {
    return (features & Features::activations) == 0 || f.kind == kind;
  }

  template <class At>
  PYRNN_INLINE Vec<T> with_peephole(const At& at, Index H, int k, Vec<T> a, Vec<T> c) const {
    return peeps() ? a + at.load(v.peephole + k * H) * c : a;
  }
  PYRNN_INLINE Vec<T> clipped(Vec<T> a) const { return clips() ? clamped<T>(a, v.clip) : a; }
  PYRNN_INLINE Vec<T> gate(Vec<T> a) const {
    a = clipped(a);
    if (is(v.gate_activation, ActivationKind::sigmoid)) return sigmoid<T>(a);
    return opened<T>(v.gate_activation, a).value;
  }
  PYRNN_INLINE Vec<T> candidate(Vec<T> a) const { return output(clipped(a)); }
  PYRNN_INLINE Vec<T> output(Vec<T> c) const {
    if (is(v.activation, ActivationKind::tanh)) return tanh<T>(c);
    return opened<T>(v.activation, c).value;
  }
  PYRNN_INLINE Vec<T> taped(Vec<T> a, Vec<T> value) const { return tapes_sums() ? a : value; }

  // Those of the plain cells without the way through a function.
  template <ActivationKind usual>
  static PYRNN_INLINE Opened<T> common(const Activation<T>& f, Vec<T> x) {
    constexpr bool others = (features & Features::activations) != 0;
    const ActivationKind kind = others ? f.kind : usual;
    if (kind == ActivationKind::tanh) {
      const Vec<T> y = tanh<T>(x);
      return {y, tanh_slope<T>(y)};
    }
    if (kind == ActivationKind::sigmoid) {
      const Vec<T> y = sigmoid<T>(x);
      return {y, sigmoid_slope<T>(y)};
    }
    return opened<T>(f, x);
  }
  template <ActivationKind usual>
  PYRNN_INLINE Opened<T> open_sum(const Activation<T>& f, Vec<T> a) const {
    Opened<T> y = common<usual>(f, clipped(a));
    if (clips()) y.slope = select<T>(absolute<T>(a) > splat(v.clip), Vec<T>{}, y.slope);
    return y;
  }
  PYRNN_INLINE Opened<T> open_gate(Vec<T> taped) const {
    if (tapes_sums()) return open_sum<ActivationKind::sigmoid>(v.gate_activation, taped);
    return {taped, sigmoid_slope<T>(taped)};
  }
  PYRNN_INLINE Opened<T> open_candidate(Vec<T> taped) const {
    if (tapes_sums()) return open_sum<ActivationKind::tanh>(v.activation, taped);
    if (!is(v.activation, ActivationKind::tanh) && v.activation.kind == ActivationKind::relu) {
      return {taped, select<T>(taped > Vec<T>{}, splat(T(1)), Vec<T>{})};
    }
    return {taped, tanh_slope<T>(taped)};
  }
  PYRNN_INLINE Vec<T> through_candidate(Vec<T> taped, Vec<T> d) const {
    return d * open_candidate(taped).slope;
  }
  PYRNN_INLINE Opened<T> open_output(Vec<T> c) const {
    return common<ActivationKind::tanh>(v.activation, c);
  }

  // Gain and bias of the layer norm of c~.
  template <class At>
  PYRNN_INLINE Vec<T> scaled_cell(const At& at, Vec<T> x) const {
    return at.load(v.ln_c_weight) * x + at.load(v.ln_c_bias);
  }
  PYRNN_INLINE Vec<T> clip_cell(Vec<T> c) const {
    return clips_cell() ? clamped<T>(c, v.cell_clip) : c;
  }
  // The gradient of a cell that clip_cell was given `c` for.
  PYRNN_INLINE Vec<T> through_clip(Vec<T> c, Vec<T> d) const {
    if (!clips_cell()) return d;
    return select<T>(absolute<T>(c) > splat(v.cell_clip), Vec<T>{}, d);
  }

  // What zoneout keeps of both states before, out of one draw: 0 or 1, or the expectation.
  template <class At>
  PYRNN_INLINE Kept<T> kept_of_both(const At& at, const RowKey& key) const {
    if (!zones()) return {Vec<T>{}, Vec<T>{}};
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
    if (!zones()) return fresh;
    const Kept<T> kept = kept_of_both(at, row.key);
    if (kept_h != nullptr) at.store(kept_h, kept.h);
    return blend(kept.c, c_prev, fresh);
  }
  // h_t from h~, to wherever it is read.
  template <bool tapes_h, class At>
  PYRNN_INLINE void settle(const At& at, const StepRow<T>& row, Vec<T> h,
                           const T* kept_h = nullptr) const {
    if (zones() && v.zoneout_h > 0) {
      const Vec<T> kept = kept_h == nullptr ? kept_of_h(at, row.key) : at.load(kept_h);
      h = blend(kept, at.load(row.h_prev), h);
    }
    at.store(row.h, h);
    if (row.tape_h != nullptr) at.store(row.tape_h, h);
    if (masks(row.masked_h)) at.store(row.masked_h, masked(at, row.mask, h));
  }
  // u, for the projection or as h~.
  template <class At>
  PYRNN_INLINE void hand_on(const At& at, const StepRow<T>& row, Vec<T> u, const T* kept_h) const {
    if (multiplies(row.u)) {
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
    if (masks(row.mask)) dh += masked(at, row.mask, at.load(row.d_masked));
    if (row.dy != nullptr) dh += at.load(row.dy);
    if (!(zones() && v.zoneout_h > 0)) return {dh, Vec<T>{}};
    return {(splat(T(1)) - k) * dh, k * dh};
  }
  template <class At>
  PYRNN_INLINE Vec<T> take_back(const At& at, const GradRow<T>& row, const Kept<T>& kept) const {
    if (multiplies(row.du)) return at.load(row.du);
    const Unsettled<T> d = unsettle(at, row, kept.h);
    at.store(row.dh, d.kept);
    return d.fresh;
  }
  template <class At>
  PYRNN_INLINE Unsettled<T> unsettle_cell(const At& at, const GradRow<T>& row,
                                          const Kept<T>& kept) const {
    Vec<T> dc = at.load(row.dc);
    if (row.dcells != nullptr) dc += at.load(row.dcells);
    if (!(zones() && v.zoneout_c > 0)) return {dc, Vec<T>{}};
    return {(splat(T(1)) - kept.c) * dc, kept.c * dc};
  }
  PYRNN_INLINE Vec<T> with_kept(Vec<T> d, Vec<T> kept) const { return zones() ? d + kept : d; }
  // h as W_hh sees it.
  template <class At>
  PYRNN_INLINE Vec<T> masked(const At& at, const T* mask, Vec<T> h) const {
    if (!masks(mask)) return h;
    const Vec<T> m = at.load(mask);
    return select<T>(m == Vec<T>{}, Vec<T>{}, m * h);  // a dropped infinity is 0
  }
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
