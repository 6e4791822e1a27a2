// The BEV cell of every frustum point on CUDA devices.
#include "cells.cuh"
#include "launch.cuh"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

namespace fsdbev {
namespace {

// table: (P, D, pixels), `count` values; a thread each.
__global__ void cell_table_kernel(
    const FrustumCells cells,
    const int64_t* view,
    int64_t num_views,
    int64_t num_bins,
    int64_t pixels,
    int64_t count,
    int32_t* table) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kBlockThreads + threadIdx.x;
  if (i < count) {
    const int64_t splat = i / pixels / num_bins, v = view[splat];
    CUDA_KERNEL_ASSERT(v >= 0 && v < num_views && "view must be in 0 .. V - 1");
    table[i] = cells.find(splat, cells.lift(v, i / pixels % num_bins, i % pixels));
  }
}

at::Tensor frustum_cells_cuda(
    const at::Tensor& undo_image_aug,
    const at::Tensor& image2bev,
    const at::Tensor& view,
    int64_t num_bins,
    at::IntArrayRef feature_size,
    at::IntArrayRef image_size,
    double depth_start,
    double depth_step,
    at::ArrayRef<double> lower,
    at::ArrayRef<double> size,
    at::IntArrayRef count) {
  const Frustum frustum = check_frustum_cells(
      undo_image_aug, image2bev, view, num_bins, feature_size, image_size, depth_start, depth_step, lower, size, count);
  const c10::cuda::CUDAGuard guard(view.device());
  const at::Tensor undo = as_matrices(undo_image_aug), to_bev = as_matrices(image2bev);
  const FrustumCells cells(frustum, undo, to_bev, feature_size[1]);
  const int64_t pixels = feature_size[0] * feature_size[1];
  return cell_table(cells, view, undo.size(0), num_bins, pixels)
      .view({view.size(0), num_bins, feature_size[0], feature_size[1]});
}

}  // namespace

at::Tensor cell_table(
    const FrustumCells& cells,
    const at::Tensor& view,
    int64_t num_views,
    int64_t num_bins,
    int64_t pixels) {
  const at::Tensor views = view.contiguous();
  const at::Tensor table = at::empty({view.size(0), num_bins, pixels}, view.options().dtype(at::kInt));
  const int64_t count = table.numel();
  if (count > 0) {
    cell_table_kernel<<<blocks_for(count, kBlockThreads), kBlockThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        cells, views.const_data_ptr<int64_t>(), num_views, num_bins, pixels, count, table.mutable_data_ptr<int32_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return table;
}

TORCH_LIBRARY_IMPL(fsdbev, CUDA, m) { m.impl("frustum_cells", &frustum_cells_cuda); }

}  // namespace fsdbev
