// The variant of a cell, from Python's tuple: checked, and its arrays made native.
#pragma once

#include <array>
#include <cstring>
#include <tuple>

#include "bind.hpp"
#include "kernels.hpp"

namespace pyrnn {

// In the order of pyrnn.variants.VARIANT_ARRAYS.
enum VariantArray {
  w_peephole,
  w_hr,
  ln_ih_weight,
  ln_ih_bias,
  ln_hh_weight,
  ln_hh_bias,
  ln_c_weight,
  ln_c_bias
};
constexpr int variant_arrays = 8;
constexpr const char* variant_array_names[variant_arrays] = {
    "w_peephole",   "w_hr",       "ln_ih_weight", "ln_ih_bias",
    "ln_hh_weight", "ln_hh_bias", "ln_c_weight",  "ln_c_bias"};

// What a call says of its variant, in double and without a dtype; of a plain cell nothing.
struct CheckedVariant {
  Variant<double> settings;
  std::array<std::optional<py::array>, variant_arrays> arrays;

  [[nodiscard]] bool has(VariantArray which) const { return arrays[which].has_value(); }
  // Columns of h.
  [[nodiscard]] Index projected(Index H) const { return has(w_hr) ? arrays[w_hr]->shape(0) : H; }
  // Whether h_t has to be on the tape.
  template <class T>
  [[nodiscard]] bool tapes_h(const CellKernels<T>& cell) const {
    const bool zones = settings.zoneout_h > 0 || settings.zoneout_c > 0;
    return cell.tapes_h || zones || has(w_hr) || has(ln_ih_weight) ||
           (cell.gates == 1 && settings.tapes_sums);
  }
};

// (the place in ActivationKind, alpha, beta)
inline Activation<double> activation_of(const py::handle& given) {
  const auto [kind, alpha, beta] = given.cast<std::tuple<int, double, double>>();
  if (kind < 0 || kind > static_cast<int>(ActivationKind::identity)) {
    throw py::value_error(text("activation: no activation of the number ", kind));
  }
  return {static_cast<ActivationKind>(kind), alpha, beta};
}

// (seed, layer, direction)
using KeyWords = std::tuple<std::uint64_t, std::uint32_t, std::uint32_t>;

inline MaskKey mask_key_of(const KeyWords& words) {
  const auto& [seed, layer, direction] = words;
  return {seed, layer, direction};
}

// `given`: None, or (activation, gate_activation, clip, cell_clip, zoneout_h, zoneout_c,
// recurrent_dropout, key or None, arrays). Shapes are those of the parameters of H units.
inline CheckedVariant check_variant(const CellKernels<float>& cell, const py::object& given,
                                    Index H, const py::array& like) {
  CheckedVariant checked;
  Variant<double>& v = checked.settings;
  v.activation.kind = cell.activation;
  if (given.is_none()) return checked;
  const auto parts = given.cast<py::tuple>();
  if (parts.size() != 9) throw py::value_error("variant: expected 9 parts");
  const auto number = [&](std::size_t i) { return parts[i].cast<double>(); };
  v.plain = false;
  v.activation = activation_of(parts[0]);
  v.gate_activation = activation_of(parts[1]);
  v.clip = number(2), v.cell_clip = number(3);
  v.zoneout_h = number(4), v.zoneout_c = number(5), v.recurrent_dropout = number(6);
  if (!parts[7].is_none()) {
    v.draws = true;
    v.key = mask_key_of(parts[7].cast<KeyWords>());
  }
  const bool own = v.activation.kind == ActivationKind::tanh ||
                   (cell.gates == 1 && v.activation.kind == ActivationKind::relu);
  const bool marks = cell.gates > 1 && v.clip >= least_marked_clip;
  v.tapes_sums =
      (v.clip > 0 && !marks) || !own || v.gate_activation.kind != ActivationKind::sigmoid;

  const Index peepholes = cell.gates - 1;
  const Axis rows{"G·H", cell.gates * H}, units{"H", H};
  const auto arrays = parts[8].cast<py::tuple>();
  if (arrays.size() != variant_arrays) throw py::value_error("variant: expected 8 arrays");
  for (std::size_t i = 0; i < variant_arrays; ++i) {
    if (arrays[i].is_none()) continue;
    const char* const name = variant_array_names[i];
    const py::array array = as_array(name, py::object(arrays[i]));
    if (!is_float(array) || array.itemsize() != like.itemsize()) {
      throw py::type_error(
          text(name, ": expected ", dtype_text(like), " like w_ih, got ", dtype_text(array)));
    }
    if (i == w_peephole) {
      if (!cell.has_c) throw py::value_error("w_peephole: the cell has no c");
      const std::string count = std::to_string(peepholes);
      const Axis gates{count, peepholes};
      if (array.ndim() == 3) {
        check_shape(name, array, {gates, units, units});
      } else {
        check_shape(name, array, {gates, units});
      }
    } else if (i == w_hr) {
      if (!cell.has_c) throw py::value_error("w_hr: the cell has no projection");
      check_shape(name, array, {{"P"}, units});
      if (array.shape(0) == 0) throw py::value_error("w_hr: expected P at least 1");
    } else {
      check_shape(name, array, {i < ln_c_weight ? rows : units});
    }
    checked.arrays[i] = native(array);
  }
  return checked;
}

template <class T>
Variant<T> variant_of(const CheckedVariant& checked) {
  const Variant<double>& given = checked.settings;
  const auto array = [&](VariantArray which) { return data<T>(checked.arrays[which]); };
  const auto activation = [](const Activation<double>& a) {
    return Activation<T>{a.kind, T(a.alpha), T(a.beta)};
  };
  Variant<T> v;
  v.plain = given.plain;
  v.activation = activation(given.activation);
  v.gate_activation = activation(given.gate_activation);
  v.clip = T(given.clip), v.cell_clip = T(given.cell_clip);
  const bool full = checked.has(w_peephole) && checked.arrays[w_peephole]->ndim() == 3;
  (full ? v.full_peephole : v.peephole) = array(w_peephole);
  v.w_hr = array(w_hr);
  v.ln_ih_weight = array(ln_ih_weight), v.ln_ih_bias = array(ln_ih_bias);
  v.ln_hh_weight = array(ln_hh_weight), v.ln_hh_bias = array(ln_hh_bias);
  v.ln_c_weight = array(ln_c_weight), v.ln_c_bias = array(ln_c_bias);
  v.zoneout_h = given.zoneout_h, v.zoneout_c = given.zoneout_c;
  v.recurrent_dropout = given.recurrent_dropout;
  v.tapes_sums = given.tapes_sums;
  v.draws = given.draws;
  v.key = given.key;
  return v;
}

}  // namespace pyrnn
