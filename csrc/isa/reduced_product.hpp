// One product of reduced precision from float32 arrays, packed for the call: for the tests of the formats.
#pragma once

#include "bfloat16.hpp"
#include "int8.hpp"
#include "scan.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Format>
class ProductOf {
 public:
  static void run(const ReducedProduct& call, Team& team) {
    ProductOf product(call);
    Carver measure;
    product.carve(measure);
    Carver carver(Team::scratch(measure.used()));
    product.carve(carver);
    team.run(
        Team::max_threads(),
        [](void* context, Worker& worker) { static_cast<ProductOf*>(context)->work(worker); },
        &product);
  }

 private:
  explicit ProductOf(const ReducedProduct& call) : call_(call) {}

  void carve(Carver& carver) {
    panels_ = {nullptr, call_.depth, call_.columns, call_.groups, {}};
    for (int g = 0; g < call_.groups; ++g) panels_.start[g] = g * call_.columns;
    panels_.data = carver.take<Word>(panels_.size());
    operands_ = carver.take<Word>(call_.rows * operand_words<Format>(call_.depth));
    c_ = carver.take<float*>(call_.rows);
  }

  void work(Worker& worker) const {
    const Range own = part(panels_.count(), worker.index, worker.count);
    pack_transposed(panels_, call_.w, own.first, own.last);
    const Range rows = part(call_.rows, worker.index, worker.count);
    for (Index row = rows.first; row < rows.last; ++row) {
      Word* const operand = operands_ + row * operand_words<Format>(call_.depth);
      prepare<Format>(call_.x + row * call_.depth, call_.depth, operand);
      c_[row] = call_.c + row * call_.groups * call_.columns;
    }
    if (!worker.barrier()) return;
    const ReducedRows all{operands_, operand_words<Format>(call_.depth), c_};
    if (call_.base_row == nullptr) {
      multiply<Base::self>(call_.rows, all, panels_, own.first, own.last);
    } else {
      multiply<Base::row>(call_.rows, all, panels_, own.first, own.last, call_.base_row);
    }
  }

  const ReducedProduct& call_;
  ReducedPanels<Format> panels_{};
  Word* operands_ = nullptr;  // [rows, operand_words]
  float** c_ = nullptr;
};

template <class Format>
constexpr ReducedKernel reduced_kernel = {Format::precision, Format::max_depth,
                                          &ProductOf<Format>::run};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
