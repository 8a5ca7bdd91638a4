// Dropout: 0 with the probability p, else 1 / (1 - p). Recurrent (Gal & Ghahramani 2016) there is one mask
// a sequence, on what W_hh multiplies; between layers each step has its own.
#pragma once

#include "scan.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// f(at, the mask of the units there), for one row; `purpose` as in draw().
template <class T, class F>
PYRNN_INLINE void for_dropped(const RowKey& key, std::uint32_t purpose, Index columns, double p,
                              F f) {
  const Vec<T> scale = splat(p < 1 ? T(1 / (1 - p)) : T(0));
  for_lanes<T>(0, columns, [&](const auto& at) {
    const IntVec<T> drops = falls_within<T>(draw<T>(key, at, purpose).first, p);
    f(at, select<T>(drops, Vec<T>{}, scale));
  });
}

// y = x ⊙ mask, [T, B, columns]: the dropout between layers.
template <class T>
void drop(const Dropout<T>& call) {
  for (Index k = 0; k < call.steps * call.batch_size; ++k) {
    const RowKey key = row_key(call.key, k / call.batch_size, k % call.batch_size);
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
    for (Index row = rows.first; row < rows.last; ++row) {
      T* const to = values + row * in.P;
      for_dropped<T>(row_key(in.variant.key, whole_sequence, row), 1, in.P,
                     in.variant.recurrent_dropout,
                     [&](const auto& at, Vec<T> mask) { at.store(to, mask); });
    }
  }
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
