// CPU kernels of lift_splat. Threads share the work by pixels (finding cells, gradients) and by bands
// of BEV cells (sums), and every sum runs in one thread in a fixed order: results do not depend on the
// number of threads.
#include "channels.h"
#include "contributions.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <tuple>

namespace fsdbev {
namespace {

// features: (V, pixels, padded C); bev: (S, B, C, cells).
template <typename T>
void sum_band(
    const SplatInputs<T>& in,
    const Contributions<T>& contributions,
    const Bands& bands,
    const at::Tensor& features,
    int64_t plane,
    int64_t band,
    std::vector<T>& sums,
    T* bev) {
  const auto& shape = in.shape;
  const int64_t padded = features.size(-1), set = plane / shape.outputs;
  sums.assign(bands.stripes() * Bands::kStripe * padded, T(0));
  for (const int64_t splat : in.splats_of_output(plane % shape.outputs)) {
    const T* rows = features.const_data_ptr<T>() + in.view(splat) * shape.pixels() * padded;
    contributions.for_each(splat, set, band, [&](const Contribution<T>* items, int64_t count) {
      add_contributions(items, count, rows, padded, sums.data());
    });
  }
  for (int64_t stripe = 0; stripe < bands.stripes(); ++stripe) {
    const int64_t first = bands.first_cell(band, stripe);
    if (first < shape.cells()) {
      transpose(
          sums.data() + stripe * Bands::kStripe * padded, padded, std::min(Bands::kStripe, shape.cells() - first),
          shape.channels, bev + plane * shape.channels * shape.cells() + first, shape.cells());
    }
  }
}

template <typename T, typename Cells>
at::Tensor forward(const SplatInputs<T>& in, const at::Tensor& context, const Cells& cells) {
  const auto& shape = in.shape;
  const at::Tensor features = channels_last_blocks<T>(context.flatten(2));
  const Bands bands(shape.cells(), features.size(-1) * sizeof(T));
  const Contributions<T> contributions(in, cells, bands);
  const at::Tensor bev = at::empty(bev_sizes(shape), features.options());
  T* to = bev.mutable_data_ptr<T>();
  at::parallel_for(0, shape.sets * shape.outputs * bands.count, 1, [&](int64_t begin, int64_t end) {
    std::vector<T> sums;
    for (int64_t task = begin; task < end; ++task) {
      sum_band(in, contributions, bands, features, task / bands.count, task % bands.count, sums, to);
    }
  });
  return bev;
}

// Gradients of weights and context.
template <typename T, typename Cells>
std::tuple<at::Tensor, at::Tensor> backward(
    const SplatInputs<T>& in,
    const at::Tensor& weights,
    const at::Tensor& context,
    const at::Tensor& grad,
    const Cells& cells) {
  const auto& shape = in.shape;
  const int64_t pixels = shape.pixels();
  const at::Tensor features = channels_last_blocks<T>(context.flatten(2));
  const at::Tensor grads = channels_last_blocks<T>(grad.flatten(3).flatten(0, 1));
  const auto grad_weights = at::zeros(weights.sizes(), features.options());
  const auto grad_context = at::empty(context.sizes(), features.options());
  const T *rows = features.const_data_ptr<T>(), *grad_rows = grads.const_data_ptr<T>();
  T *to_weights = grad_weights.mutable_data_ptr<T>(), *to_context = grad_context.mutable_data_ptr<T>();
  const int64_t padded = features.size(-1), tasks = round_up(pixels, kPixelsPerTask) / kPixelsPerTask;
  at::parallel_for(0, shape.views * tasks, 1, [&](int64_t begin, int64_t end) {
    std::vector<T> sums;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t v = task / tasks, first = task % tasks * kPixelsPerTask;
      const int64_t last = std::min(first + kPixelsPerTask, pixels);
      sums.assign((last - first) * padded, T(0));
      in.for_each_run(cells, v, first, last, [&](const Run<T>& run) {
        const int64_t cell = (run.set * shape.outputs + in.output(run.splat)) * shape.cells() + run.cell;
        const T dot = add_and_dot(
            rows + (v * pixels + run.pixel) * padded, grad_rows + cell * padded, run.weight, padded,
            sums.data() + (run.pixel - first) * padded);
        T* grad_ray = to_weights + (run.set * shape.views + v) * shape.bins * pixels + run.pixel;
        for (int64_t i = 0; i < run.count; ++i) {
          grad_ray[run.bins[i] * pixels] += dot;
        }
      });
      transpose(sums.data(), padded, last - first, shape.channels, to_context + v * shape.channels * pixels + first, pixels);
    }
  });
  return {grad_weights.to(weights.scalar_type()), grad_context.to(context.scalar_type())};
}

// Converts to the type of the sums and runs `pass(inputs)`, a generic lambda, on it.
template <typename Pass>
auto dispatch(
    const LiftSplatShape& shape,
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const at::Tensor& view,
    const at::Tensor& output,
    double depth_threshold,
    double foreground_threshold,
    const Pass& pass) {
  return AT_DISPATCH_FLOATING_TYPES(sum_type(weights, context), "lift_splat_cpu", [&] {
    return pass(SplatInputs<scalar_t>(
        shape, weights, foreground, view, output, depth_threshold, foreground_threshold));
  });
}

at::Tensor lift_splat_cpu(
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
  const FrustumCells cells(frustum, undo_image_aug, image2bev, shape.width);
  return dispatch(
      shape, weights, foreground, context, view, output, depth_threshold, foreground_threshold,
      [&](const auto& in) { return forward(in, context, cells); });
}

std::tuple<at::Tensor, at::Tensor> lift_splat_backward_cpu(
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
  const auto shape =
      check_splat_backward(grad, weights, foreground, context, view, output, grid_size_of(count));
  const auto frustum = make_frustum(
      shape, undo_image_aug, image2bev, view, image_size, depth_start, depth_step, lower, size, count);
  const FrustumCells cells(frustum, undo_image_aug, image2bev, shape.width);
  return dispatch(
      shape, weights, foreground, context, view, output, depth_threshold, foreground_threshold,
      [&](const auto& in) { return backward(in, weights, context, grad, cells); });
}

at::Tensor splat_cells_cpu(
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
  const TableCells table(cells, shape.bins, shape.pixels(), shape.cells());
  return dispatch(
      shape, weights, foreground, context, view, output, depth_threshold, foreground_threshold,
      [&](const auto& in) { return forward(in, context, table); });
}

std::tuple<at::Tensor, at::Tensor> splat_cells_backward_cpu(
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
  const TableCells table(cells, shape.bins, shape.pixels(), shape.cells());
  return dispatch(
      shape, weights, foreground, context, view, output, depth_threshold, foreground_threshold,
      [&](const auto& in) { return backward(in, weights, context, grad, table); });
}

}  // namespace

TORCH_LIBRARY_IMPL(fsdbev, CPU, m) {
  m.impl("lift_splat", &lift_splat_cpu);
  m.impl("lift_splat_backward", &lift_splat_backward_cpu);
  m.impl("splat_cells", &splat_cells_cpu);
  m.impl("splat_cells_backward", &splat_cells_backward_cpu);
}

}  // namespace fsdbev
