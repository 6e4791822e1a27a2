// Interleaves rows of bytes value by value, and separates them again.
#pragma once

#include <array>
#include <cstdint>

namespace fsdbev {

// Number of interleaved rows.
constexpr int64_t kRows = 16;

// to[i * kRows + r] = rows[r][i] for i < length.
void lay_side_by_side(const std::array<const uint8_t*, kRows>& rows, int64_t length, uint8_t* to);

// rows[r][i] = from[i * kStep + r] for i < length, a multiple of kRows. kStep is kLanes.
template <int64_t kStep>
void lay_apart(const uint8_t* from, int64_t length, const std::array<uint8_t*, kRows>& rows);

}  // namespace fsdbev
