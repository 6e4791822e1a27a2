// Resampling within a grey level of Pillow's: weights of 14 bits, two values to a multiplication.
#pragma once

#include "windows.h"

#include <array>
#include <cstdint>

namespace fsdbev {

// Images that shrink more along an axis are left to exact weights: the rounding of many adds up.
constexpr int64_t kMostCoarseShrink = 8;

// Resamples a stripe of an image of three colours. `image` is the first pixel that `across` and `down`,
// both coarse, look at; row_bytes apart are its rows, pitch apart those of the planes, one a colour. The
// planes hold a multiple of kLanes columns; what is beyond the last one is anything.
void resample_coarsely(
    const uint8_t* image,
    int64_t row_bytes,
    const Part& across,
    const Part& down,
    const std::array<uint8_t*, 3>& planes,
    int64_t pitch);

}  // namespace fsdbev
