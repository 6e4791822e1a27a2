// The loops over channels of lift_splat, compiled for several instruction sets.
#pragma once

#include <cstdint>

namespace fsdbev {

// Contribution of a run of points to a cell of a band.
template <typename T>
struct Contribution {
  int32_t cell, pixel;
  T weight;
};

// sums[cell] += weight * features[pixel], rows of `padded` channels (whole blocks).
template <typename T>
void add_contributions(const Contribution<T>* items, int64_t count, const T* features, int64_t padded, T* sums);

// Adds weight * grad to grad_context and returns context . grad, over `padded` channels.
template <typename T>
T add_and_dot(const T* context, const T* grad, T weight, int64_t padded, T* grad_context);

}  // namespace fsdbev
