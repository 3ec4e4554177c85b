// The epochs of both nets on an NVIDIA GPU. The formulas are those of single.rs and multi/epoch.rs.
//
// A step takes a few microseconds, as long as a launch. So the loop over the batches is inside the
// kernel, and blocks that need each other's results meet on the device. Sums have a fixed order, so
// a run that is repeated on the same GPU gives the same bits.
//
// emulator.cpp compiles this file for the CPU, to test it on machines without a GPU. SHARED
// declares the memory that a block's threads share.

#ifndef SHARED
#define SHARED(name) extern __shared__ float name[]
#endif

typedef unsigned int u32;

#define CLASSES 4
// The threads of a warp, and the mask of all of them.
#define WARP 32
#define ALL 0xffffffffu

// PyTorch's defaults of BatchNorm1d and AdamW.
#define BATCH_NORM_EPSILON 1e-5f
#define BATCH_NORM_MOMENTUM 0.1f
#define ADAMW_EPSILON 1e-8f

struct Four {
  float v[4];
};

// The four sums over a warp, in every thread. Each of the first exchanges halves the values that
// are left to add up: 6 shuffles, and 4 that give the sums to all threads, instead of 20.
__device__ Four sum_over_warp(Four z) {
  const bool upper = threadIdx.x & 16, odd = threadIdx.x & 8;
  float a = upper ? z.v[2] : z.v[0], b = upper ? z.v[3] : z.v[1];
  a += __shfl_xor_sync(ALL, upper ? z.v[0] : z.v[2], 16);
  b += __shfl_xor_sync(ALL, upper ? z.v[1] : z.v[3], 16);
  float c = odd ? b : a;
  c += __shfl_xor_sync(ALL, odd ? a : b, 8);
  c += __shfl_xor_sync(ALL, c, 4);
  c += __shfl_xor_sync(ALL, c, 2);
  c += __shfl_xor_sync(ALL, c, 1);
  Four sums;
#pragma unroll
  for (int k = 0; k < 4; k++) sums.v[k] = __shfl_sync(ALL, c, 8 * k);
  return sums;
}

__device__ float sum_over_warp(float z) {
  for (int by = WARP / 2; by > 0; by /= 2) z += __shfl_xor_sync(ALL, z, by);
  return z;
}

// A warp's dot products of a vector with four others, which are `stride` apart in the block's
// memory.
__device__ Four products(const float *vector, const float *four, u32 stride, u32 length) {
  Four z = {{0, 0, 0, 0}};
#pragma unroll 4
  for (u32 i = threadIdx.x % WARP; i < length; i += WARP) {
    const float v = vector[i];
#pragma unroll
    for (int k = 0; k < 4; k++) z.v[k] += v * four[k * stride + i];
  }
  return sum_over_warp(z);
}

// (p − t) × share, where t is the label with `smoothing` of it spread over all classes. `finite` is
// set to whether all logits, and so the loss, are finite.
__device__ Four by_logits(Four z, u32 label, float smoothing, float share, bool *finite) {
  // fmaxf ignores NaN, but the exponential of NaN is NaN.
  const float most = fmaxf(fmaxf(z.v[0], z.v[1]), fmaxf(z.v[2], z.v[3]));
  *finite = isfinite(z.v[0] + z.v[1] + z.v[2] + z.v[3]);
  Four p;
  float sum = 0;
#pragma unroll
  for (u32 k = 0; k < 4; k++) {
    p.v[k] = expf(z.v[k] - most);
    sum += p.v[k];
  }
  const float inverse = 1 / sum;
#pragma unroll
  for (u32 k = 0; k < 4; k++) {
    const float target = smoothing / CLASSES + (k == label ? 1 - smoothing : 0);
    p.v[k] = (p.v[k] * inverse - target) * share;
  }
  return p;
}

// Every block waits here for all others. A cooperative launch guarantees that they are all on the
// device at once.
__device__ void meet(u32 *arrived, u32 *meetings) {
  __syncthreads();
  *meetings += 1;
  if (threadIdx.x == 0) {
    // Whoever continues after the meeting must see what was written before it.
    __threadfence();
    atomicAdd(arrived, 1);
    // The counter may wrap around.
    while ((int)(*(volatile u32 *)arrived - *meetings * gridDim.x) < 0) __nanosleep(20);
    __threadfence();
  }
  __syncthreads();
}

// ---- The single-layer net ----

struct SingleEpoch {
  float *w;          // [4, d]
  const float *x;    // [rows, d]
  const u32 *y;      // [rows]
  const u32 *order;  // [n]
  float *partial;    // [2, blocks, 4, d]
  u32 *arrived;      // 0
  u32 *diverged;     // the first batch, from 1, with logits that are not finite; if none, the largest u32
  u32 n, d, batch;
  float lr;
};

// Batch size 1: one warp holds all weights in registers, N columns per thread, and loads AHEAD rows
// in advance.
template <int N, int AHEAD>
__device__ void single_rows(const SingleEpoch &p) {
  const u32 lane = threadIdx.x;
  float w[CLASSES][N], x[AHEAD][N];
  for (int k = 0; k < CLASSES; k++)
    for (int j = 0; j < N; j++) w[k][j] = lane + WARP * j < p.d ? p.w[k * p.d + lane + WARP * j] : 0;
  // Positions and labels of 32 rows at a time, one per thread; those of the next 32 are loaded
  // meanwhile.
  u32 row = lane < p.n ? p.order[lane] : 0;
  u32 label = p.y[row];
  u32 row_next = WARP + lane < p.n ? p.order[WARP + lane] : 0;
  u32 label_next = p.y[row_next];
#pragma unroll
  for (int a = 0; a < AHEAD; a++) {
    const float *from = p.x + (size_t)__shfl_sync(ALL, row, a) * p.d;
#pragma unroll
    for (int j = 0; j < N; j++) x[a][j] = lane + WARP * j < p.d ? __ldg(from + lane + WARP * j) : 0;
  }
  for (u32 base = 0; base < p.n; base += WARP) {
    const u32 row_after = base + 2 * WARP + lane < p.n ? p.order[base + 2 * WARP + lane] : 0;
    for (u32 s = 0; s < WARP && base + s < p.n; s += AHEAD) {
#pragma unroll
      for (int a = 0; a < AHEAD; a++) {
        const u32 step = base + s + a;
        if (step < p.n) {
          Four z = {{0, 0, 0, 0}};
#pragma unroll
          for (int j = 0; j < N; j++)
#pragma unroll
            for (int k = 0; k < CLASSES; k++) z.v[k] += w[k][j] * x[a][j];
          bool finite;
          const Four e = by_logits(sum_over_warp(z), __shfl_sync(ALL, label, s + a), 0, p.lr, &finite);
          if (!finite && lane == 0) atomicMin(p.diverged, step + 1);
#pragma unroll
          for (int j = 0; j < N; j++)
#pragma unroll
            for (int k = 0; k < CLASSES; k++) w[k][j] -= e.v[k] * x[a][j];
        }
        // Beyond the last row this loads row 0, which does no harm.
        const u32 next = s + a + AHEAD;
        const u32 place = __shfl_sync(ALL, next < WARP ? row : row_next, next % WARP);
        const float *from = p.x + (size_t)place * p.d;
#pragma unroll
        for (int j = 0; j < N; j++) x[a][j] = lane + WARP * j < p.d ? __ldg(from + lane + WARP * j) : 0;
      }
    }
    row = row_next;
    label = label_next;
    row_next = row_after;
    label_next = p.y[row_next];
  }
  for (int k = 0; k < CLASSES; k++)
    for (int j = 0; j < N; j++)
      if (lane + WARP * j < p.d) p.w[k * p.d + lane + WARP * j] = w[k][j];
}

extern "C" __global__ void __launch_bounds__(WARP) single_rows_128(SingleEpoch p) { single_rows<4, 8>(p); }
extern "C" __global__ void __launch_bounds__(WARP) single_rows_320(SingleEpoch p) { single_rows<10, 4>(p); }
extern "C" __global__ void __launch_bounds__(WARP) single_rows_512(SingleEpoch p) { single_rows<16, 2>(p); }

// Rows of a batch that a block takes at a time.
#define TILE 64u

// Any batch size. Each block has the weights in its own memory and takes its share of a batch's
// rows: a warp computes a row's four products, and a thread a column's gradient. If there are
// several blocks, each adds up the gradients of all, so that all have the same weights.
extern "C" __global__ void __launch_bounds__(512) single_batches(SingleEpoch p) {
  SHARED(shared);
  const u32 d = p.d, t = threadIdx.x, threads = blockDim.x;
  float *w = shared, *gradient = w + CLASSES * d, *errors = gradient + CLASSES * d;
  for (u32 i = t; i < CLASSES * d; i += threads) w[i] = p.w[i];
  u32 meetings = 0, step = 0;
  __syncthreads();
  for (u32 start = 0; start < p.n; start += p.batch, step++) {
    const u32 m = min(p.batch, p.n - start);
    const u32 first = start + (u32)((unsigned long long)m * blockIdx.x / gridDim.x);
    const u32 last = start + (u32)((unsigned long long)m * (blockIdx.x + 1) / gridDim.x);
    for (u32 c = t; c < d; c += threads)
      for (int k = 0; k < CLASSES; k++) gradient[k * d + c] = 0;
    for (u32 tile = first; tile < last; tile += TILE) {
      const u32 rows = min(TILE, last - tile);
      for (u32 r = t / WARP; r < rows; r += threads / WARP) {
        const u32 row = p.order[tile + r];
        bool finite;
        const Four e = by_logits(products(p.x + (size_t)row * d, w, d, d), p.y[row], 0, 1.0f / m, &finite);
        if (t % WARP == 0) {
          for (int k = 0; k < CLASSES; k++) errors[CLASSES * r + k] = e.v[k];
          if (!finite) atomicMin(p.diverged, step + 1);
        }
      }
      __syncthreads();
      for (u32 c = t; c < d; c += threads) {
        Four g = {{0, 0, 0, 0}};
#pragma unroll 8
        for (u32 r = 0; r < rows; r++) {
          const float v = __ldg(p.x + (size_t)p.order[tile + r] * d + c);
          for (int k = 0; k < CLASSES; k++) g.v[k] += v * errors[CLASSES * r + k];
        }
        for (int k = 0; k < CLASSES; k++) gradient[k * d + c] += g.v[k];
      }
      __syncthreads();
    }
    if (gridDim.x > 1) {
      // Two buffers, used in turn: a block may be a step ahead of one that is still reading.
      float *all = p.partial + (size_t)(step & 1) * gridDim.x * CLASSES * d;
      for (u32 c = t; c < d; c += threads)
        for (int k = 0; k < CLASSES; k++) all[((size_t)blockIdx.x * CLASSES + k) * d + c] = gradient[k * d + c];
      meet(p.arrived, &meetings);
      for (u32 i = t; i < CLASSES * d; i += threads) {
        float sum = 0;
        for (u32 b = 0; b < gridDim.x; b++) sum += all[(size_t)b * CLASSES * d + i];
        w[i] -= p.lr * sum;
      }
    } else {
      for (u32 c = t; c < d; c += threads)
        for (int k = 0; k < CLASSES; k++) w[k * d + c] -= p.lr * gradient[k * d + c];
    }
    __syncthreads();
  }
  if (blockIdx.x == 0)
    for (u32 i = t; i < CLASSES * d; i += threads) p.w[i] = w[i];
}

// ---- The multi-layer net ----

// The update rules, as in update.rs.
#define SGD 0
#define MOMENTUM 1
#define ADAMW 2

struct MultiEpoch {
  // All weights, one after the other; what the optimizer remembers of each, and its gradient, have
  // the same layout:
  // fc.weight [hidden, d], fc.bias, fc_mid.weight [hidden, hidden], fc_mid.bias, bn.weight,
  // bn.bias, fc_out.weight [4, hidden], fc_out.bias.
  float *value, *first, *second, *gradient;
  float *running_mean, *running_var;  // [hidden]
  const float *x;                     // [rows, d]
  const u32 *y;                       // [rows]
  const u32 *order;                   // [n]
  const float *masks;                 // dropout's factors for this launch's steps, [steps, layers + 1, batch, hidden], or null
  float *h;                           // [layers + 1, batch, hidden]
  float *normal;                      // [layers, batch, hidden]
  float *inverse;                     // [layers, hidden]
  float *by_z;                        // [layers, batch, hidden]
  float *by_h;                        // [batch, hidden]
  float *errors;                      // [batch, 4]
  u32 *arrived;                       // 0
  u32 *diverged;                      // as above
  double beta1_power, beta2_power;    // AdamW's, after the steps before this launch
  u32 n, d, hidden, layers, batch;
  u32 first_step, last_step;  // of this launch
  u32 relu_out, rule;
  float lr, momentum, weight_decay, kept, smoothing;
};

// Changes weight i by its gradient g. `rates` are AdamW's for this step: the divisor of the root,
// and the learning rate.
__device__ void change(const MultiEpoch &p, const float *rates, size_t i, float g) {
  float w = p.value[i];
  if (p.rule == ADAMW) {
    const float m = p.first[i] = p.first[i] * 0.9f + g * (float)(1.0 - 0.9);
    const float v = p.second[i] = p.second[i] * 0.999f + g * g * (float)(1.0 - 0.999);
    w = w * p.kept - m / (sqrtf(v) / rates[0] + ADAMW_EPSILON) * rates[1];
  } else {
    g += w * p.weight_decay;
    if (p.rule == MOMENTUM) g = p.first[i] = p.first[i] * p.momentum + g;
    w -= g * p.lr;
  }
  p.value[i] = w;
}

// Copies four rows of a matrix with this many `columns` into the block's memory; only `there` of
// them exist, and the others become zeros.
__device__ void stage(float *four, const float *rows, u32 there, u32 columns) {
  for (u32 k = 0; k < 4; k++)
    for (u32 c = threadIdx.x; c < columns; c += blockDim.x) four[k * columns + c] = k < there ? rows[(size_t)k * columns + c] : 0;
  __syncthreads();
}

__device__ float relu(float v) { return v < 0 ? 0 : v; }

// A block takes four hidden units at a time, for all rows, so that batch norm needs no other block.
// A step has two meetings per layer and three more.
extern "C" __global__ void __launch_bounds__(256) multi_epoch(MultiEpoch p) {
  SHARED(shared);
  const u32 t = threadIdx.x, threads = blockDim.x, lane = t % WARP, warp = t / WARP, warps = threads / WARP;
  const u32 d = p.d, hidden = p.hidden, layers = p.layers, groups = (hidden + 3) / 4;
  const size_t plane = (size_t)p.batch * hidden;
  const size_t fc = 0, fc_bias = fc + (size_t)hidden * d, mid = fc_bias + hidden, mid_bias = mid + (size_t)hidden * hidden;
  const size_t scale = mid_bias + hidden, shift = scale + hidden, out = shift + hidden, out_bias = out + CLASSES * hidden;
  float *sums = shared, *rates = shared + 8, *four = shared + 12;
  u32 meetings = 0;
  double beta1_power = p.beta1_power, beta2_power = p.beta2_power;

  for (u32 step = p.first_step; step < p.last_step; step++) {
    const u32 start = step * p.batch, m = min(p.batch, p.n - start);
    const u32 *rows = p.order + start;
    const float *masks = p.masks ? p.masks + (size_t)(step - p.first_step) * (layers + 1) * plane : 0;
    if (p.rule == ADAMW && t == 0) {
      // By one thread, since most GPUs have few units for double precision. Every thread that uses
      // the rates has met this one before.
      beta1_power *= 0.9;
      beta2_power *= 0.999;
      rates[0] = (float)sqrt(1 - beta2_power);
      rates[1] = (float)(p.lr / (1 - beta1_power));
    }

    // H₀ = relu(X W₁ᵀ + b₁)
    for (u32 group = blockIdx.x; group < groups; group += gridDim.x) {
      const u32 u = 4 * group, own = min(4u, hidden - u);
      stage(four, p.value + fc + (size_t)u * d, own, d);
      for (u32 r = warp; r < m; r += warps) {
        const Four z = products(p.x + (size_t)rows[r] * d, four, d, d);
#pragma unroll
        for (u32 k = 0; k < 4; k++)
          if (lane == k && k < own) {
            const size_t i = (size_t)r * hidden + u + k;
            p.h[i] = relu(z.v[k] + p.value[fc_bias + u + k]) * (masks ? masks[i] : 1);
          }
      }
      __syncthreads();
    }
    meet(p.arrived, &meetings);

    for (u32 layer = 0; layer < layers; layer++) {
      const float *h = p.h + layer * plane;
      float *normal = p.normal + layer * plane;
      for (u32 group = blockIdx.x; group < groups; group += gridDim.x) {
        const u32 u = 4 * group, own = min(4u, hidden - u);
        stage(four, p.value + mid + (size_t)u * hidden, own, hidden);
        for (u32 r = warp; r < m; r += warps) {
          const Four z = products(h + (size_t)r * hidden, four, hidden, hidden);
#pragma unroll
          for (u32 k = 0; k < 4; k++)
            if (lane == k && k < own) normal[(size_t)r * hidden + u + k] = z.v[k] + p.value[mid_bias + u + k];
        }
        __syncthreads();
        // One warp per unit.
        for (u32 k = warp; k < own; k += warps) {
          float mean = 0, variance = 0;
          for (u32 r = lane; r < m; r += WARP) mean += normal[(size_t)r * hidden + u + k];
          mean = sum_over_warp(mean) / m;
          for (u32 r = lane; r < m; r += WARP) {
            const float z = normal[(size_t)r * hidden + u + k] - mean;
            variance += z * z;
          }
          variance = sum_over_warp(variance) / m;
          const float inverse = 1 / sqrtf(variance + BATCH_NORM_EPSILON);
          if (lane == 0) {
            sums[k] = mean;
            sums[4 + k] = p.inverse[layer * hidden + u + k] = inverse;
            float *running = p.running_mean + u + k;
            *running = *running * (1 - BATCH_NORM_MOMENTUM) + mean * BATCH_NORM_MOMENTUM;
            running = p.running_var + u + k;
            // The running variance is divided by n − 1, and a batch of one row has none.
            if (m > 1) *running = *running * (1 - BATCH_NORM_MOMENTUM) + variance * (BATCH_NORM_MOMENTUM * m / (m - 1));
          }
        }
        __syncthreads();
        for (u32 i = t; i < 4 * m; i += threads) {
          const u32 k = i % 4;
          if (k < own) {
            const size_t at = (size_t)(i / 4) * hidden + u + k;
            const float n = normal[at] = (normal[at] - sums[k]) * sums[4 + k];
            const float value = p.value[scale + u + k] * n + p.value[shift + u + k];
            p.h[(layer + 1) * plane + at] = relu(value) * (masks ? masks[(layer + 1) * plane + at] : 1);
          }
        }
        __syncthreads();
      }
      meet(p.arrived, &meetings);
    }

    // The logits, and the gradient by them.
    stage(four, p.value + out, CLASSES, hidden);
    for (u32 r = blockIdx.x * warps + warp; r < m; r += gridDim.x * warps) {
      Four z = products(p.h + layers * plane + (size_t)r * hidden, four, hidden, hidden);
      bool passes[CLASSES];
      for (int k = 0; k < CLASSES; k++) {
        z.v[k] += p.value[out_bias + k];
        passes[k] = !p.relu_out || z.v[k] > 0;
        if (p.relu_out) z.v[k] = relu(z.v[k]);
      }
      bool finite;
      const Four e = by_logits(z, p.y[rows[r]], p.smoothing, 1.0f / m, &finite);
      if (lane == 0) {
        for (int k = 0; k < CLASSES; k++) p.errors[CLASSES * r + k] = passes[k] ? e.v[k] : 0;
        if (!finite) atomicMin(p.diverged, step + 1);
      }
    }
    meet(p.arrived, &meetings);

    // The gradient by the last H, and the last layer's own weights.
    for (u32 group = blockIdx.x; group < groups; group += gridDim.x) {
      const u32 u = 4 * group, own = min(4u, hidden - u);
      for (u32 i = t; i < 4 * m; i += threads) {
        const u32 r = i / 4, k = i % 4;
        if (k < own) {
          float sum = 0;
          for (int c = 0; c < CLASSES; c++) sum += p.errors[CLASSES * r + c] * p.value[out + c * hidden + u + k];
          p.by_h[(size_t)r * hidden + u + k] = sum;
        }
      }
      __syncthreads();
      for (u32 pair = warp; pair < CLASSES * own; pair += warps) {
        const u32 c = pair / own, k = pair % own;
        float sum = 0;
        for (u32 r = lane; r < m; r += WARP) sum += p.errors[CLASSES * r + c] * p.h[layers * plane + (size_t)r * hidden + u + k];
        sum = sum_over_warp(sum);
        if (lane == 0) change(p, rates, out + c * hidden + u + k, sum);
      }
      if (group == 0)
        for (u32 c = warp; c < CLASSES; c += warps) {
          float sum = 0;
          for (u32 r = lane; r < m; r += WARP) sum += p.errors[CLASSES * r + c];
          sum = sum_over_warp(sum);
          if (lane == 0) change(p, rates, out_bias + c, sum);
        }
      __syncthreads();
    }

    for (u32 layer = layers; layer-- > 0;) {
      const bool last = layer == layers - 1;
      const float *h = p.h + layer * plane, *after = h + plane, *normal = p.normal + layer * plane;
      float *by_z = p.by_z + layer * plane;
      for (u32 group = blockIdx.x; group < groups; group += gridDim.x) {
        const u32 u = 4 * group, own = min(4u, hidden - u);
        // Back through relu, dropout and batch norm: one warp per unit.
        for (u32 k = warp; k < own; k += warps) {
          float of_g = 0, of_gn = 0, of_z = 0;
          for (u32 r = lane; r < m; r += WARP) {
            const size_t at = (size_t)r * hidden + u + k;
            const float g = after[at] > 0 ? p.by_h[at] * (masks ? masks[(layer + 1) * plane + at] : 1) : 0;
            by_z[at] = g;
            of_g += g;
            of_gn += g * normal[at];
          }
          of_g = sum_over_warp(of_g);
          of_gn = sum_over_warp(of_gn);
          const float factor = p.value[scale + u + k] * p.inverse[layer * hidden + u + k];
          for (u32 r = lane; r < m; r += WARP) {
            const size_t at = (size_t)r * hidden + u + k;
            of_z += by_z[at] = factor * (by_z[at] - of_g / m - normal[at] * (of_gn / m));
          }
          of_z = sum_over_warp(of_z);
          if (lane == 0) {
            // The layers share their weights, so their gradients add up.
            float *gradient = p.gradient + u + k;
            gradient[mid_bias] = (last ? 0 : gradient[mid_bias]) + of_z;
            gradient[scale] = (last ? 0 : gradient[scale]) + of_gn;
            gradient[shift] = (last ? 0 : gradient[shift]) + of_g;
          }
        }
      }
      meet(p.arrived, &meetings);
      for (u32 group = blockIdx.x; group < groups; group += gridDim.x) {
        const u32 u = 4 * group, own = min(4u, hidden - u);
        // This group's columns of the middle weights, as rows.
        for (u32 i = t; i < 4 * hidden; i += threads) {
          const u32 k = i % 4;
          four[k * hidden + i / 4] = k < own ? p.value[mid + (size_t)(i / 4) * hidden + u + k] : 0;
        }
        for (u32 c = t; c < hidden; c += threads) {
          Four g = {{0, 0, 0, 0}};
#pragma unroll 4
          for (u32 r = 0; r < m; r++) {
            const float v = h[(size_t)r * hidden + c];
#pragma unroll
            for (u32 k = 0; k < 4; k++)
              if (k < own) g.v[k] += v * by_z[(size_t)r * hidden + u + k];
          }
#pragma unroll
          for (u32 k = 0; k < 4; k++)
            if (k < own) {
              float *gradient = p.gradient + mid + (size_t)(u + k) * hidden + c;
              *gradient = (last ? 0 : *gradient) + g.v[k];
            }
        }
        __syncthreads();
        for (u32 r = warp; r < m; r += warps) {
          const Four z = products(by_z + (size_t)r * hidden, four, hidden, hidden);
#pragma unroll
          for (u32 k = 0; k < 4; k++)
            if (lane == k && k < own) p.by_h[(size_t)r * hidden + u + k] = z.v[k];
        }
        __syncthreads();
      }
    }

    // The first layer: no other block needs these weights.
    for (u32 group = blockIdx.x; group < groups; group += gridDim.x) {
      const u32 u = 4 * group, own = min(4u, hidden - u);
      for (u32 k = warp; k < own; k += warps) {
        float sum = 0;
        for (u32 r = lane; r < m; r += WARP) {
          const size_t at = (size_t)r * hidden + u + k;
          sum += p.by_h[at] = p.h[at] > 0 ? p.by_h[at] * (masks ? masks[at] : 1) : 0;
        }
        sum = sum_over_warp(sum);
        if (lane == 0) change(p, rates, fc_bias + u + k, sum);
      }
      __syncthreads();
      for (u32 c = t; c < d; c += threads) {
        Four g = {{0, 0, 0, 0}};
#pragma unroll 4
        for (u32 r = 0; r < m; r++) {
          const float v = __ldg(p.x + (size_t)rows[r] * d + c);
          for (u32 k = 0; k < 4; k++)
            if (k < own) g.v[k] += v * p.by_h[(size_t)r * hidden + u + k];
        }
#pragma unroll
        for (u32 k = 0; k < 4; k++)
          if (k < own) change(p, rates, fc + (size_t)(u + k) * d + c, g.v[k]);
      }
      __syncthreads();
    }

    if (layers > 0) {
      // Only now has every block read the middle weights.
      meet(p.arrived, &meetings);
      for (u32 group = blockIdx.x; group < groups; group += gridDim.x) {
        const u32 u = 4 * group, own = min(4u, hidden - u);
        for (u32 k = 0; k < own; k++) {
          const size_t row = mid + (size_t)(u + k) * hidden;
          for (u32 c = t; c < hidden; c += threads) change(p, rates, row + c, p.gradient[row + c]);
        }
        if (t < own) {
          change(p, rates, mid_bias + u + t, p.gradient[mid_bias + u + t]);
          change(p, rates, scale + u + t, p.gradient[scale + u + t]);
          change(p, rates, shift + u + t, p.gradient[shift + u + t]);
        }
      }
      __syncthreads();
    }
  }
}
