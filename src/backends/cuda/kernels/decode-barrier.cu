// Barriers between blocks of a grid that are all resident at once, by counters in device memory. Included by decode.cu.

__device__ inline void arrive(unsigned *arrived) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrived) : "memory");
}
__device__ inline unsigned arrivals(const unsigned *arrived) {
  unsigned count;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(count) : "l"(arrived) : "memory");
  return count;
}

// Publishes this block's writes to the other blocks that share a counter, and waits until `blocks` of them have arrived; 0:
// does not wait.
__device__ inline void meetAt(unsigned *counter, unsigned blocks) {
  __syncthreads();
  if (threadIdx.x == 0) {
    arrive(counter);
    while (arrivals(counter) < blocks) {
    }
  }
  __syncthreads();
}
