// The sums of batch normalisation over float32 images on CPU, as handlers of XLA's foreign function
// interface. Each reads its operands once, where XLA reads them once for each sum.
//
// Images are [groups, positions, C]. A group is cut into the same parts whatever the number of
// threads, and parts are added in order: bits do not depend on that number.

#include <algorithm>
#include <vector>

#include "shared.h"

namespace {

constexpr int64_t kBlock = 64;    // positions added in float32 before their sum is kept as double
constexpr int64_t kPart = 4096;   // positions of a part, at least

// For one part: the sum of a (Centred: of a - shift), and of the same times b - shift. `blocks`
// vectors of channels, the last of `lanes`.
template <bool Centred>
void add(const float* a, const float* b, const float* shift, int64_t positions, int64_t channels,
         double* total, double* along) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    const int64_t lanes = std::min<int64_t>(kLanes, channels - c);
    const auto some = [lanes](const float* from) {
      if (lanes == kLanes) return load(from);
      Vec v = {};
      std::memcpy(&v, from, lanes * sizeof(float));
      return v;
    };
    const Vec centre = some(shift + c);
    for (int64_t start = 0; start < positions; start += kBlock) {
      const int64_t end = std::min(positions, start + kBlock);
      constexpr int kChains = 4;  // sums that do not wait for each other
      Vec sums[kChains] = {}, products[kChains] = {};
      const auto take = [&](int64_t p, int chain) {
        const Vec distance = some(b + p * channels + c) - centre;
        const Vec value = Centred ? distance : some(a + p * channels + c);
        sums[chain] += value;
        products[chain] += value * distance;
      };
      int64_t p = start;
      for (; p + kChains <= end; p += kChains) {
#pragma GCC unroll 4
        for (int chain = 0; chain < kChains; ++chain) take(p + chain, chain);
      }
      for (; p < end; ++p) take(p, 0);
      const Vec sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
      const Vec product = (products[0] + products[1]) + (products[2] + products[3]);
      for (int64_t lane = 0; lane < lanes; ++lane) {
        total[c + lane] += sum[lane];
        along[c + lane] += product[lane];
      }
    }
  }
}

struct Sides {
  int64_t groups, positions, channels;

  int64_t parts() const { return std::max<int64_t>(1, positions / kPart); }
};

// Calls add for part `k` of all groups' parts.
template <bool Centred>
void add_part(const float* a, const float* b, const float* shift, Sides sides, int64_t k,
              double* total, double* along) {
  const int64_t parts = sides.parts(), group = k / parts, part = k % parts;
  const int64_t start = sides.positions * part / parts, end = sides.positions * (part + 1) / parts;
  const int64_t first = (group * sides.positions + start) * sides.channels;
  add<Centred>(a + first, b + first, shift + group * sides.channels, end - start, sides.channels,
               total + k * sides.channels, along + k * sides.channels);
}

// The sums of a group's parts in sums of its own: out[group, channel].
std::vector<double> of_groups(const std::vector<double>& sums, Sides sides) {
  std::vector<double> out(sides.groups * sides.channels);
  for (int64_t k = 0; k < sides.groups * sides.parts(); ++k) {
    for (int64_t c = 0; c < sides.channels; ++c) {
      out[k / sides.parts() * sides.channels + c] += sums[k * sides.channels + c];
    }
  }
  return out;
}

}  // namespace

#ifndef KERNELS_ALONE

namespace {

using Numbers = ffi::Buffer<ffi::F32, 3>;
using Channels = ffi::Buffer<ffi::F32, 2>;  // [groups, C]
using Result = ffi::Result<Channels>;

Sides sides_of(const Numbers& x) {
  const auto all = x.dimensions();
  return {all[0], all[1], all[2]};
}

template <bool Centred>
void sums_of(ffi::ThreadPool& pool, const float* a, const float* b, const float* shift,
             Sides sides, std::vector<double>& total, std::vector<double>& along) {
  const int64_t tasks = sides.groups * sides.parts();
  std::vector<double> totals(tasks * sides.channels), alongs(tasks * sides.channels);
  parallel(pool, tasks, [&](int64_t k) {
    add_part<Centred>(a, b, shift, sides, k, totals.data(), alongs.data());
  });
  total = of_groups(totals, sides);
  along = of_groups(alongs, sides);
}

// Means and variances. Squares are of distances to each group's first position, which is near the
// mean compared with how far the values spread, so that their difference keeps its digits.
ffi::Error moments(ffi::ThreadPool pool, Numbers x, Result mean, Result var) {
  const Sides sides = sides_of(x);
  const float* data = x.typed_data();
  std::vector<float> shift(sides.groups * sides.channels);
  for (int64_t g = 0; g < sides.groups; ++g) {
    std::copy_n(data + g * sides.positions * sides.channels, sides.channels,
                &shift[g * sides.channels]);
  }
  std::vector<double> total, along;
  sums_of<true>(pool, data, data, shift.data(), sides, total, along);
  for (int64_t i = 0; i < sides.groups * sides.channels; ++i) {
    const double moved = total[i] / sides.positions;
    mean->typed_data()[i] = static_cast<float>(shift[i] + moved);
    const double spread = along[i] / sides.positions - moved * moved;
    var->typed_data()[i] = static_cast<float>(std::max(0.0, spread));
  }
  return ffi::Error::Success();
}

// The sums of g, and of g (x - mean).
ffi::Error gradient_sums(ffi::ThreadPool pool, Numbers g, Numbers x, Numbers mean, Result total,
                         Result along) {
  const Sides sides = sides_of(x);
  std::vector<double> totals, alongs;
  sums_of<false>(pool, g.typed_data(), x.typed_data(), mean.typed_data(), sides, totals, alongs);
  std::copy(totals.begin(), totals.end(), total->typed_data());
  std::copy(alongs.begin(), alongs.end(), along->typed_data());
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(BatchNormMoments, moments,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Numbers>()
                                  .Ret<Channels>()
                                  .Ret<Channels>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(BatchNormGradientSums, gradient_sums,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Numbers>()  // g
                                  .Arg<Numbers>()  // x
                                  .Arg<Numbers>()  // means, [groups, 1, C]
                                  .Ret<Channels>()
                                  .Ret<Channels>());

#endif  // KERNELS_ALONE
