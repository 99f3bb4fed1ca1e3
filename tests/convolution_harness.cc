// Calls every native kernel on odd shapes, each buffer exactly as large as its array, so that
// the sanitizers see a byte read or written outside. Prints how many shapes were run.

#define KERNELS_ALONE
#include "../models/kernels/batch_norm.cc"
#include "../models/kernels/convolution.cc"

#include <cstdio>

int main() {
  const int64_t channels[] = {1, 3, 5, 16, 17, 33};
  const int64_t sides[][2] = {{1, 1}, {2, 5}, {7, 4}, {9, 27}};
  const int64_t kernels[][2] = {{1, 1}, {3, 3}, {2, 5}, {5, 1}};
  int count = 0;
  std::vector<float> scratch;
  for (int64_t in : channels) for (int64_t features : channels) for (auto side : sides)
  for (auto taps : kernels) for (int64_t stride = 1; stride <= 3; ++stride)
  for (int64_t top = 0; top <= 3; top += 3) for (int64_t right = 0; right <= 2; right += 2) {
    if ((count * 7 + in + features) % 5) { ++count; continue; }  // a fifth of them is enough
    const int64_t height = side[0] + top - taps[0], width = side[1] + right - taps[1];
    if (height < 0 || width < 0) continue;
    const Shape images = {2, side[0], side[1], in};
    const Shape outputs = {2, height / stride + 1, width / stride + 1, features};
    const Window window = {stride, top, 0, taps[0], taps[1]};
    const auto size = [](Shape s) { return s.images * s.height * s.width * s.channels; };
    const std::vector<float> x(size(images), 1.0f), g(size(outputs), 1.0f);
    const std::vector<float> kernel(taps[0] * taps[1] * in * features, 1.0f);
    std::vector<float> y(g.size()), dx(x.size()), dw(kernel.size());
    const Forward forward(x.data(), images, kernel.data(), window, y.data(), outputs);
    const InputGradient back(g.data(), outputs, kernel.data(), window, dx.data(), images);
    FilterGradient filter(x.data(), images, g.data(), outputs, window, dw.data());
    // Fresh scratch each time: a vector that has grown would hide a read past its end.
    for (int64_t n = 0; n < 2; ++n) forward.image(n, *std::make_unique<std::vector<float>>());
    for (int64_t n = 0; n < 2; ++n) back.image(n, *std::make_unique<std::vector<float>>());
    for (int64_t k = 0; k < filter.parts; ++k) {
      filter.part(k, *std::make_unique<std::vector<float>>());
    }
    filter.sum();
    double sums[3] = {0, 0, 0};
    for (float v : y) sums[0] += v;
    for (float v : dx) sums[1] += v;
    for (float v : dw) sums[2] += v;
    // All ones: each of the three sums counts the pairs of a tap and a pixel that meet.
    if (sums[0] != sums[1] || sums[0] != sums[2]) {
      std::printf("sums differ: %g %g %g\n", sums[0], sums[1], sums[2]);
      return 1;
    }
    ++count;
  }
  // Winograd's filtering, whose sums are whole for ones as well, and the sums of batch norm.
  for (int64_t in : {kLanes, 3 * kLanes}) for (int64_t features : {kLanes, 2 * kLanes})
  for (auto side : {std::pair{2, 2}, std::pair{5, 4}, std::pair{9, 37}, std::pair{1, 70}})
  for (int64_t top = 0; top <= 2; ++top) for (int64_t right = 0; right <= 2; ++right) {
    const int64_t height = side.first + top - 2, width = side.second + right - 2;
    const Window window = {1, top, 0, 3, 3};
    const Shape images = {3, side.first, side.second, in}, outputs = {3, height, width, features};
    if (height < 1 || width < 1 || !winograd_fits(images, outputs, window)) continue;
    const std::vector<float> x(3 * side.first * side.second * in, 1.0f);
    const std::vector<float> g(3 * height * width * features, 1.0f);
    const std::vector<float> kernel(9 * in * features, 1.0f);
    std::vector<float> y(g.size()), dx(x.size()), dw(kernel.size());
    const WinogradForward forward(x.data(), images, kernel.data(), window, false, y.data(),
                                  outputs);
    const WinogradForward back(g.data(), outputs, kernel.data(), window, true, dx.data(), images);
    WinogradFilterGradient filter(x.data(), images, g.data(), outputs, window, 2, dw.data());
    for (int64_t n = 0; n < 3; ++n) forward.image(n, *std::make_unique<std::vector<float>>());
    for (int64_t n = 0; n < 3 && winograd_fits(outputs, images, window); ++n) {
      back.image(n, *std::make_unique<std::vector<float>>());
    }
    for (int64_t k = 0; k < filter.parts; ++k) {
      filter.part(k, *std::make_unique<std::vector<float>>());
    }
    for (int64_t c = 0; c < in; ++c) filter.sum(c);
    double sums[3] = {0, 0, 0};
    for (float v : y) sums[0] += v;
    for (float v : dx) sums[1] += v;
    for (float v : dw) sums[2] += v;
    if (winograd_fits(outputs, images, window) && sums[0] != sums[1]) return 2;
    if (sums[0] != sums[2]) return 3;
    ++count;
  }
  for (int64_t channels : {int64_t{1}, int64_t{5}, int64_t{kLanes}, int64_t{kLanes + 3}})
  for (int64_t positions : {1, 63, 130}) {
    const std::vector<float> x(2 * positions * channels, 2.0f), shift(2 * channels, 1.0f);
    const Sides sides = {2, positions, channels};
    std::vector<double> total(2 * channels), along(total);
    for (int64_t k = 0; k < 2; ++k) {
      add_part<false>(x.data(), x.data(), shift.data(), sides, k, total.data(), along.data());
    }
    for (double sum : total) if (sum != 2.0 * positions) return 4;
    for (double sum : of_groups(along, sides)) if (sum != 2.0 * positions) return 5;
    ++count;
  }
  std::printf("%d shapes\n", count);
}
