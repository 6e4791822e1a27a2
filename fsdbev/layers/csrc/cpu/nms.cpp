// CPU kernels of rotated IoU and NMS. Threads share the groups (NMS) and the rows (IoU).
#include "../nms.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <tuple>
#include <vector>

namespace fsdbev {
namespace {

std::vector<BevBox> read_boxes(const double* rows, int64_t count) {
  std::vector<BevBox> boxes(count);
  for (int64_t i = 0; i < count; ++i) {
    boxes[i] = read_box(rows + 5 * i, /*centers_only=*/false);
  }
  return boxes;
}

// Returns the max_input best slots with a box, best first, equal scores by index.
std::vector<int64_t> best_slots(const double* scores, int64_t slots, int64_t max_input) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < slots; ++i) {
    if (scores[i] > -std::numeric_limits<double>::infinity()) {  // false for NaN
      order.push_back(i);
    }
  }
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  order.resize(std::min<int64_t>(order.size(), max_input));
  return order;
}

// Keeps each candidate of a group, best first, that no kept one suppresses. Writes at most max_output
// indices to keep and returns their number.
int64_t suppress(
    const double* boxes,
    const std::vector<int64_t>& candidates,
    bool is_circle,
    double threshold,
    int64_t max_output,
    int64_t* keep) {
  std::vector<BevBox> kept;
  for (const int64_t candidate : candidates) {
    if (static_cast<int64_t>(kept.size()) == max_output) {
      break;
    }
    const BevBox box = read_box(boxes + 5 * candidate, is_circle);
    const bool goes = std::any_of(
        kept.begin(), kept.end(), [&](const BevBox& better) { return suppresses(better, box, is_circle, threshold); });
    if (!goes) {
      keep[kept.size()] = candidate;
      kept.push_back(box);
    }
  }
  return kept.size();
}

at::Tensor rotated_iou_cpu(const at::Tensor& boxes_a, const at::Tensor& boxes_b) {
  check_rotated_iou(boxes_a, boxes_b);
  const auto rows_a = boxes_a.to(at::kDouble).contiguous(), rows_b = boxes_b.to(at::kDouble).contiguous();
  const int64_t rows = boxes_a.size(-2), columns = boxes_b.size(-2);
  const auto a = read_boxes(rows_a.const_data_ptr<double>(), rows_a.numel() / 5);
  const auto b = read_boxes(rows_b.const_data_ptr<double>(), rows_b.numel() / 5);
  auto sizes = boxes_a.sizes().vec();
  sizes.back() = columns;
  const auto out = at::empty(sizes, boxes_a.options().dtype(at::kDouble));
  double* values = out.mutable_data_ptr<double>();
  at::parallel_for(0, a.size(), 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const BevBox* others = b.data() + i / rows * columns;
      for (int64_t j = 0; j < columns; ++j) {
        values[i * columns + j] = rotated_iou(a[i], others[j], /*floor=*/0);
      }
    }
  });
  return out.to(boxes_a.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

std::tuple<at::Tensor, at::Tensor> grouped_nms_cpu(
    const at::Tensor& boxes,
    const at::Tensor& scores,
    const at::Tensor& thresholds,
    const at::Tensor& is_circle,
    int64_t max_input,
    int64_t max_output) {
  check_grouped_nms(boxes, scores, thresholds, is_circle, max_input, max_output);
  const int64_t groups = boxes.size(0), slots = boxes.size(1);
  const auto rows = boxes.to(at::kDouble).contiguous(), ranks = scores.to(at::kDouble).contiguous();
  const auto limits = thresholds.to(at::kDouble).contiguous(), circles = is_circle.contiguous();
  const auto keep = at::full({groups, max_output}, -1, boxes.options().dtype(at::kLong));
  const auto num_kept = at::empty({groups}, keep.options());

  const double *row = rows.const_data_ptr<double>(), *rank = ranks.const_data_ptr<double>();
  const double* limit = limits.const_data_ptr<double>();
  const bool* circle = circles.const_data_ptr<bool>();
  int64_t *kept = keep.mutable_data_ptr<int64_t>(), *count = num_kept.mutable_data_ptr<int64_t>();
  at::parallel_for(0, groups, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      const auto candidates = best_slots(rank + g * slots, slots, max_input);
      count[g] = suppress(row + g * slots * 5, candidates, circle[g], limit[g], max_output, kept + g * max_output);
    }
  });
  return {keep, num_kept};
}

}  // namespace

TORCH_LIBRARY_IMPL(fsdbev, CPU, m) {
  m.impl("rotated_iou", &rotated_iou_cpu);
  m.impl("grouped_nms", &grouped_nms_cpu);
}

}  // namespace fsdbev
