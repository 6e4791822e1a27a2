// CPU kernels of rotated IoU, rotated and circle NMS; geometry in double.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/sort.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <vector>

namespace fsdbev {
namespace {

// An overlap below this share of the two areas is rounding: the boxes do not overlap.
constexpr double kRounding = 1e-12;

struct Box {
  double x, y, length, width, cos, sin, area;
  bool proper;  // all values finite, both sizes positive
};

std::vector<Box> read_boxes(const at::Tensor& boxes) {
  const auto values = boxes.to(at::kDouble).contiguous();
  const double* row = values.const_data_ptr<double>();
  std::vector<Box> out(boxes.size(0));
  for (auto& box : out) {
    const bool finite = std::all_of(row, row + 5, [](double value) { return std::isfinite(value); });
    box = {row[0], row[1], row[2], row[3], std::cos(row[4]), std::sin(row[4]), row[2] * row[3],
           finite && row[2] > 0 && row[3] > 0};
    row += 5;
  }
  return out;
}

// Where a line from start to stop passes level, in 0 .. 1.
double crossing(double start, double stop, double level) {
  const double run = stop - start;
  return std::clamp((level - start) / (run == 0 ? 1.0 : run), 0.0, 1.0);
}

// Integral of clamp(y, -half_y, half_y) dx along an edge, x clipped to +-half_x.
double edge_integral(double x0, double y0, double x1, double y1, double half_x, double half_y) {
  const auto [first, last] = std::minmax({crossing(x0, x1, -half_x), crossing(x0, x1, half_x)});
  const double xa = std::clamp(x0 + (x1 - x0) * first, -half_x, half_x);
  const double xb = std::clamp(x0 + (x1 - x0) * last, -half_x, half_x);
  const double ya = y0 + (y1 - y0) * first, yb = y0 + (y1 - y0) * last;
  const auto [low, high] = std::minmax({crossing(ya, yb, -half_y), crossing(ya, yb, half_y)});
  const std::array<double, 4> stops = {0.0, low, high, 1.0};
  double mean = 0, previous = std::clamp(ya, -half_y, half_y);
  for (int i = 1; i < 4; ++i) {
    const double height = std::clamp(ya + (yb - ya) * stops[i], -half_y, half_y);
    mean += (stops[i] - stops[i - 1]) * (previous + height) / 2;
    previous = height;
  }
  return (xb - xa) * mean;
}

// The overlap is the integral of -clamp(y) dx along a's outline in b's own axes (Green's theorem).
double iou(const Box& a, const Box& b) {
  if (!a.proper || !b.proper) {
    return 0;
  }
  const double dx = a.x - b.x, dy = a.y - b.y;
  const double reach = std::hypot(a.length, a.width) / 2 + std::hypot(b.length, b.width) / 2;
  if (dx * dx + dy * dy > reach * reach) {
    return 0;
  }
  const double x = b.cos * dx + b.sin * dy, y = b.cos * dy - b.sin * dx;
  const double cos = a.cos * b.cos + a.sin * b.sin, sin = a.sin * b.cos - a.cos * b.sin;
  constexpr double signs[4][2] = {{0.5, 0.5}, {-0.5, 0.5}, {-0.5, -0.5}, {0.5, -0.5}};
  double xs[4], ys[4];
  for (int i = 0; i < 4; ++i) {
    const double p = signs[i][0] * a.length, q = signs[i][1] * a.width;
    xs[i] = x + cos * p - sin * q;
    ys[i] = y + sin * p + cos * q;
  }
  double overlap = 0;
  for (int i = 0; i < 4; ++i) {
    const int next = (i + 1) % 4;
    overlap -= edge_integral(xs[i], ys[i], xs[next], ys[next], b.length / 2, b.width / 2);
  }
  const double areas = a.area + b.area;
  return overlap > kRounding * areas ? overlap / (areas - overlap) : 0.0;
}

void check_boxes(const at::Tensor& boxes, const char* name, int64_t columns) {
  TORCH_CHECK_VALUE(
      boxes.dim() == 2 && boxes.size(1) == columns, name, " must be (M, ", columns, "), got ", boxes.sizes());
  TORCH_CHECK_VALUE(boxes.is_floating_point(), name, " must be floating point, got ", boxes.scalar_type());
}

// Indices by descending score, equal ones by index, at most max_input.
at::Tensor order_by_score(const at::Tensor& boxes, const at::Tensor& scores, std::optional<int64_t> max_input) {
  TORCH_CHECK_VALUE(
      scores.dim() == 1 && scores.size(0) == boxes.size(0), "scores must be (M,) beside boxes ", boxes.sizes(),
      ", got ", scores.sizes());
  TORCH_CHECK_VALUE(!max_input || *max_input >= 0, "max_input must not be negative, got ", *max_input);
  const auto bad = at::isnan(scores).nonzero();
  TORCH_CHECK_VALUE(bad.numel() == 0, "score ", bad.flatten()[0].item<int64_t>(), " is NaN; filter boxes before");
  auto order = std::get<1>(at::sort(scores, /*stable=*/true, /*dim=*/0, /*descending=*/true));
  return max_input ? order.narrow(0, 0, std::min(*max_input, order.size(0))) : order;
}

// Goes through the candidates from the best: each that no kept one suppresses is kept.
template <typename Suppresses>
at::Tensor greedy(const at::Tensor& order, std::optional<int64_t> max_output, const Suppresses& suppresses) {
  TORCH_CHECK_VALUE(!max_output || *max_output >= 0, "max_output must not be negative, got ", *max_output);
  const int64_t* candidates = order.const_data_ptr<int64_t>();
  std::vector<int64_t> keep;
  for (int64_t i = 0; i < order.size(0); ++i) {
    if (max_output && static_cast<int64_t>(keep.size()) >= *max_output) {
      break;
    }
    const int64_t candidate = candidates[i];
    const bool goes = std::any_of(
        keep.begin(), keep.end(), [&](int64_t better) { return suppresses(better, candidate); });
    if (!goes) {
      keep.push_back(candidate);
    }
  }
  return at::from_blob(keep.data(), {static_cast<int64_t>(keep.size())}, order.options()).clone();
}

at::Tensor rotated_iou_cpu(const at::Tensor& boxes_a, const at::Tensor& boxes_b) {
  check_boxes(boxes_a, "boxes_a", 5);
  check_boxes(boxes_b, "boxes_b", 5);
  const auto a = read_boxes(boxes_a), b = read_boxes(boxes_b);
  const int64_t rows = boxes_a.size(0), columns = boxes_b.size(0);
  const auto out = at::empty({rows, columns}, boxes_a.options().dtype(at::kDouble));
  double* values = out.mutable_data_ptr<double>();
  at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        values[i * columns + j] = iou(a[i], b[j]);
      }
    }
  });
  return out.to(boxes_a.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

at::Tensor rotated_nms_cpu(
    const at::Tensor& boxes,
    const at::Tensor& scores,
    double iou_threshold,
    std::optional<int64_t> max_input,
    std::optional<int64_t> max_output) {
  check_boxes(boxes, "boxes", 5);
  const auto order = order_by_score(boxes, scores, max_input);
  const auto all = read_boxes(boxes);
  return greedy(order, max_output, [&](int64_t better, int64_t worse) {
    return iou(all[better], all[worse]) > iou_threshold;
  });
}

at::Tensor circle_nms_cpu(
    const at::Tensor& centers,
    const at::Tensor& scores,
    double squared_distance,
    std::optional<int64_t> max_input,
    std::optional<int64_t> max_output) {
  check_boxes(centers, "centers", 2);
  const auto order = order_by_score(centers, scores, max_input);
  const auto values = centers.to(at::kDouble).contiguous();
  const double* xy = values.const_data_ptr<double>();
  return greedy(order, max_output, [&](int64_t better, int64_t worse) {
    const double dx = xy[2 * better] - xy[2 * worse], dy = xy[2 * better + 1] - xy[2 * worse + 1];
    return dx * dx + dy * dy <= squared_distance;
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(fsdbev, CPU, m) {
  m.impl("rotated_iou", &rotated_iou_cpu);
  m.impl("rotated_nms", &rotated_nms_cpu);
  m.impl("circle_nms", &circle_nms_cpu);
}

}  // namespace fsdbev
