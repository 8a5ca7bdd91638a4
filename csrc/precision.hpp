// Matrices of reduced precision, and the functions over them that the scans call: those are few and long, so
// that a scan is compiled once for all precisions, and a processor with instructions for one of them
// shares all but these functions with a processor without.
#pragma once

#include "shapes.hpp"

namespace pyrnn {

// Holds values of neighbouring k: two of bfloat16, four of int8.
using Word = std::int32_t;

struct Precision;

// W^T, W [groups * columns, depth], packed: isa/reduced.hpp.
struct ReducedMatrix {
  Word* data;
  Index depth;    // K
  Index columns;  // of one block
  int groups;
  Index start[4];  // column of C where the panels of a block start,
  Index step;      // and from one of them to the next
  bool padded;     // whether C has room for whole panels
  const Precision* precision;
};

// Rows of A, prepared, and of C.
struct ReducedRows {
  const Word* a;  // [rows, stride]
  Index stride;   // operand_words
  float* const* c;
  bool as_floats = false;  // whether Precision::as_floats said so
};

struct Precision {
  const char* name;  // "bfloat16", ...
  Index max_depth;   // above, sums could overflow
  int speed;         // weights that are read, or multiplied, in the time of one float32
  // Words that the packed matrix takes, and a row of A that is prepared for the product.
  Index (*size)(const ReducedMatrix& b);
  Index (*operand_words)(Index depth);
  // a [depth] into operand [operand_words].
  void (*prepare)(const float* a, Index depth, Word* operand);
  // Of prepared rows, whether the product should take them in another form, which this function leaves beside them, with the
  // same bits. Null where there is none.
  bool (*as_floats)(const ReducedMatrix& b, Index count, Word* rows, Index stride);
  // Panels [first, last) of w [groups * columns, depth].
  void (*pack)(const ReducedMatrix& b, const float* w, Index first, Index last);
  // A w that packs to the same panels: the rounded one.
  void (*unpack)(const ReducedMatrix& b, float* w);
  // sums = base + row k of W^T, in the columns of those panels: the product with a one-hot vector.
  void (*add_line)(const ReducedMatrix& b, Index first, Index last, Index k, const float* base,
                   float* sums);
  // C = base + A W^T for `count` rows and panels [first, last). The base is one row for all or, where that
  // is null, C itself.
  void (*multiply)(Index count, const ReducedRows& rows, const ReducedMatrix& b, Index first,
                   Index last, const float* base_row);
  // C = base row + X W_ih^T + H W_hh^T, with the bits of one after the other, or null. Panels are whole units; C's rows
  // are those of `x`.
  void (*multiply_both)(Index count, const ReducedRows& x, const ReducedMatrix& w_ih,
                        const ReducedRows& h, const ReducedMatrix& w_hh, Index first, Index last,
                        const float* base_row);
  // What each thread calls after its last product, or null.
  void (*leave)();
};

}  // namespace pyrnn
