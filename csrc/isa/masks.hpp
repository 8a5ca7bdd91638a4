// Dropout: 0 with the probability p, else 1 / (1 - p). Recurrent (Gal & Ghahramani 2016) there is one mask
// a sequence, on what W_hh multiplies; between layers each step has its own.
#pragma once

#include "random.hpp"
#include "scan.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// f(at, the mask of the units there), for one row.
template <class T, class F>
PYRNN_INLINE void for_dropped(const StepKey& key, Index row, Index columns, double p, F f) {
  const Vec<T> scale = splat(p < 1 ? T(1 / (1 - p)) : T(0));
  for_lanes<T>(0, columns, [&](const auto& at) {
    Words<WordVec<T>> words[1];
    draw<T>(key, row, at.unit, words);
    f(at, select<T>(falls_within<T>(words[0].first, p), Vec<T>{}, scale));
  });
}

// y = x ⊙ mask, [T, B, columns]: the dropout between layers.
template <class T>
void drop(const Dropout<T>& call) {
  const CallKey of_call = call_key(call.key);
  const T* x = call.x;
  T* y = call.y;
  for (Index t = 0; t < call.steps; ++t) {
    const StepKey key = step_key(of_call, t, Use::between);
    for (Index row = 0; row < call.batch_size; ++row, x += call.columns, y += call.columns) {
      for_dropped<T>(key, row, call.columns, call.probability,
                     [&](const auto& at, Vec<T> mask) { at.store(y, at.load(x) * mask); });
    }
  }
}

template <class T>
struct RecurrentMask {
  T* values = nullptr;  // [B, P], null where nothing is dropped

  static bool needed(const Variant<T>& variant) {
    return variant.draws && variant.recurrent_dropout > 0;
  }
  void carve(const Inputs<T>& in, Carver& carver) {
    values = needed(in.variant) ? carver.take<T>(in.shape.B * in.P) : nullptr;
  }
  PYRNN_INLINE const T* row(Index row, Index P) const {
    return values == nullptr ? nullptr : values + row * P;
  }

  __attribute__((noinline)) void draw_rows(const Inputs<T>& in, Range rows) const {
    if (values == nullptr) return;
    // No step has this number.
    constexpr Index whole_sequence = 0xFFFFFFFF;
    const StepKey key = step_key(call_key(in.variant.key), whole_sequence, Use::recurrent);
    for (Index row = rows.first; row < rows.last; ++row) {
      T* const to = values + row * in.P;
      for_dropped<T>(key, row, in.P, in.variant.recurrent_dropout,
                     [&](const auto& at, Vec<T> mask) { at.store(to, mask); });
    }
  }
};

// What zoneout keeps of the units of some panels at a step of a row, 1 or 0: of h by the first word of a counter,
// of c by the second; either may be null. Two units share a counter, the even one has the lower halves of its
// words: so drawing costs half, and a probability counts in steps of 2^-16.
template <class T>
__attribute__((noinline)) void draw_kept(const StepKey& key, Index row, Range panels,
                                         const Variant<T>& variant, T* h, T* c) {
  const auto limit = [](double probability) {  // 2^16 too, which 32 bits hold
    using Word = typename IntOf<T>::type;
    return IntVec<T>{} + static_cast<Word>(probability * 0x1p16 + 0.5);
  };
  const IntVec<T> limit_h = limit(variant.zoneout_h), limit_c = limit(variant.zoneout_c);
  const Index end = panels.last * panel_width<T>;
  // Two draws hide each other's waits; what lies beyond the panels is drawn for nothing.
  constexpr int n = 2;
  for (Index unit = panels.first * panel_width<T>; unit < end; unit += 2 * n * lanes<T>) {
    Words<WordVec<T>> words[n];
    draw<T>(key, row, unit / 2, words);
    const auto keep = [&](T* to, Index first, WordVec<T> word, IntVec<T> limit) {
      if (to == nullptr) return;
      const auto kept = [&](WordVec<T> half) {
        return select<T>(bit_cast<IntVec<T>>(half) < limit, splat(T(1)), Vec<T>{});
      };
      Vec<T> even = kept(word & 0xFFFFu), odd = kept(word >> 16);
      interleave<T>(even, odd);
      if (first < end) store(to + first, even);
      if (first + lanes<T> < end) store(to + first + lanes<T>, odd);
    };
#pragma GCC unroll 2
    for (int v = 0; v < n; ++v) {
      const Index first = unit + 2 * v * lanes<T>;
      keep(h, first, words[v].first, limit_h);
      keep(c, first, words[v].second, limit_c);
    }
  }
}

// Those of the rows of a step, [B, whole panels]; null where nothing is drawn. Not inline: every scan has them,
// and few draw any.
template <class T>
struct ZoneoutMasks {
  T *h = nullptr, *c = nullptr;
  Index size_of_h = 0, size_of_c = 0;
  CallKey key{};

  __attribute__((noinline)) void carve(const Inputs<T>& in, Carver& carver) {
    const Variant<T>& variant = in.variant;
    if (!variant.draws) return;
    key = call_key(variant.key);
    size_of_h = panels_of<T>(in.P) * panel_width<T>;
    size_of_c = panels_of<T>(in.shape.H) * panel_width<T>;
    if (variant.zoneout_h > 0) h = carver.take<T>(in.shape.B * size_of_h);
    if (variant.zoneout_c > 0) c = carver.take<T>(in.shape.B * size_of_c);
  }
  PYRNN_INLINE T* of_h(Index row) const { return h == nullptr ? nullptr : h + row * size_of_h; }
  PYRNN_INLINE T* of_c(Index row) const { return c == nullptr ? nullptr : c + row * size_of_c; }

  // A worker's panels of its rows of step t.
  PYRNN_INLINE void draw(const Inputs<T>& in, const Places<T>& places, Index t, Range rows,
                         Range h_panels, Range panels) const {
    if (h != nullptr || c != nullptr) draw_step(in, places, t, rows, h_panels, panels);
  }

 private:
  __attribute__((noinline)) void draw_step(const Inputs<T>& in, const Places<T>& places, Index t,
                                           Range rows, Range h_panels, Range panels) const {
    const StepKey of_step = step_key(key, in.first_step + t, Use::zoneout);
    for (Index i = rows.first; i < rows.last; ++i) {
      const Index row = places.rows.row(i);
      if (size_of_h == size_of_c) {
        draw_kept(of_step, row, panels, in.variant, of_h(row), of_c(row));
      } else {
        if (h != nullptr) draw_kept<T>(of_step, row, h_panels, in.variant, of_h(row), nullptr);
        if (c != nullptr) draw_kept<T>(of_step, row, panels, in.variant, nullptr, of_c(row));
      }
    }
  }
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
