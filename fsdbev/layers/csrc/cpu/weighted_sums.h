// Weighted sums of bytes in fixed point, the inner loop of resampling along an axis.
#pragma once

#include <cstdint>
#include <vector>

namespace fsdbev {

// Values that are summed side by side.
constexpr int64_t kLanes = 48;
// Weights are in units of 2^-kWeightBits.
constexpr int kWeightBits = 22;

// The values that make one result: `count` in a row from `first` on, and their weights.
struct Window {
  int64_t first, count;
  const int32_t* weights;
};

// to[lane] = the sum over i < count of weights[i] * from[(first + i) * from_stride + lane] for kLanes
// lanes, rounded (halves up) and clipped to a byte; the next window's results are to_stride further on.
void weighted_sums(
    const uint8_t* from,
    int64_t from_stride,
    const std::vector<Window>& windows,
    uint8_t* to,
    int64_t to_stride);

}  // namespace fsdbev
