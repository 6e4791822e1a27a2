#include "splat_loops.h"

#include "channels.h"
#include "clones.h"

namespace fsdbev {
namespace {

template <typename T>
FSDBEV_INLINE void add_all(
    const Contribution<T>* items,
    int64_t count,
    const T* __restrict features,
    int64_t padded,
    T* __restrict sums) {
  for (int64_t i = 0; i < count; ++i) {
    const T* from = features + items[i].pixel * padded;
    T* to = sums + items[i].cell * padded;
    const T weight = items[i].weight;
    for (int64_t first = 0; first < padded; first += kBlock) {
      for (int64_t c = 0; c < kBlock; ++c) {
        to[first + c] += weight * from[first + c];
      }
    }
  }
}

template <typename T>
FSDBEV_INLINE T add_dot(
    const T* __restrict context,
    const T* __restrict grad,
    T weight,
    int64_t padded,
    T* __restrict grad_context) {
  T partial[kBlock] = {};
  for (int64_t first = 0; first < padded; first += kBlock) {
    for (int64_t c = 0; c < kBlock; ++c) {
      partial[c] += context[first + c] * grad[first + c];
      grad_context[first + c] += weight * grad[first + c];
    }
  }
  for (int64_t half = kBlock / 2; half > 0; half /= 2) {
    for (int64_t c = 0; c < half; ++c) {
      partial[c] += partial[c + half];
    }
  }
  return partial[0];
}

}  // namespace

template <>
FSDBEV_CLONES void add_contributions(
    const Contribution<float>* items,
    int64_t count,
    const float* features,
    int64_t padded,
    float* sums) {
  add_all(items, count, features, padded, sums);
}

template <>
FSDBEV_CLONES void add_contributions(
    const Contribution<double>* items,
    int64_t count,
    const double* features,
    int64_t padded,
    double* sums) {
  add_all(items, count, features, padded, sums);
}

template <>
FSDBEV_CLONES float add_and_dot(
    const float* context,
    const float* grad,
    float weight,
    int64_t padded,
    float* grad_context) {
  return add_dot(context, grad, weight, padded, grad_context);
}

template <>
FSDBEV_CLONES double add_and_dot(
    const double* context,
    const double* grad,
    double weight,
    int64_t padded,
    double* grad_context) {
  return add_dot(context, grad, weight, padded, grad_context);
}

}  // namespace fsdbev
