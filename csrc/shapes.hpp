// The legend of every kernel, and the plain structs that cross into them.
//
//   T seq_len   B batch_size   I input_size   H hidden_size
//   G gates of the parameters (Elman 1, GRU 3, LSTM 4)
//   C blocks of H columns in a row of gates (G, but 4 for the reset-after GRU: r, z, n, W_hn h + b_hn)
//   P columns of h (H, but proj_size with a projection)
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyrnn {

using Index = std::ptrdiff_t;

struct Shape {
  Index T, B, I, H;
};

struct Precision;  // precision.hpp

// ONNX's list of activations, in the order of pyrnn/variants.py.
enum class ActivationKind : int {
  tanh,
  sigmoid,
  relu,
  affine,
  leaky_relu,
  thresholded_relu,
  scaled_tanh,
  hard_sigmoid,
  elu,
  softsign,
  softplus,
  identity,
};

template <class T>
struct Activation {
  ActivationKind kind;
  T alpha, beta;
};

// What the tape multiplies the candidate's value by where its sum was clipped, and the least clip whose tanh
// that brings above 1.
constexpr double clip_mark = 0x1p64, least_marked_clip = 0x1p-60;

// What the masks of one layer in one direction are drawn from, beside steps, rows and units.
struct MaskKey {
  std::uint64_t seed = 0;
  std::uint32_t layer = 0, direction = 0;
};

// What makes a variant of a cell out of it: docs/equations.md. The arrays that are null are those that it
// does not have.
template <class T>
struct Variant {
  // Whether it is the plain cell, whose activation (of Elman: tanh or relu) is all that is read.
  bool plain = true;
  Activation<T> activation{ActivationKind::tanh, 0, 0};
  Activation<T> gate_activation{ActivationKind::sigmoid, 0, 0};
  T clip = 0;                        // of sums, before their activation; 0: none
  T cell_clip = 0;                   // of c; 0: none
  const T* peephole = nullptr;       // [3, H] rows i, f, o; coupled: [2, H] rows f, o
  const T* full_peephole = nullptr;  // [3, H, H], coupled: [2, H, H]
  const T* w_hr = nullptr;           // [P, H]
  const T* ln_ih_weight = nullptr;   // [G*H], and so are the next three
  const T* ln_ih_bias = nullptr;
  const T* ln_hh_weight = nullptr;
  const T* ln_hh_bias = nullptr;
  const T* ln_c_weight = nullptr;  // [H]
  const T* ln_c_bias = nullptr;    // [H]
  // Probabilities: to keep the state of the step before, to drop a unit of h_{t-1} for the whole sequence.
  // In double for every T, so that a mask does not depend on it.
  double zoneout_h = 0, zoneout_c = 0, recurrent_dropout = 0;
  // Whether the tape's gates are sums: where their slopes cannot be told from their values.
  bool tapes_sums = false;
  // The masks are drawn from the key; without draws, zoneout blends with its expectation and nothing is
  // dropped.
  bool draws = false;
  MaskKey key;
};

template <class T>
struct Params {
  const T* w_ih;  // [G*H, I]
  const T* w_hh;  // [G*H, P]
  const T* b_ih;  // [G*H] or null
  const T* b_hh;  // [G*H] or null
};

// What forward and backward both read.
template <class T>
struct Inputs {
  Shape shape;
  const T* x;                   // [T, B, I], null for tokens
  const std::int64_t* tokens;   // [T, B] or null
  const T* h0;                  // [B, P]
  const T* c0;                  // [B, H], LSTM only
  const std::int64_t* lengths;  // [B] or null
  const Index* order;           // [B] rows by falling length, null without lengths
  Params<T> params;
  bool reverse;
  Index P;  // H without a projection
  Index
      first_step;  // of the whole pass that this call is a chunk of; masks are drawn for its steps
  Variant<T> variant;
};

// What forward saves for backward.
template <class T>
struct Tape {
  T* gates;  // [T, B, C*H] after their activation, marked where clipped, or sums: variant.tapes_sums
  T* h;      // [T, B, P], GRU, and variants whose h_t the gates do not tell; else null
  T* c;      // [T, B, H], LSTM only
  // Layer norm, else null: the normalised W_ih x and W_hh h before gain and bias, and of both
  // 1 / sqrt(variance + eps).
  T* norm_ih;  // [T, B, G*H]
  T* norm_hh;  // [T, B, G*H]
  T* rstd;     // [T, B, 2]
};

template <class T>
struct Forward {
  Inputs<T> in;
  const void* packed;  // the weights as a frozen layer keeps them; null: packed from in.params
  void* keep;          // to here, in that form, for later calls; null: into scratch
  const Precision* precision;  // in which they are packed; null: T's
  bool save;                   // whether there is a tape
  Tape<T> tape;
  T* y;    // [T, B, P]
  T* h_n;  // [B, P]
  T* c_n;  // [B, H], LSTM only
};

// One layer's part of a step from packed weights.
template <class T>
struct Step {
  Index B, I, H, P;
  const void* packed;
  const Precision* precision;  // in which they are packed; null: T's
  const T* x;                  // [B, I], null for tokens
  const std::int64_t* tokens;  // [B] or null
  const T* h_prev;             // [B, P]
  const T* c_prev;             // [B, H], LSTM only
  T* h;                        // [B, P], not h_prev: other threads still read that
  T* c;                        // [B, H], LSTM only
  Variant<T> variant;
  // Walks the units backwards: in every other step, what is left in the nearest cache is used first.
  bool odd;
};

// Of the bits of arrays, one after the other: isa/fingerprint.hpp.
struct Fingerprint {
  std::uint64_t value[2] = {1, 1};

  bool operator==(const Fingerprint& other) const {
    return value[0] == other.value[0] && value[1] == other.value[1];
  }
};

// One layer's parameters, to be packed.
template <class T>
struct Part {
  Index I, H, P;
  Params<T> params;
  Variant<T> variant;
  const Precision* precision;  // null: T's
};

// Parameters as they come back out of their packed form, which has both biases summed.
template <class T>
struct Unpacked {
  T* w_ih;  // [G*H, I]
  T* w_hh;  // [G*H, P]
  T* b_ih;  // [G*H] the sum
  T* b_hh;  // [G*H] 0, but for a gate whose hidden side has a column of its own
};

template <class T>
struct Backward {
  Inputs<T> in;
  const void* packed;  // the weights as an earlier call packed them; null: packed from in.params
  void* keep;          // to here, for later calls; null: into scratch
  Tape<const T> tape;
  const T* dy;      // [T, B, P] or null for 0
  const T* dh_n;    // [B, P] or null for 0
  const T* dc_n;    // [B, H] or null for 0
  const T* dcells;  // [T, B, H] or null for 0; not null: the variant is not plain
  T* dx;            // [T, B, I], null for tokens
  T* dh0;           // [B, P]
  T* dc0;           // [B, H], LSTM only
  T* dw_ih;         // [G*H, I]
  T* dw_hh;         // [G*H, P]
  T* db_ih;         // [G*H] or null
  T* db_hh;         // [G*H] or null
  T* dpeephole;     // as variant.peephole, or null, and so are those below
  T* dfull_peephole;
  T* dw_hr;
  T *dln_ih_weight, *dln_ih_bias, *dln_hh_weight, *dln_hh_bias, *dln_c_weight, *dln_c_bias;
  // dw and db go on from what they hold: this call is a chunk of a longer pass.
  bool accumulate;
};

// y = x times a mask, between layers.
template <class T>
struct Dropout {
  Index steps, batch_size, columns;
  const T* x;  // [T, B, columns]
  T* y;        // the same, or x itself
  MaskKey key;
  double probability;
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

// C = base + x W^T, x and W rounded to a reduced precision.
struct ReducedProduct {
  const Precision* precision;
  Index rows, depth, columns;
  int groups;
  const float* x;         // [rows, depth]
  const float* w;         // [groups*columns, depth]
  const float* base_row;  // [groups*columns], or null: C itself is the base
  float* c;               // [rows, groups*columns]
};

}  // namespace pyrnn
