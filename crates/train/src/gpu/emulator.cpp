// Runs kernels.cu on the CPU, to test it on machines without a GPU. Every thread of every block is
// a fiber, which gives way to the next one wherever it waits for others. The emulator shows neither
// a GPU's speed nor the effects of a GPU's reordering.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <vector>

namespace {

typedef unsigned int u32;

struct Place {
  u32 x;
};

// A barrier: the last thread to arrive releases the others.
struct Meeting {
  u32 size, arrived, number;
};

struct Block {
  std::vector<float> shared;
  Meeting all;
  std::vector<Meeting> warps;
  std::vector<u32> exchanged;
};

struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  Place thread, block;
  bool done;
};

std::vector<Fiber> fibers;
std::vector<Block> blocks;
size_t running;
ucontext_t scheduler;
Place threadIdx, blockIdx, blockDim, gridDim;

void give_way() {
  Fiber &self = fibers[running];
  swapcontext(&self.context, &scheduler);
  threadIdx = self.thread;
  blockIdx = self.block;
}

void meet(Meeting &meeting) {
  const u32 number = meeting.number;
  if (++meeting.arrived == meeting.size) {
    meeting.arrived = 0;
    meeting.number++;
  }
  while (meeting.number == number) give_way();
}

template <typename T> T exchange(T value, u32 from) {
  static_assert(sizeof(T) == 4, "a word");
  Block &block = blocks[blockIdx.x];
  Meeting &warp = block.warps[threadIdx.x / 32];
  u32 *words = &block.exchanged[threadIdx.x / 32 * 32];
  memcpy(words + threadIdx.x % 32, &value, 4);
  meet(warp);
  memcpy(&value, words + from % 32, 4);
  meet(warp);
  return value;
}

void __syncthreads() { meet(blocks[blockIdx.x].all); }
void __threadfence() {}
void __nanosleep(u32) { give_way(); }
template <typename T> T __shfl_sync(u32, T value, u32 from) { return exchange(value, from); }
template <typename T> T __shfl_xor_sync(u32, T value, u32 mask) { return exchange(value, threadIdx.x % 32 ^ mask); }
template <typename T> T __ldg(const T *from) { return *from; }
u32 atomicAdd(u32 *to, u32 by) {
  const u32 old = *to;
  *to += by;
  return old;
}
u32 atomicMin(u32 *to, u32 with) {
  const u32 old = *to;
  if (with < old) *to = with;
  return old;
}
u32 min(u32 a, u32 b) { return a < b ? a : b; }

#define __device__
#define __global__
#define __launch_bounds__(threads)
#define SHARED(name) float *name = blocks[blockIdx.x].shared.data()
#include "kernels.cu"

template <typename P> struct Kernel {
  void (*run)(P);
  P parameters;
};

void (*start_of_fiber)();

template <typename P> Kernel<P> current;

template <typename P> void body() {
  current<P>.run(current<P>.parameters);
  fibers[running].done = true;
  swapcontext(&fibers[running].context, &scheduler);
}

template <typename P> void prepare(void (*run)(P), const void *parameters) {
  current<P>.run = run;
  memcpy(&current<P>.parameters, parameters, sizeof(P));
  start_of_fiber = body<P>;
}

} // namespace

// Runs a kernel to its end. Returns false if no kernel has this name, or if its parameters have
// another size.
extern "C" bool knockline_emulate(const char *name, u32 block_count, u32 threads, u32 shared_bytes, const void *parameters, size_t size) {
  const bool single = size == sizeof(SingleEpoch);
  if (single && !strcmp(name, "single_rows_128")) prepare(single_rows_128, parameters);
  else if (single && !strcmp(name, "single_rows_320")) prepare(single_rows_320, parameters);
  else if (single && !strcmp(name, "single_rows_512")) prepare(single_rows_512, parameters);
  else if (single && !strcmp(name, "single_batches")) prepare(single_batches, parameters);
  else if (size == sizeof(MultiEpoch) && !strcmp(name, "multi_epoch")) prepare(multi_epoch, parameters);
  else return false;
  blockDim.x = threads;
  gridDim.x = block_count;
  // NaN, so that reading a word before it is written shows in the results.
  blocks.assign(block_count, Block{std::vector<float>(shared_bytes / 4, NAN), Meeting{threads, 0, 0}, std::vector<Meeting>(threads / 32, Meeting{32, 0, 0}), std::vector<u32>(threads)});
  fibers.clear();
  fibers.resize((size_t)block_count * threads);
  for (size_t i = 0; i < fibers.size(); i++) {
    Fiber &fiber = fibers[i];
    fiber.stack.resize(1 << 16);
    fiber.thread.x = i % threads;
    fiber.block.x = i / threads;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    makecontext(&fiber.context, start_of_fiber, 0);
  }
  for (size_t left = fibers.size(); left > 0;)
    for (running = 0; running < fibers.size(); running++) {
      Fiber &fiber = fibers[running];
      if (fiber.done) continue;
      threadIdx = fiber.thread;
      blockIdx = fiber.block;
      swapcontext(&scheduler, &fiber.context);
      left -= fiber.done;
    }
  return true;
}
