// How blocks of a grid that are resident together wait for each other, by counters in memory.

__device__ inline void arrive(unsigned *arrived) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrived) : "memory");
}
__device__ inline unsigned arrivedSoFar(const unsigned *arrived) {
  unsigned count;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(count) : "l"(arrived) : "memory");
  return count;
}

// Tells the other blocks that share a counter what this one has written before; waits for so many of them, or not if 0.
__device__ inline void meetAt(unsigned *counter, unsigned blocks) {
  __syncthreads();
  if (threadIdx.x == 0) {
    arrive(counter);
    while (arrivedSoFar(counter) < blocks) {
    }
  }
  __syncthreads();
}
