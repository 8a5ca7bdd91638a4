// The equations of docs/equations.md in double, one row and one unit at a time: what the self-test
// compares the kernels with. No blocks, no vectors, no threads.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "../shapes.hpp"

namespace pyrnn::selftest {

using Values = std::vector<double>;
using Integers = std::vector<std::int64_t>;

struct Problem {
  std::string cell;
  Index gates;  // G
  bool has_c;
  Shape shape;
  bool reverse;
  Integers lengths;       // [B]; empty: all T
  Integers tokens;        // [T, B]; empty: x
  Values x;               // [T, B, I], NaN in the padding
  Values h0, c0;          // [B, H]
  Values w_ih, w_hh;      // [G*H, I], [G*H, H]
  Values b_ih, b_hh;      // [G*H] or empty
  Values dy, dh_n, dc_n;  // [T, B, H], [B, H], [B, H]; empty: 0

  Index length(Index row) const {
    return lengths.empty() ? shape.T : static_cast<Index>(lengths[static_cast<std::size_t>(row)]);
  }
};

// What forward and backward of a cell give.
template <class Array>
struct Results {
  Array y, h_n, c_n, dx, dh0, dc0, dw_ih, dw_hh, db_ih, db_hh;

  // Calls f(name, array of a, array of b) for each.
  template <class Other, class F>
  static void each(Results& a, Results<Other>& b, F f) {
    f("y", a.y, b.y), f("h_n", a.h_n, b.h_n), f("c_n", a.c_n, b.c_n);
    f("dx", a.dx, b.dx), f("dh0", a.dh0, b.dh0), f("dc0", a.dc0, b.dc0);
    f("dw_ih", a.dw_ih, b.dw_ih), f("dw_hh", a.dw_hh, b.dw_hh);
    f("db_ih", a.db_ih, b.db_ih), f("db_hh", a.db_hh, b.db_hh);
  }
};

// Element n of an array that may be empty, which stands for 0.
inline double at(const Values& values, Index n) {
  return values.empty() ? 0.0 : values[static_cast<std::size_t>(n)];
}

inline void add(Values& values, Index n, double amount) {
  if (!values.empty()) values[static_cast<std::size_t>(n)] += amount;
}

inline double sigmoid(double a) { return 1 / (1 + std::exp(-a)); }

class Naive {
 public:
  static Results<Values> run(const Problem& problem) {
    Naive naive(problem);
    for (Index b = 0; b < problem.shape.B; ++b) naive.row(b);
    return naive.made_;
  }

 private:
  // One step of one row: the gates after their activation (q of the GRU is gate 3), and the states.
  struct Step {
    Values gate[4];  // [H] each
    Values h_prev, c_prev, h, c;
  };

  explicit Naive(const Problem& problem) : p_(problem), H_(p_.shape.H) {
    const auto [T, B, I, H] = p_.shape;
    const auto zeros = [](Index n) { return Values(static_cast<std::size_t>(n)); };
    const Index state = p_.has_c ? B * H : 0;
    made_ = {zeros(T * B * H),
             zeros(B * H),
             zeros(state),
             zeros(p_.tokens.empty() ? T * B * I : 0),
             zeros(B * H),
             zeros(state),
             zeros(p_.gates * H * I),
             zeros(p_.gates * H * H),
             Values(p_.b_ih.size()),
             Values(p_.b_hh.size())};
  }

  void row(Index b) {
    Values h = zeros(), c = zeros(), dh = zeros(), dc = zeros();
    for (Index u = 0; u < H_; ++u) {
      add(h, u, at(p_.h0, b * H_ + u));
      add(c, u, at(p_.c0, b * H_ + u));
      add(dh, u, at(p_.dh_n, b * H_ + u));
      add(dc, u, at(p_.dc_n, b * H_ + u));
    }
    const Index length = p_.length(b);
    std::vector<Step> steps;
    const auto time = [&](Index i) { return p_.reverse ? length - 1 - i : i; };
    for (Index i = 0; i < length; ++i) {
      steps.push_back(forward(time(i) * p_.shape.B + b, h, c));
      h = steps.back().h;
      c = steps.back().c;
      for (Index u = 0; u < H_; ++u) add(made_.y, (time(i) * p_.shape.B + b) * H_ + u, at(h, u));
    }
    for (Index i = length - 1; i >= 0; --i) {
      const Index place = time(i) * p_.shape.B + b;
      for (Index u = 0; u < H_; ++u) add(dh, u, at(p_.dy, place * H_ + u));
      backward(place, steps[static_cast<std::size_t>(i)], dh, dc);
    }
    for (Index u = 0; u < H_; ++u) {
      add(made_.h_n, b * H_ + u, at(h, u));
      add(made_.c_n, b * H_ + u, at(c, u));
      add(made_.dh0, b * H_ + u, at(dh, u));
      add(made_.dc0, b * H_ + u, at(dc, u));
    }
  }

  Values zeros() const { return Values(static_cast<std::size_t>(H_)); }

  double x(Index place, Index j) const {
    if (p_.tokens.empty()) return at(p_.x, place * p_.shape.I + j);
    return p_.tokens[static_cast<std::size_t>(place)] == j ? 1.0 : 0.0;
  }
  // Row k of W_ih x + b_ih, and of W_hh v + b_hh.
  double input(Index k, Index place) const {
    double sum = at(p_.b_ih, k);
    for (Index j = 0; j < p_.shape.I; ++j) sum += at(p_.w_ih, k * p_.shape.I + j) * x(place, j);
    return sum;
  }
  double hidden(Index k, const Values& v) const {
    double sum = at(p_.b_hh, k);
    for (Index j = 0; j < H_; ++j) sum += at(p_.w_hh, k * H_ + j) * at(v, j);
    return sum;
  }
  // r * h_{t-1} of the reset-before GRU.
  Values reset(const Step& s) const {
    Values v = zeros();
    for (Index u = 0; u < H_; ++u) add(v, u, at(s.gate[0], u) * at(s.h_prev, u));
    return v;
  }

  Step forward(Index place, const Values& h, const Values& c) const {
    Step s{{zeros(), zeros(), zeros(), zeros()}, h, c, zeros(), zeros()};
    const auto sum = [&](Index gate, Index u) {
      return input(gate * H_ + u, place) + hidden(gate * H_ + u, h);
    };
    for (Index u = 0; u < H_; ++u) {
      if (p_.cell == "rnn_tanh") {
        add(s.h, u, std::tanh(sum(0, u)));
      } else if (p_.cell == "rnn_relu") {
        add(s.h, u, std::fmax(sum(0, u), 0.0));
      } else {
        for (Index k = 0; k < 2; ++k) add(s.gate[k], u, sigmoid(sum(k, u)));
      }
      if (p_.cell == "lstm") {
        add(s.gate[2], u, std::tanh(sum(2, u)));
        add(s.gate[3], u, sigmoid(sum(3, u)));
        add(s.c, u, at(s.gate[1], u) * at(c, u) + at(s.gate[0], u) * at(s.gate[2], u));
        add(s.h, u, at(s.gate[3], u) * std::tanh(at(s.c, u)));
      }
    }
    if (p_.cell != "gru" && p_.cell != "gru_reset_before") return s;
    const Values v = reset(s);
    for (Index u = 0; u < H_; ++u) {
      const double r = at(s.gate[0], u), z = at(s.gate[1], u);
      double a = input(2 * H_ + u, place);
      if (p_.cell == "gru") {
        add(s.gate[3], u, hidden(2 * H_ + u, h));
        a += r * at(s.gate[3], u);
      } else {
        a += hidden(2 * H_ + u, v);
      }
      add(s.gate[2], u, std::tanh(a));
      add(s.h, u, (1 - z) * at(s.gate[2], u) + z * at(h, u));
    }
    return s;
  }

  // dh_t and dc_t become dh_{t-1} and dc_{t-1}.
  void backward(Index place, const Step& s, Values& dh, Values& dc) {
    const auto g = [&](int gate, Index u) { return at(s.gate[gate], u); };
    Values da_x[4] = {zeros(), zeros(), zeros(), zeros()}, dq = zeros(), direct = zeros();
    for (Index u = 0; u < H_; ++u) {
      const double d = at(dh, u), h_prev = at(s.h_prev, u);
      if (p_.cell == "rnn_tanh") {
        add(da_x[0], u, d * (1 - at(s.h, u) * at(s.h, u)));
      } else if (p_.cell == "rnn_relu") {
        add(da_x[0], u, at(s.h, u) > 0 ? d : 0.0);
      } else if (p_.cell == "lstm") {
        const double i = g(0, u), f = g(1, u), n = g(2, u), o = g(3, u), c = std::tanh(at(s.c, u));
        const double e = at(dc, u) + d * o * (1 - c * c);
        add(da_x[0], u, e * n * i * (1 - i));
        add(da_x[1], u, e * at(s.c_prev, u) * f * (1 - f));
        add(da_x[2], u, e * i * (1 - n * n));
        add(da_x[3], u, d * c * o * (1 - o));
        dc[static_cast<std::size_t>(u)] = e * f;
      } else {
        const double r = g(0, u), z = g(1, u), n = g(2, u);
        const double dn = d * (1 - z) * (1 - n * n);
        add(da_x[1], u, d * (h_prev - n) * z * (1 - z));
        add(da_x[2], u, dn);
        add(direct, u, d * z);
        if (p_.cell == "gru") {
          add(da_x[0], u, dn * g(3, u) * r * (1 - r));
          add(dq, u, dn * r);
        }
      }
    }
    const bool reset_before = p_.cell == "gru_reset_before";
    if (reset_before) {
      for (Index j = 0; j < H_; ++j) {
        double du = 0;
        for (Index u = 0; u < H_; ++u) du += at(p_.w_hh, (2 * H_ + u) * H_ + j) * at(da_x[2], u);
        const double r = g(0, j);
        add(da_x[0], j, du * at(s.h_prev, j) * r * (1 - r));
        add(direct, j, du * r);
      }
    }
    const Values v = reset(s);
    for (Index gate = 0; gate < p_.gates; ++gate) {
      const bool of_n = gate == 2 && p_.cell != "lstm";
      const Values& da_h = of_n && p_.cell == "gru" ? dq : da_x[gate];
      const Values& operand = of_n && reset_before ? v : s.h_prev;
      for (Index u = 0; u < H_; ++u) {
        const Index k = gate * H_ + u;
        add(made_.db_ih, k, at(da_x[gate], u));
        add(made_.db_hh, k, at(da_h, u));
        for (Index j = 0; j < p_.shape.I; ++j) {
          add(made_.dw_ih, k * p_.shape.I + j, at(da_x[gate], u) * x(place, j));
          add(made_.dx, place * p_.shape.I + j,
              at(da_x[gate], u) * at(p_.w_ih, k * p_.shape.I + j));
        }
        for (Index j = 0; j < H_; ++j) {
          add(made_.dw_hh, k * H_ + j, at(da_h, u) * at(operand, j));
          if (!(of_n && reset_before)) add(direct, j, at(da_h, u) * at(p_.w_hh, k * H_ + j));
        }
      }
    }
    dh = direct;
  }

  const Problem& p_;
  const Index H_;
  Results<Values> made_;
};

}  // namespace pyrnn::selftest
