// The legend of every kernel, and the plain structs that cross into them.
//
//   T seq_len   B batch_size   I input_size   H hidden_size
//   G gates of the parameters (Elman 1, GRU 3, LSTM 4)
//   C blocks of H columns in a row of gates (G, but 4 for the reset-after GRU: r, z, n, W_hn h + b_hn)
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyrnn {

using Index = std::ptrdiff_t;

struct Shape {
  Index T, B, I, H;
};

template <class T>
struct Params {
  const T* w_ih;  // [G*H, I]
  const T* w_hh;  // [G*H, H]
  const T* b_ih;  // [G*H] or null
  const T* b_hh;  // [G*H] or null
};

// What forward and backward both read.
template <class T>
struct Inputs {
  Shape shape;
  const T* x;                   // [T, B, I], null for tokens
  const std::int64_t* tokens;   // [T, B] or null
  const T* h0;                  // [B, H]
  const T* c0;                  // [B, H], LSTM only
  const std::int64_t* lengths;  // [B] or null
  const Index* order;           // [B] rows by falling length, null without lengths
  Params<T> params;
  bool reverse;
};

// What forward saves for backward.
template <class T>
struct Tape {
  T* gates;  // [T, B, C*H] after their activation
  T* h;      // [T, B, H], GRU only
  T* c;      // [T, B, H], LSTM only
};

template <class T>
struct Forward {
  Inputs<T> in;
  bool save;  // whether there is a tape
  Tape<T> tape;
  T* y;    // [T, B, H]
  T* h_n;  // [B, H]
  T* c_n;  // [B, H], LSTM only
};

template <class T>
struct Backward {
  Inputs<T> in;
  Tape<const T> tape;
  const T* dy;    // [T, B, H] or null for 0
  const T* dh_n;  // [B, H] or null for 0
  const T* dc_n;  // [B, H] or null for 0
  T* dx;          // [T, B, I], null for tokens
  T* dh0;         // [B, H]
  T* dc0;         // [B, H], LSTM only
  T* dw_ih;       // [G*H, I]
  T* dw_hh;       // [G*H, H]
  T* db_ih;       // [G*H] or null
  T* db_hh;       // [G*H] or null
  // dw and db go on from what they hold: this call is a chunk of a longer pass.
  bool accumulate;
};

// y = x W^T + b, on N rows.
template <class T>
struct Linear {
  Index rows, in_features, out_features;
  const T* x;       // [N, in]
  const T* weight;  // [out, in]
  const T* bias;    // [out] or null; forward only
  T* y;             // [N, out]; forward only
  const T* dy;      // [N, out]; backward only
  T* dx;            // [N, in]; backward only
  T* dweight;       // [out, in]; backward only
  T* dbias;         // [out] or null; backward only
};

}  // namespace pyrnn
