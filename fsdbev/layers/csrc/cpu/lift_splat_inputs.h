// The inputs of one lift_splat call on the CPU, and the walk over the frustum points that take part.
#pragma once

#include "../lift_splat.h"

#include <vector>

namespace fsdbev {

// Lists the splats of each value 0 .. limit - 1 of an index, in order.
inline std::vector<std::vector<int64_t>> group_splats(
    const int64_t* index,
    int64_t splats,
    int64_t limit,
    const char* name) {
  std::vector<std::vector<int64_t>> groups(limit);
  for (int64_t p = 0; p < splats; ++p) {
    TORCH_CHECK_VALUE(
        index[p] >= 0 && index[p] < limit, name, "[", p, "] must be in 0 .. ", limit - 1, ", got ", index[p]);
    groups[index[p]].push_back(p);
  }
  return groups;
}

// All inputs but the context, contiguous and in the type T of the sums. Loops read through plain
// pointers; the tensors keep the memory.
template <typename T>
class LiftSplatInputs {
 public:
  const LiftSplatShape shape;

  LiftSplatInputs(
      const LiftSplatShape& shape,
      const Frustum& frustum,
      const at::Tensor& weights,
      const at::Tensor& foreground,
      const at::Tensor& undo_image_aug,
      const at::Tensor& image2bev,
      const at::Tensor& view,
      const at::Tensor& output,
      double depth_threshold,
      double foreground_threshold)
      : shape(shape),
        frustum_(frustum),
        depth_threshold_(static_cast<T>(depth_threshold)),
        foreground_threshold_(static_cast<T>(foreground_threshold)),
        weights_(keep<T>(weights)),
        foreground_(keep<T>(foreground)),
        undo_image_aug_(keep<double>(undo_image_aug)),
        image2bev_(keep<double>(image2bev)),
        view_(keep<int64_t>(view)),
        output_(keep<int64_t>(output)),
        splats_of_view_(group_splats(view_, shape.splats, shape.views, "view")),
        splats_of_output_(group_splats(output_, shape.splats, shape.outputs, "output")) {}

  int64_t view(int64_t splat) const { return view_[splat]; }
  int64_t output(int64_t splat) const { return output_[splat]; }
  const std::vector<int64_t>& splats_of_view(int64_t v) const { return splats_of_view_[v]; }
  const std::vector<int64_t>& splats_of_output(int64_t output) const { return splats_of_output_[output]; }

  // Calls visit(set, k, pixel, cell, weight) for every point of one splat that takes part and lies in
  // the grid, by k, then pixel (first .. last - 1), then set. Masks come first; geometry comes last and
  // once for all weight sets.
  template <typename Visit>
  void for_each_point(int64_t splat, int64_t first, int64_t last, const Visit& visit) const {
    const auto live = live_pixels(view(splat), first, last);
    for (int64_t k = 0; k < shape.bins; ++k) {
      int64_t known_pixel = -1, cell = -1;
      for (const auto& at : live) {
        const T weight = at.weights[k * shape.pixels()];
        if (!(weight >= depth_threshold_)) {
          continue;
        }
        if (at.pixel != known_pixel) {
          known_pixel = at.pixel;
          cell = frustum_.cell(
              undo_image_aug_ + splat * 16, image2bev_ + splat * 16, k, known_pixel / shape.width,
              known_pixel % shape.width);
        }
        if (cell >= 0) {
          visit(at.set, k, at.pixel, cell, weight);
        }
      }
    }
  }

 private:
  // A pixel that a weight set's foreground lets through, with the place of its weight at depth bin 0.
  struct LivePixel {
    int64_t set, pixel;
    const T* weights;
  };

  std::vector<LivePixel> live_pixels(int64_t v, int64_t first, int64_t last) const {
    const int64_t pixels = shape.pixels();
    std::vector<LivePixel> live;
    for (int64_t pixel = first; pixel < last; ++pixel) {
      for (int64_t set = 0; set < shape.sets; ++set) {
        const int64_t map = set * shape.views + v;
        if (foreground_[map * pixels + pixel] >= foreground_threshold_) {
          live.push_back({set, pixel, weights_ + map * shape.bins * pixels + pixel});
        }
      }
    }
    return live;
  }

  template <typename U>
  const U* keep(const at::Tensor& tensor) {
    kept_.push_back(tensor.to(c10::CppTypeToScalarType<U>::value).contiguous());
    return kept_.back().template const_data_ptr<U>();
  }

  const Frustum frustum_;
  const T depth_threshold_, foreground_threshold_;
  std::vector<at::Tensor> kept_;
  const T *weights_, *foreground_;
  const double *undo_image_aug_, *image2bev_;
  const int64_t *view_, *output_;
  std::vector<std::vector<int64_t>> splats_of_view_, splats_of_output_;
};

}  // namespace fsdbev
