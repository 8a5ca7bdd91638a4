// What a cell's pointwise code asks a rule for: activations, peepholes, clips and masks. `Plain` is the cell
// without any of them, at no cost; `Chosen` reads them out of a Variant, with branches that go the same way
// all through a call, or without, where a variant has one feature alone. Each cell is written once, against
// either.
#pragma once

#include "activation.hpp"
#include "row.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// The gradient of a state, of which zoneout kept a part: of the fresh value, and of the state before.
template <class T>
struct Unsettled {
  Vec<T> fresh, kept;
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
  PYRNN_INLINE Vec<T> taped_gate(Vec<T>, Vec<T> value) const { return value; }
  PYRNN_INLINE Vec<T> taped_candidate(Vec<T>, Vec<T> value) const { return value; }

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

  static constexpr bool zones_c() { return false; }
  PYRNN_INLINE Vec<T> clip_cell(Vec<T> c) const { return c; }
  PYRNN_INLINE Vec<T> through_clip(Vec<T>, Vec<T> d) const { return d; }
  template <class At>
  PYRNN_INLINE Vec<T> settle_cell(const At&, const StepRow<T>&, Vec<T> fresh, Vec<T>) const {
    return fresh;
  }
  template <bool tapes_h, class At>
  PYRNN_INLINE void settle(const At& at, const StepRow<T>& row, Vec<T> h) const {
    at.store(row.h, h);
    if constexpr (tapes_h) at.store(row.tape_h, h);
  }
  template <class At>
  PYRNN_INLINE void hand_on(const At& at, const StepRow<T>& row, Vec<T> u) const {
    at.store(row.u, u);
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
  PYRNN_INLINE Vec<T> take_back(const At& at, const GradRow<T>& row) const {
    const Vec<T> d = unsettle(at, row).fresh;
    at.store(row.dh, Vec<T>{});
    return d;
  }
  template <class At>
  PYRNN_INLINE Unsettled<T> unsettle_cell(const At& at, const GradRow<T>& row) const {
    return {at.load(row.dc), Vec<T>{}};
  }
  PYRNN_INLINE Vec<T> with_kept(Vec<T> d, Vec<T>) const { return d; }
  // What is left of u for the weights' gradients.
  template <class At>
  PYRNN_INLINE Vec<T> left(const At&, const GradRow<T>&, Vec<T> u) const {
    return u;
  }
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
                            zoneout = 32, mask = 64, projection = 128, full_peephole = 256,
                            every = 511;
  // What needs no call of a function and nothing of other units.
  static constexpr unsigned simple =
      clip | cell_clip | peephole | zoneout | mask | projection | full_peephole;

  template <class T>
  static unsigned of(const Variant<T>& v) {
    return (v.tapes_sums ? activations : 0) | (v.clip > 0 ? clip : 0) |
           (v.cell_clip > 0 ? cell_clip : 0) | (v.peephole != nullptr ? peephole : 0) |
           (v.ln_c_weight != nullptr ? norm : 0) |
           (v.zoneout_h > 0 || v.zoneout_c > 0 ? zoneout : 0) |
           (v.recurrent_dropout > 0 ? mask : 0) | (v.w_hr != nullptr ? projection : 0) |
           (v.full_peephole != nullptr ? full_peephole : 0);
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
  PYRNN_INLINE bool zones_h() const {
    return (features & Features::zoneout) != 0 && v.zoneout_h > 0;
  }
  PYRNN_INLINE bool zones_c() const {
    return (features & Features::zoneout) != 0 && v.zoneout_c > 0;
  }
  PYRNN_INLINE bool tapes_sums() const {
    return (features & Features::activations) != 0 && v.tapes_sums;
  }
  static PYRNN_INLINE bool masks(const T* mask) {
    return (features & Features::mask) != 0 && mask != nullptr;
  }
  // Whether a projection stands between u and h.
  static PYRNN_INLINE bool projects(const StepRow<T>& row) {
    return (features & Features::projection) != 0 && row.u != row.h;
  }
  static PYRNN_INLINE bool projects(const GradRow<T>& row) {
    return (features & Features::projection) != 0 && row.du != nullptr;
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
  // Where the tape holds values, those whose sum was clipped are marked: a gate is not below 0, and a
  // candidate not above 1.
  PYRNN_INLINE IntVec<T> beyond(Vec<T> a) const { return absolute<T>(a) > splat(v.clip); }
  PYRNN_INLINE Vec<T> taped_gate(Vec<T> a, Vec<T> value) const {
    if (tapes_sums()) return a;
    return clips() ? select<T>(beyond(a), -value, value) : value;
  }
  PYRNN_INLINE Vec<T> taped_candidate(Vec<T> a, Vec<T> value) const {
    if (tapes_sums()) return a;
    return clips() ? select<T>(beyond(a), splat(T(clip_mark)) * value, value) : value;
  }

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
    if (clips()) y.slope = select<T>(beyond(a), Vec<T>{}, y.slope);
    return y;
  }
  PYRNN_INLINE Opened<T> open_gate(Vec<T> taped) const {
    if (tapes_sums()) return open_sum<ActivationKind::sigmoid>(v.gate_activation, taped);
    if (!clips()) return {taped, sigmoid_slope<T>(taped)};
    const Vec<T> value = absolute<T>(taped);
    return {value, select<T>(taped < Vec<T>{}, Vec<T>{}, sigmoid_slope<T>(value))};
  }
  PYRNN_INLINE Opened<T> open_candidate(Vec<T> taped) const {
    if (tapes_sums()) return open_sum<ActivationKind::tanh>(v.activation, taped);
    if ((features & Features::activations) != 0 && v.activation.kind == ActivationKind::relu) {
      return {taped, select<T>(taped > Vec<T>{}, splat(T(1)), Vec<T>{})};
    }
    if (!clips()) return {taped, tanh_slope<T>(taped)};
    const IntVec<T> marked = absolute<T>(taped) > splat(T(1));
    const Vec<T> value = select<T>(marked, splat(T(1 / clip_mark)) * taped, taped);
    return {value, select<T>(marked, Vec<T>{}, tanh_slope<T>(value))};
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

  // Zoneout keeps the state before of some units (`drawn`, of one row), or the expectation of that. What is
  // dropped for certain may be infinite.
  template <class At>
  static PYRNN_INLINE Vec<T> blend(const At& at, const T* drawn, double probability, Vec<T> before,
                                   Vec<T> fresh) {
    if (drawn != nullptr) return select<T>(at.load(drawn) > Vec<T>{}, before, fresh);
    const T kept = T(probability);
    if (kept == 1) return before;
    if (kept == 0) return fresh;
    return kept * before + rounded((splat(T(1)) - kept) * fresh);
  }
  template <class At>
  static PYRNN_INLINE Unsettled<T> divide(const At& at, const T* drawn, double probability,
                                          Vec<T> d) {
    const T kept = T(probability);
    if (drawn == nullptr && kept != 1) return {(splat(T(1)) - kept) * d, kept * d};
    const IntVec<T> before = drawn == nullptr ? ~IntVec<T>{} : IntVec<T>(at.load(drawn) > Vec<T>{});
    return {select<T>(before, Vec<T>{}, d), select<T>(before, d, Vec<T>{})};
  }
  // c_t from the c~ that the output takes.
  template <class At>
  PYRNN_INLINE Vec<T> settle_cell(const At& at, const StepRow<T>& row, Vec<T> fresh,
                                  Vec<T> c_prev) const {
    if (!zones_c()) return fresh;
    return blend(at, row.kept_c, v.zoneout_c, c_prev, fresh);
  }
  // h_t from h~, to wherever it is read.
  template <bool tapes_h, class At>
  PYRNN_INLINE void settle(const At& at, const StepRow<T>& row, Vec<T> h) const {
    if (zones_h()) h = blend(at, row.kept_h, v.zoneout_h, at.load(row.h_prev), h);
    at.store(row.h, h);
    if (row.tape_h != nullptr) at.store(row.tape_h, h);
    if (masks(row.masked_h)) at.store(row.masked_h, masked(at, row.mask, h));
  }
  // u, for the projection or as h~.
  template <class At>
  PYRNN_INLINE void hand_on(const At& at, const StepRow<T>& row, Vec<T> u) const {
    if (projects(row)) {
      at.store(row.u, u);
    } else {
      settle<false>(at, row, u);
    }
  }
  template <class At>
  PYRNN_INLINE Unsettled<T> unsettle(const At& at, const GradRow<T>& row) const {
    Vec<T> dh = at.load(row.dh);
    if (masks(row.mask)) dh += masked(at, row.mask, at.load(row.d_masked));
    if (row.dy != nullptr) dh += at.load(row.dy);
    if (!zones_h()) return {dh, Vec<T>{}};
    return divide(at, row.kept_h, v.zoneout_h, dh);
  }
  template <class At>
  PYRNN_INLINE Vec<T> take_back(const At& at, const GradRow<T>& row) const {
    if (projects(row)) return at.load(row.du);
    const Unsettled<T> d = unsettle(at, row);
    at.store(row.dh, d.kept);
    return d.fresh;
  }
  template <class At>
  PYRNN_INLINE Unsettled<T> unsettle_cell(const At& at, const GradRow<T>& row) const {
    Vec<T> dc = at.load(row.dc);
    if (row.dcells != nullptr) dc += at.load(row.dcells);
    if (!zones_c()) return {dc, Vec<T>{}};
    return divide(at, row.kept_c, v.zoneout_c, dc);
  }
  PYRNN_INLINE Vec<T> with_kept(Vec<T> d, Vec<T> kept) const {
    return (features & Features::zoneout) != 0 ? d + kept : d;
  }
  template <class At>
  PYRNN_INLINE Vec<T> left(const At& at, const GradRow<T>& row, Vec<T> u) const {
    if (projects(row)) return u;
    return masked(at, row.mask, zones_h() ? at.load(row.h) : u);
  }
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
