// Convolutions of float32 images on CPU, as handlers of XLA's foreign function interface.
//
// Images are [N, H, W, C], kernels [h, w, C, F]. One routine serves the forward pass and the input
// gradient: a row of kernel taps sees w·C neighbouring numbers of a padded image, so that a
// convolution is, for each row of taps, a matrix product of overlapping windows. The input gradient
// of stride s is s² such convolutions, one for each phase of the input's rows and columns. Every
// sum has a fixed order: bits do not depend on the number of threads.

#include <algorithm>
#include <vector>

#include "products.h"
#include "winograd.h"

namespace {

constexpr int kParts = 16;  // partial sums of a filter gradient over the batch

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
    for (int64_t f = 0; f < features_; f += kLanes) {
      for (int64_t i = 0; i < window_.height; ++i) {
        outer_rows(run, x + i * row, window_.stride * row, window_.stride * in_.channels, g + f,
                   out_.height, out_.width, features_, sums + i * run * features_ + f);
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

using Images = ffi::Buffer<ffi::F32, 4>;
using Result = ffi::Result<Images>;

thread_local std::vector<float> scratch;

Window window_of(ffi::Span<const int64_t> kernel, int64_t stride, int64_t top, int64_t left) {
  return {stride, top, left, kernel[0], kernel[1]};
}

Shape shape_of(ffi::Span<const int64_t> sides) { return {sides[0], sides[1], sides[2], sides[3]}; }

// Each image of a pass on the pool's threads.
template <class Pass>
void images_of(ffi::ThreadPool& pool, int64_t images, const Pass& pass) {
  parallel(pool, images, [&](int64_t n) { pass.image(n, scratch); });
}

ffi::Error forward(ffi::ThreadPool pool, Images x, Images kernel, Result y, int64_t stride,
                   int64_t top, int64_t left) {
  const Window window = window_of(kernel.dimensions(), stride, top, left);
  const Shape in = shape_of(x.dimensions()), out = shape_of(y->dimensions());
  if (winograd_fits(in, out, window)) {
    images_of(pool, in.images, WinogradForward(x.typed_data(), in, kernel.typed_data(), window,
                                               false, y->typed_data(), out));
  } else {
    images_of(pool, in.images, Forward(x.typed_data(), in, kernel.typed_data(), window,
                                       y->typed_data(), out));
  }
  return ffi::Error::Success();
}

ffi::Error input_gradient(ffi::ThreadPool pool, Images g, Images kernel, Result dx, int64_t stride,
                          int64_t top, int64_t left) {
  const Window window = window_of(kernel.dimensions(), stride, top, left);
  const Shape in = shape_of(dx->dimensions()), out = shape_of(g.dimensions());
  // Turned, the padding is 2 less the forward pass's.
  if (winograd_fits(out, in, window) && top <= 2 && left <= 2) {
    images_of(pool, in.images, WinogradForward(g.typed_data(), out, kernel.typed_data(), window,
                                               true, dx->typed_data(), in));
  } else {
    images_of(pool, in.images, InputGradient(g.typed_data(), out, kernel.typed_data(), window,
                                             dx->typed_data(), in));
  }
  return ffi::Error::Success();
}

ffi::Error filter_gradient(ffi::ThreadPool pool, Images x, Images g, Result dw, int64_t stride,
                           int64_t top, int64_t left) {
  const Window window = window_of(dw->dimensions(), stride, top, left);
  const Shape in = shape_of(x.dimensions()), out = shape_of(g.dimensions());
  if (winograd_fits(in, out, window) && winograd_pays(in, out)) {
    WinogradFilterGradient pass(x.typed_data(), in, g.typed_data(), out, window, kParts,
                                dw->typed_data());
    parallel(pool, pass.parts, [&](int64_t k) { pass.part(k, scratch); });
    parallel(pool, in.channels, [&](int64_t c) { pass.sum(c); });
  } else {
    FilterGradient pass(x.typed_data(), in, g.typed_data(), out, window, dw->typed_data());
    parallel(pool, pass.parts, [&](int64_t k) { pass.part(k, scratch); });
    pass.sum();
  }
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
