// What the handlers share: vectors of floats, and a loop over XLA's threads.
//
// Vectors are those of the compiler (GCC, Clang): 16 floats with AVX-512, 8 otherwise.

#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>

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

#ifndef KERNELS_ALONE

namespace ffi = xla::ffi;

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

#endif  // KERNELS_ALONE

}  // namespace
