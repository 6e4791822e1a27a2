#include "side_by_side.h"

#include "weighted_sums.h"

#include <algorithm>
#include <utility>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace fsdbev {
namespace {

#if defined(__SSE2__)
using Row = __m128i;

inline Row load(const uint8_t* from) { return _mm_loadu_si128(reinterpret_cast<const Row*>(from)); }
inline void store(uint8_t* to, Row row) { _mm_storeu_si128(reinterpret_cast<Row*>(to), row); }

// Interleaves the first and the second half of the rows. Applied four times, this transposes.
inline void mix(const Row* rows, Row* mixed) {
  for (int64_t r = 0; r < kRows / 2; ++r) {
    mixed[2 * r] = _mm_unpacklo_epi8(rows[r], rows[r + kRows / 2]);
    mixed[2 * r + 1] = _mm_unpackhi_epi8(rows[r], rows[r + kRows / 2]);
  }
}

inline void transpose(Row* rows) {
  Row mixed[kRows];
  mix(rows, mixed);
  mix(mixed, rows);
  mix(rows, mixed);
  mix(mixed, rows);
}
#else
struct Row {
  uint8_t values[kRows];
};

inline Row load(const uint8_t* from) {
  Row row;
  std::copy_n(from, kRows, row.values);
  return row;
}
inline void store(uint8_t* to, const Row& row) { std::copy_n(row.values, kRows, to); }

inline void transpose(Row* rows) {
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < r; ++c) {
      std::swap(rows[r].values[c], rows[c].values[r]);
    }
  }
}
#endif

}  // namespace

void lay_side_by_side(const std::array<const uint8_t*, kRows>& rows, int64_t length, uint8_t* to) {
  int64_t i = 0;
  for (; i + kRows <= length; i += kRows) {
    Row block[kRows];
    for (int64_t r = 0; r < kRows; ++r) {
      block[r] = load(rows[r] + i);
    }
    transpose(block);
    for (int64_t c = 0; c < kRows; ++c) {
      store(to + (i + c) * kRows, block[c]);
    }
  }
  for (; i < length; ++i) {
    for (int64_t r = 0; r < kRows; ++r) {
      to[i * kRows + r] = rows[r][i];
    }
  }
}

template <int64_t kStep>
void lay_apart(const uint8_t* from, int64_t length, const std::array<uint8_t*, kRows>& rows) {
  for (int64_t i = 0; i < length; i += kRows) {
    Row block[kRows];
    for (int64_t c = 0; c < kRows; ++c) {
      block[c] = load(from + (i + c) * kStep);
    }
    transpose(block);
    for (int64_t r = 0; r < kRows; ++r) {
      store(rows[r] + i, block[r]);
    }
  }
}

template void lay_apart<kLanes>(const uint8_t*, int64_t, const std::array<uint8_t*, kRows>&);

}  // namespace fsdbev
