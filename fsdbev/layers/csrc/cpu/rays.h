// Loop over the pooled frustum points on the CPU.
#pragma once

#include "../lift_splat.h"
#include "cells.h"

#include <array>
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
    check_index(name, p, index[p], limit);
    groups[index[p]].push_back(p);
  }
  return groups;
}

// Neighbouring points of one ray, in one weight set, that fall into the same cell: 1.6 on average at
// the published sizes. Both directions handle a run at once.
template <typename T>
struct Run {
  int64_t splat, set, pixel;
  int32_t cell;
  T weight;             // sum over the run
  const int32_t* bins;  // depth bins of its points
  int64_t count;
};

// Weights, masks and indices of one call, contiguous and in the type T of the sums. Loops read through
// plain pointers; the tensors keep the memory.
template <typename T>
class SplatInputs {
 public:
  const LiftSplatShape shape;

  SplatInputs(
      const LiftSplatShape& shape,
      const at::Tensor& weights,
      const at::Tensor& foreground,
      const at::Tensor& view,
      const at::Tensor& output,
      double depth_threshold,
      double foreground_threshold)
      : shape(shape),
        depth_threshold_(static_cast<T>(depth_threshold)),
        foreground_threshold_(static_cast<T>(foreground_threshold)),
        weights_(keep<T>(weights)),
        foreground_(keep<T>(foreground)),
        view_(keep<int64_t>(view)),
        output_(keep<int64_t>(output)),
        splats_of_view_(group_splats(view_, shape.splats, shape.views, "view")),
        splats_of_output_(group_splats(output_, shape.splats, shape.outputs, "output")),
        rank_in_view_(shape.splats) {
    for (const auto& splats : splats_of_view_) {
      for (size_t rank = 0; rank < splats.size(); ++rank) {
        rank_in_view_[splats[rank]] = static_cast<int64_t>(rank);
      }
    }
  }

  int64_t view(int64_t splat) const { return view_[splat]; }
  int64_t output(int64_t splat) const { return output_[splat]; }
  const std::vector<int64_t>& splats_of_view(int64_t v) const { return splats_of_view_[v]; }
  int64_t rank_in_view(int64_t splat) const { return rank_in_view_[splat]; }
  const std::vector<int64_t>& splats_of_output(int64_t output) const { return splats_of_output_[output]; }

  // Calls visit(Run) for all pooled points inside the grid of the pixels first .. last - 1 of view v, by
  // pixel, splat, weight set and depth. Points are masked first; the remaining ones are lifted once for
  // all splats and weight sets.
  template <typename Cells, typename Visit>
  void for_each_run(const Cells& cells, int64_t v, int64_t first, int64_t last, const Visit& visit) const {
    if (splats_of_view_[v].empty()) {
      return;
    }
    Ray ray(shape.bins);
    Selection selected(shape.bins);
    std::vector<LiveSet> live;
    ray.view = v;
    for (ray.pixel = first; ray.pixel < last; ++ray.pixel) {
      find_live_sets(v, ray.pixel, live);
      if (live.empty() || !find_kept_bins(live, ray)) {
        continue;
      }
      cells.lift(ray);
      for (const int64_t splat : splats_of_view_[v]) {
        cells.find(splat, ray);
        for (const LiveSet& set : live) {
          select(set, ray, selected);
          visit_runs(splat, set.index, ray.pixel, selected, visit);
        }
      }
    }
  }

 private:
  // A weight set in which the pixel is foreground, with a pointer to its weight at depth bin 0.
  struct LiveSet {
    int64_t index;
    const T* weights;
  };

  // The points of a ray that are pooled in one weight set.
  struct Selection {
    int64_t count = 0;
    std::vector<int32_t> bins, cells;
    std::vector<T> weights;

    explicit Selection(int64_t num_bins) : bins(num_bins), cells(num_bins), weights(num_bins) {}
  };

  void find_live_sets(int64_t v, int64_t pixel, std::vector<LiveSet>& live) const {
    live.clear();
    for (int64_t set = 0; set < shape.sets; ++set) {
      const int64_t map = set * shape.views + v;
      if (foreground_[map * shape.pixels() + pixel] >= foreground_threshold_) {
        live.push_back({set, weights_ + map * shape.bins * shape.pixels() + pixel});
      }
    }
  }

  // Lists the bins whose weight reaches the threshold in a set. Without branches, since they would be
  // mispredicted.
  bool find_kept_bins(const std::vector<LiveSet>& live, Ray& ray) const {
    const int64_t pixels = shape.pixels();
    int64_t count = 0;
    for (int64_t k = 0; k < shape.bins; ++k) {
      bool kept = live[0].weights[k * pixels] >= depth_threshold_;
      for (size_t i = 1; i < live.size(); ++i) {
        kept |= live[i].weights[k * pixels] >= depth_threshold_;
      }
      ray.bins[count] = static_cast<int32_t>(k);
      count += kept;
    }
    ray.count = count;
    return count > 0;
  }

  void select(const LiveSet& set, const Ray& ray, Selection& selected) const {
    int64_t count = 0;
    for (int64_t t = 0; t < ray.count; ++t) {
      const T weight = set.weights[ray.bins[t] * shape.pixels()];
      selected.bins[count] = ray.bins[t];
      selected.cells[count] = ray.cells[t];
      selected.weights[count] = weight;
      count += (weight >= depth_threshold_) & (ray.cells[t] >= 0);
    }
    selected.count = count;
  }

  template <typename Visit>
  static void visit_runs(int64_t splat, int64_t set, int64_t pixel, const Selection& selected, const Visit& visit) {
    for (int64_t first = 0, next; first < selected.count; first = next) {
      const int32_t cell = selected.cells[first];
      T weight = selected.weights[first];
      for (next = first + 1; next < selected.count && selected.cells[next] == cell; ++next) {
        weight += selected.weights[next];
      }
      visit(Run<T>{splat, set, pixel, cell, weight, selected.bins.data() + first, next - first});
    }
  }

  template <typename U>
  const U* keep(const at::Tensor& tensor) {
    kept_.push_back(tensor.to(c10::CppTypeToScalarType<U>::value).contiguous());
    return kept_.back().template const_data_ptr<U>();
  }

  const T depth_threshold_, foreground_threshold_;
  std::vector<at::Tensor> kept_;
  const T *weights_, *foreground_;
  const int64_t *view_, *output_;
  std::vector<std::vector<int64_t>> splats_of_view_, splats_of_output_;
  std::vector<int64_t> rank_in_view_;
};

}  // namespace fsdbev
