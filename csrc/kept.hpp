// The weights of one layer and direction, packed once for all calls that read the same bits: kept beside the
// fingerprint of what they were packed from. Each call takes the fingerprint of its own weights, so that no way
// to change them goes unseen.
#pragma once

#include <atomic>
#include <vector>

#include "dispatch.hpp"
#include "scratch.hpp"

namespace pyrnn {

// What a packed form was made from, and how it is laid out.
struct Origin {
  const void* cell = nullptr;  // its kernels: the cell, the dtype and the instruction set
  Index I = 0, H = 0, P = 0;
  bool norm = false, full_peephole = false, projects = false;
  Fingerprint bits;

  template <class T>
  static Origin of(const CellKernels<T>& cell, const Inputs<T>& in);
  bool operator==(const Origin& other) const {
    return cell == other.cell && I == other.I && H == other.H && P == other.P &&
           norm == other.norm && full_peephole == other.full_peephole &&
           projects == other.projects && bits == other.bits;
  }
};

// Of all arrays that either pass packs.
template <class T>
Origin Origin::of(const CellKernels<T>& cell, const Inputs<T>& in) {
  const Variant<T>& v = in.variant;
  const Index I = in.shape.I, H = in.shape.H, P = in.P, rows = cell.gates * H;
  Origin origin{
      &cell, I, H, P, v.ln_ih_weight != nullptr, v.full_peephole != nullptr, v.w_hr != nullptr, {}};
  const auto append = [&origin](const T* array, Index values) {
    const Index bytes = array == nullptr ? 0 : values * Index(sizeof(T));
    kernels().fingerprint(array, bytes, origin.bits);
  };
  append(in.params.w_ih, rows * I);
  append(in.params.w_hh, rows * P);
  for (const T* const of_gates : {in.params.b_ih, in.params.b_hh, v.ln_ih_weight, v.ln_ih_bias,
                                  v.ln_hh_weight, v.ln_hh_bias}) {
    append(of_gates, rows);
  }
  append(v.full_peephole, (cell.gates - 1) * H * H);
  append(v.w_hr, P * H);
  return origin;
}

// One packed form. Any number of calls read it at a time, or one packs it; a call that finds it taken for what
// it needs does not wait, and packs into scratch.
class KeptForm {
 public:
  [[nodiscard]] long packs() const { return packs_.load(std::memory_order_relaxed); }

 private:
  friend class Hold;

  bool share() {
    int n = users_.load(std::memory_order_relaxed);
    while (n >= 0) {
      if (users_.compare_exchange_weak(n, n + 1, std::memory_order_acquire)) return true;
    }
    return false;
  }
  // From one's own share on.
  bool seize() {
    int own = 1;
    return users_.compare_exchange_strong(own, packing, std::memory_order_acquire);
  }
  void leave_share() { users_.fetch_sub(1, std::memory_order_release); }
  void leave_alone() { users_.store(0, std::memory_order_release); }

  static constexpr int packing = -1;
  std::atomic<int> users_{0};  // that read, or `packing`
  std::atomic<long> packs_{0};
  bool complete_ = false;
  Origin origin_;
  Scratch memory_;
  const void* packed_ = nullptr;
};

// A call's part in a form, until the call ends.
class Hold {
 public:
  // `bytes()`: of the packed form.
  template <class Bytes>
  Hold(KeptForm& form, const Origin& origin, Bytes bytes) {
    if (!form.share()) return;
    form_ = &form;
    if (form.complete_ && form.origin_ == origin) return;
    if (!form.seize()) {
      form.leave_share();
      form_ = nullptr;
      return;
    }
    // Until it is packed anew there is nothing, whatever happens on the way.
    packs_ = true;
    form.complete_ = false;
    form.origin_ = origin;
    try {
      form.packed_ = memory_ = form.memory_.at_least(bytes());
    } catch (...) {
      form.leave_alone();
      throw;
    }
  }
  Hold() = default;
  Hold(Hold&& other) noexcept : form_(other.form_), memory_(other.memory_), packs_(other.packs_) {
    other.form_ = nullptr;
  }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  ~Hold() {
    if (form_ == nullptr) return;
    packs_ ? form_->leave_alone() : form_->leave_share();
  }

  [[nodiscard]] const void* packed() const {
    return form_ == nullptr || packs_ ? nullptr : form_->packed_;
  }
  [[nodiscard]] void* keep() const { return memory_; }
  // The call has run to its end.
  void completed() {
    if (form_ == nullptr || !packs_) return;
    form_->complete_ = true;
    form_->packs_.fetch_add(1, std::memory_order_relaxed);
  }

 private:
  KeptForm* form_ = nullptr;
  void* memory_ = nullptr;
  bool packs_ = false;
};

// Both forms, each made when it is first needed.
struct KeptWeights {
  KeptForm forward, backward;
};

template <class T>
Hold hold(KeptWeights& kept, const CellKernels<T>& cell, const Forward<T>& call) {
  return Hold(kept.forward, Origin::of(cell, call.in), [&] {
    return cell.frozen->packed_bytes(
        {call.in.shape.I, call.in.shape.H, call.in.P, call.in.params, call.in.variant, nullptr});
  });
}

template <class T>
Hold hold(KeptWeights& kept, const CellKernels<T>& cell, const Backward<T>& call) {
  return Hold(kept.backward, Origin::of(cell, call.in), [&] { return cell.backward_bytes(call); });
}

// Runs kernel(calls, count, chained, team), each call with the weights that `kept` has for it; null: none.
// Of tokens few columns of W_ih may be all that is read: they do without.
template <class Call, class Cell, class Kernel>
void run_kept(const Cell& cell, Kernel kernel, Call* calls, KeptWeights* const* kept, int count,
              bool chained, Team& team) {
  std::vector<Hold> holds;  // empty where nothing is kept: most calls
  for (int i = 0; i < count; ++i) {
    if (kept[i] == nullptr || calls[i].in.tokens != nullptr) continue;
    holds.push_back(hold(*kept[i], cell, calls[i]));
    calls[i].packed = holds.back().packed();
    calls[i].keep = holds.back().keep();
  }
  kernel(calls, count, chained, team);
  if (team.cancelled()) return;
  for (Hold& one : holds) one.completed();
}

}  // namespace pyrnn
