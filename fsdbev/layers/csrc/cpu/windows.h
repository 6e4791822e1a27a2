// Bicubic resampling along one axis: the window of input values of each result and their weights.
#pragma once

#include "weighted_sums.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace fsdbev {

// Visible range begin .. end - 1 of an axis of the resized image; it starts at `offset` of the output.
struct Seen {
  int64_t begin, end, offset;

  Seen(int64_t resized, int64_t first, int64_t output)
      : begin(std::clamp<int64_t>(first, 0, resized)),
        end(std::clamp<int64_t>(first + output, 0, resized)),
        offset(begin - first) {}

  int64_t size() const { return end - begin; }
};

// Cubic convolution with a = -1/2, the kernel of bicubic interpolation; 0 from 2 on.
inline double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) {
    return ((a + 2) * x - (a + 3)) * x * x + 1;
  }
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// The windows of some results on the part of the original axis that they need, from `begin` on.
struct Part {
  int64_t begin, needed;
  std::vector<Window> windows;

  int64_t size() const { return static_cast<int64_t>(windows.size()); }
};

// The windows of the visible range of an axis.
class Windows {
 public:
  Windows(int64_t size, int64_t resized, const Seen& seen) {
    const double scale = static_cast<double>(size) / static_cast<double>(resized);
    const double width = std::max(scale, 1.0), reach = 2 * width;  // wider where the image shrinks
    const size_t most = 2 * static_cast<size_t>(std::ceil(reach)) + 1;
    weights_.reserve(most * seen.size());  // windows point into it, so it must not reallocate
    for (int64_t position = seen.begin; position < seen.end; ++position) {
      const double centre = (static_cast<double>(position) + 0.5) * scale;
      const int64_t first = std::max<int64_t>(static_cast<int64_t>(centre - reach + 0.5), 0);
      const int64_t last = std::min(static_cast<int64_t>(centre + reach + 0.5), size);
      const int32_t* weights = weights_.data() + weights_.size();
      find_values(centre, 1 / width, first, last);
      windows_.push_back({first, last - first, weights});
      add_weights();
    }
  }

  Windows(const Windows&) = delete;

  int64_t size() const { return static_cast<int64_t>(windows_.size()); }
  void reverse() { std::reverse(windows_.begin(), windows_.end()); }

  // Of the results from `first` on, at most `count`.
  Part part(int64_t first, int64_t count) const {
    const auto from = windows_.begin() + first, to = from + std::min(count, size() - first);
    const auto [low, high] = std::minmax(*from, *(to - 1), [](const Window& a, const Window& b) {
      return a.first < b.first || (a.first == b.first && a.first + a.count < b.first + b.count);
    });
    Part part{low.first, high.first + high.count - low.first, {from, to}};
    for (Window& window : part.windows) {
      window.first -= part.begin;
    }
    return part;
  }

 private:
  // Weights that sum up to 1.
  void find_values(double centre, double per_pixel, int64_t first, int64_t last) {
    values_.clear();
    double sum = 0;
    for (int64_t i = 0; i < last - first; ++i) {
      values_.push_back(cubic((static_cast<double>(i + first) - centre + 0.5) * per_pixel));
      sum += values_.back();
    }
    for (double& value : values_) {
      value = sum != 0 ? value / sum : value;
    }
  }

  // Rounded to units of 2^-kWeightBits.
  void add_weights() {
    for (const double value : values_) {
      const double scaled = value * (1 << kWeightBits);
      weights_.push_back(static_cast<int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5));
    }
  }

  std::vector<Window> windows_;
  std::vector<int32_t> weights_;
  std::vector<double> values_;
};

}  // namespace fsdbev
