#include "frozen.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace pyrnn {
namespace {

constexpr std::size_t aligned(std::size_t bytes) {
  return (bytes + Scratch::pair - 1) / Scratch::pair * Scratch::pair;
}

// Memory of its own, in large pages where it is large.
char* zeroed(Scratch& memory, std::size_t bytes) {
  bytes = std::max(bytes, Scratch::pair);  // a stream without rows needs none
  char* const start = static_cast<char*>(memory.at_least(bytes));
  std::memset(start, 0, bytes);
  return start;
}

// Releasing the GIL takes 30 ns, which is little beside the 4 us of this many multiply-adds out of L2.
constexpr double long_step = 128 * 1024;

}  // namespace

template <class T>
Frozen<T>::Frozen(const CellKernels<T>& cell_, const Precision* precision_, Index input_size_,
                  Index hidden_size_, Index columns_, int directions_,
                  const std::vector<Part<T>>& parts)
    : cell(cell_),
      precision(precision_),
      kernels(*(precision == nullptr ? cell.frozen : cell.reduced)),
      input_size(input_size_),
      hidden_size(hidden_size_),
      columns(columns_),
      directions(directions_) {
  std::vector<std::size_t> offsets;
  for (const Part<T>& part : parts) {
    offsets.push_back(bytes_);
    bytes_ += aligned(kernels.packed_bytes(part));
  }
  char* const start = zeroed(memory_, bytes_);
  for (std::size_t k = 0; k < parts.size(); ++k) {
    void* const packed = start + offsets[k];
    kernels.pack(parts[k], packed);
    packed_.push_back(packed);
    parts_.push_back(parts[k]);
    parts_.back().params = {};
    Variant<T>& variant = parts_.back().variant;
    variant = owned(parts[k].variant);
    // These are in the packed form; the pointers go on to say that there are such matrices.
    const T* const there = static_cast<const T*>(packed);
    if (variant.full_peephole != nullptr) variant.full_peephole = there;
    if (variant.w_hr != nullptr) variant.w_hr = there;
  }
}

// The arrays that are read as they are, copied.
template <class T>
Variant<T> Frozen<T>::owned(Variant<T> variant) {
  const Index H = hidden_size, gates = cell.gates * H;
  const auto own = [this](const T*& array, Index count) {
    if (array == nullptr) return;
    arrays_.emplace_back(array, array + count);
    bytes_ += static_cast<std::size_t>(count) * sizeof(T);
    array = arrays_.back().data();
  };
  own(variant.peephole, (cell.gates - 1) * H);
  own(variant.ln_ih_weight, gates), own(variant.ln_ih_bias, gates);
  own(variant.ln_hh_weight, gates), own(variant.ln_hh_bias, gates);
  own(variant.ln_c_weight, H), own(variant.ln_c_bias, H);
  return variant;
}

template <class T>
Stream<T>::Stream(std::shared_ptr<const Frozen<T>> frozen_, Index batch_size_,
                  Interrupted interrupted)
    : frozen(std::move(frozen_)), batch_size(batch_size_), interrupted_(interrupted) {
  const Frozen<T>& f = *frozen;
  const std::size_t of_h = aligned(values_of_h() * sizeof(T));
  const std::size_t of_c = f.cell.has_c ? aligned(values_of_c() * sizeof(T)) : 0;
  std::size_t scratch = 0;
  for (int k = 0; k < f.parts(); ++k) {
    scratch = std::max(scratch, f.kernels.step_bytes(batch_size, f.parts(), f.part(k)));
  }
  char* const start = zeroed(memory_, 2 * (of_h + of_c) + scratch);
  for (int i = 0; i < 2; ++i) {
    char* const own = start + static_cast<std::size_t>(i) * (of_h + of_c);
    h_[i] = reinterpret_cast<T*>(own);
    c_[i] = f.cell.has_c ? reinterpret_cast<T*>(own + of_h) : nullptr;
  }
  tokens_.resize(static_cast<std::size_t>(batch_size));
  scratch_ = start + 2 * (of_h + of_c);
  const Index layer = batch_size * f.columns, cells = batch_size * f.hidden_size;
  for (int i = 0; i < 2; ++i) {
    for (int k = 0; k < f.parts(); ++k) {
      Step<T> step{};
      step.B = batch_size;
      step.odd = i == 1;
      step.I = f.width(k);
      step.H = f.hidden_size;
      step.P = f.columns;
      step.packed = f.packed(k);
      step.precision = f.precision;
      step.variant = f.variant(k);
      step.x = k == 0 ? nullptr : h_[1 - i] + (k - 1) * layer;
      step.h_prev = h_[i] + k * layer;
      step.h = h_[1 - i] + k * layer;
      if (f.cell.has_c) {
        step.c_prev = c_[i] + k * cells;
        step.c = c_[1 - i] + k * cells;
      }
      steps_[i].push_back(step);
    }
  }
  f.kernels.prepare_step(steps_[0].data(), f.parts(), scratch_);
}

template <class T>
std::size_t Stream<T>::values_of_h() const {
  return static_cast<std::size_t>(frozen->parts() * batch_size * frozen->columns);
}

template <class T>
std::size_t Stream<T>::values_of_c() const {
  return static_cast<std::size_t>(frozen->parts() * batch_size * frozen->hidden_size);
}

template <class T>
bool Stream<T>::is_long() const {
  double work = 0;
  for (const Step<T>& step : steps_[0]) {
    work += double(frozen->cell.gates * step.H) * double(step.I + frozen->columns) * double(step.B);
  }
  return work >= long_step;
}

template <class T>
bool Stream<T>::take_tokens(const std::int64_t* tokens) {
  bool valid = true;
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    tokens_[i] = tokens[i];
    valid = valid && tokens_[i] >= 0 && tokens_[i] < frozen->input_size;
  }
  return valid;
}

template <class T>
StreamStatus Stream<T>::step(const void* x, const std::int64_t* tokens, void* y) {
  if (busy_.exchange(true, std::memory_order_acquire)) return StreamStatus::busy;
  if (tokens != nullptr && !take_tokens(tokens)) {
    busy_.store(false, std::memory_order_release);
    return StreamStatus::bad_token;
  }
  std::vector<Step<T>>& steps = steps_[current_];
  steps[0].x = static_cast<const T*>(x);
  steps[0].tokens = tokens == nullptr ? nullptr : tokens_.data();
  StreamStatus status = StreamStatus::interrupted;
  try {
    Team team(interrupted_);
    frozen->kernels.step(steps.data(), scratch_, team);
    if (!team.cancelled()) {
      std::memcpy(y, steps.back().h,
                  static_cast<std::size_t>(batch_size * frozen->columns) * sizeof(T));
      current_ = 1 - current_;
      status = StreamStatus::done;
    }
  } catch (const std::bad_alloc&) {
    status = StreamStatus::no_memory;
  }
  busy_.store(false, std::memory_order_release);
  return status;
}

template <class T>
bool Stream<T>::read_state(T* h, T* c) {
  if (busy_.exchange(true, std::memory_order_acquire)) return false;
  std::memcpy(h, h_[current_], values_of_h() * sizeof(T));
  if (c != nullptr) std::memcpy(c, c_[current_], values_of_c() * sizeof(T));
  busy_.store(false, std::memory_order_release);
  return true;
}

template <class T>
bool Stream<T>::write_state(const T* h, const T* c) {
  if (busy_.exchange(true, std::memory_order_acquire)) return false;
  const auto write = [](T* to, const T* from, std::size_t values) {
    if (from != nullptr) {
      std::memcpy(to, from, values * sizeof(T));
    } else if (to != nullptr) {
      std::memset(to, 0, values * sizeof(T));
    }
  };
  write(h_[current_], h, values_of_h());
  write(c_[current_], c, values_of_c());
  busy_.store(false, std::memory_order_release);
  return true;
}

template class Frozen<float>;
template class Frozen<double>;
template class Stream<float>;
template class Stream<double>;

}  // namespace pyrnn
