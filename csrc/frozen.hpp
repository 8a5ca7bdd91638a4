// A frozen layer: the weights of a stack of layers, packed once; and the streams that step over it.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "kernels.hpp"
#include "scratch.hpp"
#include "stream_api.hpp"

namespace pyrnn {

// Part k is layer k / directions in direction k % directions.
template <class T>
class Frozen {
 public:
  // `precision` of the packed weights, null for T.
  Frozen(const CellKernels<T>& cell, const Precision* precision, Index input_size,
         Index hidden_size, Index columns, int directions, const std::vector<Part<T>>& parts);

  [[nodiscard]] int parts() const { return static_cast<int>(packed_.size()); }
  // I of a part.
  [[nodiscard]] Index width(int k) const {
    return k < directions ? input_size : directions * columns;
  }
  [[nodiscard]] const void* packed(int k) const { return packed_[static_cast<std::size_t>(k)]; }
  // Its sizes and its variant; no parameters.
  [[nodiscard]] const Part<T>& part(int k) const { return parts_[static_cast<std::size_t>(k)]; }
  [[nodiscard]] const Variant<T>& variant(int k) const { return part(k).variant; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

  const CellKernels<T>& cell;
  const Precision* const precision;
  const FrozenKernels<T>& kernels;
  const Index input_size, hidden_size;
  const Index columns;  // P, of h
  const int directions;

 private:
  std::size_t bytes_ = 0;
  Scratch memory_;
  std::vector<const void*> packed_;
  std::vector<Part<T>> parts_;  // the arrays of their variants are copies, in arrays_
  std::vector<std::vector<T>> arrays_;

  [[nodiscard]] Variant<T> owned(Variant<T> variant);
};

// What is the same for both dtypes.
class AnyStream {
 public:
  AnyStream() = default;
  AnyStream(const AnyStream&) = delete;
  AnyStream& operator=(const AnyStream&) = delete;
  virtual ~AnyStream() = default;
  virtual StreamStatus step(const void* x, const std::int64_t* tokens, void* y) = 0;
  [[nodiscard]] virtual bool is_long() const = 0;
};

// The state of B sequences on a frozen layer of one direction. One thread at a time may use it: a second
// one is told that it is busy.
template <class T>
class Stream final : public AnyStream {
 public:
  Stream(std::shared_ptr<const Frozen<T>> frozen, Index batch_size, Interrupted interrupted);

  StreamStatus step(const void* x, const std::int64_t* tokens, void* y) override;
  [[nodiscard]] bool is_long() const override;
  // h is [L, B, P], c [L, B, H]; c is null without a cell state. False where the stream is busy.
  bool read_state(T* h, T* c);
  // Null stands for 0.
  bool write_state(const T* h, const T* c);

  const std::shared_ptr<const Frozen<T>> frozen;
  const Index batch_size;

 private:
  [[nodiscard]] std::size_t values_of_h() const;
  [[nodiscard]] std::size_t values_of_c() const;
  bool take_tokens(const std::int64_t* tokens);

  Interrupted interrupted_;
  std::atomic<bool> busy_{false};
  // A step reads one state and writes the other: one that is interrupted has changed nothing.
  int current_ = 0;
  Scratch memory_;
  T *h_[2], *c_[2];  // [L, B, P] and [L, B, H]
  void* scratch_;
  std::vector<std::int64_t>
      tokens_;  // [B] the stream's own copy: the caller's could change after the check
  std::vector<Step<T>> steps_[2];  // by layer, from the state of the same index to the other
};

}  // namespace pyrnn
