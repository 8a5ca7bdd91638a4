// The pointwise parts of a cell as functions over rows and panels, one set of them for each rule. A call
// chooses its set once: a variant needs neither a time loop of its own nor branches in it.
#pragma once

#include "cell.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class T>
struct Pointwise {
  static constexpr int most_phases = 2, most_stages = 2;
  // n rows and the units of some panels; sums [n] rows, by panels.
  using Forward = void (*)(const Variant<T>&, Index n, const StepRow<T>* rows, Range panels,
                           T* const* sums);
  // h~, where row.h has it, becomes h_t.
  using Settle = void (*)(const Variant<T>&, Index n, const StepRow<T>* rows, Range units);
  // One row; da_x and da_h by panels, the latter those of the phase.
  using Backward = void (*)(const Variant<T>&, const GradRow<T>& row, Range panels, T* da_x,
                            T* da_h);
  // What W_hh multiplied at the steps of n rows, the units of some panels: for each row lines side by side, padded
  // with zeros, `step` behind those of the row before.
  using Operand = void (*)(const Variant<T>&, Index n, const TapeRow<T>* rows, Range panels,
                           T* lines, Index step);
  // The same of one panel: c~ as the peephole of o saw it.
  using Lines = void (*)(const Variant<T>&, Index n, const GradRow<T>* rows, Index panel, T* lines,
                         Index step);
  // So many rows at once repay what a call costs.
  static constexpr Index rows_at_once = 16;

  Forward forward[most_phases][most_stages];
  Forward taped[most_phases][most_stages];  // the same with a tape
  Settle settle;                            // with a projection
  Backward backward[most_phases];
  Operand operand[most_phases];
  Backward backward_stages[most_stages];  // cut where the stages of forward are
  Lines fresh_cell;
};

// Calls f(i, at, panel) over the units of some panels of n rows, in one loop: compilers set up the constants of
// the activations, more than there are registers, before the innermost loop, which two vectors do not repay.
template <class T, class F>
PYRNN_INLINE void for_rows_units(Index n, Range panels, Index H, F f) {
  constexpr Index W = panel_width<T>, N = lanes<T>;
  const Index first = panels.first * W, last = min(H, panels.last * W);
  const Index whole = last - (last - first) % N;
  for (Index i = first < whole ? 0 : n, unit = first; i < n;) {
    f(i, Lanes<T, true>{unit, lanes<T>}, unit / W);
    unit += N;
    if (unit == whole) {
      unit = first;
      ++i;
    }
  }
  if (whole >= last) return;
  for (Index i = 0; i < n; ++i) {
    f(i, Lanes<T, false>{whole, static_cast<int>(last - whole)}, whole / W);
  }
}

template <class Cell, class Rule, int phase, int stage, bool save, class T>
void forward_pointwise(const Variant<T>& variant, Index n, const StepRow<T>* rows, Range panels,
                       T* const* sums) {
  if (n == 0) return;
  const Rule rule(variant);
  for_rows_units<T>(n, panels, rows->H,
                    [&](Index i, const auto& at, Index p) __attribute__((always_inline)) {
                      Cell::template pointwise<phase, stage, save, T>(
                          rule, at, rows[i], panel_blocks(sums[i], p, Cell::columns));
                    });
}

template <class Cell, class Rule, int phase, class T>
void backward_pointwise(const Variant<T>& variant, const GradRow<T>& row, Range panels, T* da_x,
                        T* da_h) {
  const Rule rule(variant);
  for_rows_units<T>(1, panels, row.H,
                    [&](Index, const auto& at, Index p) __attribute__((always_inline)) {
                      Cell::template pointwise_backward<phase, T>(
                          rule, at, row, panel_blocks(da_x, p, Cell::gates),
                          panel_blocks(da_h, p, PhaseGates<Cell>(phase).count));
                    });
}

template <class Rule, class T>
void settle_rows(const Variant<T>& variant, Index n, const StepRow<T>* rows, Range units) {
  const Rule rule(variant);
  for (Index i = 0; i < n; ++i) {
    for_lanes<T>(units.first, units.last, [&](const auto& at) {
      rule.template settle<false>(at, rows[i], at.load(rows[i].h));
    });
  }
}

// f(i, at) -> values of row i, into its line of some panels; the next row's is `step` further.
template <class T, class F>
PYRNN_INLINE void fill_lines(Index n, Range panels, Index H, T* lines, Index step, F f) {
  const Index first = panels.first * panel_width<T>, end = panels.last * panel_width<T>;
  for (Index i = 0; end > H && i < n; ++i) {
    for (Index u = max(first, H); u < end; ++u) lines[i * step + u - first] = T(0);
  }
  for_rows_units<T>(n, panels, H,
                    [&](Index i, const auto& at, Index) __attribute__((always_inline)) {
                      at.store(lines + i * step - first, f(i, at));
                    });
}

template <class Cell, class Rule, int phase, class T>
void operand_lines(const Variant<T>& variant, Index n, const TapeRow<T>* rows, Range panels,
                   T* lines, Index step) {
  if (n == 0) return;
  const Rule rule(variant);
  fill_lines(n, panels, rows->P, lines, step,
             [&](Index i, const auto& at) __attribute__((always_inline)) {
               const TapeRow<T>& row = rows[i];
               Vec<T> h;
               if (row.h0 != nullptr) {
                 h = at.load(row.h0);
               } else if (row.h != nullptr) {
                 h = at.load(row.h);
               } else {
                 h = Cell::template hidden<T>(rule, at, row);
               }
               h = rule.masked(at, row.mask, h);
               if constexpr (phase > 0) h = Cell::template operand<T>(rule, at, row.next, h);
               return h;
             });
}

// One stage of the way back, 1 before 0.
template <class Cell, class Rule, int stage, class T>
void backward_stage(const Variant<T>& variant, const GradRow<T>& row, Range panels, T* da, T*) {
  const Rule rule(variant);
  for_rows_units<T>(
      1, panels, row.H, [&](Index, const auto& at, Index p) __attribute__((always_inline)) {
        Cell::template stage_backward<stage, T>(rule, at, row, panel_blocks(da, p, Cell::gates));
      });
}

template <class Cell, class Rule, class T>
void fresh_cell_lines(const Variant<T>& variant, Index n, const GradRow<T>* rows, Index panel,
                      T* lines, Index step) {
  if (n == 0) return;
  const Rule rule(variant);
  fill_lines(n, {panel, panel + 1}, rows->H, lines, step, [&](Index i, const auto& at) {
    return Cell::template fresh_cell<T>(rule, at, rows[i]);
  });
}

template <class Cell, class Rule, class T>
constexpr Pointwise<T> make_pointwise() {
  Pointwise<T> all{};
  for_phases<Cell>([&](auto phase_constant) {
    constexpr int phase = decltype(phase_constant)::value;
    for_stages<Cell>([&](auto stage_constant) {
      constexpr int stage = decltype(stage_constant)::value;
      all.forward[phase][stage] = &forward_pointwise<Cell, Rule, phase, stage, false, T>;
      all.taped[phase][stage] = &forward_pointwise<Cell, Rule, phase, stage, true, T>;
    });
    if constexpr (!Cell::has_c || Rule::plain) {
      all.backward[phase] = &backward_pointwise<Cell, Rule, phase, T>;
    }
    all.operand[phase] = &operand_lines<Cell, Rule, phase, T>;
    return true;
  });
  // What several features have to come together for is compiled once.
  using Any = Chosen<T>;
  if constexpr (Cell::has_c) all.settle = &settle_rows<Any, T>;
  if constexpr (Cell::has_c && !Rule::plain) {
    all.fresh_cell = &fresh_cell_lines<Cell, Any, T>;
    // Layer norm stands between the stages of the way back, which is cut for it alone.
    constexpr bool norm = std::is_same_v<Rule, Chosen<T, Features::norm>>;
    using Staged = std::conditional_t<norm, Rule, Any>;
    using Whole = std::conditional_t<norm, Any, Rule>;
    all.backward[0] = &backward_pointwise<Cell, Whole, 0, T>;
    all.backward_stages[0] = &backward_stage<Cell, Staged, 0, T>;
    all.backward_stages[1] = &backward_stage<Cell, Staged, 1, T>;
  }
  return all;
}

template <class Cell, class Rule, class T>
constexpr Pointwise<T> pointwise_with = make_pointwise<Cell, Rule, T>();

// `of_cells`: whether gradients of the steps' c come back too.
template <class Cell, class T>
PYRNN_INLINE const Pointwise<T>& pointwise_of(const Variant<T>& variant, bool of_cells = false) {
  const unsigned features = variant.plain ? 0 : Features::of(variant);
  // To the pointwise part a projection's u is h: where there is nothing else, it is the plain one.
  const bool plain =
      variant.plain || (Cell::has_c && !of_cells && features == Features::projection);
  if (!plain) {
    // Each set adds to the package's size: what branches cost most has one without any, what is made of
    // `simple` features one with few, and all others share one.
    if constexpr (Cell::has_c) {
      if (features == Features::norm) return pointwise_with<Cell, Chosen<T, Features::norm>, T>;
      if constexpr (Cell::gates == 4 && std::is_same_v<T, float> && lanes<T> >= 8) {
        if (features == Features::zoneout) {
          return pointwise_with<Cell, Chosen<T, Features::zoneout>, T>;
        }
      }
      if ((features & ~Features::simple) == 0) {
        return pointwise_with<Cell, Chosen<T, Features::simple>, T>;
      }
    }
    return pointwise_with<Cell, Chosen<T>, T>;
  }
  // Elman's relu is as plain as its tanh.
  if constexpr (Cell::gates == 1) {
    if (variant.activation.kind == ActivationKind::relu) {
      return pointwise_with<Cell, PlainRelu<T>, T>;
    }
  }
  return pointwise_with<Cell, Plain<T>, T>;
}

// One stage of the pointwise part of a phase, for n rows and the units of some panels.
template <int phase, bool save, class T>
void apply_stage(const Pointwise<T>& functions, int stage, const Variant<T>& variant, Index n,
                 const StepRow<T>* rows, Range panels, T* const* sums) {
  const auto& stages = save ? functions.taped[phase] : functions.forward[phase];
  stages[stage](variant, n, rows, panels, sums);
}

// All stages.
template <class Cell, int phase, bool save, class T>
void apply(const Pointwise<T>& functions, const Variant<T>& variant, Index n,
           const StepRow<T>* rows, Range panels, T* const* sums) {
  for (int stage = 0; stage < Cell::stages; ++stage) {
    apply_stage<phase, save>(functions, stage, variant, n, rows, panels, sums);
  }
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
