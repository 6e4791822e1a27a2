// The deterministic forward pass: points sorted by cell, then a warp sums each cell's in their order.
#include "ordered.cuh"
#include "arguments.cuh"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sort.h>

#include <tuple>

namespace fsdbev {
namespace {

// Keys (P, D, pixels) of one weight set, `count` values, a thread each: output * cells + cell, or
// outputs * cells for points that are not pooled.
template <typename W, typename T>
__global__ void key_kernel(
    const SplatArguments<W, T> in,
    const int32_t* cells,
    int64_t set,
    int64_t count,
    int32_t* keys) {
  in.check_indices();
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.y) * kWarp + threadIdx.x;
  if (i >= count) {
    return;
  }
  const auto& shape = in.shape;
  const int64_t pixel = i % shape.pixels(), k = i / shape.pixels() % shape.bins, p = i / shape.pixels() / shape.bins;
  const T weight = in.masked_weight(set, in.checked_view(p), k, pixel);
  const bool kept = takes_part(weight) && cells[i] >= 0;
  CUDA_KERNEL_ASSERT(cells[i] >= -1 && cells[i] < shape.cells() && "cells must be -1 (none) or 0 .. Y X - 1");
  const int64_t key = kept ? in.checked_output(p) * shape.cells() + cells[i] : shape.outputs * shape.cells();
  keys[i] = static_cast<int32_t>(key);
}

// Sums the points of each cell of one weight set: points[first[i]] .. points[first[i + 1] - 1], numbers
// in (P, D, pixels), are those of sums[i], rows of (B * cells, padded). One warp a cell.
template <typename W, typename T>
__global__ void sum_kernel(
    const SplatArguments<W, T> in,
    int64_t set,
    const int64_t* points,
    const int64_t* first,
    T* sums) {
  const auto& shape = in.shape;
  const int64_t cell = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.y;
  if (cell >= shape.outputs * shape.cells()) {
    return;
  }
  const int64_t begin = first[cell], end = first[cell + 1];
  for (int64_t slice = 0; slice < in.padded; slice += kSlice) {
    const int64_t channel = slice + threadIdx.x * kGroup;
    Group<T> sum = {};
    for (int64_t i = begin; i < end; i += kWarp) {
      T own_weight = 0;
      int64_t own_row = 0;
      if (i + threadIdx.x < end) {
        const int64_t point = points[i + threadIdx.x];
        const int64_t pixel = point % shape.pixels(), k = point / shape.pixels() % shape.bins;
        const int64_t v = in.view[point / shape.pixels() / shape.bins];
        own_weight = static_cast<T>(in.weights[in.weight_index(set, v, k, pixel)]);
        own_row = v * shape.pixels() + pixel;
      }
      for (int j = 0; j < kWarp && i + j < end; ++j) {
        const T weight = __shfl_sync(kAllLanes, own_weight, j);
        const int64_t row = __shfl_sync(kAllLanes, own_row, j);
        if (channel < in.padded) {
          const auto features = load_group(in.features + row * in.padded + channel);
          for (int c = 0; c < kGroup; ++c) {
            sum.values[c] += weight * features.values[c];
          }
        }
      }
    }
    if (channel < in.padded) {
      store_group(sums + cell * in.padded + channel, sum);
    }
  }
}

// sums: (B, cells, padded) of one weight set.
template <typename W, typename T>
void sum_set(const SplatArguments<W, T>& in, int64_t set, const at::Tensor& cells, T* sums) {
  const dim3 threads(kWarp, kWarpsPerBlock);
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const at::Tensor keys = at::empty({cells.numel()}, cells.options());
  key_kernel<<<blocks_for(cells.numel(), kBlockThreads), threads, 0, stream>>>(
      in, cells.const_data_ptr<int32_t>(), set, cells.numel(), keys.mutable_data_ptr<int32_t>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  const int64_t rows = in.shape.outputs * in.shape.cells();
  const auto sorted = at::sort(keys, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const at::Tensor first = at::searchsorted(std::get<0>(sorted), at::arange(rows + 1, keys.options()));
  sum_kernel<<<blocks_for(rows, kWarpsPerBlock), threads, 0, stream>>>(
      in, set, std::get<1>(sorted).template const_data_ptr<int64_t>(), first.const_data_ptr<int64_t>(), sums);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace

at::Tensor ordered_splat(
    const LiftSplatShape& shape,
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const at::Tensor& cells,
    const at::Tensor& view,
    const at::Tensor& output,
    double depth_threshold,
    double foreground_threshold) {
  TORCH_CHECK_VALUE(
      shape.outputs <= (kMaxCells - 1) / shape.cells(), "the deterministic pass takes fewer than ", kMaxCells,
      " cells in all outputs, got ", shape.outputs, " outputs of ", shape.cells(), " cells");
  const at::Tensor bev = at::empty(bev_sizes(shape), context.options().dtype(sum_type(weights, context)));
  with_arguments(
      shape, weights, foreground, context, view, output, depth_threshold, foreground_threshold, [&](const auto& in) {
        using T = typename std::decay_t<decltype(in)>::Sum;
        const at::Tensor rows = at::empty({shape.outputs, shape.cells(), in.padded}, bev.options());
        for (int64_t set = 0; set < shape.sets; ++set) {
          sum_set(in, set, cells, rows.mutable_data_ptr<T>());
          channels_first<T>(rows, shape.channels, bev.select(0, set));
        }
      });
  return bev;
}

}  // namespace fsdbev
