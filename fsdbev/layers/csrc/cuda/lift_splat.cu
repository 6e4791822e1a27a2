// Forward CUDA kernels of lift_splat. Sums are atomic, so their order varies between runs, unless
// torch.use_deterministic_algorithms selects the fixed order of lift_splat_ordered.cu.
#include "cells.cuh"
#include "ordered.cuh"
#include "walk.cuh"

#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

// Compute capability 9.0 adds four floats in one instruction.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900 && CUDART_VERSION >= 12040
#define FSDBEV_ADDS_GROUPS 1
#else
#define FSDBEV_ADDS_GROUPS 0
#endif

namespace fsdbev {
namespace {

// The channels of a slice that a lane adds: a whole group where that is one instruction, else one of
// each kWarp, so that the lanes of an instruction add neighbouring ones.
template <typename T>
class LaneChannels {
 public:
  // features: `count` channels from the start of the slice on.
  __device__ LaneChannels(const T* features, int64_t count) : count_(count) {
    for (int r = 0; r < kGroup; ++r) {
      values_[r] = channel(r) < count ? features[channel(r)] : T(0);
    }
  }

  // Adds weight * features to a cell's row, from the start of the slice on.
  __device__ void add(T weight, T* row) const {
    if constexpr (kGroups) {
      if (channel(0) < count_) {
        atomicAdd(
            reinterpret_cast<float4*>(row + channel(0)),
            make_float4(weight * values_[0], weight * values_[1], weight * values_[2], weight * values_[3]));
      }
    } else {
      for (int r = 0; r < kGroup; ++r) {
        if (channel(r) < count_) {
          atomicAdd(row + channel(r), weight * values_[r]);
        }
      }
    }
  }

 private:
  static constexpr bool kGroups = FSDBEV_ADDS_GROUPS && std::is_same_v<T, float>;

  __device__ static int channel(int r) { return kGroups ? threadIdx.x * kGroup + r : r * kWarp + threadIdx.x; }

  T values_[kGroup];
  int64_t count_;
};

// bev: (S, B, cells, padded), zero. One block a tile of a view.
template <typename W, typename T, typename Cells>
__global__ void __launch_bounds__(kBlockThreads, 2)
    forward_kernel(const SplatArguments<W, T> in, const Cells cells, T* bev) {
  __shared__ Tile<T> tile;
  in.check_indices();
  const auto& shape = in.shape;
  const int64_t pixel_tile = blockIdx.x / bin_tiles(shape);
  TilePlace place{
      pixel_tile / pixel_tiles(shape), pixel_tile % pixel_tiles(shape) * kTilePixels,
      blockIdx.x % bin_tiles(shape) * kTileBins, 0};
  const T* features = in.features + (place.view * shape.pixels() + place.own_pixel()) * in.padded;
  for (; place.set < shape.sets; place.set += kTileSets) {
    if (load_weights(in, place, tile)) {
      for_each_splat(in, cells, place, tile, [&](int64_t splat, int s, const Runs<T>& runs) {
        if (runs.empty()) {
          return;
        }
        T* plane = bev + ((place.set + s) * shape.outputs + in.checked_output(splat)) * shape.cells() * in.padded;
        for (int64_t slice = 0; slice < in.padded; slice += kSlice) {
          const LaneChannels<T> channels(features + slice, in.padded - slice);
          runs.for_each([&](int64_t cell, T weight, bool) { channels.add(weight, plane + cell * in.padded + slice); });
        }
      });
    }
    __syncthreads();  // before the weights are overwritten
  }
}

template <typename Cells>
at::Tensor atomic_splat(
    const LiftSplatShape& shape,
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const Cells& cells,
    const at::Tensor& view,
    const at::Tensor& output,
    double depth_threshold,
    double foreground_threshold) {
  const at::Tensor bev = at::empty(bev_sizes(shape), context.options().dtype(sum_type(weights, context)));
  with_arguments(
      shape, weights, foreground, context, view, output, depth_threshold, foreground_threshold, [&](const auto& in) {
        using T = typename std::decay_t<decltype(in)>::Sum;
        const at::Tensor rows = at::zeros({shape.sets * shape.outputs, shape.cells(), in.padded}, bev.options());
        const unsigned blocks = blocks_for(shape.views * pixel_tiles(shape) * bin_tiles(shape), 1);
        forward_kernel<<<blocks, dim3(kWarp, kWarpsPerBlock), 0, c10::cuda::getCurrentCUDAStream()>>>(
            in, cells, rows.mutable_data_ptr<T>());
        C10_CUDA_KERNEL_LAUNCH_CHECK();
        channels_first<T>(rows, shape.channels, bev);
      });
  return bev;
}

at::Tensor zero_bev(const LiftSplatShape& shape, const at::Tensor& weights, const at::Tensor& context) {
  return at::zeros(bev_sizes(shape), context.options().dtype(sum_type(weights, context)));
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
  const auto shape = check_splat(weights, foreground, context, view, output, num_outputs, grid_size_of(count));
  const auto frustum = make_frustum(
      shape, undo_image_aug, image2bev, view, image_size, depth_start, depth_step, lower, size, count);
  const c10::cuda::CUDAGuard guard(weights.device());
  if (is_empty(shape)) {
    return zero_bev(shape, weights, context);
  }
  const at::Tensor undo = as_matrices(undo_image_aug), to_bev = as_matrices(image2bev);
  const FrustumCells cells(frustum, undo, to_bev, shape.width);
  if (at::globalContext().deterministicAlgorithms()) {
    const at::Tensor table = cell_table(cells, view, shape.views, shape.bins, shape.pixels());
    return ordered_splat(
        shape, weights, foreground, context, table, view, output, depth_threshold, foreground_threshold);
  }
  return atomic_splat(shape, weights, foreground, context, cells, view, output, depth_threshold, foreground_threshold);
}

at::Tensor splat_cells_cuda(
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const at::Tensor& cells,
    const at::Tensor& view,
    const at::Tensor& output,
    int64_t num_outputs,
    at::IntArrayRef grid_size,
    double depth_threshold,
    double foreground_threshold) {
  const auto shape = check_splat(weights, foreground, context, view, output, num_outputs, grid_size);
  check_cells(cells, weights, shape);
  const c10::cuda::CUDAGuard guard(weights.device());
  if (is_empty(shape)) {
    return zero_bev(shape, weights, context);
  }
  const at::Tensor table = cells.contiguous();
  if (at::globalContext().deterministicAlgorithms()) {
    return ordered_splat(
        shape, weights, foreground, context, table, view, output, depth_threshold, foreground_threshold);
  }
  return atomic_splat(
      shape, weights, foreground, context, TableCells(table, shape), view, output, depth_threshold,
      foreground_threshold);
}

}  // namespace

TORCH_LIBRARY_IMPL(fsdbev, CUDA, m) {
  m.impl("lift_splat", &lift_splat_cuda);
  m.impl("splat_cells", &splat_cells_cuda);
}

}  // namespace fsdbev
