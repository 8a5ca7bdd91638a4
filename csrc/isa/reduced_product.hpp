// One product of reduced precision from float32 arrays, packed for the call: for the tests of the formats.
#pragma once

#include "operands.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

class ProductOf {
 public:
  static void run(const ReducedProduct& call, Team& team) {
    ProductOf product(call);
    Carver measure;
    product.carve(measure);
    Carver carver(Team::scratch(measure.used()));
    product.carve(carver);
    team.run(
        {Team::max_threads()},
        [](void* context, Worker& worker) { static_cast<ProductOf*>(context)->work(worker); },
        &product);
  }

 private:
  explicit ProductOf(const ReducedProduct& call) : call_(call) {}

  void carve(Carver& carver) {
    matrix_ = {nullptr, call_.depth,       call_.columns, call_.groups,
               {},      panel_width<Word>, false,         call_.precision};
    for (int g = 0; g < call_.groups; ++g) matrix_.start[g] = g * call_.columns;
    take_panels(matrix_, carver);
    operands_ = carver.take<Word>(Team::max_threads() * call_.rows * prepared_words(matrix_));
    a_ = carver.take<const float*>(call_.rows);
    c_ = carver.take<float*>(call_.rows);
  }

  void work(Worker& worker) const {
    multiply_all(worker);
    leave_products(call_.precision);
  }

  void multiply_all(Worker& worker) const {
    const Index panels = call_.groups * panels_of<Word>(call_.columns);
    const Range own = part(panels, worker.index, worker.count);
    pack_transposed(matrix_, call_.w, own.first, own.last);
    const Range rows = part(call_.rows, worker.index, worker.count);
    for (Index row = rows.first; row < rows.last; ++row) {
      a_[row] = call_.x + row * call_.depth;
      c_[row] = call_.c + row * call_.groups * call_.columns;
    }
    if (!worker.barrier()) return;
    Word* const operands = operands_ + worker.index * call_.rows * prepared_words(matrix_);
    multiply<Base::row>(call_.rows, prepared(matrix_, call_.rows, a_, c_, operands), matrix_,
                        own.first, own.last, call_.base_row);
  }

  const ReducedProduct& call_;
  ReducedMatrix matrix_{};
  Word* operands_ = nullptr;  // [threads, rows, operand_words]
  const float** a_ = nullptr;
  float** c_ = nullptr;
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
