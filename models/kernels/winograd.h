// Convolutions of 3×3 kernels and stride 1 by Winograd's minimal filtering F(2×2, 3×3), as Lavin and
// Gray 2016 have it (arXiv 1509.09308, section 4.1): four outputs of a tile take 16 products where
// the sum over taps takes 36.
//
// With the matrices B, G and A of their eq. 10, a tile of 4×4 inputs d and a kernel w give the 2×2
// outputs Aᵀ [(G w Gᵀ) ⊙ (Bᵀ d B)] A. Summed over channels, ⊙ is one matrix product for each of the
// 16 positions. The gradient by the kernel is Gᵀ [Σ (Bᵀ d B) ⊙ (A g Aᵀ)] G, summed over tiles.

#pragma once

#include <algorithm>
#include <vector>

#include "products.h"

namespace {

constexpr int64_t kPoints = 16;  // products of a tile
constexpr int64_t kTiles = 64;   // of a band, unless a row has more: its numbers stay in the caches

// 2×2 tiles of an output map, in bands of some rows; with odd sides the last reach outside. `images`
// have their bands side by side.
struct Tiling {
  int64_t down, across, images;

  explicit Tiling(Shape out, int64_t most_images = 1)
      : down((out.height + 1) / 2), across((out.width + 1) / 2) {
    images = std::clamp<int64_t>(kTiles / 2 / (down * across), 1, most_images);
  }
  int64_t band() const { return std::clamp<int64_t>(kTiles / across, 1, down); }
  // Floats of the padded input of a band.
  int64_t padded(int64_t channels) const {
    return (2 * band() + 2) * (2 * across + 2) * channels;
  }
  // Floats between points. One vector more than the tiles need: powers of 2 would share cache sets.
  int64_t plane(int64_t channels) const {
    return images * band() * across * channels + kLanes;
  }
};

struct Band {
  int64_t first, last;  // rows of tiles
};

// What a band sees of image n of x, with `top` rows and `left` columns of zeros before the image.
void pad_band(const float* x, Shape in, int64_t n, int64_t top, int64_t left, const Tiling& tiles,
              Band band, float* out) {
  pad_image(x + n * in.height * in.width * in.channels, in.height, in.width, in.channels,
            top - 2 * band.first, left, 2 * (band.last - band.first) + 2, 2 * tiles.across + 2, out);
}

// Bᵀ d B of a band's tiles, [kPoints][tiles, channels]. x is the padded input of the band.
void transform_inputs(const float* x, const Tiling& tiles, int64_t channels, Band band,
                      float* out) {
  const int64_t row = (2 * tiles.across + 2) * channels, plane = tiles.plane(channels);
  for (int64_t p = 0; p < band.last - band.first; ++p) {
    for (int64_t q = 0; q < tiles.across; ++q) {
      const float* tile = x + 2 * p * row + 2 * q * channels;
      for (int64_t c = 0; c < channels; c += kLanes, out += kLanes) {
        Vec half[4][4];  // Bᵀ d
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          Vec d[4];
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) d[i] = load(tile + i * row + j * channels + c);
          half[0][j] = d[0] - d[2];
          half[1][j] = d[1] + d[2];
          half[2][j] = d[2] - d[1];
          half[3][j] = d[1] - d[3];
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          float* to = out + 4 * i * plane;
          store(to, half[i][0] - half[i][2], kLanes);
          store(to + plane, half[i][1] + half[i][2], kLanes);
          store(to + 2 * plane, half[i][2] - half[i][1], kLanes);
          store(to + 3 * plane, half[i][1] - half[i][3], kLanes);
        }
      }
    }
  }
}

// Aᵀ m A of a band's tiles, to one image y; of the last tiles only what is inside.
void transform_outputs(const float* m, const Tiling& tiles, Shape out, Band band, float* y) {
  const int64_t features = out.channels, plane = tiles.plane(features);
  for (int64_t p = band.first; p < band.last; ++p) {
    for (int64_t q = 0; q < tiles.across; ++q) {
      const bool below = 2 * p + 1 < out.height, right = 2 * q + 1 < out.width;
      float* to = y + (2 * p * out.width + 2 * q) * features;
      for (int64_t f = 0; f < features; f += kLanes, m += kLanes) {
        Vec half[2][4];  // Aᵀ m
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          Vec v[4];
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) v[i] = load(m + (4 * i + j) * plane);
          half[0][j] = v[0] + v[1] + v[2];
          half[1][j] = v[1] - v[2] - v[3];
        }
        for (int i = 0; i < (below ? 2 : 1); ++i) {
          float* here = to + i * out.width * features + f;
          store(here, half[i][0] + half[i][1] + half[i][2], kLanes);
          if (right) store(here + features, half[i][1] - half[i][2] - half[i][3], kLanes);
        }
      }
    }
  }
}

// A g Aᵀ of a band's tiles of one image of gradients, [kPoints][tiles, features]; outside g is 0.
void transform_gradients(const float* g, const Tiling& tiles, Shape out, Band band, float* to) {
  const int64_t features = out.channels, plane = tiles.plane(features);
  for (int64_t p = band.first; p < band.last; ++p) {
    for (int64_t q = 0; q < tiles.across; ++q) {
      const bool below = 2 * p + 1 < out.height, right = 2 * q + 1 < out.width;
      const float* tile = g + (2 * p * out.width + 2 * q) * features;
      for (int64_t f = 0; f < features; f += kLanes, to += kLanes) {
        const Vec zero = {};
        const float* from = tile + f;
        const float* under = from + out.width * features;
        const Vec a = load(from), b = right ? load(from + features) : zero;
        const Vec c = below ? load(under) : zero;
        const Vec d = below && right ? load(under + features) : zero;
        const Vec half[4][2] = {{a, b}, {a + c, b + d}, {a - c, b - d}, {-c, -d}};  // A g
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          float* here = to + 4 * i * plane;
          store(here, half[i][0], kLanes);
          store(here + plane, half[i][0] + half[i][1], kLanes);
          store(here + 2 * plane, half[i][0] - half[i][1], kLanes);
          store(here + 3 * plane, -half[i][1], kLanes);
        }
      }
    }
  }
}

// T rows of x, of C channels, with a vector of features. C is a constant for the compiler; 0: any.
template <int T, int C>
void product(const float* x, int64_t channels, const float* kernel, float* y, int64_t features) {
  const int64_t count = C ? C : channels;
  Vec sums[T] = {};
  for (int64_t c = 0; c < count; ++c) {
    const Vec weights = load(kernel + c * kLanes);
#pragma GCC unroll 32
    for (int t = 0; t < T; ++t) sums[t] += x[t * count + c] * weights;
  }
#pragma GCC unroll 32
  for (int t = 0; t < T; ++t) store(y + t * features, sums[t], kLanes);
}

// Calls product<rows, C>, where rows is at most T.
template <int T, int C>
inline void product_of(int64_t rows, const float* x, int64_t channels, const float* kernel,
                       float* y, int64_t features) {
  if constexpr (T > 1) {
    if (rows < T) return product_of<T - 1, C>(rows, x, channels, kernel, y, features);
  }
  product<T, C>(x, channels, kernel, y, features);
}

// y [rows, features] = x [rows, channels] times a kernel in blocks of kLanes features.
template <int C>
void products(const float* x, int64_t rows, int64_t channels, const float* kernel, float* y,
              int64_t features) {
  constexpr int kTile = std::min(16, kRegisters);
  for (int64_t f = 0; f < features; f += kLanes, kernel += kLanes * channels) {
    for (int64_t r = 0; r < rows; r += kTile) {
      const int64_t some = std::min<int64_t>(kTile, rows - r);
      product_of<kTile, C>(some, x + r * channels, channels, kernel, y + r * features + f,
                           features);
    }
  }
}

// Whether these classes can do a convolution; others go tap by tap.
bool winograd_fits(Shape in, Shape out, Window window) {
  return window.stride == 1 && window.height == 3 && window.width == 3 &&
         in.channels % kLanes == 0 && out.channels % kLanes == 0 && out.height > 1 && out.width > 1;
}

// Whether the filter gradient is faster so: with fewer channels the transforms cost what they save.
bool winograd_pays(Shape in, Shape out) { return in.channels * out.channels >= 32 * 32; }

// y of x, or with `turned` the input gradient: then x is the output gradient and y is by the input.
class WinogradForward {
 public:
  // kernel: [3, 3, in, out], or [3, 3, out, in] if turned.
  WinogradForward(const float* x, Shape in, const float* kernel, Window window, bool turned,
                  float* y, Shape out)
      : x_(x), in_(in), y_(y), out_(out), tiles_(out) {
    top_ = turned ? 2 - window.top : window.top;
    left_ = turned ? 2 - window.left : window.left;
    const int64_t channels = in.channels, features = out.channels;
    packed_.resize(kPoints * channels * features);
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t f = 0; f < features; f += kLanes) {
        Vec w[3][3];
        for (int i = 0; i < 3; ++i) {
          for (int j = 0; j < 3; ++j) {
            if (turned) {
              const float* tap = kernel + ((2 - i) * 3 + 2 - j) * channels * features + c;
              for (int lane = 0; lane < kLanes; ++lane) w[i][j][lane] = tap[(f + lane) * channels];
            } else {
              w[i][j] = load(kernel + ((i * 3 + j) * channels + c) * features + f);
            }
          }
        }
        pack(w, c, f);
      }
    }
  }

  void image(int64_t n, std::vector<float>& scratch) const {
    const int64_t channels = in_.channels, features = out_.channels;
    const int64_t padded = tiles_.padded(channels), step = tiles_.band();
    scratch.resize(padded + kPoints * (tiles_.plane(channels) + tiles_.plane(features)));
    float* seen = scratch.data() + padded;
    float* sums = seen + kPoints * tiles_.plane(channels);
    for (int64_t first = 0; first < tiles_.down; first += step) {
      const Band band = {first, std::min(tiles_.down, first + step)};
      pad_band(x_, in_, n, top_, left_, tiles_, band, scratch.data());
      transform_inputs(scratch.data(), tiles_, channels, band, seen);
      for (int64_t point = 0; point < kPoints; ++point) {
        multiply(seen + point * tiles_.plane(channels), (band.last - first) * tiles_.across,
                 packed_.data() + point * channels * features,
                 sums + point * tiles_.plane(features));
      }
      transform_outputs(sums, tiles_, out_, band, y_ + n * out_.height * out_.width * features);
    }
  }

 private:
  void multiply(const float* x, int64_t rows, const float* kernel, float* y) const {
    switch (in_.channels) {
      case 16: return products<16>(x, rows, 16, kernel, y, out_.channels);
      case 32: return products<32>(x, rows, 32, kernel, y, out_.channels);
      case 64: return products<64>(x, rows, 64, kernel, y, out_.channels);
      default: return products<0>(x, rows, in_.channels, kernel, y, out_.channels);
    }
  }

  // G w Gᵀ of a vector of features, at each point in blocks of kLanes features.
  void pack(const Vec (&w)[3][3], int64_t c, int64_t f) {
    Vec half[4][3];
    for (int j = 0; j < 3; ++j) {
      const Vec ends = (w[0][j] + w[2][j]) / 2, middle = w[1][j] / 2;
      half[0][j] = w[0][j];
      half[1][j] = ends + middle;
      half[2][j] = ends - middle;
      half[3][j] = w[2][j];
    }
    const int64_t plane = in_.channels * out_.channels;
    float* to = &packed_[f * in_.channels + c * kLanes];
    for (int i = 0; i < 4; ++i, to += 4 * plane) {
      const Vec ends = (half[i][0] + half[i][2]) / 2, middle = half[i][1] / 2;
      store(to, half[i][0], kLanes);
      store(to + plane, ends + middle, kLanes);
      store(to + 2 * plane, ends - middle, kLanes);
      store(to + 3 * plane, half[i][2], kLanes);
    }
  }

  const float* x_;
  Shape in_;
  float* y_;
  Shape out_;
  Tiling tiles_;
  int64_t top_, left_;
  std::vector<float> packed_;
};

class WinogradFilterGradient {
 public:
  WinogradFilterGradient(const float* x, Shape in, const float* g, Shape out, Window window,
                         int64_t most_parts, float* dw)
      : x_(x), in_(in), g_(g), out_(out), window_(window), dw_(dw), tiles_(out, in.images) {
    parts = std::min<int64_t>(in.images, most_parts);
    sums_.resize(parts * kPoints * in.channels * out.channels);
  }

  int64_t parts;

  void part(int64_t k, std::vector<float>& scratch) {
    const int64_t channels = in_.channels, features = out_.channels;
    const int64_t padded = tiles_.padded(channels), step = tiles_.band();
    scratch.resize(padded + kPoints * (tiles_.plane(channels) + tiles_.plane(features)));
    float* seen = scratch.data() + padded;
    float* back = seen + kPoints * tiles_.plane(channels);
    float* sums = sums_.data() + k * kPoints * channels * features;
    const int64_t end = in_.images * (k + 1) / parts;
    for (int64_t n = in_.images * k / parts; n < end; n += tiles_.images) {
      for (int64_t first = 0; first < tiles_.down; first += step) {
        const Band band = {first, std::min(tiles_.down, first + step)};
        int64_t tiles = 0;
        for (int64_t m = n; m < std::min(end, n + tiles_.images); ++m) {
          pad_band(x_, in_, m, window_.top, window_.left, tiles_, band, scratch.data());
          transform_inputs(scratch.data(), tiles_, channels, band, seen + tiles * channels);
          transform_gradients(g_ + m * out_.height * out_.width * features, tiles_, out_, band,
                              back + tiles * features);
          tiles += (band.last - first) * tiles_.across;
        }
        for (int64_t point = 0; point < kPoints; ++point) {
          add(seen + point * tiles_.plane(channels), back + point * tiles_.plane(features), tiles,
              sums + point * channels * features);
        }
      }
    }
  }

  // The gradients of input channel c, after all parts are done: Gᵀ s G.
  void sum(int64_t c) const {
    const int64_t channels = in_.channels, features = out_.channels;
    const int64_t plane = channels * features;
    for (int64_t f = 0; f < features; f += kLanes) {
      Vec s[4][4] = {};
      for (int64_t k = 0; k < parts; ++k) {
        const float* from = sums_.data() + k * kPoints * plane + c * features + f;
        for (int i = 0; i < 4; ++i) {
          for (int j = 0; j < 4; ++j) s[i][j] += load(from + (4 * i + j) * plane);
        }
      }
      Vec half[3][4];
      for (int j = 0; j < 4; ++j) {
        const Vec sum = (s[1][j] + s[2][j]) / 2;
        half[0][j] = s[0][j] + sum;
        half[1][j] = (s[1][j] - s[2][j]) / 2;
        half[2][j] = sum + s[3][j];
      }
      for (int i = 0; i < 3; ++i) {
        float* to = dw_ + 3 * i * plane + c * features + f;
        const Vec sum = (half[i][1] + half[i][2]) / 2;
        store(to, half[i][0] + sum, kLanes);
        store(to + plane, (half[i][1] - half[i][2]) / 2, kLanes);
        store(to + 2 * plane, sum + half[i][3], kLanes);
      }
    }
  }

 private:
  void add(const float* x, const float* g, int64_t tiles, float* sums) const {
    for (int64_t f = 0; f < out_.channels; f += kLanes) {
      outer_rows(in_.channels, x, 0, in_.channels, g + f, 1, tiles, out_.channels, sums + f);
    }
  }

  const float* x_;
  Shape in_;
  const float* g_;
  Shape out_;
  Window window_;
  float* dw_;
  Tiling tiles_;
  std::vector<float> sums_;
};

}  // namespace
