// Distribution of the BEV cells among the threads of the forward pass.
#pragma once

#include "channels.h"

#include <algorithm>
#include <cstdint>

namespace fsdbev {

// Stripes of kStripe cells are assigned to bands round-robin. Near cells receive many more points than
// far ones, and this spreads them evenly. The sums of a band fit in a core's second-level cache.
struct Bands {
  static constexpr int64_t kStripeBits = 5, kStripe = 1 << kStripeBits;
  static constexpr int64_t kMinimum = 8, kMaxBytes = 384 << 10;

  int64_t cells, bits, count;  // count = 2^bits bands

  Bands(int64_t cells, int64_t bytes_per_cell) : cells(cells), bits(0) {
    const int64_t wanted = std::max(kMinimum, cells * bytes_per_cell / kMaxBytes);
    while ((1 << bits) < wanted && (1 << bits) * kStripe < cells) {
      ++bits;
    }
    count = 1 << bits;
  }

  int32_t band_of(int32_t cell) const { return (cell >> kStripeBits) & static_cast<int32_t>(count - 1); }

  // Place of a cell within its band.
  int32_t local(int32_t cell) const {
    return (cell >> (kStripeBits + bits) << kStripeBits) | (cell & static_cast<int32_t>(kStripe - 1));
  }

  int64_t stripes() const { return round_up(cells, kStripe * count) / (kStripe * count); }
  int64_t first_cell(int64_t band, int64_t stripe) const { return (stripe * count + band) * kStripe; }
};

}  // namespace fsdbev
