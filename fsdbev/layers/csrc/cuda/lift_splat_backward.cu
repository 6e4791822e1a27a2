// Backward CUDA kernels of lift_splat: gathers without atomics, so gradients are the same on every run.
#include "cells.cuh"
#include "walk.cuh"

#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <tuple>

namespace fsdbev {
namespace {

// Writes the channels in the lanes of each warp to its pixel of (V, C, pixels), along the pixels.
template <typename T>
__device__ void store_context(
    const LiftSplatShape& shape,
    const TilePlace& place,
    int64_t first_channel,
    const Group<T>& own,
    T* grad_context) {
  __shared__ T tile[kSlice][kTilePixels + 1];
  for (int c = 0; c < kGroup; ++c) {
    tile[threadIdx.x * kGroup + c][threadIdx.y] = own.values[c];
  }
  __syncthreads();
  const int thread = threadIdx.y * kWarp + threadIdx.x;
  const int64_t pixel = place.pixel + thread % kTilePixels;
  for (int row = thread / kTilePixels; row < kSlice; row += kBlockThreads / kTilePixels) {
    const int64_t channel = first_channel + row;
    if (channel < shape.channels && pixel < shape.pixels()) {
      grad_context[(place.view * shape.channels + channel) * shape.pixels() + pixel] = tile[row][thread % kTilePixels];
    }
  }
}

// grad: (S, B, cells, padded). grad_weights: (slices, S, V, D, pixels), a part of each slice of
// channels. grad_context: (V, C, pixels). One block a tile of pixels and a slice.
template <typename W, typename T, typename Cells>
__global__ void __launch_bounds__(kBlockThreads, 2) backward_kernel(
    const SplatArguments<W, T> in,
    const Cells cells,
    const T* grad,
    W* grad_weights,
    T* grad_context) {
  __shared__ Tile<T> tile;  // of weights, and then of their gradients
  in.check_indices();
  const auto& shape = in.shape;
  const int64_t slice = blockIdx.x % slices_of(in.padded), pixel_tile = blockIdx.x / slices_of(in.padded);
  const int64_t channel = slice * kSlice + threadIdx.x * kGroup;
  const bool has_channels = channel < in.padded;
  TilePlace place{pixel_tile / pixel_tiles(shape), pixel_tile % pixel_tiles(shape) * kTilePixels, 0, 0};
  grad_weights += slice * in.weight_index(shape.sets, 0, 0, 0);

  Group<T> features = {}, context_sums = {};
  if (has_channels && place.own_pixel() < shape.pixels()) {
    features = load_group(in.features + (place.view * shape.pixels() + place.own_pixel()) * in.padded + channel);
  }
  for (; place.bin < shape.bins; place.bin += kTileBins) {
    for (place.set = 0; place.set < shape.sets; place.set += kTileSets) {
      T weight_sums[kTileSets] = {};
      if (load_weights(in, place, tile)) {
        for_each_splat(in, cells, place, tile, [&](int64_t splat, int s, const Runs<T>& runs) {
          const int64_t plane = (place.set + s) * shape.outputs + in.checked_output(splat);
          runs.for_each([&](int64_t cell, T weight, bool is_ours) {
            T dot = 0;
            if (has_channels) {
              const auto row = load_group(grad + (plane * shape.cells() + cell) * in.padded + channel);
              for (int c = 0; c < kGroup; ++c) {
                dot += features.values[c] * row.values[c];
                context_sums.values[c] += weight * row.values[c];
              }
            }
            dot = sum_over_warp(dot);
            weight_sums[s] += is_ours ? dot : T(0);
          });
        });
      }
      for (int s = 0; s < kTileSets; ++s) {
        tile.own(s) = weight_sums[s];
      }
      __syncthreads();
      tile.for_each_moved(place, [&](T sum, int64_t set, int64_t k, int64_t pixel) {
        if (in.has(set, k, pixel)) {
          grad_weights[in.weight_index(set, place.view, k, pixel)] = static_cast<W>(sum);
        }
      });
    }
  }
  store_context(shape, place, slice * kSlice, context_sums, grad_context);
}

using Gradients = std::tuple<at::Tensor, at::Tensor>;

template <typename Cells>
Gradients backward(
    const LiftSplatShape& shape,
    const at::Tensor& grad,
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const Cells& cells,
    const at::Tensor& view,
    const at::Tensor& output,
    double depth_threshold,
    double foreground_threshold) {
  const auto type = sum_type(weights, context);
  // Partial sums over slices keep the type of the sums, so that they are rounded once.
  const int64_t slices = slices_of(padded_channels(shape.channels));
  const at::Tensor read_weights = slices > 1 ? weights.to(type) : weights;
  const at::Tensor grad_context = at::empty(context.sizes(), context.options().dtype(type));
  at::Tensor grad_weights;
  with_arguments(
      shape, read_weights, foreground, context, view, output, depth_threshold, foreground_threshold,
      [&](const auto& in) {
        using T = typename std::decay_t<decltype(in)>::Sum;
        using W = typename std::decay_t<decltype(in)>::Weight;
        const at::Tensor grads = channels_last<T>(grad.flatten(3).flatten(0, 1));
        grad_weights = at::empty(
            {slices, shape.sets, shape.views, shape.bins, shape.height, shape.width},
            weights.options().dtype(c10::CppTypeToScalarType<W>::value));
        const unsigned blocks = blocks_for(shape.views * pixel_tiles(shape) * slices, 1);
        backward_kernel<<<blocks, dim3(kWarp, kWarpsPerBlock), 0, c10::cuda::getCurrentCUDAStream()>>>(
            in, cells, grads.const_data_ptr<T>(), grad_weights.mutable_data_ptr<W>(),
            grad_context.mutable_data_ptr<T>());
        C10_CUDA_KERNEL_LAUNCH_CHECK();
      });
  grad_weights = slices > 1 ? grad_weights.sum(0) : grad_weights.squeeze(0);
  return {grad_weights.to(weights.scalar_type()), grad_context.to(context.scalar_type())};
}

Gradients zero_gradients(const at::Tensor& weights, const at::Tensor& context) {
  return {at::zeros(weights.sizes(), weights.options()), at::zeros(context.sizes(), context.options())};
}

Gradients lift_splat_backward_cuda(
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
  const auto shape = check_splat_backward(grad, weights, foreground, context, view, output, grid_size_of(count));
  const auto frustum = make_frustum(
      shape, undo_image_aug, image2bev, view, image_size, depth_start, depth_step, lower, size, count);
  const c10::cuda::CUDAGuard guard(weights.device());
  if (is_empty(shape)) {
    return zero_gradients(weights, context);
  }
  const at::Tensor undo = as_matrices(undo_image_aug), to_bev = as_matrices(image2bev);
  return backward(
      shape, grad, weights, foreground, context, FrustumCells(frustum, undo, to_bev, shape.width), view, output,
      depth_threshold, foreground_threshold);
}

Gradients splat_cells_backward_cuda(
    const at::Tensor& grad,
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const at::Tensor& cells,
    const at::Tensor& view,
    const at::Tensor& output,
    at::IntArrayRef grid_size,
    double depth_threshold,
    double foreground_threshold) {
  const auto shape = check_splat_backward(grad, weights, foreground, context, view, output, grid_size);
  check_cells(cells, weights, shape);
  const c10::cuda::CUDAGuard guard(weights.device());
  if (is_empty(shape)) {
    return zero_gradients(weights, context);
  }
  const at::Tensor table = cells.contiguous();
  return backward(
      shape, grad, weights, foreground, context, TableCells(table, shape), view, output, depth_threshold,
      foreground_threshold);
}

}  // namespace

TORCH_LIBRARY_IMPL(fsdbev, CUDA, m) {
  m.impl("lift_splat_backward", &lift_splat_backward_cuda);
  m.impl("splat_cells_backward", &splat_cells_backward_cuda);
}

}  // namespace fsdbev
