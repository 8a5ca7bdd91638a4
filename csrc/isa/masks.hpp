// Recurrent dropout (Gal & Ghahramani 2016): one mask a sequence on what W_hh multiplies,
// 0 with the probability p, else 1 / (1 - p).
#pragma once

#include "scan.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

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
    const double p = in.variant.recurrent_dropout;
    const T scale = p < 1 ? T(1 / (1 - p)) : T(0);
    for (Index row = rows.first; row < rows.last; ++row) {
      const RowKey key = row_key(in.variant.key, whole_sequence, row);
      for_lanes<T>(0, in.P, [&](const auto& at) {
        const IntVec<T> drops = falls_within<T>(draw<T>(key, at, 1).first, p);
        at.store(values + row * in.P, select<T>(drops, Vec<T>{}, splat(scale)));
      });
    }
  }
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
