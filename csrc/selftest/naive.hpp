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
  Index P;  // columns of h
  bool reverse;
  Integers lengths;       // [B]; empty: all T
  Integers tokens;        // [T, B]; empty: x
  Values x;               // [T, B, I], NaN in the padding
  Values h0, c0;          // [B, P], [B, H]
  Values w_ih, w_hh;      // [G*H, I], [G*H, P]
  Values b_ih, b_hh;      // [G*H] or empty
  Values dy, dh_n, dc_n;  // [T, B, P], [B, P], [B, H]; empty: 0
  // Of variants; empty without them.
  Values w_hr, peephole;                                      // [P, H], [G-1, H, H]
  Values ln_ih_weight, ln_ih_bias, ln_hh_weight, ln_hh_bias;  // [G*H]
  Values ln_c_weight, ln_c_bias;                              // [H]

  Index length(Index row) const {
    return lengths.empty() ? shape.T : static_cast<Index>(lengths[static_cast<std::size_t>(row)]);
  }
  bool plain() const { return w_hr.empty() && peephole.empty() && ln_ih_weight.empty(); }
};

// What forward and backward of a cell give.
template <class Array>
struct Results {
  Array y, h_n, c_n, dx, dh0, dc0, dw_ih, dw_hh, db_ih, db_hh;
  Array dw_hr, dpeephole, dln_ih_weight, dln_ih_bias, dln_hh_weight, dln_hh_bias, dln_c_weight,
      dln_c_bias;

  // Calls f(name, array of a, array of b) for each.
  template <class Other, class F>
  static void each(Results& a, Results<Other>& b, F f) {
    f("y", a.y, b.y), f("h_n", a.h_n, b.h_n), f("c_n", a.c_n, b.c_n);
    f("dx", a.dx, b.dx), f("dh0", a.dh0, b.dh0), f("dc0", a.dc0, b.dc0);
    f("dw_ih", a.dw_ih, b.dw_ih), f("dw_hh", a.dw_hh, b.dw_hh);
    f("db_ih", a.db_ih, b.db_ih), f("db_hh", a.db_hh, b.db_hh);
    f("dw_hr", a.dw_hr, b.dw_hr), f("dpeephole", a.dpeephole, b.dpeephole);
    f("dln_ih_weight", a.dln_ih_weight, b.dln_ih_weight);
    f("dln_ih_bias", a.dln_ih_bias, b.dln_ih_bias);
    f("dln_hh_weight", a.dln_hh_weight, b.dln_hh_weight);
    f("dln_hh_bias", a.dln_hh_bias, b.dln_hh_bias);
    f("dln_c_weight", a.dln_c_weight, b.dln_c_weight);
    f("dln_c_bias", a.dln_c_bias, b.dln_c_bias);
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

// to [rows] += W [rows, depth] v, and to [depth] += W^T v.
inline void multiply(const Values& w, Index first_row, Index rows, Index depth, const Values& v,
                     Values& to, Index first = 0) {
  for (Index r = 0; r < rows; ++r) {
    for (Index j = 0; j < depth; ++j)
      add(to, first + r, at(w, (first_row + r) * depth + j) * at(v, j));
  }
}
inline void multiply_back(const Values& w, Index first_row, Index rows, Index depth,
                          const Values& v, Values& to, Index first = 0) {
  for (Index r = 0; r < rows; ++r) {
    for (Index j = 0; j < depth; ++j)
      add(to, j, at(w, (first_row + r) * depth + j) * at(v, first + r));
  }
}
// dw [rows, depth] += d v^T.
inline void outer(Values& dw, Index first_row, Index rows, Index depth, const Values& d,
                  const Values& v, Index first = 0) {
  for (Index r = 0; r < rows; ++r) {
    for (Index j = 0; j < depth; ++j)
      add(dw, (first_row + r) * depth + j, at(d, first + r) * at(v, j));
  }
}

// Layer norm: x^ of a row, and back.
struct Normed {
  Values x;
  double rstd;

  explicit Normed(const Values& row) : x(row), rstd(0) {
    const double n = static_cast<double>(row.size());
    double mean = 0, variance = 0;
    for (const double v : row) mean += v / n;
    for (const double v : row) variance += (v - mean) * (v - mean) / n;
    rstd = 1 / std::sqrt(variance + 1e-5);
    for (double& v : x) v = (v - mean) * rstd;
  }
  // Of d, the gradient of gain x^ + bias.
  Values back(const Values& d, const Values& gain, Values& dgain, Values& dbias) const {
    const auto n = static_cast<Index>(x.size());
    double mean = 0, mean_x = 0;
    for (Index i = 0; i < n; ++i) {
      add(dgain, i, at(d, i) * at(x, i));
      add(dbias, i, at(d, i));
      mean += at(d, i) * at(gain, i) / static_cast<double>(n);
      mean_x += at(d, i) * at(gain, i) * at(x, i) / static_cast<double>(n);
    }
    Values made(x.size());
    for (Index i = 0; i < n; ++i) {
      add(made, i, rstd * (at(d, i) * at(gain, i) - mean - at(x, i) * mean_x));
    }
    return made;
  }
};

class Naive {
 public:
  static Results<Values> run(const Problem& problem) {
    Naive naive(problem);
    for (Index b = 0; b < problem.shape.B; ++b) naive.row(b);
    return naive.made_;
  }

 private:
  // One step of one row: sums, later the gates after their activation [G*H] (q of the GRU in a_h), states,
  // u, and what layer norm made.
  struct Step {
    Values gate, a_h, h_prev, c_prev, h, c, u, seen;
    Normed x, hidden, cell;
  };

  explicit Naive(const Problem& problem)
      : p_(problem),
        H_(p_.shape.H),
        P_(p_.P),
        G_(p_.gates),
        lstm_(p_.has_c),
        coupled_(p_.cell == "lstm_coupled"),
        norm_(!p_.ln_ih_weight.empty()) {
    const auto [T, B, I, H] = p_.shape;
    const auto like = [](const Values& other) { return Values(other.size()); };
    made_ = {zeros(T * B * P_),     zeros(B * P_),
             like(p_.c0),           zeros(p_.tokens.empty() ? T * B * I : 0),
             zeros(B * P_),         like(p_.c0),
             like(p_.w_ih),         like(p_.w_hh),
             like(p_.b_ih),         like(p_.b_hh),
             like(p_.w_hr),         like(p_.peephole),
             like(p_.ln_ih_weight), like(p_.ln_ih_bias),
             like(p_.ln_hh_weight), like(p_.ln_hh_bias),
             like(p_.ln_c_weight),  like(p_.ln_c_bias)};
  }

  static Values zeros(Index n) { return Values(static_cast<std::size_t>(n)); }
  static Values part(const Values& from, Index first, Index n) {
    Values made = zeros(n);
    for (Index i = 0; i < n; ++i) add(made, i, at(from, first + i));
    return made;
  }
  static void add_all(Values& to, const Values& from, Index first = 0) {
    for (std::size_t i = 0; i < from.size(); ++i) add(to, first + static_cast<Index>(i), from[i]);
  }

  void row(Index b) {
    Values h = part(p_.h0, b * P_, P_), c = part(p_.c0, b * H_, lstm_ ? H_ : 0);
    Values dh = part(p_.dh_n, b * P_, P_), dc = part(p_.dc_n, b * H_, lstm_ ? H_ : 0);
    const Index length = p_.length(b);
    std::vector<Step> steps;
    const auto time = [&](Index i) { return p_.reverse ? length - 1 - i : i; };
    for (Index i = 0; i < length; ++i) {
      const Index place = time(i) * p_.shape.B + b;
      steps.push_back(forward(place, h, c));
      h = steps.back().h;
      c = steps.back().c;
      add_all(made_.y, h, place * P_);
    }
    for (Index i = length - 1; i >= 0; --i) {
      const Index place = time(i) * p_.shape.B + b;
      add_all(dh, part(p_.dy, place * P_, P_));
      backward(place, steps[static_cast<std::size_t>(i)], dh, dc);
    }
    add_all(made_.h_n, h, b * P_);
    add_all(made_.c_n, c, b * H_);
    add_all(made_.dh0, dh, b * P_);
    add_all(made_.dc0, dc, b * H_);
  }

  Values x(Index place) const {
    if (p_.tokens.empty()) return part(p_.x, place * p_.shape.I, p_.shape.I);
    Values one_hot = zeros(p_.shape.I);
    add(one_hot, static_cast<Index>(p_.tokens[static_cast<std::size_t>(place)]), 1);
    return one_hot;
  }
  // What the last rows of W_hh multiply where they wait for the first gate.
  Values reset(const Step& s) const {
    Values v = zeros(H_);
    for (Index u = 0; u < H_; ++u) add(v, u, at(s.gate, u) * at(s.h_prev, u));
    return v;
  }
  static void scale(const Normed& by, const Values& gain, const Values& bias, Values& to) {
    for (Index i = 0; i < static_cast<Index>(to.size()); ++i) {
      to[static_cast<std::size_t>(i)] = at(gain, i) * at(by.x, i) + at(bias, i);
    }
  }

  Step forward(Index place, const Values& h, const Values& c) const {
    Values sums = zeros(G_ * H_), a_h = zeros(G_ * H_);
    multiply(p_.w_ih, 0, G_ * H_, p_.shape.I, x(place), sums);
    multiply(p_.w_hh, 0, G_ * H_, P_, h, a_h);
    Step s{sums, a_h, h, c, h, c, {}, {}, Normed(sums), Normed(a_h), Normed(c)};
    if (norm_) {
      scale(s.x, p_.ln_ih_weight, p_.ln_ih_bias, s.gate);
      scale(s.hidden, p_.ln_hh_weight, p_.ln_hh_bias, s.a_h);
    }
    add_all(s.gate, p_.b_ih);
    add_all(s.a_h, p_.b_hh);
    if (lstm_) {
      step_lstm(s);
    } else if (G_ == 1) {
      for (Index u = 0; u < H_; ++u) {
        const double a = at(s.gate, u) + at(s.a_h, u);
        s.h[static_cast<std::size_t>(u)] = p_.cell == "rnn_relu" ? std::fmax(a, 0.0) : std::tanh(a);
      }
    } else if (G_ == 2) {
      step_mgu(s);
    } else {
      step_gru(s);
    }
    return s;
  }

  void step_gru(Step& s) const {
    for (Index k = 0; k < 2 * H_; ++k) {
      s.gate[static_cast<std::size_t>(k)] = sigmoid(at(s.gate, k) + at(s.a_h, k));
    }
    Values q = part(s.a_h, 2 * H_, H_);
    if (p_.cell == "gru_reset_before") {
      q = part(p_.b_hh, 2 * H_, H_);
      multiply(p_.w_hh, 2 * H_, H_, H_, reset(s), q);
    }
    for (Index u = 0; u < H_; ++u) {
      const double r = p_.cell == "gru" ? at(s.gate, u) : 1, z = at(s.gate, H_ + u);
      const double n = std::tanh(at(s.gate, 2 * H_ + u) + r * at(q, u));
      s.gate[static_cast<std::size_t>(2 * H_ + u)] = n;
      s.h[static_cast<std::size_t>(u)] = (1 - z) * n + z * at(s.h_prev, u);
    }
  }

  void step_mgu(Step& s) const {
    for (Index u = 0; u < H_; ++u) {
      s.gate[static_cast<std::size_t>(u)] = sigmoid(at(s.gate, u) + at(s.a_h, u));
    }
    Values q = part(p_.b_hh, H_, H_);
    multiply(p_.w_hh, H_, H_, H_, reset(s), q);
    for (Index u = 0; u < H_; ++u) {
      const double f = at(s.gate, u), n = std::tanh(at(s.gate, H_ + u) + at(q, u));
      s.gate[static_cast<std::size_t>(H_ + u)] = n;
      s.h[static_cast<std::size_t>(u)] = (1 - f) * at(s.h_prev, u) + f * n;
    }
  }

  // Blocks of the LSTM: i (if any), f, g, o; those of peepholes without g.
  Index block(char gate) const { return std::string("ifgo").find(gate) - (coupled_ ? 1 : 0); }
  double value(const Step& s, char gate, Index u) const {
    if (gate == 'i' && coupled_) return 1 - value(s, 'f', u);
    return at(s.gate, block(gate) * H_ + u);
  }

  void step_lstm(Step& s) const {
    add_all(s.gate, s.a_h);
    const Index before_g = block('g') * H_, o = block('o') * H_;
    if (!p_.peephole.empty()) multiply(p_.peephole, 0, before_g, H_, s.c_prev, s.gate);
    for (Index k = 0; k < o; ++k) {
      double& a = s.gate[static_cast<std::size_t>(k)];
      a = k >= before_g ? std::tanh(a) : sigmoid(a);
    }
    for (Index u = 0; u < H_; ++u) {
      s.c[static_cast<std::size_t>(u)] =
          value(s, 'f', u) * at(s.c_prev, u) + value(s, 'i', u) * value(s, 'g', u);
    }
    if (!p_.peephole.empty()) multiply(p_.peephole, before_g, H_, H_, s.c, s.gate, o);
    s.cell = Normed(s.c);
    s.seen = s.c;
    if (norm_) scale(s.cell, p_.ln_c_weight, p_.ln_c_bias, s.seen);
    s.u = zeros(H_);
    for (Index u = 0; u < H_; ++u) {
      double& a = s.gate[static_cast<std::size_t>(o + u)];
      a = sigmoid(a);
      add(s.u, u, a * std::tanh(at(s.seen, u)));
    }
    s.h = s.u;
    if (p_.w_hr.empty()) return;
    s.h = zeros(P_);
    multiply(p_.w_hr, 0, P_, H_, s.u, s.h);
  }

  // dh_t and dc_t become dh_{t-1} and dc_{t-1}.
  void backward(Index place, const Step& s, Values& dh, Values& dc) {
    Values da_x = zeros(G_ * H_), da_h, direct = zeros(P_);
    if (lstm_) {
      back_lstm(s, dh, dc, da_x);
    } else if (G_ == 1) {
      for (Index u = 0; u < H_; ++u) {
        const double h = at(s.h, u), d = at(dh, u);
        add(da_x, u, p_.cell == "rnn_relu" ? (h > 0 ? d : 0.0) : d * (1 - h * h));
      }
    }
    da_h = da_x;
    if (G_ == 3 && !lstm_) back_gru(s, dh, da_x, da_h, direct);
    if (G_ == 2) da_h = back_mgu(s, dh, da_x, direct);
    add_all(made_.db_ih, da_x);
    add_all(made_.db_hh, da_h);
    if (norm_) {
      da_x = s.x.back(da_x, p_.ln_ih_weight, made_.dln_ih_weight, made_.dln_ih_bias);
      da_h = s.hidden.back(da_h, p_.ln_hh_weight, made_.dln_hh_weight, made_.dln_hh_bias);
    }
    const Index I = p_.shape.I;
    outer(made_.dw_ih, 0, G_ * H_, I, da_x, x(place));
    Values dx = zeros(I);
    multiply_back(p_.w_ih, 0, G_ * H_, I, da_x, dx);
    add_all(made_.dx, dx, place * I);
    const bool waits = p_.cell == "gru_reset_before" || p_.cell == "mgu";
    const Index rows = (waits ? G_ - 1 : G_) * H_;
    outer(made_.dw_hh, 0, rows, P_, da_h, s.h_prev);
    multiply_back(p_.w_hh, 0, rows, P_, da_h, direct);
    dh = direct;
  }

  void back_gru(const Step& s, const Values& dh, Values& da_x, Values& da_h, Values& direct) {
    const bool before = p_.cell == "gru_reset_before";
    for (Index u = 0; u < H_; ++u) {
      const double r = at(s.gate, u), z = at(s.gate, H_ + u), n = at(s.gate, 2 * H_ + u);
      const double d = at(dh, u), dn = d * (1 - z) * (1 - n * n);
      add(da_x, H_ + u, d * (at(s.h_prev, u) - n) * z * (1 - z));
      add(da_x, 2 * H_ + u, dn);
      add(direct, u, d * z);
      if (!before) add(da_x, u, dn * at(s.a_h, 2 * H_ + u) * r * (1 - r));
    }
    if (before) {
      Values du = zeros(H_);
      const Values dn = part(da_x, 2 * H_, H_);
      multiply_back(p_.w_hh, 2 * H_, H_, H_, dn, du);
      outer(made_.dw_hh, 2 * H_, H_, H_, dn, reset(s));
      for (Index u = 0; u < H_; ++u) {
        const double r = at(s.gate, u);
        add(da_x, u, at(du, u) * at(s.h_prev, u) * r * (1 - r));
        add(direct, u, at(du, u) * r);
      }
    }
    da_h = da_x;
    for (Index u = 0; !before && u < H_; ++u) {
      da_h[static_cast<std::size_t>(2 * H_ + u)] *= at(s.gate, u);
    }
  }

  Values back_mgu(const Step& s, const Values& dh, Values& da, Values& direct) {
    for (Index u = 0; u < H_; ++u) {
      const double n = at(s.gate, H_ + u);
      add(da, H_ + u, at(dh, u) * at(s.gate, u) * (1 - n * n));
    }
    Values du = zeros(H_);
    const Values dn = part(da, H_, H_);
    multiply_back(p_.w_hh, H_, H_, H_, dn, du);
    outer(made_.dw_hh, H_, H_, H_, dn, reset(s));
    for (Index u = 0; u < H_; ++u) {
      const double f = at(s.gate, u), h = at(s.h_prev, u), d = at(dh, u);
      add(da, u, (d * (at(s.gate, H_ + u) - h) + at(du, u) * h) * f * (1 - f));
      add(direct, u, d * (1 - f) + at(du, u) * f);
    }
    return da;
  }

  void back_lstm(const Step& s, const Values& dh, Values& dc, Values& da) {
    const Index before_g = block('g') * H_, o = block('o') * H_;
    Values du = dh;
    if (!p_.w_hr.empty()) {
      du = zeros(H_);
      multiply_back(p_.w_hr, 0, P_, H_, dh, du);
      outer(made_.dw_hr, 0, P_, H_, dh, s.u);
    }
    Values d_seen = zeros(H_);
    for (Index u = 0; u < H_; ++u) {
      const double out = std::tanh(at(s.seen, u)), gate = value(s, 'o', u);
      add(da, o + u, at(du, u) * out * gate * (1 - gate));
      add(d_seen, u, at(du, u) * gate * (1 - out * out));
    }
    if (norm_) d_seen = s.cell.back(d_seen, p_.ln_c_weight, made_.dln_c_weight, made_.dln_c_bias);
    if (!p_.peephole.empty()) {
      multiply_back(p_.peephole, before_g, H_, H_, da, d_seen, o);
      outer(made_.dpeephole, before_g, H_, H_, da, s.c, o);
    }
    for (Index u = 0; u < H_; ++u) {
      const double d = at(dc, u) + at(d_seen, u), f = value(s, 'f', u), i = value(s, 'i', u);
      const double g = value(s, 'g', u), df = d * at(s.c_prev, u), di = d * g;
      if (!coupled_) add(da, u, di * i * (1 - i));
      add(da, block('f') * H_ + u, (coupled_ ? df - di : df) * f * (1 - f));
      add(da, before_g + u, d * i * (1 - g * g));
      dc[static_cast<std::size_t>(u)] = d * f;
    }
    if (p_.peephole.empty()) return;
    multiply_back(p_.peephole, 0, before_g, H_, da, dc);
    outer(made_.dpeephole, 0, before_g, H_, da, s.c_prev);
  }

  const Problem& p_;
  const Index H_, P_, G_;
  const bool lstm_, coupled_, norm_;
  Results<Values> made_;
};

}  // namespace pyrnn::selftest
