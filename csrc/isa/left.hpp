// What the walk back leaves for the gradients of weights. The pointwise part of an LSTM has h_t at hand (with
// zoneout it reads the tape's), which dW_hh would have to make again: it writes it into the packed operand of the
// block, a line for each (step, row) pair in the order of the walk. With a projection it is u_t, for dW_hr.
#pragma once

#include "gemm.hpp"
#include "row.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class T>
class Left {
 public:
  Left() = default;
  // `by_next`: W_hh multiplies h_t at the step computed after t, W_hr u_t at its own.
  Left(const Panels<T>& operand, bool by_next) : operand_(operand), by_next_(by_next) {}

  // Row i of the order; nothing where the next step is not of the block.
  PYRNN_INLINE void enter(GradRow<T>& row, Index i) const {
    if (operand_.data == nullptr || (by_next_ && i >= own_ - next_)) return;
    row.left = &operand_;
    row.line = (by_next_ ? next_ : own_) + i;
  }
  // The first line of a step.
  PYRNN_INLINE Index first_line() const { return own_; }
  // From a step, with so many rows alive, to the one computed before it.
  PYRNN_INLINE void step_back(Index alive) {
    next_ = own_;
    own_ += alive;
  }
  // Lines are padded to whole panels, of which a worker has some.
  void pad(Range panels) const {
    if (operand_.data == nullptr) return;
    const Index last = panels.last - 1, width = operand_.width(last);
    for (Index k = 0; width < panel_width<T> && k < operand_.depth; ++k) {
      fill(operand_.line(last, k), {width, panel_width<T>}, T(0));
    }
  }
  // Of W_hh, how many of the first lines are there, but for those of a row's first step.
  PYRNN_INLINE Index lines() const { return by_next_ ? next_ : 0; }

 private:
  Panels<T> operand_{};
  bool by_next_ = false;
  Index own_ = 0, next_ = 0;  // first lines of a step, and of the one computed after it
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
