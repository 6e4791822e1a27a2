// CUDA kernels of lift_splat. Forward: a warp tests 32 frustum points at once, then its lanes share
// the channels of each point that takes part; sums are atomic. Backward: a warp owns one pixel and
// gathers, without atomics, so gradients are the same on every run.
#include "../lift_splat.h"

#include <ATen/Context.h>
#include <ATen/Dispatch.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <tuple>

namespace fsdbev {
namespace {

constexpr int kWarp = 32;
constexpr int kWarpsPerBlock = 8;
constexpr int kChannelsPerLane = 4;  // of one pass over the channels in the backward kernel
constexpr unsigned kAllLanes = 0xffffffffu;

// Plain pointers to what both kernels read; T is the type of the sums.
template <typename T>
struct Arguments {
  LiftSplatShape shape;
  Frustum frustum;
  const T *weights, *foreground, *context;  // (S, V, D, pixels), (S, V, pixels), (V, pixels, C)
  const double *undo_image_aug, *image2bev;
  const int64_t *view, *output;
  T depth_threshold, foreground_threshold;

  __device__ int64_t pixels() const { return shape.height * shape.width; }

  __device__ int64_t weight_index(int64_t set, int64_t v, int64_t k, int64_t pixel) const {
    return ((set * shape.views + v) * shape.bins + k) * pixels() + pixel;
  }

  __device__ bool takes_part(int64_t set, int64_t v, int64_t k, int64_t pixel) const {
    return foreground[(set * shape.views + v) * pixels() + pixel] >= foreground_threshold &&
        weights[weight_index(set, v, k, pixel)] >= depth_threshold;
  }

  // The cell of a point that takes part in some weight set, else -1: masks first, geometry after.
  __device__ int64_t cell(int64_t splat, int64_t v, int64_t k, int64_t pixel) const {
    for (int64_t set = 0; set < shape.sets; ++set) {
      if (takes_part(set, v, k, pixel)) {
        return frustum.cell(
            undo_image_aug + splat * 16, image2bev + splat * 16, k, pixel / shape.width, pixel % shape.width);
      }
    }
    return -1;
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
};

// bev: (S, B, cells, C), zero. Grid: x over points of a splat, y over splats; a warp a row of a block.
template <typename T>
__global__ void forward_kernel(const Arguments<T> in, T* bev) {
  const auto& shape = in.shape;
  const int64_t points = shape.bins * in.pixels();
  const int64_t warp = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.y;
  const int lane = threadIdx.x;
  const int64_t point = warp * kWarp + lane;
  for (int64_t splat = blockIdx.y; splat < shape.splats; splat += gridDim.y) {
    const int64_t v = in.checked_view(splat), b = in.checked_output(splat);
    const int64_t k = point / in.pixels(), pixel = point % in.pixels();
    const int64_t cell = point < points ? in.cell(splat, v, k, pixel) : -1;
    for (int64_t set = 0; set < shape.sets; ++set) {
      const bool kept = cell >= 0 && in.takes_part(set, v, k, pixel);
      const T own_weight = kept ? in.weights[in.weight_index(set, v, k, pixel)] : T(0);
      T* plane = bev + (set * shape.outputs + b) * shape.cells * shape.channels;
      for (unsigned left = __ballot_sync(kAllLanes, kept); left != 0; left &= left - 1) {
        const int from = __ffs(left) - 1;
        const T weight = __shfl_sync(kAllLanes, own_weight, from);
        T* to = plane + __shfl_sync(kAllLanes, cell, from) * shape.channels;
        const T* features =
            in.context + (v * in.pixels() + __shfl_sync(kAllLanes, pixel, from)) * shape.channels;
        for (int64_t c = lane; c < shape.channels; c += kWarp) {
          atomicAdd(to + c, weight * features[c]);
        }
      }
    }
  }
}

template <typename T>
__device__ T sum_over_warp(T value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}

// The splats of view v are splats[first[v]] .. splats[first[v + 1] - 1]. grad: (S, B, cells, C);
// grad_weights: as weights, zero; grad_context: (V, pixels, C). One warp a pixel of a view.
template <typename T>
__global__ void backward_kernel(
    const Arguments<T> in,
    const int64_t* splats,
    const int64_t* first,
    const T* grad,
    T* grad_weights,
    T* grad_context) {
  const auto& shape = in.shape;
  const int64_t warp = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.y;
  const int lane = threadIdx.x;
  if (warp >= shape.views * in.pixels()) {
    return;
  }
  const int64_t v = warp / in.pixels(), pixel = warp % in.pixels();
  const T* features = in.context + warp * shape.channels;
  for (int64_t start = 0; start < shape.channels; start += kWarp * kChannelsPerLane) {
    T sums[kChannelsPerLane] = {};
    for (int64_t i = first[v]; i < first[v + 1]; ++i) {
      const int64_t splat = splats[i], b = in.checked_output(splat);
      for (int64_t first_bin = 0; first_bin < shape.bins; first_bin += kWarp) {
        const int64_t k = first_bin + lane;
        const int64_t cell = k < shape.bins ? in.cell(splat, v, k, pixel) : -1;
        for (int64_t set = 0; set < shape.sets; ++set) {
          const bool kept = cell >= 0 && in.takes_part(set, v, k, pixel);
          const T own_weight = kept ? in.weights[in.weight_index(set, v, k, pixel)] : T(0);
          const T* plane = grad + (set * shape.outputs + b) * shape.cells * shape.channels;
          for (unsigned left = __ballot_sync(kAllLanes, kept); left != 0; left &= left - 1) {
            const int from = __ffs(left) - 1;
            const T weight = __shfl_sync(kAllLanes, own_weight, from);
            const T* row = plane + __shfl_sync(kAllLanes, cell, from) * shape.channels;
            T dot = 0;
            for (int r = 0; r < kChannelsPerLane; ++r) {
              const int64_t c = start + r * kWarp + lane;
              if (c < shape.channels) {
                dot += features[c] * row[c];
                sums[r] += weight * row[c];
              }
            }
            dot = sum_over_warp(dot);
            if (lane == from) {
              grad_weights[in.weight_index(set, v, k, pixel)] += dot;
            }
          }
        }
      }
    }
    for (int r = 0; r < kChannelsPerLane; ++r) {
      const int64_t c = start + r * kWarp + lane;
      if (c < shape.channels) {
        grad_context[warp * shape.channels + c] = sums[r];
      }
    }
  }
}

// The inputs in the layout and types of Arguments; the tensors keep the memory.
template <typename T>
class Inputs {
 public:
  Inputs(
      const LiftSplatShape& shape,
      const Frustum& frustum,
      const at::Tensor& weights,
      const at::Tensor& foreground,
      const at::Tensor& context,
      const at::Tensor& undo_image_aug,
      const at::Tensor& image2bev,
      const at::Tensor& view,
      const at::Tensor& output,
      double depth_threshold,
      double foreground_threshold)
      : weights_(weights.to(kType).contiguous()),
        foreground_(foreground.to(kType).contiguous()),
        context_(context.to(kType).flatten(2).transpose(1, 2).contiguous()),
        undo_image_aug_(undo_image_aug.to(at::kDouble).contiguous()),
        image2bev_(image2bev.to(at::kDouble).contiguous()),
        view_(view.contiguous()),
        output_(output.contiguous()),
        arguments{
            shape,
            frustum,
            weights_.const_data_ptr<T>(),
            foreground_.const_data_ptr<T>(),
            context_.const_data_ptr<T>(),
            undo_image_aug_.const_data_ptr<double>(),
            image2bev_.const_data_ptr<double>(),
            view_.const_data_ptr<int64_t>(),
            output_.const_data_ptr<int64_t>(),
            static_cast<T>(depth_threshold),
            static_cast<T>(foreground_threshold)} {}

 private:
  static constexpr at::ScalarType kType = c10::CppTypeToScalarType<T>::value;
  const at::Tensor weights_, foreground_, context_, undo_image_aug_, image2bev_, view_, output_;

 public:
  const Arguments<T> arguments;
};

unsigned blocks_for(int64_t warps) {
  const int64_t blocks = (warps + kWarpsPerBlock - 1) / kWarpsPerBlock;
  TORCH_CHECK_VALUE(blocks <= std::numeric_limits<int32_t>::max(), "too many frustum points: ", warps, " warps");
  return static_cast<unsigned>(blocks);
}

at::Tensor lift_splat_cuda(
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const at::Tensor& undo_image_aug,
    const at::Tensor& image2bev,
    const at::Tensor& view,
    const at::Tensor& output,
    int64_t num_outputs,
    at::IntArrayRef image_size,
    double depth_start,
    double depth_step,
    at::ArrayRef<double> lower,
    at::ArrayRef<double> size,
    at::IntArrayRef count,
    double depth_threshold,
    double foreground_threshold) {
  const auto shape = check_lift_splat(
      weights, foreground, context, undo_image_aug, image2bev, view, output, num_outputs, count);
  const auto frustum = make_frustum(shape, image_size, depth_start, depth_step, lower, size, count);
  at::globalContext().alertNotDeterministic("fsdbev::lift_splat on CUDA");
  const c10::cuda::CUDAGuard guard(weights.device());
  const auto dtype = sum_type(weights, context);
  auto bev = at::zeros({shape.sets, num_outputs, count[1], count[0], shape.channels}, context.options().dtype(dtype));
  const int64_t points = shape.bins * shape.pixels();
  if (points > 0 && shape.splats > 0 && shape.sets > 0 && shape.channels > 0) {
    AT_DISPATCH_FLOATING_TYPES(dtype, "lift_splat_cuda", [&] {
      const Inputs<scalar_t> inputs(
          shape, frustum, weights, foreground, context, undo_image_aug, image2bev, view, output,
          depth_threshold, foreground_threshold);
      const dim3 grid(blocks_for((points + kWarp - 1) / kWarp), std::min<int64_t>(shape.splats, 65535));
      forward_kernel<scalar_t><<<grid, dim3(kWarp, kWarpsPerBlock), 0, c10::cuda::getCurrentCUDAStream()>>>(
          inputs.arguments, bev.mutable_data_ptr<scalar_t>());
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    });
  }
  return bev.permute({0, 1, 4, 2, 3}).contiguous();
}

std::tuple<at::Tensor, at::Tensor> lift_splat_backward_cuda(
    const at::Tensor& grad,
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const at::Tensor& undo_image_aug,
    const at::Tensor& image2bev,
    const at::Tensor& view,
    const at::Tensor& output,
    at::IntArrayRef image_size,
    double depth_start,
    double depth_step,
    at::ArrayRef<double> lower,
    at::ArrayRef<double> size,
    at::IntArrayRef count,
    double depth_threshold,
    double foreground_threshold) {
  TORCH_CHECK_VALUE(grad.dim() == 5, "grad must be (S, B, C, Y, X), got ", grad.sizes());
  const auto shape = check_lift_splat(
      weights, foreground, context, undo_image_aug, image2bev, view, output, grad.size(1), count);
  check_lift_splat_grad(grad, shape, count);
  const auto frustum = make_frustum(shape, image_size, depth_start, depth_step, lower, size, count);
  const c10::cuda::CUDAGuard guard(weights.device());
  const auto dtype = sum_type(weights, context);
  auto grad_weights = at::zeros(weights.sizes(), weights.options().dtype(dtype));
  auto grad_context = at::zeros({shape.views, shape.pixels(), shape.channels}, context.options().dtype(dtype));
  if (grad_weights.numel() > 0 && grad_context.numel() > 0 && shape.splats > 0) {
    const auto by_view = at::sort(view, /*stable=*/true, /*dim=*/0, /*descending=*/false);
    const at::Tensor splats = std::get<1>(by_view);
    const auto first = at::searchsorted(std::get<0>(by_view), at::arange(shape.views + 1, view.options()));
    const auto grads = grad.to(dtype).permute({0, 1, 3, 4, 2}).contiguous();
    const unsigned blocks = blocks_for(shape.views * shape.pixels());
    AT_DISPATCH_FLOATING_TYPES(dtype, "lift_splat_backward_cuda", [&] {
      const Inputs<scalar_t> inputs(
          shape, frustum, weights, foreground, context, undo_image_aug, image2bev, view, output,
          depth_threshold, foreground_threshold);
      backward_kernel<scalar_t><<<blocks, dim3(kWarp, kWarpsPerBlock), 0, c10::cuda::getCurrentCUDAStream()>>>(
          inputs.arguments, splats.const_data_ptr<int64_t>(), first.const_data_ptr<int64_t>(),
          grads.const_data_ptr<scalar_t>(), grad_weights.mutable_data_ptr<scalar_t>(),
          grad_context.mutable_data_ptr<scalar_t>());
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    });
  }
  grad_context = grad_context.transpose(1, 2).reshape(context.sizes());
  return {grad_weights.to(weights.scalar_type()), grad_context.contiguous().to(context.scalar_type())};
}

}  // namespace


}  // namespace fsdbev
