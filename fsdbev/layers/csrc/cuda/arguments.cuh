// Arguments of the CUDA kernels of lift_splat and their preparation.
#pragma once

#include "../lift_splat.h"
#include "channels.cuh"

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <c10/macros/Macros.h>

#include <limits>

namespace fsdbev {

// W is the type of the weights, T that of the sums.
template <typename W, typename T>
struct SplatArguments {
  using Weight = W;
  using Sum = T;

  LiftSplatShape shape;
  const W* weights;              // (S, V, D, pixels)
  const T* foreground;           // (S, V, pixels)
  const T* features;             // (V, pixels, padded)
  int64_t padded;                // channels in whole groups
  const int64_t *view, *output;  // (P,)
  T depth_threshold, foreground_threshold;

  __device__ bool has(int64_t set, int64_t k, int64_t pixel) const {
    return set < shape.sets && k < shape.bins && pixel < shape.pixels();
  }

  __device__ int64_t weight_index(int64_t set, int64_t v, int64_t k, int64_t pixel) const {
    return ((set * shape.views + v) * shape.bins + k) * shape.pixels() + pixel;
  }

  // Returns the weight of a point; NaN, which no pooled weight is, for a masked or missing point.
  __device__ T masked_weight(int64_t set, int64_t v, int64_t k, int64_t pixel) const {
    if (has(set, k, pixel) && foreground[(set * shape.views + v) * shape.pixels() + pixel] >= foreground_threshold) {
      const T weight = static_cast<T>(weights[weight_index(set, v, k, pixel)]);
      if (weight >= depth_threshold) {
        return weight;
      }
    }
    return std::numeric_limits<T>::quiet_NaN();
  }

  __device__ int64_t checked_view(int64_t splat) const {
    const int64_t v = view[splat];
    CUDA_KERNEL_ASSERT(v >= 0 && v < shape.views && "view must be in 0 .. V - 1");
    return v;
  }

  __device__ int64_t checked_output(int64_t splat) const {
    const int64_t b = output[splat];
    CUDA_KERNEL_ASSERT(b >= 0 && b < shape.outputs && "output must be in 0 .. num_outputs - 1");
    return b;
  }

  // Checks every index, also of splats without pooled points. Blocks have kWarp x kWarpsPerBlock threads.
  __device__ void check_indices() const {
    if (blockIdx.x == 0) {
      for (int64_t p = threadIdx.y * kWarp + threadIdx.x; p < shape.splats; p += kBlockThreads) {
        checked_view(p);
        checked_output(p);
      }
    }
  }

  // The first splat of view v from number `splat` on, or the number of splats; for whole warps.
  __device__ int64_t next_splat(int64_t v, int64_t splat) const {
    for (; splat < shape.splats; splat += kWarp) {
      const int64_t own = splat + threadIdx.x;
      const unsigned found = __ballot_sync(kAllLanes, own < shape.splats && view[own] == v);
      if (found != 0) {
        return splat + __ffs(found) - 1;
      }
    }
    return shape.splats;
  }
};

// See SplatArguments::masked_weight.
template <typename T>
__device__ bool takes_part(T masked_weight) {
  return masked_weight == masked_weight;
}

inline bool is_empty(const LiftSplatShape& shape) {
  const int64_t points = shape.sets * shape.views * shape.bins * shape.pixels();
  return points == 0 || shape.channels * shape.splats * shape.outputs == 0;
}

// Prepares what SplatArguments point to, keeps its memory meanwhile and runs `pass(arguments)`, a
// generic lambda. Weights are read as they are; only where the sums are float64, as float64.
template <typename Pass>
void with_arguments(
    const LiftSplatShape& shape,
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const at::Tensor& view,
    const at::Tensor& output,
    double depth_threshold,
    double foreground_threshold,
    const Pass& pass) {
  const auto type = sum_type(weights, context);
  const at::Tensor kept_weights = (type == at::kDouble ? weights.to(type) : weights).contiguous();
  const at::Tensor kept_foreground = foreground.to(type).contiguous();
  const at::Tensor kept_view = view.contiguous(), kept_output = output.contiguous();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, kept_weights.scalar_type(), "lift_splat_cuda", [&] {
    using T = at::opmath_type<scalar_t>;
    const at::Tensor features = channels_last<T>(context.flatten(2));
    pass(SplatArguments<scalar_t, T>{
        shape, kept_weights.const_data_ptr<scalar_t>(), kept_foreground.const_data_ptr<T>(),
        features.const_data_ptr<T>(), features.size(2), kept_view.const_data_ptr<int64_t>(),
        kept_output.const_data_ptr<int64_t>(), static_cast<T>(depth_threshold), static_cast<T>(foreground_threshold)});
  });
}

}  // namespace fsdbev
