// CUDA kernels of rotated IoU and NMS. NMS: one block per group processes the candidates in tiles,
// best first. All threads compare a tile with the boxes kept so far and with itself, then one
// thread selects the boxes to keep. Nothing synchronises with the host.
#include "../nms.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/nan_to_num.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <tuple>

namespace fsdbev {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 64;  // candidates of a tile: one bit of a word each
constexpr double kNoBox = -std::numeric_limits<double>::infinity();  // score of an empty slot

using Bits = unsigned long long;

__device__ Bits bit(int i) {
  return Bits(1) << i;
}

// a: (groups * rows, 5), b: (groups, columns, 5), iou: (groups * rows, columns). One thread per pair.
__global__ void iou_kernel(const double* a, const double* b, int64_t rows, int64_t columns, int64_t pairs, double* iou) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t pair = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; pair < pairs; pair += stride) {
    const int64_t i = pair / columns, j = i / rows * columns + pair % columns;
    iou[pair] = rotated_iou(read_box(a + 5 * i, false), read_box(b + 5 * j, false), /*floor=*/0);
  }
}

// Arguments of one call: boxes (G, slots, 5); order and ranks (G, slots) of the slots by descending
// score, of which the first `inputs` are considered; memory for kept boxes (G, max_kept); results.
struct NmsArguments {
  const double *boxes, *ranks, *thresholds;
  const int64_t* order;
  const bool* is_circle;
  int64_t slots, inputs, max_kept, max_output;
  BevBox* kept;
  int64_t *keep, *num_kept;
};

// One block per group. count, the number of boxes kept so far, is the same in every thread.
__global__ void nms_kernel(const NmsArguments in) {
  const int64_t g = blockIdx.x;
  const double *boxes = in.boxes + g * in.slots * 5, *ranks = in.ranks + g * in.slots;
  const int64_t* order = in.order + g * in.slots;
  const bool is_circle = in.is_circle[g];
  const double threshold = in.thresholds[g];
  BevBox* kept = in.kept + g * in.max_kept;

  __shared__ BevBox tile[kTile];
  __shared__ Bits suppressed_by[kTile];  // per candidate of the tile: those that it suppresses
  __shared__ Bits suppressed;            // candidates suppressed by boxes kept from earlier tiles
  __shared__ Bits chosen;                // candidates to keep

  const int own = threadIdx.x;
  int64_t count = 0;
  for (int64_t start = 0; start < in.inputs && count < in.max_kept; start += kTile) {
    const int64_t rank = start + own;
    const bool is_box = own < kTile && rank < in.inputs && ranks[rank] > kNoBox;
    if (is_box) {
      tile[own] = read_box(boxes + 5 * order[rank], is_circle);
      suppressed_by[own] = 0;
    }
    if (own == 0) {
      suppressed = 0;
    }
    const int size = __syncthreads_count(is_box);  // boxes come before empty slots

    for (int64_t pair = own; pair < size * count; pair += kThreads) {
      const int c = static_cast<int>(pair % size);
      if (suppresses(kept[pair / size], tile[c], is_circle, threshold)) {
        atomicOr(&suppressed, bit(c));
      }
    }
    for (int pair = own; pair < size * size; pair += kThreads) {
      const int better = pair / size, c = pair % size;
      if (better < c && suppresses(tile[better], tile[c], is_circle, threshold)) {
        atomicOr(&suppressed_by[better], bit(c));
      }
    }
    __syncthreads();

    if (own == 0) {
      Bits gone = suppressed;
      chosen = 0;
      for (int c = 0; c < size; ++c) {
        if (!(gone & bit(c))) {
          chosen |= bit(c);
          gone |= suppressed_by[c];
        }
      }
    }
    __syncthreads();

    if (own < size && (chosen & bit(own))) {
      const int64_t position = count + __popcll(chosen & (bit(own) - 1));
      if (position < in.max_kept) {
        kept[position] = tile[own];
        in.keep[g * in.max_output + position] = order[rank];
      }
    }
    count = min(count + __popcll(chosen), in.max_kept);
    __syncthreads();  // all see what was kept
  }
  if (own == 0) {
    in.num_kept[g] = count;
  }
}

at::Tensor rotated_iou_cuda(const at::Tensor& boxes_a, const at::Tensor& boxes_b) {
  check_rotated_iou(boxes_a, boxes_b);
  const c10::cuda::CUDAGuard guard(boxes_a.device());
  const auto a = boxes_a.to(at::kDouble).contiguous(), b = boxes_b.to(at::kDouble).contiguous();
  auto sizes = boxes_a.sizes().vec();
  sizes.back() = boxes_b.size(-2);
  const auto out = at::empty(sizes, a.options());
  const int64_t pairs = out.numel();
  if (pairs > 0) {
    const auto blocks = static_cast<unsigned>(std::min<int64_t>((pairs + kThreads - 1) / kThreads, 1 << 20));
    iou_kernel<<<blocks, kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        a.const_data_ptr<double>(), b.const_data_ptr<double>(), boxes_a.size(-2), boxes_b.size(-2), pairs,
        out.mutable_data_ptr<double>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return out.to(boxes_a.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

std::tuple<at::Tensor, at::Tensor> grouped_nms_cuda(
    const at::Tensor& boxes,
    const at::Tensor& scores,
    const at::Tensor& thresholds,
    const at::Tensor& is_circle,
    int64_t max_input,
    int64_t max_output) {
  check_grouped_nms(boxes, scores, thresholds, is_circle, max_input, max_output);
  const c10::cuda::CUDAGuard guard(boxes.device());
  const int64_t groups = boxes.size(0), slots = boxes.size(1);
  const int64_t inputs = std::min(max_input, slots), max_kept = std::min(max_output, inputs);
  const auto keep = at::full({groups, max_output}, -1, boxes.options().dtype(at::kLong));
  const auto num_kept = at::zeros({groups}, keep.options());
  TORCH_CHECK_VALUE(groups <= std::numeric_limits<int32_t>::max(), "too many groups: ", groups);
  if (groups > 0 && max_kept > 0) {
    const auto rows = boxes.to(at::kDouble).contiguous();
    const auto limits = thresholds.to(at::kDouble).contiguous(), circles = is_circle.contiguous();
    const auto ranks = at::nan_to_num(
        scores.to(at::kDouble), /*nan=*/kNoBox, /*posinf=*/std::numeric_limits<double>::infinity(), /*neginf=*/kNoBox);
    const auto sorted = at::sort(ranks, /*stable=*/true, /*dim=*/1, /*descending=*/true);
    const auto best = std::get<0>(sorted).contiguous(), order = std::get<1>(sorted).contiguous();
    const int64_t room = groups * max_kept * static_cast<int64_t>(sizeof(BevBox));
    const auto kept = at::empty({room}, boxes.options().dtype(at::kByte));
    const NmsArguments arguments{
        rows.const_data_ptr<double>(),
        best.const_data_ptr<double>(),
        limits.const_data_ptr<double>(),
        order.const_data_ptr<int64_t>(),
        circles.const_data_ptr<bool>(),
        slots,
        inputs,
        max_kept,
        max_output,
        reinterpret_cast<BevBox*>(kept.mutable_data_ptr<uint8_t>()),
        keep.mutable_data_ptr<int64_t>(),
        num_kept.mutable_data_ptr<int64_t>()};
    nms_kernel<<<static_cast<unsigned>(groups), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(arguments);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return {keep, num_kept};
}

}  // namespace

TORCH_LIBRARY_IMPL(fsdbev, CUDA, m) {
  m.impl("rotated_iou", &rotated_iou_cuda);
  m.impl("grouped_nms", &grouped_nms_cuda);
}

}  // namespace fsdbev
