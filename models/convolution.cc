// Convolutions of float32 images on CPU, as handlers of XLA's foreign function interface.
//
// Images are [N, H, W, C], kernels [h, w, C, F]. One routine serves the forward pass and the input
// gradient: a row of kernel taps sees w·C neighbouring numbers of a padded image, so that a
// convolution is, for each row of taps, a matrix product of overlapping windows. The input gradient
// of stride s is s² such convolutions, one for each phase of the input's rows and columns. Vectors
// are those of the compiler (GCC, Clang): 16 floats with AVX-512, 8 otherwise. Every sum has a
// fixed order: bits do not depend on the number of threads.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#ifndef KERNELS_ALONE  // the sanitizers' harness compiles the kernels without XLA's headers
#include "xla/ffi/api/ffi.h"
#endif

namespace {

#ifdef __AVX512F__
constexpr int kLanes = 16, kRegisters = 24;  // registers for sums
#else
constexpr int kLanes = 8, kRegisters = 12;
#endif
typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
constexpr int kParts = 16;  // partial sums of a filter gradient over the batch

struct Shape {
  int64_t images, height, width, channels;
};

// Stride, padding above and on the left, kernel; padding below and on the right follow from shapes.
struct Window {
  int64_t stride, top, left, height, width;
};

inline Vec load(const float* from) {
  Vec v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline void store(float* to, const Vec& v, int64_t lanes) {
  if (lanes >= kLanes) {
    std::memcpy(to, &v, sizeof v);
  } else {
    float all[kLanes];
    std::memcpy(all, &v, sizeof v);
    for (int64_t lane = 0; lane < lanes; ++lane) to[lane] = all[lane];
  }
}

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

class Forward {
 public:
  Forward(const float* x, Shape in, const float* kernel, Window window, float* y, Shape out)
      : x_(x), in_(in), window_(window), y_(y), out_(out) {
    rows_ = window.stride * (out.height - 1) + window.height;
    columns_ = window.stride * (out.width - 1) + window.width;
    const int64_t taps = window.height * window.width * in.channels;
    packed_.resize(blocks_of(out.channels) * taps * kLanes);
    for (int64_t f = 0; f < out.channels; f += kLanes) {
      const int64_t lanes = std::min<int64_t>(kLanes, out.channels - f);
      for (int64_t r = 0; r < taps; ++r) {
        std::copy_n(kernel + r * out.channels + f, lanes, &packed_[f * taps + r * kLanes]);
      }
    }
  }

  void image(int64_t n, std::vector<float>& scratch) const {
    scratch.resize(rows_ * columns_ * in_.channels);
    pad_image(x_ + n * in_.height * in_.width * in_.channels, in_.height, in_.width, in_.channels,
              window_.top, window_.left, rows_, columns_, scratch.data());
    const int64_t row = columns_ * in_.channels;
    const Walk walk = {out_.height, out_.width, window_.stride * row, window_.stride * in_.channels,
                       row, out_.width * out_.channels, out_.channels, window_.height,
                       window_.width * in_.channels, out_.channels};
    convolve(walk, scratch.data(), packed_.data(),
             y_ + n * out_.height * out_.width * out_.channels);
  }

 private:
  const float* x_;
  Shape in_;
  Window window_;
  float* y_;
  Shape out_;
  int64_t rows_, columns_;
  std::vector<float> packed_;
};

// Along one axis, the input positions u, u+s, u+2s, ... take taps first, first+s, ... of the kernel,
// `taps` of them; the last of these meets output position `start` at input position u.
struct Phase {
  int64_t count, first, taps, start;

  Phase(int64_t u, int64_t size, int64_t kernel, int64_t stride, int64_t pad) {
    count = (size - u + stride - 1) / stride;
    first = (u + pad) % stride;
    taps = first < kernel ? (kernel - first + stride - 1) / stride : 0;
    start = (u + pad) / stride - (taps - 1);
  }
};

class InputGradient {
 public:
  InputGradient(const float* g, Shape out, const float* kernel, Window window, float* dx, Shape in)
      : g_(g), out_(out), window_(window), dx_(dx), in_(in) {
    for (int64_t u = 0; u < std::min(window.stride, in.height); ++u) {
      vertical_.emplace_back(u, in.height, window.height, window.stride, window.top);
    }
    for (int64_t u = 0; u < std::min(window.stride, in.width); ++u) {
      horizontal_.emplace_back(u, in.width, window.width, window.stride, window.left);
    }
    above_ = padding(vertical_, &rows_);
    before_ = padding(horizontal_, &columns_);
    for (const Phase& v : vertical_) {
      for (const Phase& h : horizontal_) pack(kernel, v, h);
    }
  }

  void image(int64_t n, std::vector<float>& scratch) const {
    const int64_t features = out_.channels, channels = in_.channels;
    scratch.resize(rows_ * columns_ * features);
    pad_image(g_ + n * out_.height * out_.width * features, out_.height, out_.width, features,
              above_, before_, rows_, columns_, scratch.data());
    float* image = dx_ + n * in_.height * in_.width * channels;
    const int64_t row = columns_ * features;
    const std::vector<float>* packed = packed_.data();
    for (size_t u = 0; u < vertical_.size(); ++u) {
      for (size_t v = 0; v < horizontal_.size(); ++v, ++packed) {
        const Phase &tall = vertical_[u], &wide = horizontal_[v];
        const Walk walk = {tall.count, wide.count, row, features, row,
                           window_.stride * in_.width * channels, window_.stride * channels,
                           tall.taps, wide.taps * features, channels};
        float* to = image + (u * in_.width + v) * channels;
        if (packed->empty()) {  // no tap sees these inputs
          for (int64_t p = 0; p < walk.rows; ++p) {
            for (int64_t q = 0; q < walk.columns; ++q) {
              std::fill_n(to + p * walk.out_row + q * walk.out_step, channels, 0.0f);
            }
          }
          continue;
        }
        convolve(walk, scratch.data() + (above_ + tall.start) * row +
                           (before_ + wide.start) * features, packed->data(), to);
      }
    }
  }

 private:
  // Positions of zeros before the output gradient; sets `size` to the padded length.
  static int64_t padding(const std::vector<Phase>& phases, int64_t* size) {
    int64_t before = 0, end = 0;
    for (const Phase& phase : phases) {
      if (phase.taps == 0) continue;
      before = std::max(before, -phase.start);
      end = std::max(end, phase.start + phase.count - 1 + phase.taps);
    }
    *size = before + end;
    return before;
  }

  // The taps of one phase, last tap first, with features and channels exchanged.
  void pack(const float* kernel, const Phase& tall, const Phase& wide) {
    const int64_t features = out_.channels, channels = in_.channels;
    const int64_t taps = tall.taps * wide.taps * features;
    std::vector<float>& packed = packed_.emplace_back(blocks_of(channels) * taps * kLanes);
    int64_t r = 0;
    for (int64_t i = tall.taps - 1; i >= 0; --i) {
      for (int64_t j = wide.taps - 1; j >= 0; --j, r += features) {
        const float* tap = kernel + ((tall.first + i * window_.stride) * window_.width +
                                     wide.first + j * window_.stride) * channels * features;
        for (int64_t c = 0; c < channels; ++c) {
          float* to = &packed[(c / kLanes * taps + r) * kLanes + c % kLanes];
          for (int64_t f = 0; f < features; ++f) to[f * kLanes] = tap[c * features + f];
        }
      }
    }
  }

  const float* g_;
  Shape out_;
  Window window_;
  float* dx_;
  Shape in_;
  std::vector<Phase> vertical_, horizontal_;
  int64_t above_, before_, rows_, columns_;
  std::vector<std::vector<float>> packed_;
};

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

class FilterGradient {
 public:
  FilterGradient(const float* x, Shape in, const float* g, Shape out, Window window, float* dw)
      : x_(x), in_(in), g_(g), out_(out), window_(window), dw_(dw) {
    rows_ = window.stride * (out.height - 1) + window.height;
    columns_ = window.stride * (out.width - 1) + window.width;
    features_ = blocks_of(out.channels) * kLanes;
    taps_ = window.height * window.width * in.channels;
    parts = std::min<int64_t>(in.images, kParts);
    sums_.resize(parts * taps_ * features_);
  }

  int64_t parts;

  void part(int64_t k, std::vector<float>& scratch) {
    const int64_t positions = out_.height * out_.width, padded = rows_ * columns_ * in_.channels;
    const bool whole = features_ == out_.channels;
    scratch.resize(padded + (whole ? 0 : positions * features_));
    float* sums = sums_.data() + k * taps_ * features_;
    std::fill_n(sums, taps_ * features_, 0.0f);
    for (int64_t n = in_.images * k / parts; n < in_.images * (k + 1) / parts; ++n) {
      pad_image(x_ + n * in_.height * in_.width * in_.channels, in_.height, in_.width,
                in_.channels, window_.top, window_.left, rows_, columns_, scratch.data());
      const float* g = g_ + n * positions * out_.channels;
      if (!whole) {
        float* widened = scratch.data() + padded;
        pad_image(g, positions, out_.channels, 1, 0, 0, positions, features_, widened);
        g = widened;
      }
      add(scratch.data(), g, sums);
    }
  }

  // After all parts are done.
  void sum() const {
    for (int64_t r = 0; r < taps_; ++r) {
      for (int64_t f = 0; f < out_.channels; ++f) {
        float total = 0;
        for (int64_t k = 0; k < parts; ++k) total += sums_[(k * taps_ + r) * features_ + f];
        dw_[r * out_.channels + f] = total;
      }
    }
  }

 private:
  void add(const float* x, const float* g, float* sums) const {
    const int64_t run = window_.width * in_.channels, row = columns_ * in_.channels;
    const int64_t blocks = (run + kRegisters - 1) / kRegisters;
    for (int64_t f = 0; f < features_; f += kLanes) {
      for (int64_t i = 0; i < window_.height; ++i) {
        for (int64_t k = 0; k < blocks; ++k) {
          const int64_t r = run * k / blocks, end = run * (k + 1) / blocks;
          outer_of<kRegisters>(end - r, x + i * row + r, window_.stride * row,
                               window_.stride * in_.channels, g + f, out_.height, out_.width,
                               features_, sums + (i * run + r) * features_ + f);
        }
      }
    }
  }

  const float* x_;
  Shape in_;
  const float* g_;
  Shape out_;
  Window window_;
  float* dw_;
  int64_t rows_, columns_, features_, taps_;
  std::vector<float> sums_;
};

}  // namespace

#ifndef KERNELS_ALONE

namespace {

namespace ffi = xla::ffi;
using Images = ffi::Buffer<ffi::F32, 4>;
using Result = ffi::Result<Images>;

thread_local std::vector<float> scratch;

// Calls work(i) for every i below `count` on the pool's threads. The calling thread works too, so
// that a busy pool cannot block it.
template <class Work>
void parallel(ffi::ThreadPool& pool, int64_t count, const Work& work) {
  struct State {
    std::atomic<int> next{0}, done{0};
  };
  const auto state = std::make_shared<State>();
  const int total = static_cast<int>(count);
  // A thread that starts after all is done touches only `state`, which it shares.
  const Work* shared = &work;
  const auto run = [state, total, shared] {
    for (int i; (i = state->next.fetch_add(1)) < total;) {
      (*shared)(i);
      if (state->done.fetch_add(1) + 1 == total) state->done.notify_all();
    }
  };
  const int64_t helpers = std::min<int64_t>(count, pool.num_threads()) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule([run] { run(); });
  run();
  for (int done; (done = state->done.load()) < total;) state->done.wait(done);
}

Shape shape_of(ffi::Span<const int64_t> sides) { return {sides[0], sides[1], sides[2], sides[3]}; }

ffi::Error forward(ffi::ThreadPool pool, Images x, Images kernel, Result y, int64_t stride,
                   int64_t top, int64_t left) {
  const auto sides = kernel.dimensions();
  const Forward pass(x.typed_data(), shape_of(x.dimensions()), kernel.typed_data(),
                     {stride, top, left, sides[0], sides[1]}, y->typed_data(),
                     shape_of(y->dimensions()));
  parallel(pool, x.dimensions()[0], [&](int64_t n) { pass.image(n, scratch); });
  return ffi::Error::Success();
}

ffi::Error input_gradient(ffi::ThreadPool pool, Images g, Images kernel, Result dx, int64_t stride,
                          int64_t top, int64_t left) {
  const auto sides = kernel.dimensions();
  const InputGradient pass(g.typed_data(), shape_of(g.dimensions()), kernel.typed_data(),
                           {stride, top, left, sides[0], sides[1]}, dx->typed_data(),
                           shape_of(dx->dimensions()));
  parallel(pool, g.dimensions()[0], [&](int64_t n) { pass.image(n, scratch); });
  return ffi::Error::Success();
}

ffi::Error filter_gradient(ffi::ThreadPool pool, Images x, Images g, Result dw, int64_t stride,
                           int64_t top, int64_t left) {
  const auto sides = dw->dimensions();
  FilterGradient pass(x.typed_data(), shape_of(x.dimensions()), g.typed_data(),
                      shape_of(g.dimensions()), {stride, top, left, sides[0], sides[1]},
                      dw->typed_data());
  parallel(pool, pass.parts, [&](int64_t k) { pass.part(k, scratch); });
  pass.sum();
  return ffi::Error::Success();
}

auto binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<Images>()
      .Arg<Images>()
      .Ret<Images>()
      .Attr<int64_t>("stride")
      .Attr<int64_t>("top")
      .Attr<int64_t>("left");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(Convolution, forward, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(ConvolutionInputGradient, input_gradient, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(ConvolutionFilterGradient, filter_gradient, binding());

#endif  // KERNELS_ALONE
