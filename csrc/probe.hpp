// The limits of this machine, measured: rates of arithmetic and memory, and what it costs threads to meet.
#pragma once

#include "shapes.hpp"

namespace pyrnn {

// Fused multiply-adds of all threads together, in GFLOP/s.
template <class T>
double fma_rate(int threads);

// Every thread reads `bytes` of its own again and again: all together, in GB/s.
double read_rate(Index bytes, int threads);

// From the start of a parallel region that does nothing to its end, in ns.
double region_time(int threads);

// One barrier inside a region, in ns.
double barrier_time(int threads);

// One cache line on its way from one core to another, in ns; NaN with fewer than two processors.
double core_latency();

}  // namespace pyrnn
