// Products of overlapping windows, on which all convolutions are built: `convolve` takes sums over
// taps and channels, `outer_rows` over positions.

#pragma once

#include <algorithm>
#include <vector>

#include "shared.h"

namespace {

struct Shape {
  int64_t images, height, width, channels;
};

// Stride, padding above and on the left, kernel; padding below and on the right follow from shapes.
struct Window {
  int64_t stride, top, left, height, width;
};

inline int64_t blocks_of(int64_t features) { return (features + kLanes - 1) / kLanes; }

// One image with `top` rows and `left` columns of zeros before it, cut or filled up to rows×columns.
void pad_image(const float* image, int64_t height, int64_t width, int64_t channels, int64_t top,
               int64_t left, int64_t rows, int64_t columns, float* out) {
  const int64_t row = columns * channels;
  const int64_t before = std::min(left, columns) * channels;
  const int64_t copied = std::max<int64_t>(0, std::min(width, columns - left)) * channels;
  for (int64_t r = 0; r < rows; ++r, out += row) {
    const int64_t h = r - top;
    if (h < 0 || h >= height) {
      std::fill(out, out + row, 0.0f);
      continue;
    }
    std::fill(out, out + before, 0.0f);
    std::copy_n(image + h * width * channels, copied, out + before);
    std::fill(out + before + copied, out + row, 0.0f);
  }
}

// What `convolve` walks over: steps are in floats.
struct Walk {
  int64_t rows, columns;                 // of the output
  int64_t in_row, in_step, in_tap_row;   // an output row, an output column, a row of taps further
  int64_t out_row, out_step;
  int64_t tap_rows, run;                 // rows of taps, and numbers that one row of taps sees
  int64_t features;
};

// One vector of features of T neighbouring outputs. (Two vectors at a time would load fewer inputs,
// but the compiler then keeps sums in memory: two thirds of the speed.) Step: walk.in_step, for the
// compiler to know, which then needs no registers for addresses; 0: any.
template <int T, int Step>
void tile(const Walk& walk, const float* in, const float* packed, float* out, int64_t features) {
  const int64_t step = Step ? Step : walk.in_step;
  Vec sums[T] = {};
  for (int64_t i = 0; i < walk.tap_rows; ++i) {
    const float* x = in + i * walk.in_tap_row;
    const float* w = packed + i * walk.run * kLanes;
    for (int64_t r = 0; r < walk.run; ++r) {
      const Vec weights = load(w + r * kLanes);
#pragma GCC unroll 32
      for (int t = 0; t < T; ++t) sums[t] += x[t * step + r] * weights;
    }
  }
#pragma GCC unroll 32
  for (int t = 0; t < T; ++t) store(out + t * walk.out_step, sums[t], features);
}

// Calls tile<count, Step>, where count is at most T.
template <int T, int Step>
inline void tile_of(int64_t count, const Walk& walk, const float* in, const float* packed,
                    float* out, int64_t features) {
  if constexpr (T > 1) {
    if (count < T) return tile_of<T - 1, Step>(count, walk, in, packed, out, features);
  }
  tile<T, Step>(walk, in, packed, out, features);
}

template <int Step>
void convolve_step(const Walk& walk, const float* in, const float* packed, float* out) {
  constexpr int kTile = std::min(16, kRegisters);
  const int64_t tiles = (walk.columns + kTile - 1) / kTile;
  for (int64_t f = 0; f < walk.features; f += kLanes, packed += walk.tap_rows * walk.run * kLanes) {
    for (int64_t p = 0; p < walk.rows; ++p) {
      for (int64_t k = 0; k < tiles; ++k) {  // tiles of nearly equal width
        const int64_t q = walk.columns * k / tiles, end = walk.columns * (k + 1) / tiles;
        tile_of<kTile, Step>(end - q, walk, in + p * walk.in_row + q * walk.in_step, packed,
                             out + p * walk.out_row + q * walk.out_step + f, walk.features - f);
      }
    }
  }
}

// packed: blocks of kLanes features, each [tap_rows, run, kLanes].
void convolve(const Walk& walk, const float* in, const float* packed, float* out) {
  switch (walk.in_step) {
    case 16: return convolve_step<16>(walk, in, packed, out);
    case 32: return convolve_step<32>(walk, in, packed, out);
    case 64: return convolve_step<64>(walk, in, packed, out);
    default: return convolve_step<0>(walk, in, packed, out);
  }
}

// Adds to one vector of features of R rows of `sums` (rows are `features` apart, rounded up to whole
// vectors).
template <int R>
void outer(const float* x, int64_t in_row, int64_t in_step, const float* g, int64_t rows,
           int64_t columns, int64_t features, float* sums) {
  Vec total[R];
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r) total[r] = load(sums + r * features);
  for (int64_t p = 0; p < rows; ++p) {
    const float* seen = x + p * in_row;
    for (int64_t q = 0; q < columns; ++q, seen += in_step, g += features) {
      const Vec back = load(g);
#pragma GCC unroll 32
      for (int r = 0; r < R; ++r) total[r] += seen[r] * back;
    }
  }
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r) store(sums + r * features, total[r], kLanes);
}

// Calls outer<count>, where count is at most R.
template <int R>
inline void outer_of(int64_t count, const float* x, int64_t in_row, int64_t in_step,
                     const float* g, int64_t rows, int64_t columns, int64_t features,
                     float* sums) {
  if constexpr (R > 1) {
    if (count < R) {
      return outer_of<R - 1>(count, x, in_row, in_step, g, rows, columns, features, sums);
    }
  }
  outer<R>(x, in_row, in_step, g, rows, columns, features, sums);
}

// `count` rows of sums: the products of `count` neighbouring numbers of x with one vector of
// features of g, summed over positions.
inline void outer_rows(int64_t count, const float* x, int64_t in_row, int64_t in_step,
                       const float* g, int64_t rows, int64_t columns, int64_t features,
                       float* sums) {
  const int64_t blocks = (count + kRegisters - 1) / kRegisters;
  for (int64_t k = 0; k < blocks; ++k) {  // of nearly equal size
    const int64_t r = count * k / blocks, end = count * (k + 1) / blocks;
    outer_of<kRegisters>(end - r, x + r, in_row, in_step, g, rows, columns, features,
                         sums + r * features);
  }
}

}  // namespace
