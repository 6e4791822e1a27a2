// Contributions of frustum points to cells: the forward pass on the CPU before the summation.
#pragma once

#include "bands.h"
#include "rays.h"
#include "splat_loops.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

namespace fsdbev {

// Pixels that one task handles; a view's tasks follow each other.
constexpr int64_t kPixelsPerTask = 128;

// Contributions of the pixels of one task, sorted into lists by (splat of the view, set, band). List l
// is items[first[l]] .. items[first[l + 1] - 1].
template <typename T>
struct TaskLists {
  std::vector<Contribution<T>> items;
  std::vector<int64_t> first;
};

// Found by tasks in parallel; a cell's contributions keep the order of SplatInputs::for_each_run.
template <typename T>
class Contributions {
 public:
  template <typename Cells>
  Contributions(const SplatInputs<T>& in, const Cells& cells, const Bands& bands)
      : in_(in),
        bands_(bands),
        tasks_per_view_(round_up(in.shape.pixels(), kPixelsPerTask) / kPixelsPerTask),
        tasks_(in.shape.views * tasks_per_view_) {
    at::parallel_for(0, static_cast<int64_t>(tasks_.size()), 1, [&](int64_t begin, int64_t end) {
      std::vector<int32_t> list_of;
      std::vector<Contribution<T>> found;
      for (int64_t task = begin; task < end; ++task) {
        collect(task, cells, list_of, found);
      }
    });
  }

  // Calls visit(items, count) for the contributions of a splat to a band in a weight set.
  template <typename Visit>
  void for_each(int64_t splat, int64_t set, int64_t band, const Visit& visit) const {
    const int64_t v = in_.view(splat), list = list_number(splat, set, band);
    for (int64_t task = v * tasks_per_view_; task < (v + 1) * tasks_per_view_; ++task) {
      const auto& lists = tasks_[task];
      if (!lists.items.empty()) {
        visit(lists.items.data() + lists.first[list], lists.first[list + 1] - lists.first[list]);
      }
    }
  }

 private:
  int64_t list_number(int64_t splat, int64_t set, int64_t band) const {
    return (in_.rank_in_view(splat) * in_.shape.sets + set) * bands_.count + band;
  }

  // Collects the runs in order, then sorts them into their lists by counting.
  template <typename Cells>
  void collect(
      int64_t task,
      const Cells& cells,
      std::vector<int32_t>& list_of,
      std::vector<Contribution<T>>& found) {
    const int64_t v = task / tasks_per_view_, begin = task % tasks_per_view_ * kPixelsPerTask;
    const int64_t end = std::min(begin + kPixelsPerTask, in_.shape.pixels());
    list_of.clear();
    found.clear();
    in_.for_each_run(cells, v, begin, end, [&](const Run<T>& run) {
      list_of.push_back(static_cast<int32_t>(list_number(run.splat, run.set, bands_.band_of(run.cell))));
      found.push_back({bands_.local(run.cell), static_cast<int32_t>(run.pixel), run.weight});
    });
    if (found.empty()) {
      return;
    }
    auto& [items, first] = tasks_[task];
    first.assign(in_.splats_of_view(v).size() * in_.shape.sets * bands_.count + 1, 0);
    for (const int32_t list : list_of) {
      ++first[list + 1];
    }
    for (size_t list = 1; list < first.size(); ++list) {
      first[list] += first[list - 1];
    }
    items.resize(found.size());
    auto next = first;
    for (size_t i = 0; i < found.size(); ++i) {
      items[next[list_of[i]]++] = found[i];
    }
  }

  const SplatInputs<T>& in_;
  const Bands bands_;
  const int64_t tasks_per_view_;
  std::vector<TaskLists<T>> tasks_;
};

}  // namespace fsdbev
