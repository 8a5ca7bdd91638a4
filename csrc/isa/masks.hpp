// Dropout: 0 with the probability p, else 1 / (1 - p). Recurrent (Gal & Ghahramani 2016) there is one mask
// a sequence, on what W_hh multiplies; between layers each step has its own.
#pragma once

#include "random.hpp"
#include "scan.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// f(at, the mask of the units there), for one row; `purpose` as in draw().
template <class T, class F>
PYRNN_INLINE void for_dropped(const RowKey& key, std::uint32_t purpose, Index columns, double p,
                              F f) {
  const Vec<T> scale = splat(p < 1 ? T(1 / (1 - p)) : T(0));
  for_lanes<T>(0, columns, [&](const auto& at) {
    Words<WordVec<T>> words[1];
    draw<T>(key, at.unit, purpose, words);
    f(at, select<T>(falls_within<T>(words[0].first, p), Vec<T>{}, scale));
  });
}

// y = x ⊙ mask, [T, B, columns]: the dropout between layers.
template <class T>
void drop(const Dropout<T>& call) {
  const CallKey of_call = call_key(call.key);
  for (Index k = 0; k < call.steps * call.batch_size; ++k) {
    const RowKey key = row_key(of_call, k / call.batch_size, k % call.batch_size);
    const T* const x = call.x + k * call.columns;
    T* const y = call.y + k * call.columns;
    for_dropped<T>(key, 2, call.columns, call.probability,
                   [&](const auto& at, Vec<T> mask) { at.store(y, at.load(x) * mask); });
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

  void draw_rows(const Inputs<T>& in, Range rows) const {
    if (values == nullptr) return;
    // No step has this number.
    constexpr Index whole_sequence = 0xFFFFFFFF;
    const CallKey key = call_key(in.variant.key);
    for (Index row = rows.first; row < rows.last; ++row) {
      T* const to = values + row * in.P;
      for_dropped<T>(row_key(key, whole_sequence, row), 1, in.P, in.variant.recurrent_dropout,
                     [&](const auto& at, Vec<T> mask) { at.store(to, mask); });
    }
  }
};

// What zoneout keeps of the units of some panels at a step of a row, 1 or 0, by the first word of each unit
// of h and by the second of c; either may be null.
template <class T>
__attribute__((noinline)) void draw_kept(const RowKey& key, Range panels, const Variant<T>& variant,
                                         T* h, T* c) {
  constexpr Index W = panel_width<T>;
  const Vec<T> one = splat(T(1));
  const auto some = [&](auto vectors, Index unit) {
    constexpr int n = decltype(vectors)::value;
    Words<WordVec<T>> words[n];
    draw<T>(key, unit, 0, words);
#pragma GCC unroll 4
    for (int v = 0; v < n; ++v) {
      const Index at = unit + v * lanes<T>;
      const auto keep = [&](T* to, WordVec<T> word, double probability) {
        if (to != nullptr)
          store(to + at, select<T>(falls_within<T>(word, probability), one, Vec<T>{}));
      };
      keep(h, words[v].first, variant.zoneout_h);
      keep(c, words[v].second, variant.zoneout_c);
    }
  };
  constexpr int beside = 4;  // as many draws as hide each other's waits
  constexpr Index together = beside / panel_vectors;
  static_assert(together * panel_vectors == beside);
  Index p = panels.first;
  for (; p + together <= panels.last; p += together) {
    some(std::integral_constant<int, beside>(), p * W);
  }
  for (; p < panels.last; ++p) some(std::integral_constant<int, panel_vectors>(), p * W);
}

// Those of the rows of a step, [B, whole panels]; null where nothing is drawn.
template <class T>
struct ZoneoutMasks {
  T *h = nullptr, *c = nullptr;
  Index size_of_h = 0, size_of_c = 0;
  CallKey key{};

  void carve(const Inputs<T>& in, Carver& carver) {
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
  void draw(const Inputs<T>& in, const Places<T>& places, Index t, Range rows, Range h_panels,
            Range panels) const {
    if (h == nullptr && c == nullptr) return;
    for (Index i = rows.first; i < rows.last; ++i) {
      const Index row = places.rows.row(i);
      const RowKey of_row = row_key(key, in.first_step + t, row);
      if (size_of_h == size_of_c) {
        draw_kept(of_row, panels, in.variant, of_h(row), of_c(row));
      } else {
        if (h != nullptr) draw_kept<T>(of_row, h_panels, in.variant, of_h(row), nullptr);
        if (c != nullptr) draw_kept<T>(of_row, panels, in.variant, nullptr, of_c(row));
      }
    }
  }
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
