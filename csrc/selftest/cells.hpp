// Every cell, alone and with the phases of its variants, against the naive equations; any number of threads
// bit for bit.
#pragma once

#include <numeric>

#include "../kernels.hpp"
#include "../scratch.hpp"
#include "../team.hpp"
#include "compare.hpp"

namespace pyrnn::selftest {
namespace {

// Phases of csrc/isa/structure.hpp, bits of make's last argument.
constexpr unsigned norm = 1, peephole = 2, projection = 4;

// A problem with NaN, or tokens that do not exist, in its padding.
template <class T>
Problem make(const CellKernels<T>& cell, Shape shape, unsigned options, unsigned phases) {
  const auto [len, B, I, H] = shape;
  const auto drawn = [&](unsigned bit) { return (options >> bit & 1) != 0; };
  // Sums of order 1: where a unit saturates, its slope 1 - h^2 is what rounding leaves of it.
  const double bound = 1 / std::sqrt(static_cast<double>(std::max(I, H)));
  Problem p{};
  p.cell = cell.name;
  p.gates = cell.gates;
  p.has_c = cell.has_c;
  p.shape = shape;
  const Index P = (phases & projection) != 0 ? std::max<Index>(1, H * 3 / 5) : H;
  p.P = P;
  p.reverse = drawn(0);
  if (drawn(1)) {
    for (Index b = 0; b < B; ++b) {
      p.lengths.push_back(static_cast<std::int64_t>(random_bits() % std::uint64_t(len + 1)));
    }
  }
  if (drawn(2) && drawn(3)) {
    for (Index n = 0; n < len * B; ++n) {
      p.tokens.push_back(static_cast<std::int64_t>(random_bits() % std::uint64_t(I)));
    }
  } else {
    p.x = values<T>(len * B * I, 1.5);
  }
  p.h0 = values<T>(B * P, 1);
  if (cell.has_c) p.c0 = values<T>(B * H, 1.5);
  p.w_ih = values<T>(cell.gates * H * I, bound);
  p.w_hh = values<T>(cell.gates * H * P, bound);
  if (!drawn(4)) p.b_ih = values<T>(cell.gates * H, bound);
  if (!drawn(5)) p.b_hh = values<T>(cell.gates * H, bound);
  p.dy = values<T>(len * B * P, 1);
  if (!drawn(6)) p.dh_n = values<T>(B * P, 1);
  if (cell.has_c && !drawn(7)) p.dc_n = values<T>(B * H, 1);
  if ((phases & projection) != 0) p.w_hr = values<T>(P * H, bound);
  if ((phases & peephole) != 0) p.peephole = values<T>((cell.gates - 1) * H * H, bound);
  if ((phases & norm) != 0) {
    for (Values* const of_gates :
         {&p.ln_ih_weight, &p.ln_ih_bias, &p.ln_hh_weight, &p.ln_hh_bias}) {
      *of_gates = values<T>(cell.gates * H, 1);
    }
    if (cell.has_c) p.ln_c_weight = values<T>(H, 1), p.ln_c_bias = values<T>(H, 1);
  }
  for (Index b = 0; b < B; ++b) {
    for (Index t = p.length(b); t < len; ++t) {
      const Index place = t * B + b;
      if (!p.tokens.empty()) p.tokens[std::size_t(place)] = -1'000'000'000;
      const auto spoil = [place](Values& array, Index width) {
        if (!array.empty()) std::fill_n(array.begin() + place * width, width, std::nan(""));
      };
      spoil(p.x, I);
      spoil(p.dy, P);
    }
  }
  return p;
}

// Packed weights of one call for the next: of forward, of backward.
struct Kept {
  bool packed[2] = {};
  Scratch memory[2];

  // The call finds them, or packs them.
  template <class Call>
  void give(Call& call, int which, std::size_t bytes) {
    void* const there = memory[which].at_least(bytes);
    call.packed = packed[which] ? there : nullptr;
    call.keep = packed[which] ? nullptr : there;
    packed[which] = true;
  }
};

template <class T>
Results<Guarded<T>> run(const CellKernels<T>& cell, const Problem& p, bool save,
                        Kept* kept = nullptr) {
  const auto [len, B, I, H] = p.shape;
  const Fenced<T> x(p.x), h0(p.h0), c0(p.c0), dy(p.dy), dh_n(p.dh_n), dc_n(p.dc_n);
  const Fenced<T> w_ih(p.w_ih), w_hh(p.w_hh), b_ih(p.b_ih), b_hh(p.b_hh);
  const Fenced<T> w_hr(p.w_hr), full_peephole(p.peephole);
  const Fenced<T> ln_ih_weight(p.ln_ih_weight), ln_ih_bias(p.ln_ih_bias);
  const Fenced<T> ln_hh_weight(p.ln_hh_weight), ln_hh_bias(p.ln_hh_bias);
  const Fenced<T> ln_c_weight(p.ln_c_weight), ln_c_bias(p.ln_c_bias);
  std::vector<Index> order(static_cast<std::size_t>(B));
  std::iota(order.begin(), order.end(), Index(0));
  std::stable_sort(order.begin(), order.end(),
                   [&](Index a, Index b) { return p.length(a) > p.length(b); });
  const auto array = [](Index n) { return Guarded<T>(static_cast<std::size_t>(n)); };
  const auto like = [](const auto& other) { return Guarded<T>(other.size()); };
  Results<Guarded<T>> r{array(len * B * p.P),
                        like(h0),
                        like(c0),
                        like(x),
                        like(h0),
                        like(c0),
                        like(w_ih),
                        like(w_hh),
                        like(b_ih),
                        like(b_hh),
                        like(w_hr),
                        like(full_peephole),
                        like(ln_ih_weight),
                        like(ln_ih_bias),
                        like(ln_hh_weight),
                        like(ln_hh_bias),
                        like(ln_c_weight),
                        like(ln_c_bias)};
  const bool norms = ln_ih_weight.size() > 0;
  Guarded<T> gates = array(save ? len * B * cell.columns * H : 0);
  Guarded<T> tape_h = array(save && (cell.tapes_h || !p.plain()) ? len * B * p.P : 0);
  Guarded<T> tape_c = array(save && cell.has_c ? len * B * H : 0);
  Guarded<T> norm_ih = array(save && norms ? len * B * cell.gates * H : 0);
  Guarded<T> norm_hh = array(save && norms ? len * B * cell.gates * H : 0);
  Guarded<T> rstd = array(save && norms ? len * B * 2 : 0);

  Inputs<T> in{};
  in.shape = p.shape;
  in.x = p.tokens.empty() ? x.data() : nullptr;
  in.tokens = p.tokens.empty() ? nullptr : p.tokens.data();
  in.h0 = h0.data();
  in.c0 = c0.data_or_null();
  in.lengths = p.lengths.empty() ? nullptr : p.lengths.data();
  in.order = p.lengths.empty() ? nullptr : order.data();
  in.params = {w_ih.data(), w_hh.data(), b_ih.data_or_null(), b_hh.data_or_null()};
  in.reverse = p.reverse;
  in.P = p.P;
  Variant<T>& variant = in.variant;
  variant.plain = p.plain();
  variant.w_hr = w_hr.data_or_null();
  variant.full_peephole = full_peephole.data_or_null();
  variant.ln_ih_weight = ln_ih_weight.data_or_null();
  variant.ln_ih_bias = ln_ih_bias.data_or_null();
  variant.ln_hh_weight = ln_hh_weight.data_or_null();
  variant.ln_hh_bias = ln_hh_bias.data_or_null();
  variant.ln_c_weight = ln_c_weight.data_or_null();
  variant.ln_c_bias = ln_c_bias.data_or_null();
  variant.activation.kind = cell.activation;

  Forward<T> forward{};
  forward.in = in;
  forward.save = save;
  if (save) {
    forward.tape = {gates.data(),           tape_h.data_or_null(),  tape_c.data(),
                    norm_ih.data_or_null(), norm_hh.data_or_null(), rstd.data_or_null()};
  }
  forward.y = r.y.data();
  forward.h_n = r.h_n.data();
  forward.c_n = r.c_n.data_or_null();
  if (kept != nullptr) {
    const Part<T> part{I, H, p.P, in.params, in.variant, nullptr};
    kept->give(forward, 0, cell.frozen->packed_bytes(part));
  }
  Team team(nullptr);
  cell.forward(&forward, 1, false, team);
  if (!save) return r;

  Backward<T> backward{};
  backward.in = in;
  backward.tape = {gates.data(),           tape_h.data_or_null(),  tape_c.data(),
                   norm_ih.data_or_null(), norm_hh.data_or_null(), rstd.data_or_null()};
  backward.dy = dy.data_or_null();
  backward.dh_n = dh_n.data_or_null();
  backward.dc_n = dc_n.data_or_null();
  backward.dx = p.tokens.empty() ? r.dx.data() : nullptr;
  backward.dh0 = r.dh0.data();
  backward.dc0 = r.dc0.data_or_null();
  backward.dw_ih = r.dw_ih.data();
  backward.dw_hh = r.dw_hh.data();
  backward.db_ih = r.db_ih.data_or_null();
  backward.db_hh = r.db_hh.data_or_null();
  backward.dw_hr = r.dw_hr.data_or_null();
  backward.dfull_peephole = r.dpeephole.data_or_null();
  backward.dln_ih_weight = r.dln_ih_weight.data_or_null();
  backward.dln_ih_bias = r.dln_ih_bias.data_or_null();
  backward.dln_hh_weight = r.dln_hh_weight.data_or_null();
  backward.dln_hh_bias = r.dln_hh_bias.data_or_null();
  backward.dln_c_weight = r.dln_c_weight.data_or_null();
  backward.dln_c_bias = r.dln_c_bias.data_or_null();
  if (kept != nullptr) kept->give(backward, 1, cell.backward_bytes(backward));
  cell.backward(&backward, 1, false, team);
  return r;
}

std::string title(const Shape& s, const char* array) {
  return std::string(array) + ", T " + std::to_string(s.T) + " B " + std::to_string(s.B) + " I " +
         std::to_string(s.I) + " H " + std::to_string(s.H);
}

// Below, at and above the widths of vectors, panels and tiles, and primes.
constexpr Index sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15, 16, 17, 23, 31, 32, 33, 47};
constexpr int size_count = sizeof(sizes) / sizeof(sizes[0]);
// Several blocks of steps, work for several threads by units and by rows, few tokens of many, nothing.
constexpr Shape large[] = {{300, 1, 5, 9},  {9, 1, 16, 130}, {5, 40, 12, 64}, {270, 2, 3, 4},
                           {4, 70, 17, 40}, {1, 3, 97, 33},  {0, 3, 2, 5},    {3, 65, 9, 31}};

template <class T>
void test_cell(const KernelTable& table, const CellKernels<T>& cell, unsigned phases) {
  std::string name = cell.name;
  if ((phases & norm) != 0) name += " norm";
  if ((phases & peephole) != 0) name += " peep";
  if ((phases & projection) != 0) name += " proj";
  // Layer norm divides by a spread that may be small.
  Group group(table.isa, dtype<T>, name, tolerance<T> * ((phases & norm) != 0 ? 10 : 1));
  std::vector<Shape> shapes(std::begin(large), std::end(large));
  for (int k = 0; k < size_count; ++k) {
    // Steps that share no factor with 19 sizes: B, I and H take every size in turn.
    shapes.push_back(
        {1 + k % 7, sizes[(k * 5 + 3) % size_count], sizes[(k * 7 + 11) % size_count], sizes[k]});
  }
  // Of each combination of phases a third of the shapes, every one in several of them.
  const std::size_t step = (quick ? 2 : 1) * (phases == 0 ? 1 : 3);
  for (std::size_t k = phases % step; k < shapes.size(); k += step) {
    Shape shape = shapes[k];
    if (sizeof(T) == 4 && (phases & norm) != 0) {
      // Of one or two columns little but rounding is left, and it grows over hundreds of steps.
      if (shape.H < 3) continue;
      shape.T = std::min<Index>(shape.T, 60);
    }
    const Problem p = make(cell, shape, static_cast<unsigned>(random_bits()), phases);
    set_num_threads(1);
    Results<Values> want = Naive::run(p);
    Results<Guarded<T>> got = run(cell, p, true);
    got.each(got, want, [&](const char* name, Guarded<T>& a, const Values& b) {
      if (std::strcmp(name, "dx") == 0 && !p.tokens.empty()) return;
      group.error(relative_error(a, b), title(shape, name));
      group.check(a.intact(), "written beside: " + title(shape, name));
    });
    Results<Guarded<T>> unsaved = run(cell, p, false);
    group.check(same_bits(unsaved.y, got.y) && same_bits(unsaved.h_n, got.h_n) &&
                    same_bits(unsaved.c_n, got.c_n),
                "without a tape: " + title(shape, "y"));
    Kept kept;
    for (const char* const how : {"packing for later: ", "packed before: "}) {
      Results<Guarded<T>> other = run(cell, p, true, &kept);
      got.each(got, other, [&](const char* name, Guarded<T>& a, Guarded<T>& b) {
        group.check(same_bits(a, b), how + title(shape, name));
      });
    }
    for (const int threads : {2, 3}) {
      set_num_threads(threads);
      Results<Guarded<T>> other = run(cell, p, true);
      got.each(got, other, [&](const char* name, Guarded<T>& a, Guarded<T>& b) {
        group.check(same_bits(a, b), std::to_string(threads) + " threads: " + title(shape, name));
      });
    }
  }
}

}  // namespace
}  // namespace pyrnn::selftest
